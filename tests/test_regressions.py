"""Faults that were found once, by name, so that they stay away; and the errors for common slips."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from naive import as_users_run_it
from torch import Tensor, nn

import msda_theory as mt
from msda_theory.compare import compare
from msda_theory.data import ImageData
from msda_theory.estimate import Joint
from msda_theory.ladder import Ladder
from msda_theory.losses import as_loss
from msda_theory.masks.field import Field
from msda_theory.streams import stream

SHAPE = (3, 4)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def problem(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, mt.ImageData]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 3)).to(dtype).eval()
    x = rng().normal(size=(9, 1, *SHAPE))
    return model, mt.ImageData(torch.from_numpy(x).to(dtype), torch.arange(9) % 3, 3)


@dataclass(frozen=True)
class Pattern(mt.Strategy):
    """Keeps a fixed pattern with probability lam, its complement otherwise; no closed moments, an array as option."""

    alpha: float = 1.0
    pattern: np.ndarray = field(default_factory=lambda: np.eye(3, 4))

    def masks(self, lam, shape, *, rng):
        mask = np.where((rng.random(len(lam)) < lam)[:, None, None], self.pattern, 1 - self.pattern)
        return mt.MaskBatch(mask, mask.mean(axis=(1, 2)))


class Plain(mt.Strategy):
    """Not a dataclass, no alpha of its own."""

    def masks(self, lam, shape, *, rng):
        return mt.MaskBatch(np.broadcast_to(lam[:, None, None], (len(lam), *shape)).copy(), lam)


def test_the_mean_image_is_computed_once(monkeypatch):
    """It was computed for every tile, which made the cost grow with the square of the number of images."""
    calls = []
    true_mean = ImageData.mean.func
    ImageData.mean.func = lambda self: calls.append(1) or true_mean(self)
    try:
        model, data = problem()
        mt.expand(model, data, mt.CutMix(), draws=40, rng=rng())
    finally:
        ImageData.mean.func = true_mean
    assert len(calls) == 1


@pytest.mark.parametrize("strategy", [Pattern(), Pattern(pattern=np.tri(3, 4)), Plain()], ids=lambda s: s.name)
def test_strategies_of_any_make_run_through_everything(strategy):
    model, data = problem()
    frame = compare(
        {"net": model}, data, [strategy, mt.Mixup()], at=("data", "mean", "mask"), draws=4, rng=rng()
    ).frame()
    assert len(frame) == 6
    assert mt.mixed_loss(model, data, strategy, draws=4, rng=rng()).se > 0


def test_sampled_moments_do_not_depend_on_the_other_strategies_and_agree_with_expand():
    model, data = problem()
    alone = compare({"net": model}, data, [Plain()], draws=4, rng=rng()).rows[0]
    beside = compare({"net": model}, data, [Pattern(), Plain()], draws=4, rng=rng()).rows[1]
    e = mt.expand(model, data, Plain(), draws=4, rng=rng())
    assert alone.r1 == beside.r1 == e.r1
    assert alone.r2 == beside.r2 == e.r2


def test_the_share_explained_carries_the_error_of_sampled_moments():
    model, data = problem()
    clean = mt.Estimate(1.0, 0.0, 4)
    values = {"measured": rng().normal(2.0, 0.1, (4, 8)), "r2": rng().normal(0.5, 0.1, (4, 8)), "r3": np.zeros((4, 8))}
    joint = Joint.from_strata(values)

    def share(r1_se: float) -> mt.Estimate:
        r1 = mt.Estimate(0.2, r1_se, 20)
        ladder = Ladder(clean, r1, joint["r2"], joint["r3"], clean, 1.0, joint, {"r2": 1.0, "r3": 1.0}, "r3")
        assert ladder.total.se == pytest.approx(np.hypot(joint["r2"].se, r1_se))
        return ladder.share(joint, with_r3=True)

    rise = joint["measured"].mean - clean.mean
    assert share(0.3).mean == share(0.0).mean
    assert share(0.3).se == pytest.approx(np.hypot(share(0.0).se, 0.3 / rise))
    row = compare({"net": model}, data, [Plain()], draws=4, rng=rng()).rows[0]
    assert row.r1.se > 0


def test_vanilla_in_float32_has_no_share():
    model, data = problem(torch.float32)
    row = compare({"net": model}, data, [mt.Vanilla()], draws=5, rng=rng()).rows[0]
    assert row.explained is None
    assert row.explained_gn is None


def test_dense_at_the_mask_needs_atoms_only():
    model, data = problem()

    @dataclass(frozen=True)
    class OnlyAtoms(mt.Strategy):
        alpha: float = 1.0

        def masks(self, lam, shape, *, rng):
            return mt.Mixup().masks(lam, shape, rng=rng)

        def atoms(self, shape, *, order=16):
            return mt.Mixup().atoms(shape, order=order)

    options = {"at": "mask", "method": "dense", "draws": 2, "rng": rng()}
    ours = compare({"net": model}, data, [OnlyAtoms()], **options).rows[0]
    mixup = mt.expand(model, data, mt.Mixup(), at="mask", method="dense")
    assert ours.predicted.mean == pytest.approx(mixup.total.mean, rel=1e-12)


@pytest.mark.parametrize("method", ["dense", "sampled"])
def test_attention_is_differentiated_by_both_methods(method):
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True, activation="gelu")
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x.flatten(1).reshape(len(x), -1, 4)).mean(dim=1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Encoder().double().eval()
    data = problem()[1][:3]
    e = mt.expand(model, data, mt.CutMix(), method=method, draws=400, rng=rng())
    exact = mt.expand(model, data, mt.CutMix(), method="dense")
    for term in ("r2", "r3"):
        got, true = getattr(e, term), getattr(exact, term)
        assert abs(got.mean - true.mean) <= 5 * got.se + 1e-12
    assert abs(exact.r3.mean) > 1e-4


def test_taylor_leaves_running_statistics_alone():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3)).double()
    before = model[1].running_mean.clone()
    x = problem()[1].x
    with pytest.raises(ValueError, match=r"expected a model in eval mode, got BatchNorm1d '1' in train mode"):
        mt.taylor(model, x, x[None])
    assert torch.equal(model[1].running_mean, before)


def test_tracked_instance_norm_in_train_mode_is_refused():
    model, data = problem()
    tracking = nn.Sequential(nn.InstanceNorm2d(1, track_running_stats=True).double(), model)
    with pytest.raises(ValueError, match="expected a model in eval mode, got InstanceNorm2d"):
        mt.mixed_loss(tracking, data, mt.Mixup(), draws=2, rng=rng())


def test_a_model_that_changes_its_input_is_refused_and_the_images_stay():
    model, data = problem()
    before = data.x.clone()
    with pytest.raises(ValueError, match="expected a model that leaves its input as it is"):
        mt.mixed_loss(nn.Sequential(nn.ReLU(inplace=True), model), data, mt.Mixup(), draws=2, rng=rng())
    assert torch.equal(data.x, before)


def test_images_that_require_gradients_are_detached():
    model, data = problem()
    leaf = mt.ImageData(data.x.clone().requires_grad_(), data.y, 3)
    assert not leaf.x.requires_grad
    mt.expand(model, leaf, mt.Mixup(), draws=2, rng=rng())


def test_devices_must_agree():
    data = problem()[1]
    with pytest.raises(ValueError, match="expected images and labels on one device, got cpu and meta"):
        mt.ImageData(data.x, data.y.to("meta"), 3)
    with pytest.raises(ValueError, match="expected model and images on one device, got meta"):
        mt.mixed_loss(nn.Linear(2, 2, device="meta").double(), data, mt.Mixup(), draws=2, rng=rng())


def test_common_slips_are_named():
    model, data = problem()
    with as_users_run_it():
        with pytest.raises(TypeError, match=r"expected a strategy such as CutMix\(alpha=1.0\), got 'mixup'"):
            mt.expand(model, data, "mixup", rng=rng())
        with pytest.raises(TypeError, match="expected a strategy such as CutMix"):
            mt.mixed_loss(model, data, mt.Mixup, rng=rng())
        with pytest.raises(TypeError, match="expected models by name, got Sequential; pass a dict"):
            compare(model, data, [mt.Mixup()], rng=rng())
        with pytest.raises(TypeError, match="expected several strategies, got mixup; pass a list of them"):
            compare({"net": model}, data, mt.Mixup(), rng=rng())
        with pytest.raises(TypeError, match="expected several strategies, got mixup; pass a tuple of them"):
            mt.Choice(mt.Mixup())
        with pytest.raises(ValueError, match="expected a strategy among"):
            mt.strategy(5)
        with pytest.raises(TypeError, match="expected alpha as a number, got '1'; pass a float"):
            mt.Mixup(alpha="1")
        with pytest.raises(TypeError, match=r"expected draws as a whole number, got 2\.5; pass an int"):
            mt.mixed_loss(model, data, mt.Mixup(), draws=2.5, rng=rng())
        for classes in (3.0, True, "3"):
            with pytest.raises(TypeError, match="expected num_classes as an int, got"):
                mt.ImageData(data.x, data.y, classes)
        with pytest.raises(TypeError, match="expected masks and label weights as NumPy arrays, got Tensor"):
            mt.MaskBatch(torch.ones(2, 3, 4), np.ones(2))


def test_one_nominal_weight_cannot_serve_members_of_different_alphas():
    choice = mt.Choice((mt.Mixup(alpha=1.0), mt.CutMix(alpha=0.2)))
    with pytest.raises(
        ValueError, match=r"expected members of one alpha for given nominal weights, got \[0\.2, 1\.0\]"
    ):
        choice.masks(np.full(3, 0.5), SHAPE, rng=rng())
    assert choice.sample(5, SHAPE, rng=rng()).mask.shape == (5, *SHAPE)


@dataclass(frozen=True)
class Own(mt.SoftmaxCrossEntropy):
    """A right loss whose derivatives or value a subclass may spoil."""


class WrongSlope(mt.Loss):
    def h(self, f: Tensor) -> Tensor:
        return f.logsumexp(dim=-1)

    def d1(self, f: Tensor) -> Tensor:
        return 2 * f.softmax(dim=-1)

    def d2(self, f: Tensor, v: Tensor) -> Tensor:
        return mt.SoftmaxCrossEntropy().d2(f, v)


class NotAffine(WrongSlope):
    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return ((f - y) ** 2).sum(dim=-1)


def test_losses_of_ones_own_are_checked():
    assert isinstance(as_loss(Own(), 3), Own)
    with pytest.raises(ValueError, match="expected d1 of WrongSlope to be the derivative of its h"):
        as_loss(WrongSlope(), 3)
    with pytest.raises(ValueError, match="expected a loss affine in the label"):
        as_loss(NotAffine(), 3)
    with as_users_run_it():
        with pytest.raises(
            TypeError, match=r"expected a loss such as SoftmaxCrossEntropy\(\) or a callable l\(f, y\), got Sq"
        ):
            as_loss(mt.Squared, 3)
        with pytest.raises(TypeError, match="expected a loss that returns a tensor, got float; return values"):
            as_loss(lambda f, y: 1.0, 3)


@pytest.mark.parametrize("alpha", [1e-3, 0.3, 20.0, 100.0])
@pytest.mark.parametrize("ratio", [0.51, 1.0])
def test_atoms_of_hmix_hold_its_law_at_every_alpha(alpha, ratio):
    """Sixteen nodes for each interval of lam missed narrow laws: at alpha = 100 by 5e-8 on 1x7 pixels."""
    s = mt.HMix(alpha=alpha, ratio=ratio)
    for shape in ((1, 7), (1, 20)):
        q, p = s.atoms(shape).partner("exact")
        moments, flat = s.moments(shape), q.reshape(len(q), -1)
        assert np.abs(p @ flat - moments.mean.ravel()).max() < 1e-12
        assert np.abs((flat.T * p) @ flat - moments.second.dense()).max() < 1e-12


def test_fields_of_any_length_have_a_covariance():
    """The square of a length below 1e-154 is 0, and 0 / 0 is no number; a length of 1e9 asked for 16 GB and more."""
    for length in (5e-324, 1e-200, 0.019):
        values = Field(length=length).on((3, 4)).values
        assert values[0, 0] == 1
        assert np.count_nonzero(values) == 1
    assert (Field(length=1e9).on((3, 4)).values == 1).all()
    assert np.abs(Field(length=299.0).on((3, 3)).values - 1).max() < 1e-14  # by the sum


def test_huge_and_tiny_errors_are_pooled():
    """Squares of 1e200 overflow, with Python's OverflowError, and those of 1e-200 vanish: the error was 0."""
    for size in (1e-200, 1.0, 1e200):
        merged = mt.Estimate.merge([mt.Estimate(size, 3 * size, 10), mt.Estimate(-size, 4 * size, 10)])
        assert merged.mean == 0
        assert merged.se == pytest.approx(2.5 * size, rel=1e-14)
    assert mt.Estimate.merge([mt.Estimate(1.7e308, 1.0, 10), mt.Estimate(1.7e308, 1.0, 10)]).mean == 1.7e308
    huge = Joint.merge([Joint(("a",), np.array([1.7e308]), np.eye(1), 10)] * 2)
    assert huge["a"].mean == 1.7e308


def test_an_empty_label_is_no_stream():
    """NumPy pads seeds with zeros, and the checksum of "" is 0: it was the stream without the label."""
    with pytest.raises(ValueError, match=r"expected labels of at least one character, got \('mask', ''\)"):
        stream(1, "mask", "")


def test_fields_of_long_correlation_have_exact_moments():
    """1 - r(p) was rounded before its root was taken: errors up to 1e-9, and some moments were refused.

    Far beyond the image, S(1) - S(r) = K(1) sqrt(2 (1 - r)) / (2 pi), where K(1) = 2^-1/2 at alpha = 1 and
    1 - r = 4 exp(-2 (pi length / 6)^2) sin(pi / 6)^2 for neighbours in a row, on a torus of six columns.
    """
    a = Field(length=8.0, edges="window").moments((2, 3)).second.dense()
    assert a[0, 0] - a[0, 1] == pytest.approx(np.exp(-((np.pi * 8 / 6) ** 2)) / (2 * np.pi), rel=1e-5)
    for edges, length in (("window", 8.0), ("window", 50.0), ("periodic", 4.389946923073978), ("periodic", 50.0)):
        for law in ("exact", "paper"):
            moments = Field(alpha=0.1, length=length, edges=edges, label="pixels").moments((2, 3), law=law)
            flat = moments.mean.ravel()
            assert np.linalg.eigvalsh(moments.second.dense() - np.outer(flat, flat)).min() > -1e-13

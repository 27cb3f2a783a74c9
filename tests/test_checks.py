"""Preconditions: what each public function refuses, and what its message says."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import naive
import numpy as np
import pytest
import torch
from naive import as_users_run_it
from torch import nn

from msda_theory.checks import check_model
from msda_theory.compare import compare
from msda_theory.data import ImageData
from msda_theory.dense import pair_weights, terms_at_mask, terms_at_mean
from msda_theory.expansion import expand
from msda_theory.losses import Logistic, SoftmaxCrossEntropy
from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import MaskBatch
from msda_theory.masks.cutmix import CutMix
from msda_theory.mixed_loss import mixed_loss
from msda_theory.pairs import draw_tiles, pair_batches
from msda_theory.streams import seed_from, stream
from msda_theory.terms import check_at
from msda_theory.verify import remainder_order

SHAPE = (3, 4)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def problem(classes: int = 3, outputs: int = 3):
    x, y = naive.images(4, 2, SHAPE, classes, seed=1)
    return naive.network(2, SHAPE, outputs), ImageData(x, y, classes)


# Every function that takes a model checks it.
USERS = {
    "expand": lambda model, data, **o: expand(model, data, CutMix(), draws=2, rng=rng(), **o),
    "expand-dense": lambda model, data, **o: expand(model, data, CutMix(), method="dense", **o),
    "mixed_loss": lambda model, data, **o: mixed_loss(model, data, CutMix(), draws=2, rng=rng(), **o),
    "compare": lambda model, data, **o: compare({"net": model}, data, [CutMix()], draws=2, rng=rng(), **o),
    "remainder_order": lambda model, data, **o: remainder_order(model, data, CutMix(), **o),
}
EVERY_USER = pytest.mark.parametrize("use", USERS.values(), ids=USERS.keys())


def refused(use, model, data, error, match, **options):
    with as_users_run_it(), pytest.raises(error, match=match):
        use(model, data, **options)


# --- models ---------------------------------------------------------------------------------------------------------


@EVERY_USER
def test_a_good_model_passes(use):
    use(*problem())


@EVERY_USER
def test_what_is_not_a_module_is_refused(use):
    model, data = problem()
    refused(use, lambda x: model(x), data, TypeError, r"expected a torch.nn.Module, got function; wrap the function")


@EVERY_USER
@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(), nn.SyncBatchNorm(2)], ids=str
)
def test_train_mode_is_refused_by_name(use, layer):
    model, data = problem()
    net = nn.Sequential(nn.Sequential(layer.double()), model).eval()
    layer.train()
    kind = type(layer).__name__
    refused(use, net, data, ValueError, f"expected a model in eval mode, got {kind} '0.0' in train mode; call model.ev")


def test_other_layers_may_be_in_train_mode():
    model, data = problem()
    check_model(model.train(), data, SoftmaxCrossEntropy())


@EVERY_USER
def test_another_dtype_is_refused(use):
    model, data = problem()
    match = r"expected parameters in the dtype of the images \(torch.float64\), got torch.float32 \(1.weight\)"
    refused(use, model.float(), data, TypeError, match)


@EVERY_USER
@pytest.mark.parametrize(
    ("layer", "got"),
    [(nn.Linear(3, 2), r"\(3, 2\)"), (nn.Unflatten(1, (3, 1)), r"\(3, 3, 1\)"), (nn.Linear(3, 1), r"\(3, 1\)")],
    ids=["two", "column", "one"],
)
def test_another_output_shape_is_refused(use, layer, got):
    model, data = problem()
    match = rf"expected model outputs of shape \[3, 3\] for 3 images, got {got}"
    refused(use, nn.Sequential(model, layer.double()), data, ValueError, match)


class Tuple(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x.flatten(1)[:, :3],)


class Constant(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones(3, 3, dtype=x.dtype)


@EVERY_USER
def test_outputs_that_are_not_a_tensor_or_not_a_row_for_each_image_are_refused(use):
    _, data = problem()
    refused(use, Tuple(), data, ValueError, r"expected model outputs of shape \[3, 3\] for 3 images, got tuple")
    refused(use, Constant(), data[:2], ValueError, r"of shape \[2, 3\] for 2 images, got \(3, 3\)")


@EVERY_USER
def test_the_logistic_loss_needs_one_output_and_two_classes(use):
    model, data = problem()
    refused(use, model, data, ValueError, "the logistic loss is for 2 classes, got 3", loss=Logistic())
    model, data = problem(classes=2, outputs=2)
    refused(use, model, data, ValueError, r"expected model outputs of shape \[3, 1\]", loss=Logistic())
    use(*problem(classes=2, outputs=1), loss=Logistic())


@EVERY_USER
@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
def test_outputs_that_are_not_finite_are_refused(use, value):
    model, data = problem()
    with torch.no_grad():
        model[3].bias[0] = value
    refused(use, model, data, ValueError, "expected finite model outputs, got NaN or infinity")


class Centred(nn.Module):
    """Subtracts the mean of the batch: no function of each sample alone, and no BatchNorm to be found by its type."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x - x.mean(dim=0))


@EVERY_USER
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_a_model_that_couples_the_batch_is_refused(use, dtype):
    model, data = problem()
    match = "expected outputs that do not depend on the rest of the batch, got a change of"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the order of a remainder in float32
        refused(use, Centred(model).to(dtype), data.to(dtype), ValueError, match)


def test_batchnorm_without_running_statistics_couples_the_batch():
    """In eval mode, yet it uses the batch."""
    model, data = problem()
    net = nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False).double(), model).eval()
    with pytest.raises(ValueError, match="that do not depend on the rest of the batch"):
        check_model(net, data, SoftmaxCrossEntropy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_rounding_between_batches_is_no_coupling(dtype):
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=dtype)
    model = naive.randomize(nn.Sequential(nn.Conv2d(3, 16, 3), nn.GELU(), nn.Flatten(), nn.Linear(14400, 3)), 0, 5.0)
    check_model(model.to(dtype), ImageData(x, torch.arange(8) % 3, 3), SoftmaxCrossEntropy())


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"law": "beta"}, r"expected law among \['exact', 'paper'\], got 'beta'; choose"),
        ({"at": "centre"}, r"expected at among \['data', 'mean', 'mask'\], got 'centre'; choose"),
        ({"method": "exact"}, r"expected method among \['sampled', 'dense'\], got 'exact'; choose"),
        ({"draws": 1}, "a standard error needs draws >= 2 for each image, got 1; raise draws"),
        ({"draws": 0}, "a standard error needs draws >= 2 for each image, got 0; raise draws"),
        ({"batch_size": 0}, "expected batch_size >= 1, got 0"),
        ({"batch_size": -3}, "expected batch_size >= 1, got -3"),
    ],
    ids=str,
)
def test_options_of_expand(option, match):
    model, data = problem()
    with pytest.raises(ValueError, match=match):
        expand(model, data, CutMix(), **{"draws": 2, "rng": rng(), **option})


@pytest.mark.parametrize(
    ("option", "match"),
    [({"draws": 1}, "a standard error needs draws >= 2"), ({"batch_size": 0}, "expected batch_size >= 1, got 0")],
    ids=str,
)
def test_options_of_mixed_loss(option, match):
    model, data = problem()
    with pytest.raises(ValueError, match=match):
        mixed_loss(model, data, CutMix(), **{"draws": 2, "rng": rng(), **option})


def test_check_at():
    for at in ("data", "mean", "mask"):
        check_at(at)
    with pytest.raises(ValueError, match=r"expected at among .*, got 'Data'"):
        check_at("Data")


def test_pair_batches_and_tiles():
    _, data = problem()
    (tile,) = draw_tiles(data, CutMix(), "exact", 3, 0)
    assert [len(b.y) for b in pair_batches(data, tile, 5)] == [5, 5, 2]
    with pytest.raises(ValueError, match="expected batch_size >= 1, got 0"):
        next(pair_batches(data, tile, 0))
    with pytest.raises(ValueError, match="a standard error needs draws >= 2 for each image, got 1"):
        next(draw_tiles(data, CutMix(), "exact", 1, 0))


# --- generators -----------------------------------------------------------------------------------------------------

WRONG_RNG = {"RandomState": np.random.RandomState(0), "int": 3, "torch": torch.Generator(), "none": None}


@pytest.mark.parametrize("kind", WRONG_RNG)
def test_only_generators_are_accepted(kind):
    model, data = problem()
    got = type(WRONG_RNG[kind]).__name__
    match = rf"expected rng to be a numpy.random.Generator, got {got}; pass rng=numpy.random.default_rng\(seed\)"
    bad = {"rng": WRONG_RNG[kind]}
    with as_users_run_it():
        with pytest.raises(TypeError, match=match):
            seed_from(WRONG_RNG[kind])
        with pytest.raises(TypeError, match=match):
            mixed_loss(model, data, CutMix(), **bad)
        with pytest.raises(TypeError, match=match):
            compare({"net": model}, data, [CutMix()], **bad)
        if kind != "none":
            with pytest.raises(TypeError, match=match):
                expand(model, data, CutMix(), **bad)
            with pytest.raises(TypeError, match=match):
                remainder_order(model, data, CutMix(), method="paired", **bad)


def test_a_missing_generator():
    model, data = problem()
    with pytest.raises(TypeError, match=r"method='sampled' needs rng; pass rng=numpy.random.default_rng\(seed\)"):
        expand(model, data, CutMix())
    with pytest.raises(TypeError, match="method='paired' needs rng"):
        remainder_order(model, data, CutMix(), method="paired")
    with pytest.raises(TypeError, match="rng"):
        mixed_loss(model, data, CutMix())
    expand(model, data, CutMix(), method="dense")


def test_named_streams():
    one = stream(3, "partner", "0").random(4)
    assert (one == stream(3, "partner", "0").random(4)).all()
    for other in (stream(4, "partner", "0"), stream(3, "mask", "0"), stream(3, "partner", "1"), stream(3, "partner")):
        assert (one != other.random(4)).all()
    assert seed_from(rng(1)) == seed_from(rng(1)) != seed_from(rng(2))
    assert isinstance(seed_from(rng()), int)


# --- dense methods and sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["data", "mean", "mask"])
def test_dense_refuses_large_images(at):
    x = torch.zeros(3, 1, 33, 32, dtype=torch.float64)
    data = ImageData(x, torch.tensor([0, 1, 2]), 3)
    match = r"method='dense' forms 1056 x 1056 matrices for each image, allowed up to 1024 inputs; use method='sampled'"
    model = naive.linear(1, (33, 32), 3)
    with pytest.raises(ValueError, match=match):
        expand(model, data, CutMix(), at=at, method="dense")
    with pytest.raises(ValueError, match=match):
        compare({"net": model}, data, [CutMix()], at=at, method="dense", draws=2, rng=rng())
    loss, moments = SoftmaxCrossEntropy(), CutMix().moments((33, 32))
    calls = {
        "data": lambda: pair_weights(model, data, loss),
        "mean": lambda: terms_at_mean(model, data, loss, moments),
        "mask": lambda: terms_at_mask(model, data, loss, CutMix(), "exact"),
    }
    with pytest.raises(ValueError, match="method='dense' forms 1056 x 1056"):
        calls[at]()


def test_maps_of_another_size_are_refused_by_moments():
    moments = CutMix().moments((4, 5))
    for shape in ((5, 4), (4, 5, 1), (20,), (2, 4, 4)):
        for call in (moments.second.quadratic, moments.second.apply):
            with pytest.raises(ValueError, match=r"these moments are for 4x5 pixels, got maps of shape"):
                call(np.zeros(shape))
    assert moments.second.quadratic(np.ones((2, 3, 4, 5))).shape == (2, 3)


def test_moments_of_another_size_are_refused_by_remainder_order():
    model, data = problem()
    message = r"expected moments for images of 3x4 pixels, got them for size 4x4; build them with strategy\.moments"
    with pytest.raises(ValueError, match=message):
        remainder_order(model, data, CutMix(), moments=CutMix().moments((4, 4)))


# --- strategies without a closed form -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Half(Strategy):
    """The left half from the partner."""

    alpha: float = 1.0

    def masks(self, lam, shape, *, rng):
        mask = np.ones((len(lam), *shape))
        mask[:, :, : shape[1] // 2] = 0.0
        return MaskBatch(mask, mask.mean(axis=(1, 2)))


@pytest.mark.parametrize("at", ["data", "mean"])
def test_dense_terms_need_closed_moments(at):
    """Terms from sampled moments are not exact, so they must not claim an error of 0."""
    model, data = problem()
    message = "method='dense' is exact, and half has no closed moments; define closed_moments"
    with pytest.raises(ValueError, match=message):
        expand(model, data, Half(), at=at, method="dense", rng=rng())
    with pytest.raises(ValueError, match=message):
        compare({"net": model}, data, [Half()], at=at, method="dense", draws=2, rng=rng())


@pytest.mark.parametrize("at", ["data", "mean"])
def test_sampled_moments_carry_their_error_into_the_first_order_term(at):
    model, data = problem()
    e = expand(model, data, Half(), at=at, draws=2, rng=rng())
    assert e.r1.se > 0
    assert e.total.se >= e.r1.se


def test_a_strategy_without_atoms_cannot_be_enumerated():
    model, data = problem()
    with pytest.raises(ValueError, match="half does not enumerate its law, which an exact computation needs"):
        expand(model, data, Half(), method="dense", at="mask", rng=rng())
    moments = Half().moments(SHAPE, rng=rng())
    with pytest.raises(ValueError, match="half does not enumerate its law"):
        remainder_order(model, data, Half(), moments=moments)


def test_enumeration_without_atoms_says_so_even_with_rng():
    """Asking for an rng that was passed is no help."""
    model, data = problem()
    with pytest.raises(ValueError, match="half does not enumerate its law"):
        remainder_order(model, data, Half(), rng=rng())

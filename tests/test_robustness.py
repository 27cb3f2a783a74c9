"""Accuracy under attack: closed forms of linear models, masked gradients, and everything that must not move."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import naive
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments import bench_attacks
from msda_theory import attack_libraries
from msda_theory.attack_libraries import AttackSettings
from msda_theory.attacks import ATTACKS, pull_back, run_attack, valid
from msda_theory.data import ImageData
from msda_theory.robustness import DEFAULT_EPS, Robustness, paired_differences, robustness

NORM = pytest.mark.parametrize("norm", ["linf", "l2"])
DTYPE = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
EPS = {"linf": (0.0, 0.01, 0.03, 0.06), "l2": (0.0, 0.05, 0.15, 0.3)}
CHEAP = {"steps": 10, "restarts": 1, "queries": 20}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def linear_problem(
    classes: int = 2, dtype: torch.dtype = torch.float64, m: int = 40, shape: tuple[int, int] = (6, 6)
) -> tuple[nn.Module, ImageData]:
    """A linear model, images away from the ends of [0, 1], its own labels with two mistakes."""
    draw = rng(3)
    x = torch.tensor(draw.uniform(0.35, 0.65, size=(m, 1, *shape)), dtype=dtype)
    model = naive.linear(1, shape, classes, seed=1)
    with torch.no_grad():
        model[1].bias -= model(torch.full((1, 1, *shape), 0.5).double())[0]
    model = model.to(dtype)
    y = model(x).argmax(dim=1)
    y[:2] = (y[:2] + 1) % classes
    return model, ImageData(x, y, classes)


def distances(model: nn.Module, data: ImageData, norm: str) -> np.ndarray:
    """Distance of each image to the decision boundary of a linear model, by margin over dual norm; 0 if wrong."""
    with torch.no_grad():
        f, weight = model(data.x).double().numpy(), model[1].weight.double().numpy()
    found = []
    for row, label in zip(f, data.y.tolist(), strict=True):
        ways = []
        for k in range(len(row)):
            if k != label:
                w = weight[label] - weight[k]
                ways.append((row[label] - row[k]) / (np.abs(w).sum() if norm == "linf" else np.sqrt((w * w).sum())))
        found.append(max(0.0, min(ways)))
    return np.array(found)


# --- closed forms ---------------------------------------------------------------------------------------------------


@NORM
@DTYPE
@pytest.mark.parametrize("attack", ["fgsm", "pgd", "deepfool"])
def test_gradient_attacks_of_a_linear_model_reach_the_margin_and_never_exceed_it(norm, dtype, attack):
    """Two classes, where each of them is exact up to its last step (PGD in l2 turns towards the optimum)."""
    model, data = linear_problem(dtype=dtype)
    exact = distances(model, data, norm)
    eps = tuple(float(e) for e in np.quantile(exact, [0.2, 0.5, 0.8]))
    run = run_attack(attack, model, data, eps, AttackSettings(norm), seed=1, batch_size=17)
    for radius, broken in zip(eps, run.broken, strict=True):
        assert not broken[exact > radius * (1 + 1e-5)].any(), "broken beyond the closed form"
        assert broken[exact < radius * (0.98 if attack == "pgd" else 1 - 1e-4)].all()
        assert 0.1 < broken.mean() < 0.9


@NORM
@DTYPE
def test_square_never_exceeds_the_margin_and_finds_most(norm, dtype):
    model, data = linear_problem(dtype=dtype, m=20)
    exact = distances(model, data, norm)
    eps = (float(np.quantile(exact, 0.6)),)
    broken = run_attack("square", model, data, eps, AttackSettings(norm, queries=150), seed=1, batch_size=20).broken[0]
    assert not broken[exact > eps[0] * (1 + 1e-5)].any()
    assert broken[exact < eps[0] / 3].all()
    assert broken.sum() > (exact == 0).sum()


@pytest.fixture
def short_square(monkeypatch):
    """The ensemble with Square's 5,000 queries cut to 20."""
    kind = attack_libraries.libraries()[2].square.SquareAttack
    whole = kind.attack_single_run

    def few(self, x, y):
        self.n_queries = min(self.n_queries, 20)
        return whole(self, x, y)

    monkeypatch.setattr(kind, "attack_single_run", few)


@pytest.mark.parametrize(
    ("norm", "classes", "dtype"),
    [("linf", 2, torch.float64), ("l2", 3, torch.float32), ("l2", 5, torch.float64), ("linf", 11, torch.float32)],
    ids=["linf-2", "l2-3", "l2-5", "linf-11"],
)
@pytest.mark.usefixtures("short_square")
def test_the_ensemble_is_exact_for_linear_models(norm, classes, dtype):
    """Of two classes, few, and more than it has targets."""
    model, data = linear_problem(classes, dtype, m=7)
    exact = distances(model, data, norm)
    eps = (float(np.median(exact)) * 1.01,)
    broken = run_attack("autoattack", model, data, eps, AttackSettings(norm), seed=1, batch_size=7).broken[0]
    assert not broken[exact > eps[0] * (1 + 1e-5)].any()
    assert broken[exact < eps[0] * 0.98].all()
    assert sys.gettrace() is None or "tracefunc" not in repr(sys.gettrace())


@NORM
def test_radius_0_is_clean_accuracy_and_accuracy_falls(norm):
    model, data = linear_problem(4, m=20)
    result = robustness(model, data, norm=norm, eps=EPS[norm], rng=rng(), **CHEAP)
    assert result.clean.mean() == 18 / 20
    for attack in (*result.attacks, "worst"):
        means = [p.mean for p in result.accuracy(attack)]
        assert means[0] == 18 / 20
        assert means == sorted(means, reverse=True)
    np.testing.assert_array_equal(result.bits(), np.logical_and.reduce(result.correct))
    assert result.accuracy()[-1].mean < 0.6


def test_a_grid_does_not_change_the_attack_at_its_smallest_radius():
    model, data = linear_problem(m=20)
    whole = robustness(model, data, eps=(0.01, 0.03), rng=rng(), **CHEAP)
    alone = robustness(model, data, eps=(0.01,), rng=rng(), **CHEAP)
    np.testing.assert_array_equal(whole.correct[:, 0], alone.correct[:, 0])


@pytest.mark.parametrize("shape", [(4, 4), (12, 12), (5, 9), (14, 6)])
@NORM
def test_square_takes_images_of_any_size(shape, norm):
    """The library alone fails on most of these."""
    model, data = linear_problem(m=6, shape=shape)
    settings = AttackSettings(norm, queries=15)
    run = run_attack("square", model, data, (0.3 if norm == "linf" else 3.0,), settings, seed=0, batch_size=6)
    assert run.broken[0].sum() > 2  # the two mistakes


# --- examples -------------------------------------------------------------------------------------------------------


@NORM
@DTYPE
@pytest.mark.parametrize("attack", ["fgsm", "pgd", "deepfool", "square"])
def test_examples_are_in_the_ball_and_in_the_box_and_wrong(norm, dtype, attack):
    model, data = linear_problem(3, dtype, m=20)
    data = ImageData((3 * (data.x - 0.35)).clamp(0, 1), data.y, 3)  # many pixels at the ends
    radius = 2 * EPS[norm][-1]
    settings = AttackSettings(norm, steps=10, restarts=1, queries=20)
    run = run_attack(attack, model, data, (radius,), settings, seed=0, batch_size=7)
    assert run.images.dtype == dtype
    step = (run.images - data.x).double().flatten(1)
    size = step.abs().amax(dim=1) if norm == "linf" else step.norm(dim=1)
    assert float(size.max()) <= radius * (1 + (1e-6 if dtype == torch.float32 else 1e-12))
    assert float(run.images.min()) >= 0
    assert float(run.images.max()) <= 1
    wrong = (model(run.images).argmax(dim=1) != data.y).numpy()
    np.testing.assert_array_equal(wrong, run.broken[0])
    assert wrong.any()


@NORM
def test_what_an_attack_returns_is_pulled_back(norm):
    x = torch.full((3, 1, 2, 2), 0.9).double()
    wild = torch.stack([x[0] + 5, x[1] * torch.nan, x[2] - 0.01])
    found = pull_back(wild, x, 0.05, norm)
    assert valid(found, x, 0.05, norm).all()
    assert not valid(wild, x, 0.05, norm)[:2].any()
    assert torch.equal(found[1], x[1])
    torch.testing.assert_close(found[2], wild[2], rtol=0, atol=1e-15)
    assert float(found[0].min()) > 0.9


# --- masked gradients -----------------------------------------------------------------------------------------------


class Quantised(nn.Module):
    """The pixels rounded to 8 levels first: no gradient passes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.round(x * 8) / 8)


def test_masked_gradients_are_flagged():
    """The gradient attacks fail, Square does not. The same network without the mask raises no flag."""
    model, data = linear_problem(m=30)
    eps, budget = (0.0, 0.1), {"steps": 10, "restarts": 2, "queries": 150}
    honest = robustness(model, data, eps=eps, rng=rng(), **budget)
    twin = robustness(Quantised(model).eval(), data, eps=eps, rng=rng(), **budget)
    gradient = min(twin.accuracy(a)[1].mean for a in ("fgsm", "pgd", "deepfool"))
    assert gradient > 0.5
    assert honest.accuracy("pgd")[1].mean < 0.1
    assert twin.accuracy("square")[1].mean < gradient - 0.3
    assert twin.masked.tolist() == [False, True]
    assert honest.masked.tolist() == [False, False]
    pair = twin.gradient_versus_free[1]
    assert pair.only_first >= 9 > pair.only_second
    frame = twin.frame().set_index(["attack", "eps"])
    assert frame.loc[("worst", 0.1), "masked"]
    assert frame.loc[("worst", 0.1), "only_free"] == pair.only_first
    assert frame.loc[("worst", 0.1), "accuracy"] == twin.accuracy("square")[1].mean - pair.only_second / 30


# --- what must not move ---------------------------------------------------------------------------------------------


def batchnorm_net() -> nn.Module:
    layers = (nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    return naive.randomize(nn.Sequential(*layers), 5, 2.0)


@pytest.mark.usefixtures("short_square")
def test_the_model_is_left_as_it_was():
    model, (_, data) = batchnorm_net(), linear_problem(4, m=8)
    model[0].weight.requires_grad_(False)
    model[4].bias.grad = torch.ones(4).double()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = data.x.clone()
    with torch.no_grad():  # attacks turn gradients on for themselves
        result = robustness(model, data, eps=(0.03,), attacks=ATTACKS, rng=rng(), **CHEAP)
    assert not result.bits().all()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert int(model[1].num_batches_tracked) == 0
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True, True]
    assert [p.grad is None for p in model.parameters()] == [True] * 5 + [False]
    assert torch.equal(model[4].bias.grad, torch.ones(4).double())
    assert torch.equal(data.x, x)
    assert not model.training


@pytest.mark.usefixtures("short_square")
def test_equal_seeds_give_equal_results_and_global_state_stays():
    model, (_, data) = batchnorm_net(), linear_problem(4, m=8)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(100 + len(results))
        before = torch.get_rng_state()
        attacks = ATTACKS if seed == 1 else ("pgd", "square")
        results.append(robustness(model, data, eps=(0.03,), attacks=attacks, rng=rng(seed), **CHEAP))
        assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(results[0].correct, results[1].correct)
    assert results[0].protocol == results[1].protocol != results[2].protocol


def test_two_models_see_the_same_starts(monkeypatch):
    """Whichever images they get wrong, and whatever the grid was before."""
    kind = attack_libraries.libraries()[0].attacks.LinfProjectedGradientDescentAttack
    run, seen = kind.run, []

    def record(self, model, inputs, criterion, *, epsilon, **kwargs):
        starts = self.get_random_start(None, epsilon).raw
        seen[-1].update({(epsilon, x.numpy().tobytes()): s.clone() for x, s in zip(inputs, starts, strict=True)})
        return run(self, model, inputs, criterion, epsilon=epsilon, **kwargs)

    monkeypatch.setattr(kind, "run", record)
    model, data = linear_problem(3, m=12)
    labels = data.y.clone()
    labels[4:8] = (labels[4:8] + 1) % 3
    settings = AttackSettings(steps=2, restarts=1)
    for given, eps in ((data, (0.001, 0.002)), (ImageData(data.x, labels, 3), (0.002,))):
        seen.append({})
        run_attack("pgd", model, given, eps, settings, seed=7, batch_size=8)
    common = set(seen[0]) & set(seen[1])
    assert len(common) > 3
    assert set(seen[0]) - set(seen[1])
    assert all(torch.equal(seen[0][key], seen[1][key]) for key in common)
    first = next(iter(common))
    assert not torch.equal(seen[0][first], torch.frombuffer(bytearray(first[1]), dtype=torch.float64).reshape(1, 6, 6))


# --- results --------------------------------------------------------------------------------------------------------


def test_paired_differences_need_the_same_protocol():
    model, data = linear_problem(m=20)
    other = naive.randomize(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), 9)
    first = robustness(model, data, eps=(0.0, 0.02), rng=rng(), **CHEAP)
    second = robustness(other, data, eps=(0.0, 0.02), rng=rng(), **CHEAP)
    for attack in ("worst", "pgd"):
        pairs = paired_differences(first, second, attack=attack)
        assert len(pairs) == 2
        for e, pair in enumerate(pairs):
            a, b = first.bits(attack)[e].astype(float), second.bits(attack)[e].astype(float)
            assert pair.mean == pytest.approx((a - b).mean(), abs=1e-15)
            assert pair.se == pytest.approx((a - b).std(ddof=1) / np.sqrt(20), abs=1e-15)
    message = "paired differences need the same images, seed"
    for again in (
        robustness(other, data, eps=(0.0, 0.02), rng=rng(1), **CHEAP),
        robustness(other, data[:19], eps=(0.0, 0.02), rng=rng(), **CHEAP),
        robustness(other, data, eps=(0.0, 0.03), rng=rng(), **CHEAP),
    ):
        with pytest.raises(ValueError, match=message):
            paired_differences(first, again)


def test_the_frame_has_a_row_for_each_attack_and_radius():
    model, data = linear_problem(m=10)
    frame = robustness(model, data, eps=(0.0, 0.02), attacks=("fgsm", "square"), rng=rng(), **CHEAP).frame()
    assert frame.attack.unique().tolist() == ["clean", "fgsm", "square", "worst"]
    assert len(frame) == 8
    assert ((frame.low <= frame.accuracy) & (frame.accuracy <= frame.high)).all()
    assert (frame.n == 10).all()


def test_default_grids_start_clean_and_rise():
    for eps in DEFAULT_EPS.values():
        assert eps[0] == 0
        assert list(eps) == sorted(set(eps))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttackSettings("l1"), "expected norm among"),
        (lambda: AttackSettings(steps=0), "an attack needs steps, restarts and queries"),
        (
            lambda: Robustness(("pgd",), "linf", (0.0,), np.ones(2, bool), np.ones((1, 2, 2), bool), ""),
            "expected bits .attacks, eps, images.",
        ),
        (
            lambda: Robustness(("pgd",), "linf", (0.0,), np.zeros(2, bool), np.ones((1, 1, 2), bool), ""),
            "stays broken at larger radii",
        ),
    ],
    ids=["norm", "budget", "shape", "recovers"],
)
def test_impossible_results_and_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message), naive.as_users_run_it():
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": (0.1, 0.1)}, "expected radii eps that rise from 0"),
        ({"eps": ()}, "expected radii eps that rise from 0"),
        ({"eps": (0.1, float("inf"))}, "radii must be finite"),
        ({"attacks": ("pgd", "square", "bim")}, "expected different attacks among"),
        ({"attacks": ("pgd", "deepfool")}, "masked gradients only show beside an attack without gradients"),
        ({"attacks": ("square",)}, "masked gradients only show beside an attack without gradients"),
        ({"batch_size": 0}, "expected batch_size >= 1"),
    ],
    ids=["equal", "empty", "infinite", "unknown", "no-free", "no-gradient", "batch"],
)
def test_wrong_options_are_refused(options, message):
    model, data = linear_problem(m=4)
    with pytest.raises(ValueError, match=message):
        robustness(model, data, **{"rng": rng(), **options})


def test_wrong_models_and_images_are_refused():
    model, data = linear_problem(m=4)
    for x in (data.x - 0.5, 255 * data.x):
        with pytest.raises(ValueError, match=r"attacks need images in \[0, 1\], where eps is in pixel units"):
            robustness(model, ImageData(x, data.y, 2), rng=rng())
    with pytest.raises(ValueError, match="expected a model in eval mode"):
        robustness(batchnorm_net().train(), ImageData(data.x, data.y, 4), rng=rng())
    with pytest.raises(ValueError, match="an attack needs 2 classes or more"):
        robustness(model, ImageData(data.x, 0 * data.y, 1), rng=rng())
    with pytest.raises(ValueError, match="expected model outputs of shape"):
        robustness(model, ImageData(data.x, data.y, 3), rng=rng())
    with pytest.raises(ValueError, match="expected attacks among"):
        run_attack("bim", model, data, (0.1,), AttackSettings(), seed=0, batch_size=4)
    result = robustness(model, data, eps=(0.0,), rng=rng())
    with pytest.raises(ValueError, match="expected attack among"):
        result.accuracy("bim")


def test_a_missing_library_is_named_with_the_extra(monkeypatch):
    model, data = linear_problem(m=4)
    monkeypatch.setitem(sys.modules, "foolbox", None)
    with pytest.raises(ImportError, match=r"attacks come from foolbox and pyautoattack.*robustness"):
        robustness(model, data, eps=(0.1,), rng=rng())


def test_the_libraries_are_imported_inside_functions_only():
    root = Path(attack_libraries.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"foolbox", "eagerpy", "pyautoattack"}, path


# --- the benchmark --------------------------------------------------------------------------------------------------


def test_the_benchmark_of_attacks_counts_the_same_passes(tmp_path):
    config = bench_attacks.Config(images=8, batch=4, steps=2, rounds=1, width=4, out=tmp_path)
    record = bench_attacks.run(config)
    assert record["result"]["passes"] == record["result"]["attack_passes"] == 4
    assert record["result"]["ratio"] > 0
    assert len(record["result"]["checks"]) == 2
    assert record["result"]["checks"][1]["holds"]

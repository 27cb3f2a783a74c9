"""R2 by displacement, exact and sampled: against loops, against the expansion, stationary laws, symmetries."""

from __future__ import annotations

import distance_reference as slow
import naive
import numpy as np
import pytest
import torch
from mc_checks import fails
from torch import nn

import msda_theory as mt
from msda_theory import distance
from msda_theory.dense import pair_weights
from msda_theory.distance import GradientWeights, gradient_weights
from msda_theory.losses import Logistic, SoftmaxCrossEntropy, Squared
from msda_theory.moments.displacements import displacement_sums, distance_sums, distances, pair_counts
from msda_theory.pairs import draw_tiles
from msda_theory.sampled_distance import sampled_gradient_term
from msda_theory.streams import seed_from

LOSSES = {
    "softmax": (SoftmaxCrossEntropy(), naive.softmax_loss, 3, 3),
    "logistic": (Logistic(), naive.logistic_loss, 1, 2),
    "squared": (Squared(), naive.squared_loss, 3, 3),
}
SHAPES = {"3x4-3ch": (3, (3, 4)), "4x3-1ch": (1, (4, 3)), "3x3-2ch": (2, (3, 3))}
TOLERANCE = {"rtol": 1e-10, "atol": 1e-13}


def problem(case: str = "3x4-3ch", outputs: int = 3, classes: int = 3, m: int = 3) -> tuple[nn.Module, mt.ImageData]:
    channels, shape = SHAPES[case]
    x, y = naive.images(m, channels, shape, classes, seed=3)
    return naive.network(channels, shape, outputs, seed=4), mt.ImageData(x, y, classes)


def law_of(strategy: mt.Strategy, shape: tuple[int, int], law: str) -> naive.Law:
    atoms = strategy.atoms(shape)
    if law == "paper":
        return list(zip(*atoms.partner(law), strict=True))
    return naive.one_sided(atoms.mask, atoms.lam, atoms.weight)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("case", SHAPES)
def test_the_map_is_that_of_loops(kind, case):
    loss, slow_loss, outputs, classes = LOSSES[kind]
    model, data = problem(case, outputs, classes)
    y = data.y.double()[:, None] if kind == "logistic" else naive.one_hot(data.y, classes)
    weights = gradient_weights(model, data, loss=loss, batch_size=3)
    for law in ("exact", "paper"):
        found = mt.gradient_term_by_displacement(weights, mt.CutMix().moments(data.shape, law=law))
        expected = slow.gradient_term(model, slow_loss, data.x, y, law_of(mt.CutMix(), data.shape, law))
        assert np.abs(expected).max() > 1e-4
        np.testing.assert_allclose(found, expected, **TOLERANCE)


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("strategy", [mt.Mixup(), mt.CutMix(), mt.HMix(), mt.GMix()], ids=lambda s: type(s).__name__)
def test_the_map_sums_to_r2_and_the_weights_are_those_of_the_dense_reference(case, strategy):
    model, data = problem(case)
    weights, dense = gradient_weights(model, data), pair_weights(model, data, SoftmaxCrossEntropy())
    np.testing.assert_allclose(weights.gradient, dense.gradient, **TOLERANCE)
    assert weights.n == len(data)
    moments = strategy.moments(data.shape)
    r2 = mt.expand(model, data, strategy, method="dense").r2.mean
    for w in (weights, dense):
        assert mt.gradient_term_by_displacement(w, moments).sum() == pytest.approx(r2, rel=1e-12)
        curve = mt.gradient_term_by_distance(w, moments)
        assert curve.value.sum() == pytest.approx(r2, rel=1e-12)
        assert curve.se is None


@pytest.mark.parametrize(("entries", "rows"), [(1, 1), (200, 40), (2**25, 2**21)])
def test_blocks_change_nothing(monkeypatch, entries, rows):
    model, data = problem("3x3-2ch", m=5)
    monkeypatch.setattr(distance, "_JACOBIANS", entries)
    monkeypatch.setattr(distance, "_ROWS", rows)
    dense = pair_weights(model, data, SoftmaxCrossEntropy())
    for batch_size in (1, 2, 64):
        found = gradient_weights(model, data, batch_size=batch_size)
        np.testing.assert_allclose(found.gradient, dense.gradient, **TOLERANCE)


def test_a_constant_coefficient_leaves_the_map_of_model_and_data():
    """Mixup: R2(p) is a number times the sums of the weights; CutMix's is not."""
    model, data = problem("3x3-2ch")
    weights = gradient_weights(model, data)
    plain = displacement_sums(0.5 * weights.gradient, data.shape)
    mixup = mt.gradient_term_by_displacement(weights, mt.Mixup().moments(data.shape))
    np.testing.assert_allclose(mixup, mt.Mixup().moments(data.shape).second.dense()[0, 0] * plain, **TOLERANCE)
    ratio = mt.gradient_term_by_displacement(weights, mt.CutMix().moments(data.shape)) / plain
    assert np.ptp(ratio) > 1e-2


def test_a_stationary_law_acts_by_its_mean_coefficient_and_a_clipped_box_does_not():
    """On the torus a_jk is a function of k - j modulo the size: all pairs of one displacement have one coefficient."""
    model, data = problem("3x3-2ch")
    weights = gradient_weights(model, data)
    plain = displacement_sums(0.5 * weights.gradient, data.shape)

    def difference(box: str) -> float:
        moments = mt.CutMix(box=box).moments(data.shape, law="paper")
        found = mt.gradient_term_by_displacement(weights, moments)
        return float(np.abs(found - moments.second.by_displacement() * plain).max())

    assert difference("periodic") < 1e-14
    assert difference("clipped") > 1e-4


class Flipped(nn.Module):
    def __init__(self, model: nn.Module, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.dims = model, dims

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x.flip(self.dims))


@pytest.mark.parametrize("axis", [0, 1])
def test_flipping_images_and_model_flips_the_map(axis):
    """By a law that has the symmetry: a periodic box."""
    model, data = problem("3x4-3ch")
    moments = mt.CutMix(box="periodic").moments(data.shape)
    found = mt.gradient_term_by_displacement(gradient_weights(model, data), moments)
    other = mt.ImageData(data.x.flip(axis + 2), data.y, 3)
    turned = mt.gradient_term_by_displacement(gradient_weights(Flipped(model, (axis + 2,)).eval(), other), moments)
    np.testing.assert_allclose(turned, np.flip(found, axis), **TOLERANCE)
    assert np.abs(turned - found).max() > 1e-4
    np.testing.assert_allclose(found, found[::-1, ::-1], **TOLERANCE)


def test_a_linear_model_with_squared_loss_has_the_closed_form():
    """``G_jk = sum_c,ch,ch' W_c(ch j) W_c(ch' k) 2 Sigma_(ch j)(ch' k)``, since E_i C_i = 2 Sigma."""
    channels, shape = SHAPES["3x3-2ch"]
    x, y = naive.images(5, channels, shape, 3, seed=8)
    model, data = naive.linear(channels, shape, 3), mt.ImageData(x, y, 3)
    w = model[1].weight.detach().numpy()
    flat = x.numpy().reshape(5, -1)
    sigma = np.cov(flat.T, bias=True)
    matrix = ((w.T @ w) * 2 * sigma).reshape(channels, 9, channels, 9).sum(axis=(0, 2))
    np.testing.assert_allclose(gradient_weights(model, data, loss=Squared()).gradient, matrix, **TOLERANCE)


def test_sums_by_displacement_and_distance_are_those_of_loops():
    rng = np.random.default_rng(2)
    for shape in ((3, 4), (1, 5), (4, 1), (1, 1)):
        matrix = rng.normal(size=(shape[0] * shape[1],) * 2)
        expected = np.zeros((2 * shape[0] - 1, 2 * shape[1] - 1))
        for j, k, p in slow.pairs(shape):
            expected[p] += matrix[j[0] * shape[1] + j[1], k[0] * shape[1] + k[1]]
        found = displacement_sums(matrix, shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
        curve = slow.by_distance(found)
        np.testing.assert_allclose(distances(shape), list(curve), rtol=0, atol=1e-9)
        np.testing.assert_allclose(distance_sums(found), list(curve.values()), rtol=0, atol=1e-13)
        np.testing.assert_allclose(distance_sums(np.stack([found, 2 * found]))[1], 2 * distance_sums(found))
        assert distance_sums(pair_counts(shape)).sum() == (shape[0] * shape[1]) ** 2


@pytest.mark.parametrize("law", ["exact", "paper"])
@pytest.mark.parametrize("kind", LOSSES)
def test_sampled_maps_sum_to_the_sampled_r2(kind, law):
    """The same pairs (q, r) as `expand`, over several blocks of draws."""
    loss, _, outputs, classes = LOSSES[kind]
    model, data = problem("3x4-3ch", outputs, classes)
    options = {"loss": loss, "law": law, "draws": 70}
    found = sampled_gradient_term(model, data, mt.CutMix(), rng=np.random.default_rng(1), batch_size=3, **options)
    r2 = mt.expand(model, data, mt.CutMix(), rng=np.random.default_rng(1), **options).r2
    assert found.value.sum() == pytest.approx(r2.mean, rel=1e-10)
    assert found.curve.value.sum() == pytest.approx(r2.mean, rel=1e-10)
    assert found.n == r2.n


def test_sampled_maps_are_means_over_the_draws_with_their_errors():
    """On the same draws by loops over pixel pairs."""
    model, data = problem("3x4-3ch", m=3)
    draws = 5
    found = sampled_gradient_term(model, data, mt.CutMix(), draws=draws, rng=np.random.default_rng(4), batch_size=2)
    (tile,) = draw_tiles(data, mt.CutMix(), "exact", draws, seed_from(np.random.default_rng(4)))
    values = np.zeros((3, draws, 5, 7))
    for i in range(3):
        jacobian, p = slow.rows(model, data.x[i]), model(data.x[i : i + 1])[0].detach().softmax(dim=0).numpy()
        bend = np.diag(p) - np.outer(p, p)
        for d in range(draws):
            step = tile.q[i, d] * (data.x[tile.partner[i, d]] - data.x[i]).numpy()
            v = (jacobian * step).sum(axis=1)
            for j, k, place in slow.pairs(data.shape):
                values[i, d][place] += 0.5 * v[:, j[0], j[1]] @ bend @ v[:, k[0], k[1]]
    np.testing.assert_allclose(found.value, values.mean(axis=(0, 1)), **TOLERANCE)
    np.testing.assert_allclose(
        found.se, np.sqrt(values.var(axis=1, ddof=1).sum(axis=0) / draws) / 3, rtol=1e-8, atol=1e-16
    )
    lines = np.array([[list(slow.by_distance(v).values()) for v in image] for image in values])
    np.testing.assert_allclose(found.curve.value, lines.mean(axis=(0, 1)), **TOLERANCE)
    np.testing.assert_allclose(
        found.curve.se, np.sqrt(lines.var(axis=1, ddof=1).sum(axis=0) / draws) / 3, rtol=1e-8, atol=1e-16
    )


def test_sampled_maps_agree_with_the_exact_map_and_reject_a_wrong_law():
    """z test of every displacement at family-wise level 1e-6; the exact map of the other law must fail."""
    model, data = problem("3x3-2ch", m=6)
    found = sampled_gradient_term(model, data, mt.CutMix(), draws=400, rng=np.random.default_rng(9))
    weights = gradient_weights(model, data)

    def check(law: str) -> None:
        truth = mt.gradient_term_by_displacement(weights, mt.CutMix().moments(data.shape, law=law))
        z = np.abs(found.value - truth) / found.se
        assert z.max() < naive.z_bound(1e-6 / z.size)
        curve = mt.gradient_term_by_distance(weights, mt.CutMix().moments(data.shape, law=law))
        assert (np.abs(found.curve.value - curve.value) / found.curve.se).max() < naive.z_bound(1e-6 / 6)

    check("exact")
    assert fails(lambda: check("paper"))


def test_float32_models_keep_float64_sums():
    model, data = problem()
    exact = gradient_weights(model, data).gradient
    found = gradient_weights(model.float(), data.to(torch.float32)).gradient
    assert found.dtype == np.float64
    assert np.abs(found - exact).max() < 1e-4 * np.abs(exact).max()


def test_wrong_sizes_are_refused(monkeypatch):
    model, data = problem()
    monkeypatch.setattr(distance, "_MAX_PIXELS", 5)
    with pytest.raises(ValueError, match="the exact map over displacements holds a 12 x 12 matrix"):
        gradient_weights(model, data)
    weights = GradientWeights(np.zeros((6, 6)), 4)
    with pytest.raises(ValueError, match="expected moments for the 6 pixels of the weights"):
        mt.gradient_term_by_displacement(weights, mt.CutMix().moments((3, 3)))

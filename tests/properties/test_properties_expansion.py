"""The expansion and the mixed loss under what must not change them: order, channels, batches, constants, flips."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import naive
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mc_checks import fails
from property_cases import BOXES, LABELS, alphas, enumerable, examples, laws, seeds, strategies, symmetric
from torch import Tensor, nn

import msda_theory as mt

POINTS = ("data", "mean", "mask")
TERMS = ("base", "r1", "r2", "r3", "total", "gauss_newton", "clean")
SMALL = [(1, 1), (1, 4), (3, 1), (2, 2), (2, 3), (1, 5)]
points = st.sampled_from(POINTS)
cuts = st.builds(mt.CutMix, alpha=alphas, box=st.sampled_from(BOXES), label=st.sampled_from(LABELS))
# Dense terms at the mask go over all atoms of the law, thousands for a law that is continuous in lam.
cases = st.one_of(
    st.tuples(enumerable, laws, st.sampled_from(["data", "mean"])), st.tuples(cuts, laws, st.just("mask"))
)
LOSSES = st.sampled_from([mt.SoftmaxCrossEntropy(), mt.Squared()])


@dataclass(frozen=True)
class Problem:
    """A network, images and the number of classes."""

    model: nn.Module
    data: mt.ImageData

    def with_model(
        self, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor] = lambda f: f
    ) -> nn.Module:
        """``x -> after(f(before(x)))``."""
        return Around(self.model, before, after).eval()


class Around(nn.Module):
    def __init__(self, inner: nn.Module, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]):
        super().__init__()
        self.inner, self.before, self.after = inner, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.inner(self.before(x)))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    shape, m = draw(st.sampled_from(SMALL)), draw(st.integers(1, 5))
    channels, classes, seed = draw(st.integers(1, 3)), draw(st.integers(2, 3)), draw(st.integers(0, 10**6))
    x, y = naive.images(m, channels, shape, classes, seed)
    activation = draw(st.sampled_from([nn.Tanh, nn.Softplus, nn.GELU]))
    return Problem(
        naive.network(channels, shape, classes, activation=activation, seed=seed), mt.ImageData(x, y, classes)
    )


def terms(e: mt.Expansion) -> np.ndarray:
    return np.array([getattr(e, name).mean for name in TERMS])


def assert_near(a: np.ndarray, b: np.ndarray, rounding: float = 1e-9) -> None:
    assert np.isfinite(a).all()
    assert np.abs(a - b).max() <= rounding * (1 + np.abs(b).max()), f"{a} against {b}"


def dense(
    model: nn.Module, data: mt.ImageData, s: mt.Strategy, law: str, at: str, loss: mt.Loss | None = None
) -> np.ndarray:
    return terms(mt.expand(model, data, s, law=law, at=at, method="dense", loss=loss))


@examples(10, shrink=False)
@given(problems(), cases, LOSSES, st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(p, case, loss, random):
    s, law, at = case
    order = list(range(len(p.data)))
    random.shuffle(order)
    shuffled = p.data[torch.tensor(order)]
    assert_near(dense(p.model, shuffled, s, law, at, loss), dense(p.model, p.data, s, law, at, loss))


@examples(10, shrink=False)
@given(problems(), cases, st.sampled_from(["dense", "sampled"]), st.randoms(use_true_random=False))
def test_the_order_of_channels_and_of_classes_does_not_matter(p, case, method, random):
    """Masks are shared by the channels, so draws are the same; classes are renamed in labels and outputs."""
    s, law, at = case
    channels, classes = list(range(p.data.x.shape[1])), list(range(p.data.num_classes))
    random.shuffle(channels), random.shuffle(classes)
    back, names = torch.tensor(channels).argsort(), torch.tensor(classes)
    data = mt.ImageData(p.data.x[:, channels], names[p.data.y], p.data.num_classes)
    model = p.with_model(lambda x: x[:, back], lambda f: f[:, names.argsort()])
    options = {"law": law, "at": at, "method": method, "draws": 4}
    one, two = (
        mt.expand(f, d, s, rng=np.random.default_rng(1), **options) for f, d in ((p.model, p.data), (model, data))
    )
    assert_near(terms(two), terms(one))


@examples(10, shrink=False)
@given(problems(), cases, st.sampled_from([1.0, -7.5, 1e4]), st.sampled_from(["dense", "sampled"]))
def test_a_constant_added_to_all_logits_does_not_matter(p, case, constant, method):
    s, law, at = case
    model = p.with_model(lambda x: x, lambda f: f + constant)
    options = {"law": law, "at": at, "method": method, "draws": 4}
    one, two = (mt.expand(f, p.data, s, rng=np.random.default_rng(1), **options) for f in (p.model, model))
    assert_near(terms(two), terms(one), 1e-13 * (1e4 + abs(constant) * 10))


@examples(10, shrink=False)
@given(problems(), cases, st.sampled_from([0.5, -3.0, 100.0]), st.floats(-5, 5))
def test_another_unit_of_the_images_does_not_matter(p, case, factor, shift):
    """Mixing commutes with ``x -> factor x + shift``, so a model that undoes it has the same terms."""
    s, law, at = case
    data = mt.ImageData(factor * p.data.x + shift, p.data.y, p.data.num_classes)
    model = p.with_model(lambda z: (z - shift) / factor)
    assert_near(dense(model, data, s, law, at), dense(p.model, p.data, s, law, at))


@examples(10, shrink=False)
@given(problems(), cases)
def test_images_given_twice_count_once(p, case):
    s, law, at = case
    twice = p.data[torch.arange(len(p.data)).repeat(2)]
    assert_near(dense(p.model, twice, s, law, at), dense(p.model, p.data, s, law, at))


@examples(10, shrink=False)
@given(problems(), strategies, laws, points, seeds)
def test_an_image_alone_is_mixed_with_itself(p, s, law, at, seed):
    """Then delta = 0: every term vanishes, and the mixed loss is the plain one."""
    alone = p.data[:1]
    e = mt.expand(p.model, alone, s, law=law, at=at, draws=3, rng=np.random.default_rng(seed))
    clean = e.clean.mean
    assert_near(terms(e), np.array([clean, 0, 0, 0, clean, clean, clean]), 1e-12)
    measured = mt.mixed_loss(p.model, alone, s, draws=3, rng=np.random.default_rng(seed))
    assert abs(measured.mean - clean) <= 1e-12 * (1 + abs(clean))


@examples(15, shrink=False)
@given(problems(), cases.filter(lambda c: symmetric(c[0])), st.sampled_from([2, 3]))
def test_symmetric_laws_are_equivariant_to_flips(p, case, axis):
    s, law, at = case
    flipped = mt.ImageData(p.data.x.flip(axis), p.data.y, p.data.num_classes)
    model = p.with_model(lambda x: x.flip(axis))
    assert_near(dense(model, flipped, s, law, at), dense(p.model, p.data, s, law, at))
    # So on flipped images the network itself has the terms of the flipped network on the images.
    assert_near(dense(p.model, flipped, s, law, at), dense(model, p.data, s, law, at))


def test_the_flip_of_a_law_that_is_not_symmetric_is_seen():
    """Evil twin: clipped boxes are half a pixel off centre."""
    x, y = naive.images(4, 1, (4, 4), 2, 0)
    p = Problem(naive.network(1, (4, 4), 2), mt.ImageData(x, y, 2))
    flipped, model = mt.ImageData(x.flip(3), y, 2), p.with_model(lambda x: x.flip(3))
    one, two = dense(model, flipped, mt.CutMix(), "exact", "data"), dense(p.model, p.data, mt.CutMix(), "exact", "data")
    assert fails(lambda: assert_near(one, two, 1e-5))


@examples(10, shrink=False)
@given(
    problems(),
    strategies,
    laws,
    points,
    st.sampled_from([(1, 2**20), (2, 2**16), (3, None), (10**6, 2**24)]),
    st.sampled_from([(torch.float64, 1e-12), (torch.float32, 1e-4)]),
)
def test_sizes_of_batches_change_rounding_only(p, s, law, at, sizes, precision):
    dtype, rounding = precision
    model, data = naive.randomize(p.model, 1).to(dtype), p.data.to(dtype)
    options = {"law": law, "at": at, "draws": 5}
    try:
        one, two = (
            mt.expand(model, data, s, batch_size=size, memory=memory, rng=np.random.default_rng(1), **options)
            for size, memory in ((512, None), sizes)
        )
    finally:
        model.double()
    assert_near(terms(two), terms(one), rounding)
    assert abs(two.total.se - one.total.se) <= rounding * (1 + one.total.se)


@examples(10, shrink=False)
@given(problems(), strategies, laws, points, seeds)
def test_the_columns_of_an_expansion_add_up(p, s, law, at, seed):
    e = mt.expand(p.model, p.data, s, law=law, at=at, draws=4, rng=np.random.default_rng(seed))
    base, r1, r2, r3, total, gauss_newton, clean = terms(e)
    assert_near(np.array([base + r1 + r2 + r3, base + r1 + r2]), np.array([total, gauss_newton]), 1e-12)
    assert r2 >= -1e-12
    assert at != "data" or base == clean
    assert at == "data" or r1 == 0


@examples(3, shrink=False)
@given(strategies, strategies, st.integers(65, 100), st.integers(5, 20), seeds)
def test_a_comparison_does_not_depend_on_how_it_is_split(one, two, m, batch_size, seed):
    """To the bit over threads; to rounding in the size of batches; ``measured`` is `mixed_loss` to the bit."""
    x, y = naive.images(m, 1, (2, 3), 3, 7)
    data, model = mt.ImageData(x, y, 3), naive.network(1, (2, 3), 3)

    def table(**options) -> tuple[mt.Row, ...]:
        rng = np.random.default_rng(seed)
        return mt.compare({"a": model}, data, [one, two], at=("data", "mask"), draws=3, rng=rng, **options).rows

    alone = table()
    with ThreadPoolExecutor(2) as pool:
        assert table(executor=pool) == alone
    for row, other in zip(alone, table(batch_size=batch_size), strict=True):
        for name in ("base", "r1", "r2", "r3", "predicted", "measured", "gap"):
            a, b = getattr(row, name), getattr(other, name)
            assert abs(a.mean - b.mean) <= 1e-11
            assert abs(a.se - b.se) <= 1e-11
    for row in alone:
        s = one if row.strategy == one.name else two
        if one.name != two.name:
            assert mt.mixed_loss(model, data, s, draws=3, rng=np.random.default_rng(seed)) == row.measured


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float16, torch.bool], ids=str)
def test_images_of_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match="expected images in float32 or float64, got"):
        mt.ImageData(torch.ones(2, 1, 2, 2).to(dtype), torch.tensor([0, 1]), 2)

"""Mixed batches of any strategy: convex, linear, equivariant, of every dtype; and the law that `law_of` reads back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mc_checks import fails
from property_cases import LAWS, examples, large_shapes, seeds, shapes, strategies
from torch import Tensor

import msda_theory as mt

DTYPES = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 0.02, torch.float16: 0.002}
dtypes = st.sampled_from(list(DTYPES))
batches = st.sampled_from([1, 2, 3, 8])


def mix(s: mt.Strategy, seed: int, *, per_sample: bool = False, classes: int = 4, smoothing: float = 0.0):
    return mt.MixTransform(s, classes, rng=np.random.default_rng(seed), per_sample=per_sample, smoothing=smoothing)


def images(seed: int, n: int, channels: int, shape: tuple[int, int]) -> Tensor:
    return torch.rand(n, channels, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(n: int) -> Tensor:
    return torch.arange(n) % 4


@examples(100)
@given(strategies, st.one_of(shapes, large_shapes), batches, dtypes, st.booleans(), seeds)
def test_mixed_images_and_labels_are_convex_combinations(s, shape, n, dtype, per_sample, seed):
    x = images(seed, n, 2, shape).to(dtype)
    before = x.clone()
    out, soft = mix(s, seed, per_sample=per_sample)(x, labels(n))
    rounding = DTYPES[dtype]
    assert torch.equal(x, before)
    assert out.dtype == dtype
    assert out.shape == x.shape
    assert soft.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (out <= x.amax(dim=0) + rounding).all()
    assert (out >= x.amin(dim=0) - rounding).all()
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(n, dtype=soft.dtype), rtol=0, atol=1e-6)
    assert soft.min() >= -1e-7
    if n == 1:
        assert torch.equal(out, x)


@examples(60)
@given(strategies, st.one_of(shapes, large_shapes), batches, st.booleans(), seeds)
def test_mixing_is_the_definition_with_the_draws_of_the_same_seed(s, shape, n, per_sample, seed):
    """One mask and one permutation: images coded by their number give both, and any other images follow."""
    code = torch.eye(n, dtype=torch.float64)[:, :, None, None].expand(n, n, *shape).contiguous()
    weights, soft = mix(s, seed, per_sample=per_sample, classes=n)(code, torch.arange(n))
    x = images(seed, n, 3, shape)
    out, _ = mix(s, seed, per_sample=per_sample)(x, labels(n))
    expected = torch.einsum("ijhw,jchw->ichw", weights, x)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    other, _ = mix(s, seed, per_sample=per_sample)(3 * x - 1, labels(n))
    torch.testing.assert_close(other, 3 * out - 1, rtol=0, atol=1e-12)
    assert ((weights != 0).any(dim=(2, 3)).sum(dim=1) <= 2).all()  # itself and one partner
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(n, dtype=torch.float64), rtol=0, atol=1e-14)


@examples(60)
@given(strategies, st.one_of(shapes, large_shapes), batches, seeds)
def test_one_mask_for_the_batch_keeps_the_sum_of_the_batch(s, shape, n, seed):
    """The partners are a permutation: what one image loses another gains, in images and in labels."""
    x, y = images(seed, n, 2, shape), labels(n)
    out, soft = mix(s, seed)(x, y)
    torch.testing.assert_close(out.sum(dim=0), x.sum(dim=0), rtol=0, atol=1e-12)
    one_hot = torch.nn.functional.one_hot(y, 4).double()
    torch.testing.assert_close(soft.sum(dim=0), one_hot.sum(dim=0), rtol=0, atol=1e-12)


@examples(60)
@given(strategies, shapes, batches, st.booleans(), seeds, st.sampled_from([0.0, 0.1, 0.9]))
def test_layouts_channels_and_labels_commute_with_mixing(s, shape, n, per_sample, seed, smoothing):
    options = {"per_sample": per_sample, "smoothing": smoothing}
    x, y = images(seed, n, 3, shape), labels(n)
    out, soft = mix(s, seed, **options)(x, y)
    turned, same = mix(s, seed, **options)(x[:, [2, 0, 1]], y)
    torch.testing.assert_close(turned, out[:, [2, 0, 1]], rtol=0, atol=0)
    assert torch.equal(same, soft)
    last, _ = mix(s, seed, **options)(x.to(memory_format=torch.channels_last), y)
    torch.testing.assert_close(last, out, rtol=0, atol=1e-15)
    _, vectors = mix(s, seed, **options)(x, torch.nn.functional.one_hot(y, 4).double())
    torch.testing.assert_close(vectors, soft, rtol=0, atol=1e-15)
    _, plain = mix(s, seed, per_sample=per_sample)(x, y)
    torch.testing.assert_close(soft, (1 - smoothing) * plain + smoothing / 4, rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool], ids=str)
def test_integer_images_are_refused(dtype):
    with pytest.raises(TypeError, match="expected floating point images, got"):
        mix(mt.CutMix(), 0)(torch.ones(2, 1, 3, 3).to(dtype), labels(2))


# --- the circle closes ----------------------------------------------------------------------------------------------

DRAWS, CIRCLES = 1_500, 6
LEVEL = 1e-6 / CIRCLES
measurable = st.floats(-0.5, 1).map(lambda e: float(10.0**e))
LAW_CASES = st.one_of(
    st.builds(mt.Mixup, alpha=measurable),
    st.builds(mt.CutMix, alpha=measurable, box=st.sampled_from(["clipped", "inside", "periodic"])),
    st.builds(mt.CutMix, alpha=measurable, label=st.just("nominal")),
    st.builds(mt.HMix, alpha=measurable, ratio=st.sampled_from([0.0, 0.5, 1.0])),
    st.builds(mt.GMix, alpha=measurable, label=st.sampled_from(["pixels", "nominal"])),
)


def assert_measured(law: mt.MeasuredLaw, truth: mt.Moments, name: str) -> None:
    """Mean and diagonal of every pixel within the empirical Bernstein bound for independent draws."""
    got = law.moments(truth.mean.shape, law=name)
    mask, w = np.asarray(law.store[slice(0, len(law))], dtype=float), law.lam[:, None, None]
    own = np.ones_like(w) if name == "paper" else w
    weight = law.weight if name == "exact" else law.weight * law.lam / (law.weight @ law.lam)
    wide = np.log(4 * 2 * truth.mean.size / LEVEL)
    for power, ours, theirs in ((1, got.mean, truth.mean), (2, got.second.diagonal(), truth.second.diagonal())):
        values = own * (1 - mask) ** power + (1 - own) * mask**power
        # Under the paper's law draws are weighted by w / E[w] <= 2, about, and their spread is that of the ratio.
        spread = np.einsum("n,nhw->hw", weight**2, (values - ours) ** 2) * len(law)
        bound = np.sqrt(2 * spread * wide / len(law)) + 2 * 7 * wide / (3 * len(law)) + 1e-5
        assert (np.abs(ours - theirs) <= bound).all(), f"{np.abs(ours - theirs).max()} of {bound.min()}"


@examples(CIRCLES, shrink=False)
@given(LAW_CASES, st.sampled_from([(4, 4), (3, 5), (6, 3)]), seeds)
def test_the_law_that_is_read_back_is_that_of_the_strategy(s, shape, seed):
    law = mt.law_of(mix(s, seed, per_sample=True, classes=8), shape, draws=DRAWS, self_pairs=True)
    for name in LAWS:
        # The paper's law is read with the label weight as the nominal one, which nominal labels are.
        if name == "exact" or isinstance(s, mt.Mixup | mt.HMix) or s.label == "nominal":
            assert_measured(law, s.moments(shape, law=name), name)


@pytest.mark.parametrize("wrong", [mt.CutMix(label="nominal"), mt.HMix(), mt.Mixup()], ids=lambda s: s.name)
def test_another_law_is_rejected_by_the_same_check(wrong):
    law = mt.law_of(mix(mt.CutMix(), 0, per_sample=True, classes=8), (4, 4), draws=DRAWS, self_pairs=True)
    assert_measured(law, mt.CutMix().moments((4, 4)), "exact")
    assert fails(lambda: assert_measured(law, wrong.moments((4, 4)), "exact"))

"""DropMix: which dimensions are mixed, and both forms of the law against enumeration."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from mask_cases import LAWS
from mc_checks import assert_unbiased, fails

from experiments.strategies import strategy_from
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.registry import strategy
from msda_theory.masks.vanilla import Vanilla

SHAPES = ((1, 7), (2, 3), (1, 1), (4, 1))
SHARES = sorted({Fraction(a, b) for b in range(1, 13) for a in range(b + 1)})


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([2023, seed])


# --- which dimensions ---------------------------------------------------------------------------------------


def test_the_published_setting_mixes_every_sixth_dimension():
    mixed = DropMix().mixed(512)
    assert np.flatnonzero(mixed).tolist() == list(range(0, 512, 6))
    assert mixed.sum() == 86
    assert (DropMix().lam, DropMix().dims) == (0.35, "strided")


@pytest.mark.parametrize("every", range(1, 40))
def test_a_share_of_one_in_k_is_every_kth_dimension(every):
    for size in (1, 5, 64, 512, 2048):
        assert np.flatnonzero(DropMix(share=1 / every).mixed(size)).tolist() == list(range(0, size, every))


@pytest.mark.parametrize("share", SHARES, ids=str)
def test_dimensions_are_those_where_the_ceiling_grows(share):
    """In whole numbers; hence ceil(size share) of them, and gaps that differ by at most one."""
    size = 512
    wanted = [j for j in range(size) if math.ceil((j + 1) * share) > math.ceil(j * share)]
    found = np.flatnonzero(DropMix(share=float(share)).mixed(size))
    assert found.tolist() == wanted
    assert len(found) == math.ceil(size * share)
    if len(found) > 1:
        assert np.ptp(np.diff(found)) <= 1
        assert found[0] == 0


# --- laws ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("share", [0.0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 1.0])
def test_moments_of_random_dimensions_are_those_of_all_subsets(share, law):
    shape, lam = (2, 3), 0.35
    s = DropMix(lam=lam, share=share, dims="random")
    subsets = list(itertools.combinations(range(6), math.ceil(6 * share - 1e-9)))
    mean, second = np.zeros(6), np.zeros((6, 6))
    for subset in subsets:
        q = np.array([lam if j in subset else 0.0 for j in range(6)])
        mean += q / len(subsets)
        second += np.outer(q, q) / len(subsets)
    moments = s.moments(shape, law=law)
    np.testing.assert_allclose(moments.mean.ravel(), mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(moments.second.dense(), second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_moments_of_fixed_dimensions_are_one_block(shape):
    s, d = DropMix(lam=0.4, share=0.4), shape[0] * shape[1]
    q = 0.4 * s.mixed(d)
    for law in LAWS:
        moments = s.moments(shape, law=law)
        np.testing.assert_allclose(moments.mean.ravel(), q, rtol=0, atol=1e-15)
        np.testing.assert_allclose(moments.second.dense(), np.outer(q, q), rtol=0, atol=1e-15)


@pytest.mark.parametrize("dims", ["strided", "random"])
def test_all_dimensions_are_mixup_with_a_fixed_weight(dims):
    s = DropMix(lam=0.3, share=1.0, dims=dims)
    assert s.mixed(50).all()
    moments = s.moments((2, 5))
    np.testing.assert_allclose(moments.mean, 0.3, rtol=1e-15)
    np.testing.assert_allclose(moments.second.dense(), 0.09, rtol=1e-15)
    np.testing.assert_array_equal(s.sample(3, (2, 5), rng=rng()).mask, np.full((3, 2, 5), 0.7))


@pytest.mark.parametrize("s", [DropMix(share=0.0), DropMix(lam=0.0), DropMix(share=0.0, dims="random")], ids=str)
def test_no_mixing_is_vanilla(s):
    ours, theirs = s.moments((2, 4)), Vanilla().moments((2, 4))
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    np.testing.assert_array_equal(ours.second.dense(), theirs.second.dense())
    np.testing.assert_array_equal(s.sample(5, (2, 4), rng=rng()).mask, 1.0)


@pytest.mark.parametrize("dims", ["strided", "random"])
def test_both_laws_and_every_alpha_agree(dims):
    """The label weight is 1 and M has no Beta weight: there is nothing that the laws could weigh differently."""
    q = [DropMix(share=0.4, dims=dims).partner_weights(20, (3, 4), law=law, rng=rng(1)) for law in LAWS]
    np.testing.assert_array_equal(q[0], q[1])
    batch = DropMix(share=0.4, dims=dims).sample(20, (3, 4), rng=rng(2))
    np.testing.assert_array_equal(batch.lam, 1.0)
    first, other = (DropMix(alpha=a, share=0.4, dims=dims).moments((3, 4)) for a in (0.2, 3.0))
    np.testing.assert_array_equal(first.second.dense(), other.second.dense())


def test_random_subsets_are_equally_likely():
    """One indicator for each of the 20 subsets; the wrong laws are fixed dimensions and neighbours."""
    n, lam = 20_000, 0.35
    q = DropMix(lam=lam, share=0.5, dims="random").partner_weights(n, (2, 3), rng=rng(3)).reshape(n, 6)
    subsets = np.array([[j in c for j in range(6)] for c in itertools.combinations(range(6), 3)])
    assert set(np.unique(q)) == {0.0, 1 - (1 - lam)}
    hits = ((q[:, None, :] > 0) == subsets[None]).all(axis=2)
    assert (hits.sum(axis=1) == 1).all()
    assert_unbiased(hits, np.full(20, 1 / 20))
    uneven = np.full(20, 1 / 20) + 0.01 * np.array([1, -1] * 10)
    assert fails(lambda: assert_unbiased(hits, uneven))
    fixed = DropMix(lam=lam, share=0.5).mixed(6)
    assert fails(lambda: assert_unbiased(hits, (subsets == fixed).all(axis=1).astype(float)))


def test_atoms():
    s = DropMix(lam=0.4, share=0.5)
    atoms = s.atoms((2, 3))
    np.testing.assert_allclose(atoms.mask.ravel(), [0.6, 1, 0.6, 1, 0.6, 1], rtol=1e-15)
    assert (atoms.lam.tolist(), atoms.weight.tolist()) == ([1.0], [1.0])
    with pytest.raises(ValueError, match="does not enumerate its law"):
        DropMix(dims="random").atoms((2, 3))


# --- names and input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "s",
    [
        *(DropMix(), DropMix(dims="random"), DropMix(lam=0.5), DropMix(share=0.25), DropMix(share=1.0, lam=0.1)),
        DropMix(alpha=0.2, lam=0.75, share=0.125, dims="random"),
    ],
    ids=lambda s: s.name,
)
def test_the_name_says_it_all(s):
    assert strategy_from(s.name) == s


def test_known_by_name():
    assert strategy("DropMix") == DropMix()
    assert strategy("dropmix", share=1.0) == DropMix(share=1.0)
    assert DropMix().name == DropMix(alpha=1.0).name == "dropmix"
    assert DropMix(share=0.0, dims="random").name == "dropmix(share=0, dims=random)"


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["lam", "share"])
def test_shares_and_weights_are_in_the_unit_interval(name, value):
    with pytest.raises(ValueError, match=rf"expected {name} in \[0, 1\], got {value}; 0 is no mixing"):
        DropMix(**{name: value})


def test_unknown_dimensions():
    with pytest.raises(ValueError, match=r"expected dims among \['strided', 'random'\], got 'block'"):
        DropMix(dims="block")


@pytest.mark.parametrize("share", [1 / 6, 1 / 12, 1 / 3, 2 / 3, 0.15, 5 / 7])
def test_the_name_gives_the_same_dimensions(share):
    """Six digits are written; at 1,024 dimensions they decide nothing."""
    law = DropMix(share=share)
    again = strategy_from(law.name)
    assert np.array_equal(law.mixed(1024), again.mixed(1024))


@pytest.mark.parametrize("share", [1e-9, 1e-4, 1e-3, 1.5e-3, 0.002, 0.01, 1 / 6, 1.0])
def test_the_first_dimension_is_mixed_however_small_the_share(share):
    """Found by looking into a mutant: up to a share of a thousandth it was not the first one."""
    for size in (1, 784, 3000):
        mixed = DropMix(share=share).mixed(size)
        assert mixed[0]
        assert abs(mixed.sum() - size * share) < 1

"""Moments of any strategy at any size: bounds of Eq. (2), operators against their matrix, symmetries, identities."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from property_cases import (
    LAWS,
    blends_as_labelled,
    boxed,
    enumerable,
    examples,
    large_shapes,
    laws,
    members,
    seeds,
    shapes,
    shares,
    singles,
    strategies,
    symmetric,
)

from msda_theory.masks.base import Strategy
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.field import Field
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla
from msda_theory.moments.displacements import displacement_sums
from msda_theory.moments.moments import Moments

ROUNDING = 1e-12


def assert_bounds(mean: np.ndarray, a: np.ndarray, tolerance: float = ROUNDING) -> None:
    """What q in [0, 1] implies, by the definition: bounds of every entry, and both matrices semi-definite."""
    q = mean.ravel()
    assert np.isfinite(q).all()
    assert np.isfinite(a).all()
    assert q.min() >= -tolerance
    assert q.max() <= 1 + tolerance
    assert np.abs(a - a.T).max() <= tolerance
    assert (a <= np.minimum(q[:, None], q) + tolerance).all()  # q_j q_k <= q_j
    assert (a >= np.maximum(0, q[:, None] + q - 1) - tolerance).all()  # q_j q_k >= 0 and (1 - q_j)(1 - q_k) >= 0
    assert (np.diag(a) >= q**2 - tolerance).all()
    assert (np.abs(a) <= np.sqrt(np.multiply.outer(np.diag(a), np.diag(a))) + tolerance).all()
    for matrix in (a, a - np.outer(q, q)):
        assert np.linalg.eigvalsh(matrix).min() >= -tolerance * len(q)


@examples(120)
@given(strategies, shapes, laws)
def test_moments_lie_in_their_bounds(s, shape, law):
    moments = s.moments(shape, law=law)
    assert_bounds(moments.mean, moments.second.dense())
    assert 0 <= moments.provenance.error < 1e-11


def test_the_bounds_tell_wrong_moments():
    """Evil twins of the check: the other mean, a matrix that is no second moment, a coefficient too many."""
    moments = CutMix().moments((3, 3))
    mean, a = moments.mean, moments.second.dense()
    for wrong in ((0.5 * mean, a), (mean, a - 0.2), (mean + 0.5, a), (mean, np.diag(mean.ravel()) - 0.01)):
        try:
            assert_bounds(*wrong)
        except AssertionError:
            continue
        raise RuntimeError("wrong moments passed")


@examples(30)
@given(singles, large_shapes, laws)
def test_moments_of_large_sizes_lie_in_their_bounds(s, shape, law):
    moments = s.moments(shape, law=law)
    assert_bounds(moments.mean, moments.second.dense())


@examples(60)
@given(strategies, shapes, laws, seeds)
def test_operators_agree_with_their_matrix(s, shape, law, seed):
    second = s.moments(shape, law=law).second
    a, d = second.dense(), shape[0] * shape[1]
    u = np.random.default_rng(seed).normal(size=(2, 3, *shape))
    flat = u.reshape(2, 3, d)
    scale = ROUNDING * d * max(1.0, np.abs(flat).max() ** 2 * d)
    assert np.abs(second.apply(u).reshape(2, 3, d) - flat @ a).max() <= scale
    assert np.abs(second.quadratic(u) - np.einsum("abj,jk,abk->ab", flat, a, flat)).max() <= scale
    assert np.abs(second.diagonal().ravel() - np.diag(a)).max() <= ROUNDING
    assert np.abs(second.displacement_sums() - displacement_sums(a, shape)).max() <= scale
    assert second.apply(u[0, :0]).shape == (0, *shape)
    assert second.apply(np.ones(shape, dtype=np.int64)).shape == shape


@examples(60)
@given(enumerable, shapes, laws)
def test_moments_are_those_of_the_atoms(s, shape, law):
    atoms = s.atoms(shape)
    q, p = atoms.partner(law)
    assert atoms.weight.min() >= 0
    assert abs(atoms.weight.sum() - 1) <= ROUNDING
    assert abs(p.sum() - 1) <= ROUNDING
    assert 0 <= q.min() <= q.max() <= 1 + ROUNDING
    moments, flat = s.moments(shape, law=law), q.reshape(len(q), -1)
    error = ROUNDING + 10 * moments.provenance.error
    assert np.abs(moments.mean.ravel() - p @ flat).max() <= error
    assert np.abs(moments.second.dense() - (flat.T * p) @ flat).max() <= error


def turned(moments: Moments, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Moments of the flipped image."""
    h, w = moments.mean.shape
    a = moments.second.dense().reshape(h, w, h, w)
    return np.flip(moments.mean, axis), np.flip(a, (axis, axis + 2)).reshape(h * w, h * w)


@examples(40)
@given(strategies.filter(symmetric), shapes, laws, st.sampled_from([0, 1]))
def test_moments_of_symmetric_laws_do_not_change_under_flips(s, shape, law, axis):
    moments = s.moments(shape, law=law)
    mean, a = turned(moments, axis)
    assert np.abs(mean - moments.mean).max() <= ROUNDING
    assert np.abs(a - moments.second.dense()).max() <= ROUNDING


@examples(40)
@given(strategies, shapes, laws)
def test_moments_of_the_transposed_size_are_transposed(s, shape, law):
    assume(not any(isinstance(m, DropMix) and m.dims == "strided" for m in members(s)))
    h, w = shape
    here, there = s.moments(shape, law=law), s.moments((w, h), law=law)
    a = there.second.dense().reshape(w, h, w, h).transpose(1, 0, 3, 2).reshape(h * w, h * w)
    assert np.abs(there.mean.T - here.mean).max() <= ROUNDING
    assert np.abs(a - here.second.dense()).max() <= ROUNDING


@examples(60)
@given(st.one_of(singles, boxed()).filter(blends_as_labelled), shapes)
def test_where_the_label_is_the_mean_of_m_all_pairs_have_half_the_mean(s, shape):
    """With w the mean of M, the mean of q given (M, w) is 2 w (1 - w), and of q_j q_k over all pairs w (1 - w)."""
    moments = s.moments(shape)
    ones = np.ones(shape)
    assert abs(float(moments.second.quadratic(ones)) / ones.size**2 - moments.mean.mean() / 2) <= ROUNDING
    if isinstance(s, HMix | Mixup):
        assert abs(moments.mean.mean() - s.alpha / (2 * s.alpha + 1)) <= ROUNDING


def laws_agree(s: Strategy) -> bool:
    """Where the label is nominal and M(1 - lam) has the law of 1 - M(lam), or nothing depends on lam."""
    nominal = isinstance(s, GMix | Field) and s.label == "nominal"
    return nominal or isinstance(s, Mixup | Vanilla | DropMix) or (isinstance(s, HMix) and s.ratio == 0)


@examples(40)
@given(singles.filter(laws_agree), shapes)
def test_both_laws_agree_where_the_theory_says_so(s, shape):
    exact, paper = (s.moments(shape, law=law) for law in LAWS)
    assert np.abs(exact.mean - paper.mean).max() <= ROUNDING
    assert np.abs(exact.second.dense() - paper.second.dense()).max() <= ROUNDING


@examples(40)
@given(singles, singles, shares, shapes, laws)
def test_moments_of_a_choice_are_weighted_sums(a, b, share, shape, law):
    chosen = Choice((a, b), (share, 1 - share)).moments(shape, law=law)
    parts = [s.moments(shape, law=law) for s in (a, b)]
    mean = share * parts[0].mean + (1 - share) * parts[1].mean
    second = share * parts[0].second.dense() + (1 - share) * parts[1].second.dense()
    assert np.abs(chosen.mean - mean).max() <= ROUNDING
    assert np.abs(chosen.second.dense() - second).max() <= ROUNDING

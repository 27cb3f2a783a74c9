"""What the mask laws state of themselves: methods and errors of their moments, orders of their atoms, their options."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest

from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import MaskBatch
from msda_theory.masks.betas import interval_moments
from msda_theory.masks.boxes import lam_edges
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla
from msda_theory.moments.moments import Moments, Provenance, check_shape
from msda_theory.moments.operators import Constant, Dense

SHAPE = (3, 4)
BOXES = (3 + 4 + 8) * 2.0**-53  # (H + W + 8) units of rounding
METHODS = [
    (Vanilla(), "closed form", 0.0),
    (Mixup(), "closed form", 1e-15),
    (CutMix(), "finite sum", BOXES),
    (HMix(), "finite sum", BOXES),
    (GMix(), "quadrature", 1e-11),
    (DropMix(), "closed form", 1e-15),
    (DropMix(dims="random"), "closed form", 1e-15),
    (Choice((Mixup(), GMix()), (0.5, 0.5)), "quadrature", 1e-11),
    (Choice((Vanilla(), CutMix()), (0.5, 0.5)), "finite sum", BOXES),
    (Choice((Mixup(), Vanilla()), (0.5, 0.5)), "closed form", 1e-15),
]


@pytest.mark.parametrize(("strategy", "method", "error"), METHODS, ids=lambda v: getattr(v, "name", None))
@pytest.mark.parametrize("law", ["exact", "paper"])
def test_moments_name_their_method_and_an_error_of_rounding(strategy, method, error, law):
    provenance = strategy.moments(SHAPE, law=law).provenance
    assert provenance.method == method
    assert 0 <= provenance.error <= error
    assert (provenance.error > 0) == (error > 0)


@pytest.mark.parametrize("strategy", [CutMix(), HMix(), HMix(box="inside")], ids=lambda s: s.name)
def test_box_laws_state_the_rounding_of_their_sums(strategy):
    assert strategy.moments(SHAPE).provenance.error == BOXES
    assert strategy.moments(SHAPE, law="paper").provenance.error == BOXES


class Bare(Strategy):
    """A strategy of a user, no dataclass: a sampler and nothing else."""

    def masks(self, lam, shape, *, rng):
        return MaskBatch(np.broadcast_to(lam[:, None, None], (len(lam), *shape)), lam)


@pytest.mark.parametrize(
    ("shape", "draws"), [((4, 5), 20_000), ((1, 2000), 16_777), ((2000, 1), 16_777), ((190, 190), 1_000)], ids=str
)
def test_moments_without_a_closed_form_take_as_many_draws_as_stated(shape, draws):
    """20,000; fewer where 8 bytes for each pixel and draw would be over 256 MB (2^25 numbers); at least 1,000."""
    moments = Bare().moments(shape, rng=np.random.default_rng(0))
    assert moments.provenance.detail == f"{draws} draws"
    assert moments.mean.shape == shape


def test_a_strategy_without_alpha_has_uniform_label_weights():
    lam = Bare().sample(5, SHAPE, rng=np.random.default_rng(0)).lam
    np.testing.assert_array_equal(lam, Mixup(alpha=1.0).sample(5, SHAPE, rng=np.random.default_rng(0)).lam)
    assert Bare().name == "bare"


def test_a_default_that_is_equal_and_not_the_same_is_no_part_of_a_name():
    assert Mixup(alpha=float("1")).name == "mixup"
    assert Vanilla(alpha=1.0).name == "vanilla"
    with naive.as_users_run_it():
        assert Mixup(alpha=1).name == "mixup"


@pytest.mark.parametrize("strategy", [Mixup(), CutMix(), HMix(), GMix(), Choice()], ids=lambda s: s.name)
def test_sixteen_nodes_are_the_default(strategy):
    """An interval of lam has 16 nodes; a choice hands the number on to its members."""
    for given, order in (({}, 16), ({"order": 5}, 5)):
        atoms, same = strategy.atoms((2, 2), **given), strategy.atoms((2, 2), order=order)
        for name in ("mask", "lam", "tilt", "weight"):
            np.testing.assert_array_equal(getattr(atoms, name), getattr(same, name))
    assert len(Mixup().atoms(SHAPE).lam) == 16
    members = Choice((Mixup(), GMix()), (0.5, 0.5)).atoms(SHAPE, order=3)
    assert len(members.lam) == len(Mixup().atoms(SHAPE, order=3).lam) + len(GMix().atoms(SHAPE, order=3).lam)
    assert len(members.lam) < len(Choice((Mixup(), GMix()), (0.5, 0.5)).atoms(SHAPE).lam)


@pytest.mark.parametrize("strategy", [CutMix(alpha=1e5), CutMix(alpha=1e5, label="nominal")], ids=str)
def test_intervals_that_never_occur_have_no_atoms(strategy):
    assert (interval_moments(1e5, np.array([0.0, 0.01, 1.0]), 0)[0] == [0, 1]).all()
    atoms = strategy.atoms((4, 4), order=2)
    assert (atoms.weight > 0).all()
    for values in (atoms.mask, atoms.lam, atoms.tilt):
        assert np.isfinite(values).all()
    np.testing.assert_allclose(atoms.tilt @ atoms.weight, 1, rtol=1e-12)
    np.testing.assert_allclose(atoms.weight.sum(), 1, rtol=1e-12)


def test_without_a_box_there_is_one_interval_of_lam_whatever_memory_holds(monkeypatch):
    monkeypatch.setattr(np, "empty", lambda shape, **kwargs: np.full(shape, 0.37, **kwargs))
    assert lam_edges((4, 5), 0.0).tolist() == [0.0, 1.0]
    assert lam_edges((4, 5), 0.25).tolist() == pytest.approx([0.0, 0.36, 1.0])


def test_hmix_has_no_atoms_of_probability_zero():
    atoms = HMix(alpha=1e5).atoms((4, 4))
    assert (atoms.weight > 0).all()
    assert len(atoms.weight) == len(atoms.mask) == len(atoms.lam)


def test_a_choice_keeps_tuples_of_what_it_was_given():
    with naive.as_users_run_it():
        given = Choice([Mixup(), CutMix()], [1, 0])
    assert given == Choice((Mixup(), CutMix()), (1.0, 0.0))
    assert hash(given) == hash(Choice((Mixup(), CutMix()), (1.0, 0.0)))
    assert isinstance(given.strategies, tuple)
    assert [type(p) for p in given.probabilities] == [float, float]


def test_masks_of_a_choice_are_those_of_its_members():
    n, lam = 4_000, np.linspace(0.1, 0.9, 4_000)
    s = Choice((Mixup(alpha=0.7), CutMix(alpha=0.7, label="nominal")), (0.3, 0.7))
    batch = s.masks(lam, (8, 8), rng=np.random.default_rng(0))
    uniform = (batch.mask == lam[:, None, None]).all(axis=(1, 2))
    assert abs(uniform.mean() - 0.3) < 4.5 * np.sqrt(0.3 * 0.7 / n)
    assert set(np.unique(batch.mask[~uniform])) == {0.0, 1.0}
    np.testing.assert_array_equal(batch.lam, lam)
    twin = s.masks(lam, (8, 8), rng=np.random.default_rng(0))
    np.testing.assert_array_equal(twin.mask, batch.mask)


def test_masks_of_members_of_one_alpha_alone_are_given_at_a_nominal_weight():
    same, other = Choice((Mixup(2.0), CutMix(2.0)), (0.5, 0.5)), Choice((Mixup(2.0), CutMix(1.0)), (0.5, 0.5))
    assert same.masks(np.array([0.5]), SHAPE, rng=np.random.default_rng(0)).mask.shape == (1, *SHAPE)
    with pytest.raises(ValueError, match=r"expected members of one alpha for given nominal weights, got \[1.0, 2.0\]"):
        other.masks(np.array([0.5]), SHAPE, rng=np.random.default_rng(0))


@pytest.mark.parametrize("slack", [1e-9, -1e-9], ids=str)
def test_probabilities_of_a_choice_sum_to_one_but_for_rounding(slack):
    Choice((Mixup(), CutMix()), (0.5, 0.5 + slack / 2))
    with pytest.raises(ValueError, match="expected probabilities >= 0 that sum to 1, got"):
        Choice((Mixup(), CutMix()), (0.5, 0.5 + 2 * slack))


@pytest.mark.parametrize("name", ["masks", "label weights"])
@pytest.mark.parametrize("value", [-1e-11, 1 + 1e-11])
def test_masks_and_label_weights_leave_the_unit_interval_by_rounding_only(name, value):
    fields = {"masks": np.full((2, 1, 2), 0.5), "label weights": np.full(2, 0.5)}
    for inside in (0.0, 1.0, -1e-13, 1 + 1e-13):
        fields[name].flat[0] = inside
        MaskBatch(fields["masks"], fields["label weights"])
    fields[name].flat[0] = value
    with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 1\], got "):
        MaskBatch(fields["masks"], fields["label weights"])


def test_at_a_half_gmix_cuts_the_bump_out():
    """M = g if lam < 1/2, else 1 - g; the bump g is 1 at its centre, and nowhere 0."""
    below, at = (GMix().masks(np.array([lam]), SHAPE, rng=np.random.default_rng(0)).mask for lam in (0.5 - 1e-12, 0.5))
    assert below.max() == 1
    assert at.min() == 0
    np.testing.assert_allclose(at, 1 - below, atol=1e-9)


def test_a_box_law_needs_no_box_where_the_side_is_one_pixel():
    """Of half side 0 on one axis, and only there, nothing is covered, however large the other side."""
    for s in (CutMix(), CutMix(label="nominal"), HMix()):
        moments = s.moments((1, 6))
        np.testing.assert_allclose(moments.mean, np.full((1, 6), moments.mean[0, 0]), rtol=1e-14)
    np.testing.assert_array_equal(CutMix().moments((1, 6)).mean, np.zeros((1, 6)))


def test_up_to_144_pixels_every_direction_is_checked_and_above_only_some():
    """The stated limit of the check: what a direction that is not among the fixed ones hides is not found above it."""
    provenance = Provenance("closed form", 0.0, "test")
    for shape, seen in (((12, 12), True), ((5, 29), False)):
        d = shape[0] * shape[1]
        u = np.random.default_rng(9).normal(size=d)
        u /= np.linalg.norm(u)
        second = np.full((d, d), 0.25) + 0.05 * np.eye(d) - 0.0501 * np.outer(u, u)
        if seen:
            with pytest.raises(ValueError, match="must be positive semi-definite, got a direction"):
                Moments(np.full(shape, 0.5), Dense(second, shape), "exact", provenance)
        else:
            Moments(np.full(shape, 0.5), Dense(second, shape), "exact", provenance)


@pytest.mark.parametrize("shape", [5, 2.0, None, (), (3,), (3, 4, 5), (0, 3), (3, 0), (3, -1), (2.5, 3)], ids=str)
def test_an_image_size_is_two_positive_integers(shape):
    with (
        naive.as_users_run_it(),
        pytest.raises(ValueError, match=r"expected an image size \(height, width\) of positive integers"),
    ):
        check_shape(shape)


def test_an_image_of_one_pixel_has_moments():
    assert check_shape((1, 1)) == (1, 1)
    constant = Moments(np.full((1, 1), 0.5), Constant(0.25, (1, 1)), "exact", Provenance("closed form", 0.0, "test"))
    assert constant.second.shape == (1, 1)


@pytest.mark.parametrize("alpha", [2e3, 6e4, 1e5, 1e6, 1e7])
@pytest.mark.parametrize(
    "strategy", [Mixup(), HMix(), HMix(ratio=1.0), GMix(label="nominal")], ids=lambda s: s.name.replace("=", "-")
)
def test_atoms_hold_the_beta_law_at_large_alpha(strategy, alpha):
    """E[lam] = 1/2 and E[lam (1 - lam)] = alpha / (4 alpha + 2): where powers of lam underflow, nothing is made up.

    Found by looking into a mutant: at alpha = 1e5, intervals of HMix had equal weights at all their nodes.
    """
    atoms = replace(strategy, alpha=alpha).atoms((4, 4))
    assert atoms.tilt @ atoms.weight == pytest.approx(1, rel=1e-11)
    assert atoms.weight @ (atoms.lam * (1 - atoms.lam)) == pytest.approx(alpha / (4 * alpha + 2), rel=1e-11)


@pytest.mark.parametrize(
    "strategy",
    [CutMix(alpha=1e5), HMix(alpha=1e5), HMix(alpha=1e5, ratio=0.9), HMix(alpha=1e5, box="inside")],
    ids=lambda s: s.name,
)
@pytest.mark.parametrize("law", ["exact", "paper"])
def test_moments_at_large_alpha_are_those_of_the_atoms(strategy, law):
    """Intervals of lam without probability come first; those after them count."""
    q, p = strategy.atoms((4, 5)).partner(law)
    moments, flat = strategy.moments((4, 5), law=law), q.reshape(len(q), -1)
    np.testing.assert_allclose(moments.mean.ravel(), p @ flat, rtol=1e-9)
    np.testing.assert_allclose(moments.second.dense(), (flat.T * p) @ flat, rtol=1e-9)

"""The study of numerical errors: small, complete, and able to see a wrong approximation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import reference
import torch
from mask_cases import reference_moments

from experiments import (
    error_rows,
    graph_errors,
    mask_references,
    model_errors,
    moment_errors,
    numerical_errors,
    sampling_errors,
)
from experiments.error_rows import Case
from experiments.record import failed
from experiments.tables_numerics import sentence, setting, share, table
from msda_theory.estimate import Estimate
from msda_theory.graph import views
from msda_theory.masks import gmix
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.orthants import Orthant
from reporting.sections.numerics import SECTION

ALPHAS, SHAPES = (0.2, 100.0), [(1, 3), (4, 5)]
SMALL = numerical_errors.Config(
    alphas=(1e-3, 3.0), heights=(1, 3), widths=(3, 3), large=0, nodes=5, length=8, repeats=20, draws=8
)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return numerical_errors.run(SMALL, folder=tmp_path_factory.mktemp("results"))


def test_every_row_holds_in_small(record):
    assert failed(record) == []
    rows = record["result"]["rows"]
    assert len({r["approximation"] for r in rows}) == len(rows) >= 20
    assert record["result"]["comparisons"] == sum(r["cases"] for r in rows) > 300
    assert all(math.isfinite(r["error"]) for r in rows)
    open_ones = [r["approximation"] for r in rows if not r["promised"]]
    assert len(open_ones) == 3
    assert "intervals that hold the truth (" in open_ones[0]
    assert "rare" in open_ones[1]
    assert "truncation at the step" in open_ones[2]


def test_the_table_and_the_section_show_every_row(record):
    text, records = table(record), {"numerical_errors": record}
    rows = record["result"]["rows"]
    assert len(text.splitlines()) == len(rows) + 2
    bars = {line.replace("\\|", "").count("|") for line in text.splitlines()}
    assert bars == {8}
    assert f"{rows[0]['error']:.1e}" in text
    assert sentence(record) in setting(record)
    (shown,) = SECTION.tables(records)
    assert len(shown.frame) == len(rows)
    broken = {**rows[0], "holds": False, "strain": 3.0}
    assert share(broken) == "**3, does not hold**"


@pytest.mark.parametrize("law", ["exact", "paper"])
@pytest.mark.parametrize("strategy", [CutMix(0.2), HMix(3.0, 0.3), GMix(1.0)], ids=lambda s: s.name)
def test_references_agree_with_those_of_the_tests(strategy, law):
    shape = (3, 4)
    pixels = np.stack(np.unravel_index(np.arange(12), shape), axis=1)
    truth = {
        CutMix: lambda: mask_references.cutmix(
            strategy.alpha, law, "pixels", mask_references.boxes(shape, pixels, 1.0, "clipped", 0)
        ),
        HMix: lambda: mask_references.hmix(
            strategy.alpha, law, mask_references.boxes(shape, pixels, 0.3, "clipped", 1)
        ),
        GMix: lambda: mask_references.gmix(strategy.alpha, law, "pixels", mask_references.bumps(shape, pixels)),
    }[type(strategy)]()
    mean, second = reference_moments(strategy, shape, law)
    np.testing.assert_allclose(truth.mean.astype(float), mean.ravel(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(truth.second.astype(float), second, rtol=0, atol=1e-13)


def test_integrals_of_powers_and_of_gaussians():
    found = [float(v) for v in mask_references.below(2.0, Fraction(1, 2), 2)]
    assert found[0] == 0.5  # density 6 x (1 - x)
    assert found[1] == pytest.approx(6 * (1 / 24 - 1 / 64), rel=1e-15)
    assert found[2] == pytest.approx(6 * (1 / 64 - 1 / 160), rel=1e-15)
    r = np.array([0.9, 0.0, -0.5])
    lam, weight = reference.beta_rule(0.7, 0.7, [])
    t = np.sqrt(2) * reference.special.erfinv(2 * lam - 1)
    expected = [weight @ reference.both_below(t, float(v)) for v in r]
    np.testing.assert_allclose(mask_references.orthant(0.7, 1 - r).astype(float), expected, rtol=0, atol=1e-13)


def test_the_stated_error_of_the_curve_bounds_it_at_every_alpha():
    """It was the error at r = 1 alone, 3 % below the largest one at alpha = 1."""
    deficits = np.array(moment_errors.DEFICITS)
    for alpha in (0.2, 1.0, 100.0):
        curve = Orthant.of(alpha)
        error = np.abs(curve.near_one(deficits) - mask_references.orthant(alpha, deficits)).max()
        assert 0 < error <= curve.error < 1e-14


@pytest.mark.parametrize(
    "strategy",
    [CutMix(0.01, "periodic", "nominal"), HMix(100.0, 1.0, "periodic"), HMix(1e-3, 1.0, "inside")],
    ids=lambda s: f"{s.name}",
)
def test_the_stated_error_of_boxes_bounds_their_rounding(strategy):
    """It was 1e-15 at every size; sums over 32 positions and 16 sizes are wrong by up to 2.5e-15."""
    shape = (32, 32)
    pixels = mask_references.pixels_of(shape)
    cut = isinstance(strategy, CutMix)
    averages = mask_references.boxes(shape, pixels, 1.0, strategy.box, 0 if cut else 1)
    truth = (
        mask_references.cutmix(strategy.alpha, "exact", strategy.label, averages)
        if cut
        else mask_references.hmix(strategy.alpha, "exact", averages)
    )
    found = strategy.moments(shape)
    error = moment_errors.difference(found, truth, pixels)
    assert error <= found.provenance.error < 1e-14
    assert error > 1e-15 or strategy.box != "periodic"


def test_the_stated_error_of_dropmix_bounds_its_rounding():
    """It was 1e-16, less than the rounding of a product of three numbers."""
    cases = list(moment_errors._dropmix([(1, 3), (5, 1)]))
    assert max(c.error for c in cases) > 1e-16
    assert all(c.error <= c.bound for c in cases)


def test_the_stated_error_of_fields_counts_the_label_weight():
    """With the label weight from the pixels S enters an a_jk three times; it was stated as if once."""
    cases = list(moment_errors._fields((100.0,), [(1, 3)]))
    assert max(c.error for c in cases) > Orthant.of(100.0).error
    assert all(c.error <= c.bound for c in cases)


def test_a_rule_of_too_few_nodes_is_seen(monkeypatch):
    right = gmix._nodes
    monkeypatch.setattr(gmix, "_nodes", lambda alpha, shape, order: right(alpha, shape, 2))
    cases = list(moment_errors._gmix(ALPHAS, SHAPES, 0))
    assert not all(c.error <= c.bound for c in cases)


def test_a_wrong_law_is_seen():
    pixels = mask_references.pixels_of((4, 5))
    truth = mask_references.cutmix(1.0, "exact", "pixels", mask_references.boxes((4, 5), pixels, 1.0, "clipped", 0))
    assert moment_errors.difference(CutMix().moments((4, 5)), truth, pixels) < 1e-15
    assert moment_errors.difference(CutMix(alpha=1.001).moments((4, 5)), truth, pixels) > 1e-6


def test_a_series_cut_too_early_is_seen(monkeypatch):
    right = views.ppr_coefficients
    monkeypatch.setattr(views, "ppr_coefficients", lambda teleport, tail: right(teleport, 100 * tail))
    known = {g: graph_errors.Spectrum.of(g) for g in graph_errors.graphs(0, 5)}
    assert not all(c.error <= c.bound for c in graph_errors._series(known))


def test_standard_errors_that_are_too_small_are_seen():
    def sampler(factor):
        def draw(rng):
            values = rng.standard_normal(50)
            return Estimate(float(values.mean()), factor * float(values.std(ddof=1)) / math.sqrt(50), 50)

        return draw

    for factor, right in ((1.0, True), (0.6, False), (1.6, False)):
        cases = sampling_errors.coverage("normal", sampler(factor), 0.0, 400, 0)
        assert all(c.error <= c.bound for c in cases if c.bound is not None) is right


def test_skewed_draws_cost_intervals_what_theory_says():
    """Means of 50 exponential variables: skewness 2 and excess kurtosis 6 of one, known to all digits."""
    rng, n = np.random.default_rng(3), 50
    values = rng.exponential(size=(40_000, n))
    mean, se = values.mean(axis=1), values.std(axis=1, ddof=1) / math.sqrt(n)
    z = sampling_errors.Z
    known = 2 * 0.058445 * (4 / n * (z**5 + 2 * z**3 - 3 * z) / 18 - 6 / n * (z**3 - 3 * z) / 12 + (z**3 + z) / (4 * n))
    assert sampling_errors.shortfall(mean, n) == pytest.approx(known, abs=2e-3)
    share = (np.abs(mean - 1) <= z * se).mean()
    assert 0.95 - share == pytest.approx(known, abs=6e-3)  # order n^-2, and 1.3e-3 of noise
    assert 0.95 - share > 0.015
    assert sampling_errors.shortfall(rng.standard_normal(40_000), 10**9) == pytest.approx(0, abs=2e-3)
    assert sampling_errors.shortfall(np.ones(9), n) == 0


def test_single_precision_is_told_from_double():
    for cases in (model_errors._sampled((1.0,), [(2, 2)], 0), model_errors._points((1.0,), 0)):
        assert 1e-9 < max(c.error for c in cases) < 1e-4
    model = sampling_errors.network((2, 2))
    assert next(model.parameters()).dtype == torch.float64


def test_terms_that_are_all_zero_are_compared_as_they_are():
    """Boxes are empty in one row: 0 over 0 was not a number."""
    cases = list(model_errors._sampled((0.2,), [(1, 3)], 0))
    assert all(c.error < 1e-4 for c in cases)
    base = np.array([1.0, 0.0, 0.0, 0.0])
    assert model_errors._difference(base + 1e-3 * np.eye(4)[2], base) == pytest.approx(1e-3)


def test_moments_of_another_law_are_seen_in_eigenvalues(monkeypatch):
    right = model_errors._truths
    assert all(c.error <= c.bound for f in (model_errors._dimension, model_errors._optimum) for c in f((0.7,), 0))
    monkeypatch.setattr(
        model_errors,
        "_truths",
        lambda alphas: (
            (s, t) for (s, _), (_, t) in zip(right(alphas), right([1.001 * a for a in alphas]), strict=True)
        ),
    )
    for found in (model_errors._dimension, model_errors._optimum):
        cases = list(found((0.7,), 0))
        # Mixup's optimum does not depend on alpha: 1 - qbar = T
        assert all(c.error > c.bound for c in cases if "spread 1," in c.place and "mixup" not in c.place)


def test_eigenvalues_are_cut_in_some_cases():
    places = [c.place for c in model_errors._dimension((0.7,), 0)]
    assert any("9 of 9 kept" in p for p in places)
    assert any("5 of 9 kept" in p for p in places)


def test_images_mixed_in_too_few_digits_are_seen(monkeypatch):
    right = model_errors.mix_images
    assert all(c.error <= c.bound for c in model_errors._mixed([(3, 4)], (0.7,), 0))
    monkeypatch.setattr(
        model_errors, "mix_images", lambda x, partner, draws: right(x.to(torch.bfloat16), partner, draws).to(x.dtype)
    )
    assert any(c.error > c.bound for c in model_errors._mixed([(3, 4)], (0.7,), 0) if "float32" in c.place)


def test_laws_that_rarely_mix_are_told_from_others():
    events = {name: n for name, _, _, n in sampling_errors._samplers((1e-3, 1.0), 32, 0)}
    assert events["mixed loss, hmix(alpha=0.001)"] < 1
    assert all(n > sampling_errors.EVENTS for name, n in events.items() if "alpha=0.001" not in name)


def test_rows_name_the_worst_case_and_the_tightest():
    options = dict.fromkeys(("reference", "covered", "measure", "promise"), "")
    found = error_rows.row("x", cases=[Case(1.0, 4.0, "large"), Case(0.5, 1.0, "tight")], **options)
    assert (found["place"], found["strain_place"], found["strain"], found["holds"]) == ("large", "tight", 0.5, True)
    for bad in (Case(2.0, 1.0, "bad"), Case(math.nan, 1.0, "bad"), Case(math.inf, None, "bad"), Case(1e-9, 0.0, "bad")):
        assert not error_rows.row("x", cases=[Case(1.0, 4.0, "large"), bad], **options)["holds"]


def test_heights_and_widths_come_in_pairs():
    with pytest.raises(ValueError, match="expected a width for each height"):
        numerical_errors.Config(heights=(1, 2), widths=(1,))

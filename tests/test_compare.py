"""Tables of predicted against measured mixed loss: columns, identities between them, errors of the shares."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from msda_theory.compare import compare
from msda_theory.data import ImageData
from msda_theory.expansion import expand
from msda_theory.losses import Squared
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla
from msda_theory.mixed_loss import mixed_loss
from msda_theory.pairs import draw_tiles

FIRST = ["model", "strategy", "law", "at", "base", "r1", "r2", "r3", "predicted", "measured", "se"]
FIRST += ["explained", "explained_gn"]
LAWS, POINTS = ("exact", "paper"), ("data", "mean", "mask")
SHAPE, M = (3, 4), 5
STRATEGIES = [Mixup(), CutMix(), HMix(), GMix(), Choice()]


def problem(activation: type[nn.Module] = nn.Softplus, seed: int = 0, m: int = M):
    """A network that is right about its images, so that mixing raises the loss clearly."""
    x, _ = naive.images(m, 2, SHAPE, 3, seed=7)
    model = naive.network(2, SHAPE, 3, activation=activation, seed=seed, gain=3.0)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    return model, ImageData(x, y, 3)


def table(strategies=None, *, seed: int = 0, draws: int = 20, models=None, **options):
    model, data = problem()
    models = {"net": model} if models is None else models
    strategies = [CutMix()] if strategies is None else strategies
    return compare(models, data, strategies, draws=draws, rng=np.random.default_rng(seed), **options)


# --- the frame ------------------------------------------------------------------------------------------------------


def test_columns_and_rows():
    model, data = problem()
    models = {"a": model, "b": problem(nn.Tanh)[0]}
    c = compare(models, data, STRATEGIES, law=LAWS, at=POINTS, draws=2, rng=np.random.default_rng(0))
    frame = c.frame()
    assert frame.columns.tolist()[:13] == FIRST
    assert not frame.columns.duplicated().any()
    assert len(frame) == len(c.rows) == 2 * len(STRATEGIES) * 2 * 3
    keys = list(zip(frame["model"], frame["strategy"], frame["law"], frame["at"], strict=True))
    expected = [(k, s.name, law, at) for k in models for s in STRATEGIES for law in LAWS for at in POINTS]
    assert keys == expected
    assert (frame["n"] == 2 * M).all()
    assert set(frame["method"]) == {"sampled"}
    assert np.isfinite(frame.select_dtypes("number").to_numpy()).all()


def test_one_law_or_point_may_be_a_string():
    frame = table(law="paper", at="mask").frame()
    assert frame[["law", "at"]].to_numpy().tolist() == [["paper", "mask"]]


def test_columns_are_those_of_the_rows():
    c = table(STRATEGIES, at=POINTS)
    frame = c.frame()
    for row, line in zip(c.rows, frame.to_dict("records"), strict=True):
        for term in ("base", "r1", "r2", "r3", "predicted", "measured", "gap", "clean", "explained", "explained_gn"):
            assert line[term] == getattr(row, term).mean
        for term in ("base", "r1", "r2", "r3", "predicted", "gap", "explained", "explained_gn"):
            assert line[f"{term}_se"] == getattr(row, term).se
        assert line["se"] == row.measured.se
        assert line["n"] == row.measured.n


@pytest.mark.parametrize("method", ["sampled", "dense"])
def test_identities_between_columns(method):
    frame = table([CutMix(), Mixup()], law=LAWS, at=POINTS, method=method, draws=4).frame()
    rise = frame["measured"] - frame["clean"]
    predicted = frame["base"] + frame["r1"] + frame["r2"] + frame["r3"]
    np.testing.assert_allclose(frame["predicted"], predicted, rtol=1e-12)
    np.testing.assert_allclose(frame["explained"], (frame["predicted"] - frame["clean"]) / rise, rtol=1e-10)
    np.testing.assert_allclose(
        frame["explained_gn"], (frame["predicted"] - frame["r3"] - frame["clean"]) / rise, rtol=1e-10
    )
    assert (frame["se"] > 0).all()
    assert (frame["clean"] == frame["clean"].iloc[0]).all()
    assert (frame["r3"].abs() > 1e-6).all()


@pytest.mark.parametrize("activation", [nn.Softplus, nn.Tanh], ids=["softplus", "tanh"])
@pytest.mark.parametrize(("m", "batch_size"), [(2, 512), (5, 1), (7, 3), (9, 512)])
@pytest.mark.parametrize("method", ["sampled", "dense"])
def test_vanilla_has_no_share(activation, m, batch_size, method):
    """Nothing rises: the share is undefined, whatever rounding does to two equal sums."""
    model, data = problem(activation, m=m)
    c = compare(
        {"net": model},
        data,
        [Vanilla()],
        at=POINTS,
        method=method,
        draws=11,
        rng=np.random.default_rng(0),
        batch_size=batch_size,
    )
    frame = c.frame()
    assert frame["explained"].isna().all()
    assert frame["explained_gn"].isna().all()
    assert all(row.explained is None for row in c.rows)
    np.testing.assert_allclose(frame["gap"], 0.0, rtol=0, atol=1e-14)


# --- against the other functions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("method", ["sampled", "dense"])
def test_measured_is_mixed_loss_with_an_equal_generator(law, method):
    """Whatever the law of the terms: the measured loss is under the exact law."""
    model, data = problem()
    for row in table([CutMix(), HMix(), Choice()], law=law, method=method, seed=3).rows:
        strategy = {s.name: s for s in STRATEGIES}[row.strategy]
        expected = mixed_loss(model, data, strategy, draws=20, rng=np.random.default_rng(3))
        assert row.measured.mean == pytest.approx(expected.mean, rel=1e-13)
        assert row.measured.se == pytest.approx(expected.se, rel=1e-10)
        assert row.measured.n == expected.n


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("at", POINTS)
def test_sampled_terms_are_those_of_expand_with_an_equal_generator(law, at):
    model, data = problem()
    (row,) = table(law=law, at=at, seed=3).rows
    e = expand(model, data, CutMix(), law=law, at=at, draws=20, rng=np.random.default_rng(3))
    for term in ("base", "r1", "r2", "r3", "clean"):
        assert getattr(row, term).mean == pytest.approx(getattr(e, term).mean, rel=1e-12)
        assert getattr(row, term).se == pytest.approx(getattr(e, term).se, rel=1e-10, abs=1e-18)
    assert row.predicted.mean == pytest.approx(e.total.mean, rel=1e-12)
    assert row.predicted.se == pytest.approx(e.total.se, rel=1e-10)


@pytest.mark.parametrize("law", LAWS)
def test_dense_terms_are_those_of_expand(law):
    model, data = problem()
    for row in table([CutMix(), Mixup()], law=law, at=POINTS, method="dense").rows:
        strategy = {s.name: s for s in STRATEGIES}[row.strategy]
        e = expand(model, data, strategy, law=law, at=row.at, method="dense")
        for term in ("base", "r1", "r2", "r3", "clean"):
            assert getattr(row, term).mean == pytest.approx(getattr(e, term).mean, rel=1e-12, abs=1e-15)
            assert getattr(row, term).se == 0
        assert row.predicted.mean == pytest.approx(e.total.mean, rel=1e-12)
        assert row.predicted.se == 0
        assert row.gap.mean == pytest.approx(row.measured.mean - e.total.mean, rel=1e-10)
        assert row.gap.se == pytest.approx(row.measured.se, rel=1e-12)
        assert row.method == "dense"


def test_the_paper_row_of_cutmix_compares_with_the_exact_law():
    """Two laws in the terms, one measured loss: what training minimises."""
    exact, paper = table(law=LAWS, draws=1000).rows
    assert paper.measured == exact.measured
    assert paper.r2.mean != exact.r2.mean
    model, data = problem()
    atoms = CutMix().atoms(SHAPE)
    truth = naive.mix_directly(
        model, naive.softmax_loss, data.x, naive.one_hot(data.y, 3), atoms.mask, atoms.lam, atoms.weight
    )
    naive.assert_estimates(paper.measured.mean, paper.measured.se, truth)
    # Evil twin: the mixed loss under the paper's law is another number.
    law = naive.paper_law(atoms.mask, atoms.tilt / 2, atoms.weight)
    other = naive.mix_one_sided(model, naive.softmax_loss, data.x, naive.one_hot(data.y, 3), law)
    with pytest.raises(AssertionError, match=r"\|z\|"):
        naive.assert_estimates(paper.measured.mean, paper.measured.se, other)


def test_another_loss_is_used_throughout():
    model, data = problem()
    (row,) = table(loss=Squared(), seed=1).rows
    assert row.measured.mean == pytest.approx(
        mixed_loss(model, data, CutMix(), loss=Squared(), draws=20, rng=np.random.default_rng(1)).mean, rel=1e-13
    )


# --- batches, seeds, pairing ----------------------------------------------------------------------------------------


def test_the_table_does_not_depend_on_the_batch_size():
    strategies = [CutMix(), HMix()]
    frames = [table(strategies, law=LAWS, at=POINTS, draws=9, batch_size=size).frame() for size in (1, 7, 512)]
    numbers = [f.select_dtypes("number") for f in frames]
    for other in numbers[1:]:
        np.testing.assert_allclose(other.to_numpy(), numbers[0].to_numpy(), rtol=1e-10, atol=1e-15)


def test_equal_seeds_give_equal_tables():
    one, same, other = (table(STRATEGIES, seed=s) for s in (5, 5, 6))
    assert one.rows == same.rows
    assert all(a.measured.mean != b.measured.mean for a, b in zip(one.rows, other.rows, strict=True))


def test_a_row_does_not_depend_on_the_other_cells():
    alone = table([HMix()], at="mask", seed=2).rows[0]
    among = [r for r in table(STRATEGIES, law=LAWS, at=POINTS, seed=2).rows if r.strategy == "hmix"]
    (same,) = [r for r in among if r.law == "exact" and r.at == "mask"]
    for term in ("base", "r2", "r3", "predicted", "measured", "gap", "explained", "explained_gn"):
        assert getattr(same, term).mean == pytest.approx(getattr(alone, term).mean, rel=1e-12)
        assert getattr(same, term).se == pytest.approx(getattr(alone, term).se, rel=1e-9)


def test_models_share_their_draws():
    model, _ = problem()
    one, two = table(models={"a": model, "b": model}, at="mask").rows
    assert (one.measured, one.r2, one.gap) == (two.measured, two.r2, two.gap)


def tiles(strategy, law="exact", seed=4, draws=19):
    return list(draw_tiles(problem()[1], strategy, law, draws, seed))


def test_strategies_and_laws_share_their_partners():
    reference = tiles(Mixup())
    assert sum(t.partner.size for t in reference) == 19 * M
    for strategy in (*STRATEGIES, Vanilla(), CutMix(alpha=0.3)):
        for law in LAWS:
            for one, two in zip(reference, tiles(strategy, law), strict=True):
                np.testing.assert_array_equal(one.partner, two.partner)
                assert one.start == two.start
    assert any((a.partner != b.partner).any() for a, b in zip(reference, tiles(Mixup(), seed=5), strict=True))


def test_strategies_share_the_numbers_behind_their_masks():
    """The same u and lam: Mixup's q and the taken share of every mask of mean lam are equal, draw by draw."""
    for law in LAWS:
        for other in (HMix(), HMix(ratio=1.0, box="periodic"), HMix(ratio=0.0)):
            for one, two in zip(tiles(Mixup(), law), tiles(other, law), strict=True):
                np.testing.assert_allclose(one.q.mean(axis=(2, 3)), two.q.mean(axis=(2, 3)), rtol=0, atol=1e-12)
    for one, two in zip(tiles(CutMix(), "paper"), tiles(CutMix(label="nominal"), "paper"), strict=True):
        np.testing.assert_array_equal(one.q, two.q)


def test_partners_and_masks_are_independent_of_each_other_and_uniform():
    """Partners are uniform over the data, the sample itself included: chi-square at 1e-6."""
    counts = np.zeros((M, M))
    for tile in tiles(Mixup(), draws=2000):
        for row, partners in enumerate(tile.partner):
            counts[tile.start + row] += np.bincount(partners, minlength=M)
    assert counts.sum() == 2000 * M
    for row in counts:
        assert stats.chisquare(row).pvalue > 1e-6 / M
    q = np.concatenate([t.q[:, :, 0, 0].ravel() for t in tiles(Mixup(), draws=2000)])
    partner = np.concatenate([t.partner.ravel() for t in tiles(Mixup(), draws=2000)])
    assert stats.spearmanr(q, partner).pvalue > 1e-6


# --- errors of the estimates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("at", POINTS)
def test_the_gap_is_measured_less_predicted_with_a_smaller_error(law, at):
    """Both estimate one number; their difference is judged by the larger error, which bounds it."""
    (row,) = table(law=law, at=at, draws=200).rows
    difference = row.measured.mean - row.predicted.mean
    apart = math.hypot(row.measured.se, row.predicted.se)
    assert row.gap.se < apart
    naive.assert_estimates(row.gap.mean, row.gap.se + apart, difference)
    if law == "exact":
        assert row.gap.se < 0.6 * row.measured.se
    model, data = problem()
    e = expand(model, data, CutMix(), law=law, at=at, method="dense")
    atoms = CutMix().atoms(SHAPE)
    truth = naive.mix_directly(
        model, naive.softmax_loss, data.x, naive.one_hot(data.y, 3), atoms.mask, atoms.lam, atoms.weight
    )
    naive.assert_estimates(row.gap.mean, row.gap.se, truth - e.total.mean)


@pytest.mark.parametrize("at", POINTS)
def test_errors_are_calibrated_over_independent_runs(at):
    """60 seeds: chi-square about the mean of the runs, 59 degrees of freedom, two-sided at 1e-6; fixed in advance."""
    rows = [table(at=at, seed=100 + s, draws=48).rows[0] for s in range(60)]
    low, high = stats.chi2.ppf(5e-7, 59), stats.chi2.isf(5e-7, 59)
    for term in ("explained", "explained_gn", "gap", "predicted", "measured", "r2", "r3"):
        estimates = [getattr(row, term) for row in rows]
        means, errors = np.array([e.mean for e in estimates]), np.array([e.se for e in estimates])
        assert (errors > 0).all()
        centre = (means / errors**2).sum() / (1 / errors**2).sum()
        chi2 = (((means - centre) / errors) ** 2).sum()
        assert low < chi2 < high, f"{term}: chi2 = {chi2:.1f}, allowed {low:.1f} .. {high:.1f}"
        # Evil twin: errors half or twice as large are rejected.
        assert not low < 4 * chi2 < high
        assert not low < chi2 / 4 < high


def test_the_share_is_consistent():
    """With many draws the share agrees with the one from exact numbers."""
    model, data = problem()
    (row,) = table(at="mask", draws=2000).rows
    e = expand(model, data, CutMix(), at="mask", method="dense")
    atoms = CutMix().atoms(SHAPE)
    truth = naive.mix_directly(
        model, naive.softmax_loss, data.x, naive.one_hot(data.y, 3), atoms.mask, atoms.lam, atoms.weight
    )
    rise = truth - e.clean.mean
    naive.assert_estimates(row.explained.mean, row.explained.se, (e.total.mean - e.clean.mean) / rise)
    naive.assert_estimates(row.explained_gn.mean, row.explained_gn.se, (e.gauss_newton.mean - e.clean.mean) / rise)
    # Evil twin: the share at another point.
    e = expand(model, data, CutMix(), at="mean", method="dense")
    with pytest.raises(AssertionError, match=r"\|z\|"):
        naive.assert_estimates(row.explained.mean, row.explained.se, (e.total.mean - e.clean.mean) / rise)


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "empty", [{"models": {}}, {"strategies": []}, {"law": ()}, {"at": ()}], ids=["models", "strategies", "law", "at"]
)
def test_an_empty_list_is_refused(empty):
    with pytest.raises(ValueError, match="expected at least one model, strategy, law and point, got an empty list"):
        table(**empty)


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"law": ("exact", "beta")}, r"expected law among \['exact', 'paper'\], got 'beta'"),
        ({"at": ("data", "centre")}, r"expected at among \['data', 'mean', 'mask'\], got 'centre'"),
        ({"method": "exact"}, r"expected method among \['sampled', 'dense'\], got 'exact'"),
        ({"draws": 1}, "a standard error needs draws >= 2 for each image, got 1"),
        ({"batch_size": 0}, "expected batch_size >= 1, got 0"),
    ],
    ids=["law", "at", "method", "draws", "batch_size"],
)
def test_wrong_options_are_refused(option, match):
    with pytest.raises(ValueError, match=match):
        table(**option)


def test_a_progress_bar_is_shown_on_request_only(capsys):
    table()
    assert capsys.readouterr() == ("", "")
    table(progress=True)
    assert "compare" in capsys.readouterr().err

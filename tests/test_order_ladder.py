"""The order ladder: enumeration of all pairs, identities that hold draw by draw, order of remainders, wrong laws."""

from __future__ import annotations

import math

import naive
import naive_rungs
import numpy as np
import pytest
import torch
from torch import nn

from msda_theory.compare import compare
from msda_theory.data import ImageData
from msda_theory.engines import Engines
from msda_theory.losses import SoftmaxCrossEntropy, Squared
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla
from msda_theory.mixed_loss import mixed_loss
from msda_theory.order_ladder import order_ladder
from msda_theory.pairs import Tile
from msda_theory.radii import order_radii
from msda_theory.rungs import PARTS, tile_rungs
from msda_theory.stand_ins import class_means, local_means

SHAPE, M = (3, 3), 4
POINTS = ("data", "mean", "mask", "class", "local")


class Squares(nn.Module):
    """Elementwise square: a two-layer network with it is quadratic."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z * z


def images(m: int = M) -> ImageData:
    x, y = naive.images(m, 2, SHAPE, 3, seed=7)
    return ImageData(x, y, 3)


def net(activation: type[nn.Module] = nn.Softplus) -> nn.Module:
    return naive.network(2, SHAPE, 3, activation=activation, gain=3.0)


def ladder(model=None, data=None, strategies=None, *, seed=0, draws=6, **options):
    model, data = net() if model is None else model, images() if data is None else data
    strategies = [CutMix()] if strategies is None else strategies
    return order_ladder(model, data, strategies, draws=draws, rng=np.random.default_rng(seed), **options)


def values(table) -> dict[tuple[str, str, str, str], float]:
    return {(r.strategy, r.law, r.at, r.rung): r.value.mean for r in table.rows}


# --- against loops --------------------------------------------------------------------------------------------------


def every_pair(masks: list[np.ndarray], m: int) -> Tile:
    """All masks with all partners, as the draws of every image; equal weights make the mean an enumeration."""
    q = np.repeat(np.stack(masks), m, axis=0)
    partner = np.tile(np.arange(m), len(masks))
    return Tile(0, np.stack([q] * m), np.stack([partner] * m), m)


@pytest.mark.parametrize("loss", ["softmax", "squared"])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU], ids=["tanh", "relu"])
@pytest.mark.parametrize("at", POINTS)
def test_every_pair_against_loops(at, activation, loss):
    data, model = images(), net(activation)
    masks = [np.random.default_rng(k).random(SHAPE) for k in range(2)] + [np.eye(*SHAPE)]
    law = [(q, 1 / 3) for q in masks]
    own, sample = {
        "softmax": (SoftmaxCrossEntropy(), naive.softmax_loss),
        "squared": (Squared(), naive.squared_loss),
    }[loss]
    stand_in = {"class": class_means(data), "local": local_means(data, 0.7)}.get(at)
    kind = at if stand_in is None else "mask"
    expected = naive_rungs.enumerated(model, sample, data.x, naive.one_hot(data.y, 3), law, kind, stand_in)
    qbar = torch.from_numpy(sum(q for q in masks) / 3)
    tile = every_pair(masks, M)
    for quadratic in (True, False):
        got = tile_rungs(Engines(model, data.x), data, own, tile, kind, qbar, stand_in=stand_in, quadratic=quadratic)
        assert list(got) == list(PARTS[: 6 if quadratic or kind == "mask" else 5])
        for name, v in got.items():
            mean = float((v @ np.array(tile.sizes)).mean() / sum(tile.sizes))
            assert mean == pytest.approx(expected[name], rel=1e-10, abs=1e-12), (name, quadratic)


def test_the_sampled_ladder_finds_the_enumerated_one_and_no_other():
    data, model = images(), net()
    masks, labels, nominal, weights = naive.cutmix_atoms(SHAPE, 1.0)
    laws = {"exact": naive.one_sided(masks, labels, weights), "paper": naive.paper_law(masks, nominal, weights)}
    table, y = ladder(model, data, draws=4000, stand_ins={"class": class_means(data)}), naive.one_hot(data.y, 3)
    for at in ("data", "mean", "mask", "class"):
        rungs = {}
        for law, own in laws.items():
            place = ("mask", class_means(data)) if at == "class" else (at, None)
            parts = naive_rungs.enumerated(model, naive.softmax_loss, data.x, y, own, *place)
            sums = np.cumsum([parts[p] for p in PARTS[:4]])
            rungs[law] = dict(zip(PARTS, [*sums, parts["linearised"], parts["quadratic"]], strict=True))
        for law, other in (("exact", "paper"), ("paper", "exact")):
            for rung, truth in rungs[law].items():
                found = table.row("cutmix", law=law, at=at, rung=rung).value
                if (rung, at) == ("base", "data") or (rung, at) == ("base", "mean"):
                    assert found.mean == pytest.approx(truth, rel=1e-10)  # nothing is sampled
                    continue
                naive.assert_estimates(found.mean, found.se, truth)
                if rung in ("r3", "quadratic"):  # evil twin, where the two laws are furthest apart
                    with pytest.raises(AssertionError, match=r"\|z\|"):
                        naive.assert_estimates(found.mean, found.se, rungs[other][rung])


def test_rungs_are_sums_of_the_terms_of_compare_on_the_same_draws():
    model, data = net(), images(12)
    strategies = [CutMix(), HMix(), Choice()]
    table = values(ladder(model, data, strategies, draws=20, seed=3))
    rows = compare(
        {"net": model}, data, strategies, law=("exact", "paper"), at=("data", "mean", "mask"), draws=20,
        rng=np.random.default_rng(3),
    ).rows  # fmt: skip
    for row in rows:
        rung = {name: table[row.strategy, row.law, row.at, name] for name in ("base", "r1", "r2", "r3")}
        assert rung["base"] == pytest.approx(row.base.mean, rel=1e-12)
        assert rung["r2"] - rung["r1"] == pytest.approx(row.r2.mean, rel=1e-9)
        assert rung["r3"] - rung["r2"] == pytest.approx(row.r3.mean, rel=1e-8)
        assert table[row.strategy, "exact", "all", "measured"] == pytest.approx(row.measured.mean, rel=1e-13)


def test_names_given_twice_and_radii_without_scales_are_refused():
    model, data = net(), images(6)
    for options in ({"laws": ("exact", "exact")}, {"ats": ("mask", "mask")}):
        with pytest.raises(ValueError, match="expected different laws and points"):
            ladder(model, data, draws=2, **options)
    for options in ({"scales": ()}, {"scale": 0.5}):
        with pytest.raises(ValueError, match="a radius is read from several scales t of the step"):
            order_radii(model, data, [CutMix()], rng=np.random.default_rng(0), draws=2, **options)


def test_measured_is_mixed_loss_with_an_equal_generator():
    model, data = net(), images(12)
    expected = mixed_loss(model, data, GMix(), draws=9, rng=np.random.default_rng(4))
    row = ladder(model, data, [GMix()], draws=9, seed=4, laws=("paper",), ats=("mask",), stand_ins={})
    found = row.joints["gmix"]["exact.measured"]
    assert found.mean == pytest.approx(expected.mean, rel=1e-13)
    assert found.se == pytest.approx(expected.se, rel=1e-9)


# --- identities that hold draw by draw ------------------------------------------------------------------------------


def assert_equal_rungs(table, *rungs: str, at: tuple[str, ...] = POINTS) -> None:
    found = values(table)
    for strategy, law, point in {k[:3] for k in found if k[2] in at}:
        ends = [found[strategy, law, "all" if r == "measured" else point, r] for r in rungs]
        assert ends == pytest.approx([ends[0]] * len(ends), rel=1e-12), (strategy, law, point)


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_an_affine_network_is_its_linearisation(scale):
    table = ladder(naive.linear(2, SHAPE, 3), strategies=[CutMix(), Mixup()], scale=scale)
    assert_equal_rungs(table, "linearised", "quadratic", "measured")
    assert_equal_rungs(table, "r2", "r3")
    assert table.row("cutmix", at="data", rung="linearised").share.se < 1e-12  # paired


def test_the_squared_loss_has_no_higher_orders():
    assert_equal_rungs(ladder(loss=Squared(), strategies=[CutMix(), HMix()]), "r2", "linearised")


def test_a_quadratic_network_is_its_own_quadratic_approximation():
    assert_equal_rungs(ladder(net(Squares), strategies=[CutMix(), GMix()]), "quadratic", "measured")


def test_relu_networks_bend_nowhere():
    table = ladder(net(nn.ReLU), strategies=[CutMix(), GMix()])
    assert_equal_rungs(table, "r2", "r3")
    assert_equal_rungs(table, "linearised", "quadratic")


def test_the_partner_itself_leaves_nothing_to_expand():
    data = images()
    full = {"itself": data.x, "unblurred": local_means(data, 0.0)}
    assert_equal_rungs(ladder(data=data, stand_ins=full), "base", "r3", "quadratic", "measured", at=tuple(full))


def test_one_class_alone_says_nothing_about_the_partner():
    x, _ = naive.images(5, 2, SHAPE, 3, seed=9)
    data = ImageData(x, torch.full((5,), 1), 3)
    found = values(ladder(data=data, draws=5))
    pairs = [
        (found["cutmix", law, "mask", r], found["cutmix", law, "class", r]) for law in ("exact", "paper") for r in PARTS
    ]
    np.testing.assert_allclose(*np.array(pairs).T, rtol=1e-12)


def test_a_step_of_scale_t_scales_the_terms_at_the_data():
    whole, half = (values(ladder(scale=t)) for t in (1.0, 0.5))
    for law in ("exact", "paper"):
        ends = [[v["cutmix", law, "data", r] for r in ("base", "r1", "r2", "r3")] for v in (whole, half)]
        np.testing.assert_allclose(np.diff(ends[1]), np.diff(ends[0]) * [0.5, 0.25, 0.25], rtol=1e-10)


def test_without_the_quadratic_rung_the_others_stay():
    with_it, without = (ladder(quadratic=q, draws=40) for q in (True, False))
    a, b = values(with_it), values(without)
    assert set(a) - set(b) == {
        ("cutmix", law, at, "quadratic") for law in ("exact", "paper") for at in ("data", "mean")
    }
    np.testing.assert_allclose([a[k] for k in b], list(b.values()), rtol=1e-12)


def test_laws_that_agree_give_equal_rows_and_others_do_not():
    found = values(ladder(strategies=[Mixup(), HMix()], draws=8))
    for (strategy, law, at, rung), v in found.items():
        if law == "paper" and (at, rung) != ("data", "base"):
            same = v == pytest.approx(found[strategy, "exact", at, rung], rel=1e-9)
            assert same == (strategy == "mixup"), (strategy, at, rung)


def test_the_equal_law_is_what_computing_it_gives():
    """The shortcut for laws that agree against the paper's law alone, which has none."""
    both, alone = (
        values(ladder(strategies=[Mixup()], draws=8, laws=laws)) for laws in (("exact", "paper"), ("paper",))
    )
    for key, v in alone.items():
        assert v == pytest.approx(both[key], rel=1e-10)


# --- order of the remainder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["class", "local"])
def test_the_remainder_is_of_third_order_in_the_residue(start):
    """Stand-ins on the way from the partner to its class or local mean: the residue shrinks with t."""
    data = images(6)
    end = class_means(data) if start == "class" else local_means(data, 1.0)
    t = 2.0 ** -np.arange(4, 9)
    stand_ins = {f"{k}": data.x + float(s) * (end - data.x) for k, s in enumerate(t)}
    table = ladder(net(nn.Tanh), data, ats=(), stand_ins=stand_ins, laws=("exact",), draws=8)
    measured = table.row("cutmix").value.mean

    def slope(rung: str) -> float:
        errors = [abs(table.row("cutmix", at=k, rung=rung).value.mean - measured) for k in stand_ins]
        return float(np.polyfit(np.log(t), np.log(errors), 1)[0])

    assert slope("r3") > 2.7
    assert slope("quadratic") > 2.7
    assert 1.7 < slope("r2") < 2.3
    assert 1.7 < slope("linearised") < 2.3
    assert 0.7 < slope("base") < 1.3  # on given draws the first order does not average out


# --- rows, shares, parts --------------------------------------------------------------------------------------------


def test_the_frame_and_its_shares():
    table = ladder(strategies=[CutMix(), Mixup()], draws=9)
    frame = table.frame()
    assert frame.columns.tolist() == [
        *("strategy", "law", "at", "rung", "value", "se", "share", "share_se", "clean", "scale", "n")
    ]
    assert len(frame) == 2 * 2 * (5 * 6 + 1)
    assert (frame["n"] == 9 * M).all()
    rise = frame["strategy"].map({s: table.row(s).value.mean for s in ("cutmix", "mixup")}) - frame["clean"]
    np.testing.assert_allclose(frame["share"], (frame["value"] - frame["clean"]) / rise, atol=1e-12)
    assert (frame.query("law == 'exact' and rung == 'measured'")["share"] == 1).all()
    assert table.row("cutmix").share.se < 1e-14


def test_parts_of_the_rise_add_up_and_are_known_better_than_their_ends():
    table = ladder(data=images(30), draws=30)
    for law in ("exact", "paper"):
        steps = [("base", "r2"), ("r2", "linearised"), ("linearised", "measured")]
        parts = [table.part("cutmix", law=law, at="mask", lower=a, upper=b) for a, b in steps]
        total = table.row("cutmix", law=law, at="mask", rung="base").share.mean + sum(p.mean for p in parts)
        assert total == pytest.approx(table.row("cutmix", law=law).share.mean, rel=1e-10)
    ends = [table.row("cutmix", at="mask", rung=r).value.se for r in ("quadratic", "r3")]
    rise = table.row("cutmix").value.mean - table.clean.mean
    assert table.part("cutmix", at="mask", lower="r3", upper="quadratic").se < math.hypot(*ends) / rise / 2


def test_where_nothing_is_mixed_there_is_no_share():
    table = ladder(strategies=[Vanilla(), CutMix()])
    assert table.frame().query("strategy == 'vanilla'")["share"].isna().all()
    assert {r.share is None for r in table.rows if r.strategy == "vanilla"} == {True}
    with pytest.raises(ValueError, match="no share of the rise under vanilla, which does not change the loss"):
        table.part("vanilla", lower="base", upper="r1")


def test_draws_are_reproducible_and_batches_do_not_matter():
    a, b, c = (values(ladder(seed=1, batch_size=n, draws=5)) for n in (512, 512, 7))
    assert a == b
    np.testing.assert_allclose(list(a.values()), list(c.values()), rtol=1e-12)
    assert values(ladder(seed=2, draws=5)) != a


def test_traces_from_earlier_calls_change_nothing():
    model, data = net(), images()
    engines = Engines(model, data.x)
    first = values(ladder(model, data, engines=engines))
    assert values(ladder(model, data, engines=engines)) == first == values(ladder(model, data))


# --- refusals -------------------------------------------------------------------------------------------------------


def test_unknown_rungs_are_named():
    table = ladder(ats=("mask",), stand_ins={})
    for options in ({"at": "data", "rung": "r2"}, {"law": "own"}):
        with pytest.raises(KeyError, match="frame\\(\\) lists what there is"):
            table.row("cutmix", **options)
    with pytest.raises(KeyError, match="no rung 'r4' of 'cutmix'"):
        table.part("cutmix", at="mask", lower="base", upper="r4")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"strategies": []}, ValueError, "expected at least one strategy, law and point"),
        ({"laws": ()}, ValueError, "expected at least one strategy, law and point"),
        ({"ats": (), "stand_ins": {}}, ValueError, "expected at least one strategy, law and point"),
        ({"laws": "exact"}, TypeError, "expected several laws and points, got 'exact'"),
        ({"strategies": [CutMix(), CutMix()]}, ValueError, "expected strategies with different names"),
        ({"laws": ("own",)}, ValueError, "expected law among"),
        ({"ats": ("median",)}, ValueError, "expected at among"),
        ({"scale": 0.0}, ValueError, r"expected a scale in \(0, 1\]"),
        ({"draws": 1}, ValueError, "a standard error needs draws >= 2"),
        ({"stand_ins": {"mask": torch.zeros(M, 2, *SHAPE).double()}}, ValueError, "expected a name of its own for a"),
        ({"stand_ins": {"a": torch.zeros(M, 2, *SHAPE)}}, ValueError, r"expected stand-ins \[4, 2, 3, 3\] of .*64"),
        ({"stand_ins": {"a": torch.zeros(1).double()}}, ValueError, "one for each image, got"),
        ({"stand_ins": {"a": [1]}}, ValueError, "one for each image, got list as 'a'"),
        (
            {"stand_ins": {"a": torch.full((M, 2, *SHAPE), math.nan).double()}},
            ValueError,
            "expected finite stand-ins, got NaN or infinity in 'a'",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(options, error, match):
    with naive.as_users_run_it(), pytest.raises(error, match=match):
        ladder(**options)


def test_a_single_strategy_is_asked_for_as_a_list():
    with (
        naive.as_users_run_it(),
        pytest.raises(TypeError, match="expected a list of strategies, got one alone, cutmix"),
    ):
        order_ladder(net(), images(), CutMix(), rng=np.random.default_rng(0))

"""Statistics of the accuracy study against hand-computed numbers and SciPy."""

from __future__ import annotations

import json
import math
import random

import pytest
from accuracy_runs import FOUR, NEW_AHEAD, VANILLA, by_strategy, make, noisy
from scipy import stats

from experiments.accuracy_stats import (
    ORDER,
    Interval,
    interval,
    place,
    ranks,
    reversals,
    rows,
    side,
    summary,
    throughput,
    verdict_c9,
)
from experiments.record import write_record
from msda_theory.masks.registry import strategies

T2 = 4.302652729696142  # 97.5 % quantile of Student's t, 2 degrees of freedom


def test_intervals_are_those_of_student():
    assert interval([]) == Interval(None, None, None, None, 0)
    assert interval([0.5]) == Interval(0.5, None, None, None, 1)
    assert interval([0.1, 0.1, 0.1]) == Interval(0.1, 0.0, 0.1, 0.1, 3)
    found = interval([1.0, 2.0, 6.0])  # mean 3, variance 7
    assert found == pytest.approx((3, math.sqrt(7 / 3), 3 - T2 * math.sqrt(7 / 3), 3 + T2 * math.sqrt(7 / 3), 3))
    expected = stats.ttest_1samp([1.0, 2.0, 6.0], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)


def test_sides_need_an_interval_of_some_width():
    def where(low, high):
        return side({"low": low, "high": high})

    assert [where(0.1, 0.2), where(-0.2, -0.1), where(-0.1, 0.2), where(0.0, 0.2)] == [
        "above", "below", "contains", "contains",
    ]  # fmt: skip
    assert where(None, None) is None
    assert where(0.1, 0.1) is None
    assert side(None) is None


def test_rows_by_hand():
    """Differences 20, 5, 20 of 1000: mean 0.015, standard error 0.005."""
    found = by_strategy(make({"mixup": (720, 715, 740), "vanilla": VANILLA}))
    assert list(found) == ["vanilla", "mixup"]
    vanilla, mixup = found.values()
    assert vanilla["accuracy"]["mean"] == pytest.approx(0.71)
    assert vanilla["accuracy"]["se"] == pytest.approx(0.01 / math.sqrt(3))
    assert vanilla["accuracy"]["high"] == pytest.approx(0.71 + T2 * 0.01 / math.sqrt(3))
    assert vanilla["se_test"] == pytest.approx(math.sqrt(0.71 * 0.29 / 1000))
    assert vanilla["train_accuracy"]["mean"] == pytest.approx(0.91)
    assert vanilla["gap"]["mean"] == pytest.approx(0.2)
    assert vanilla["minus_vanilla"] is None
    difference = mixup["minus_vanilla"]
    assert difference["values"] == [0.02, 0.005, 0.02]
    assert difference["seeds"] == [0, 1, 2]
    numbers = [difference[k] for k in ("mean", "se", "low", "high", "n")]
    assert numbers == pytest.approx([0.015, 0.005, 0.015 - T2 * 0.005, 0.015 + T2 * 0.005, 3])
    assert mixup["gap_minus_vanilla"]["mean"] == pytest.approx(-0.015)  # equal train accuracies
    assert mixup["best_earlier"] is None
    assert mixup["minus_best_earlier"] is None
    assert (mixup["epochs"], mixup["images"], mixup["test_images"]) == (30, 12_000, 1000)


def test_paired_intervals_are_those_of_scipy():
    runs = noisy(FOUR[:1], seeds=7)
    found = by_strategy(runs)
    values = {n: [r["test_accuracy"] for r in runs if r["strategy"] == n] for n in ORDER}
    for name in ORDER[1:]:
        test = stats.ttest_rel(values[name], values["vanilla"])
        d = found[name]["minus_vanilla"]
        assert (d["low"], d["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)), rel=1e-9)
        assert d["mean"] / d["se"] == pytest.approx(test.statistic)
    for name in ("hmix", "gmix"):
        best = max(("mixup", "cutmix", "choice"), key=lambda n: sum(values[n]))
        assert found[name]["best_earlier"] == best
        low, high = stats.ttest_rel(values[name], values[best]).confidence_interval(0.95)
        assert found[name]["minus_best_earlier"]["low"] == pytest.approx(low)
        assert found[name]["minus_best_earlier"]["high"] == pytest.approx(high)


def test_an_unpaired_interval_would_be_another():
    """Seeds differ more than strategies: the pairing is what tells them apart."""
    d = by_strategy(make({"vanilla": (600, 700, 800), "mixup": (611, 710, 812)}))["mixup"]["minus_vanilla"]
    assert side(d) == "above"
    unpaired = stats.ttest_ind([0.611, 0.71, 0.812], [0.6, 0.7, 0.8]).confidence_interval(0.95)
    assert unpaired.low < 0 < unpaired.high


def test_pairs_are_over_common_seeds_only():
    seeds = {"vanilla": (0, 1, 2, 9), "mixup": (2, 3, 1), "cutmix": (7,), "hmix": (0,)}
    counts = {"vanilla": (*VANILLA, 100), "mixup": (740, 900, 715), "cutmix": (730,), "hmix": (705,)}
    found = by_strategy(make(counts, seeds=seeds))
    assert found["mixup"]["minus_vanilla"]["seeds"] == [1, 2]
    assert found["mixup"]["minus_vanilla"]["values"] == [0.005, 0.02]
    assert found["mixup"]["seeds"] == [1, 2, 3]
    assert found["mixup"]["correct"] == [715, 740, 900]
    assert found["cutmix"]["minus_vanilla"] is None
    one = found["hmix"]["minus_vanilla"]
    assert (one["mean"], one["se"], one["low"], one["high"], one["n"]) == (0.005, None, None, None, 1)
    assert found["hmix"]["accuracy"] == interval([0.705])._asdict()
    assert (found["hmix"]["best_earlier"], found["hmix"]["minus_best_earlier"]) == ("mixup", None)
    assert ranks(list(found.values()))[0]["n"] == 0


def test_cells_without_vanilla_have_no_difference():
    found = rows([*make({"mixup": VANILLA}), *make({"vanilla": VANILLA}, data="fashion_mnist")])
    assert [r["minus_vanilla"] for r in found] == [None, None]
    assert [r["gap_minus_vanilla"] for r in found] == [None, None]


def test_the_order_of_the_runs_does_not_matter():
    runs = noisy(FOUR)
    shuffled = random.Random(0).sample(runs, len(runs))
    assert shuffled != runs
    assert rows(shuffled) == rows(runs)
    assert throughput(shuffled) == throughput(runs)
    assert rows(runs)[0]["data"] == "cifar10"
    backwards = rows(runs)[::-1]
    assert ranks(backwards) == ranks(rows(runs))
    assert reversals(backwards) == reversals(rows(runs))
    assert verdict_c9(backwards)["counts"] == verdict_c9(rows(runs))["counts"]


def test_the_order_of_strategies_is_that_of_the_package():
    assert list(ORDER) == strategies()
    texts = ["hmix(ratio=0.75)", "choice", "hmix(alpha=0.5)", "vanilla", "hmix"]
    assert sorted(texts, key=place) == ["vanilla", "hmix", "hmix(alpha=0.5)", "hmix(ratio=0.75)", "choice"]


def test_ranks_by_hand():
    counts = {"vanilla": (700, 720), "mixup": (720, 700), "cutmix": (800, 640), "hmix": (500, 700)}
    (cell,) = ranks(rows(make(counts)))
    assert [r["strategy"] for r in cell["ranks"]] == list(counts)
    assert [r["rank"] for r in cell["ranks"]] == [2.5, 2.5, 1, 4]  # 1420, 1420, 1440, 1200
    # By seed: 3, 2, 1, 4 and 1, 2.5, 4, 2.5
    assert [r["mean_rank"]["mean"] for r in cell["ranks"]] == [2, 2.25, 2.5, 3.25]
    assert cell["ranks"][0]["mean_rank"]["se"] == pytest.approx(1)
    assert (cell["best"], cell["second"], cell["n"], cell["friedman_p"]) == ("cutmix", "vanilla", 2, None)
    assert cell["lead"]["values"] == [0.1, -0.08]


def test_equal_means_tie_however_they_are_summed():
    counts = {"vanilla": (745, 726, 708), "mixup": (745, 708, 726), "cutmix": (726, 745, 708)}
    found = by_strategy(make(counts))
    assert len({r["accuracy"]["mean"] for r in found.values()}) > 1  # by rounding alone
    (cell,) = ranks(list(found.values()))
    assert [r["rank"] for r in cell["ranks"]] == [2, 2, 2]
    assert cell["best"] == "vanilla"
    found = by_strategy(make({"cutmix": counts["cutmix"], "mixup": counts["mixup"], "hmix": (1, 2, 3)}))
    assert found["hmix"]["best_earlier"] == "mixup"  # the first in order


def test_friedman_by_hand_and_where_it_is_none():
    """The same order in 3 seeds: chi-squared 6 with 2 degrees of freedom, p = exp(-3)."""
    counts = {"vanilla": (1, 2, 3), "mixup": (11, 12, 13), "cutmix": (21, 22, 23)}
    assert ranks(rows(make(counts)))[0]["friedman_p"] == pytest.approx(math.exp(-3))
    for fewer in ({k: v[:2] for k, v in counts.items()}, {k: counts[k] for k in ("vanilla", "mixup")}):
        assert ranks(rows(make(fewer)))[0]["friedman_p"] is None
    assert ranks(rows(make(dict.fromkeys(counts, (5, 6, 7)))))[0]["friedman_p"] is None
    (alone,) = ranks(rows(make({"mixup": (5, 6)})))
    assert (alone["best"], alone["second"], alone["lead"]) == ("mixup", None, None)


def test_reversals_need_intervals_on_both_sides():
    ahead, behind = (720, 731, 740), (690, 701, 710)
    runs = make({"mixup": VANILLA, "cutmix": ahead})
    away = make({"mixup": VANILLA, "cutmix": behind}, data="fashion_mnist")
    unclear = make({"mixup": VANILLA, "cutmix": (600, 701, 800)}, data="fashion_mnist")
    (found,) = reversals(rows(runs + away))["found"]
    assert (found["first"], found["second"]) == ("mixup", "cutmix")
    assert (found["above"], found["below"]) == ([("fashion_mnist", "resnet8")], [("cifar10", "resnet8")])
    assert reversals(rows(runs + unclear)) == {"pairs": 0, "found": []}
    assert reversals(rows(runs + make({"mixup": VANILLA, "cutmix": ahead}, model="vit"))) == {"pairs": 1, "found": []}


def test_the_verdict_on_c9_flips_with_the_numbers():
    told = verdict_c9(rows(make(NEW_AHEAD)))
    assert told["verdict"] == "holds"
    assert [(c["strategy"], c["best_earlier"], c["verdict"]) for c in told["cases"]] == [
        ("hmix", "cutmix", "holds"),
        ("gmix", "cutmix", "holds"),
    ]
    assert "above 0 in 2, below 0 in 0, undecided in 0 of 2 cases; holds." in told["sentence"]
    swapped = NEW_AHEAD | {"hmix": NEW_AHEAD["mixup"], "mixup": NEW_AHEAD["hmix"]}
    told = verdict_c9(rows(make(swapped)))
    assert told["counts"] == {"holds": 0, "fails": 2, "undecided": 0}
    assert told["verdict"] == "fails"
    mixed = verdict_c9(rows(make(NEW_AHEAD | {"hmix": (600, 720, 900), "gmix": (690, 701, 710)})))
    assert (mixed["verdict"], mixed["counts"]) == ("fails", {"holds": 0, "fails": 1, "undecided": 1})
    one = verdict_c9(rows(make(NEW_AHEAD | {"gmix": (600, 720, 900)})))
    assert (one["verdict"], one["counts"]) == ("undecided", {"holds": 1, "fails": 0, "undecided": 1})


@pytest.mark.parametrize(
    "counts",
    [
        {"cutmix": (700,), "hmix": (900,)},
        {"cutmix": (700, 710, 720), "hmix": (750, 760, 770)},
        {"vanilla": (1, 2, 3), "hmix": (700, 800, 901)},
        {},
    ],
    ids=["one-seed", "no-width", "nothing-earlier", "nothing"],
)
def test_the_verdict_on_c9_is_undecided_without_an_interval(counts):
    told = verdict_c9(rows(make(counts)))
    assert told["verdict"] == "undecided"
    assert told["sentence"].endswith("undecided.")


def test_throughput_is_paired_and_robust():
    runs = make({"vanilla": (1, 2, 3), "mixup": (1, 2, 3), "gmix": (1,)}) + make({"mixup": (1,)}, data="fashion_mnist")
    assert [(r["strategy"], r["median"], r["n"]) for r in throughput(runs)] == [("mixup", 0.96, 3), ("gmix", 0.95, 1)]


def test_wrong_runs_are_refused():
    runs = make({"vanilla": VANILLA, "mixup": VANILLA})
    with pytest.raises(ValueError, match="expected one run for data, model, strategy and seed, got two of"):
        rows([*runs, runs[-1]])
    for name in ("epochs", "images", "test_images"):
        with pytest.raises(ValueError, match=rf"expected one setting for all runs of .*'{name}': \["):
            rows([*runs[:-1], runs[-1] | {name: 7}])
    with pytest.raises(ValueError, match=r"expected the test accuracy of .* to be 720 / 1000, got 0\.7;"):
        rows([*runs[:-1], runs[-1] | {"test_accuracy": 0.7}])
    with pytest.raises(ValueError, match=r"expected runs of a strategy among .*, got 'cowmix\(p=1\)'"):
        rows(make({"cowmix(p=1)": VANILLA}))


def test_the_summary_survives_its_record(tmp_path):
    result = summary(make({"vanilla": (1,), "hmix(ratio=0.75)": (2,)}) + noisy(FOUR[1:]))
    write_record(tmp_path / "accuracy.json", {"config": {}, "result": result})
    back = json.loads((tmp_path / "accuracy.json").read_text(encoding="utf-8"))["result"]
    assert back == result
    assert rows(back["runs"]) == back["rows"]

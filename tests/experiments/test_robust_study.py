"""The studies of robustness, generalization and reliability: their statistics by hand, and small runs of them whole."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import (
    generalization,
    reliability,
    robust_accuracy,
    robust_ensemble,
    small_nets,
    tables_generalization,
    tables_robust,
)
from experiments.gap_orders import orders_of
from experiments.robust_measures import attacked, broken_at, counter_example, inner, rows
from experiments.robust_stats import (
    agreement,
    attack_table,
    bound_table,
    by_training,
    expectations,
    informative,
    masked,
    over_both,
    paired,
)
from experiments.small_nets import Net
from figures import generalization as gap_figure
from figures import reliability as reliability_figure
from figures import robust as robust_figure
from msda_theory.adversarial_bound import adversarial_bounds
from msda_theory.losses import Logistic, SoftmaxCrossEntropy
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.mixup import Mixup
from msda_theory.robustness import Robustness

STRATEGIES = ("vanilla", "mixup", "cutmix", "gmix")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def robust(folder):
    config = robust_accuracy.Config(
        strategies=STRATEGIES[:3],
        seeds=(0, 1),
        epochs=2,
        linf=(0.0, 0.05, 0.1),
        l2=(0.0, 0.5),
        images=24,
        steps=3,
        restarts=1,
        queries=5,
    )
    return config, robust_accuracy.run(config, folder=folder)


@pytest.fixture(scope="module")
def gaps(folder):
    config = generalization.Config(strategies=STRATEGIES, seeds=(0, 1), sizes=(0, 100), epochs=(2, 2), signs=50)
    return config, generalization.run(config, folder=folder)


@pytest.fixture(scope="module")
def damaged(folder):
    config = reliability.Config(
        strategies=STRATEGIES[:3],
        seeds=(0, 1),
        epochs=2,
        shares=(0.25,),
        grids=(2,),
        severities=(3,),
        resamples=20,
        min_accuracy=0.3,
    )
    return config, reliability.run(config, folder=folder)


# --- networks ---


def test_kinds_of_networks_are_what_they_are_called(folder):
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    linear, relu, conv = (
        small_nets.load_model(Net(k, "mixup", 0, epochs=1), folder) for k in ("linear", "relu", "conv")
    )
    assert linear(x).shape == relu(x).shape == (5, 1)
    assert conv(x).shape == (5, 10)
    torch.testing.assert_close(linear(0.3 * x) - linear(0 * x), 0.3 * (linear(x) - linear(0 * x)))
    torch.testing.assert_close(relu(3 * x), 3 * relu(x))
    assert (relu(x) - relu(-x)).abs().max() > 1e-3  # not linear


def test_two_outputs_under_the_softmax_are_one_logit_under_the_logistic_loss(folder):
    net = Net("linear", "mixup", 0, epochs=1)
    model = small_nets.load_model(net, folder)
    train, _ = small_nets.splits(net)
    y = torch.tensor([[0.7], [0.2], [1.0]], dtype=torch.float64)
    both = torch.cat([1 - y, y], dim=1)
    one = Logistic().value(model(train.x[:3]), y)
    torch.testing.assert_close(SoftmaxCrossEntropy().value(model.net(train.x[:3]), both), one)


def test_odd_digits_have_label_one_and_subsets_keep_the_test_images():
    ten, (train, test) = small_nets.splits(Net("conv", images=40)), small_nets.splits(Net("relu", images=40))
    torch.testing.assert_close(train.x, ten[0].x)
    assert train.y.tolist() == (ten[0].y % 2).tolist()
    assert len(train) == 40
    assert len(test) == 450
    assert float(train.x.min()) >= 0
    assert float(train.x.max()) <= 1


def test_equal_seeds_have_equal_bits_and_tampered_weights_are_refused(tmp_path):
    net = Net("linear", "cutmix", 3, epochs=1)
    first = small_nets.train_one(net, tmp_path / "a")["result"]["weights_sha256"]
    assert first == small_nets.train_one(net, tmp_path / "b")["result"]["weights_sha256"]
    other = Net("linear", "cutmix", 4, epochs=1)
    assert first != small_nets.train_one(other, tmp_path / "b")["result"]["weights_sha256"]
    path = tmp_path / "a" / "small_nets" / f"{net.name}.safetensors"
    path.write_bytes((tmp_path / "b" / "small_nets" / f"{other.name}.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"does not hold the weights of its record; delete both"):
        small_nets.load_model(net, tmp_path / "a")
    with pytest.raises(ValueError, match="expected a kind of network among"):
        Net("tree")


# --- statistics ---


def test_paired_differences_by_hand():
    first = np.array([[1, 1, 0, 1], [1, 0, 0, 1]], dtype=bool)
    second = np.array([[1, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)
    found = paired(first, second)
    assert found["mean"] == pytest.approx(0.375)  # seeds .5 and .25
    assert found["half_seeds"] == pytest.approx(12.7062 * 0.125, rel=1e-4)
    per_image = np.array([0, 0.5, 0, 1])
    assert found["half_images"] == pytest.approx(1.959964 * per_image.std(ddof=1) / 2, rel=1e-6)
    assert found["half"] == pytest.approx(math.hypot(found["half_seeds"], found["half_images"]))
    assert found["side"] == "?"
    sure = paired(np.ones((3, 50)), np.zeros((3, 50)))
    assert (sure["mean"], sure["half"], sure["side"]) == (1.0, 0.0, "above")
    assert paired(np.zeros((3, 50)), np.ones((3, 50)))["side"] == "below"
    assert over_both(first)["mean"] == pytest.approx(5 / 8)
    with pytest.raises(ValueError, match="paired differences need equal seeds and images"):
        paired(np.ones((5, 20)), np.zeros((1, 20)))


def test_results_are_paired_by_seed_whatever_their_order():
    results = [{"training": t, "seed": s} for t, s in (("mixup", 2), ("vanilla", 1), ("vanilla", 2), ("mixup", 1))]
    groups = by_training(results)
    assert list(groups) == ["mixup", "vanilla"]
    assert [[r["seed"] for r in own] for own in groups.values()] == [[1, 2], [1, 2]]


def _result(training, seed, pgd, square, p_free=(1.0, 1.0)):
    counts = {"only_free": [0, 1], "only_gradient": [0, 2], "p_free": list(p_free)}
    kinds = {"linf": {"broken_at": {"pgd": pgd, "square": square}, **counts}}
    return {"training": training, "seed": seed, "attacks": kinds}


def test_the_table_of_attacks_counts_images_and_takes_the_worst_case():
    results = [
        _result("vanilla", 1, [1, 1, 1, 1], [1, 1, 1, 1]),
        _result("vanilla", 0, [2, 1, 0, 2], [2, 2, 0, 1]),
        _result("mixup", 0, [2, 2, 1, 2], [2, 2, 2, 2]),
        _result("mixup", 1, [2, 2, 2, 2], [2, 2, 2, 0]),
    ]
    table = {(r["attack"], r["training"], r["eps"]): r for r in attack_table(results, {"linf": (0.0, 0.1)})}
    assert table["pgd", "vanilla", 0.0]["accuracy"]["mean"] == pytest.approx((3 / 4 + 1) / 2)
    assert table["worst", "vanilla", 0.1]["accuracy"]["mean"] == pytest.approx((1 / 4 + 0) / 2)  # images 1; none
    assert table["worst", "mixup", 0.1]["accuracy"]["mean"] == pytest.approx((3 / 4 + 3 / 4) / 2)
    assert table["worst", "mixup", 0.1]["difference"]["mean"] == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert table["worst", "vanilla", 0.1]["difference"] is None
    cells = informative(list(table.values()))
    assert [(c["training"], c["eps"]) for c in cells] == [("mixup", 0.1)]


def test_one_network_with_masked_gradients_shows_among_many():
    honest = [_result("vanilla", k, [2], [2], p_free=(1.0, 0.4)) for k in range(29)]
    assert not masked(honest)["found"]
    twin = masked([*honest, _result("vanilla", 29, [2], [1], p_free=(1.0, 1e-9))])
    assert twin["found"]
    assert twin["tests"] == 60
    assert twin["only_free"] == 30
    assert twin["smallest_p"] == pytest.approx(5e-10)


def _attack_row(training, side, accuracy, eps=0.5):
    difference = None if training == "vanilla" else {"mean": 0.1, "half": 0.01, "side": side}
    base = {"norm": "l2", "attack": "worst", "eps": eps, "training": training}
    return base | {"accuracy": {"mean": accuracy, "half": 0.01}, "difference": difference}


def _bound_row(training, tightness, kind="linear"):
    base = {"kind": kind, "training": training, "strategy": "mixup", "law": "exact", "centred": True}
    return base | {"tightness": {"mean": tightness, "half": 0.0}}


def test_expectations_turn_with_the_numbers():
    for near, far, better in itertools.product(("above", "below", "?"), ("above", "?"), (True, False)):
        attacks = [_attack_row("vanilla", None, 0.5), _attack_row("mixup", near, 0.6)]
        attacks += [_attack_row("vanilla", None, 0.2, eps=1.0), _attack_row("mixup", far, 0.3, eps=1.0)]
        bounds = [_bound_row("vanilla", 0.4), _bound_row("mixup", 0.5 if better else 0.3)]
        robust, strong, specific = expectations(attacks, bounds)
        assert robust["holds"] == (near == far == "above")
        assert strong["holds"] == (far == "above")
        assert specific["holds"] == better
    easy = [_attack_row("vanilla", None, 0.99), _attack_row("mixup", "above", 1.0)]
    assert not expectations(easy, [_bound_row("vanilla", 1)])[0]["holds"]


def test_agreement_of_tightness_and_robust_accuracy():
    names, accuracy = ("vanilla", "mixup", "cutmix"), (0.3, 0.5, 0.4)
    attacks = [_attack_row(n, "above", a) for n, a in zip(names, accuracy, strict=True)]
    bounds = [_bound_row(n, t, "conv") for n, t in zip(names, (0.1, 0.3, 0.2), strict=True)]
    assert [(r["tau"], r["n"]) for r in agreement(attacks, bounds)] == [(1.0, 3)]
    turned = [_bound_row(n, t, "conv") for n, t in zip(names, (0.1, 0.2, 0.3), strict=True)]
    assert agreement(attacks, turned)[0]["tau"] == pytest.approx(1 / 3)


def test_orders_of_bounds_and_gaps_by_hand():
    gaps = {"mixup": (0.30, 0.32, 0.31), "cutmix": (0.10, 0.11, 0.12), "gmix": (0.305, 0.30, 0.33)}
    place = {"kind": "conv", "images": 10}
    results = [place | {"training": n, "seed": k, "loss_gap": v} for n, own in gaps.items() for k, v in enumerate(own)]
    rows = [place | {"training": n, "gamma": None} for n in gaps]
    bounds = {"mixup": 3.0, "cutmix": 1.0, "gmix": 2.0}
    dimensions = [
        {"images": 10, "law": law, "strategy": n, "truncated_bound": b}
        for n, b in bounds.items()
        for law in ("exact", "paper")
    ]
    found = orders_of(tuple(gaps), results, rows, dimensions)
    assert len(found) == 2
    order = found[0]
    assert order["by_bound"] == ("cutmix", "gmix", "mixup")
    assert (order["pairs"], order["told"], order["concordant"]) == (3, 2, 2)
    assert order["tau_seeds"]["mean"] == pytest.approx((1 / 3 + 1 + 1 / 3) / 3, rel=1e-4)


def test_radii_withstood_are_counted():
    bits = np.array([[[1, 1, 0], [1, 0, 0]], [[1, 1, 0], [1, 1, 0]]], dtype=bool)
    result = Robustness(("pgd", "square"), "l2", (0.1, 0.2), np.array([True, True, False]), bits, "p")
    assert broken_at(result, "pgd") == [2, 1, 0]
    assert broken_at(result, "worst") == [2, 1, 0]


def test_the_counter_example_is_that_of_the_theory():
    theta = 0.3
    found = counter_example(theta)
    moments = Mixup().moments((1, 1))
    q, a, s = float(moments.mean[0, 0]), float(moments.second.dense()[0, 0]), 1 / (1 + math.exp(theta))
    expected = -2 * q * theta * (1 - s) + 0.5 * s * (1 - s) * theta**2 * (2 * a - q**2)
    assert found.gap == pytest.approx(expected, abs=1e-12)
    assert found.gap < 0
    assert not found.holds


def test_true_rises_of_linear_models_are_exact_and_those_of_attacks_below(folder):
    net = Net("linear", "cutmix", 0, epochs=1)
    model, (train, _) = small_nets.load_model(net, folder), small_nets.splits(net)
    bound = adversarial_bounds(model, train[:20], [CutMix()], loss=Logistic())[0]
    exact, lower = (inner(model, train[:20], bound, Logistic(), affine=a) for a in (True, False))
    assert exact["strategy"] == "cutmix"
    assert exact["second_order"] == lower["second_order"]
    assert lower["true"] <= exact["true"] * (1 + 1e-9)
    assert lower["true"] == pytest.approx(exact["true"], rel=1e-3)
    assert exact["true"] == pytest.approx(exact["second_order"], rel=0.2)
    assert rows([bound])[0]["gap"] == bound.gap


def test_attacks_leave_the_network_in_float64(folder):
    net = Net("conv", "mixup", 0, epochs=1)
    model, (_, test) = small_nets.load_model(net, folder), small_nets.splits(net)
    found = attacked(model, test[:6], {"l2": (0.0, 0.5)}, steps=2, restarts=1, queries=2, seed=0)
    again = attacked(model, test[:6], {"l2": (0.0, 0.5)}, steps=2, restarts=1, queries=2, seed=0)
    assert found == again
    assert next(model.parameters()).dtype == torch.float64
    clean = (model(test.x[:6]).argmax(dim=1) == test.y[:6]).tolist()
    assert [k > 0 for k in found["l2"]["broken_at"]["pgd"]] == clean


# --- whole studies, small ---


def test_the_study_of_robustness(robust, folder):
    config, record = robust
    assert robust_accuracy.run(config, folder=folder) == record
    result = record["result"]
    checks = {c["check"]: c["holds"] for c in result["checks"]}
    assert checks["the counter-example violates it"]
    proven = [r for r in result["bounds"] if r["centred"] and r["share"]["mean"] == 1]
    assert all(r["holds"] == r["seeds"] for r in proven)
    assert checks["the inequality holds wherever every image satisfies its assumption"] or not proven
    assert [e["key"] for e in result["expectations"]] == ["robust", "strong", "specific"]
    per_net = {"linf": 3 * 5 * 3, "l2": 2 * 5 * 3}  # radii, attacks and the worst, trainings
    assert len(result["attacks"]) == sum(per_net.values())
    assert len(result["bounds"]) == 3 * 3 * 2 * 2 * 2  # kinds, trainings, strategies, laws, centred or not
    own = [r for r in result["bounds"] if r["second_order_over_true"]]
    cells = {(r["kind"], r["training"], r["strategy"]) for r in own}
    pairs = [("vanilla", "mixup"), ("vanilla", "cutmix"), ("mixup", "mixup"), ("cutmix", "cutmix")]
    assert cells == {(kind, *pair) for kind in config.kinds for pair in pairs}
    worst = [r for r in result["attacks"] if (r["attack"], r["norm"], r["training"]) == ("worst", "linf", "mixup")]
    values = [r["accuracy"]["mean"] for r in worst]
    assert values == sorted(values, reverse=True)


def test_the_study_of_generalization(gaps, folder):
    config, record = gaps
    assert generalization.run(config, folder=folder) == record
    result = record["result"]
    assert all(c["holds"] for c in result["checks"])
    assert len(result["rows"]) == 2 * 2 * 4
    for row in result["rows"]:
        assert row["loss_gap"]["mean"] == pytest.approx(row["test_loss"]["mean"] - row["train_loss"]["mean"], abs=1e-4)
        assert (row["gamma"] is None) == (row["kind"] == "conv" or row["training"] == "vanilla")
    infinite = {d["strategy"] for d in result["dimensions"] if d["infinite"]}
    assert "vanilla" in infinite
    assert {d["images"] for d in result["dimensions"]} == {1347, 100}
    forms = [(o["kind"], o["law"], o["gamma"]) for o in result["orders"]]
    assert forms.count(("linear", "exact", "own")) == 2
    assert ("conv", "exact", "own") not in forms


def test_the_study_of_reliability(damaged, folder):
    config, record = damaged
    assert reliability.run(config, folder=folder) == record
    result = record["result"]
    for row in result["rows"]:
        assert sum(row["diagram"]["count"]) == 2 * 450
    clean = [r for r in result["stress"] if r["corruption"] == "clean"]
    assert [r["training"] for r in clean] == list(config.strategies)
    assert len(result["stress"]) == 3 * (1 + 1 + 1 + 7)


def test_one_process_and_two_give_the_same_record(tmp_path):
    options = {"strategies": ("vanilla", "mixup"), "seeds": (0,), "epochs": 1, "resamples": 20, "min_accuracy": 0.1}
    config = reliability.Config(**options, shares=(0.25,), grids=(), severities=())
    first, second = (reliability.run(config, jobs=k, folder=tmp_path / str(k)) for k in (1, 2))
    assert first["result"] == second["result"]


def test_tables_and_figures_of_small_studies(robust, gaps, damaged, folder, tmp_path):
    config = robust_ensemble.Config(
        strategies=("vanilla",), seeds=(0,), epochs=2, images=3, steps=2, restarts=1, queries=2, linf=0.3, l2=2.0
    )
    records = {"robust_accuracy": robust[1], "generalization": gaps[1], "reliability": damaged[1]}
    records["robust_ensemble"] = robust_ensemble.run(config, folder=folder)
    blocks = tables_robust.blocks(records) | tables_generalization.blocks(records)
    assert all(blocks.values())
    assert "Mixup" in blocks["robust-accuracies"]
    assert blocks["robust-accuracies"].count("\n\n") == 1  # a table for each norm
    assert blocks["dimensions"].count("infinite") >= 3
    line = next(s for s in blocks["gaps"].splitlines() if s.startswith("| convolutional | 100 | vanilla"))
    row = next(
        r for r in gaps[1]["result"]["rows"] if (r["kind"], r["images"], r["training"]) == ("conv", 100, "vanilla")
    )
    assert f"{100 * row['test_accuracy']['mean']:.1f} ±" in line
    cell = next(
        r for r in robust[1]["result"]["attacks"]
        if (r["attack"], r["norm"], r["training"], r["eps"]) == ("worst", "linf", "cutmix", 0.1)
    )["difference"]  # fmt: skip
    text = f"{100 * cell['mean']:+.1f} ± {100 * cell['half']:.1f}"
    shown = next(s for s in blocks["robust-accuracies"].splitlines() if s.startswith("| CutMix")).split(" | ")[-1]
    assert shown == (f"**{text}** |" if cell["side"] != "?" else f"{text} |")
    told = [c["difference"]["side"] for c in informative(robust[1]["result"]["attacks"])]
    assert f"more accurate than vanilla in {told.count('above')}, less in {told.count('below')}" in blocks["c3"]
    found = robust[1]["result"]["bounds"]
    holds, count = (sum(r[k] for r in found if r["centred"]) for k in ("holds", "seeds"))
    assert f"holds in {holds} of {count} cases" in blocks["c3"]
    for figure in (robust_figure, gap_figure, reliability_figure):
        for path in figure.draw(folder, tmp_path):
            assert path.stat().st_size > 5_000


def test_configurations_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="robustness is compared with vanilla training"):
        robust_accuracy.Config(strategies=("mixup",))
    with pytest.raises(ValueError, match="the networks that are attacked are of the kind conv"):
        robust_accuracy.Config(kinds=("linear",))
    with pytest.raises(ValueError, match="expected epochs for each size"):
        generalization.Config(sizes=(0,))
    for strategies in (("vanilla", "mixup"), ("vanilla", "cutmix", "hmix", "gmix")):
        with pytest.raises(ValueError, match="gaps are compared with vanilla training and ordered"):
            generalization.Config(strategies=strategies)
    with pytest.raises(ValueError, match="reliability is compared with vanilla training"):
        reliability.Config(strategies=("mixup",))


def test_bound_rows_are_means_over_seeds():
    def result(seed, gap, holds):
        numbers = {"clean": 1.0, "left": 2.0, "right": 1.5, "tightness": 0.5, "share": 1.0, "eps_mean": 0.1}
        row = {"strategy": "mixup", "law": "exact", "centred": True, "gap": gap, "holds": holds, "inhomogeneity": 0.0}
        rises = [{"strategy": "mixup", "second_order": 0.3, "true": 0.4}]
        return {"kind": "linear", "training": "mixup", "seed": seed, "bounds": [row | numbers], "inner": rises}

    (row,) = bound_table([result(0, 0.2, True), result(1, -0.4, False)])
    assert (row["seeds"], row["holds"], row["smallest_gap"]) == (2, 1, -0.4)
    assert row["gap"]["mean"] == pytest.approx(-0.1)
    assert row["second_order_over_true"]["mean"] == pytest.approx(0.75)

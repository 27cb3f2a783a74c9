"""Training on the expansion: pairing with `digit_nets`, measures against loops, a tiny run, its tables and figure."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from experiments import digit_nets, tables_theory_training, theory_training
from experiments.data import digits
from experiments.models import small_conv_net
from experiments.parallel import one_thread
from experiments.record import read_record
from experiments.theory_measures import distances, mixed_images, responses
from experiments.theory_runs import EXPANSIONS, RunConfig, load_network, train_network
from experiments.theory_summary import checks, expectations, relate, told
from figures import theory_training as figure
from msda_theory.masks.registry import strategy as make_strategy


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    config = theory_training.Config(
        strategies=("cutmix",),
        activations=("softplus", "relu"),
        seeds=(0, 1),
        objectives=("data-r2", "mask-all"),
        clipped=("mask-all",),
        epochs=1,
        images=32,
        draws=2,
        min_accuracy=0.0,
    )
    return config, theory_training.run(config, folder=folder), folder


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().double() for p in model.parameters()])


@pytest.mark.parametrize("strategy", ["vanilla", "cutmix"])
def test_training_by_mixing_is_that_of_digit_nets_to_the_bit(strategy, tmp_path):
    with one_thread():
        own = train_network(RunConfig(strategy, epochs=1))
    record = digit_nets.train_one(digit_nets.RunConfig(strategy, epochs=1), tmp_path)
    assert torch.equal(weights(own.model), weights(digit_nets.load_model(record, tmp_path)))
    assert own.curve["loss"] == pytest.approx(record["result"]["training_loss"])
    assert own.curve["base"] == own.curve["loss"]


def test_trainings_start_alike_and_differ_by_the_objective():
    def end(**options):
        return weights(train_network(RunConfig(epochs=1, **options)).model)

    runs = [
        end(objective="msda"),
        end(objective="msda-masks"),
        end(objective="msda-pairs"),
        end(objective="data-r2"),
        end(objective="data-r2", pairs=2),
        end(objective="mask-gn"),
        end(objective="mask-gn", clip=0.1),
    ]
    for a, b in itertools.combinations(runs, 2):
        assert not torch.equal(a, b)
    assert torch.equal(runs[3], end(objective="data-r2"))


def test_the_expansion_of_no_mixing_is_vanilla_training():
    """Every term of vanilla's expansion is 0, at every point."""
    expected = weights(train_network(RunConfig("vanilla", epochs=1)).model)
    for objective in ("data-all", "mask-gn"):
        got = weights(train_network(RunConfig("vanilla", objective=objective, epochs=1)).model)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)  # float32


def test_a_relu_network_is_not_trained_on_r3_and_gets_none():
    curve = train_network(RunConfig(activation="relu", objective="data-all", epochs=1)).curve
    assert curve["r3"] == [0.0]
    kinds = {(r.activation, r.objective) for r in theory_training.Config().runs()}
    assert ("softplus", "data-all") in kinds
    assert not {("relu", name) for name, (_, terms) in EXPANSIONS.items() if "r3" in terms} & kinds


def test_divergence_is_a_result():
    trained = train_network(RunConfig(objective="mask-all", epochs=2, lr=1e6))
    assert trained.diverged == 1
    assert trained.curve == {}


def test_names_tell_runs_apart():
    names = [r.name for r in theory_training.Config().runs()]
    assert len(set(names)) == len(names)
    assert "mask-all-clip-cutmix-softplus-0" in names
    assert "vanilla-relu-2" in names


def test_wrong_runs_are_refused(tiny):
    with pytest.raises(ValueError, match="expected a training objective among"):
        RunConfig(objective="everything")
    with pytest.raises(ValueError, match="theory training needs strategies that mix"):
        theory_training.Config(strategies=("vanilla",))
    _, _, folder = tiny
    record = read_record(folder / "theory_training" / "msda-cutmix-softplus-0.json")
    wrong = record | {"result": record["result"] | {"weights_sha256": "0"}}
    with pytest.raises(ValueError, match="does not hold the weights of its record; delete both"):
        load_network(wrong, folder / "theory_training")


def test_distances_are_those_of_loops():
    data = digits().test[:6]
    mixed = mixed_images(data, make_strategy("cutmix"), draws=2)
    assert mixed.shape == (12, 1, 8, 8)
    nets = [small_conv_net("softplus", width=2, seed=s).double().eval() for s in (0, 1)]
    with torch.no_grad():
        nets[1][-1].weight *= 3  # predictions that differ
    answers = [responses(net, data, mixed) for net in nets]
    got = distances(*answers)
    for name, images in (("clean", data.x), ("mixed", mixed)):
        p, q = (net(images).softmax(dim=1).detach().numpy() for net in nets)
        tv = np.mean([np.abs(a - b).sum() / 2 for a, b in zip(p, q, strict=True)])
        kl = np.mean([(a * np.log(a / b)).sum() for a, b in zip(p, q, strict=True)])
        assert got[f"tv_{name}"] == pytest.approx(tv)
        assert got[f"kl_{name}"] == pytest.approx(kl)
        assert tv > 0.01
    rows = []
    for net in nets:
        own = [torch.autograd.functional.jacobian(net, x[None]).reshape(10, 8, 8).numpy() for x in data.x]
        rows.append([j - j.mean(axis=0) for j in own])
    angles = [1 - (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()) for a, b in zip(*rows, strict=True)]
    assert got["angle"] == pytest.approx(np.mean(angles))
    maps = []
    for own in rows:
        g = np.zeros((15, 15))
        for j in own:
            for (a, b), (c, d) in itertools.product(itertools.product(range(8), repeat=2), repeat=2):
                g[c - a + 7, d - b + 7] += np.abs(j[:, a, b] * j[:, c, d]).sum()
        maps.append(g / g.sum())
    assert got["profile"] == pytest.approx(np.abs(maps[0] - maps[1]).sum() / 2)
    assert max(abs(v) for v in distances(answers[0], answers[0]).values()) < 1e-12


def test_a_constant_network_has_no_gradient_map():
    data = digits().test[:3]
    net = small_conv_net("relu", width=2, seed=0).double().eval()
    with torch.no_grad():
        net[-1].weight.zero_()
    answers = [responses(n, data, data.x) for n in (net, small_conv_net("relu", width=2, seed=1).double().eval())]
    found = distances(answers[1], answers[0])
    assert np.isnan(found["profile"])
    assert found["angle"] == pytest.approx(1)


def test_mixed_images_are_between_their_images():
    data = digits().test[:5]
    mixed = mixed_images(data, make_strategy("cutmix"))
    for k, image in enumerate(mixed):
        own = (image == data.x[k % 5]).flatten()
        assert any(bool((own | (image == partner).flatten()).all()) for partner in data.x)
    assert torch.equal(mixed, mixed_images(data, make_strategy("cutmix")))


def test_shares_are_0_for_vanilla_and_1_for_mixing():
    data = digits().test[:4]
    mixed = mixed_images(data, make_strategy("mixup"))
    kinds = ("vanilla", "msda", "msda-pairs", "mask-gn")
    answers = {
        kind: responses(small_conv_net("relu", width=2, seed=s).double().eval(), data, mixed)
        for s, kind in enumerate(kinds)
    }
    found = {kind: {"mixed": m, "mixed_test": 2 * m} for kind, m in zip(kinds, (3.0, 1.0, 1.5, 2.0), strict=True)}
    relate(found, answers)
    assert [found[k]["share_mixed"] for k in kinds] == pytest.approx([0, 1, 0.75, 0.5])
    assert found["vanilla"]["share_tv_mixed"] == 0
    assert found["msda-pairs"]["share_kl_clean"] == pytest.approx(1)
    assert "tv_clean" not in found["msda"]
    start, end, own = (distances(answers["msda"], answers[k])["angle"] for k in ("vanilla", "msda-pairs", "mask-gn"))
    assert found["mask-gn"]["share_angle"] == pytest.approx((start - own) / (start - end))


def cell(**kinds):
    return {name: {s: {} if v is None else {"share_mixed": v} for s, v in enumerate(vs)} for name, vs in kinds.items()}


def test_expectations_are_told_by_paired_intervals():
    one = cell(a=[0.8, 0.9, 0.85], b=[0.2, 0.31, 0.24], c=[None] * 3, d=[0.9, None, 0.1])
    assert told(one, "share_mixed", "a", "b")["side"] == "yes"
    assert told(one, "share_mixed", "b", "a")["side"] == "no"
    assert told(one, "share_mixed", "a", 0.84)["side"] == "?"
    assert told(one, "share_mixed", "a", "b")["mean"] == pytest.approx(0.6)
    assert told(one, "share_mixed", "a", "c")["side"] == "yes"  # what diverges is the lower one
    assert told(one, "share_mixed", "c", "a")["side"] == "no"
    assert told(one, "share_mixed", "c", "c")["side"] == "?"
    lost = told(one, "share_mixed", "a", "d")
    assert lost["side"] == "?"
    assert lost["diverged"] == [0, 1]
    names = {"mask-gn": [0.7, 0.71, 0.69], "mask-base": [0.5, 0.5, 0.5]}
    found = {e["check"]: e for e in expectations({("relu", "cutmix"): cell(**names)})}
    assert found["mask-gn reproduces more of the drop than mask-base"]["holds"]
    assert not found["mask-gn reproduces at least 90 % of the drop"]["holds"]
    assert found["R3 at the mask makes it worse"]["cells"] == []


def test_checks_fail_where_shares_would_mean_nothing():
    good = {"accuracy": 0.95, "mixed": 1.0}
    ways = {name: {0: dict(good)} for name in ("vanilla", "msda", "msda-masks", "msda-pairs")}
    ways["vanilla"][0]["mixed"] = 3.0
    assert [c["holds"] for c in checks(0.9, {("relu", "cutmix"): ways})] == [True, True]
    ways["msda-pairs"][0] = {}
    ways["msda"][0]["mixed"] = 3.5
    assert [c["holds"] for c in checks(0.9, {("relu", "cutmix"): ways})] == [False, False]


def test_the_record_has_every_cell_and_is_found_again(tiny):
    config, record, folder = tiny
    rows = record["result"]["rows"]
    mixing = ["vanilla", "msda", "msda-masks", "msda-pairs", "data-r2"]
    expected = [("softplus", t) for t in (*mixing, "mask-all", "mask-all-clip")] + [("relu", t) for t in mixing]
    assert [(r["activation"], r["training"]) for r in rows] == expected
    assert all(r["seeds"] == 2 and r["diverged"] == 0 for r in rows)
    for r in rows:
        ends = [
            read_record(folder / "theory_training" / f"{name}.json")["result"]["curve"]["loss"][-1]
            for name in (
                f"{r['training']}-cutmix-{r['activation']}-{s}".replace("vanilla-cutmix", "vanilla") for s in (0, 1)
            )
        ]
        assert r["measures"]["objective"]["mean"] == pytest.approx(np.mean(ends), rel=1e-4)
        if r["training"] in ("vanilla", "msda"):
            share = 1.0 if r["training"] == "msda" else 0.0
            assert r["measures"]["share_mixed"]["mean"] == pytest.approx(share)
    assert theory_training.run(config, folder=folder) == record
    changed = dataclasses.replace(config, draws=3)
    assert theory_training._known(changed.runs()[0], changed, folder) is None


def test_tables_and_figure_of_the_tiny_record(tiny, tmp_path):
    _, record, folder = tiny
    assert len(tables_theory_training.results(record).splitlines()) == 2 + 12
    assert len(tables_theory_training.distances(record).splitlines()) == 2 + 10
    assert "at least 90" not in tables_theory_training.expectations(record)  # mask-gn was not trained
    assert "2 networks of each kind" in tables_theory_training.setting(record)
    assert "data: + R2" in tables_theory_training.ledger(record)
    lost = {**record["result"]["rows"][-1], "measures": {}, "diverged": 2}
    broken = record | {"result": record["result"] | {"rows": [lost]}}
    assert "(2 of 2 diverged)" in tables_theory_training.results(broken)
    assert "n = 2 networks" in figure.caption({"theory_training": record})
    assert set(EXPANSIONS) <= set(figure.LABELS)
    assert all(p.exists() for p in figure.draw(folder, tmp_path))

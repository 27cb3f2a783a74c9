"""The study of designed laws with a tiny configuration, its record, and its figure."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiments import designed_law, digit_nets
from experiments.data import digits
from experiments.record import failed
from figures import designed_law as figure
from figures.style import use_style
from msda_theory.dense import pair_weights
from msda_theory.losses import SoftmaxCrossEntropy
from msda_theory.masks.field import Field

CONFIG = designed_law.Config(seeds=(1,), epochs=1, images=12, pairs=2, draws=2000)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return folder, designed_law.run(CONFIG, folder=folder)


def test_wishes_and_known_laws_are_strategies():
    for name in designed_law.WISHES:
        strategy = designed_law.law(name)
        assert isinstance(strategy, Field)
        assert strategy.covariance.label == name
    assert designed_law.law("twin").label == "pixels"
    periodic = designed_law.KNOWN[designed_law.PERIODIC]
    assert designed_law.law(designed_law.PERIODIC) is periodic
    # the twin has the mean of q as well, but for the residual: that mean is twice the mean of a(p)
    means = [s.moments((8, 8)).mean.mean() for s in (designed_law.law("twin"), periodic)]
    assert means[0] == pytest.approx(means[1], abs=2 * designed_law.designed("twin").worst)


def test_the_record_says_what_was_wanted_and_obtained(study):
    _, record = study
    for entry in record["result"]["designs"]:
        made = designed_law.designed(entry["wish"])
        np.testing.assert_array_equal(entry["wanted"], made.wanted)
        np.testing.assert_array_equal(entry["obtained"], made.obtained)
        assert entry["worst"] == np.abs(np.array(entry["obtained"]) - np.array(entry["wanted"])).max()
        assert entry["obtained_by_distance"][0] == pytest.approx(made.obtained[7, 7])
        assert 0 < entry["largest_z"] < designed_law.Z
        assert np.array(entry["masks"]).shape == (designed_law.MASKS, 8, 8)
    known = {"the flat and the short wish are met to 1e-10", "the long wish and the twin are met up to .02"}
    assert known <= {c["check"] for c in record["result"]["checks"] if c["holds"]}


def test_networks_are_trained_with_their_law_and_kept(study):
    folder, record = study
    names = (*designed_law.KNOWN, *designed_law.WISHES)
    assert [(r["training"], r["seed"]) for r in record["result"]["networks"]] == [(n, 1) for n in names]
    digests = {
        p.name: json.loads(p.read_text())["result"]["weights_sha256"] for p in folder.glob("designed_law/*.json")
    }
    assert len(set(digests.values())) == len(digests) == len(names)
    # "mixup" of this study is that of digit_nets: the same weights, bit by bit
    same = digit_nets.train_one(digit_nets.RunConfig("mixup", "softplus", 1, epochs=1), folder)
    assert same["result"]["weights_sha256"] == digests["mixup-softplus-1.json"]


def test_losses_and_terms_of_a_network(study):
    folder, record = study
    row = next(r for r in record["result"]["networks"] if r["training"] == "vanilla")
    trained = json.loads((folder / "designed_law" / "vanilla-softplus-1.json").read_text())
    model = digit_nets.load_model(trained, folder, study="designed_law")
    weights = pair_weights(model, digits().train[:12], SoftmaxCrossEntropy())
    assert row["measured"]["vanilla"]["mean"] == pytest.approx(weights.clean, abs=1e-12)
    assert list(row["terms"]["twin"].values()) == pytest.approx(
        weights.terms(designed_law.law("twin").moments((8, 8))), abs=1e-12
    )
    assert not next(r for r in record["result"]["networks"] if r["training"] == "twin")["terms"]
    means = {(v["training"], v["law"]): v["measured"]["mean"] for v in record["result"]["losses"]}
    assert means["vanilla", "short"] == row["measured"]["short"]["mean"]


def test_a_second_run_is_read_and_an_untrained_network_fails_its_check(study):
    folder, record = study
    assert designed_law.run(CONFIG, folder=folder) == record
    assert any("every network reaches 0.93" in line for line in failed(record))


def test_the_figure_is_drawn_from_the_record(study, tmp_path):
    use_style()
    assert [f.name for f in figure.draw(study[0], tmp_path)] == ["designed_law.pdf", "designed_law.png"]
    assert " networks with one standard error" in figure.caption({"designed_law": study[1]})
    assert set(figure.TRAINING) == {*designed_law.KNOWN, *designed_law.WISHES}

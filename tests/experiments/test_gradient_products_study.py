"""A tiny run of the study of gradient products, on digit networks and on runs of the trainer; verdict and pages."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from experiments import digit_nets, gradient_products, product_measures, tables_products
from experiments.data import digits
from experiments.images import PictureFiles
from experiments.run_config import RunConfig
from experiments.train import Execution, train
from figures import gradient_products as figure
from figures.style import use_style
from msda_theory.gradient_products import gradient_products as products_of
from msda_theory.gradient_products import share_difference
from msda_theory.moments.displacements import ByDistance

TRAINED = digit_nets.Config(strategies=("vanilla", "mixup", "cutmix"), activations=("relu",), seeds=(0, 1), epochs=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    config = gradient_products.Config(training=TRAINED, images=12, laws=("mixup", "cutmix"))
    return config, gradient_products.run(config, folder=folder), folder


def networks(folder, strategy):
    runs = [r for r in TRAINED.runs() if r.strategy == strategy]
    return [digit_nets.load_model(digit_nets.train_one(r, folder), folder) for r in runs]


def test_the_difference_is_that_of_the_package(tiny):
    _, record, folder = tiny
    data = digits().train[:12]
    maps = {s: [products_of(m, data) for m in networks(folder, s)] for s in ("cutmix", "mixup")}
    (cell,) = record["result"]["cells"]
    found = [d for d in cell["differences"] if (d["first"], d["second"]) == ("cutmix", "mixup")]
    assert [d["radius"] for d in found] == [2.0, 1.0, 3.0, 4.0]
    assert [d["primary"] for d in found] == [True, False, False, False]
    for d in found:
        expected = share_difference(maps["cutmix"], maps["mixup"], d["radius"])
        assert (d["mean"], d["low"], d["high"]) == pytest.approx((expected.mean, expected.low, expected.high))
    rows = {r["training"]: r for r in cell["rows"]}
    assert list(rows) == ["vanilla", "mixup", "cutmix"]
    for name, own in maps.items():
        np.testing.assert_allclose(rows[name]["map"], np.mean([g.normalised().value for g in own], axis=0), atol=1e-7)
        shares = [g.short_share(2.0).mean for g in own]
        assert rows[name]["short"][0]["mean"] == pytest.approx(np.mean(shares))
        half = stats.t.ppf(0.975, 1) * np.std(shares, ddof=1) / np.sqrt(2)
        assert rows[name]["short"][0]["high"] - rows[name]["short"][0]["mean"] == pytest.approx(half)


def test_the_record_is_whole_and_is_found_again(tiny):
    config, record, folder = tiny
    assert all(c["holds"] for c in record["result"]["checks"])
    (cell,) = record["result"]["cells"]
    assert sum(cell["pairs"]) == pytest.approx(1)
    for row in cell["rows"]:
        assert sum(row["share"]["mean"]) == pytest.approx(1)
        assert row["per_pair"]["mean"][0] == pytest.approx(1)
        for strategy in config.laws:
            for law in ("exact", "paper"):
                assert sum(row["r2"][strategy][law]["mean"]) == pytest.approx(1)
    assert gradient_products.run(config, folder=folder) == record


def test_bins_are_of_one_pixel():
    curve = ByDistance(np.array([0, 1, 2**0.5, 2.0]), np.array([4.0, 3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(product_measures._pixels(curve, mean=False), [4, 5, 1])
    np.testing.assert_allclose(product_measures._pixels(curve, mean=True), [4, (6 + 6) / 5, 1])


def test_wrong_parts_and_shares_fail_their_checks():
    good = {"rest": 1e-12, "share": [0.25, 0.75]}
    assert all(c["holds"] for c in gradient_products._checks([good]))
    for bad in ({"rest": 1e-3}, {"share": [0.5, 0.6]}):
        assert [c["holds"] for c in gradient_products._checks([good | bad])].count(False) == 1


def test_the_verdict_needs_every_cell():
    def cell(side, first="cutmix"):
        d = {"first": first, "second": "mixup", "primary": True, "side": side}
        return {"cell": "x", "differences": [d, d | {"primary": False, "side": "above"}]}

    assert gradient_products._expectation([cell("below"), cell("below")])["holds"]
    for other in ("above", "contains", None):
        assert not gradient_products._expectation([cell("below"), cell(other)])["holds"]
    assert not gradient_products._expectation([cell("below", first="gmix")])["holds"]
    assert not gradient_products._expectation([])["holds"]


def test_finished_runs_are_measured(tmp_path):
    how = Execution(tmp_path / "runs", quiet=True)
    for strategy in ("mixup", "cutmix"):
        for seed in (0, 1):
            run = RunConfig(
                images=200, test_images=40, model="resnet8", width=4, strategy=strategy, seed=seed, epochs=1, batch=50
            )
            train(run, how)
    config = gradient_products.Config(runs=str(tmp_path / "runs"), images=6, laws=("mixup",))
    result = gradient_products.run(config, folder=tmp_path)["result"]
    (cell,) = result["cells"]
    assert cell["cell"] == "digits (200 images), resnet8-4"
    assert [(r["training"], r["seeds"]) for r in cell["rows"]] == [("mixup", 2), ("cutmix", 2)]
    assert {d["n"] for d in cell["differences"]} == {2}
    assert (tmp_path / "gradient_products_runs.json").exists()
    with pytest.raises(ValueError, match="expected finished runs in"):
        gradient_products.run(gradient_products.Config(runs=str(tmp_path / "none")), folder=tmp_path)


def test_pictures_in_folders_are_refused(monkeypatch):
    files = PictureFiles([Path("a.png")], torch.zeros(1, dtype=torch.int64), 8)
    monkeypatch.setattr(product_measures, "load_data", lambda *_, **__: type("Data", (), {"train": files}))
    record = {"config": {"data": "digits"}, "result": {}}
    network = product_measures.Network(record, None, "x", "mixup", run=True)
    with pytest.raises(ValueError, match="gradient products need images in memory"):
        network.load(4)


def test_pages_are_made_from_the_record(tiny, tmp_path):
    _, record, folder = tiny
    use_style()
    assert tables_products.shares(record).count("\n") == 1 + 3 + 1
    assert tables_products.differences(record).count("CutMix - Mixup") == 4
    assert tables_products.differences(record).count("- vanilla") == 2
    assert "12 training images" in tables_products.setting(record)
    assert "digits, relu" in tables_products.ledger(record)
    turned = copy.deepcopy(record)
    turned["result"]["expectations"][0] |= {"holds": True}
    assert "so it is" in tables_products.ledger(turned)
    assert "mean over n = 2 networks" in figure.caption({"gradient_products": record})
    for draw in (figure.draw, figure.draw_r2):
        assert all(p.exists() for p in draw(folder, tmp_path))

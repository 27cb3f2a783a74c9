"""Every experiment with a tiny configuration, and the committed records against the pages made from them."""

from __future__ import annotations

import json

import pytest
import torch

from experiments import (
    alpha_sweep,
    digit_nets,
    expansion_gap,
    first_layer,
    law_zoo,
    mask_coefficients,
    mask_gallery,
    remainder_order,
    reproduce,
    tables,
    task_winners,
)
from experiments.data import digits
from experiments.models import small_conv_net
from experiments.publish import PAGES
from experiments.record import RECORDS, ROOT, plain

TRAINING = digit_nets.Config(
    strategies=("vanilla", "cutmix"), activations=("softplus",), seeds=(0, 1), epochs=1, min_accuracy=0.0
)


def every_record() -> tables.Records:
    return tables.load_all(RECORDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def gap(folder):
    config = expansion_gap.Config(training=TRAINING, strategies=("mixup", "cutmix"), images=12, draws=2)
    return config, expansion_gap.run(config, folder=folder)


def test_training_is_reproduced_to_the_bit_and_not_repeated(folder, tmp_path):
    config = TRAINING.runs()[-1]
    first, again = digit_nets.train_one(config, folder), digit_nets.train_one(config, tmp_path)
    assert first["result"]["weights_sha256"] == again["result"]["weights_sha256"]
    weights = folder / "digit_nets" / f"{config.name}.safetensors"
    before = weights.stat().st_mtime_ns
    assert digit_nets.train_one(config, folder) == first
    assert weights.stat().st_mtime_ns == before


def test_weights_that_are_not_those_of_the_record_are_refused(tmp_path):
    config = TRAINING.runs()[0]
    record = digit_nets.train_one(config, tmp_path)
    path = tmp_path / "digit_nets" / f"{config.name}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ValueError, match="does not hold the weights of its record; delete both and train again"):
        digit_nets.load_model(record, tmp_path)


def test_a_diverged_run_stops_with_an_error(tmp_path):
    with pytest.raises(FloatingPointError, match=r"training of cutmix-softplus-0 diverged \(loss"):
        digit_nets.train_one(digit_nets.RunConfig(epochs=2, lr=1e9), tmp_path)
    assert not list((tmp_path / "digit_nets").glob("*")) if (tmp_path / "digit_nets").exists() else True


def test_the_gap_has_every_cell_and_every_point(gap):
    config, record = gap
    columns = record["result"]["columns"]
    cells = set(
        zip(columns["training"], columns["seed"], columns["strategy"], columns["law"], columns["at"], strict=True)
    )
    points = {("exact", "data"), ("paper", "data"), ("exact", "mean"), ("exact", "mask")}
    assert cells == {
        (t, seed, s, law, at)
        for t in TRAINING.strategies
        for seed in TRAINING.seeds
        for s in config.strategies
        for law, at in points
    }
    assert all(row["networks"] == len(TRAINING.seeds) for row in record["result"]["summary"])


def test_the_measured_loss_is_one_number_for_all_points(gap):
    columns = gap[1]["result"]["columns"]
    measured = {}
    for training, seed, strategy, value in zip(
        *(columns[k] for k in ("training", "seed", "strategy", "measured")), strict=True
    ):
        measured.setdefault((training, seed, strategy), set()).add(value)
    assert all(len(values) == 1 for values in measured.values())


def test_two_processes_give_the_record_of_one(gap, folder, tmp_path):
    config, record = gap
    other = expansion_gap.run(config, jobs=2, folder=tmp_path)
    assert other["result"] == record["result"]


def test_remainder_and_masks(folder):
    training = digit_nets.RunConfig("cutmix", "softplus", 0, epochs=1)
    config = remainder_order.Config(strategies=("cutmix",), training=training, images=2, order=2)
    rows = remainder_order.run(config, folder=folder)["result"]["rows"]
    assert [(r["law"], r["kind"]) for r in rows] == [("exact", "right"), ("paper", "right"), ("exact", "a_jk 1 % off")]
    assert all(c["holds"] for c in remainder_order.run(config, folder=folder)["result"]["checks"])
    small = mask_coefficients.run(mask_coefficients.Config(sizes=(6,)), folder=folder)
    assert all(c["holds"] for c in small["result"]["checks"])
    masks = mask_gallery.run(mask_gallery.Config(size=16), folder=folder)["result"]["masks"]
    assert set(masks) == {"mixup", "cutmix", "hmix", "gmix", "field"}


def test_digits_are_standardised_and_split():
    split = digits()
    assert (len(split.train), len(split.test)) == (1347, 450)
    assert abs(float(split.train.x.mean())) < 1e-12
    assert abs(float(split.train.x.std(unbiased=False)) - 1) < 1e-12
    train_set = {x.numpy().tobytes() for x in split.train.x}
    assert sum(x.numpy().tobytes() in train_set for x in split.test.x) == 0


def test_networks_leave_the_global_random_state_alone():
    before = torch.get_rng_state()
    a, b, c = (small_conv_net("relu", seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a[0].weight, b[0].weight)
    assert not torch.equal(a[0].weight, c[0].weight)
    with pytest.raises(ValueError, match="expected activation among"):
        small_conv_net("sine", seed=0)


def test_committed_records_are_complete_and_hold():
    records = every_record()
    for name, record in records.items():
        assert record["result"]["checks"], name
        missed = [c["check"] for c in record["result"]["checks"] if not c["holds"]]
        # The aims of a pass were set on a CPU; on a GPU small passes miss them, as docs/engine.md says.
        assert all(name in tables.OPTIONAL and check.endswith("forward passes a draw") for check in missed), name
        assert record["commit"], name
        assert "local changes" not in record["commit"], name


@pytest.mark.parametrize("page", PAGES)
def test_pages_hold_the_numbers_of_the_committed_records(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert tables.fill(text, every_record()) == text


def test_a_changed_number_in_a_page_is_noticed():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    changed = text.replace(" ± ", " ± 9")
    assert changed != text
    assert tables.fill(changed, every_record()) != changed


def test_pages_with_unknown_blocks_are_refused():
    with pytest.raises(ValueError, match="expected marked blocks among"):
        tables.fill("no block", every_record())
    with pytest.raises(ValueError, match="got \\['other'\\]"):
        tables.fill("<!-- other --><!-- /other -->", every_record())


def test_missing_records_name_their_command(tmp_path):
    expected = r"digit_nets\.json is missing; make it with: python -m experiments\.digit_nets"
    with pytest.raises(FileNotFoundError, match=expected):
        tables.load(tmp_path)


def test_drift_is_told(tmp_path):
    records = tables.load(RECORDS)
    assert "identical to the committed records" in reproduce.drift(records)
    assert reproduce.drift(records, tmp_path) == "no committed records to compare with"
    changed = json.loads(json.dumps(records))
    changed["expansion_gap"]["result"]["summary"][0]["explained"]["mean"] += 0.25
    assert "25.0 points at" in reproduce.drift(changed)
    changed["expansion_gap"]["result"]["summary"].pop()
    assert "hold other cells" in reproduce.drift(changed)


@pytest.mark.parametrize(
    "module",
    [
        digit_nets,
        expansion_gap,
        mask_coefficients,
        remainder_order,
        mask_gallery,
        law_zoo,
        alpha_sweep,
        first_layer,
        task_winners,
    ],
)
def test_committed_records_are_those_of_the_default_configuration(module):
    name = module.__name__.removeprefix("experiments.")
    assert tables.load(RECORDS, (name,))[name]["config"] == plain(module.Config())

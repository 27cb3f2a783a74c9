"""The study that makes records again: one that comes again, one with a number that was changed."""

import pytest

from experiments import mask_gallery, reruns, tables_reruns
from experiments.record import read_record, write_record


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reruns")
    mask_gallery.run(mask_gallery.Config(size=8), folder=folder)
    changed = read_record(folder / "mask_gallery.json")
    changed["result"]["checks"][0]["holds"] = not changed["result"]["checks"][0]["holds"]
    changed["result"]["masks"]["mixup"]["mask"][0][0] += 1e-3
    write_record(folder / "changed.json", changed)
    config = reruns.Config(records=("mask_gallery", "changed"))
    return reruns.run(config, folder=folder / "out", source=folder)


def test_a_record_that_comes_again_is_told_from_one_that_was_changed(outcome):
    same, other = outcome["result"]["rows"]
    assert same["identical"]
    assert (same["differ"], same["beyond"], same["largest"]) == (0, 0, 0.0)
    assert same["numbers"] == other["numbers"] > 8 * 8
    assert (other["differ"], other["beyond"]) == (2, 2)
    assert other["place"] == "result.masks.mixup.mask[0][0]"
    assert not outcome["result"]["checks"][0]["holds"]
    assert outcome["result"]["checks"][0]["detail"].startswith("1 of 2 identical to the bit; beyond: {'changed': 2}")


def test_the_page_says_which_differ(outcome):
    assert tables_reruns.sentence(outcome).startswith(
        "1 of 2 records of `make reproduce` come again to the bit, 1 differ by more than rounding"
    )
    assert "| `changed` | " in tables_reruns.table(outcome)

"""The benchmark of the mixing transform: form of its record, checks; the plain code beside it mixes as it should."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

from experiments import bench_mix

SMALL = {"images": 4, "channels": 2, "size": 6, "rounds": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def record(folder):
    return bench_mix.run(bench_mix.Config(**SMALL, out=folder))


def test_the_record_has_every_format_strategy_and_mode(record, folder):
    assert json.loads((folder / "bench_mix.json").read_text()) == record
    assert {"machine", "threads", "versions", "commit", "command", "config"} <= set(record)
    rows = record["result"]["times"]
    counts = Counter((r["format"], r["method"]) for r in rows)
    assert counts == {
        ("float32", "MixTransform"): 8,
        ("float32", "plain code"): 5,
        ("float32, channels last", "MixTransform"): 4,
        ("bfloat16", "MixTransform"): 4,
    }
    for r in rows:
        assert len(r["ratios"]) == 3
        assert 0 < r["min"] <= r["clones"] <= r["max"]
        assert r["clone_ms"] >= 0


def test_checks_are_of_the_default_format_and_can_fail(record):
    assert [c["check"] for c in record["result"]["checks"]] == [
        f"{name}, {mode}, within {aim} clones"
        for name, aim in (("mixup", 2.0), ("cutmix", 1.3), ("hmix", 2.0), ("gmix", 2.0))
        for mode in ("batch", "per sample")
    ]
    row = {"method": "MixTransform", "strategy": "cutmix", "mode": "batch", "min": 1.0, "max": 3.0}
    for clones, holds in ((1.3, True), (1.31, False)):
        assert bench_mix._checks([{**row, "format": "float32", "clones": clones}])[0]["holds"] is holds
    assert bench_mix._checks([{**row, "format": "bfloat16", "clones": 9.0}]) == []


def test_plain_code_mixes():
    """On a zero image and its partner of ones the result shows the partner's weight."""
    x = torch.zeros(2, 1, 8, 8)
    x[1] = 1.0
    rng = np.random.default_rng(0)
    weight = {
        "mixup": bench_mix.plain_mixup(x, 0.3),
        "cutmix": bench_mix.plain_cutmix(x, slice(1, 4), slice(2, 8)),
        "hmix": bench_mix.plain_hmix(x, 0.3, 0.5, rng),
        "gmix": bench_mix.plain_gmix(x, 0.3, rng),
        "mixup each": bench_mix.plain_mixup_each(x, np.array([0.3, 0.3])),
    }
    for name, mixed in weight.items():
        torch.testing.assert_close(mixed[0] + mixed[1], torch.ones(1, 8, 8), msg=name)
    for name in ("mixup", "mixup each"):
        torch.testing.assert_close(weight[name][0], torch.full((1, 8, 8), 0.7))
    assert float(weight["cutmix"][0].sum()) == 18
    torch.testing.assert_close(weight["hmix"][0].mean(), torch.tensor(0.7))
    assert set(weight["hmix"][0].unique().tolist()) > {1.0}
    assert float(weight["gmix"][0].min()) == 0  # the centre is the image's own
    assert torch.equal(x[0], torch.zeros(1, 8, 8))

"""The benchmark of training, small: its record, and that its checks can fail."""

from __future__ import annotations

from experiments import bench_train


def test_a_small_run(tmp_path):
    config = bench_train.Config(steps=1, rounds=2, batch=8, pictures=16, side=16, out=tmp_path)
    record = bench_train.run(config)
    rows = record["result"]["speeds"]
    assert {r["strategy"] for r in rows} == {"vanilla", "mixup", "cutmix", "choice", "hmix", "gmix"}
    assert all(r["ratios"] == [1.0, 1.0] for r in rows if r["strategy"] == "vanilla")
    assert all(len(r["ratios"]) == 2 and r["min"] <= r["over_vanilla"] <= r["max"] for r in rows)
    assert [r["images"].split()[0] for r in record["result"]["loading"]] == ["in", "16"]
    assert (tmp_path / "bench_train.json").exists()
    assert "out" not in record["config"]


def test_the_checks_fail_where_the_aims_are_missed():
    row = {"setting": "net", "strategy": "gmix", "over_vanilla": 0.94, "min": 0.9, "max": 1.0}
    checks = bench_train._checks([row, {**row, "over_vanilla": 0.96}], [{"images": "files", "share": 0.06}])
    assert [c["holds"] for c in checks] == [False, True, False]

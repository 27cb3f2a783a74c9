"""The benchmark of laws runs, on a tiny configuration, and its sentence is made from its record."""

from __future__ import annotations

from experiments import bench_laws, tables_bench, tables_laws


def test_a_tiny_benchmark_of_laws_runs(tmp_path):
    record = bench_laws.run(bench_laws.Config(size=8, measured=20, draws=40, side=6, out=tmp_path))
    result = record["result"]
    assert (tmp_path / "bench_laws.json").exists()
    assert {m["law"] for m in result["moments"]} == {"exact", "paper"}
    assert {m["mode"] for m in result["law_of"]} == {"batch", "sample"}
    assert all(set(bench_laws.OPERATIONS) <= set(m["seconds"]) for m in result["moments"])
    sentence = tables_bench.laws_sentence(record)
    assert "At 8x8, every strategy and law:" in sentence
    assert "`law_of` with 40 draws at 6x6" in sentence


def test_numbers_of_either_sign_are_shown():
    assert tables_laws._number({"mean": -0.05, "se": 0.01}) == "-0.050 ± 0.010"
    assert tables_laws._number({"mean": 0.0, "se": 0.0}) == "0"

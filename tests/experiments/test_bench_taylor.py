"""The benchmark of the Taylor engine: form of its record, figure, table; its measures on known cases."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from torch import nn

from experiments import bench_taylor, memory, tables_bench, taylor_memory, taylor_methods
from experiments.record import write_record
from figures import engine

CONFIG = {"draws": (1, 2), "batch": 2, "rounds": 2, "size": "reduced"}
METHODS = ("taylor", "HVP", "nested jvp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def record(folder):
    return bench_taylor.run(bench_taylor.Config(**CONFIG, networks=("preactresnet18", "vit"), out=folder))


def points(draws=2):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    return x, torch.randn(draws, *x.shape, generator=generator, dtype=torch.float64)


def test_the_record_has_every_network_draw_and_method(record, folder):
    assert json.loads((folder / "bench_taylor.json").read_text()) == record
    assert {"device", "machine", "threads", "versions", "commit", "command", "config"} <= set(record)
    result = record["result"]
    assert [n["network"] for n in result["networks"]] == ["preactresnet18", "vit"]
    keys = [(t["network"], t["draws"], t["method"]) for t in result["times"]]
    assert keys == [(n, k, m) for n in ("preactresnet18", "vit") for k in (1, 2) for m in METHODS]
    for t in result["times"]:
        assert len(t["ratios"]) == 2
        assert 0 < t["min"] <= t["forwards"] <= t["max"]
        assert t["timed_draws"] == t["draws"]


def test_the_engine_agrees_and_nested_forward_mode_is_wrong_through_layer_norm(record):
    references = {n["network"]: n["agreement"]["reference"] for n in record["result"]["networks"]}
    assert references == {"preactresnet18": "nested jvp", "vit": "double backward"}
    for n in record["result"]["networks"]:
        assert n["fallback"] is None
        assert all(n["agreement"][k] <= 1e-9 for k in ("value", "first", "second"))
    agrees = {(t["network"], t["method"]): t["agrees"] for t in record["result"]["times"]}
    assert [agrees["preactresnet18", m] for m in METHODS] == [True, True, True]
    assert [agrees["vit", m] for m in METHODS] == [True, True, False]


def test_checks_are_made_where_their_draws_were_measured(record):
    names = [c["check"] for c in record["result"]["checks"]]
    assert names == ["peak memory at most 3 forward passes", "agreement in float64 within 1e-09"]


def test_checks_fail_at_the_worst_network():
    networks = [{"memory": {"ratio": 3.5}, "agreement": {"value": 0.0, "first": 0.0, "second": 1e-8}}]
    costs = {"taylor": 2.0, "nested jvp": 9.0, "HVP": 9.0}
    times = [
        {"network": n, "batch": 8, "draws": k, "method": m, "forwards": cost}
        for n in ("preactresnet18", "vit")
        for k in (1, 4, 16)
        for m, cost in costs.items()
    ]
    checks = {c["check"]: c["holds"] for c in bench_taylor._checks(networks, times)}
    assert list(checks.values()) == [False, True, True, False, False, False]
    networks[0]["memory"]["ratio"] = math.nan
    assert not bench_taylor._checks(networks, times)[-2]["holds"]


def test_the_figure_is_drawn_with_and_without_a_gpu(record, folder, tmp_path):
    alone = engine.draw(folder, tmp_path / "alone")
    assert [p.name for p in alone] == ["engine.pdf", "engine.png"]
    gpu = copy.deepcopy(record)
    gpu["result"]["times"][2] |= {"forwards": None, "min": None, "max": None, "ratios": []}
    for name, content in (("bench_taylor", record), ("bench_taylor_gpu", gpu)):
        write_record(tmp_path / f"{name}.json", content)
    both = engine.draw(tmp_path, tmp_path / "both")
    assert both[1].read_bytes() != alone[1].read_bytes()


def test_the_table_has_a_row_for_each_network_and_draw(record):
    text = tables_bench.engine(record)
    assert len([line for line in text.splitlines() if line.startswith("| ")]) == 1 + 4
    assert "(wrong)" in text
    assert record["command"] in text
    gpu = {**copy.deepcopy(record), "device": "a GPU"}
    gpu["result"]["times"][2]["forwards"] = None
    two = tables_bench.engine(record, gpu)
    assert two.startswith(text)
    assert "not possible" in two
    assert "a GPU; " in two


def test_methods_on_a_cubic():
    """f(x) = sum of x^3: J d = 3 x^2 d, d^T D2f d = 6 x d^2."""

    class Cubic(nn.Module):
        def forward(self, x):
            return (x**3).sum(dim=1, keepdim=True)

    x, (d, _) = points()
    first, second = (3 * x**2 * d).sum(1, keepdim=True), (6 * x * d**2).sum(1, keepdim=True)
    for method in (taylor_methods.nested_jvp, taylor_methods.double_backward):
        for found, expected in zip(method(Cubic(), x, d), (Cubic()(x), first, second), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    torch.testing.assert_close(taylor_methods.hvp(Cubic(), x, d, weights), (weights * second)[:, 0])


def test_relative_differences_are_of_the_largest_entry():
    a, b = torch.tensor([1.0, 2.5]), torch.tensor([1.5, 2.0])
    assert taylor_methods.relative(a, b) == 0.25
    assert taylor_methods.relative(a, torch.zeros(2)) == 2.5


def test_memory_of_a_call_that_is_known():
    """100 MB for a moment, in a fresh process; ru_maxrss would start from this process's own peak."""
    held = torch.ones(2**26)  # the parent's, 268 MB
    code = (
        "import torch; from experiments import taylor_memory as m; "
        "small, large = (lambda: torch.ones(10)), (lambda: torch.ones(25_000_000)); "
        "m.build, m._calls = (lambda *a, **k: None), (lambda *a: (small, large)); "
        "print(m.grown({}, 1, 8, 1, 0, ''))"
    )
    done = taylor_memory.fresh(["-c", code])
    assert len(held)
    assert 0.95e8 < int(done) < 1.15e8


def test_unknown_networks_are_refused():
    with pytest.raises(ValueError, match=r"expected networks among \['preactresnet18', 'vit', 'wideresnet28'\]"):
        bench_taylor.run(bench_taylor.Config(networks=("resnet50",)))


def test_systems_without_the_peak_are_refused():
    with pytest.raises(
        RuntimeError, match="expected VmNone in /proc/self/status, found none; memory is measured on Linux"
    ):
        memory.status_bytes("VmNone")

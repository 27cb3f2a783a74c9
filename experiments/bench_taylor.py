"""Cost of second-order Taylor coefficients in plain forward passes: ``make bench`` writes ``bench_taylor.json``.

Cost of a method for K directions at B samples: its time over that of one plain forward pass of the same module,
without gradients, on K*B images; both in turn within each round, median over rounds. Expected: `taylor` at most 2.2
for PreActResNet-18 at K = 4, 1.6 at K = 16, 2.5 for a vision transformer at K = 16, and at least 5 times below nested
forward mode from K = 4 on; peak memory (`taylor_memory`) at most 3 times that of the forward pass on K*B images;
values and derivatives at reduced width in float64 within 1e-9 (`taylor_methods`).

Networks have smooth activations: with ReLU all second derivatives are 0 and agreement would say nothing. Nested
forward mode and HVP take one direction after the other, so on the CPU only ``slow_draws`` of them are timed, and
scaled. One HVP gives one combination of outputs and no first derivative. Cost: minutes on 2 cores.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from tqdm import tqdm

from experiments.record import RESULTS, check, code_digest, command_line, finish, plain, provenance, write_record
from experiments.taylor_memory import build, peaks, points
from experiments.taylor_methods import TOLERANCE, agreement, hvp, nested_jvp
from msda_theory.taylor import Taylor

REDUCED: dict[str, dict[str, Any]] = {
    "preactresnet18": {"width": 8},
    "wideresnet28": {"width": 1},
    "vit": {"width": 24, "depth": 2},
    "resnet50": {"width": 4},
}


@dataclass(frozen=True)
class Config:
    """Device, draws K and batch; directions of the slow methods timed on the CPU; network size; where to write.

    ``networks`` empty: those of the device. ``size`` reduced: widths of the agreement in all measurements, for tests.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    draws: tuple[int, ...] = (1, 4, 16)
    batch: int = 8
    rounds: int = 5
    slow_draws: int = 2
    networks: tuple[str, ...] = ()
    size: Literal["full", "reduced"] = "full"
    seed: int = 0
    name: str = "bench_taylor"
    out: Path = RESULTS


@dataclass(frozen=True)
class Case:
    """A network with its batch and image size."""

    network: str
    batch: int
    image: int = 32
    options: dict[str, Any] = field(default_factory=lambda: {"activation": "gelu", "classes": 10})

    @property
    def reduced(self) -> Case:
        """The same kind of network, small enough for double backward in float64."""
        return Case(self.network, 2, 32, {**self.options, "classes": 3, **REDUCED[self.network]})

    @property
    def build(self) -> dict[str, Any]:
        """Options of `experiments.models.network`."""
        return {"name": self.network, **self.options}


def run(config: Config) -> dict[str, Any]:
    """Measure and write the record."""
    start = time.monotonic()
    networks: list[dict[str, Any]] = []
    times: list[dict[str, Any]] = []
    for case in tqdm(_cases(config), desc=config.name):
        network, rows = _measure(case, config)
        networks.append(network)
        times += rows
    default = replace(config, out=RESULTS)
    record = {
        "experiment": config.name,
        "command": command_line("experiments.bench_taylor", default),
        "config": plain(config),
        "result": {"networks": networks, "times": times, "checks": _checks(networks, times)},
        "code": code_digest("bench_taylor.py", "taylor_memory.py", "memory.py", "taylor_methods.py", "models.py"),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if config.device == "cuda" else "CPU",
        "tf32": {"cudnn": torch.backends.cudnn.allow_tf32, "matmul": torch.backends.cuda.matmul.allow_tf32},
        "wall_s": round(time.monotonic() - start, 2),
        **provenance(),
    }
    record["config"].pop("out")
    write_record(config.out / f"{config.name}.json", record)
    return plain(record)


def _cases(config: Config) -> list[Case]:
    """The networks of the device, or those asked for.

    Raises:
        ValueError: unknown network.
    """
    cases = [Case(name, config.batch) for name in ("preactresnet18", "wideresnet28", "vit")]
    if config.device == "cuda":
        large = {"activation": "gelu", "classes": 1000}
        cases += [Case("preactresnet18", 8 * config.batch), Case("resnet50", config.batch, 224, large)]
    known = {c.network for c in cases}
    if not set(config.networks) <= known:
        raise ValueError(f"expected networks among {sorted(known)}, got {config.networks}; leave the others out.")
    chosen = [c for c in cases if not config.networks or c.network in config.networks]
    return [replace(c.reduced, batch=c.batch) if config.size == "reduced" else c for c in chosen]


def _measure(case: Case, config: Config) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is known of a network once, and its rows of times."""
    small = case.reduced
    model = build(small.build, seed=config.seed, device=config.device).double()
    x, directions = points(small.batch, small.image, 2, seed=config.seed, device=config.device)
    agreed = agreement(model, x.double(), directions.double())
    # After the agreement, which has loaded torch's decompositions: they are not part of this trace.
    model = build(case.build, seed=config.seed, device=config.device)
    x, directions = points(case.batch, case.image, max(config.draws), seed=config.seed, device=config.device)
    start = time.perf_counter()
    engine = Taylor(model, x)
    _wait(config.device)
    trace_seconds = time.perf_counter() - start
    rows = [_times(case, config, model, engine, draws, agreed["agrees"]) for draws in config.draws]
    memory = peaks(case.build, case.batch, case.image, max(config.draws), seed=config.seed, device=config.device)
    network = {
        "network": case.network,
        "batch": case.batch,
        "image": case.image,
        "options": case.options,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trace_seconds": trace_seconds,
        "fallback": engine.fallback,
        "memory": memory,
        "agreement": {k: v for k, v in agreed.items() if k != "agrees"},
    }
    return network, [row for group in rows for row in group]


def _times(
    case: Case, config: Config, model: nn.Module, engine: Taylor, draws: int, agrees: dict[str, bool]
) -> list[dict[str, Any]]:
    """One row for each method at K = ``draws``."""
    x, directions = points(case.batch, case.image, draws, seed=config.seed, device=config.device)
    images = (x + directions).flatten(0, 1)
    with torch.no_grad():
        cotangent = torch.ones_like(model(x))
    slow = draws if config.device == "cuda" else min(draws, config.slow_draws)
    methods: dict[str, tuple[int, Callable[[], Any]]] = {
        "taylor": (draws, torch.no_grad()(lambda: engine(x, directions))),
        "HVP": (slow, lambda: [hvp(model, x, d, cotangent) for d in directions[:slow]]),
        "nested jvp": (slow, lambda: [nested_jvp(model, x, d) for d in directions[:slow]]),
    }
    calls = {"forward": torch.no_grad()(lambda: model(images)), **{name: call for name, (_, call) in methods.items()}}
    for name in list(calls):
        try:
            calls[name]()
        except NotImplementedError:  # no forward mode for one of the operators
            del calls[name]
    # Two blocks, each with its own forward passes: the slow methods leave the memory in another state.
    slow_calls = {name: call for name, call in calls.items() if name != "taylor"}
    quick_calls = {name: call for name, call in calls.items() if name in ("forward", "taylor")}
    quick, slow_rounds = (_rounds(c, config) for c in (quick_calls, slow_calls))
    rows = []
    for name, (timed, _) in methods.items():
        rounds = quick if name == "taylor" else slow_rounds
        ratios = [draws / timed * r[name] / r["forward"] for r in rounds if name in r]
        rows.append(
            {
                "network": case.network,
                "batch": case.batch,
                "draws": draws,
                "method": name,
                "timed_draws": timed,
                "forwards": statistics.median(ratios) if ratios else None,
                "min": min(ratios, default=None),
                "max": max(ratios, default=None),
                "ratios": ratios,
                "forward_seconds": statistics.median(r["forward"] for r in rounds),
                "agrees": agrees.get(name),
            }
        )
    return rows


def _rounds(calls: dict[str, Callable[[], Any]], config: Config) -> list[dict[str, float]]:
    return [{name: _seconds(call, config.device) for name, call in calls.items()} for _ in range(config.rounds)]


def _seconds(call: Callable[[], object], device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _checks(networks: list[dict[str, Any]], times: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The aims of the module docstring, where their networks and draws were measured; the worst case counts."""
    cost = {(t["network"], t["batch"], t["draws"], t["method"]): t["forwards"] for t in times}
    taylor = {key[:3]: value for key, value in cost.items() if key[3] == "taylor"}
    checks = []
    for name, draws, aim in (("preactresnet18", 16, 1.6), ("preactresnet18", 4, 2.2), ("vit", 16, 2.5)):
        found = [v for (network, _, k), v in taylor.items() if (network, k) == (name, draws)]
        if found:
            title = f"{name}, K = {draws}: at most {aim} forward passes a draw"
            checks.append(check(title, max(found) <= aim, f"{max(found):.2f}"))
    nested = {key: cost[*key, "nested jvp"] for key in taylor if key[2] >= 4}
    gains = {key: value / taylor[key] for key, value in nested.items() if value is not None}
    if gains:
        worst = min(gains, key=gains.__getitem__)
        where = f"{worst[0]}, batch {worst[1]}, K = {worst[2]}"
        checks.append(
            check("5 times below nested jvp from K = 4 on", gains[worst] >= 5, f"{gains[worst]:.1f} ({where})")
        )
    return [*checks, _memory_check(networks), _agreement_check(networks)]


def _memory_check(networks: list[dict[str, Any]]) -> dict[str, Any]:
    ratios = [n["memory"]["ratio"] for n in networks]
    # NaN, a forward pass too small to see, is not within the aim.
    return check("peak memory at most 3 forward passes", all(r <= 3 for r in ratios), f"largest {max(ratios):.2f}")


def _agreement_check(networks: list[dict[str, Any]]) -> dict[str, Any]:
    largest = max(n["agreement"][k] for n in networks for k in ("value", "first", "second"))
    return check(f"agreement in float64 within {TOLERANCE:g}", largest <= TOLERANCE, f"largest {largest:.1e}")


if __name__ == "__main__":
    import tyro

    finish(run(tyro.cli(Config)))

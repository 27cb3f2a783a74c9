"""Are the terms right? The remainder of the expansion must vanish with the third power of the step.

Claim C1 rests on it: with ``delta`` replaced by ``t delta``, ``R(t) = L(t) - [L + t R1 + t^2 (R2 + R3)]`` has slope 3
in log-log for a smooth network (docs/theory.md, Eq. (3d)). L(t) is summed over every mask and every partner, the terms
come from the exact moments, so a coefficient that is 1 % off shows as slope 2 at small t.
Expected: slope between 2.7 and 3.3 on the softplus network for every strategy in both laws; below 2.5 with a_jk 1 %
off. Cost: about 30 s on one core, most of it GMix. Record: ``remainder_order.json``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro

from experiments import digit_nets
from experiments.data import digits
from experiments.parallel import spread
from experiments.record import RESULTS, cached, check, code_digest, command_line, finish, weights_digest
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.moments.moments import LAWS, Moments
from msda_theory.moments.operators import Dense
from msda_theory.verify import remainder_order

SOURCES = (*digit_nets.SOURCES, "remainder_order.py")


@dataclass(frozen=True)
class Config:
    """Strategies, the network (trained with CutMix), a few images, steps t."""

    strategies: tuple[str, ...] = ("mixup", "cutmix", "hmix", "gmix", "choice")
    training: digit_nets.RunConfig = field(default_factory=lambda: digit_nets.RunConfig("cutmix", "softplus", 0))
    images: int = 3
    order: int = 4
    scales: tuple[float, ...] = (1 / 32, 1 / 128, 1 / 512, 1 / 2048, 1 / 4096)


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Remainders of every strategy and law, and of a wrong coefficient."""
    trained = digit_nets.train_one(config.training, folder)

    def measure() -> dict[str, Any]:
        cases = [(name, law, "right") for name in config.strategies for law in LAWS]
        cases += [(name, "exact", "a_jk 1 % off") for name in config.strategies]
        tasks = [(config, trained, folder, *case) for case in cases]
        rows = spread(_one, tasks, jobs, "remainder_order")
        return {"images": config.images, "rows": rows, "checks": [_claim(row) for row in rows]}

    return cached(
        folder / "remainder_order.json",
        config,
        code_digest(*SOURCES) + weights_digest([trained]),
        command_line("experiments.remainder_order", config),
        measure,
    )


def _one(config: Config, trained: dict[str, Any], folder: Path, name: str, law: str, kind: str) -> dict[str, Any]:
    data, strategy = digits().train[: config.images], make_strategy(name)
    moments = strategy.moments(data.shape, law=law)
    if kind == "a_jk 1 % off":
        moments = _one_percent_off(moments)
    result = remainder_order(
        digit_nets.load_model(trained, folder),
        data,
        strategy,
        law=law,
        scales=config.scales,
        moments=moments,
        order=config.order,
    )
    remainder = [r.mean for r in result.remainder]
    labels = {"strategy": name, "law": law, "kind": kind}
    return {**labels, "slope": result.slope, "t": result.scales, "remainder": remainder, "fitted": result.fitted}


def _one_percent_off(moments: Moments) -> Moments:
    """The same mean and 0.99 A, every coefficient 1 % too small."""
    return replace(moments, second=Dense(0.99 * moments.second.dense(), moments.second.shape))


def _claim(row: dict[str, Any]) -> dict[str, Any]:
    label, slope = f"{row['strategy']}, law={row['law']}, {row['kind']}", row["slope"]
    if row["kind"] == "right":
        return check(f"{label}: third order", 2.7 < slope < 3.3, f"slope {slope:.3f}")
    return check(f"{label}: not third order", slope < 2.5, f"slope {slope:.3f}")


if __name__ == "__main__":
    finish(run(tyro.cli(Config)))

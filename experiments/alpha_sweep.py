"""Does alpha below 1 do anything? Regularizers and mixed loss against the parameter of lam ~ Beta(alpha, alpha).

For every strategy and alpha, on trained networks (without mixing, and with the strategy itself at alpha = 1): R1, R2
and R3 at the data (exact law and terms), the Gauss-Newton prediction at the mask and the measured mixed loss, as levels
and as shares of their values at alpha = 1. Also the mean of a_jj, a property of the law alone, for two image sizes.
Expected: all terms of Mixup are 3 alpha / (2 alpha + 1) of those at alpha = 1 (its mean of q is alpha / (2 alpha + 1),
and a_jk half of that), so alpha = .2 keeps 43 % and alpha = .05 keeps 14 %; HMix and GMix much alike. Clipped CutMix
with corrected labels hardly reacts: a small alpha draws lam near 0 half of the time, a box of the whole image, of which
the border leaves (3/4)^2 on average, with the label to match. A box that stays inside has no such floor on large
images; on 8x8 even sides of at most 6 pixels put one there too, so it is compared by its law and not on networks.
The Gauss-Newton prediction follows the rise of networks that were trained with mixing at every alpha. It was expected
to stay within a half of the rise everywhere; on networks trained without mixing it is at the edge of that for Mixup,
HMix and GMix at small alpha (about .5 to .8 of the rise), and no check asks for it there.
Cost: about 3 s a network and 2 s for the laws on one core, 18 networks. Record: ``alpha_sweep.json``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro

from experiments import digit_nets
from experiments.data import digits
from experiments.law_statistics import over_networks
from experiments.parallel import spread
from experiments.record import RESULTS, cached, check, code_digest, command_line, current, finish, weights_digest
from msda_theory.compare import compare
from msda_theory.dense import pair_weights
from msda_theory.losses import SoftmaxCrossEntropy
from msda_theory.masks.base import Strategy
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.mixed_loss import mixed_loss
from msda_theory.streams import stream

SOURCES = (*digit_nets.SOURCES, "alpha_sweep.py", "law_statistics.py")
INSIDE = "cutmix-inside"  # CutMix whose box stays inside the image; its law only
NETWORKS = digit_nets.Config(activations=("softplus",))
RATIOS = ("r1", "r2", "r3", "rise", "rise_gn")


@dataclass(frozen=True)
class Config:
    """Which networks, strategies, alphas; how many images; sizes for the laws. Alphas hold 1.

    Of each image ``pairs`` pairs (q, r) measure the rise, ``draws`` further ones the share of it that is predicted.
    """

    training: digit_nets.Config = field(default_factory=lambda: NETWORKS)
    strategies: tuple[str, ...] = ("mixup", "cutmix", "hmix", "gmix", "choice")
    alphas: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
    images: int = 96
    pairs: int = 32
    draws: int = 5
    sizes: tuple[int, ...] = (8, 64)
    seed: int = 0

    def __post_init__(self) -> None:
        if 1.0 not in self.alphas:
            raise ValueError(f"expected alpha = 1 among the alphas, got {self.alphas}; shares are taken of it.")

    def on(self, training: str) -> list[str]:
        """Strategies to mix with on networks trained with ``training``: all without mixing, else its own."""
        return [s for s in self.strategies if training in ("vanilla", s)]


def with_alpha(name: str, alpha: float) -> Strategy:
    """A strategy of the sweep."""
    if name == INSIDE:
        return CutMix(alpha=alpha, box="inside")
    if name == "choice":
        return Choice((Mixup(alpha=alpha), CutMix(alpha=alpha)))
    return make_strategy(name, alpha=alpha)


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Sweep over every network and summarise over seeds."""
    spread(
        digit_nets.train_one,
        [(c, folder) for c in config.training.runs()],
        jobs,
        "digit_nets",
        known=digit_nets.trained,
    )
    tasks = [(c, config, folder) for c in config.training.runs() if config.on(c.strategy)]
    records = spread(_sweep_one, tasks, jobs, "alpha_sweep", known=_swept)
    return cached(
        folder / "alpha_sweep.json",
        config,
        code_digest(*SOURCES) + weights_digest(records),
        command_line("experiments.alpha_sweep", config),
        lambda: _summary(config, records),
        parts=records,
    )


def _key(run_config: digit_nets.RunConfig, config: Config, trained: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Configuration and code of the sweep on one network."""
    options = {k: getattr(config, k) for k in ("alphas", "images", "pairs", "draws", "seed")}
    options["strategies"] = config.on(run_config.strategy)
    return {"run": run_config, "sweep": options}, code_digest(*SOURCES) + trained["result"]["weights_sha256"]


def _swept(run_config: digit_nets.RunConfig, config: Config, folder: Path) -> dict[str, Any] | None:
    trained = digit_nets.trained(run_config, folder)
    path = folder / "alpha_sweep" / f"{run_config.name}.json"
    return current(path, *_key(run_config, config, trained)) if trained else None


def _sweep_one(run_config: digit_nets.RunConfig, config: Config, folder: Path) -> dict[str, Any]:
    trained = digit_nets.train_one(run_config, folder)
    return cached(
        folder / "alpha_sweep" / f"{run_config.name}.json",
        *_key(run_config, config, trained),
        command_line("experiments.alpha_sweep", config),
        lambda: {"rows": _rows(trained, config, folder), "weights_sha256": trained["result"]["weights_sha256"]},
    )


def _rows(trained: dict[str, Any], config: Config, folder: Path) -> list[dict[str, Any]]:
    """Terms and losses of one network for every strategy and alpha; all on the same partners."""
    model, data = digit_nets.load_model(trained, folder), digits().train[: config.images]
    run_config = digit_nets.RunConfig(**trained["config"])
    weights = pair_weights(model, data, SoftmaxCrossEntropy())
    rows = []
    for name in config.on(run_config.strategy):
        for alpha in config.alphas:
            strategy = with_alpha(name, alpha)
            r1, r2, r3 = weights.terms(strategy.moments(data.shape))
            rng = stream(config.seed, "alpha_sweep", run_config.name)
            row = compare({"model": model}, data, [strategy], at="mask", draws=config.draws, rng=rng).rows[0]
            clean, explained = row.clean.mean, row.explained_gn
            assert explained is not None, "every strategy of the sweep mixes"
            measured = mixed_loss(model, data, strategy, draws=config.pairs, rng=rng)
            rise = measured.mean - clean
            rows.append(
                {
                    "training": run_config.strategy,
                    "seed": run_config.seed,
                    "strategy": name,
                    "alpha": alpha,
                    "clean": clean,
                    "r1": r1,
                    "r2": r2,
                    "r3": r3,
                    "rise_data": r1 + r2 + r3,
                    # Both rises vary with the draws alike: their ratio is known far better than the prediction.
                    "explained_gn": explained.mean,
                    "explained_gn_se": explained.se,
                    "rise_gn": explained.mean * rise,
                    "rise": rise,
                    "rise_se": measured.se,
                }
            )
    return rows


def _summary(config: Config, records: list[dict[str, Any]]) -> dict[str, Any]:
    rows = pd.DataFrame([row for r in records for row in r["result"]["rows"]])
    key = ["training", "seed", "strategy"]
    rows["rise_gn_se"] = rows["rise_gn"] * np.hypot(_relative(rows, "rise"), _relative(rows, "explained_gn"))
    ones = rows[rows["alpha"] == 1.0].set_index(key).add_suffix("_at_1")
    joined = rows.join(ones.drop(columns="alpha_at_1"), on=key)
    for name in RATIOS:
        rows[f"{name}_share"] = joined[name] / joined[f"{name}_at_1"]
    for name in ("rise", "rise_gn"):  # of independent draws, though partners are shared
        error = np.hypot(_relative(joined, name), joined[f"{name}_se_at_1"] / joined[f"{name}_at_1"])
        rows[f"{name}_share_se"] = rows[f"{name}_share"] * error.where(rows["alpha"] != 1.0, 0.0)
    values = [c for c in rows.columns if c not in (*key, "alpha") and not c.endswith("_se")]
    summary = []
    for names, group in rows.groupby(["training", "strategy", "alpha"], sort=False):
        cell: dict[str, Any] = dict(zip(("training", "strategy", "alpha"), names, strict=True))
        for c in values:
            draws = group[f"{c}_se"].to_numpy() if f"{c}_se" in group else None
            found = over_networks(group[c].to_numpy(), draws)
            cell[c] = {"mean": found["mean"], "se": found["se"], "n": len(group)}
        summary.append(cell)
    laws = _laws(config)
    return {
        "images": config.images,
        "pairs": config.pairs,
        "draws": config.draws,
        "columns": rows.round(6).to_dict(orient="list"),
        "summary": summary,
        "laws": laws,
        "checks": [*_law_checks(rows, laws), *_network_checks(summary)],
    }


def _laws(config: Config) -> list[dict[str, Any]]:
    """Mean of a_jj over the pixels, exact law, and its share of that at alpha = 1, without sampling."""
    out = []
    for size, name in product(config.sizes, (*config.strategies, INSIDE)):
        mean = [float(with_alpha(name, a).moments((size, size)).second.diagonal().mean()) for a in config.alphas]
        share = [v / mean[config.alphas.index(1.0)] for v in mean]
        out.append({"strategy": name, "size": size, "alpha": config.alphas, "mean_ajj": mean, "share": share})
    return out


def _relative(rows: pd.DataFrame, name: str) -> pd.Series:
    return rows[f"{name}_se"] / rows[name]


def _law_checks(rows: pd.DataFrame, laws: list[dict[str, Any]]) -> list[dict[str, Any]]:
    mixup = rows[rows["strategy"] == "mixup"]
    law = 3 * mixup["alpha"] / (2 * mixup["alpha"] + 1)
    worst = max(float((mixup[f"{term}_share"] - law).abs().max()) for term in ("r1", "r2", "r3"))
    rising = [
        group.sort_values("alpha")["r2"].is_monotonic_increasing
        for _, group in rows.groupby(["training", "seed", "strategy"])
    ]
    large = max(c["size"] for c in laws)
    floor = {c["strategy"]: min(c["share"]) for c in laws if c["size"] == large}
    return [
        check("Mixup's terms are 3 alpha / (2 alpha + 1) of those at alpha = 1", worst < 1e-9, f"off by {worst:.1g}"),
        check("R2 grows with alpha in every cell", all(rising), f"{sum(rising)} of {len(rising)}"),
        check(
            f"at {large}x{large} the smallest alpha keeps more than a half of a_jj if boxes are clipped, not if inside",
            floor.get("cutmix", 1.0) > 0.5 > floor[INSIDE],
            f"clipped {floor.get('cutmix', 1.0):.2f}, inside {floor[INSIDE]:.2f}",
        ),
    ]


def _network_checks(summary: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lowest = min(r["alpha"] for r in summary)
    shares = [(r["strategy"], r["rise_share"]["mean"]) for r in summary if r["alpha"] == lowest]
    blended = [v for s, v in shares if s in ("mixup", "hmix", "gmix")]
    clipped = [v for s, v in shares if s == "cutmix"]
    follows = [r["explained_gn"]["mean"] for r in summary if r["training"] != "vanilla"]
    return [
        check(
            f"at alpha = {lowest:g} the rise under Mixup, HMix and GMix is less than a half of that at alpha = 1",
            max(blended, default=0.0) < 0.5,
            _span(blended),
        ),
        check(
            f"at alpha = {lowest:g} the rise under clipped CutMix is more than a half of that at alpha = 1",
            min(clipped, default=1.0) > 0.5,
            _span(clipped),
        ),
        check(
            "on networks trained with mixing the Gauss-Newton prediction at the mask is within a half of the rise",
            all(abs(v - 1) < 0.5 for v in follows),
            _span(follows),
        ),
    ]


def _span(values: list[float]) -> str:
    return f"shares {min(values):.2f} to {max(values):.2f}" if values else "not measured"


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Sweep over ``jobs`` processes."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)

"""Tables and sentences on designed laws, from the record of ``designed_law``."""

from __future__ import annotations

from typing import Any

from figures.designed_law import TRAINING

Record = dict[str, Any]


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks of ``designed_law`` by name."""
    record = records["designed_law"]
    return {
        "designs": designs(record),
        "designed-losses": losses(record),
        "designed-twin": twin(record),
        "designed-setting": setting(record),
    }


def designs(record: Record) -> str:
    """What was wanted and how near the law comes, as Markdown."""
    lines = [
        "| wish | alpha | label weight | variance of the field (1: masks of 0 and 1) | largest residual of a(p) "
        "| root mean square | largest z of the sampler |",
        "|---|--:|---|--:|--:|--:|--:|",
    ]
    for d in record["result"]["designs"]:
        label = "lam" if d["label"] == "nominal" else "mean of the mask"
        cells = [d["wish"], f"{d['alpha']:g}", label, f"{d['variance']:.3f}", _small(d["worst"]), _small(d["rms"])]
        lines.append(f"| {' | '.join(cells)} | {d['largest_z']:.1f} |")
    return "\n".join(lines)


def losses(record: Record) -> str:
    """Test accuracy of training with each law, and its mixed loss on networks trained without mixing, as Markdown."""
    result = record["result"]
    measured = {r["law"]: r["measured"] for r in result["losses"] if r["training"] == "vanilla"}
    lines = [
        "| law | test accuracy trained with it (%) | less periodic CutMix (points) | mixed loss on vanilla networks |",
        "|---|--:|--:|--:|",
    ]
    for row in result["accuracy"]:
        less, loss = row["less_periodic_cutmix"], measured[row["training"]]
        beside = "" if row["training"] == "cutmix-periodic" else f"{100 * less['mean']:+.1f} ± {100 * less['se']:.1f}"
        lines.append(
            f"| {TRAINING[row['training']]} | {100 * row['accuracy']['mean']:.1f} ± {100 * row['accuracy']['se']:.1f} "
            f"| {beside} | {loss['mean']:.2f} ± {loss['se']:.2f} |"
        )
    return "\n".join(lines)


def twin(record: Record) -> str:
    """Terms and mixed loss of the twin over those of periodic CutMix on the same networks, as a sentence."""
    parts = []
    for r in record["result"]["twin_over_cutmix"]:
        values = [f"{r[k]['mean']:.3f} ± {r[k]['se']:.3f}" for k in ("predicted", "measured")]
        name = "without mixing" if r["training"] == "vanilla" else f"with {TRAINING[r['training']]}"
        parts.append(f"on networks trained {name} R1 + R2 + R3 at the data {values[0]}, measured rise {values[1]}")
    return (
        f"Twin over periodic CutMix: {'; '.join(parts)} (± standard error over {len(record['config']['seeds'])} "
        f"networks; `{record['command']}`)."
    )


def setting(record: Record) -> str:
    """How it was measured."""
    config, result = record["config"], record["result"]
    return (
        f"Digits, {len(config['seeds'])} networks of each training, {config['epochs']} epochs; ± is a standard error "
        f"over networks. Mixed losses: {result['images']} training images, {result['pairs']} pairs (q, r) for each. z: "
        f"of {config['draws']:,} draws against the closed form, largest over a(p). {record['machine']}; torch "
        f"{record['versions']['torch']}; `{record['command']}`."
    )


def _small(value: float) -> str:
    return "below 1e-12" if value < 1e-12 else f"{value:.4f}"

"""Tables and sentences on training on the theory, from the record of ``theory_training``."""

from __future__ import annotations

from typing import Any

from figures.style import NAMES
from figures.theory_training import name_of

Record = dict[str, Any]
ACTIVATIONS = {"relu": "ReLU"}
# Shares beside the share of the drop of the mixed loss, and their columns.
SHARES = {
    "share_mixed": "of the drop",
    "share_mixed_test": "of the drop, test images",
    "share_tv_clean": "of TV, clean",
    "share_tv_mixed": "of TV, mixed",
    "share_angle": "of the gradients' angle",
    "share_profile": "of the gradient map",
}


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks of ``theory_training`` by name."""
    record = records["theory_training"]
    return {
        "theory-training": results(record),
        "theory-training-distances": distances(record),
        "theory-training-expectations": expectations(record),
        "theory-training-setting": setting(record),
        "theory-training-shares": ledger(record),
    }


def results(record: Record) -> str:
    """Accuracy, mixed loss, and shares of MSDA's effect, as Markdown."""
    head = ["net", "strategy", "trained on", "test accuracy (%)", "own objective", "mixed loss", *SHARES.values()]
    lines = [f"| {' | '.join(head)} |", "|---|---|---|" + "--:|" * (len(head) - 3)]
    for row in record["result"]["rows"]:
        cells = [_activation(row), NAMES[row["strategy"]], name_of(row["training"])]
        if row["diverged"]:
            cells[2] += f" ({row['diverged']} of {row['seeds']} diverged)"
        found = row["measures"]
        cells += [_value(found.get("accuracy"), 100, 1)]
        cells += [_value(found.get(name), 1, 3) for name in ("objective", "mixed")]
        for name in SHARES:
            cells.append("" if _by_definition(row["training"], name) else _value(found.get(name), 1, 2))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def distances(record: Record) -> str:
    """Distances of predictions and input gradients to training by mixing of the same seed, as Markdown."""
    names = {
        "tv_clean": "TV, clean",
        "kl_clean": "KL, clean",
        "tv_mixed": "TV, mixed",
        "kl_mixed": "KL, mixed",
        "angle": "1 - cosine of the gradients",
        "profile": "TV of gradient maps",
    }
    lines = [f"| net | strategy | trained on | {' | '.join(names.values())} |", "|---|---|---|" + "--:|" * len(names)]
    for row in (r for r in record["result"]["rows"] if r["training"] != "msda"):
        values = [_value(row["measures"].get(name), 1, 3) for name in names]
        kinds = [_activation(row), NAMES[row["strategy"]], name_of(row["training"])]
        lines.append(f"| {' | '.join([*kinds, *values])} |")
    return "\n".join(lines)


def expectations(record: Record) -> str:
    """What was expected before the first run and what came, as Markdown."""
    lines = ["| expected | came | yes in | no in | differences |", "|---|---|--:|--:|---|"]
    for e in (e for e in record["result"]["expectations"] if e["cells"]):
        sides = [c["side"] for c in e["cells"]]
        values = [c["mean"] for c in e["cells"] if c["mean"] is not None]
        span = f"{min(values):+.2f} to {max(values):+.2f}" if values else "all diverged"
        lines.append(
            f"| {e['check']} | {'yes' if e['holds'] else 'no'} | {sides.count('yes')} of {len(sides)} "
            f"| {sides.count('no')} of {len(sides)} | {span} |"
        )
    n = len(record["config"]["seeds"])
    return (
        "\n".join(lines) + "\n\nCells are activations times strategies. *Differences* of shares that should be "
        f"positive, smallest and largest mean over {n} seeds; yes and no are told by their 95 % intervals (Student's "
        "t, paired by seed), not corrected for their number."
    )


def setting(record: Record) -> str:
    """How it was measured."""
    config = record["config"]
    return (
        f"Digits, {len(config['seeds'])} networks of each kind, {config['epochs']} epochs, the optimiser, initial "
        f"weights and batches of training by mixing; {config['pairs']} pairs (q, r) for each image and step, "
        f"{max(1, config['pairs'] // 2)} at the mask. Mixed loss: {config['images']} training images, "
        f"{config['draws']} pairs each, equal for all networks. Shares: 0 is vanilla; 1 is MSDA, or for distances a "
        "second training by mixing with other masks and partners. Own objective: what was minimised, mean over the "
        "last epoch. ± is half a 95 % interval over seeds (Student's t). "
        f"{record['machine']}; torch {record['versions']['torch']}; `{record['command']}`."
    )


def ledger(record: Record) -> str:
    """How far training on the expansion reproduces training by mixing, in one sentence."""
    rows = record["result"]["rows"]
    parts = []
    shown = ("data-r2", "data-r1r2", "data-all", "data-linear", "mean-gn", "mask-base", "mask-gn", "mask-linear")
    for training in shown:
        own = [r["measures"] for r in rows if r["training"] == training and r["measures"]]
        if own:
            parts.append(f"{name_of(training)} {_span(own, 'share_mixed')} ({_span(own, 'share_tv_mixed')})")
    return (
        "Trained on the expansion in place of mixing, share of MSDA's drop of the mixed loss (in brackets: of the way "
        f"of the predictions on mixed test images), range over activations and strategies: {'; '.join(parts)} "
        f"({len(record['config']['seeds'])} seeds each; `{record['command']}`)."
    )


def _by_definition(training: str, share: str) -> bool:
    """Whether this share is 0 or 1 whatever was measured."""
    if training == "msda-pairs":
        return not share.startswith("share_mixed")
    return training in ("vanilla", "msda")


def _span(own: list[dict[str, Any]], name: str) -> str:
    values = [m[name]["mean"] for m in own]
    return f"{min(values):.2f} to {max(values):.2f}"


def _activation(row: dict[str, Any]) -> str:
    return ACTIVATIONS.get(row["activation"], row["activation"])


def _value(value: dict[str, float] | None, factor: float, digits: int) -> str:
    if value is None or value["mean"] is None:  # diverged, or a constant network
        return ""
    half = "" if value["half"] is None else f" ± {factor * value['half']:.{digits}f}"
    return f"{factor * value['mean']:.{digits}f}{half}"

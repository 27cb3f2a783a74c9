"""Tables and sentences on the designed tasks, from the record of ``task_winners``."""

from __future__ import annotations

from typing import Any

from experiments.accuracy_stats import rows
from figures.accuracy import cell_name
from figures.style import NAMES

Record = dict[str, Any]


def winners(record: Record) -> str:
    """Test accuracy and predicted conflict of every strategy on both tasks, as Markdown."""
    head = ["task", "trained with", "test accuracy (%)", "over vanilla", "over Mixup"]
    head += ["predicted conflict", "measured conflict", "predicted, vanilla nets"]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "--:|" * (len(head) - 2)]
    for task in record["result"]["tasks"]:
        for row in task["rows"]:
            cells = [task["task"], NAMES[row["strategy"]], f"{_percent(row['accuracy'], 'se')}"]
            cells += [_percent(row[k], "half", sign="+") if row[k] else "" for k in ("to_vanilla", "to_mixup")]
            for classifier, name in (("ideal", "predicted"), ("ideal", "measured"), ("network", "predicted")):
                cells.append(_number(row[classifier][name]) if row[classifier] else "")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def differences(record: Record) -> str:
    """CutMix - Mixup: what the terms predict on either classifier, at either point, and what came, as Markdown."""
    result = record["result"]
    lines = [
        "| CutMix - Mixup | " + " | ".join(t["task"] for t in result["tasks"]) + " |",
        "|---|" + "--:|" * len(result["tasks"]),
    ]
    names = {
        "ideal_predicted": "conflict, ideal classifier, predicted at the mask",
        "ideal_measured": "the same, measured",
        "network_predicted": "conflict, vanilla networks, predicted at the mask",
        "network_measured": "the same, measured",
        "ideal_data": "R1 + R2 at the data, ideal classifier",
        "network_data": "R1 + R2 at the data, vanilla networks",
    }
    for key, name in names.items():
        values = [t["cutmix_minus_mixup"][key] for t in result["tasks"]]
        lines.append(f"| {name} (nats) | {' | '.join(_number(v, 'half', '+') for v in values)} |")
    values = [t["cutmix_minus_mixup"]["accuracy"] for t in result["tasks"]]
    lines.append(f"| **test accuracy** (points) | {' | '.join(_percent(v, 'half', '+') for v in values)} |")
    for key in ("ideal_predicted", "network_predicted", "ideal_data", "network_data"):
        where = "at the data" if key.endswith("data") else "at the mask"
        which = "ideal classifier" if key.startswith("ideal") else "vanilla networks"
        ranks = [_rank(t["spearman"][key]) for t in result["tasks"]]
        lines.append(f"| rank correlation, {where}, {which} | {' | '.join(ranks)} |")
    return "\n".join(lines)


def setting(record: Record) -> str:
    """How it was measured."""
    config = record["config"]
    return (
        f"{len(config['seeds'])} drawings of each task, each with {config['train']} training and {config['test']:,} "
        f"test images and one network for each strategy ({config['epochs']} epochs). ± at test accuracy and conflict: "
        "one standard error over drawings; at *over* and at differences: half a 95 % interval (Student's t) of the "
        "paired difference. Intervals are not corrected for their number. "
        f"Terms: {config['draws']} pairs (q, r) for each training image, exact law. Rank "
        "correlation (Spearman) of small conflict with test accuracy over the strategies that mix. "
        f"{record['machine']}; torch {record['versions']['torch']}; `{record['command']}`."
    )


def ledger(record: Record) -> str:
    """Measured column of claim C6."""
    parts = []
    for task in record["result"]["tasks"]:
        difference = task["cutmix_minus_mixup"]
        best = next(r for r in task["rows"] if r["strategy"] == task["measured_winner"])
        parts.append(
            f"{task['task']}: CutMix - Mixup {_percent(difference['accuracy'], 'half', '+')} points of test accuracy, "
            f"predicted winner of the two {_smaller(difference['ideal_predicted'])} (conflict, CutMix - Mixup "
            f"{_number(difference['ideal_predicted'], 'half', '+')} nats); best of all that mix "
            f"{NAMES[task['measured_winner']]}, predicted {NAMES[task['predicted_winner']]}, over vanilla "
            f"{_percent(best['to_vanilla'], 'half', '+')} points"
        )
    seeds = len(record["config"]["seeds"])
    return f"Two designed tasks, {seeds} drawings each, 95 % intervals of paired differences. {'. '.join(parts)}."


def between(record: Record, accuracy: Record) -> str:
    """Measured column of claim C7: where HMix and GMix lie between Mixup and CutMix, by task and by data set."""
    cells = {
        f"task {task['task']}": {r["strategy"]: r["accuracy"]["mean"] for r in task["rows"]}
        for task in record["result"]["tasks"]
    }
    for row in rows(accuracy["result"]["runs"]):
        cells.setdefault(cell_name(row["data"], row["model"]), {})[row["strategy"]] = row["accuracy"]["mean"]
    parts = []
    for name, means in cells.items():
        if {"mixup", "cutmix", "hmix", "gmix"} <= set(means):
            placed = ", ".join(f"{NAMES[s]} {100 * means[s]:.1f} ({_side(means, s)})" for s in ("hmix", "gmix"))
            parts.append(f"{name}: Mixup {100 * means['mixup']:.1f}, CutMix {100 * means['cutmix']:.1f}, {placed}")
    return f"Mean test accuracy in % beside that of Mixup and CutMix. {'; '.join(parts)}."


def _side(means: dict[str, float], strategy: str) -> str:
    low, high = sorted((means["mixup"], means["cutmix"]))
    return "above both" if means[strategy] > high else "below both" if means[strategy] < low else "between"


def _smaller(difference: dict[str, float]) -> str:
    return "CutMix" if difference["mean"] < 0 else "Mixup"


def _percent(value: dict[str, float], error: str, sign: str = "") -> str:
    return f"{100 * value['mean']:{sign}.1f} ± {100 * value[error]:.1f}"


def _number(value: dict[str, float], error: str = "se", sign: str = "") -> str:
    return f"{value['mean']:{sign}.3f} ± {value[error]:.3f}"


def _rank(value: float | None) -> str:
    return "" if value is None else f"{value:+.1f}"

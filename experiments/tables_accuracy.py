"""Tables and sentences on the accuracy study, computed from the runs in its record; partial records are fine."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from experiments.accuracy_stats import Row, place, ranks, reversals, rows, side, throughput, verdict_c9
from figures.accuracy import cell_name, data_name, model_name, strategy_name

Record = dict[str, Any]
OPTIONS = {
    "batch": "batch {}",
    "lr": "learning rate {}",
    "schedule": "{} schedule",
    "momentum": "momentum {}",
    "weight_decay": "weight decay {}",
    "smoothing": "label smoothing {}",
    "crop": "crops padded by {}",
    "flip": "mirrored",
    "per_sample": "a mask for each image",
    "precision": "{}",
}


def table(record: Record) -> str:
    """Test accuracy, paired difference to vanilla, rank and train accuracy, one row a strategy, as Markdown."""
    own = rows(_runs(record))
    rank = {(c["data"], c["model"], r["strategy"]): r["rank"] for c in ranks(own) for r in c["ranks"]}
    head = ["data", "network", "trained with", "test accuracy (%)", "minus vanilla, points", "rank"]
    lines = [f"| {' | '.join([*head, 'train accuracy (%)', 'n'])} |", "|---|---|---|" + "--:|" * 5]
    for row in own:
        names = [data_name(row["data"]), model_name(row["model"]), strategy_name(row["strategy"])]
        values = [
            _accuracy(row["accuracy"]),
            _points(row["minus_vanilla"], row["n"]),
            f"{rank[row['data'], row['model'], row['strategy']]:g}",
            f"{100 * row['train_accuracy']['mean']:.2f}",
            str(row["n"]),
        ]
        lines.append(f"| {' | '.join([*names, *values])} |")
    return "\n".join(lines) + f"\n\n{_legend(own)}"


def ranks_sentence(record: Record) -> str:
    """Best strategy of each cell, how far it leads, and whether the order of two strategies reverses (claim C6)."""
    own = rows(_runs(record))
    parts = []
    for cell in ranks(own):
        text = f"{cell_name(cell['data'], cell['model'])}: {strategy_name(cell['best'])}"
        if cell["lead"]:
            text += f", {_points(cell['lead'])} over {strategy_name(cell['second'])}"
        mean = next(r["mean_rank"] for r in cell["ranks"] if r["strategy"] == cell["best"])
        if mean["se"] is not None:
            text += f", mean rank {mean['mean']:.1f} ± {mean['se']:.1f} of {len(cell['ranks'])} over {mean['n']} seeds"
        parts.append(text + (f", Friedman p = {cell['friedman_p']:.2g}" if cell["friedman_p"] is not None else ""))
    if not parts:
        return "No runs yet."
    told = reversals(own)
    pairs = "; ".join(_reversal(r) for r in told["found"]) or "none"
    return (
        f"Largest mean test accuracy (lead in points with its 95 % interval, which the selection biases upwards): "
        f"{'; '.join(parts)}. Pairs of strategies told apart by 95 % intervals in two cells or more: {told['pairs']}; "
        f"those with the order reversed between cells: {pairs}."
    )


def ledger_c9(record: Record) -> str:
    """Measured column of claim C9."""
    told = verdict_c9(rows(_runs(record)))
    cells: dict[str, list[str]] = {}
    for c in told["cases"]:
        points = _points(c["difference"]) or "without a common seed"
        text = f"{strategy_name(c['strategy'])} {points} over {strategy_name(c['best_earlier'])}"
        cells.setdefault(cell_name(c["data"], c["model"]), []).append(text)
    if not cells:
        return told["sentence"]
    parts = "; ".join(f"{name}: {', '.join(texts)}" for name, texts in cells.items())
    return (
        f"{told['sentence']} In points, over the earlier strategy with the largest mean (selected on the same runs, "
        f"which biases the differences downwards): {parts}."
    )


def ledger_c4(record: Record) -> str:
    """Measured column of claim C4: test accuracy and generalization gap relative to vanilla."""
    own = [r for r in rows(_runs(record)) if r["minus_vanilla"]]
    if not own:
        return "No runs of a strategy and of vanilla with one seed."
    accuracy, gap = ([r[k] for r in own] for k in ("minus_vanilla", "gap_minus_vanilla"))
    both = sum(side(a) == "above" and side(g) == "below" for a, g in zip(accuracy, gap, strict=True))
    return (
        f"Trained with mixing minus vanilla, {len(own)} cases of strategy, data and network, told by "
        f"95 % intervals of paired differences over seeds: test accuracy higher in {_sides(accuracy, 'above')}, lower "
        f"in {_sides(accuracy, 'below')} ({_range(accuracy)} points); generalization gap (train minus test accuracy) "
        f"smaller in {_sides(gap, 'below')}, larger in {_sides(gap, 'above')} ({_range(gap)} points); both higher "
        f"accuracy and a smaller gap in {both}. A gap by itself also falls where the training images are fitted less."
    )


def setting(record: Record) -> str:
    """How accuracy was measured: data, networks, epochs, seeds, options, machine, command."""
    own, config = rows(_runs(record)), record["config"]
    cells = {(r["data"], r["model"]): r for r in own}
    parts = []
    for (data, model), row in cells.items():
        counts = sorted({r["n"] for r in own if (r["data"], r["model"]) == (data, model)})
        seeds = f"{counts[0]} seed{'s' if counts[-1] > 1 else ''}"
        seeds = seeds if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
        parts.append(
            f"{cell_name(data, model)}: {row['images']:,} training and {row['test_images']:,} test images, "
            f"{row['epochs']} epochs, {seeds}"
        )
    options = ", ".join(_options(config))
    versions = record.get("versions", {})
    torch = f"; torch {versions['torch']}" if versions.get("torch") else ""
    ending = f"{record['machine']}{torch}; `{record['command']}`."
    return " ".join([f"{'; '.join(parts) or 'No runs yet'}.", *([f"{_upper(options)}."] if options else []), ending])


def throughput_sentence(record: Record) -> str:
    """Images a second of each strategy over vanilla, median over seeds."""
    ratios: dict[str, list[float]] = {}
    for row in throughput(_runs(record)):
        ratios.setdefault(row["strategy"], []).append(row["median"])
    if not ratios:
        return "No runs to compare the speed of."
    parts = [f"{strategy_name(s)} {_span(ratios[s])}" for s in sorted(ratios, key=place)]
    return (
        "Training images a second over those of vanilla with the same data, network and seed, median over seeds (where "
        "there are several data sets and networks, the median of those and their range): "
        f"{', '.join(parts)}; taken from the training runs, not from a benchmark."
    )


def _runs(record: Record) -> list[Row]:
    found: list[Row] = record["result"]["runs"]
    return found


def _accuracy(value: Row) -> str:
    mean = f"{100 * value['mean']:.2f}"
    if value["se"] is None:
        return mean
    return f"{mean} ± {100 * value['se']:.2f} ({100 * (value['high'] - value['mean']):.2f})"


def _points(value: Row | None, seeds: int | None = None) -> str:
    """A difference with its interval; the number of pairs where it is not that of the row's ``seeds``."""
    if value is None:
        return ""
    known = value["low"] is not None
    text = _signed(value["mean"]) + (f" [{_signed(value['low'])}, {_signed(value['high'])}]" if known else "")
    pairs = f", {value['n']} pair{'s' if value['n'] > 1 else ''}"
    return text + (pairs if seeds not in (None, value["n"]) else "")


def _signed(value: float) -> str:
    return f"{100 * value:+.2f}" if round(100 * value, 2) else "0.00"


def _legend(own: Sequence[Row]) -> str:
    if not own:
        return "No runs yet."
    errors = [100 * r["se_test"] for r in own]
    return (
        "Test accuracy: mean ± standard error over n seeds (half of the 95 % interval, Student's t). Minus vanilla: "
        "mean and 95 % interval of paired differences over common seeds; intervals are not corrected for their number. "
        "Rank: 1 is the largest mean. The same test images judge all runs: as an estimate for new images each accuracy "
        f"has a binomial standard error of {_span(errors)} points besides, not in the intervals."
    )


def _reversal(pair: Row) -> str:
    above, below = (", ".join(f"({cell_name(*c)})" for c in pair[k]) for k in ("above", "below"))
    return f"{strategy_name(pair['first'])} over {strategy_name(pair['second'])} on {above}, under it on {below}"


def _sides(values: Sequence[Row], wanted: str) -> int:
    return sum(side(v) == wanted for v in values)


def _range(values: Sequence[Row]) -> str:
    means = [v["mean"] for v in values]
    return f"{_signed(min(means))} to {_signed(max(means))}"


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{median(values):.2f} ({low} to {high})"


def _options(config: Row) -> list[str]:
    """What the configuration, or a part of it, says of how the networks are trained."""
    flat = {k: v for part in (config, *(v for v in config.values() if isinstance(v, dict))) for k, v in part.items()}
    found = []
    for name, text in OPTIONS.items():
        value = flat.get(name)
        if value is not None and value is not False and value != 0 and not isinstance(value, list | dict):
            found.append(text.format(value))
    return found


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]

"""Tables and sentences on the first layer, from the record of ``first_layer``."""

from __future__ import annotations

from itertools import product
from typing import Any

from figures.first_layer import LABELS, name_of
from figures.style import NAMES

Record = dict[str, Any]
EXPECTED = {
    "size": "norm in its own metric",
    "shape": "that norm over the Frobenius norm",
    "response": "relative change of the logits",
    "control-size": "norm in its metric",
    "control-response": "relative change of the logits",
    "frequency": "share of low frequencies",
}


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks of ``first_layer`` by name."""
    record = records["first_layer"]
    return {
        "c2": ledger(record),
        "first-layer-sizes": sizes(record),
        "first-layer-metrics": metrics(record),
        "first-layer-control": control(record),
        "first-layer-specific": specific(record),
        "first-layer-expectations": expectations(record),
        "first-layer-setting": setting(record),
    }


def sizes(record: Record) -> str:
    """Sizes of the first layer at the end of training, in no law's metric, as Markdown."""
    result = record["result"]
    names = ("frobenius", "spectral", "stable_rank", *result["bands"], "accuracy")
    head = ["net", "training", "Frobenius", "spectral", "stable rank", *(f"{b} freq. (%)" for b in result["bands"])]
    lines = [f"| {' | '.join([*head, 'test accuracy (%)'])} |", "|---|---|" + "--:|" * len(names)]
    for row in result["rows"]:
        values = [_value(row["end"][n], 100 if n in (*result["bands"], "accuracy") else 1) for n in names]
        lines.append(f"| {' | '.join([LABELS[row['network']], name_of(row['training']), *values])} |")
    white = ", ".join(f"{name} {100 * share:.0f} %" for name, share in result["bands"].items())
    return "\n".join(lines) + f"\n\nWhite filters would have: {white} (shares of the frequencies in each band)."


def metrics(record: Record) -> str:
    """Norms in the metric of each training's own law, and what they make of the logits, as Markdown."""
    head = ["net", "training", "metric", "norm", "over vanilla", "norm over white", "over vanilla"]
    head += ["change of logits", "over vanilla", "R2", "over vanilla"]
    lines = [f"| {' | '.join(head)} |", "|---|---|---|" + "--:|" * 8]
    rows = record["result"]["rows"]
    for network in dict.fromkeys(r["network"] for r in rows):
        own = [r for r in rows if r["network"] == network]
        vanilla = next(r for r in own if r["training"] == "vanilla")
        cells = [(vanilla, law) for law in dict.fromkeys(r["own"] for r in own if r is not vanilla)]
        cells += [(r, r["own"]) for r in own if r is not vanilla]
        for row, law in cells:
            values = []
            for measure in ("norm", "relative", "change", "r2"):
                name = f"{measure}_{law}"
                values += [_value(row["end"][name]), _value(row["ratio"][name]) if row["ratio"] else ""]
            lines.append(f"| {' | '.join([LABELS[network], name_of(row['training']), NAMES[law], *values])} |")
    return "\n".join(lines)


def control(record: Record) -> str:
    """Ratios to vanilla: training by a strategy beside its penalty as a control, as Markdown."""
    rows = record["result"]["rows"]
    names = {"norm": "norm", "relative": "norm over white", "frobenius": "Frobenius", "spectral": "spectral"}
    names |= {"stable_rank": "stable rank", "low": "low freq.", "high": "high freq.", "change": "change of logits"}
    names |= {"offset": "offset", "r2": "R2"}
    lines = [f"| {' | '.join(['net', 'training', *names.values()])} |", "|---|---|" + "--:|" * len(names)]
    laws = dict.fromkeys(r["own"] for r in rows if r["penalty"])
    for network, law in product(dict.fromkeys(r["network"] for r in rows), laws):
        for row in (r for r in rows if (r["network"], r["own"]) == (network, law) and r["ratio"]):
            ratios = [row["ratio"][n if n in row["ratio"] else f"{n}_{law}"] for n in names]
            lines.append(f"| {' | '.join([LABELS[network], name_of(row['training']), *map(_value, ratios)])} |")
    return "\n".join(lines)


def specific(record: Record) -> str:
    """Ratios to vanilla of the norm in every law's metric, as Markdown."""
    rows = [r for r in record["result"]["rows"] if r["specific"]]
    laws = [n.removeprefix("norm_") for n in rows[0]["ratio"] if n.startswith("norm_")] if rows else []
    head = ["net", "training", *(f"{NAMES[n]}'s metric" for n in laws), "own over mean of others"]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "--:|" * (len(laws) + 1)]
    for row in rows:
        values = [_value(v) for v in (*(row["ratio"][f"norm_{n}"] for n in laws), row["specific"])]
        lines.append(f"| {' | '.join([LABELS[row['network']], name_of(row['training']), *values])} |")
    return "\n".join(lines)


def setting(record: Record) -> str:
    """How it was measured."""
    config, result = record["config"], record["result"]
    return (
        f"Digits, {result['images']} training images, {len(config['seeds'])} softplus networks of each kind and "
        f"training, {config['epochs']} epochs; ± is half a 95 % interval over networks (Student's t), at *over "
        "vanilla* that of the ratio to the vanilla network of the same seed (equal initial weights and batches). "
        f"R2 and metrics are exact (exact law, no sampling). {record['machine']}; torch {record['versions']['torch']}; "
        f"`{record['command']}`."
    )


def expectations(record: Record) -> str:
    """What was expected before the first run and what came, as Markdown."""
    lines = ["| expected, relative to vanilla | came | lower in | higher in | ratios |", "|---|---|--:|--:|---|"]
    for e in record["result"]["expectations"]:
        ratios = [c["mean"] for c in e["cells"]]
        sides = [c["side"] for c in e["cells"]]
        lines.append(
            f"| {e['check']} | {'yes' if e['holds'] else 'no'} | {sides.count('lower')} of {len(sides)} "
            f"| {sides.count('higher')} of {len(sides)} | {min(ratios):.2f} to {max(ratios):.2f} |"
        )
    n = len(record["config"]["seeds"])
    return (
        "\n".join(lines) + "\n\nCells are kinds of network times strategies; *lower* and *higher* mean that the 95 % "
        f"interval of the paired ratio ({n} seeds) lies on that side of 1; intervals are not corrected for their "
        "number. *Ratios*: smallest and largest mean over seeds."
    )


def ledger(record: Record) -> str:
    """Measured column of claim C2."""
    config, result = record["config"], record["result"]
    found = {e["key"]: e for e in result["expectations"]}
    exact = result["checks"][0]

    def told(key: str) -> str:
        cells = found[key]["cells"]
        sides = [c["side"] for c in cells]
        ratios = [c["mean"] for c in cells]
        return (
            f"{EXPECTED[key]} lower in {sides.count('lower')}, higher in {sides.count('higher')} of {len(cells)} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )

    msda = "; ".join(told(k) for k in ("size", "shape", "response", "frequency"))
    controls = "; ".join(told(k) for k in ("control-size", "control-response"))
    r2 = [r["ratio"][f"r2_{r['own']}"]["mean"] for r in result["rows"] if r["ratio"] and not r["penalty"]]
    own = [r["specific"]["mean"] for r in result["rows"] if r["specific"] and not r["penalty"]]
    told_exact = f"{exact['check'].capitalize().replace('r2', 'R2')} ({exact['detail']})"
    return (
        f"{told_exact} on {len(config['seeds']) * len(result['rows'])} trained "
        f"networks. Trained with MSDA over vanilla, cells of {len(config['seeds'])} networks told by 95 % intervals of "
        f"paired ratios (range of means): {msda}. R2 itself is {min(r2):.3g} to {max(r2):.3g} times that of vanilla. "
        f"Ratio of the norm in the own metric over the mean ratio in the other laws' metrics: {_range(own)}. "
        f"Control, R2 as an explicit penalty on the first layer's weights alone: {controls}."
    )


def _range(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}" if values else "not measured"


def _value(value: dict[str, float], factor: float = 1.0) -> str:
    mean, half = factor * value["mean"], factor * value["half"]
    digits = 1 if abs(mean) >= 10 else 2 if abs(mean) >= 1 else 3
    while half * 10**digits < 0.5 and digits < 5:  # an interval is never shown as 0
        digits += 1
    return f"{mean:.{digits}f} ± {half:.{digits}f}"

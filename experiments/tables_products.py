"""Tables and sentences on gradient products, from the record of ``gradient_products``."""

from __future__ import annotations

from typing import Any

from figures.style import NAMES

Record = dict[str, Any]
SIDES = {"below": "less", "above": "more", "contains": "not told", None: "not told"}


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks of ``gradient_products`` by name."""
    record = records["gradient_products"]
    runs = records.get("gradient_products_runs")
    return {
        **({} if runs is None else {"product-runs": f"{shares(runs)}\n\n{setting(runs)}"}),
        "product-shares": shares(record),
        "product-differences": differences(record),
        "product-setting": setting(record),
        "c5-networks": ledger(record),
    }


def shares(record: Record) -> str:
    """Share of the product mass within each radius, in %, by cell and training, as Markdown."""
    cells = record["result"]["cells"]
    fractions = record["result"]["fractions"]
    head = ["networks", "trained with", "mean square gradient", *(f"within {f:g} of the side (%)" for f in fractions)]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "--:|" * (len(head) - 2)]
    for cell in cells:
        for row in cell["rows"]:
            values = [_value(row["square"], 1, 1), *(_value(v, 100, 2) for v in row["short"])]
            lines.append(f"| {' | '.join([cell['cell'], NAMES[row['training']], *values])} |")
        pairs = [f"{100 * v['pairs']:.2f}" for v in cell["rows"][0]["short"]]
        lines.append(f"| {' | '.join([cell['cell'], 'share of the pixel pairs', '', *pairs])} |")
    return "\n".join(lines)


def differences(record: Record) -> str:
    """Paired differences of the share of near products, in points, by cell and pair of trainings, as Markdown."""
    lines = ["| networks | trainings | radius (pixels) | difference (points) | 95 % interval | near products |"]
    lines.append("|---|---|--:|--:|--:|---|")
    for cell in record["result"]["cells"]:
        for d in cell["differences"]:
            if {d["first"], d["second"]} != {"cutmix", "mixup"} and not d["primary"]:
                continue
            ends = "" if d["low"] is None else f"{100 * d['low']:+.2f} to {100 * d['high']:+.2f}"
            name = f"{NAMES[d['first']]} - {NAMES[d['second']]}"
            cells = [cell["cell"], name, f"{d['radius']:g}", f"{100 * d['mean']:+.2f}", ends, SIDES[d["side"]]]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def setting(record: Record) -> str:
    """How it was measured."""
    result = record["result"]
    seeds = sorted({row["seeds"] for c in result["cells"] for row in c["rows"]})
    number = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return (
        f"{result['images']} training images without augmentation, {number} networks of each training; logits less "
        "their mean over classes. ± is half a 95 % interval over networks (Student's t); differences are taken within "
        "seeds (equal initial weights), intervals are not corrected for their number. R2 by displacement is exact. "
        f"{record['machine']}; torch {record['versions']['torch']}; `{record['command']}`."
    )


def ledger(record: Record) -> str:
    """Measured column of claim C5, its part on trained networks."""
    (expected,) = (e for e in record["result"]["expectations"] if e["key"] == "c5")
    parts = []
    for d in (d for d in expected["cells"] if d["primary"]):
        ends = "no interval" if d["low"] is None else f"{100 * d['low']:+.2f} to {100 * d['high']:+.2f}"
        parts.append(f"{d['cell']} {100 * d['mean']:+.2f} ({ends}; {SIDES[d['side']]})")
    return (
        "Share of gradient-product mass within a quarter of the image side, CutMix- less Mixup-trained networks of the "
        f"same seed, in points with 95 % intervals: {'; '.join(parts) or 'not measured'}. Expected below 0 in every "
        f"cell: {'so it is' if expected['holds'] else 'it is not so'} ({expected['detail']}; "
        f"{record['result']['images']} images; `{record['command']}`)."
    )


def _value(value: dict[str, Any], factor: float, digits: int) -> str:
    mean = f"{factor * value['mean']:.{digits}f}"
    if value["low"] is None:
        return mean
    return f"{mean} ± {factor * (value['high'] - value['low']) / 2:.{digits}f}"

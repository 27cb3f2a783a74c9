"""Tables and sentences on generalization and reliability, from the records of these names."""

from __future__ import annotations

from typing import Any

from experiments.tables_robust import expectations
from figures.generalization import KINDS
from figures.reliability import damage_label
from figures.style import LAWS, NAMES

Record = dict[str, Any]


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks of ``generalization`` and ``reliability`` by name."""
    gap, shift = records["generalization"], records["reliability"]
    return {
        "c4-digits": ledger(gap),
        "gaps": gaps(gap),
        "dimensions": dimensions(gap),
        "orders": orders(gap),
        "gap-expectations": expectations(gap),
        "gap-setting": setting(gap),
        "calibration": calibration(shift),
        "damage": damage(shift),
        "reliability-expectations": expectations(shift),
        "reliability-setting": reliability_setting(shift),
    }


def gaps(record: Record) -> str:
    """Losses, accuracies and gaps of every cell, with paired differences to vanilla, as Markdown."""
    head = ["network", "images", "trained with", "training accuracy (%)", "test accuracy (%)", "over vanilla"]
    head += ["gap of accuracy (points)", "over vanilla", "test loss (nats)", "over vanilla"]
    head += ["gap of the loss (nats)", "over vanilla"]
    lines = [f"| {' | '.join(head)} |", "|---|--:|---|" + "--:|" * (len(head) - 3)]
    for r in record["result"]["rows"]:
        cells = [KINDS[r["kind"]], f"{r['images']:,}", NAMES[r["training"]], f"{100 * r['train_accuracy']['mean']:.1f}"]
        for name, scale, spec in (
            ("test_accuracy", 100, ".1f"),
            ("accuracy_gap", 100, ".1f"),
            ("test_loss", 1, ".3f"),
            ("loss_gap", 1, ".3f"),
        ):
            d = r["difference"] and r["difference"][name]
            cells += [_value(r[name], scale, spec), _difference(d, scale, spec)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def dimensions(record: Record) -> str:
    """Effective dimensions, bounds and complexities at gamma = 1, as Markdown."""
    head = ["images", "strategy", "law", "effective dimension", "rank of S", "outside (%)", "bound", "complexity"]
    lines = [f"| {' | '.join(head)} |", "|--:|---|---|" + "--:|" * (len(head) - 3)]
    for d in record["result"]["dimensions"]:
        found = d["complexity"]
        cells = [f"{d['images']:,}", NAMES[d["strategy"]], LAWS[d["law"]]]
        cells.append("infinite" if d["infinite"] else f"{d['dimension']:.1f}")
        cells += [
            str(d["rank"]),
            f"{100 * d['outside']:.1f}",
            "infinite" if d["bound"] is None else f"{d['bound']:.4f}",
        ]
        cells.append(f"{found['mean']:.4f} ± {found['se']:.4f}" if found else "infinite")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def orders(record: Record) -> str:
    """Orders by bound and by gap, as Markdown."""
    lines = [
        "| network | images | law | gamma | by bound, smallest first | by gap of the loss | tau | p | tau of each seed "
        "| pairs of gaps told apart | of these as the bound says |",
        "|---|--:|---|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for o in record["result"]["orders"]:
        by = [", ".join(NAMES[s] for s in o[k]) for k in ("by_bound", "by_gap")]
        lines.append(
            f"| {KINDS[o['kind']]} | {o['images']:,} | {LAWS[o['law']]} | {o['gamma']} | {by[0]} | {by[1]} "
            f"| {o['tau']:+.1f} | {o['p_value']:.3f} | {_value(o['tau_seeds'], 1, '+.2f')} "
            f"| {o['told']} of {o['pairs']} | {o['concordant']} |"
        )
    return "\n".join(lines)


def setting(record: Record) -> str:
    """How gaps were measured."""
    config, result = record["config"], record["result"]
    return (
        f"Digits in [0, 1], {result['test_images']} test images, unmixed; {len(config['seeds'])} networks a row; ± is "
        "half a 95 % interval over networks (Student's t), of differences paired by seed, bold where it leaves out 0; "
        "at differences of test accuracy it covers the choice of test images too, which are the same for all. "
        f"Complexities: mean over {config['signs']:,} sign vectors ± standard error; *outside*: share of the images' "
        "second moment outside the kept space (5b). p: exact, one-sided, over all orders; with 5 strategies at least "
        f"1/120. Not corrected for their number. {record['machine']}; torch {record['versions']['torch']}; "
        f"`{record['command']}`."
    )


def ledger(record: Record) -> str:
    """Measured column of claim C4 on digits."""
    rows = [r for r in record["result"]["rows"] if r["difference"]]
    parts = []
    for kind, images in dict.fromkeys((r["kind"], r["images"]) for r in rows):
        own = [r["difference"] for r in rows if (r["kind"], r["images"]) == (kind, images)]
        names = {"test_accuracy": "test accuracy", "test_loss": "test loss", "loss_gap": "gap of the loss"}
        sides = {k: [d[k]["side"] for d in own] for k in names}
        counts = [f"{n} {sides[k].count('above')} / {sides[k].count('below')}" for k, n in names.items()]
        parts.append(f"{KINDS[kind]}, {images:,} images: {', '.join(counts)} of {len(own)}")
    equal = [o for o in record["result"]["orders"] if o["gamma"] == "equal" and o["law"] == "exact"]
    taus = ", ".join(
        f"{o['tau']:+.1f} ({KINDS[o['kind']]}, {o['images']:,} images; right about {o['concordant']} of the "
        f"{o['told']} pairs that are told apart)"
        for o in equal
    )
    return (
        f"Digits, above / below vanilla by 95 % intervals, of the mixing strategies: {'; '.join(parts)}. Rank "
        f"correlation of the Rademacher bound (exact law, equal gamma) with the gap of the loss over five strategies: "
        f"{taus}."
    )


def calibration(record: Record) -> str:
    """Calibration of every training, as Markdown."""
    head = ["trained with", "ECE", "bootstrap intervals", "bootstrap noise", "over vanilla"]
    head += ["confidence minus accuracy", "log loss", "Brier"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    for r in record["result"]["rows"]:
        d, ends = r["difference"], r["ece_intervals"]
        low, high = (sum(e[k] for e in ends) / len(ends) for k in (0, 1))
        cells = [NAMES[r["training"]], _value(r["ece"], 1, ".3f"), f"{low:.3f} to {high:.3f}"]
        cells += [f"{r['ece_noise']['mean']:.3f}", _difference(d and d["ece"], 1, ".3f")]
        cells += [_value(r["overconfidence"], 1, "+.3f"), _value(r["nll"], 1, ".3f"), _value(r["brier"], 1, ".3f")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def damage(record: Record) -> str:
    """Accuracy of vanilla training on damaged images, and differences to it, as Markdown."""
    rows = record["result"]["stress"]
    names = list(dict.fromkeys(r["training"] for r in rows))
    lines = ["| images | " + " | ".join(NAMES[n] for n in names) + " |", "|---|" + "--:|" * len(names)]
    for place in dict.fromkeys((r["corruption"], r["level"]) for r in rows):
        own = {r["training"]: r for r in rows if (r["corruption"], r["level"]) == place}
        cells = [_value(own["vanilla"]["accuracy"], 100, ".1f")]
        cells += [_difference(own[n]["difference"], 100, ".1f") for n in names if n != "vanilla"]
        lines.append(f"| {damage_label(*place)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def reliability_setting(record: Record) -> str:
    """How calibration and damage were measured."""
    config, result = record["config"], record["result"]
    return (
        f"Convolutional networks on digits in [0, 1], {result['test_images']} test images, {len(config['seeds'])} "
        "networks a row. ECE: expected calibration error, 15 bins of equal width, mean over networks ± half a 95 % "
        f"interval (Student's t). Bootstrap over images, {config['resamples']:,} samples: ends of the conservative "
        "95 % intervals, and the mean distance of resampled gaps, both means over networks; a calibrated network has "
        "an ECE of about the latter. Damaged images: vanilla's accuracy in %, others minus vanilla in points, ± covers "
        f"networks and images, bold where it leaves out 0; not corrected for their number. {record['machine']}; torch "
        f"{record['versions']['torch']}; `{record['command']}`."
    )


def _value(v: dict[str, float], scale: float, spec: str) -> str:
    return f"{scale * v['mean']:{spec}} ± {scale * v['half']:{spec.lstrip('+')}}"


def _difference(d: dict[str, Any] | None, scale: float, spec: str) -> str:
    """A paired difference; bold if its interval leaves out 0."""
    if d is None:
        return ""
    text = f"{scale * d['mean']:+{spec}} ± {scale * d['half']:{spec}}"
    return f"**{text}**" if abs(d["mean"]) > d["half"] else text

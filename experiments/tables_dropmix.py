"""Tables and sentences on DropMix, from the record of ``dropmix``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Record = dict[str, Any]
GRAPHS = {"cora": "Cora", "citeseer": "CiteSeer"}
NAMES = {
    "none": "no mixing, all negatives",
    "hard": "hard negatives, not mixed",
    "mixup": "Mixup of all dimensions",
    "dropmix": "DropMix, each view ranks its own",
    "dropmix, local": "DropMix, local view ranks",
    "dropmix, global": "DropMix, global view ranks",
    "dropmix, both": "DropMix, kept by both views",
}
VERDICTS = ("above", "below", "not told")


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks by name."""
    record = records["dropmix"]
    return {
        "dropmix-accuracy": accuracy_table(record),
        "dropmix-pairs": pair_table(record),
        "dropmix-sweeps": sweep_table(record),
        "dropmix-information": information_table(record),
        "dropmix-expansion": expansion_table(record),
        "dropmix-hardness": hardness_sentence(record),
        "dropmix-expectations": expectations(record),
        "dropmix-setting": setting(record),
        "d1": ledger_d1(record),
        "d2": ledger_d2(record),
        "d3": ledger_d3(record),
    }


def accuracy_table(record: Record) -> str:
    """Test accuracy of the main comparison, as Markdown."""
    result = record["result"]
    epochs = {(e["data"], e["name"]): e for e in result["epochs"]}
    head = ["graph", "training", "seeds", "accuracy (%)", "minus no mixing", "validated probe (%)", "minus no mixing"]
    lines = [f"| {' | '.join([*head, 'epochs', 'training loss'])} |", "|---|---|" + "--:|" * 7]
    for row in result["rows"]:
        if row["name"] not in NAMES:
            continue
        cells = [GRAPHS.get(row["data"], row["data"]), NAMES[row["name"]], str(row["seeds"])]
        for probe in ("published", "validated"):
            cells += [_percent(row[probe]), "" if row["name"] == "none" else _points(row[f"{probe}_minus_none"])]
        own = epochs[row["data"], row["name"]]
        cells += [f"{own['epochs']['mean']:.0f}", _number(own["loss"], 1, 3)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def pair_table(record: Record) -> str:
    """Paired differences that the claims are about, as Markdown."""
    lines = ["| graph | first | second | published evaluation (points) | | validated (points) | |"]
    lines.append("|---|---|---|--:|---|--:|---|")
    pairs = record["result"]["pairs"]
    for p in pairs:
        if p["probe"] != "published":
            continue
        key = (p["data"], p["name"], p["other"])
        q = next(x for x in pairs if x["probe"] == "validated" and (x["data"], x["name"], x["other"]) == key)
        names = [GRAPHS.get(p["data"], p["data"]), NAMES[p["name"]], NAMES[p["other"]]]
        lines.append(f"| {' | '.join([*names, _points(p), p['told'], _points(q), q['told']])} |")
    return "\n".join(lines)


def sweep_table(record: Record) -> str:
    """Accuracy of every sweep beside DropMix of the same seeds, as Markdown."""
    rows = record["result"]["rows"]
    graphs = list(dict.fromkeys(r["data"] for r in rows))
    heads = [f"{GRAPHS.get(d, d)} (%) | minus DropMix" for d in graphs]
    lines = [f"| changed | seeds | {' | '.join(heads)} |", "|---|--:|" + "--:|" * (2 * len(graphs))]
    for name in dict.fromkeys(r["name"] for r in rows if r["name"] not in NAMES):
        own = {r["data"]: r for r in rows if r["name"] == name}
        cells = [f"{_percent(own[d]['published'])} | {_points(own[d]['published_minus_dropmix'])}" for d in graphs]
        lines.append(f"| {name} | {own[graphs[0]]['seeds']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def information_table(record: Record) -> str:
    """What mixing keeps of the negatives, by share of mixed dimensions, as Markdown."""
    head = ["graph", "view", "share mixed", "similarity", "hardness kept (%)", "harder (%)", "probe (%)"]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "--:|" * 5]
    for r in _trained_with(record, "dropmix"):
        cells = [GRAPHS.get(r["data"], r["data"]), r["view"], _share(r["share"])]
        cells += [_number(r["similarity"], 1, 3), _number(r["kept"], 100, 1)]
        lines.append(f"| {' | '.join([*cells, _number(r['harder'], 100, 0), _number(r['probe'], 100, 1)])} |")
    return "\n".join(lines)


def expansion_table(record: Record) -> str:
    """Change of the loss of the negatives by mixing, and its expansion, as Markdown."""
    head = ["graph", "view", "share mixed", "loss unmixed", "change by mixing", "R1", "R2"]
    head += ["R1 + R2 explains (%)", "at the mean (%)"]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "--:|" * 7]
    for r in _trained_with(record, "dropmix"):
        if r["share"] == 0:
            continue
        cells = [GRAPHS.get(r["data"], r["data"]), r["view"], _share(r["share"])]
        cells += [_number(r[k], 1, 4) for k in ("clean", "rise", "r1", "r2")]
        cells += [_number(r[f"explained_{at}"], 100, 1) for at in ("at_data", "at_mean")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def hardness_sentence(record: Record) -> str:
    """How the rankings of both views agree."""
    parts = [
        f"{GRAPHS.get(h['data'], h['data'])}: rank correlation {_number(h['rank_agreement'], 1, 2)}, kept by each view "
        f"{_number(h['kept_by_each'], 100, 0)} %, by both {_number(h['kept_by_both'], 100, 0)} % of the negatives"
        for h in record["result"]["hardness"]
        if h["name"] == "dropmix"
    ]
    return f"Hardness in the local and the global view, encoders trained with DropMix. {'; '.join(parts)}."


def expectations(record: Record) -> str:
    """What the claims ask for and what came, as a list."""
    return "\n".join(
        f"- {'holds' if e['holds'] else '**does not hold**'}: {e['check']} ({e['detail']})."
        for e in record["result"]["expectations"]
    )


def setting(record: Record) -> str:
    """How it was measured."""
    config = record["config"]
    return (
        f"± is half a 95 % interval over seeds (Student's t), differences are paired by seed; they cover training and "
        f"evaluation, not the choice of the public split. {len(config['seeds'])} seeds in the main comparison, "
        f"{len(config['sweep_seeds'])} in the sweeps. {config['width']} units, up to {config['epochs']} epochs. "
        f"`{record['command']}`; {record['wall_s'] / 3600:.1f} h of processor time; {record['machine']}."
    )


def ledger_d1(record: Record) -> str:
    """Claim D1 in a sentence."""
    pairs = _pairs(record, [("dropmix, both", o) for o in ("dropmix, local", "dropmix, global")])
    return f"{_count(pairs)} (kept by both views minus a single view): {_say(pairs)}."


def ledger_d2(record: Record) -> str:
    """Claim D2 in a sentence."""
    rows = _trained_with(record, "dropmix")
    parts = []
    for data in dict.fromkeys(r["data"] for r in rows):
        own = [r for r in rows if r["data"] == data]
        few = [r for r in own if abs(r["share"] - 1 / 6) < 1e-3]
        whole = [r for r in own if r["share"] == max(x["share"] for x in own)]
        none = [r for r in own if r["share"] == 0]
        texts = []
        for name, key, factor, digits in (
            ("similarity", "similarity", 1, 2),
            ("probe", "probe", 100, 0),
            ("negatives that are harder than before", "harder", 100, 0),
        ):
            unit = " %" if factor == 100 else ""
            groups = (few, whole) if key == "harder" else (none, few, whole)
            spans = [f"{_span(r[key]['mean'] * factor for r in g)[digits]}{unit}" for g in groups]
            texts.append(f"{name} {', '.join(spans)}")
        parts.append(f"{GRAPHS.get(data, data)}: {'; '.join(texts)}")
    return (
        "On no, every sixth and all dimensions mixed (harder: sixth and all), local and global view. "
        f"{'. '.join(parts)}."
    )


def ledger_d3(record: Record) -> str:
    """Claim D3 in a sentence."""
    pairs = _pairs(record, [("dropmix", "none"), ("dropmix", "hard"), ("dropmix", "mixup")])
    return f"{_count(pairs)}: {_say(pairs)}."


def _pairs(record: Record, wanted: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [p for p in record["result"]["pairs"] if (p["name"], p["other"]) in wanted and p["probe"] == "published"]


def _count(pairs: list[dict[str, Any]]) -> str:
    told = [p["told"] for p in pairs]
    counts = ", ".join(f"{v} in {told.count(v)}" for v in VERDICTS)
    return f"Of {len(pairs)} differences of test accuracy {counts} (95 %, {pairs[0]['seeds']} seeds)"


def _say(pairs: Iterable[dict[str, Any]]) -> str:
    return "; ".join(
        f"{GRAPHS.get(p['data'], p['data'])}, {p['name']} - {p['other']} {_points(p)} points" for p in pairs
    )


def _trained_with(record: Record, name: str) -> list[dict[str, Any]]:
    return [r for r in record["result"]["information"] if r["name"] == name]


def _share(value: float) -> str:
    return "0" if value == 0 else "all" if value == 1 else f"1/{1 / value:.0f}"


def _span(values: Iterable[float]) -> dict[int, str]:
    v = list(values)
    return {d: f"{min(v):.{d}f} to {max(v):.{d}f}" for d in (0, 2)}


def _number(value: dict[str, float | None], factor: float, digits: int) -> str:
    half = "" if value["half"] is None else f" ± {factor * value['half']:.{digits}f}"
    assert value["mean"] is not None, "means are always known"
    return f"{factor * value['mean']:.{digits}f}{half}"


def _percent(value: dict[str, float | None]) -> str:
    return _number(value, 100, 2)


def _points(value: dict[str, float | None]) -> str:
    half = "" if value["half"] is None else f" ± {100 * value['half']:.2f}"
    assert value["mean"] is not None, "means are always known"
    return f"{100 * value['mean']:+.2f}{half}"

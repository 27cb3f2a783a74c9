"""The table of a comparison on a model of the user's own, as text for the terminal."""

from __future__ import annotations

from typing import Any

SHARES = (
    ("data", "exact", "data", "explained"),
    ("data, paper's law", "paper", "data", "explained"),
    ("mean", "exact", "mean", "explained"),
    ("mask", "exact", "mask", "explained"),
    ("mask, no R3", "exact", "mask", "explained_gn"),
)
_TERMS = ("base", "r1", "r2", "r3")


def table(record: dict[str, Any]) -> str:
    """One line for each model and strategy: loss, terms, measured loss, shares of the rise; then notes.

    Terms are those of the first law and point that was computed; a share that was not computed or where nothing rises
    is a dash.
    """
    result = record["result"]
    first = result["terms"][0]
    cells = {(r["model"], r["strategy"], r["law"], r["at"]): r for r in result["terms"]}
    shares = [s for s in SHARES if any((law, at) == s[1:3] for _, _, law, at in cells)]
    head = ["model", "strategy", "loss", *(k.upper() if k != "base" else k for k in _TERMS), "measured", "se"]
    lines = [[*head, *(f"share {name}" for name, *_ in shares)]]
    for m in result["models"]:
        for strategy in result["strategies"]:
            own = cells[m["model"], strategy, first["law"], first["at"]]
            numbers = [own["clean"]["mean"], *(own[k]["mean"] for k in _TERMS), own["measured"]["mean"]]
            found = [cells[m["model"], strategy, law, at][kind] for _, law, at, kind in shares]
            percent = ["-" if v is None else f"{100 * v['mean']:.0f} %" for v in found]
            se = f"{own['measured']['se']:.4f}"
            lines.append([m["model"], strategy, *(f"{v:.4f}" for v in numbers), se, *percent])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    text = [
        "  ".join(c.ljust(w) if k < 2 else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    return "\n".join([_caption(result, first), *text, *_notes(result)])


def _caption(result: dict[str, Any], first: dict[str, Any]) -> str:
    data = result["data"]
    return (
        f"{data['images']} images of {data['name']} ({data['split']}), {first['measured']['n']} draws; "
        f"terms at the {first['at']}, {first['law']} law; losses in nats; shares of the rise that are explained"
    )


def _notes(result: dict[str, Any]) -> list[str]:
    lines = [f"{m['model']}: {note}" for m in result["models"] for note in m["notes"]]
    lines += [f"{m['model']}: {m['correct']} of {m['images']} images classified correctly" for m in result["models"]]
    for r in result["remainder"]:
        if r["slope"] is None:
            lines.append(f"{r['model']}, {r['strategy']}: order of the remainder {r['reason']}")
    lines += [f"{d['model']}: R2 by distance {d['reason']}" for d in result["distance"]["models"] if d["reason"]]
    return lines

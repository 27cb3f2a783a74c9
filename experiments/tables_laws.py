"""Tables and sentences on the laws of libraries and on alpha, from the records of ``law_zoo`` and ``alpha_sweep``."""

from __future__ import annotations

from typing import Any

from figures.style import NAMES

Record = dict[str, Any]
LABELS = {"pixels": "share kept", "lam": "lam drawn", "sides": "from the sides", "misread": "share taken"}
OWN = "this package, "


def laws(record: Record) -> str:
    """Where pixels come from the partner, and with which labels: one row a law, as Markdown."""
    size = record["result"]["size"]
    head = ["law", "own label weight", "partner", "size, place drawn for each", "mean share", "label error"]
    lines = [
        f"| {' | '.join([*head, 'corner', 'edge', 'centre', 'mean a_jj', 'R2, relative', 'rise, relative'])} |",
        "|---|---|---|---|" + "--:|" * 8,
    ]
    for row in record["result"]["rows"]:
        c, numbers = row["conventions"], row["sizes"][0]
        words = [LABELS[c["label"]], c["partner"], f"{c['size_per']}, {c['place_per']}"] if c else ["", "", ""]
        values = [_number(numbers[k]) for k in ("share", "label_error", "corner", "edge", "centre")]
        curve = row["by_distance"]
        values.append(_number({"mean": curve["coefficient"][0], "se": curve["se"][0]}))
        relative = [_number(row["relative"][k], 2) for k in ("r2", "rise")]
        lines.append(f"| {' | '.join([_title(row), *words, *values, *relative])} |")
    return "\n".join(lines) + f"\n\nShares, errors, probabilities and a_jj at {size}x{size}."


def law_terms(record: Record) -> str:
    """R1, R2, R3 and measured rise under each law, as Markdown."""
    lines = ["| law | mean share, 8x8 | label error, 8x8 | R1 | R2 | R3 | measured rise |", "|---|" + "--:|" * 6]
    for row in record["result"]["rows"]:
        shares = [_number(row["sizes"][1][k]) for k in ("share", "label_error")]
        terms = [_number(row["terms"][k]) for k in ("r1", "r2", "r3", "rise")]
        lines.append(f"| {' | '.join([_title(row), *shares, *terms])} |")
    return "\n".join(lines)


def law_setting(record: Record) -> str:
    """How the laws were measured."""
    config, result = record["config"], record["result"]
    return (
        f"{config['draws']:,} draws of each law of a library, measured at each size; the package's own laws are exact "
        f"(± 0), but for label errors of nominal labels. Terms at the data, exact law, on {len(config['seeds'])} "
        f"softplus networks trained with CutMix, {result['images']} digits; measured rise of the mixed loss from "
        f"{config['pairs']} pairs (q, r) for each image. ± is one standard error: of the measurement of the law "
        "(not in that of the rise), and over networks or of the draws, whichever is larger; left out below half a unit "
        f"of the last digit. {record['machine']}; "
        f"`{record['command']}`."
    )


def law_sources(record: Record) -> str:
    """Where each law was read."""
    rows = [r for r in record["result"]["rows"] if r["source"]]
    return "\n".join(f"- *{r['title']}*: {r['source']}." for r in rows)


def law_summary(record: Record) -> str:
    """The spread of the laws that are called CutMix."""
    others = [r for r in record["result"]["rows"] if r["family"] != "package"]
    rows = [r for r in others if r["family"] != "misread"]
    misread = [f"{r['title']} ({r['relative']['r2']['mean']:.2f} times)" for r in others if r["family"] == "misread"]
    size = record["result"]["size"]

    def span(name: str) -> str:
        values = [r["sizes"][0][name]["mean"] for r in rows]
        return f"{min(values):.2f} to {max(values):.2f}"

    relative = [r["relative"]["r2"]["mean"] for r in rows]
    return (
        f"Over {len(rows)} laws, alpha = 1, {size}x{size}: mean share taken {span('share')}, label error "
        f"{span('label_error')}, probability that a corner is replaced {span('corner')}. On networks trained with the "
        f"published CutMix, their R2 is {min(relative):.2f} to {max(relative):.2f} times its R2."
        + (f" Not among these, since it is a misreading of a label: {', '.join(misread)}." if misread else "")
    )


def alpha_sentence(record: Record) -> str:
    """Does alpha below 1 do anything? Shares of the measured rise at alpha = 1 that are left."""
    cells = {(r["training"], r["strategy"], r["alpha"]): r for r in record["result"]["summary"]}
    small = sorted({a for _, _, a in cells if a < 1})
    shown = [a for a in dict.fromkeys((0.2, small[0])) if a in small]

    def left(name: str, alpha: float) -> str:
        v = cells[name, name, alpha]["rise_share"]
        return f"{100 * v['mean']:.0f} ± {100 * v['se']:.0f} %"

    own = [s for s in dict.fromkeys(s for _, s, _ in cells) if (s, s, 1.0) in cells]
    parts = ", ".join(f"{NAMES[s]} {' / '.join(left(s, a) for a in shown)}" for s in own)
    return f"Rise of the mixed loss at alpha = {' / '.join(f'{a:g}' for a in shown)}, over that at alpha = 1: {parts}."


def alpha_table(record: Record) -> str:
    """Shares of R2 and of the measured rise at alpha = 1, on networks of the strategy and without mixing."""
    result = record["result"]
    alphas = list(dict.fromkeys(r["alpha"] for r in result["summary"]))
    lines = [f"| mixed with | trained with | share of | {' | '.join(f'{a:g}' for a in alphas)} |"]
    lines.append("|---|---|---|" + "--:|" * len(alphas))
    kinds = list(dict.fromkeys((r["strategy"], r["training"]) for r in result["summary"]))
    cells = {(r["strategy"], r["training"], r["alpha"]): r for r in result["summary"]}
    for strategy, training in sorted(kinds, key=lambda k: [s for s, _ in kinds].index(k[0])):
        for column, words in (("r2_share", "R2"), ("rise_share", "rise"), ("rise_gn_share", "rise, predicted")):
            values = [_percent(cells[strategy, training, a][column]) for a in alphas]
            lines.append(f"| {' | '.join([NAMES[strategy], NAMES[training], words, *values])} |")
    return "\n".join(lines)


def alpha_setting(record: Record) -> str:
    """How alpha was swept."""
    result, config = record["result"], record["config"]
    n = len(config["training"]["seeds"])
    return (
        f"In %, ± standard error over {n} softplus networks or of the draws, the larger one, left out below a half; "
        f"trained at alpha = 1. R2 at the data is exact; the rise is measured by {result['pairs']} pairs (q, r) for "
        f"each of {result['images']} digits; *predicted* is Gauss-Newton at the mask, whose share of the rise is taken "
        f"from {result['draws']} further pairs for each. "
        f"{record['machine']}; `{record['command']}`."
    )


def _title(row: dict[str, Any]) -> str:
    return row["title"] if row["conventions"] else OWN + row["title"]


def _number(value: dict[str, float], digits: int = 3) -> str:
    if abs(value["mean"]) < 1e-6 and value["se"] < 1e-6:
        return "0"
    error = f" ± {value['se']:.{digits}f}" if value["se"] >= 0.5 * 10**-digits else ""
    return f"{value['mean']:.{digits}f}{error}"


def _percent(value: dict[str, float]) -> str:
    error = f" ± {100 * value['se']:.0f}" if value["se"] >= 0.005 else ""
    return f"{100 * value['mean']:.0f}{error}"

"""Tables and sentences of the study of trained networks and of the coefficients, made from their records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from figures.style import NAMES

Records = dict[str, dict[str, Any]]


def main_table(records: Records, *, matched: bool = False) -> str:
    """One row for each trained network kind and mixing strategy (mean over seeds), as Markdown.

    ``matched``: only the networks that were trained with the strategy itself, and vanilla networks.
    """
    result = records["expansion_gap"]["result"]
    cells = {(r["training"], r["activation"], r["strategy"], r["law"], r["at"]): r for r in result["summary"]}
    names = ["trained with", "net", "mixed with", "clean", "R1", "R2", "R3", "predicted", "measured ± se"]
    head = [*names, "data", "data, paper's law", "mean", "mask", "mask, no R3"]
    lines = [f"| {' | '.join(head)} |", "|---|---|---|" + "--:|" * 11]
    for (training, activation, strategy, law, at), r in cells.items():
        if (law, at) != ("exact", "data") or (matched and training not in (strategy, "vanilla")):
            continue
        shares = [
            _percent(cells[training, activation, strategy, law, at][column])
            for law, at, column in (
                ("exact", "data", "explained"),
                ("paper", "data", "explained"),
                ("exact", "mean", "explained"),
                ("exact", "mask", "explained"),
                ("exact", "mask", "explained_gn"),
            )
        ]
        numbers = [f"{r[k]['mean']:.3f}" for k in ("clean", "r1", "r2", "r3", "predicted")]
        measured = f"{r['measured']['mean']:.3f} ± {_draw_se(records, training, activation, strategy):.3f}"
        cell = (NAMES[training], activation, NAMES[strategy])
        lines.append(f"| {' | '.join([*cell, *numbers, measured, *shares])} |")
    return "\n".join(lines)


def accuracy_table(records: Records) -> str:
    """Test accuracy of the trained networks, mean over seeds with a 95 % interval (Student's t), as Markdown."""
    lines = ["| trained with | net | seeds | test accuracy (%) |", "|---|---|--:|--:|"]
    for row in records["digit_nets"]["result"]["rows"]:
        half = row["interval_95_half_width"]
        lines.append(
            f"| {NAMES[row['strategy']]} | {row['activation']} | {row['seeds']} "
            f"| {100 * row['test_accuracy']:.1f} ± {100 * half:.1f} |"
        )
    return "\n".join(lines)


def setting(records: Records) -> str:
    """One line: how many images, draws, networks; commit, machine and command."""
    record = records["expansion_gap"]
    result, config = record["result"], record["config"]
    seeds = len(config["training"]["seeds"])
    return (
        f"Digits, {result['images']} training images, {result['draws']} pairs (q, r) for each, {seeds} networks a row; "
        f"± is the standard error over networks, except at *measured*: that of the draws for these networks. "
        f"{record['machine']}; torch {record['versions']['torch']}; `{record['command']}`."
    )


def ledger_c1(records: Records) -> str:
    """Measured column of claim C1."""
    result, order = records["expansion_gap"]["result"], records["remainder_order"]["result"]
    slopes = [r["slope"] for r in order["rows"] if r["kind"] == "right"]
    wrong = [r["slope"] for r in order["rows"] if r["kind"] != "right"]
    shares = {(s["activation"], s["at"], s["law"]): s for s in result["shares"]}

    def span(activation: str, at: str, law: str, column: str = "explained") -> str:
        s = shares[activation, at, law][column]
        return f"{100 * s['median']:.0f} % ({100 * s['min']:.0f} to {100 * s['max']:.0f})"

    seeds = len(records["expansion_gap"]["config"]["training"]["seeds"])
    return (
        f"As the step shrinks: holds; remainder slope {min(slopes):.3f} to {max(slopes):.3f} over {len(slopes)} "
        f"strategies and laws, {min(wrong):.2f} to {max(wrong):.2f} with every a_jk 1 % off (enumerated, no sampling "
        "error). "
        f"At full strength (digits, {result['images']} images, {result['draws']} draws each, "
        f"{shares['softplus', 'data', 'exact']['cells']} cells of {seeds} networks for each activation), share of the "
        "rise explained, median (range) over cells: softplus, at the data "
        f"{span('softplus', 'data', 'exact')}, paper's law {span('softplus', 'data', 'paper')}, at the mean "
        f"{span('softplus', 'mean', 'exact')}, at the mask without R3 "
        f"{span('softplus', 'mask', 'exact', 'explained_gn')}; ReLU, at the data {span('relu', 'data', 'exact')}, at "
        f"the mask without R3 {span('relu', 'mask', 'exact', 'explained_gn')}. CutMix on CutMix-trained softplus "
        f"networks: {_own_cutmix(records)}. {_kink_sentence(result['kinks'])}"
    )


def _kink_sentence(kinks: list[dict[str, Any]]) -> str:
    """How much of the second-order response at the data derivatives see."""

    def span(row: dict[str, Any], column: str) -> str:
        return f"{row[column]['median']:.2f} ({row[column]['min']:.2f} to {row[column]['max']:.2f})"

    parts = "; ".join(f"{k['activation']} {span(k, 'kink')}, at half the step {span(k, 'kink_half')}" for k in kinks)
    return (
        f"Second-order response at the data by symmetric differences, t = {kinks[0]['t']:g}, over R2 + R3, median "
        f"(range) over cells: {parts}."
    )


def ledger_c5(records: Records) -> str:
    """Measured column of claim C5."""
    curves = {(c["strategy"], c["law"], c["size"]): c for c in records["mask_coefficients"]["result"]["curves"]}
    size = max(c[2] for c in curves)
    decays = ", ".join(
        f"{NAMES[name]} {curves[name, 'exact', size]['decay']:.2f} ({curves[name, 'paper', size]['decay']:.2f})"
        for name in ("mixup", "cutmix", "hmix", "gmix")
    )
    shares = {(d["activation"], d["strategy"]): d for d in records["expansion_gap"]["result"]["distance"]}
    trained = "; ".join(
        f"{activation}: {_percent(shares[activation, 'mixup']['near_share'])} % under Mixup, difference "
        f"of CutMix {_percent(shares[activation, 'cutmix']['difference_to_mixup'])}"
        for activation in dict.fromkeys(a for a, _ in shares)
    )
    n = shares["softplus", "mixup"]["networks"]
    return (
        f"a(p) at half the image over a(p) at 1 pixel, {size}x{size}, exact law (paper's law), no sampling error: "
        f"{decays}. {_rebound(curves['cutmix', 'exact', size])} On trained networks (digits, {n} of each activation), "
        f"share of R2 from pairs at most 1 pixel apart: {trained} points (± standard error over networks, paired)."
    )


def ladder_table(records: Records) -> str:
    """Base, R1, R2, R3 and predicted loss at every point and law (mean over seeds), beside the measured loss."""
    lines = [
        "| trained with | net | mixed with | law | at | base | R1 | R2 | R3 | predicted | measured | explained (%) |",
        "|---|---|---|---|---|" + "--:|" * 7,
    ]
    for r in records["expansion_gap"]["result"]["summary"]:
        names = (NAMES[r["training"]], r["activation"], NAMES[r["strategy"]], r["law"], r["at"])
        numbers = (f"{r[k]['mean']:.3f}" for k in ("base", "r1", "r2", "r3", "predicted", "measured"))
        lines.append(f"| {' | '.join([*names, *numbers, _percent(r['explained'])])} |")
    return "\n".join(lines)


def every_network(records: Records) -> pd.DataFrame:
    """One line for each network, strategy, law and point, with all errors and the paired gap."""
    return pd.DataFrame(records["expansion_gap"]["result"]["columns"])


def summary_sentence(records: Records) -> str:
    """How near the Gauss-Newton prediction at the mask comes to the measured rise, beside the one at the data."""
    shares = {(s["activation"], s["at"], s["law"]): s for s in records["expansion_gap"]["result"]["shares"]}

    def span(activation: str, at: str, column: str) -> str:
        s = shares[activation, at, "exact"][column]
        return f"{100 * s['min']:.0f} to {100 * s['max']:.0f} %"

    cells = shares["softplus", "data", "exact"]["cells"]
    return (
        f"Over {cells} kinds of network and mixing for each activation, Gauss-Newton at the mask gives "
        f"{span('softplus', 'mask', 'explained_gn')} of the measured rise on softplus and "
        f"{span('relu', 'mask', 'explained_gn')} on ReLU networks, against {span('softplus', 'data', 'explained')} and "
        f"{span('relu', 'data', 'explained')} at the data."
    )


def _draw_se(records: Records, training: str, activation: str, strategy: str) -> float:
    """Standard error, by the draws alone, of the mean of the measured loss over networks (independent draws)."""
    c = records["expansion_gap"]["result"]["columns"]
    keys = zip(c["training"], c["activation"], c["strategy"], c["at"], c["law"], strict=True)
    wanted = (training, activation, strategy, "data", "exact")
    own = [se for key, se in zip(keys, c["se"], strict=True) if key == wanted]
    return float(np.linalg.norm(own) / len(own))


def _own_cutmix(records: Records) -> str:
    cells = {
        (r["at"], r["law"]): r
        for r in records["expansion_gap"]["result"]["summary"]
        if (r["training"], r["activation"], r["strategy"]) == ("cutmix", "softplus", "cutmix")
    }
    parts = [
        f"at the data {_percent(cells['data', 'exact']['explained'])} %",
        f"paper's law {_percent(cells['data', 'paper']['explained'])} %",
        f"at the mean {_percent(cells['mean', 'exact']['explained'])} %",
        f"at the mask without R3 {_percent(cells['mask', 'exact']['explained_gn'])} %",
    ]
    return ", ".join(parts)


def _rebound(curve: dict[str, Any]) -> str:
    """Where the coefficient of clipped CutMix stops falling: the exact law also takes the outside of the box."""
    row = curve["along_row"]
    low = min(range(len(row)), key=row.__getitem__)
    return (
        f"CutMix, exact law, along a row: {row[0]:.3f} at 0, falling to {row[low]:.3f} at {low} pixels, then up to "
        f"{row[-1]:.3f} at {len(row) - 1}, since pairs at opposite borders lie outside the box together."
    )


def _percent(value: dict[str, float]) -> str:
    return f"{100 * value['mean']:.1f} ± {100 * value['se']:.1f}"

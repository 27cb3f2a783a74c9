"""One number, or two, for each claim: what the report's ledger shows beside the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from experiments.accuracy_stats import Row, rows, side
from figures.style import NAMES

Records = Mapping[str, dict[str, Any]]
GRAPHS = {"cora": "Cora", "citeseer": "CiteSeer"}


def headline(key: str, records: Records) -> str:
    """The headline of claim ``key``; the records that the claim names must be there."""
    return HEADLINES[key](records)


def _c1(records: Records) -> str:
    shares = {(s["activation"], s["at"], s["law"]): s for s in records["expansion_gap"]["result"]["shares"]}

    def median(at: str, column: str) -> str:
        return f"{100 * shares['softplus', at, 'exact'][column]['median']:.0f} %"

    return (
        f"{median('data', 'explained')} of the rise at the data, {median('mask', 'explained_gn')} at the mask without "
        "R3 (softplus, median)"
    )


def _c2(records: Records) -> str:
    return _expected(records["first_layer"], "size", "norm in its own metric")


def _c3(records: Records) -> str:
    return _expected(records["robust_accuracy"], "robust", "accuracy in the worst case")


def _c4(records: Records) -> str:
    own = [r["minus_vanilla"] for r in rows(records["accuracy"]["result"]["runs"]) if r["minus_vanilla"]]
    higher = sum(side(d) == "above" for d in own)
    return (
        f"test accuracy above vanilla in {higher} of {len(own)} cells on photographs; "
        f"{_expected(records['generalization'], 'accuracy', 'digits')}"
    )


def _c5(records: Records) -> str:
    curves = {(c["strategy"], c["law"], c["size"]): c for c in records["mask_coefficients"]["result"]["curves"]}
    size = max(c[2] for c in curves)
    parts = [f"{NAMES[s]} {curves[s, 'exact', size]['decay']:.2f}" for s in ("mixup", "cutmix")]
    trained = _expected(records["gradient_products"], "c5", "near products on networks, CutMix less Mixup")
    return f"a(p) at half the image over a(p) at 1 pixel: {', '.join(parts)}; {trained}"


def _c6(records: Records) -> str:
    parts = []
    for task in records["task_winners"]["result"]["tasks"]:
        d = task["cutmix_minus_mixup"]["accuracy"]
        best = next(r for r in task["rows"] if r["strategy"] == task["measured_winner"])
        parts.append(f"{task['task']} {_points(d)} (the better of all less no mixing {_points(best['to_vanilla'])})")
    return f"CutMix - Mixup, points of accuracy: {'; '.join(parts)}"


def _c7(records: Records) -> str:
    own = rows(records["accuracy"]["result"]["runs"])
    cells: dict[tuple[str, str], dict[str, Row]] = {}
    for r in own:
        cells.setdefault((r["data"], r["model"]), {})[r["strategy"]] = r["accuracy"]
    parts = []
    for name in ("hmix", "gmix"):
        above = sum(c[name]["mean"] > max(c["mixup"]["mean"], c["cutmix"]["mean"]) for c in cells.values())
        parts.append(f"{NAMES[name]} {above}")
    return f"mean accuracy above both Mixup's and CutMix's: {', '.join(parts)} of {len(cells)} data sets"


def _c8(records: Records) -> str:
    times = records["bench_mix"]["result"]["times"]
    plain = [t for t in times if (t["format"], t["method"], t["mode"]) == ("float32", "MixTransform", "batch")]
    costs = ", ".join(f"{NAMES[t['strategy']]} {t['clones']:.2f}" for t in plain)
    return f"time to mix, in copies of the batch: {costs}"


def _c9(records: Records) -> str:
    own = [
        r["minus_best_earlier"]
        for r in rows(records["accuracy"]["result"]["runs"])
        if r["strategy"] in ("hmix", "gmix") and r["minus_best_earlier"]
    ]
    above = sum(side(d) == "above" for d in own)
    return f"not on these data sets; on others above the best earlier strategy in {above} of {len(own)} cells"


def _d1(records: Records) -> str:
    found = [
        p
        for p in _published(records)
        if p["name"] == "dropmix, both" and p["other"] in ("dropmix, local", "dropmix, global")
    ]
    above = sum(p["told"] == "above" for p in found)
    return f"both views above a single one in {above} of {len(found)} differences of accuracy"


def _d2(records: Records) -> str:
    expected = next(e for e in records["dropmix"]["result"]["expectations"] if "loses less" in e["check"])
    return f"part of the dimensions loses less {expected['detail']}"


def _d3(records: Records) -> str:
    found = [p for p in _published(records) if (p["name"], p["other"]) == ("dropmix", "none")]
    parts = "; ".join(f"{GRAPHS.get(p['data'], p['data'])} {_points(p)}" for p in found)
    return f"DropMix - no mixing, points of accuracy: {parts}"


def _published(records: Records) -> list[dict[str, Any]]:
    return [p for p in records["dropmix"]["result"]["pairs"] if p["probe"] == "published"]


def _expected(record: dict[str, Any], key: str, name: str) -> str:
    """What came of an expectation that the study wrote down before."""
    detail = next(e["detail"] for e in record["result"]["expectations"] if e["key"] == key)
    return f"{name}: {detail}"


def _points(value: dict[str, float]) -> str:
    return f"{100 * value['mean']:+.1f} ± {100 * value['half']:.1f}"


HEADLINES: dict[str, Callable[[Records], str]] = {
    **{"C1": _c1, "C2": _c2, "C3": _c3, "C4": _c4, "C5": _c5, "C6": _c6, "C7": _c7, "C8": _c8, "C9": _c9},
    **{"D1": _d1, "D2": _d2, "D3": _d3},
}

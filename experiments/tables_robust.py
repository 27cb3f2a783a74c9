"""Tables and sentences on robustness, from the record of ``robust_accuracy``."""

from __future__ import annotations

from typing import Any

from experiments.robust_stats import informative
from figures.style import NAMES

Record = dict[str, Any]
KINDS = {"linear": "linear", "relu": "ReLU without bias", "conv": "convolutional"}


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks of ``robust_accuracy`` by name."""
    record = records["robust_accuracy"]
    return {
        "c3": ledger(record),
        "robust-accuracies": accuracies(record),
        "robust-attacks": attacks(record),
        "robust-agreement": agreement(record),
        "robust-ensemble": ensemble(records["robust_ensemble"]),
        "robust-inequality": inequality(record),
        "robust-inequality-sentence": inequality_sentence(record),
        "robust-expectations": expectations(record),
        "robust-setting": setting(record),
    }


def accuracies(record: Record) -> str:
    """Worst-case accuracy of every training at every radius, and its difference to vanilla, as Markdown."""
    parts = []
    rows = [r for r in record["result"]["attacks"] if r["attack"] == "worst"]
    for norm in dict.fromkeys(r["norm"] for r in rows):
        own = [r for r in rows if r["norm"] == norm]
        radii = list(dict.fromkeys(r["eps"] for r in own))
        lines = [
            f"| {norm}, trained with | " + " | ".join(f"{e:g}" for e in radii) + " |",
            "|---|" + "--:|" * len(radii),
        ]
        for name in dict.fromkeys(r["training"] for r in own):
            cells = [_cell(next(r for r in own if (r["training"], r["eps"]) == (name, e))) for e in radii]
            lines.append(f"| {NAMES[name]} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(row: dict[str, Any]) -> str:
    """Accuracy of vanilla; of others the difference to it, bold if its interval leaves out 0."""
    if row["difference"] is None:
        return f"{100 * row['accuracy']['mean']:.1f} ± {100 * row['accuracy']['half']:.1f}"
    d = row["difference"]
    text = f"{100 * d['mean']:+.1f} ± {100 * d['half']:.1f}"
    return f"**{text}**" if d["side"] != "?" else text


def attacks(record: Record) -> str:
    """Weak and strong attacks: each training's difference to vanilla under each attack, as Markdown."""
    rows = record["result"]["attacks"]
    places = list(dict.fromkeys((r["norm"], r["eps"]) for r in informative(rows)))
    lines = ["| trained with, attack | " + " | ".join(f"{n} {e:g}" for n, e in places) + " |"]
    lines.append("|---|" + "--:|" * len(places))
    for name in dict.fromkeys(r["training"] for r in rows):
        for attack in dict.fromkeys(r["attack"] for r in rows):
            own = {(r["norm"], r["eps"]): r for r in rows if (r["training"], r["attack"]) == (name, attack)}
            lines.append(f"| {NAMES[name]}, {attack} | {' | '.join(_cell(own[p]) for p in places)} |")
    hidden = record["result"]["masked"]
    return (
        "\n".join(lines) + f"\n\nOver all networks, norms and radii {hidden['only_free']} images were broken by Square "
        f"alone and {hidden['only_gradient']} by gradients alone; the smallest p-value of {hidden['tests']} one-sided "
        f"sign tests is {hidden['smallest_p']:.2g}: {'a' if hidden['found'] else 'no'} sign of masked gradients."
    )


def ensemble(record: Record) -> str:
    """The study's worst case beside the standard ensemble, as Markdown."""
    lines = [
        "| trained with | norm | worst case of the study (%) | standard ensemble (%) | broken by the ensemble alone |",
        "|---|---|--:|--:|--:|",
    ]
    for r in record["result"]["rows"]:
        shares = [f"{100 * r[k]['mean']:.1f}" for k in ("worst", "ensemble")]
        lines.append(
            f"| {NAMES[r['training']]} | {r['norm']} | {' | '.join(shares)} | {r['only_ensemble']} of {r['answers']} |"
        )
    config = record["config"]
    return (
        "\n".join(lines) + f"\n\n{config['images']} test images, {len(config['seeds'])} networks a row, radii linf "
        f"{config['linf']:g} and l2 {config['l2']:g}; {record['machine']}; `{record['command']}`."
    )


def agreement(record: Record) -> str:
    """Tightness of one and the same inequality on networks of every training, convolutional, as Markdown."""
    rows = [r for r in record["result"]["bounds"] if r["centred"] and r["law"] == "exact" and r["kind"] == "conv"]
    names = list(dict.fromkeys(r["training"] for r in rows))
    lines = ["| inequality of | " + " | ".join(NAMES[n] for n in names) + " | tau with accuracy |"]
    lines.append("|---|" + "--:|" * (len(names) + 1))
    for strategy in dict.fromkeys(r["strategy"] for r in rows):
        tight = {r["training"]: r["tightness"] for r in rows if r["strategy"] == strategy}
        taus = [a["tau"] for a in record["result"]["agreement"] if a["strategy"] == strategy]
        cells = [f"{100 * tight[n]['mean']:.0f} ± {100 * tight[n]['half']:.0f}" for n in names]
        lines.append(f"| {NAMES[strategy]} | {' | '.join(cells)} | {min(taus):+.2f} to {max(taus):+.2f} |")
    places = ", ".join(
        f"{n} {e:g}" for n, e in dict.fromkeys((a["norm"], a["eps"]) for a in record["result"]["agreement"])
    )
    return (
        "\n".join(lines)
        + "\n\nRight over left rise in %, exact law; columns: training. Last column: Kendall's tau over "
        f"the {len(names)} trainings with the mean worst-case accuracy, smallest and largest over {places}."
    )


def inequality(record: Record) -> str:
    """Both sides of the inequality on networks trained with each strategy and without mixing, as Markdown."""
    head = ["network", "trained with", "strategy", "law", "L", "left", "right", "right over left rise (%)", "holds"]
    head += ["images with the assumption (%)", "mean radius", "second order over true"]
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|" + "--:|" * (len(head) - 4)]
    rows = [r for r in record["result"]["bounds"] if r["centred"]]
    for kind in KINDS:
        own = [r for r in rows if r["kind"] == kind]
        for law in dict.fromkeys(r["law"] for r in own):
            for name in dict.fromkeys(r["strategy"] for r in own):
                for r in own:
                    if (r["law"], r["strategy"]) == (law, name) and r["training"] in (name, "vanilla"):
                        lines.append(_bound_line(r))
    return "\n".join(lines)


def _bound_line(r: dict[str, Any]) -> str:
    true = r.get("second_order_over_true")
    cells = [KINDS[r["kind"]], NAMES[r["training"]], NAMES[r["strategy"]], r["law"]]
    cells += [f"{r[k]['mean']:.3f}" for k in ("clean", "left", "right")]
    cells += [
        f"{100 * r['tightness']['mean']:.0f} ± {100 * r['tightness']['half']:.0f}",
        f"{r['holds']} of {r['seeds']}",
    ]
    cells += [f"{100 * r['share']['mean']:.1f}", f"{r['eps_mean']['mean']:.3f}"]
    cells.append(f"{true['mean']:.2f} ± {true['half']:.2f}" if true else "")
    return f"| {' | '.join(cells)} |"


def inequality_sentence(record: Record) -> str:
    """How often the inequality held, with and without the condition, and without centring."""
    rows = record["result"]["bounds"]
    parts = []
    for centred, name in ((True, "centred at the mean image"), (False, "not centred, as published for a mean of 0")):
        own = [r for r in rows if r["centred"] == centred]
        holds, count = sum(r["holds"] for r in own), sum(r["seeds"] for r in own)
        lowest = min(r["share"]["mean"] for r in own)
        highest = max(r["share"]["mean"] for r in own)
        parts.append(
            f"{name} it holds in {holds} of {count} cases of network, strategy and law, with the assumption satisfied "
            f"by {100 * lowest:.0f} to {100 * highest:.0f} % of the images (means over seeds)"
        )
    checks = {c["check"]: c["detail"] for c in record["result"]["checks"]}
    proven = checks["the inequality holds wherever every image satisfies its assumption"]
    counter = checks["the counter-example violates it"]
    return (
        f"The inequality: {'; '.join(parts)}. Cases where every image satisfies it, so that it is proven: {proven}. "
        f"Counter-example: {counter}."
    )


def expectations(record: Record) -> str:
    """What was expected before the first run and what came, as Markdown; for every study with such a list."""
    lines = ["| expected | came | detail |", "|---|---|---|"]
    lines += [
        f"| {e['check']} | {'yes' if e['holds'] else 'no'} | {e['detail']} |" for e in record["result"]["expectations"]
    ]
    return "\n".join(lines)


def setting(record: Record) -> str:
    """How it was measured."""
    config, result = record["config"], record["result"]
    return (
        f"Digits in [0, 1]; {len(config['seeds'])} networks of each kind and training, {config['epochs']} epochs; "
        f"{result['test_images']} test images attacked, {result['train_images']} training images in the inequality. "
        f"PGD: {config['steps']} steps from each of {config['restarts']} starts; DeepFool: {config['steps']} steps; "
        f"Square: {config['queries']} queries; FGSM. Accuracy of vanilla in % with half a 95 % interval over networks "
        "and images; other rows: difference to vanilla in points, paired by seed, image and start, ± covers "
        "networks and images; bold where it leaves out 0. Intervals are not corrected for their number. "
        f"{record['machine']}; torch {record['versions']['torch']}; `{record['command']}`."
    )


def ledger(record: Record) -> str:
    """Measured column of claim C3."""
    cells = informative(record["result"]["attacks"])
    found = {e["key"]: e for e in record["result"]["expectations"]}
    sides = [c["difference"]["side"] for c in cells]
    biggest = max(cells, key=lambda c: c["difference"]["mean"])
    smallest = min(cells, key=lambda c: c["difference"]["mean"])
    rows = [r for r in record["result"]["bounds"] if r["centred"]]
    holds, count = sum(r["holds"] for r in rows), sum(r["seeds"] for r in rows)
    return (
        f"Digits, convolutional networks, worst case over FGSM, PGD-{record['config']['steps']}, DeepFool and Square, "
        f"{len(cells)} cells of strategy, norm and radius (vanilla between 5 and 95 %): more accurate than vanilla in "
        f"{sides.count('above')}, less in {sides.count('below')}, not told in {sides.count('?')} (95 % intervals, "
        f"{len(record['config']['seeds'])} seeds); from {_named(smallest)} to {_named(biggest)}. At the largest such "
        f"radii: {found['strong']['detail']}. Inequality (4) holds in {holds} of {count} cases, on networks trained "
        f"without mixing too; tighter on those trained with the strategy {found['specific']['detail']}."
    )


def _named(cell: dict[str, Any]) -> str:
    d = cell["difference"]
    where = f"{NAMES[cell['training']]}, {cell['norm']} {cell['eps']:g}"
    return f"{100 * d['mean']:+.1f} ± {100 * d['half']:.1f} points ({where})"

"""Tables and sentences of the benchmarks, made from their records."""

from __future__ import annotations

from typing import Any

from figures.style import NAMES

METHODS = ("taylor", "HVP", "nested jvp")


def bench_sentence(record: dict[str, Any]) -> str:
    """Cost of moments and of the measured loss, from the benchmark's record."""
    result = record["result"]
    slowest = max(m["seconds"] for m in result["moments_32x32"])
    largest = max(m["peak_bytes"] for m in result["moments_32x32"])
    ratios = {n: [t["ratio"] for t in result["throughput"] if t["network"] == n] for n in ("conv-32x32", "digits")}
    commands = "; ".join(f"`{c['command']}` {c['seconds']:.0f} s" for c in result["commands"])
    timed = f"Fresh clone and environment, packages cached: {commands}. " if commands else ""
    return (
        f"Dense exact moments at 32x32: {slowest:.2f} s and {largest / 1e6:.0f} MB (whole process) at most, over all "
        f"strategies and laws. `mixed_loss` runs at {min(ratios['conv-32x32']):.2f} to {max(ratios['conv-32x32']):.2f} "
        f"of the throughput of plain forward passes on a small 3x32x32 convolutional network (float32), "
        f"{min(ratios['digits']):.2f} to {max(ratios['digits']):.2f} on the digits network (float64), median of "
        f"{record['config']['rounds']} rounds. {timed}{record['machine']}; `{record['command']}`."
    )


def laws_sentence(record: dict[str, Any]) -> str:
    """Cost of moments at full size and of measuring a law."""
    result, config = record["result"], record["config"]
    operations = ("apply", "quadratic", "diagonal", "by_displacement", "by_distance")
    closed = [m for m in result["moments"] if not m["measured_draws"]]
    measured = [m for m in result["moments"] if m["measured_draws"]]

    def longest(rows: list[dict[str, Any]], *operations: str) -> str:
        return f"{max(m['seconds'][k] for m in rows for k in operations):.1f} s"

    spans = {mode: [m["seconds"] for m in result["law_of"] if m["mode"] == mode] for mode in ("batch", "sample")}
    return (
        f"At {config['size']}x{config['size']}, every strategy and law: {longest(closed, 'moments')} for the moments "
        f"and {longest(closed, *operations)} for any of these at "
        f"most, {max(m['peak_bytes'] for m in closed) / 1e6:.0f} MB (whole process); a law measured from "
        f"{measured[0]['measured_draws']} draws, one a call: {longest(measured, 'law_of')}, then "
        f"{longest(measured, 'moments')}, "
        f"{longest(measured, *operations)}, "
        f"{max(m['peak_bytes'] for m in measured) / 1e6:.0f} MB. `law_of` with {config['draws']} draws at "
        f"{config['side']}x{config['side']}: {min(spans['batch']):.1f} to {max(spans['batch']):.1f} s with one mask a "
        f"batch, {min(spans['sample']):.1f} to {max(spans['sample']):.1f} s with one a sample. {record['machine']}; "
        f"`{record['command']}`."
    )


def mixing(record: dict[str, Any]) -> str:
    """Cost of mixing a batch in clones: table and sentence, as Markdown."""
    rows = {(t["format"], t["method"], t["strategy"], t["mode"]): t for t in record["result"]["times"]}
    kinds = list(dict.fromkeys((f, m) for f, m, _, _ in rows))
    names = list(dict.fromkeys(n for _, _, n, _ in rows))
    columns = [(name, mode) for name in names for mode in ("batch", "per sample")]
    lines = [
        f"| format | code | {' | '.join(f'{NAMES[n]}, {m}' for n, m in columns)} |",
        "|---|---|" + "--:|" * len(columns),
    ]
    for form, method in kinds:
        cells = [_clones(rows.get((form, method, *column))) for column in columns]
        lines.append(f"| {form} | {'`MixTransform`' if method == 'MixTransform' else method} | {' | '.join(cells)} |")
    config = record["config"]
    clone = next(iter(rows.values()))["clone_ms"]
    shape = f"{config['images']}x{config['channels']}x{config['size']}x{config['size']}"
    return "\n".join(lines) + (
        f"\n\nTime to mix {shape} images in clones of them (`x.clone()`, {clone:.0f} ms in float32), median over "
        f"{config['rounds']} rounds in which all take turns (range). *Plain code*: partners by `x.flip(0)`, the mask "
        f"by slices or as a full map. {record['machine']}, {record['threads']} threads; torch "
        f"{record['versions']['torch']}; `{record['command']}`."
    )


def ledger_c8(record: dict[str, Any]) -> str:
    """Measured column of claim C8."""
    rows = {
        (t["strategy"], t["mode"]): t
        for t in record["result"]["times"]
        if (t["format"], t["method"]) == ("float32", "MixTransform")
    }
    config = record["config"]
    parts = "; ".join(
        f"{NAMES[name]} {_clones(rows[name, 'batch'])} and {_clones(rows[name, 'per sample'])}"
        for name in dict.fromkeys(n for n, _ in rows)
    )
    return (
        f"Time to mix {config['images']}x{config['channels']}x{config['size']}x{config['size']} float32 images on the "
        f"CPU, in multiples of `x.clone()`, one mask for the batch and one for each image, median over "
        f"{config['rounds']} rounds (range): {parts}. {record['machine']}, {record['threads']} threads."
    )


def _clones(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row['clones']:.2f} ({row['min']:.2f} to {row['max']:.2f})"


def engine_summary(record: dict[str, Any]) -> str:
    """Cost on the CPU in one sentence for each network."""
    cost = {(t["network"], t["draws"], t["method"]): t["forwards"] for t in record["result"]["times"]}
    draws = list(dict.fromkeys(k for _, k, _ in cost))
    parts = []
    for network in record["result"]["networks"]:
        name = network["network"]
        spans = {m: " / ".join(f"{cost[name, k, m]:.1f}" for k in draws) for m in ("taylor", "nested jvp")}
        parts.append(f"{name} {spans['taylor']} (nested forward mode: {spans['nested jvp']})")
    return (
        f"Cost in plain forward passes for each direction, K = {' / '.join(map(str, draws))} directions at "
        f"{record['config']['batch']} images: {'; '.join(parts)}. Medians; a value below (K + 2)/K, the "
        "passes really made, is noise of the plain forward pass that it is divided by. "
        f"{record['machine']}; `{record['command']}`."
    )


def engine(record: dict[str, Any], gpu: dict[str, Any] | None = None) -> str:
    """Cost of Taylor coefficients on the CPU, and on a GPU if measured: table and sentence each, as Markdown."""
    return "\n\n".join(f"{_engine_table(r['result'])}\n\n{_engine_sentence(r)}" for r in (record, gpu) if r)


def _engine_table(result: dict[str, Any]) -> str:
    lines = [f"| network | B | K | {' | '.join(METHODS)} | memory | agreement |", "|---|" + "--:|" * (len(METHODS) + 4)]
    rows = {(t["network"], t["batch"], t["draws"], t["method"]): t for t in result["times"]}
    for network in result["networks"]:
        name, batch, memory = network["network"], network["batch"], network["memory"]
        largest = max(network["agreement"][k] for k in ("value", "first", "second"))
        for draws in dict.fromkeys(k for n, b, k, _ in rows if (n, b) == (name, batch)):
            costs = [_cost(rows[name, batch, draws, method]) for method in METHODS]
            ratio = memory["ratio"] if draws == memory["draws"] else None
            peak = "" if ratio is None else f"{ratio:.2f}"
            label = f"{name}, {network['image']}x{network['image']}"
            lines.append(f"| {label} | {batch} | {draws} | {' | '.join(costs)} | {peak} | {largest:.0e} |")
    return "\n".join(lines)


def _cost(row: dict[str, Any]) -> str:
    if row["forwards"] is None:
        return "not possible"
    return f"{row['forwards']:.2f}{' (wrong)' if row['agrees'] is False else ''}"


def _engine_sentence(record: dict[str, Any]) -> str:
    traces = [n["trace_seconds"] for n in record["result"]["networks"]]
    machine = record["machine"] if record["device"] == "CPU" else f"{record['device']}; {record['machine']}"
    return (
        "Time for K directions at B samples over that of a plain forward pass on K*B images (float32, median of "
        f"{record['config']['rounds']} rounds); memory: peak of `taylor` over that of this forward pass; agreement: "
        "largest relative difference of `taylor` from automatic differentiation, float64, reduced width. HVP gives one "
        f"combination of outputs. Tracing once takes {min(traces):.1f} to {max(traces):.1f} s more. {machine}, "
        f"{record['threads']} threads; torch {record['versions']['torch']}; `{record['command']}`."
    )


def training(record: dict[str, Any]) -> str:
    """Speed of training with each strategy over training without mixing: table and sentence, as Markdown."""
    rows, config = record["result"]["speeds"], record["config"]
    names = list(dict.fromkeys(r["strategy"] for r in rows))
    lines = [f"| setting | {' | '.join(NAMES[n] for n in names)} |", "|---|" + "--:|" * len(names)]
    for setting in dict.fromkeys(r["setting"] for r in rows):
        cells = [_speed(r) for r in rows if r["setting"] == setting]
        lines.append(f"| {setting} | {' | '.join(cells)} |")
    waits = "; ".join(f"{_percent(w['share'])} {w['images']}" for w in record["result"]["loading"])
    device = "" if record["device"] == "cpu" else f", {record['device']}"
    return "\n".join(lines) + (
        f"\n\nImages a second of the trainer with each strategy over those without mixing in the same round "
        f"(without mixing: images a second), median over {config['rounds']} rounds in which all take turns (range); "
        f"batches of {config['batch']} images of 3x32x32. Share of time spent waiting for images: {waits}. "
        f"{record['machine']}{device}, {record['threads']} threads; torch {record['versions']['torch']}; "
        f"`{record['command']}`."
    )


def _speed(row: dict[str, Any]) -> str:
    if row["strategy"] == "vanilla":
        return f"{row['images_per_s']:.0f}/s"
    return f"{row['over_vanilla']:.3f} ({row['min']:.2f} to {row['max']:.2f})"


def decoding(record: dict[str, Any]) -> str:
    """Pictures that a core decodes, and how many cores eight GPUs take that train 2,600 images a second each."""
    rate = record["result"]["decoded_per_s"]
    return (
        f"Pillow decodes, crops and resizes {rate:.0f} pictures of 500x375 pixels a second on one core here "
        f"(`{record['command']}`), so eight such GPUs need about {8 * 2600 / rate:.0f} cores"
    )


def training_range(record: dict[str, Any]) -> str:
    """Slowest and fastest strategy in a training step, for the ledger."""
    ratios = [r["over_vanilla"] for r in record["result"]["speeds"] if r["strategy"] != "vanilla"]
    return (
        f"Training (trainer with a small residual network, {record['config']['batch']} images of 3x32x32 a step): "
        f"{min(ratios):.3f} to {max(ratios):.3f} of the images a second without mixing, over all strategies and "
        f"{len({r['setting'] for r in record['result']['speeds']})} settings, medians over "
        f"{record['config']['rounds']} rounds."
    )


def attacks(record: dict[str, Any]) -> str:
    """Cost of PGD beside its passes, as a sentence."""
    config, result = record["config"], record["result"]
    ratios = [a / b for a, b in zip(result["seconds"]["attack"], result["seconds"]["passes"], strict=True)]
    return (
        f"PGD with {config['steps']} steps on {config['images']:,} images of 3x32x32 (resnet8 of width "
        f"{config['width']}, batches of {config['batch']}) takes {result['ratio']:.2f} times the processor time of the "
        f"{result['passes']} forward and backward passes that it needs, median of {config['rounds']} rounds "
        f"({min(ratios):.2f} to {max(ratios):.2f}). {record['machine']}, {record['threads']} "
        f"thread{'s' if record['threads'] > 1 else ''}; `{record['command']}`."
    )


def graphs(record: dict[str, Any]) -> str:
    """Cost of graph contrastive learning: table and sentences, as Markdown."""
    result, config = record["result"], record["config"]
    lines = ["| graph | setting | seconds | over the first | memory | |", "|---|---|--:|--:|--:|---|"]
    name = config["data"].capitalize()
    for row in result["benchmark"]["rows"]:
        kind = "dense diffusion" if row["threshold"] == 0 else f"entries >= {row['threshold']:g}"
        note = f"600 epochs: {row['projected_s']:.0f} s"
        lines.append(_graph_line(f"{name}, an epoch", f"{row['search']} search, {kind}", row, note))
    whole = result["benchmark"]["whole"]
    if whole is not None:
        note = f"{whole['epochs']} epochs"
        lines.append(f"| {name}, a whole run | default | {whole['seconds']:.0f} | | {_gb(whole)} | {note} |")
    large = f"{config['nodes']:,} nodes"
    for row in result["views"]:
        note = f"{row['entries'] / config['nodes']:.0f} entries a row; {_percent(row['lost_mean'])} of the mass lost"
        kind = f"by {'pushing' if row['method'] == 'push' else 'threshold'}, {row['threshold']:g}"
        lines.append(f"| {large}, diffusion | {kind} | {row['seconds']:.1f} | | {_gb(row)} | {note} |")
    missed = {e["check"] for e in [*result["expectations"], *result["checks"]] if not e["holds"]}
    for row in result["epochs"]:
        kind = f"{row['search']} search" if row["search"] else "no hardness"
        aims = [c.rsplit("within ", 1)[1] for c in sorted(missed) if c.startswith("an epoch") and kind in c]
        note = f"misses the aim of {' and '.join(aims)}" if aims else ""
        lines.append(_graph_line(f"{large}, an epoch", kind, row, note))
    left = result["benchmark"]["left_out"]
    return "\n".join(lines) + f"\n\n{f'Left out: {left}. ' if left else ''}{_graph_sentence(record)}"


def _graph_line(graph: str, setting: str, row: dict[str, Any], note: str) -> str:
    seconds = f"{row['epoch_s']:.3g} ({row['min']:.3g} to {row['max']:.3g})"
    return f"| {graph} | {setting} | {seconds} | {row['over_first']:.2f} | {_gb(row)} | {note} |"


def _gb(row: dict[str, Any]) -> str:
    return f"{row['peak_bytes'] / 1e9:.2f} GB"


def _graph_sentence(record: dict[str, Any]) -> str:
    result, config = record["result"], record["config"]
    ratios = ", ".join(f"{r['ratio']:.2f} ({_percent(r['share'])} of the entries)" for r in result["products"])
    search = result["search"]
    rows = search["rows"]
    same, largest = min(r["same"] for r in rows), max(r["largest_difference"] for r in rows)
    threads = f"{record['threads']} thread{'s' if record['threads'] > 1 else ''}"
    return (
        f"Fresh process for each setting; median of {config['rounds']} rounds in which all take turns (range), ratios "
        f"within a round; memory: peak of the whole process. {config['width']} units; the {config['nodes']:,} nodes "
        f"are a block model with the counts of PubMed. Sparse over dense products with the diffusion of "
        f"{config['small']:,} nodes, backward pass included: {ratios}. A search in bfloat16 instead of float32, "
        f"{search['epochs']} epochs trained: {_percent(same)} or more of the kept negatives are the same "
        f"({_percent(rows[0]['by_chance'])} by chance), hardness differs by {largest:.1e} at most, Spearman "
        f"correlation {min(r['spearman'] for r in rows):.6f} or more. {record['machine']}, {threads}, load average "
        f"{record['load'][0]:.1f} at the start; torch {record['versions']['torch']}; `{record['command']}`."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

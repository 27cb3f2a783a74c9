"""Time and memory (C8)."""

from __future__ import annotations

from experiments import tables_bench
from figures.style import LAWS, NAMES
from reporting.section import Column, Records, Section, Table, flat, named


def _tables(records: Records) -> list[Table]:
    return [*_engines(records), *_mixing(records), *_scale(records)]


def _engines(records: Records) -> list[Table]:
    engines = [
        {"device": device} | row
        for device, name in (("CPU", "bench_taylor"), ("GPU", "bench_taylor_gpu"))
        if name in records
        for row in records[name]["result"]["times"]
    ]
    return [
        Table(
            "bench_taylor",
            "Second-order Taylor coefficients, in forward passes",
            flat(engines),
            (
                Column("device", "device"),
                Column("network", "network"),
                Column("draws", "directions", 0),
                Column("method", "method"),
                Column("forwards", "forward passes, median", 2),
                Column("min", "least", 2),
                Column("max", "largest", 2),
                Column("agrees", "right"),
            ),
        ),
    ]


def _mixing(records: Records) -> list[Table]:
    return [
        Table(
            "bench_mix",
            "Time to mix a batch, in copies of it",
            named(flat(records["bench_mix"]["result"]["times"]), strategy=NAMES),
            (
                Column("format", "format"),
                Column("method", "code"),
                Column("strategy", "strategy"),
                Column("mode", "one mask a"),
                Column("clones", "copies, median", 2),
                Column("min", "least", 2),
                Column("max", "largest", 2),
            ),
        ),
        Table(
            "bench_train",
            "Speed of training over that of vanilla",
            named(flat(records["bench_train"]["result"]["speeds"]), strategy=NAMES),
            (
                Column("setting", "setting"),
                Column("strategy", "strategy"),
                Column("over_vanilla", "over vanilla, median", 3),
                Column("min", "least", 3),
                Column("max", "largest", 3),
                Column("images_per_s", "images a second", 0),
            ),
        ),
    ]


def _scale(records: Records) -> list[Table]:
    return [
        Table(
            "bench_laws",
            "Exact moments at 224x224",
            named(flat(records["bench_laws"]["result"]["moments"]), strategy=NAMES, law=LAWS),
            (
                Column("strategy", "strategy"),
                Column("law", "law"),
                Column("method", "method"),
                Column("seconds moments", "moments (s)", 2),
                Column("seconds apply", "apply (s)", 3),
                Column("peak_bytes", "peak memory (MB)", 0, 1e-6),
            ),
        ),
        Table(
            "bench_graph",
            "Contrastive training on a large graph, an epoch",
            flat(records["bench_graph"]["result"]["epochs"]).fillna({"search": "none: nothing is ranked"}),
            (
                Column("search", "search"),
                Column("epoch_s", "seconds an epoch", 2),
                Column("peak_bytes", "peak memory (GB)", 2, 1e-9),
            ),
        ),
    ]


SECTION = Section(
    key="cost",
    order=140,
    title="What does it cost?",
    text=(
        "The engine that propagates second-order Taylor coefficients, mixing, training with mixing, attacks, exact "
        "moments, graphs: time and memory, as ratios within one run where machines would differ.",
    ),
    records=("bench_taylor", "bench_mix", "bench_train", "bench_laws", "bench_graph", "bench_attacks", "bench"),
    optional=("bench_taylor_gpu",),
    figures=("engine",),
    findings=lambda records: [
        tables_bench.engine_summary(records["bench_taylor"]),
        tables_bench.bench_sentence(records["bench"]),
        tables_bench.attacks(records["bench_attacks"]),
    ],
    tables=_tables,
)

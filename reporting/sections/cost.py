"""Time and memory (C8)."""

from __future__ import annotations

from experiments import tables_bench
from reporting.section import Column, Record, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    return [*_engines(records), *_mixing(records), *_scale(records)]


def _rounds(record: Record) -> str:
    return f"Median, least and largest of {record['config']['rounds']} rounds. {record['machine']}."


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
            f"{_rounds(records['bench_taylor'])} GPU: {records['bench_taylor_gpu']['machine']}."
            if "bench_taylor_gpu" in records
            else _rounds(records["bench_taylor"]),
        ),
    ]


def _mixing(records: Records) -> list[Table]:
    return [
        Table(
            "bench_mix",
            "Time to mix a batch, in copies of it",
            flat(records["bench_mix"]["result"]["times"]),
            (
                Column("format", "format"),
                Column("method", "code"),
                Column("strategy", "strategy"),
                Column("mode", "a mask"),
                Column("clones", "copies, median", 2),
                Column("min", "least", 2),
                Column("max", "largest", 2),
            ),
            _rounds(records["bench_mix"]),
        ),
        Table(
            "bench_train",
            "Speed of training over that of vanilla",
            flat(records["bench_train"]["result"]["speeds"]),
            (
                Column("setting", "setting"),
                Column("strategy", "strategy"),
                Column("over_vanilla", "over vanilla, median", 3),
                Column("min", "least", 3),
                Column("max", "largest", 3),
                Column("images_per_s", "images a second", 0),
            ),
            _rounds(records["bench_train"]),
        ),
    ]


def _scale(records: Records) -> list[Table]:
    return [
        Table(
            "bench_laws",
            "Exact moments at 224x224",
            flat(records["bench_laws"]["result"]["moments"]),
            (
                Column("strategy", "strategy"),
                Column("law", "law"),
                Column("method", "method"),
                Column("seconds moments", "moments (s)", 2),
                Column("seconds apply", "apply (s)", 3),
                Column("peak_bytes", "peak memory (MB)", 0, 1e-6),
            ),
            f"One run each, memory of the whole process. {records['bench_laws']['machine']}.",
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
            f"Median of {records['bench_graph']['config']['rounds']} rounds. {records['bench_graph']['machine']}.",
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

"""Tables of the README, the ledger and the terminal, made from records; nothing in them is typed by hand.

``python -m experiments.tables`` prints the main table; `fill` replaces the marked blocks of a page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments import (
    claims,
    tables_accuracy,
    tables_bench,
    tables_coverage,
    tables_designed,
    tables_dropmix,
    tables_first_layer,
    tables_fuzz,
    tables_gap,
    tables_generalization,
    tables_laws,
    tables_mutants,
    tables_numerics,
    tables_order_ladder,
    tables_products,
    tables_reruns,
    tables_robust,
    tables_tasks,
    tables_theory_training,
)
from experiments.accuracy import imagenet_command
from experiments.record import RECORDS, read_record
from figures import make

Records = dict[str, dict[str, Any]]
EXPERIMENTS = (
    "digit_nets", "expansion_gap", "mask_coefficients", "remainder_order", "mask_gallery", "law_zoo", "alpha_sweep",
)  # fmt: skip
# Longer; run by hand, with ``make studies``.
STUDIES = (
    "first_layer", "task_winners", "robust_accuracy", "robust_ensemble", "generalization", "reliability",
    "order_ladder", "gradient_products", "theory_training", "designed_law", "dropmix", "accuracy",
    "numerical_errors", "fuzz_readers", "reruns", "branch_coverage", "mutants",
)  # fmt: skip
BENCHMARKS = ("bench", "bench_taylor", "bench_laws", "bench_mix", "bench_train", "bench_attacks", "bench_graph")
OPTIONAL = ("bench_taylor_gpu", "order_ladder_runs", "gradient_products_runs")


def load(folder: Path, names: Sequence[str] = EXPERIMENTS) -> Records:
    """The records called ``names``.

    Raises:
        FileNotFoundError: with the command that makes the missing one.
    """
    records: Records = {}
    for name in names:
        record = read_record(folder / f"{name}.json")
        if record is None:
            raise FileNotFoundError(f"{folder / name}.json is missing; make it with: python -m experiments.{name}")
        records[name] = record
    return records


def load_all(folder: Path) -> Records:
    """Records of all experiments and benchmarks, and the optional ones that are there."""
    there = [name for name in OPTIONAL if (folder / f"{name}.json").exists()]
    return load(folder, (*EXPERIMENTS, *STUDIES, *BENCHMARKS, *there))


def blocks(records: Records) -> dict[str, str]:
    """Every generated block by its name."""
    found = {
        "main-table": tables_gap.main_table(records, matched=True),
        "setting": tables_gap.setting(records),
        "accuracy": tables_gap.accuracy_table(records),
        "c1": tables_gap.ledger_c1(records),
        "c5": tables_gap.ledger_c5(records),
        "summary": tables_gap.summary_sentence(records),
        "bench": tables_bench.bench_sentence(records["bench"]),
        "engine-summary": tables_bench.engine_summary(records["bench_taylor"]),
        "engine": tables_bench.engine(records["bench_taylor"], records.get("bench_taylor_gpu")),
        "bench-laws": tables_bench.laws_sentence(records["bench_laws"]),
        "bench-mix": tables_bench.mixing(records["bench_mix"]),
        "c8": tables_bench.ledger_c8(records["bench_mix"]),
        "laws": tables_laws.laws(records["law_zoo"]),
        "law-terms": tables_laws.law_terms(records["law_zoo"]),
        "law-setting": tables_laws.law_setting(records["law_zoo"]),
        "law-sources": tables_laws.law_sources(records["law_zoo"]),
        "law-summary": tables_laws.law_summary(records["law_zoo"]),
        "alpha": tables_laws.alpha_sentence(records["alpha_sweep"]),
        "alpha-table": tables_laws.alpha_table(records["alpha_sweep"]),
        "alpha-setting": tables_laws.alpha_setting(records["alpha_sweep"]),
        "c6": tables_tasks.ledger(records["task_winners"]),
        "task-winners": tables_tasks.winners(records["task_winners"]),
        "task-differences": tables_tasks.differences(records["task_winners"]),
        "task-setting": tables_tasks.setting(records["task_winners"]),
        "imagenet-command": imagenet_command(),
        "accuracy-study": tables_accuracy.table(records["accuracy"]),
        "accuracy-setting": tables_accuracy.setting(records["accuracy"]),
        "accuracy-ranks": tables_accuracy.ranks_sentence(records["accuracy"]),
        "c4": tables_accuracy.ledger_c4(records["accuracy"]),
        "c7": tables_tasks.between(records["task_winners"], records["accuracy"]),
        "c9": tables_accuracy.ledger_c9(records["accuracy"]),
        "bench-train": tables_bench.training(records["bench_train"]),
        "decoding": tables_bench.decoding(records["bench_train"]),
        "c8-training": tables_bench.training_range(records["bench_train"]),
        "bench-attacks": tables_bench.attacks(records["bench_attacks"]),
        "bench-graph": tables_bench.graphs(records["bench_graph"]),
        **tables_first_layer.blocks(records),
        **tables_robust.blocks(records),
        **tables_generalization.blocks(records),
        **tables_order_ladder.blocks(records),
        **tables_products.blocks(records),
        **tables_designed.blocks(records),
        **tables_dropmix.blocks(records),
        **tables_fuzz.blocks(records),
        **tables_coverage.blocks(records),
        **tables_reruns.blocks(records),
        **tables_numerics.blocks(records),
        **tables_mutants.blocks(records),
        **tables_theory_training.blocks(records),
        **{f"caption-{name.replace('_', '-')}": text for name, text in make.captions(records).items()},
    }
    return {**found, "ledger": claims.ledger(found)}


def fill(page: str, records: Records) -> str:
    """``page`` with the text between ``<!-- NAME -->`` and ``<!-- /NAME -->`` replaced by the block NAME.

    Raises:
        ValueError: if the page has no block, or one of an unknown name.
    """
    known, found = blocks(records), re.findall(r"<!-- /([\w-]+) -->", page)
    if not found or set(found) - set(known):
        raise ValueError(f"expected marked blocks among {sorted(known)}, got {found}; fix the page's markers.")
    for name in found:
        # A block inside a table row must stay on its line.
        inline = f"<!-- {name} -->\n" not in page
        text = known[name] if inline else f"\n{known[name]}\n"
        pattern = re.compile(rf"(<!-- {name} -->).*?(<!-- /{name} -->)", re.DOTALL)
        page = pattern.sub(lambda m, text=text: f"{m.group(1)}{text}{m.group(2)}", page)  # type: ignore[misc]
    return page


@dataclass(frozen=True)
class Config:
    """Which records to read."""

    records: Path = RECORDS


if __name__ == "__main__":
    print(tables_gap.main_table(load(tyro.cli(Config).records)))

"""All figures from a folder of records: ``python -m figures.make --records experiments/records --out docs/figures``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from figures import (
    accuracy,
    alpha,
    coefficients,
    designed_law,
    dropmix,
    engine,
    first_layer,
    gap,
    generalization,
    gradient_products,
    laws,
    masks,
    order_ladder,
    own,
    reliability,
    remainder,
    robust,
    tasks,
    terms,
    theory_training,
)
from figures.style import use_style


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes:
        draw: from the folder of records and the output folder; writes NAME.pdf and NAME.png and returns their paths.
        caption: from whole records by name (those of ``records``, and optional ones where they are there).
        records: names of the records it is drawn from; all must be there.
    """

    draw: Callable[[Path, Path], list[Path]]
    caption: Callable[[Mapping[str, Any]], str]
    records: tuple[str, ...]


FIGURES: dict[str, Drawing] = {
    "masks": Drawing(masks.draw, masks.caption, ("mask_gallery",)),
    "coefficients": Drawing(coefficients.draw, coefficients.caption, ("mask_coefficients",)),
    "gap": Drawing(gap.draw, gap.caption, ("expansion_gap",)),
    "terms": Drawing(terms.draw, terms.caption, terms.RECORDS),
    "remainder": Drawing(remainder.draw, remainder.caption, ("remainder_order",)),
    "laws": Drawing(laws.draw, laws.caption, ("law_zoo",)),
    "alpha": Drawing(alpha.draw, alpha.caption, ("alpha_sweep",)),
}
# From records that ``make reproduce`` does not make, but ``make bench`` and ``make studies``.
BENCHMARKS: dict[str, Drawing] = {
    "engine": Drawing(engine.draw, engine.caption, ("bench_taylor",)),
    "first_layer": Drawing(first_layer.draw, first_layer.caption, ("first_layer",)),
    "first_layer_filters": Drawing(first_layer.draw_filters, first_layer.caption_filters, ("first_layer",)),
    "tasks": Drawing(tasks.draw, tasks.caption, ("task_winners",)),
    "theory_training": Drawing(theory_training.draw, theory_training.caption, ("theory_training",)),
    "accuracy": Drawing(accuracy.draw, accuracy.caption, ("accuracy",)),
    "robust": Drawing(robust.draw, robust.caption, ("robust_accuracy",)),
    "generalization": Drawing(generalization.draw, generalization.caption, ("generalization",)),
    "reliability": Drawing(reliability.draw, reliability.caption, ("reliability",)),
    "gradient_products": Drawing(gradient_products.draw, gradient_products.caption, ("gradient_products",)),
    "gradient_products_r2": Drawing(gradient_products.draw_r2, gradient_products.caption_r2, ("gradient_products",)),
    "designed_law": Drawing(designed_law.draw, designed_law.caption, ("designed_law",)),
    "order_ladder": Drawing(order_ladder.draw, order_ladder.caption, ("order_ladder",)),
    "dropmix": Drawing(dropmix.draw, dropmix.caption, ("dropmix",)),
    "dropmix_hardness": Drawing(dropmix.draw_hardness, dropmix.caption_hardness, ("dropmix",)),
}

# Of a model of one's own, from the record that ``experiments.compare`` makes.
OWN: dict[str, Drawing] = {
    "own_terms": Drawing(terms.draw_own, terms.own_caption, terms.OWN_RECORDS),
    "own_ladder": Drawing(own.draw_ladder, own.ladder_caption, own.RECORDS),
    "own_coefficients": Drawing(own.draw_coefficients, own.coefficients_caption, own.RECORDS),
}


def captions(records: Mapping[str, Any]) -> dict[str, str]:
    """The caption of every figure whose records are there, by the figure's name."""
    drawings = (FIGURES | BENCHMARKS).items()
    return {name: d.caption(records) for name, d in drawings if all(r in records for r in d.records)}


@dataclass(frozen=True)
class Config:
    """Where records are read and figures written; whether to draw the benchmarks too."""

    records: Path = Path(__file__).resolve().parent.parent / "experiments" / "records"
    out: Path = Path(__file__).resolve().parent.parent / "docs" / "figures"
    benchmarks: bool = True


def make(config: Config) -> list[Path]:
    """Draw every figure; returns the files."""
    use_style()
    figures = FIGURES | BENCHMARKS if config.benchmarks else FIGURES
    return [path for d in tqdm(figures.values(), desc="figures") for path in d.draw(config.records, config.out)]


if __name__ == "__main__":
    make(tyro.cli(Config))

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
    """How a figure is drawn, what its caption says, and which records it is drawn from.

    Attributes:
        draw: from the folder of records and the output folder to the files, NAME.pdf and NAME.png.
        caption: from the records by name (whole records, with "config" and "result") to the text.
        records: names of the records it is drawn from; all must be there.
    """

    draw: Callable[[Path, Path], list[Path]]
    caption: Callable[[Mapping[str, Any]], str]
    records: tuple[str, ...]


FIGURES: dict[str, Callable[[Path, Path], list[Path]]] = {
    "masks": masks.draw,
    "coefficients": coefficients.draw,
    "gap": gap.draw,
    "terms": terms.draw,
    "remainder": remainder.draw,
    "laws": laws.draw,
    "alpha": alpha.draw,
}
# From records that ``make reproduce`` does not make, but ``make bench`` and ``make studies``.
BENCHMARKS: dict[str, Callable[[Path, Path], list[Path]]] = {
    "engine": engine.draw,
    "first_layer": first_layer.draw,
    "first_layer_filters": first_layer.draw_filters,
    "tasks": tasks.draw,
    "theory_training": theory_training.draw,
    "accuracy": accuracy.draw,
    "robust": robust.draw,
    "generalization": generalization.draw,
    "reliability": reliability.draw,
    "gradient_products": gradient_products.draw,
    "gradient_products_r2": gradient_products.draw_r2,
    "designed_law": designed_law.draw,
    "order_ladder": order_ladder.draw,
    "dropmix": dropmix.draw,
    "dropmix_hardness": dropmix.draw_hardness,
}

# Of a model of one's own, from the record that ``experiments.compare`` makes.
OWN: dict[str, Drawing] = {
    "own_terms": Drawing(terms.draw_own, terms.own_caption, terms.OWN_RECORDS),
    "own_ladder": Drawing(own.draw_ladder, own.ladder_caption, own.RECORDS),
    "own_coefficients": Drawing(own.draw_coefficients, own.coefficients_caption, own.RECORDS),
}


@dataclass(frozen=True)
class Config:
    """Where records are read and figures written; whether to draw the benchmarks too."""

    records: Path = Path(__file__).resolve().parent.parent / "experiments" / "records"
    out: Path = Path(__file__).resolve().parent.parent / "docs" / "figures"
    benchmarks: bool = True


def make(config: Config) -> list[Path]:
    """Draw every figure; returns the files."""
    use_style()
    figures = {**FIGURES, **BENCHMARKS} if config.benchmarks else FIGURES
    return [path for draw in tqdm(figures.values(), desc="figures") for path in draw(config.records, config.out)]


if __name__ == "__main__":
    make(tyro.cli(Config))

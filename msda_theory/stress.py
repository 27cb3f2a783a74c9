"""Accuracy on corrupted images: occlusion, patch shuffling, common corruptions; paired across models.

All models see the same corrupted images, so differences between them are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor, nn

from msda_theory.corruptions import Corruption, check_pixels, corrupt_with
from msda_theory.data import ImageData
from msda_theory.predictions import correct_bits, predict
from msda_theory.proportions import Bits, PairedDifference, Proportion, paired_difference
from msda_theory.streams import seed_from

CLEAN = "clean"


@dataclass(frozen=True, eq=False)
class StressRow:
    """Answers of one model to one corruption.

    Attributes:
        model: name of the model.
        corruption: kind of corruption, or ``"clean"``.
        level: its strength: severity, share, grid; 0 for clean images.
        correct: whether each image [m] was classified correctly.
    """

    model: str
    corruption: str
    level: float
    correct: Bits

    @property
    def accuracy(self) -> Proportion:
        """Share of correct answers; ``accuracy.interval()`` is Wilson's."""
        return Proportion.of(self.correct)


@dataclass(frozen=True, eq=False)
class StressReport:
    """Rows of `stress`: for each corruption, clean images first, one row for each model."""

    rows: tuple[StressRow, ...]

    def row(self, model: str, corruption: str = CLEAN, level: float = 0.0) -> StressRow:
        """The row of a model and a corruption.

        Raises:
            KeyError: if there is none.
        """
        for row in self.rows:
            if (row.model, row.corruption, row.level) == (model, corruption, level):
                return row
        raise KeyError(f"no row for model {model!r}, corruption {corruption!r}, level {level}; see frame().")

    def difference(self, first: str, second: str, corruption: str = CLEAN, level: float = 0.0) -> PairedDifference:
        """Accuracy of the model ``first`` minus that of ``second`` on the same corrupted images."""
        return paired_difference(
            self.row(first, corruption, level).correct, self.row(second, corruption, level).correct
        )

    def frame(self, level: float = 0.95) -> pd.DataFrame:
        """One line for each row: model, corruption, level, accuracy, low, high (Wilson at ``level``), n."""
        lines = []
        for r in self.rows:
            low, high = r.accuracy.interval(level)
            lines.append(
                {"model": r.model, "corruption": r.corruption, "level": r.level, "accuracy": r.accuracy.mean}
                | {"low": low, "high": high, "n": r.accuracy.n}
            )
        return pd.DataFrame(lines)

    def differences(self, first: str, second: str) -> pd.DataFrame:
        """One line for each corruption and level: numbers of `PairedDifference` (``mean`` is first minus second)."""
        places = [(r.corruption, r.level) for r in self.rows if r.model == first]
        if not places:
            raise KeyError(f"no rows for model {first!r}; the models are {sorted({r.model for r in self.rows})}.")
        lines = []
        for c, v in places:
            pair = self.difference(first, second, c, v)
            lines.append(
                {"corruption": c, "level": v, "mean": pair.mean, "se": pair.se, "n": pair.n}
                | {"only_first": pair.only_first, "only_second": pair.only_second, "p_value": pair.p_value}
            )
        return pd.DataFrame(lines)


def stress(
    models: Mapping[str, nn.Module],
    data: ImageData,
    corruptions: Sequence[Corruption],
    *,
    rng: np.random.Generator,
    mean: Tensor | None = None,
    batch_size: int = 512,
) -> StressReport:
    """Accuracy of every model on clean and on corrupted images; the same corrupted images for all models.

    Args:
        models: name -> module in eval mode that takes pixels in [0, 1] (normalisation inside).
        data: images in [0, 1] and labels.
        corruptions: e.g. ``[*common_corruptions(), Occlusion(0.25), PatchShuffle(2)]``.
        rng: one number is drawn, the seed of the corruptions. Levels of one kind share noise and places.
        mean: image [C, H, W] for occlusion by the mean, e.g. of the training images; by default that of ``data``.
        batch_size: images in one pass.

    Raises:
        TypeError, ValueError: as `checks.check_model`, `predictions.predict` and `corruptions.corrupt`; no models;
            the same corruption twice.
    """
    if not models:
        raise ValueError("expected at least one model to stress, got none; pass {'name': model}.")
    places = [(c.kind, c.level) for c in corruptions if isinstance(c, Corruption)]
    if len(set(places)) < len(places):
        raise ValueError(f"expected corruptions that differ in kind or level, got {places}; drop the repeated ones.")
    check_pixels(data.x)
    seed = seed_from(rng)
    rows = _rows(models, data, CLEAN, 0.0, batch_size)
    for c in corruptions:
        x = corrupt_with(data.x, c, seed, mean)
        rows += _rows(models, ImageData(x, data.y, data.num_classes), c.kind, c.level, batch_size)
    return StressReport(tuple(rows))


def _rows(
    models: Mapping[str, nn.Module], data: ImageData, kind: str, level: float, batch_size: int
) -> list[StressRow]:
    answers = {name: predict(model, data, batch_size=batch_size) for name, model in models.items()}
    return [StressRow(name, kind, level, correct_bits(f, data.y)) for name, f in answers.items()]

"""Calibration of class probabilities: expected calibration error, reliability diagram, log-likelihood, Brier score.

The confidence of image i is ``c_i = max_k p_ik``, its answer is right or wrong, ``a_i`` in {0, 1}. A model is
calibrated (in its top answer) if among answers of confidence c a share c is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from msda_theory.data import ImageData
from msda_theory.estimate import Estimate
from msda_theory.predictions import correct_bits, predict
from msda_theory.proportions import Proportion, normal_quantile

Binning = Literal["width", "mass"]
Norm = Literal["l1", "l2", "max"]
_CHUNK = 2**22  # numbers in a block of resamples


@dataclass(frozen=True, eq=False)
class ReliabilityDiagram:
    """Confidence against accuracy in bins of the confidence.

    Bin b holds the images with ``edges[b] < c_i <= edges[b+1]``.

    Attributes:
        edges: ascending, [B+1], from 0 to 1.
        count: images in each bin [B].
        confidence: their mean confidence [B]; NaN in an empty bin.
        accuracy: their share of correct answers [B]; NaN in an empty bin.
        low, high: Wilson interval of the accuracy [B]; NaN in an empty bin.
    """

    edges: Float64[np.ndarray, " B1"]
    count: Int64[np.ndarray, " B"]
    confidence: Float64[np.ndarray, " B"]
    accuracy: Float64[np.ndarray, " B"]
    low: Float64[np.ndarray, " B"]
    high: Float64[np.ndarray, " B"]

    def frame(self) -> pd.DataFrame:
        """One line for each bin: lower, upper, count, confidence, accuracy, low, high."""
        columns = {"lower": self.edges[:-1], "upper": self.edges[1:], "count": self.count}
        rest = {k: getattr(self, k) for k in ("confidence", "accuracy", "low", "high")}
        return pd.DataFrame(columns | rest)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibration of one model on m images.

    Attributes:
        ece: expected calibration error of the sample, `calibration_error`. It is biased upwards: a perfectly
            calibrated model has a positive one, about as large as ``noise``.
        noise: mean over bootstrap samples of the distance ``|g* - g|`` between the resampled and the observed signed
            gaps ``g_b`` (accuracy minus mean confidence), in the norm of `calibration_error`.
        interval: ``ece -+ q``, cut at 0, q the ``level`` quantile of the same distances. An error is a norm of gaps, so
            that by the triangle inequality it is never further from the truth than the gaps are: the interval is
            conservative, also for a calibrated model, where quantiles of resampled errors miss 0 nearly always.
        level: confidence level of ``interval`` and of the diagram.
        norm, binning: as asked for.
        diagram: `ReliabilityDiagram` of the same bins.
        nll: mean of ``-log p_i(y_i)``, natural logarithm, with its error over images.
        brier: mean of ``sum_k (p_ik - [y_i = k])^2``, in [0, 2], with its error over images.
        accuracy: share of correct answers.
    """

    ece: float
    noise: float
    interval: tuple[float, float]
    level: float
    norm: str
    binning: str
    diagram: ReliabilityDiagram
    nll: Estimate
    brier: Estimate
    accuracy: Proportion


def calibration(
    model: nn.Module,
    data: ImageData,
    *,
    bins: int = 15,
    binning: Binning = "width",
    norm: Norm = "l1",
    resamples: int = 1000,
    level: float = 0.95,
    rng: np.random.Generator,
    batch_size: int = 512,
) -> Calibration:
    """Calibration of the softmax probabilities of a model; see `calibration_of`.

    Raises:
        TypeError, ValueError: as `checks.check_model` and `calibration_of`.
    """
    outputs = predict(model, data, batch_size=batch_size)
    options = {"bins": bins, "resamples": resamples}
    return calibration_of(outputs, data.y, binning=binning, norm=norm, level=level, rng=rng, **options)


def calibration_of(
    logits: Tensor,
    y: Tensor,
    *,
    bins: int = 15,
    binning: Binning = "width",
    norm: Norm = "l1",
    resamples: int = 1000,
    level: float = 0.95,
    rng: np.random.Generator,
) -> Calibration:
    """Calibration of ``p = softmax(logits)``.

    The bootstrap draws images with replacement and keeps the edges of the bins. Bins of one or two images hide their
    noise from it: with ``norm="max"`` use ``binning="mass"``.

    Args:
        logits: [m, c], c >= 2; of probabilities pass the logarithms.
        y: labels [m], int64.
        bins: number of bins B.
        binning: ``"width"``: edges at multiples of 1/B; ``"mass"``: at the quantiles of the confidences, so that bins
            hold about m/B images (equal confidences stay together, so a bin can be empty).
        norm: see `calibration_error`.
        resamples: number of bootstrap samples.
        level: confidence level.
        rng: source of the bootstrap samples.

    Raises:
        TypeError: ``rng`` is no numpy.random.Generator.
        ValueError: wrong shapes, labels out of range, NaN or infinity, fewer than 2 images, options out of range.
    """
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"the bootstrap needs a numpy.random.Generator, got {type(rng).__name__}; pass numpy.random.default_rng(0)."
        )
    if resamples < 20:
        raise ValueError(f"quantiles of a bootstrap need resamples >= 20, got {resamples}; e.g. 1000.")
    normal_quantile(level)
    f, labels = _checked(logits, y)
    p = f.softmax(dim=1)
    confidence, correct = p.max(dim=1).values.numpy(), correct_bits(f, labels)
    edges = _edges(confidence, bins, binning)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    ece, distances = _resampled(correct - confidence, place, bins, norm, resamples, rng)
    q = float(np.quantile(distances, level))
    target = torch.nn.functional.one_hot(labels, f.shape[1])
    nll = _mean(-f.log_softmax(dim=1).gather(1, labels[:, None])[:, 0])
    return Calibration(
        ece,
        float(distances.mean()),
        (max(0.0, ece - q), ece + q),
        level,
        norm,
        binning,
        _diagram(edges, place, confidence, correct, level),
        nll,
        _mean((p - target).square().sum(dim=1)),
        Proportion.of(correct),
    )


def calibration_error(
    confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15, binning: Binning = "width", norm: Norm = "l1"
) -> float:
    """Expected calibration error of m answers.

    With n_b images in bin b and ``g_b = |mean confidence - accuracy|`` there: ``sum_b n_b/m g_b`` (``"l1"``, the usual
    ECE), ``sqrt(sum_b n_b/m g_b^2)`` (``"l2"``), ``max_b g_b`` over bins with images (``"max"``). Source: Guo et al.,
    "On Calibration of Modern Neural Networks", ICML 2017, Section 2.

    Args:
        confidence: [m], in [0, 1].
        correct: [m], bool.
        bins: as in `calibration_of`.
        binning: as in `calibration_of`.
        norm: ``"l1"``, ``"l2"`` or ``"max"``.

    Raises:
        ValueError: wrong shapes, confidences outside [0, 1], unknown options.
    """
    c, a = np.asarray(confidence, dtype=np.float64), np.asarray(correct)
    if c.ndim != 1 or c.shape != a.shape or not len(c) or a.dtype != np.bool_:
        raise ValueError(
            f"expected confidences [m] and bits [m] of dtype bool, got {c.shape} and {a.shape} of {a.dtype}; flatten "
            "them."
        )
    if not (c.min() >= 0 and c.max() <= 1):
        raise ValueError(f"expected confidences in [0, 1], got {c.min():.3g} .. {c.max():.3g}; pass probabilities.")
    edges = _edges(c, bins, binning)
    place = np.clip(np.searchsorted(edges, c, side="left") - 1, 0, bins - 1)
    sums = np.bincount(place, a - c, minlength=bins)
    masses = np.bincount(place, minlength=bins).astype(np.float64)
    return float(_error(sums[None], masses[None], len(c), norm)[0])


def _resampled(
    gaps: np.ndarray, place: np.ndarray, bins: int, norm: str, resamples: int, rng: np.random.Generator
) -> tuple[float, Float64[np.ndarray, " R"]]:
    """The error of a sample of ``a_i - c_i`` [m], and the distances of resampled from observed gaps [R]."""
    m = len(place)
    sums, masses = _onehot(place, bins, gaps), _onehot(place, bins, np.ones(m))
    observed, count = sums.sum(axis=0), masses.sum(axis=0)
    found = []
    block = max(1, _CHUNK // m)
    for start in range(0, resamples, block):
        weight = rng.multinomial(m, np.full(m, 1 / m), size=min(block, resamples - start)).astype(np.float64)
        number = weight @ masses
        # l1 pools sums, the other norms means: a mean of the sample counts with the images of the resample
        kept = observed if norm == "l1" else np.divide(observed, count, out=np.zeros(bins), where=count > 0) * number
        found.append(_error(weight @ sums - kept, number, m, norm))
    return float(_error(observed[None], count[None], m, norm)[0]), np.concatenate(found)


def _error(sums: np.ndarray, masses: np.ndarray, m: int, norm: str) -> Float64[np.ndarray, " R"]:
    """Errors from sums over bins of ``a_i - c_i`` and numbers of images, both [R, B]."""
    if norm == "l1":
        return np.abs(sums).sum(axis=1) / m
    gaps = np.divide(np.abs(sums), masses, out=np.zeros_like(sums), where=masses > 0)
    if norm == "l2":
        return np.sqrt((gaps**2 * masses).sum(axis=1) / m)
    if norm == "max":
        return gaps.max(axis=1)
    raise ValueError(f"expected norm among {list(get_args(Norm))}, got {norm!r}; choose how gaps of bins are pooled.")


def _edges(confidence: np.ndarray, bins: int, binning: str) -> Float64[np.ndarray, " B1"]:
    if bins < 1:
        raise ValueError(f"expected at least 1 bin, got bins={bins}; e.g. 15.")
    if binning == "width":
        return np.linspace(0.0, 1.0, bins + 1)
    if binning == "mass":
        ordered = np.sort(confidence)
        last = np.arange(1, bins) * len(ordered) // bins - 1  # the bin ends at its last image
        inner = np.where(last >= 0, ordered[np.maximum(last, 0)], 0.0)
        return np.concatenate([[0.0], inner, [1.0]])
    raise ValueError(f"expected binning among {list(get_args(Binning))}, got {binning!r}; choose equal width or mass.")


def _onehot(place: np.ndarray, bins: int, values: np.ndarray) -> Float64[np.ndarray, "m B"]:
    table = np.zeros((len(place), bins))
    table[np.arange(len(place)), place] = values
    return table


def _diagram(
    edges: np.ndarray, place: np.ndarray, confidence: np.ndarray, correct: np.ndarray, level: float
) -> ReliabilityDiagram:
    bins = len(edges) - 1
    count = np.bincount(place, minlength=bins)
    filled = count > 0
    nan = np.full(bins, math.nan)
    means = [
        np.divide(np.bincount(place, v, minlength=bins), count, out=nan.copy(), where=filled)
        for v in (confidence, correct)
    ]
    ends = np.full((bins, 2), math.nan)
    for b in np.flatnonzero(filled):
        ends[b] = Proportion.of(correct[place == b]).interval(level)
    return ReliabilityDiagram(edges, count, means[0], means[1], ends[:, 0].copy(), ends[:, 1].copy())


def _mean(values: Tensor) -> Estimate:
    return Estimate(float(values.mean()), float(values.std()) / math.sqrt(len(values)), len(values))


def _checked(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits in float64 and labels, both on the CPU."""
    f, labels = logits.detach().double().cpu(), y.cpu()
    if f.ndim != 2 or f.shape[1] < 2 or labels.shape != f.shape[:1] or len(f) < 2:
        raise ValueError(
            f"expected logits [m, c] and labels [m] with m >= 2 images and c >= 2 classes, got {tuple(f.shape)} and "
            f"{tuple(labels.shape)}; of one logistic output f stack (0, f)."
        )
    if not bool(torch.isfinite(f).all()):
        raise ValueError("expected finite logits, got NaN or infinity; clip probabilities before the logarithm.")
    if labels.dtype != torch.int64 or int(labels.min()) < 0 or int(labels.max()) >= f.shape[1]:
        raise ValueError(f"expected int64 labels in 0 .. {f.shape[1] - 1}, got {labels.dtype}; pass class indices.")
    return f, labels

"""Generalization: the train/test gap, effective dimensions of strategies, and whether one orders the other.

Claim C4 says that MSDA generalizes better. The theory bounds the gap of a class by its Rademacher complexity, and the
complexity of {theta : theta^T S theta <= gamma} by ``sqrt(gamma tr(S^+ Sigmahat) / m)``; docs/theory.md, Section 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from msda_theory.data import ImageData
from msda_theory.ellipsoids import EffectiveDimension, check_gamma, effective_dimension, ellipsoid, second_moment
from msda_theory.estimate import Estimate
from msda_theory.losses import Loss, SoftmaxCrossEntropy, as_loss
from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.predictions import correct_bits, predict
from msda_theory.proportions import Proportion, difference_interval, normal_quantile

_MOST = 9  # strategies whose permutations are enumerated


@dataclass(frozen=True)
class GeneralizationGap:
    """Loss and accuracy of one model on its training and its test images, and their gaps.

    Errors here are those of samples of images, unlike elsewhere in the package: the test images stand for new ones.
    Both samples count as independent draws; the model depends on the training images, so the error of the training
    side says how far a mean over them is from one over more such images *at fixed weights*, no more. Nothing is said
    about other training runs.

    Attributes:
        train_loss, test_loss: mean losses, ``se = sqrt(var/m)``, var with 1/(m-1); ``n`` counts images.
        train_accuracy, test_accuracy: shares of correct answers.
    """

    train_loss: Estimate
    test_loss: Estimate
    train_accuracy: Proportion
    test_accuracy: Proportion

    @property
    def loss(self) -> Estimate:
        """Test loss minus training loss, ``se^2`` the sum of both squared errors; positive where it overfits."""
        se = math.hypot(self.test_loss.se, self.train_loss.se)
        return Estimate(self.test_loss.mean - self.train_loss.mean, se, self.test_loss.n + self.train_loss.n)

    @property
    def accuracy(self) -> float:
        """Training accuracy minus test accuracy; positive where it overfits."""
        return self.train_accuracy.mean - self.test_accuracy.mean

    def loss_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Normal interval of `loss`."""
        return self.loss.interval(normal_quantile(level))

    def accuracy_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Newcombe's interval of `accuracy`, which has a width even where all training images are right."""
        return difference_interval(self.train_accuracy, self.test_accuracy, level)


def generalization_gap(
    model: nn.Module,
    train: ImageData,
    test: ImageData,
    *,
    loss: Loss | Callable[[Tensor, Tensor], Tensor] | None = None,
    batch_size: int = 512,
) -> GeneralizationGap:
    """Losses and accuracies on unmixed training and test images, with errors.

    Args:
        model: module in eval mode.
        train: the images that the model was trained on, unmixed; at least 2.
        test: other images; at least 2.
        loss: any loss of the form ``h(f) - y.f``; softmax cross-entropy by default.
        batch_size: images in one pass.

    Raises:
        TypeError, ValueError: as `checks.check_model`, and if a set has fewer than 2 images or the sets differ in
            their number of classes.
    """
    if train.num_classes != test.num_classes:
        raise ValueError(
            f"expected training and test images of the same classes, got {train.num_classes} and {test.num_classes} "
            "of them; build both with one num_classes."
        )
    chosen = as_loss(loss if loss is not None else SoftmaxCrossEntropy(), train.num_classes)
    train_loss, train_accuracy = _measured(model, train, chosen, batch_size)
    test_loss, test_accuracy = _measured(model, test, chosen, batch_size)
    return GeneralizationGap(train_loss, test_loss, train_accuracy, test_accuracy)


@dataclass(frozen=True)
class DimensionTable:
    """Effective dimensions of strategies on the same images.

    Attributes:
        rows: (strategy, its `EffectiveDimension`), one for each strategy and law.
    """

    rows: tuple[tuple[str, EffectiveDimension], ...]

    def frame(self, gamma: float = 1.0) -> pd.DataFrame:
        """One line for each strategy and law.

        Columns: strategy, law, dimension, bound and truncated_bound for ``gamma``, then trace, rank, null, outside,
        violations, cutoff, inputs, m as in `EffectiveDimension`. ``dimension`` and ``bound`` are infinite where
        images violate the range condition.
        """
        check_gamma(gamma)
        first = ["strategy", "law", "dimension", "bound", "truncated_bound"]
        lines = [
            {"strategy": name, "dimension": d.dimension, "bound": d.bound(gamma)}
            | {"truncated_bound": d.truncated_bound(gamma)}
            | asdict(d)
            for name, d in self.rows
        ]
        frame = pd.DataFrame(lines)
        return frame[first + [c for c in frame.columns if c not in first]]

    def bounds(self, law: str = "exact", gamma: float = 1.0) -> dict[str, float]:
        """Bound (5) by strategy under one law; infinite where the range condition fails."""
        return {name: d.bound(gamma) for name, d in self.rows if d.law == law}


def effective_dimensions(
    strategies: Sequence[Strategy],
    data: ImageData,
    *,
    laws: Sequence[str] = ("exact", "paper"),
    points: ImageData | None = None,
    cutoff: float = 1e-10,
    rng: np.random.Generator | None = None,
) -> DimensionTable:
    """``tr(S^+ Sigmahat)`` for every strategy and law, ``S = A o E[x x^T]`` over ``data``; Eqs. (5) and (5a).

    Args:
        strategies: e.g. ``[Mixup(), CutMix()]``. Vanilla has A = 0, S = 0 and an infinite dimension: its class is
            everything.
        data: images of S, [m, C, H, W] with C H W up to 4,096; masks are shared by channels.
        laws: ``"exact"``, ``"paper"`` or both.
        points: images of Sigmahat; by default ``data``.
        cutoff: relative eigenvalue threshold, the same for each S; see `ellipsoids.ellipsoid`.
        rng: needed by strategies without closed moments.

    Raises:
        TypeError, ValueError: as `ellipsoids.ellipsoid` and `Strategy.moments`, and for no strategy or law.
    """
    if not strategies or not laws:
        raise ValueError("expected at least one strategy and one law, got none; e.g. [CutMix()].")
    for s in strategies:
        check_strategy(s)
    second = second_moment(data)
    rows = []
    for s in strategies:
        for law in laws:
            metric = ellipsoid(s.moments(data.shape, law=law, rng=rng), data, cutoff=cutoff, second=second)
            rows.append((s.name, effective_dimension(metric, data if points is None else points)))
    return DimensionTable(tuple(rows))


@dataclass(frozen=True)
class OrderAgreement:
    """Two orders of the same strategies.

    Attributes:
        by_bound: names from the smallest bound to the largest.
        by_gap: names from the smallest gap to the largest.
        tau: Kendall's tau-b, ``(concordant - discordant) / sqrt((pairs - ties of bound)(pairs - ties of gap))``.
        p_value: share of all n! assignments of gaps to strategies whose tau is at least as large: exact, one-sided
            (the claim has a direction), ties included. It cannot be below ``1/n!``.
        n: number of strategies.
    """

    by_bound: tuple[str, ...]
    by_gap: tuple[str, ...]
    tau: float
    p_value: float
    n: int


def order_agreement(bounds: Mapping[str, float], gaps: Mapping[str, float | Estimate]) -> OrderAgreement:
    """Does a bound order strategies as their measured gaps do?

    Only the order is compared: of Estimates the mean counts, and a bound may be infinite (Vanilla). The p-value takes
    the gaps as given; strategies are exchangeable under the null hypothesis.

    Args:
        bounds: name -> bound, e.g. `DimensionTable.bounds`; at equal gamma, or each at its own.
        gaps: name -> gap, of the same names; at least 3 and at most 9.

    Raises:
        ValueError: other names or numbers of strategies, NaN, or bounds or gaps that are all equal.
    """
    names = list(bounds)
    if set(names) != set(gaps):
        raise ValueError(
            f"expected bounds and gaps of the same strategies, got {sorted(bounds)} and {sorted(gaps)}; drop others."
        )
    if not 3 <= len(names) <= _MOST:
        raise ValueError(
            f"expected 3 to {_MOST} strategies, whose orders are enumerated, got {len(names)}; choose some."
        )
    a = np.array([float(bounds[k]) for k in names])
    g = [gaps[k] for k in names]
    b = np.array([v.mean if isinstance(v, Estimate) else float(v) for v in g])
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("expected numbers as bounds and gaps, got NaN; leave the strategy out.")
    first, second = _signs(a), _signs(b)
    scale = math.sqrt(float(np.abs(first).sum()) * float(np.abs(second).sum()))
    if scale == 0:
        raise ValueError("expected bounds and gaps that differ among strategies, got equal ones; there is no order.")
    observed = int((first * second).sum())
    i, j = np.triu_indices(len(names), 1)
    table = np.zeros((len(names), len(names)), dtype=np.int64)
    table[i, j], table[j, i] = second, -second
    order = np.array(list(permutations(range(len(names)))))
    scores = table[order[:, i], order[:, j]] @ first
    by_bound, by_gap = ([names[k] for k in np.argsort(v, kind="stable")] for v in (a, b))
    p = float((scores >= observed).mean())
    return OrderAgreement(tuple(by_bound), tuple(by_gap), observed / scale, p, len(names))


def _signs(values: np.ndarray) -> np.ndarray:
    """Sign of ``values[j] - values[i]`` for every pair i < j; infinities compare equal."""
    i, j = np.triu_indices(len(values), 1)
    return (values[j] > values[i]).astype(np.int64) - (values[j] < values[i])


def _measured(model: nn.Module, data: ImageData, loss: Loss, batch_size: int) -> tuple[Estimate, Proportion]:
    """Mean loss and accuracy over a set of images."""
    m = len(data)
    if m < 2:
        raise ValueError(f"a gap with an error needs at least 2 images in each set, got {m}; add images.")
    f = predict(model, data, loss=loss, batch_size=batch_size)
    values = loss.value(f, loss.targets(data.y.cpu(), data.num_classes, torch.float64))
    estimate = Estimate(float(values.mean()), float(values.std()) / math.sqrt(m), m)
    return estimate, Proportion.of(correct_bits(f, data.y))

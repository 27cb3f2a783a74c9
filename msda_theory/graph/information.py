"""What a mixed negative keeps of the hard negative that it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from msda_theory.estimate import Estimate
from msda_theory.graph.hardness import hardness
from msda_theory.graph.negatives import draw_partners, draw_weights, mix_negatives
from msda_theory.masks.base import Strategy


@runtime_checkable
class Probe(Protocol):
    """A fitted classifier of vectors, such as scikit-learn's."""

    def predict(self, x: Float[np.ndarray, "K h"]) -> np.ndarray:
        """The class of each vector [K]."""


@dataclass(frozen=True)
class Information:
    """What mixing leaves, as means over the negatives with their standard errors.

    Attributes:
        similarity: cosine of a mixed negative and the original one.
        hardness: largest cosine of a mixed negative with a positive.
        original: the same before mixing.
        kept: ``hardness / original``, ratio of the means: share of the hardness that is kept; above 1 the mixed ones
            are harder.
        harder: share of the negatives that are harder than before.
        probe: share of the mixed negatives in which the probe finds the class; None without a probe.
    """

    similarity: Estimate
    hardness: Estimate
    original: Estimate
    kept: float
    harder: Estimate
    probe: Estimate | None


def information_kept(
    vectors: Tensor,
    positives: Tensor,
    strategy: Strategy,
    *,
    probe: Probe | None = None,
    classes: Tensor | None = None,
    rng: np.random.Generator,
) -> Information:
    """Mix every negative once and compare it with what it was.

    Standard errors are over the negatives as they are; partners are drawn once.

    Args:
        vectors: kept negatives [K, h].
        positives: of the same view [n, h], which hardness is measured against.
        strategy: law of the weights on dimensions.
        probe: classifier fitted on *unmixed* vectors, others than these for an honest share.
        classes: what the probe should find [K].
        rng: a numpy.random.Generator.

    Raises:
        ValueError: fewer than two negatives, classes of another number, or one of ``probe`` and ``classes`` without the
            other.
    """
    if (probe is None) != (classes is None):
        raise ValueError("expected a probe together with the classes that it should find, got only one; pass both.")
    if classes is not None and classes.shape != vectors.shape[:1]:
        raise ValueError(
            f"expected a class for each of the {len(vectors)} vectors, got {list(classes.shape)}; pass theirs alone."
        )
    vectors, positives = vectors.detach(), positives.detach()
    partners = draw_partners(len(vectors), rng=rng)
    mixed = mix_negatives(vectors, partners, draw_weights(*vectors.shape, strategy, rng=rng))  # type: ignore[misc, arg-type]
    before, after = hardness(vectors, positives), hardness(mixed, positives)
    found = None
    if probe is not None and classes is not None:
        found = _estimate(torch.from_numpy(np.asarray(probe.predict(mixed.numpy()) == classes.numpy())))
    return Information(
        similarity=_estimate(cosine_similarity(mixed, vectors, dim=1)),
        hardness=_estimate(after),
        original=_estimate(before),
        kept=float(after.double().mean() / before.double().mean()),
        harder=_estimate(after > before),
        probe=found,
    )


def _estimate(values: Tensor) -> Estimate:
    v = values.double()
    return Estimate(float(v.mean()), float(v.std() / len(v) ** 0.5), len(v))

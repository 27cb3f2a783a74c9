"""Measures of a network's first layer in the metrics of mask laws, and their summary over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from msda_theory.cut import first_layer
from msda_theory.data import ImageData
from msda_theory.dense import pair_weights
from msda_theory.filters import FilterMeasures, filter_metric, frequency_energy
from msda_theory.first_layer import FirstLayerForm, first_layer_form
from msda_theory.losses import SoftmaxCrossEntropy
from msda_theory.moments.moments import Moments

# Bands of spatial frequency in radians a pixel; the last one reaches the corner pi * sqrt(2).
BANDS = {"low": (0.0, np.pi / 3), "middle": (np.pi / 3, 2 * np.pi / 3), "high": (2 * np.pi / 3, 4.5)}
EDGES = np.array([0.0, np.pi / 3, 2 * np.pi / 3, 4.5])
COMPARED, SHOWN = 64, 6  # images of the comparison with the expansion; filters shown as pictures
Array = np.ndarray


class Measures:
    """Measures on fixed images, under fixed laws; metrics are made once for each kind of network."""

    def __init__(self, model: nn.Module, images: ImageData, test: ImageData, laws: dict[str, Moments]) -> None:
        self.images, self.test, self.laws = images, test, laws
        cut = first_layer(model, images.x[:4])
        self.metrics = {name: filter_metric(cut, images, moments) for name, moments in laws.items()}

    def forms(self, model: nn.Module) -> dict[str, FirstLayerForm]:
        """R2 as a form of the first layer's weights, under each law; the upper part is differentiated once."""
        return forms(model, self.images, self.laws)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Every measure by its name.

        ``r2_NAME``: R2. ``change_NAME``: ``E |J delta|^2`` over the variance of the logits (both without the mean over
        classes), free of the scale of any layer and of the curvature. ``norm_NAME``: root of the mean of
        ``w^T T w`` over filters. ``relative_NAME``: that norm over the one of white filters with equal Frobenius norm.
        ``offset``: mean over images of the pre-activations over their standard deviation, both root mean squares over
        units: far from 0, an activation works in one of its two nearly linear halves.
        """
        found: dict[str, float] = {}
        with torch.no_grad():
            f = model(self.images.x)
            right = model(self.test.x).argmax(dim=1) == self.test.y
            found["loss"] = float(torch.nn.functional.cross_entropy(f, self.images.y))
        found["accuracy"] = float(right.double().mean())
        classes = f.shape[1]
        centring = torch.eye(classes, dtype=torch.float64) - 1 / classes
        spread = float(((f - f.mean(dim=0)) @ centring).square().sum(dim=1).mean())
        cut = first_layer(model, self.images.x[:4])
        weight = cut.weight
        with torch.no_grad():
            z = cut.layer(cut.inputs(self.images.x))
        found["offset"] = float(z.mean(dim=0).square().mean().sqrt() / z.var(dim=0, correction=0).mean().sqrt())
        for name, form in self.forms(model).items():
            found[f"r2_{name}"] = float(form.value())
            flat = replace(form, curvature=centring.expand_as(form.curvature))
            found[f"change_{name}"] = 2 * float(flat.value()) / spread
            metric = self.metrics[name]
            size = FilterMeasures.of(weight, metric)
            norm = float(np.sqrt((size.metric**2).mean()))
            white = size.frobenius * np.sqrt(np.trace(metric[0]) / metric.shape[1] / len(size.metric))
            found |= {f"norm_{name}": norm, f"relative_{name}": norm / white}
        found |= {"frobenius": size.frobenius, "spectral": size.spectral, "stable_rank": size.stable_rank}
        found |= dict(zip(BANDS, map(float, self._bands(weight)), strict=True))
        return found

    def _bands(self, weight: torch.Tensor) -> Array:
        pictures = weight if weight.ndim == 4 else weight.reshape(len(weight), *self.images.x.shape[1:])
        return frequency_energy(pictures, self.images.shape, EDGES)


def forms(model: nn.Module, images: ImageData, laws: dict[str, Moments]) -> dict[str, FirstLayerForm]:
    """`first_layer_form` under several laws; they differ in A alone."""
    first = first_layer_form(model, images, next(iter(laws.values())))
    sigma = images.covariance()
    out = {}
    for name, moments in laws.items():
        a = torch.from_numpy(moments.second.dense()).repeat(images.x.shape[1], images.x.shape[1])
        out[name] = replace(first, mixed=a * sigma, second=a)
    return out


def distance_to_expansion(model: nn.Module, images: ImageData, laws: dict[str, Moments]) -> float:
    """Largest relative difference of the form's value to R2 of the dense expansion, on a few images."""
    images = images[:COMPARED]
    weights = pair_weights(model, images, SoftmaxCrossEntropy())
    worst = 0.0
    for name, form in forms(model, images, laws).items():
        r2 = weights.terms(laws[name])[1]
        worst = max(worst, abs(float(form.value()) - r2) / abs(r2))
    return worst


def contributions(form: FirstLayerForm, shape: tuple[int, int]) -> dict[str, Any]:
    """Shares of R2 by filter, largest first, and pictures of the first few filters of a linear layer."""
    parts = form.per_filter()
    total = float(form.value())
    ranking = np.argsort(-parts)
    weight = form.cut.weight.cpu().numpy()
    pictures = weight.reshape(len(weight), *(shape if weight.ndim == 2 else weight.shape[2:]))
    return {
        "share": (parts[ranking] / total).round(5),
        "rest": abs(parts.sum() / total - 1),
        "filters": pictures[ranking[:SHOWN]].round(4),
    }


def interval(values: Sequence[float] | Array) -> dict[str, float]:
    """Mean and half-width of its 95 % interval (Student's t) over seeds; NaN for a single one."""
    v = np.asarray(values, dtype=float)
    half = stats.t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else np.nan
    return {"mean": _short(v.mean()), "half": _short(half)}


def _short(value: float) -> float:
    return float(f"{value:.5g}")

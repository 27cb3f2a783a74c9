"""Gradient products and R2 by distance of one trained network, and their summary over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments import digit_nets
from experiments.accuracy_stats import base, interval, place, side
from experiments.data import digits, load_data
from experiments.images import PictureFiles
from experiments.run_config import RunConfig
from experiments.train import load_network
from msda_theory.data import ImageData
from msda_theory.dense import pair_weights
from msda_theory.distance import gradient_term_by_displacement, gradient_weights
from msda_theory.gradient_products import GradientProducts, gradient_products
from msda_theory.losses import SoftmaxCrossEntropy
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.moments.displacements import ByDistance, pair_counts
from msda_theory.moments.moments import LAWS

_DENSE, _COMPARED = 256, 32  # inputs, and images, of the comparison with the dense expansion: gigabytes beyond
Array = np.ndarray


@dataclass(frozen=True)
class Network:
    """A trained network: of the digit study, or of a run of ``experiments.train``.

    Attributes:
        record: of its training.
        folder: of its weights.
        cell: what it is compared within, data and architecture.
        training: its strategy.
        run: whether it is a run of ``experiments.train``.
    """

    record: dict[str, Any]
    folder: Path
    cell: str
    training: str
    run: bool

    @classmethod
    def of_digits(cls, record: dict[str, Any], folder: Path) -> Network:
        """A network of `digit_nets`."""
        config = record["config"]
        return cls(record, folder, f"digits, {config['activation']}", config["strategy"], run=False)

    @classmethod
    def of_run(cls, record: dict[str, Any], folder: Path) -> Network:
        """A run of ``experiments.train``."""
        config = record["config"]
        size = "" if config["images"] is None else f" ({config['images']:,} images)"
        network = "-".join(str(part) for part in (config["model"], config["activation"], config["width"]) if part)
        name = f"{config['data'].partition(':')[0]}{size}, {network}"
        return cls(record, folder, name, base(config["strategy"]), run=True)

    @property
    def name(self) -> str:
        """Name of its files."""
        config = self.record["config"]
        return RunConfig(**config).name if self.run else digit_nets.RunConfig(**config).name

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.record["config"]["seed"])

    @property
    def weights_sha256(self) -> str:
        """Digest of its weights."""
        return str(self.record["result"]["weights_sha256"])

    def load(self, images: int) -> tuple[nn.Module, ImageData]:
        """The network in float64 and the first training images in its units, without augmentation."""
        if not self.run:
            return digit_nets.load_model(self.record, self.folder), digits().train[:images]
        config = RunConfig(**self.record["config"])
        data = load_data(config.data, size=config.size, images=config.images, test_images=config.test_images)
        if isinstance(data.train, PictureFiles):
            raise ValueError(f"gradient products need images in memory, got pictures in folders ({config.data}).")
        x = torch.as_tensor(data.train.x[:images]).double() / data.train.white
        return load_network(self.record, self.folder), ImageData(x, data.train.y[:images], data.classes)


def measure(network: Network, images: int, laws: Sequence[str], fractions: Sequence[float]) -> dict[str, Any]:
    """All measures of one network as plain numbers; normalised by the total, and by pairs."""
    model, data = network.load(images)
    products = gradient_products(model, data, batch_size=8)
    shares, pairs = products.normalised("total"), products.normalised("pairs")
    side = min(data.shape)
    weights = gradient_weights(model, data, batch_size=8)
    r2: dict[str, dict[str, Any]] = {}
    for name in laws:
        r2[name] = {}
        for law in LAWS:
            sums = gradient_term_by_displacement(weights, make_strategy(name).moments(data.shape, law=law))
            r2[name][law] = {"r2": sums.sum(), "value": _pixels(ByDistance.of(sums, mean=False), mean=False)}
    return {
        "cell": network.cell,
        "training": network.training,
        "seed": network.seed,
        "weights_sha256": network.weights_sha256,
        "shape": data.shape,
        "images": len(data),
        "square": products.by_distance().value[0],
        "map": shares.value,
        "share": _pixels(shares.curve, mean=False),
        "per_pair": _pixels(pairs.curve, mean=True),
        "pairs": _pixels(ByDistance(shares.curve.distance, shares.curve.pairs, shares.curve.pairs), mean=False),
        "short": [_short(products, f * side) for f in fractions],
        "r2": r2,
        "rest": _rest(model, data, laws),
    }


def _rest(model: nn.Module, data: ImageData, laws: Sequence[str]) -> float | None:
    """Largest relative distance of the sum of R2(p) to R2 of the dense expansion; None where that does not fit."""
    if data.x[0].numel() > _DENSE:
        return None
    few = data[:_COMPARED]
    weights, dense = gradient_weights(model, few), pair_weights(model, few, SoftmaxCrossEntropy())
    worst = 0.0
    for name in laws:
        moments = make_strategy(name).moments(few.shape)
        r2 = dense.terms(moments)[1]
        worst = max(worst, abs(float(gradient_term_by_displacement(weights, moments).sum()) / r2 - 1))
    return worst


def _pixels(curve: ByDistance, *, mean: bool) -> Array:
    """Sums, or means over pairs, over the distances that round to 0, 1, ... pixels."""
    index = np.rint(curve.distance).astype(int)
    if not mean:
        return np.bincount(index, weights=curve.value)
    return np.bincount(index, weights=curve.value * curve.pairs) / np.bincount(index, weights=curve.pairs)


def _short(products: GradientProducts, radius: float) -> dict[str, float]:
    """Share of the product mass within ``radius``, its error over images, and the share of the pixel pairs."""
    share = products.short_share(radius)
    pairs = GradientProducts(np.stack([pair_counts(products.shape)] * 2), products.centred).short_share(radius)
    return {"radius": radius, "mean": share.mean, "se": share.se, "pairs": pairs.mean}


def cells(results: Sequence[dict[str, Any]], fractions: Sequence[float]) -> list[dict[str, Any]]:
    """Means over seeds of each training with 95 % intervals, and differences of short shares within seeds."""
    out = []
    for name in dict.fromkeys(r["cell"] for r in results):
        own = [r for r in results if r["cell"] == name]
        trainings = sorted({r["training"] for r in own}, key=place)
        groups = {t: {r["seed"]: r for r in own if r["training"] == t} for t in trainings}
        out.append(
            {
                "cell": name,
                "shape": own[0]["shape"],
                "pairs": np.array(own[0]["pairs"]) / sum(own[0]["pairs"]),
                "rows": [_row(t, list(groups[t].values())) for t in trainings],
                "differences": [d for pair in _pairs(trainings) for d in _differences(groups, *pair, fractions)],
            }
        )
    return out


def _pairs(trainings: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of trainings, CutMix less Mixup first, then every one less those before it."""
    pairs = [(b, a) for a, b in combinations(trainings, 2)]
    return sorted(pairs, key=lambda p: p != ("cutmix", "mixup"))


def _row(training: str, own: Sequence[dict[str, Any]]) -> dict[str, Any]:
    r2 = {
        name: {
            law: {"r2": interval([r["r2"][name][law]["r2"] for r in own])._asdict()}
            | _curve([np.array(r["r2"][name][law]["value"]) / r["r2"][name][law]["r2"] for r in own])
            for law in own[0]["r2"][name]
        }
        for name in own[0]["r2"]
    }
    return {
        "training": training,
        "seeds": len(own),
        "square": interval([r["square"] for r in own])._asdict(),
        "map": np.mean([r["map"] for r in own], axis=0).round(7),
        "share": _curve([r["share"] for r in own]),
        "per_pair": _curve([r["per_pair"] for r in own]),
        "short": [
            {
                "radius": v["radius"],
                "pairs": v["pairs"],
                **interval([r["short"][k]["mean"] for r in own])._asdict(),
                "se_images": v["se"],
            }
            for k, v in enumerate(own[0]["short"])
        ],
        "r2": r2,
    }


def _curve(values: Sequence[Any]) -> dict[str, list[float | None]]:
    """Mean over seeds at each distance, with the ends of its interval."""
    points = [interval(v) for v in np.array(values, dtype=float).T]
    return {"mean": [p.mean for p in points], "low": [p.low for p in points], "high": [p.high for p in points]}


def _differences(
    groups: dict[str, dict[int, dict[str, Any]]], first: str, second: str, fractions: Sequence[float]
) -> list[dict[str, Any]]:
    """First less second training at every radius, over their common seeds; none with fewer than two of them."""
    seeds = sorted(set(groups[first]) & set(groups[second]))
    if len(seeds) < 2:
        return []
    out = []
    for k in range(len(fractions)):
        own, other = ([groups[t][s]["short"][k]["mean"] for s in seeds] for t in (first, second))
        found = interval(np.subtract(own, other))._asdict()
        out.append(
            {
                "first": first,
                "second": second,
                "radius": groups[first][seeds[0]]["short"][k]["radius"],
                "primary": k == 0,
                **found,
                "side": side(found),
            }
        )
    return out

"""Probe batches for black-box augmenters: images from which partner and mask can be read off, and the reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from msda_theory.masks.batches import Array, Shape

Transform = Callable[[Tensor, Tensor], Any]

_PLAIN_CALLS = 100


class LabelForm(ValueError):
    """Labels that cannot be read at all, perhaps since the augmenter was fed labels of another form."""


@dataclass(frozen=True, eq=False)
class Probe:
    """B images in general position, and what an augmenter is asked with them.

    At every pixel the values of the B images are corners of a regular (B + 1)-gon in each pair of channels, turned by
    a random angle that differs from pixel to pixel. So the direction in which an image moved tells its partner, the
    length tells 1 - M, the agreement of the channels shows that it is a blend, and a pixel that was moved is seen. The
    number of corners is odd: no chord runs through the centre, as a change of contrast would.

    Attributes:
        x: images [B, C, H, W] in [0, 1].
        tolerance: largest deviation from an exact blend that counts as rounding.
    """

    x: Float32[Tensor, "B C H W"]
    tolerance: float

    @classmethod
    def of(cls, batch_size: int, channels: int, shape: Shape, tolerance: float, texture: int | None) -> Probe:
        """Images of the texture of this number; with None, to find out why they were no blends, of one colour each."""
        steps, corners = np.zeros((channels, *shape), dtype=np.int64), batch_size + 1
        if texture is not None:
            turns = np.random.default_rng(texture).integers(corners, size=((channels + 1) // 2, *shape))
            steps[:] = turns.repeat(2, axis=0)[:channels]
        angle = 2 * np.pi * (np.arange(batch_size)[:, None, None, None] + steps) / corners
        quarter = np.pi / 2 * (np.arange(channels) % 2)[:, None, None]
        return cls(torch.from_numpy((0.5 + 0.5 * np.cos(angle - quarter)).astype(np.float32)), tolerance)

    def read(self, out: Float[Tensor, "G B C H W"]) -> tuple[Float32[Tensor, "G B H W"], Int64[Tensor, "G B"]] | None:
        """``1 - M`` and the partner of every image of G calls; partner -1 where an image came back as it was.

        None if any image is no blend with one other image of the batch.
        """
        g, b, c, h, w = out.shape
        x = self.x.reshape(b, c, h * w)
        moved = out.reshape(g, b, c, h * w).float() - x
        size, where = moved.abs().amax(dim=2).max(dim=2)  # [G, B]: largest change, and its pixel
        corners = x[:, :, where.reshape(-1)].reshape(b, c, g, b).permute(2, 3, 0, 1)  # [G, B(i), B(p), C]
        own = torch.arange(b)
        chord = corners - corners[:, own, own][:, :, None]
        at = moved.gather(3, where[:, :, None, None].expand(g, b, c, 1)).squeeze(3)  # [G, B, C]
        along = (chord * at[:, :, None]).sum(dim=3) / (chord**2).sum(dim=3).clamp(min=1e-12)
        miss = (at[:, :, None] - along[..., None] * chord).abs().amax(dim=3)
        miss[:, own, own] = torch.inf
        partner = miss.argmin(dim=2)  # [G, B]
        step = x[partner] - x  # [G, B, C, d]
        q = (moved * step).sum(dim=2) / (step**2).sum(dim=2)
        off = (moved - q[:, :, None] * step).abs().amax()
        if not (off <= self.tolerance and q.min() >= -self.tolerance and q.max() <= 1 + self.tolerance):
            return None
        still = size <= self.tolerance
        q = q.clamp(0, 1).masked_fill(still[:, :, None], 0.0)
        return q.reshape(g, b, h, w), partner.masked_fill(still, -1)


def call(
    transform: Transform, x: Tensor, y: Tensor, classes: int
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B K"]]:
    """One call on copies of ``x`` and ``y``: images as they came, labels as rows of class weights.

    Raises:
        ValueError: if the result is not ``(x~, y~)``, ``(x~, (y_a, y_b, lam))`` or ``(x~, y_a, y_b, lam)``, or changes
            the number or size of the images, or holds labels that were not mixed.
    """
    try:
        out = transform(x.clone(), y.clone())
    except Exception as error:
        raise LabelForm(
            f"the transform failed on a probe batch, images {list(x.shape)} and labels {list(y.shape)}: "
            f"{type(error).__name__}: {error}; wrap it so that it takes such batches, build it with at least {classes} "
            "classes (the law does not depend on their number), or set labels=, batch_size= or channels=."
        ) from error
    if not (isinstance(out, tuple | list) and len(out) in (2, 4)):
        raise ValueError(
            f"expected (x, y), (x, (y_a, y_b, lam)) or (x, y_a, y_b, lam) from the transform, got {_kind(out)}; "
            "wrap it."
        )
    images, labels = out[0], (out[1] if len(out) == 2 else tuple(out[1:]))
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise ValueError(f"expected floating point images from the transform, got {_kind(images)}; wrap it.")
    if images.ndim == 4 and len(images) != len(x):
        raise ValueError(
            f"the transform changes the batch size: {len(x)} images in, {len(images)} out; let it return one for each."
        )
    if images.shape != x.shape:
        raise ValueError(
            f"the transform changes the size of the images (crops or resizes): {list(x.shape)} in, "
            f"{list(images.shape)} out; measure the mixing step alone."
        )
    return images.detach().cpu().clone(), _soft(labels, len(x), classes)


def _soft(labels: Any, batch: int, classes: int) -> Float[Tensor, "B K"]:
    if isinstance(labels, tuple | list):
        if len(labels) != 3:
            raise ValueError(
                f"expected labels (y_a, y_b, lam) as a triple, got {len(labels)} parts; wrap the transform."
            )
        y_a, y_b = (_rows(part, batch, classes) for part in labels[:2])
        try:
            lam = torch.as_tensor(labels[2], dtype=torch.float64).detach().cpu().reshape(-1, 1)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"expected lam as a number or one for each sample, got {labels[2]!r}; wrap it.") from error
        if len(lam) not in (1, batch):
            raise ValueError(
                f"expected one lam or one for each of {batch} samples, got {len(lam)}; wrap the transform."
            )
        return lam * y_a + (1 - lam) * y_b
    if isinstance(labels, Tensor) and not labels.is_floating_point():
        raise ValueError(
            "the transform returns integer labels only, so the label weight is unknown; let it return soft labels "
            "[B, classes] or (y_a, y_b, lam)."
        )
    return _rows(labels, batch, classes)


def _rows(labels: Any, batch: int, classes: int) -> Float[Tensor, "B K"]:
    """Class weights [B, K] in float64, of indices or of rows."""
    if not isinstance(labels, Tensor):
        raise ValueError(f"expected labels as a tensor, got {_kind(labels)}; wrap the transform.")
    labels = labels.detach().cpu()
    if labels.ndim == 1 and len(labels) == batch and not labels.is_floating_point():
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"expected labels of samples of the batch, classes 0 to {classes - 1}, got {int(labels.min())} to "
                f"{int(labels.max())}; let the transform mix samples of the batch only."
            )
        return torch.nn.functional.one_hot(labels.long(), classes).double()
    if labels.ndim == 2 and labels.shape[1] >= classes and len(labels) == batch:
        return labels.double().clone()
    raise LabelForm(
        f"expected soft labels [{batch}, classes] with at least {classes} classes, got {_kind(labels)}; build the "
        "transform for as many classes (its law does not depend on them); if it mixes indices as numbers, pass "
        'labels="onehot".'
    )


@dataclass(frozen=True)
class Weights:
    """Label weights read from G calls.

    Attributes:
        own: weight of the own label [G, B].
        partner: class whose label was mixed in [G, B]; -1 where none was.
        smoothing: label smoothing s.
    """

    own: Array
    partner: Array
    smoothing: float

    @classmethod
    def of(cls, y: Float[Tensor, "G B K"], tolerance: float) -> Weights:
        """Read ``y~ = (1 - s)(w e_i + (1 - w) e_p) + s / K``, e_i the i-th unit vector; sample i has class i.

        Raises:
            ValueError: if labels are not of this form.
        """
        rows = y.numpy()
        k, i = rows.shape[2], np.arange(rows.shape[1])
        others = rows.copy()
        others[:, i, i] = -np.inf
        partner = others.argmax(axis=2)
        own, mixed = rows[:, i, i], np.take_along_axis(rows, partner[..., None], 2)[..., 0]
        others[:, i, i] = np.nan
        np.put_along_axis(others, partner[..., None], np.nan, 2)
        floor = np.nanmean(others, axis=2)
        spread = float(np.nanmax(np.abs(others - floor[..., None])))
        smoothing = one_smoothing(np.where(floor > tolerance / k, floor * k, 0.0), tolerance)
        weight, rest = (own - smoothing / k) / (1 - smoothing), (mixed - smoothing / k) / (1 - smoothing)
        convex = min(weight.min(), rest.min()) >= -tolerance and np.abs(weight + rest - 1).max() <= tolerance
        if not (smoothing < 1 and spread <= tolerance and convex):
            worst = np.unravel_index(np.abs(weight + rest - 1).argmax(), weight.shape)
            shown = np.array2string(rows[worst], precision=3, separator=", ")
            raise ValueError(
                "expected labels that are a convex combination w y_i + (1 - w) y_p of the labels of two samples, got "
                f"{shown} for the sample of class {worst[1]}; return w and 1 - w for the two classes."
            )
        return cls(weight.clip(0, 1), np.where(rest <= tolerance, -1, partner), smoothing)


def one_smoothing(values: Float64[Array, "*n"], tolerance: float) -> float:
    """The label smoothing that all samples have.

    Raises:
        ValueError: if it differs.
    """
    low, high = float(values.min()), float(values.max())
    if high - low > tolerance:
        raise ValueError(f"expected one label smoothing, got {low:.3g} and {high:.3g}; measure the mixing step alone.")
    return (low + high) / 2


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)} and type {value.dtype}"
    if isinstance(value, tuple | list):
        return f"{len(value)} values"
    return type(value).__name__


def diagnose(transform: Transform, y: Tensor, probe: Probe) -> str:
    """Why images were no blends, found out with images of one colour each."""
    b, c, h, w = probe.x.shape
    plain = Probe.of(b, c, (h, w), probe.tolerance, None)
    for _ in range(_PLAIN_CALLS):  # what was seen may be rare
        images = call(transform, plain.x.to(y.device), y, b)[0].float()
        if plain.read(images[None]) is None:
            break
    else:
        return "it moves pixels (a crop, flip, rotation or shift)"
    colours = plain.x[:, :, 0, 0]
    flat = images.reshape(b, c, -1)
    off = torch.stack([_distance(flat, colours, p) for p in range(b)])  # [B(p), B, d]
    strange = off.amin(dim=0) > probe.tolerance
    if not strange.any():
        return "it takes pixels of more than one partner, so the pairing cannot be identified"
    values = flat.permute(0, 2, 1)[strange]
    _, counts = torch.unique((values / probe.tolerance).round(), dim=0, return_counts=True)
    if int(strange.sum()) > 2 and len(counts) > 0.5 * int(strange.sum()):
        return "it adds noise, which differs from pixel to pixel"
    if strange.float().mean() < 0.95:
        return "it moves pixels (a crop, rotation or shift that fills the rest) or erases some"
    return "it changes pixel values (normalisation, brightness, contrast), or mixes images from outside the batch"


def _distance(flat: Tensor, colours: Tensor, p: int) -> Tensor:
    """Distance of every pixel [B, d] from the segment between the own colour and that of image p."""
    chord = (colours[p] - colours)[:, :, None]
    moved = flat - colours[:, :, None]
    q = ((moved * chord).sum(dim=1) / (chord**2).sum(dim=1).clamp(min=1e-12)).clamp(0, 1)
    return (moved - q[:, None] * chord).abs().amax(dim=1)

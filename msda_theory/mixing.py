"""Images mixed with given partners and masks: ``x~_i = M_i x_i + (1 - M_i) x_partner(i)``.

Memory traffic is the cost, so nothing is gathered twice. A *blend* gathers the partners into the result and moves them
towards x in place: three passes over the images and two parallel loops, whatever the masks. A *paste*, for boxes on the
CPU, copies the batch and then the pixels of the boxes.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from msda_theory.masks.batches import Array, MaskBatch, SeparableMasks

_NEGLIGIBLE = 1e-19  # products of two factors below it are subnormal in float32, which some processors handle slowly

Box = tuple[slice, slice]


def mix_images(
    x: Float[Tensor, "B C H W"], partner: Int64[Array, " B"], draws: MaskBatch | SeparableMasks
) -> Float[Tensor, "B C H W"]:
    """``M_i x_i + (1 - M_i) x_partner(i)`` as a new tensor of x's dtype, device and memory format.

    Differentiable in x. In 16-bit formats the weights are rounded to x's dtype, as the result is.

    Args:
        x: images [B, C, H, W].
        partner: index of each image's partner [B].
        draws: masks of the size H x W, one for each image or one for all.
    """
    boxes = _boxes(draws) if x.device.type == "cpu" and not x.requires_grad else None
    return blend(x, partner, _weights(draws, x)) if boxes is None else paste(x, partner, boxes)


def blend(
    x: Float[Tensor, "B C H W"], partner: Int64[Array, " B"], weights: Float[Tensor, "#B #C #H #W"]
) -> Float[Tensor, "B C H W"]:
    """The partners, moved towards x by the weight of x; ``weights`` is M for each image or, with n = 1, for all."""
    out = x[torch.from_numpy(partner).to(x.device)]  # keeps channels_last, which index_select does not
    return out.lerp_(x, weights)


def paste(x: Float[Tensor, "B C H W"], partner: Int64[Array, " B"], boxes: list[Box]) -> Float[Tensor, "B C H W"]:
    """x with the pixels of a box taken from the partner; one box for each image or one for all. On the CPU."""
    out = x.clone()
    if len(boxes) == 1:
        boxes = boxes * len(x)
    for i, (j, (rows, columns)) in enumerate(zip(partner.tolist(), boxes, strict=True)):
        _window(out, i, rows, columns).copy_(_window(x, j, rows, columns))
    return out


def _window(t: Float[Tensor, "B C H W"], i: int, rows: slice, columns: slice) -> Float[Tensor, "C h w"]:
    """``t[i, :, rows, columns]`` as one view rather than three, each of which costs as much as copying some rows."""
    n, *strides = t.stride()
    size = (t.shape[1], rows.stop - rows.start, columns.stop - columns.start)
    offset = t.storage_offset() + i * n + rows.start * strides[1] + columns.start * strides[2]
    return t.as_strided(size, strides, offset)


def _boxes(draws: MaskBatch | SeparableMasks) -> list[Box] | None:
    """The boxes, where every mask is 0 in a (perhaps empty) box and 1 outside; otherwise None."""
    if not isinstance(draws, SeparableMasks):
        return None
    empty = draws.scale == 0
    if not ((draws.offset == 1) & (empty | (draws.scale == -1))).all():
        return None
    (rows, row_ok), (columns, column_ok) = _intervals(draws.rows), _intervals(draws.columns)
    if not (empty | (row_ok & column_ok)).all():
        return None
    nothing = slice(0, 0)
    return [(nothing, nothing) if e else (r, c) for e, r, c in zip(empty, rows, columns, strict=True)]


def _intervals(factors: Float[Array, "n L"]) -> tuple[list[slice], Bool[Array, " n"]]:
    """First run of ones in each row, and whether the row is its indicator."""
    ones = factors == 1
    first, count = ones.argmax(axis=1), ones.sum(axis=1)
    place = np.arange(factors.shape[1])
    inside = (place >= first[:, None]) & (place < (first + count)[:, None])
    bounds = zip(first.tolist(), (first + count).tolist(), strict=True)
    return [slice(a, b) for a, b in bounds], (factors == inside).all(axis=1)


def _weights(draws: MaskBatch | SeparableMasks, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "#B 1 #H #W"]:
    """M in the dtype of x and on its device: [n, 1, H, W], or [n, 1, 1, 1] for constant masks."""

    def tensor(values: Array) -> Tensor:
        writable = np.require(values, requirements=["C", "W"])  # torch warns about others
        return torch.from_numpy(writable).to(device=x.device, dtype=wide)

    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    if isinstance(draws, MaskBatch):
        return tensor(draws.mask)[:, None].to(x.dtype)
    offset = tensor(draws.offset)[:, None, None]
    if not draws.scale.any():
        return offset[:, None].to(x.dtype)
    rows, columns = (tensor(np.where(abs(f) < _NEGLIGIBLE, 0.0, f)) for f in (draws.rows, draws.columns))
    rows *= tensor(draws.scale)[:, None]
    return torch.addcmul(offset, rows[:, :, None], columns[:, None, :])[:, None].to(x.dtype)

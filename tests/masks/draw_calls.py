"""Calls of an augmenter as `DrawLog` reads them, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msda_theory.masks.draw_log import DrawLog

B, SHAPE = 4, (2, 3)
FLIP = (3, 2, 1, 0)
Call = tuple[np.ndarray, np.ndarray, np.ndarray]  # masks [B, H, W], label weights [B], partners [B]


def call(draws: np.ndarray | float | Sequence, partner: Sequence[int], own: float | Sequence[float] = 0.5) -> Call:
    """One mask for all or one for each sample, as an array or its only value; samples of partner -1 are unmixed."""
    mask, w = np.ones((B, *SHAPE)), np.ones(B)
    each = draws if isinstance(draws, list | tuple) else [draws] * B
    weights = np.broadcast_to(np.asarray(own, dtype=float), B)
    for i, p in enumerate(partner):
        if p >= 0:
            mask[i], w[i] = each[i], weights[i]
    return mask.astype(np.float32), w, np.array(partner)


def logged(calls: Sequence[Call], tolerance: float = 1e-4, together: bool = False) -> DrawLog:
    """The log of calls, read with two textures in turns; or all with one texture, in one piece."""
    log = DrawLog(B, SHAPE, tolerance)
    if together:
        log.add(*(np.stack(v) for v in zip(*calls, strict=True)), 0)
    else:
        for k, parts in enumerate(calls):
            log.add(*(v[None] for v in parts), k % 2)
    return log

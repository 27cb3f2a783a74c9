"""Traces of one module for passes of different sizes, within a budget of memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from msda_theory.taylor import Taylor

_IMAGES = 1152  # largest pass in images: 64 samples with 16 directions each; more gain nothing
_CPU_MEMORY = 2**30


class Engines:
    """`Taylor` engines of one module, each for the largest pass that a budget of memory allows.

    A pass over B samples along K directions holds about (K + 2) B times the results of one sample, and half as much
    again in intermediate sums. A module with an operator that has no rule takes 64 images at once, whatever the budget.
    """

    def __init__(self, model: nn.Module, x: Tensor, memory: int | None = None) -> None:
        """For samples like ``x`` [m, ...].

        Args:
            model: module in eval mode.
            x: some samples.
            memory: bytes of intermediate results in one pass; by default 1 GiB on the CPU, an eighth of a GPU.

        Warns, raises: as `Taylor`; also TypeError, ValueError for a budget that is no positive whole number.
        """
        check_memory(memory)
        if memory is None:
            cuda = x.device.type == "cuda"
            memory = torch.cuda.get_device_properties(x.device).total_memory // 8 if cuda else _CPU_MEMORY
        self._model, self._x, self._memory = model, x, memory
        self._first = Taylor(model, _cycled(x, 2))
        if self._first.fallback is not None:
            self._first.batch = _IMAGES // 18
        self._engines: dict[int, Taylor] = {}

    def sized(self, directions: int, rows: int) -> Taylor:
        """The engine for K ``directions`` of each of ``rows`` samples; it takes them in as few passes as memory allows.

        Raises:
            ValueError: if one sample needs more memory than there is.
        """
        if self._first.bytes_per_sample is None:
            return self._first
        copies = directions + 2
        need = 3 * copies * self._first.bytes_per_sample // 2
        batch = min(self._memory // max(need, 1), max(1, _IMAGES // copies), rows)
        if batch < 1:
            raise ValueError(f"expected memory for one image, {need} bytes, got {self._memory} bytes; raise memory.")
        if batch not in self._engines:
            self._engines[batch] = Taylor(self._model, _cycled(self._x, batch))
        return self._engines[batch]


def check_memory(memory: int | None) -> None:
    """Raise unless ``memory`` is None or a positive whole number of bytes.

    Raises:
        TypeError, ValueError: with what was given.
    """
    if memory is not None and not isinstance(memory, int | np.integer):
        raise TypeError(f"expected memory as a whole number of bytes, got {memory!r}; pass an int.")
    if memory is not None and memory < 1:
        raise ValueError(f"expected memory > 0 bytes, got {memory}; raise it.")


def _cycled(x: Tensor, number: int) -> Tensor:
    return x[torch.arange(number, device=x.device) % len(x)]

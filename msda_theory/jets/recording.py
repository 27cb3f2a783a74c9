"""A pass of a program on a GPU, recorded once and replayed: small passes are bound by the launch of kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Triple = tuple[Tensor, Tensor, Tensor]


class Recording:
    """A CUDA graph of ``run`` for inputs of one shape; it holds its own inputs, results and intermediate memory."""

    def __init__(self, run: Callable[[Tensor, Tensor], Triple], x: Tensor, directions: Tensor) -> None:
        """Record ``run(x, directions)``, which must have run before.

        Raises:
            RuntimeError: if some operator cannot be recorded.
        """
        self._x, self._directions = x.clone(), directions.clone()
        self._graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(self._graph):
            self._results = run(self._x, self._directions)

    def __call__(self, x: Tensor, directions: Tensor) -> Triple:
        """The results for other values of the inputs."""
        self._x.copy_(x)
        self._directions.copy_(directions)
        self._graph.replay()
        value, first, second = self._results
        return value.clone(), first.clone(), second.clone()

"""One process, or several started by torchrun: who we are, sums over all, batches put together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Processes:
    """This process among ``world`` ones, and its device."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of n things, of which every process has equally many.

        Raises:
            ValueError: if n is no multiple of the number of processes.
        """
        if n % self.world:
            raise ValueError(
                f"expected a batch that {self.world} processes can share equally, got {n} images; choose a multiple."
            )
        return slice(self.rank * n // self.world, (self.rank + 1) * n // self.world)

    def gather(self, x: Tensor) -> Tensor:
        """The parts of all processes, in the order of their ranks: [B / world, ...] to [B, ...]."""
        if self.world == 1:
            return x
        out = x.new_empty((self.world * len(x), *x.shape[1:]))
        dist.all_gather_into_tensor(out, x.contiguous())
        return out

    def total(self, x: Tensor) -> Tensor:
        """Sum over the processes."""
        if self.world > 1:
            x = x.clone()
            dist.all_reduce(x)
        return x

    def agree(self, number: int) -> int:
        """The number that the first process has."""
        if self.world == 1:
            return number
        t = torch.tensor([number], device=self.device)
        dist.broadcast(t, 0)
        return int(t)

    def same_buffers(self, model: nn.Module) -> None:
        """Give all processes the buffers (running statistics) of the first."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


@contextmanager
def processes(device: str | None = None) -> Iterator[Processes]:
    """The processes of this run: those of torchrun if its variables are set, else this one alone.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; by default a GPU if there is one. Under torchrun each process takes
            the GPU of its local rank, with nccl; on the CPU they talk by gloo.

    Raises:
        ValueError: if a GPU is asked for and none is there.
    """
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"expected a device that is there, got {name!r} without a GPU; use --device cpu.")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(0, 1, torch.device(name))
        return
    if name.startswith("cuda"):
        name = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(name)
    dist.init_process_group("nccl" if name.startswith("cuda") else "gloo")
    try:
        yield Processes(dist.get_rank(), world, torch.device(name))
    finally:
        dist.destroy_process_group()

"""Parts of a comparison that can be computed anywhere: one model, one strategy, some tiles of the draws.

Draws follow from the seed and the place of a tile, and every tile returns its own estimate, so the merged result does
not depend on how the work was split or where it ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from threading import RLock

import torch
from torch import Tensor, nn
from tqdm import tqdm

from msda_theory.data import ImageData
from msda_theory.engines import Engines
from msda_theory.estimate import Joint
from msda_theory.kink import tile_kinks
from msda_theory.losses import Loss
from msda_theory.masks.base import Strategy
from msda_theory.pairs import Tile, draw_tiles
from msda_theory.terms import pair_losses, pair_terms

_TURNS = RLock()


@dataclass(frozen=True, eq=False)
class Job:
    """What all shards of a comparison share.

    Attributes:
        data, loss: as in `compare`.
        laws, points: of the sampled terms; no points if only the measured loss is wanted.
        kink: scale t of Eq. (3e), or None.
        draws: pairs for each image.
        seed: of all streams.
        batch_size, memory: as in `compare`.
        threads: of torch; sums over a batch are split by thread, and so are their rounding errors.
    """

    data: ImageData
    loss: Loss
    laws: tuple[str, ...]
    points: tuple[str, ...]
    kink: float | None
    draws: int
    seed: int
    batch_size: int
    memory: int | None
    threads: int


@dataclass(frozen=True, eq=False)
class Shard:
    """Tiles that begin at ``starts``, for one model and strategy.

    Attributes:
        cell: name of the model and index of the strategy.
        model, strategy: themselves.
        qbars: first moment of q by law, None where no point needs it.
        starts: first samples of the tiles.
    """

    cell: tuple[str, int]
    model: nn.Module
    strategy: Strategy
    qbars: Mapping[str, Tensor | None]
    starts: tuple[int, ...]


def run_shards(job: Job, shards: Sequence[Shard], executor: Executor | None, progress: bool) -> list[list[Joint]]:
    """The estimates of every tile of every shard, in order; over ``executor`` if there is one."""
    bar = tqdm(total=len(shards), desc="compare", unit="shard", disable=not progress)
    with bar:
        if executor is None:
            return list(_local(job, shards, bar))
        futures: list[Future[list[Joint]]] = [executor.submit(run_shard, job, shard) for shard in shards]
        for future in futures:
            future.add_done_callback(lambda _: bar.update())
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _local(job: Job, shards: Sequence[Shard], bar: tqdm[None]) -> Iterator[list[Joint]]:
    name, engines = None, None
    for shard in shards:
        if shard.cell[0] != name:
            name, engines = shard.cell[0], _engines(job, shard)
        yield run_shard(job, shard, engines)
        bar.update()


def run_shard(job: Job, shard: Shard, engines: Engines | None = None) -> list[Joint]:
    """The measured loss, the terms of every law and point, and the kinks, jointly for each tile.

    ``engines`` saves the trace if there is one for the model already.
    """
    # One at a time in a process: threads, and the choice of attention kernels while tracing, are global to it.
    with _TURNS, _threads(job.threads):
        engines = engines or _engines(job, shard)
        data, loss = job.data, job.loss

        def tiles(law: str) -> Iterator[Tile]:
            return draw_tiles(data, shard.strategy, law, job.draws, job.seed, shard.starts)

        joints = []
        for measured, *lawful in zip(tiles("exact"), *(tiles(law) for law in job.laws), strict=True):
            losses = pair_losses(shard.model, data, loss, measured, job.batch_size)
            values = {"measured": measured.group_means(losses)}
            for law, tile in zip(job.laws, lawful, strict=True):
                for at in job.points:
                    assert engines is not None, "points need engines"
                    terms = pair_terms(engines, data, loss, tile, at, shard.qbars[law])
                    values.update({f"{law}.{at}.{term}": v for term, v in terms.items()})
                if job.kink is not None:
                    kinks = tile_kinks(shard.model, data, loss, tile, job.kink, job.batch_size)
                    values.update({f"{law}.{name}": v for name, v in kinks.items()})
            joints.append(Joint.from_strata(values, measured.sizes))
        return joints


def _engines(job: Job, shard: Shard) -> Engines | None:
    return Engines(shard.model, job.data.x, job.memory) if job.points else None


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def split(starts: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    """``starts`` in at most ``parts`` runs of nearly equal length."""
    size = -(-len(starts) // max(1, parts))
    return [tuple(starts[low : low + size]) for low in range(0, len(starts), size)]


def cells(models: Mapping[str, nn.Module], strategies: Sequence[Strategy]) -> list[tuple[str, int]]:
    """Every model with every strategy, by name and index; models outermost, so that a trace serves its neighbours."""
    return list(product(models, range(len(strategies))))

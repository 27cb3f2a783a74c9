"""Which approximation explains the mixed loss? Every rung of the ladder, on the draws of the measured loss.

| rung | prediction, derivatives at the point p, eta the step from p to the mixed image |
|---|---|
| ``base`` | ``E l(f(p))`` |
| ``r1`` | + ``E (h' - y).J eta`` |
| ``r2`` | + ``1/2 E (J eta).h'' J eta``: Gauss-Newton |
| ``r3`` | + ``1/2 E sum_c (h' - y)_c eta.D2f_c eta``: second order |
| ``linearised`` | ``E l(f + J eta)``: the linearised network with the exact loss |
| ``quadratic`` | ``E l(f + J eta + 1/2 eta.D2f eta)``: the quadratic network with the exact loss |
| ``measured`` | ``E l(f(p + eta))``, to all orders, under the law of the row |

Points: ``data``, ``mean``, ``mask``, and one for each stand-in of the partner, Eq. (3k). docs/theory.md, Section 3.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.engines import Engines, check_memory
from msda_theory.estimate import Estimate, Joint
from msda_theory.expansion import needed_moments
from msda_theory.kink import check_scale
from msda_theory.ladder_table import RUNGS, OrderLadder, RungRow, ladder_rows
from msda_theory.losses import Loss, SoftmaxCrossEntropy, as_loss
from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.moments.moments import check_law
from msda_theory.pairs import Tile, check_draws, draw_tiles
from msda_theory.rungs import tile_rungs
from msda_theory.stand_ins import check_stand_ins, class_means, default_length, local_means
from msda_theory.streams import seed_from
from msda_theory.terms import check_at, clean_losses, pair_losses

LAWS, ATS = ("exact", "paper"), ("data", "mean", "mask")
_SAME = 1e-12


def order_ladder(
    model: nn.Module,
    data: ImageData,
    strategies: Sequence[Strategy],
    *,
    loss: Loss | Callable[[Tensor, Tensor], Tensor] | None = None,
    laws: Sequence[str] = LAWS,
    ats: Sequence[str] = ATS,
    stand_ins: Mapping[str, Tensor] | None = None,
    quadratic: bool = True,
    scale: float = 1.0,
    draws: int = 64,
    rng: np.random.Generator,
    batch_size: int = 512,
    memory: int | None = None,
    engines: Engines | None = None,
) -> OrderLadder:
    """Every rung at every point for every strategy and law, on the same pairs (q, r) as the measured mixed loss.

    Partners and the random numbers behind the masks are those of `compare` and `mixed_loss` with an equal generator,
    the same for all strategies, laws and points.

    Args:
        model: module in eval mode with outputs [B, c].
        data: images and labels.
        strategies: any strategies, with different names.
        loss: `SoftmaxCrossEntropy` by default.
        laws: of q, in the rungs.
        ats: points of expansion.
        stand_ins: further points, ``x + q (s_r - x)`` with an image s_r for each image of ``data`` as partner r
            [m, C, H, W], by name; by default ``class`` and ``local``, which are ``class_means(data)`` and
            ``local_means(data, max(H, W) / 8)``.
        quadratic: the rung of that name at the data and at the mean too, where it takes three times as long as all
            others together; at the other points it costs nothing.
        scale: t in (0, 1]; every step is ``t q (r - x)``, and the first moment shrinks with it (Section 3.3).
        draws: pairs for each image, at least 2.
        rng: source of the draws; one integer is taken from it.
        batch_size: as in `expand`.
        memory: as in `expand`.
        engines: ``Engines(model, data.x)`` from earlier calls with this model and images of this kind, to save traces.

    Raises:
        ValueError, TypeError: as `expand`; no strategy, law or point, or two strategies of one name; stand-ins that do
            not fit.
    """
    stand_ins = _stand_ins(data) if stand_ins is None else dict(stand_ins)
    _check(strategies, laws, ats, stand_ins)
    check_stand_ins(stand_ins, data)
    check_scale(scale)
    check_draws(draws)
    check_memory(memory)
    loss = as_loss(SoftmaxCrossEntropy() if loss is None else loss, data.num_classes)
    check_model(model, data, loss)
    seed = seed_from(rng)
    clean = Estimate(float(clean_losses(model, data, loss, batch_size).mean()), 0.0, len(data))
    engines = Engines(model, data.x, memory) if engines is None else engines
    points = _points(ats, stand_ins, quadratic)
    rungs = {p.name: RUNGS if p.quadratic else RUNGS[:-1] for p in points}
    rows: list[RungRow] = []
    joints: dict[str, Joint] = {}
    rises: dict[str, bool] = {}
    for strategy in strategies:
        qbars = {law: _qbar(strategy, data, law, ats, seed, scale) for law in laws}
        parts = []
        for tiles in _tiles(data, strategy, laws, draws, seed, scale):
            parts.append(_joint(model, engines, data, loss, tiles, qbars, points, batch_size))
        joint = joints[strategy.name] = Joint.merge(parts)
        rise = joint["exact.measured"].mean - clean.mean
        rounding = 1e4 * torch.finfo(data.x.dtype).eps
        rises[strategy.name] = abs(rise) > rounding * (1 + abs(clean.mean))
        rows += ladder_rows(strategy.name, joint, clean, laws, rungs, rises[strategy.name])
    return OrderLadder(tuple(rows), clean, joints, rises, scale)


@dataclass(frozen=True, eq=False)
class _Point:
    """A point of expansion by name; perhaps with a stand-in; with second derivatives along each draw or not."""

    name: str
    at: str
    stand_in: Tensor | None
    quadratic: bool


def _points(ats: Sequence[str], stand_ins: Mapping[str, Tensor], quadratic: bool) -> list[_Point]:
    usual = [_Point(at, at, None, quadratic or at == "mask") for at in ats]
    return usual + [_Point(name, "mask", images, True) for name, images in stand_ins.items()]


def _stand_ins(data: ImageData) -> dict[str, Tensor]:
    return {"class": class_means(data), "local": local_means(data, default_length(data))}


def _check(
    strategies: Sequence[Strategy], laws: Sequence[str], ats: Sequence[str], stand_ins: Mapping[str, Tensor]
) -> None:
    if isinstance(strategies, Strategy):
        raise TypeError(f"expected a list of strategies, got one alone, {strategies.name}; pass [it].")
    if isinstance(laws, str) or isinstance(ats, str):
        raise TypeError(f"expected several laws and points, got {laws!r} and {ats!r}; pass tuples of names.")
    if len(set(laws)) < len(laws) or len(set(ats)) < len(ats):
        raise ValueError(
            f"expected different laws and points, got {list(laws)} and {list(ats)}; drop the repeated ones."
        )
    if not strategies or not laws or not (ats or stand_ins):
        raise ValueError("expected at least one strategy, law and point, got none of one of them; name some.")
    for strategy in strategies:
        check_strategy(strategy)
    for law in laws:
        check_law(law)
    for at in ats:
        check_at(at)
    names = [s.name for s in strategies]
    if len(set(names)) < len(names):
        raise ValueError(f"expected strategies with different names, got {names}; leave the repeated ones out.")


def _qbar(strategy: Strategy, data: ImageData, law: str, ats: Sequence[str], seed: int, scale: float) -> Tensor | None:
    if "mean" not in ats:
        return None
    moments = needed_moments(strategy, data, law, ("mean",), seed)
    assert moments is not None, "the mean needs the first moment"
    return torch.from_numpy(scale * moments.mean).to(data.x)


def _tiles(
    data: ImageData, strategy: Strategy, laws: Sequence[str], draws: int, seed: int, scale: float
) -> Iterator[dict[str, Tile]]:
    """The same tiles under the exact law and all others."""
    names = ("exact", *(law for law in laws if law != "exact"))
    for tiles in zip(*(draw_tiles(data, strategy, law, draws, seed) for law in names), strict=True):
        yield {law: tile.scaled(scale) for law, tile in zip(names, tiles, strict=True)}


def _joint(
    model: nn.Module,
    engines: Engines,
    data: ImageData,
    loss: Loss,
    tiles: Mapping[str, Tile],
    qbars: Mapping[str, Tensor | None],
    points: Sequence[_Point],
    batch_size: int,
) -> Joint:
    """All parts under all laws on one tile."""
    values: dict[str, np.ndarray] = {}
    for law, tile in tiles.items():
        if law != "exact" and _agree(tiles, qbars, law):
            values.update({f"{law}.{k.removeprefix('exact.')}": v for k, v in values.items()})
            continue
        values[f"{law}.measured"] = tile.group_means(pair_losses(model, data, loss, tile, batch_size))
        for p in points if law in qbars else ():
            parts = tile_rungs(engines, data, loss, tile, p.at, qbars[law], stand_in=p.stand_in, quadratic=p.quadratic)
            values.update({f"{law}.{p.name}.{k}": v for k, v in parts.items()})
    return Joint.from_strata(values, tiles["exact"].sizes)


def _agree(tiles: Mapping[str, Tile], qbars: Mapping[str, Tensor | None], law: str) -> bool:
    """Whether this law has the draws and the first moment of the exact one, as Mixup's has."""
    if "exact" not in qbars or not np.allclose(tiles[law].q, tiles["exact"].q, rtol=0, atol=_SAME):
        return False
    own, exact = qbars[law], qbars["exact"]
    return own is None or exact is None or bool(((own - exact).abs() <= _SAME).all())

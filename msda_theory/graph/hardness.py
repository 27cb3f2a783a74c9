"""Which negatives are hard: their largest cosine similarity to a positive, by one view of the graph or by both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

MODES = ("per_view", "local", "global", "sum", "both")


def hardness(negatives: Tensor, positives: Tensor, *, rows: int = 2048, search: torch.dtype | None = None) -> Tensor:
    """``max_j cos(n_k, p_j)`` for negatives n [k, h] and positives p [n, h]: [k], in [-1, 1].

    A vector of zeros has similarity 0 to everything. No gradient.

    Args:
        negatives: [k, h].
        positives: [n, h].
        rows: negatives at a time; memory grows with ``rows * n``.
        search: precision in which the nearest positive is looked for, by default that of the vectors. Its similarity is
            then computed in the precision of the vectors. ``torch.bfloat16`` is 3 times faster on processors that have
            it; the result is at most 0.012 below the largest: rounding both vectors and their product to 8 bits moves
            each similarity by at most 3 * 2^-9, and two are compared.

    Raises:
        ValueError: if the vectors do not have one length, or there are none.
    """
    if negatives.ndim != 2 or positives.ndim != 2 or negatives.shape[1:] != positives.shape[1:]:
        raise ValueError(
            f"expected negatives [k, h] and positives [n, h] of one length h, got {list(negatives.shape)} and "
            f"{list(positives.shape)}; take both from one view."
        )
    if len(negatives) == 0 or len(positives) == 0:
        raise ValueError(
            f"expected at least one negative and one positive, got {len(negatives)} and {len(positives)}; pass vectors."
        )
    with torch.no_grad():
        n, p = normalize(negatives.detach(), dim=1), normalize(positives.detach(), dim=1)
        if search is None or search == n.dtype:
            return torch.cat([(part @ p.T).amax(dim=1) for part in n.split(rows)])  # type: ignore[no-untyped-call]
        rough = p.to(search).T
        nearest = torch.cat([(part.to(search) @ rough).max(dim=1).indices for part in n.split(rows)])  # type: ignore[no-untyped-call]
        return torch.cat([(part * p[j]).sum(dim=1) for part, j in zip(n.split(rows), nearest.split(rows), strict=True)])  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class Kept:
    """Negatives that are kept, by number, in each view; equally many.

    Attributes:
        local, global_: indices [K] of negatives of the local and the global view, from easy to hard.
    """

    local: Tensor
    global_: Tensor

    def __len__(self) -> int:
        return len(self.local)


def select(local: Tensor, global_: Tensor, *, mode: str = "per_view", low: float = 0.15, high: float = 0.95) -> Kept:
    """Negatives with a rank of hardness between ``low`` and ``high``: positions ``floor(low n)`` to ``floor(high n)``.

    The easiest teach little, the hardest may be positives in truth. Ma, Chen, Li 2023 keep 0.15 to 0.95.

    Args:
        local: hardness of every negative in the local view [n].
        global_: that in the global view [n].
        mode: ``"per_view"``: each view ranks its own (the reference code); ``"local"``, ``"global"``: one view ranks
            for both; ``"sum"``: by the sum of both similarities; ``"both"``: those that each view keeps.
        low: share of the ranking, ``0 <= low < high``.
        high: share of the ranking, ``high <= 1``.

    Raises:
        ValueError: unknown mode, shares out of order, rankings of different length, or fewer than two negatives left
            (mixing needs a partner).
    """
    if mode not in MODES:
        raise ValueError(f"expected the mode of hardness among {list(MODES)}, got {mode!r}; choose one of them.")
    if not 0 <= low < high <= 1:
        raise ValueError(
            f"expected shares 0 <= low < high <= 1, got low={low} and high={high}; exchange or change them."
        )
    if local.ndim != 1 or local.shape != global_.shape:
        raise ValueError(
            f"expected one hardness for each negative in both views, got {list(local.shape)} and {list(global_.shape)}."
        )
    first, last = (int(share * len(local) + 1e-9) for share in (low, high))  # 0.29 * 100 is 28.999999999999996
    score = {"local": local, "global": global_, "sum": local + global_}
    if mode in score:
        kept = Kept(*[score[mode].argsort(stable=True)[first:last]] * 2)
    else:
        kept = Kept(*(values.argsort(stable=True)[first:last] for values in (local, global_)))
        if mode == "both":
            common = kept.local[torch.isin(kept.local, kept.global_)]
            kept = Kept(common, common)
    if len(kept) < 2:
        raise ValueError(
            f"expected at least two negatives to mix, got {len(kept)} of {len(local)} between the shares {low} and "
            f"{high} ({mode}); widen them."
        )
    return kept

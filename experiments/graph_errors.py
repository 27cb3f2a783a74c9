"""Errors of diffusions on graphs against eigenvalues to 40 digits, and of the search of hard negatives in bfloat16."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from mpmath import mp, mpf
from torch import Tensor

from experiments.error_rows import Case, row
from experiments.mask_references import LONG, Array, longdouble
from msda_theory.graph.hardness import hardness
from msda_theory.graph.views import heat, lost_mass, ppr
from msda_theory.streams import stream

TELEPORTS = (1e-8, 1e-4, 0.2, 0.9, 1.0)
TIMES = (0.0, 0.1, 5.0, 300.0)
THRESHOLDS = (0.0, 1e-9, 1e-4, 1e-2)
SHORTEST = 1e-4  # the series takes about 1 / sqrt(teleport) steps for each digit
PUSHED = 0.1  # pushing takes about 1 / teleport rounds for each digit
_UNIT = 2.0**-53


class Small(NamedTuple):
    """A graph by name: nodes, edges [2, E] in both directions."""

    name: str
    nodes: int
    edges: Tensor


def graphs(seed: int, nodes: int) -> list[Small]:
    """One node; a path; a hub with leaves; random edges, some nodes without."""
    ends = stream(seed, "numerical_errors", "graph").integers(0, nodes, (nodes, 2)).tolist()
    pairs = {
        "one node": (1, []),
        "path": (nodes - 1, [(k, k + 1) for k in range(nodes - 2)]),
        "star": (nodes, [(0, k) for k in range(1, nodes)]),
        "random": (nodes + 2, ends),
    }
    found = []
    for name, (n, own) in pairs.items():
        both = sorted({(a, b) for p in own for a, b in (tuple(p), tuple(p)[::-1]) if a != b})
        edges = torch.tensor(both, dtype=torch.int64).reshape(-1, 2).T.contiguous()
        found.append(Small(f"{name} of {n}" if n > 1 else name, n, edges))
    return found


class Spectrum(NamedTuple):
    """Eigenvalues (40 digits) and vectors of the normalised adjacency; degrees with self-loop."""

    values: list[mpf]
    vectors: Array
    degrees: Array

    @classmethod
    def of(cls, graph: Small) -> Spectrum:
        """By mpmath."""
        with mp.workdps(40):
            n, edges = graph.nodes, graph.edges.numpy()
            degrees = np.bincount(edges[0], minlength=n) + 1
            matrix = mp.zeros(n)
            for a, b in [*edges.T.tolist(), *((k, k) for k in range(n))]:
                matrix[a, b] = 1 / mp.sqrt(mpf(int(degrees[a]) * int(degrees[b])))
            values, vectors = mp.eigsy(matrix)
            table = np.array([[longdouble(vectors[j, k]) for k in range(n)] for j in range(n)])
            return cls(list(values), table, degrees.astype(float))

    def ppr(self, teleport: float) -> Array:
        """``a (I - (1-a) T)^{-1}``."""
        with mp.workdps(40):
            a = mpf(teleport)
            f = np.array([longdouble(a / (1 - (1 - a) * v)) for v in self.values])
        return (self.vectors * f) @ self.vectors.T

    def heat(self, time: float) -> Array:
        """``exp(-t (I - T))``."""
        with mp.workdps(40):
            f = np.array([longdouble(mp.exp(-mpf(time) * (1 - v))) for v in self.values])
        return (self.vectors * f) @ self.vectors.T


def rounding(spectrum: Spectrum, teleport: float, threshold: float) -> float:
    """Rounding of an entry when pushing, to first order: ``((d + 3) sqrt(d) / a + K) 2^-53``, d the largest degree.

    A pushed Q is rounded by ``(d + 3) 2^-53 |Q|_2`` in ``Q T``; all that is pushed has ``sum |Q|_2 <= sqrt(d_i) / a``,
    since each push takes the share a of its mass in the weights sqrt(d); S, of norm 1, passes it on. P is rounded in
    each of about ``K = log(threshold) / log(1 - a)`` rounds.
    """
    d = float(spectrum.degrees.max())
    rounds = math.log(threshold) / math.log1p(-teleport) if teleport < 1 else 1.0
    return ((d + 3) * math.sqrt(d) / teleport + rounds + 1) * _UNIT


def rows(seed: int, nodes: int, longest: int) -> list[dict[str, Any]]:
    """One row for each kind of approximation; ``longest``: length of the vectors of the search."""
    known = {g: Spectrum.of(g) for g in graphs(seed, nodes)}
    covered = f"{', '.join(g.name for g in known)}; teleport {{}} to 1, time 0 to {TIMES[-1]:g}"
    digits = "eigenvalues to 40 digits"
    return [
        row("PPR and heat diffusion, dense, float64 (`graph.views`)", reference=digits,
            covered=covered.format(f"{TELEPORTS[0]:g}"), measure="absolute",
            promise="PPR 2 (n + 2) 2^-53 / a; heat (n + 2) (t + 4) 2^-53",
            cases=_dense(known)),
        row("PPR in float32 (`graph.views`)", reference=digits,
            covered=covered.format(f"{TELEPORTS[1]:g}").split(", time")[0],
            measure="relative", promise="computed in float64, then rounded: 2^-24", cases=_single(known)),
        row("Chebyshev series with a threshold (`graph.diffusion`)", reference=digits,
            covered=covered.format(f"{SHORTEST:g}") + f"; thresholds {THRESHOLDS[0]:g} to {THRESHOLDS[-1]:g}",
            measure="absolute, kept entries; for others what they exceed the threshold by",
            promise="threshold / 1000, 1e-12 at least", cases=_series(known)),
        row("PPR by pushing residuals (`graph.diffusion`)", reference=digits,
            covered=covered.format("0.2").split(", time")[0] + "; thresholds 1e-9 to 0.01",
            measure="absolute; S - P, and P - S, which is to be 0 but for rounding",
            promise="threshold * sqrt(min(d_i, d_j)), and for rounding ((d + 3) sqrt(d) / a + K) 2^-53, d the largest "
            "degree, K rounds", cases=_pushed(known)),
        row("Error of a diffusion from its lost mass, Eq. (12e) (`graph.views`)", reference=digits,
            covered=covered.format("0.2").split(", time")[0], measure="absolute, spectral norm of S - P",
            promise="the largest share lost",
            cases=_lost(known)),
        row("Nearest positive searched in bfloat16 (`graph.hardness`)", reference="float64",
            covered=f"vectors of 1 to {longest} numbers, random and nearly parallel",
            measure="absolute, cosine similarity", promise="0.012", cases=_hardness(seed, longest)),
    ]  # fmt: skip


Known = dict[Small, Spectrum]


def _dense(known: Known) -> Iterator[Case]:
    for g, spectrum in known.items():
        for a in TELEPORTS:
            error = np.abs(ppr(g, teleport=a, dtype=torch.float64).numpy() - spectrum.ppr(a)).max()
            yield Case(float(error), 2 * (g.nodes + 2) * _UNIT / a, f"PPR, {g.name}, teleport {a:g}")
        for t in TIMES:
            error = np.abs(heat(g, time=t, dtype=torch.float64).numpy() - spectrum.heat(t)).max()
            yield Case(float(error), (g.nodes + 2) * (t + 4) * _UNIT, f"heat, {g.name}, time {t:g}")


def _single(known: Known) -> Iterator[Case]:
    for g, spectrum in known.items():
        for a in TELEPORTS[1:]:
            truth = spectrum.ppr(a)
            large = truth > 1e-10  # rounding in float64 is small beside these
            error = np.abs(ppr(g, teleport=a).numpy().astype(LONG) - truth)[large] / truth[large]
            yield Case(float(error.max()), 2.0**-24 * (1 + 1e-2), f"PPR, {g.name}, teleport {a:g}")


def _series(known: Known) -> Iterator[Case]:
    for (g, spectrum), threshold in product(known.items(), THRESHOLDS):
        options = {"method": "threshold", "threshold": threshold, "dtype": torch.float64}
        found = {f"PPR, teleport {a:g}": (ppr(g, teleport=a, **options), spectrum.ppr(a))
                 for a in TELEPORTS if a >= SHORTEST}  # fmt: skip
        found |= {f"heat, time {t:g}": (heat(g, time=t, **options), spectrum.heat(t)) for t in TIMES}
        for name, (sparse, truth) in found.items():
            p = sparse.to_dense().numpy()
            error = np.where(p != 0, np.abs(p - truth), np.maximum(truth - threshold, 0)).max()
            yield Case(float(error), max(threshold / 1000, 1e-12), f"{name}, {g.name}, threshold {threshold:g}")


def _pushed(known: Known) -> Iterator[Case]:
    for (g, spectrum), a, threshold in product(known.items(), TELEPORTS, THRESHOLDS[1:]):
        if a < PUSHED:
            continue
        p = ppr(g, teleport=a, method="push", threshold=threshold, dtype=torch.float64).to_dense().numpy()
        less, place = spectrum.ppr(a) - p, f"{g.name}, teleport {a:g}, threshold {threshold:g}"
        bound = threshold * np.sqrt(np.minimum.outer(spectrum.degrees, spectrum.degrees))
        at = np.unravel_index(int((less / bound).argmax()), less.shape)
        lost = rounding(spectrum, a, threshold)
        yield Case(max(float(less[at]), 0.0), float(bound[at]) + lost, place)
        yield Case(max(float(-less.min()), 0.0), lost, f"P - S, {place}")


def _lost(known: Known) -> Iterator[Case]:
    for (g, spectrum), a in product(known.items(), (0.2, 0.9)):
        for method, threshold in (("push", 1e-2), ("push", 1e-4), ("threshold", 1e-2), ("threshold", 1e-4)):
            p = ppr(g, teleport=a, method=method, threshold=threshold, dtype=torch.float64)
            norm = np.linalg.norm((spectrum.ppr(a) - p.to_dense().numpy()).astype(float), 2)
            tail = 0.0 if method == "push" else g.nodes * threshold / 1000  # of the series, in norm
            bound = float(lost_mass(g, p).max()) + tail + g.nodes * rounding(spectrum, a, threshold)
            yield Case(float(norm), bound, f"{method}, {g.name}, teleport {a:g}, threshold {threshold:g}")


def _hardness(seed: int, longest: int) -> Iterator[Case]:
    rng = stream(seed, "numerical_errors", "hardness")
    for length, spread in product(sorted({1, 2, 64, longest}), (1.0, 0.05)):
        base = rng.standard_normal((1, length))
        n, p = (torch.from_numpy(base * (spread < 1) + spread * rng.standard_normal((200, length))) for _ in range(2))
        exact = hardness(n, p).numpy()
        for dtype, rounding in ((torch.float64, 0.0), (torch.float32, 1e-5)):
            found = hardness(n.to(dtype), p.to(dtype), search=torch.bfloat16).double().numpy()
            kind = "random" if spread == 1 else "nearly parallel"
            place = f"{length} numbers, {kind}, {str(dtype).removeprefix('torch.')}"
            yield Case(float(np.abs(exact - found).max()), 0.012 + rounding, place)

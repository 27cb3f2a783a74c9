"""Moments of mask laws at a few pixels by enumeration in 80-bit arithmetic; integrals over lam to 40 digits by mpmath.

Shares no code with the package. Boxes are enumerated position by position, sides from exact fractions; bumps are
integrated over log s by Gauss-Legendre panels; the curve S(r) of thresholded Gaussians by Owen's integral.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import ceil, isqrt, log, pi
from typing import NamedTuple

import numpy as np
from mpmath import mp, mpf

Array = np.ndarray
Shape = tuple[int, int]
LONG = np.longdouble
_DIGITS = 40
_T = np.arange(-1300, 1301).astype(LONG) / 100  # grid in t = Phi^-1(lam); beyond it exp(-t^2 / 2) is below 1e-36


class Truth(NamedTuple):
    """``qbar`` [n] and ``a`` [n, n] at n pixels."""

    mean: Array
    second: Array


def pixels_of(shape: Shape, most: int = 9) -> Array:
    """Corners, middles of sides, the centre and the pixel beside it [n, 2], each once; the first ``most`` of them."""
    rows, columns = ((0, n - 1, n // 2, (n - 1) // 2) for n in shape)
    found = [*zip(rows, columns, strict=True), (0, columns[1]), (0, columns[2]), (rows[2], 0), (rows[1], 0)]
    inner = (min(1, shape[0] - 1), shape[1] // 3)
    return np.array(list(dict.fromkeys([*found, inner]))[:most])


def longdouble(x: object) -> np.longdouble:
    """A number of mpmath, or a fraction, in 80 bits: two doubles."""
    if isinstance(x, Fraction):
        x = mpf(x.numerator) / x.denominator
    high = float(x)  # type: ignore[arg-type]
    return LONG(high) + LONG(float(x - high))  # type: ignore[operator]


@cache
def below(alpha: float, x: Fraction, powers: int) -> tuple[mpf, ...]:
    """``E[lam^p ; lam < x]`` for p = 0 .. powers, lam ~ Beta(alpha, alpha), by a continued recursion in p."""
    with mp.workdps(_DIGITS):
        a, at = mpf(alpha), mpf(x.numerator) / x.denominator
        share = mpf(0) if x <= 0 else mpf(1) if x >= 1 else mp.betainc(a, a, 0, at, regularized=True)
        found, factor, norm = [share], mpf(1), mp.beta(a, a)
        for p in range(powers):
            inside = 0 < x < 1
            # I_x(a + p + 1, a) = I_x(a + p, a) - x^(a+p) (1-x)^a / ((a + p) B(a + p, a))
            share -= at ** (a + p) * (1 - at) ** a / ((a + p) * norm) if inside else 0
            norm *= (a + p) / (2 * a + p)
            factor *= (a + p) / (2 * a + p)
            found.append(factor * share)
        return tuple(found)


def intervals(shape: Shape, ratio: float) -> list[tuple[Fraction, Fraction, tuple[int, int]]]:
    """Where the half sides of a box of area ``(1 - lam) ratio`` are constant: ends in lam, half sides."""
    share = Fraction(ratio)
    inner = {1 - Fraction(2 * k, n) ** 2 / share for n in shape for k in range(1, n // 2 + 1)} if share else set()
    edges = sorted({Fraction(0), Fraction(1), *(e for e in inner if 0 < e < 1)})
    found = []
    for low, high in pairwise(edges):
        area = (1 - (low + high) / 2) * share
        halves = [isqrt(n * n * area.numerator // area.denominator) // 2 for n in shape]
        found.append((low, high, (halves[0], halves[1])))
    return found


@cache
def _axis(half: int, length: int, box: str) -> Array:
    """Whether each position [P] of a box covers each pixel of an axis [P, L]."""
    if box == "inside":
        starts = range(length - 2 * half + 1)
        return np.array([[s <= j < s + 2 * half for j in range(length)] for s in starts])
    away = np.arange(length)[None, :] - np.arange(length)[:, None]  # from the centre
    turns = (-length, 0, length) if box == "periodic" else (0,)
    return np.any([(away + t >= -half) & (away + t < half) for t in turns], axis=0)


def boxes(
    shape: Shape, pixels: Array, ratio: float, box: str, power: int
) -> list[tuple[Fraction, Fraction, dict[str, Array]]]:
    """Averages over all positions of each size: for CutMix (``power`` 0) of B and the share S, for HMix of ``rho O``.

    Keys: ``one`` [n], ``two`` [n, n]; for CutMix also ``share``, ``share_one`` and ``share_two``.
    """
    found = []
    for low, high, halves in intervals(shape, ratio):
        hit = [_axis(k, n, box) for k, n in zip(halves, shape, strict=True)]
        share = np.multiply.outer(*(h.sum(axis=1) for h in hit)) / LONG(shape[0] * shape[1])
        inside = np.stack([np.multiply.outer(hit[0][:, r], hit[1][:, c]) for r, c in pixels], axis=-1).astype(LONG)
        values = inside if power == 0 else (1 - inside) / (1 - share)[..., None]
        flat, s = values.reshape(-1, len(pixels)), share.reshape(-1)
        mean = {"one": flat.mean(axis=0), "two": flat.T @ flat / len(flat)}
        if power == 0:
            mean |= {"share": s.mean(), "share_one": s @ flat / len(s), "share_two": (flat.T * s) @ flat / len(s)}
        found.append((low, high, mean))
    return found


def _between(alpha: float, low: Fraction, high: Fraction, powers: int) -> Array:
    """``E[lam^p ; low < lam < high]``, p = 0 .. powers."""
    ends = below(alpha, low, powers), below(alpha, high, powers)
    with mp.workdps(_DIGITS):
        return np.array([longdouble(b - a) for a, b in zip(*ends, strict=True)])


def cutmix(alpha: float, law: str, label: str, averages: list[tuple[Fraction, Fraction, dict[str, Array]]]) -> Truth:
    """CutMix from `boxes` with ``power`` 0, by Eq. (2) of docs/theory.md term by term."""
    mean, second = LONG(0), LONG(0)
    for low, high, b in averages:
        p, first = _between(alpha, low, high, 1)
        if law == "paper":
            mean, second = mean + 2 * first * b["one"], second + 2 * first * b["two"]
            continue
        neither = 1 - b["one"][:, None] - b["one"][None, :] + b["two"]  # E (1 - B_j)(1 - B_k)
        if label == "nominal":
            mean = mean + first * b["one"] + (p - first) * (1 - b["one"])
            second = second + first * b["two"] + (p - first) * neither
            continue
        s, s1, s2 = b["share"], b["share_one"], b["share_two"]
        mean = mean + p * (b["one"] - s1 + s - s1)
        second = second + p * (b["two"] - s2 + s - s1[:, None] - s1[None, :] + s2)
    return Truth(np.asarray(mean), np.asarray(second))


def hmix(alpha: float, law: str, averages: list[tuple[Fraction, Fraction, dict[str, Array]]]) -> Truth:
    """HMix (and at ratio 0 Mixup) from `boxes` with ``power`` 1: the mask is lam times what is averaged there."""
    mean, second = LONG(0), LONG(0)
    for low, high, r in averages:
        _, one, two, three = _between(alpha, low, high, 3)
        if law == "paper":  # weight 2 lam
            mean = mean + 2 * one - 2 * two * r["one"]
            both = 2 * one - 2 * two * (r["one"][:, None] + r["one"][None, :]) + 2 * three * r["two"]
        else:
            mean = mean + one - two * r["one"] + (one - two) * r["one"]
            taken = one - two * (r["one"][:, None] + r["one"][None, :]) + three * r["two"]
            both = taken + (two - three) * r["two"]
        second = second + both
    return Truth(np.asarray(mean), np.asarray(second))


class Bumps(NamedTuple):
    """Averages over all centres at nodes s [S]: E g [S, n], E gg' [S, n, n], E m [S], E mg [S, n], m the mean of g."""

    s: Array
    width: Array
    low: Fraction
    one: Array
    two: Array
    m: Array
    m_one: Array


def bumps(shape: Shape, pixels: Array) -> Bumps:
    """Nodes in log s from where g is its centre pixel to 1e-26, up to 1/2; the last entry of averages is that limit."""
    d = shape[0] * shape[1]
    low = Fraction(pi / (60 * d))
    count = ceil((log(0.5) - log(low)) / 0.06)
    t, w = np.polynomial.legendre.leggauss(16)
    edges = np.linspace(LONG(log(low)), np.log(LONG(0.5)), count + 1)
    edges[0] = np.log(longdouble(low))
    half = np.diff(edges)[:, None] / 2
    s = np.exp(edges[:-1, None] + half * (1 + t)).ravel()
    width = (half * w).ravel() * s
    axes = []
    for n, column in zip(shape, pixels.T, strict=True):
        squared = np.subtract.outer(np.arange(n), np.arange(n)).astype(LONG) ** 2
        parts = []
        for some in np.array_split(np.append(s, LONG(0)), 1 + n * n * len(s) // 2**24):
            with np.errstate(divide="ignore", invalid="ignore"):
                g = np.exp(-LONG(mp.pi) * squared / (some * d)[:, None, None])  # [S, centre, pixel]
            g[some == 0] = squared == 0  # the limit
            at, m = g[:, :, column], g.mean(axis=2)
            pairs = np.einsum("scj,sck->sjk", at, at) / n
            parts.append((at.mean(axis=1), pairs, m.mean(axis=1), (m[..., None] * at).mean(axis=1)))
        axes.append([np.concatenate(p) for p in zip(*parts, strict=True)])
    one, two, m, m_one = (a * b for a, b in zip(*axes, strict=True))
    return Bumps(s, width, low, one, two, m, m_one)


def gmix(alpha: float, law: str, label: str, b: Bumps) -> Truth:
    """GMix: lam = s and lam = 1 - s alike, below `Bumps.low` the limit of g with exact weights."""
    with mp.workdps(_DIGITS):
        norm = longdouble(mp.log(mp.beta(alpha, alpha)))
        zero, first = (longdouble(v) for v in below(alpha, b.low, 1))
    p = np.append(b.width * np.exp((LONG(alpha) - 1) * (np.log(b.s) + np.log1p(-b.s)) - norm), zero)
    ps = np.append(p[:-1] * b.s, first)  # p s
    one, two = b.one[:, :, None], b.two
    neither = 1 - one - b.one[:, None, :] + two
    if law == "paper":  # weight 2 lam
        return Truth(
            2 * ps @ (1 - b.one) + 2 * (p - ps) @ b.one,
            np.tensordot(2 * ps, neither, axes=1) + np.tensordot(2 * (p - ps), two, axes=1),
        )
    # lam = s: label l takes 1 - g, else g; lam = 1 - s: label 1 - l takes g, else 1 - g: the same once more
    if label == "nominal":
        mean = 2 * (ps @ (1 - b.one) + (p - ps) @ b.one)
        return Truth(mean, 2 * (np.tensordot(ps, neither, axes=1) + np.tensordot(p - ps, two, axes=1)))
    m, m_one = b.m[:, None], b.m_one
    both = m[:, :, None] - m_one[:, :, None] - m_one[:, None, :] + two  # m (1-g)(1-g') + (1-m) g g'
    return Truth(2 * p @ (m - m_one + b.one - m_one), 2 * np.tensordot(p, both, axes=1))


@cache
def _density(alpha: float) -> Array:
    """Density of ``t = Phi^-1(lam)`` on the grid `_T`, times its step."""
    with mp.workdps(25):
        a, norm = mpf(alpha), mp.log(mp.beta(alpha, alpha))
        half = []
        for k in range(1301):
            t = mpf(k) / 100
            tails = mp.log(mp.ncdf(-t)) + mp.log(1 - mp.ncdf(-t))
            half.append(longdouble(mp.npdf(t) * mp.exp((a - 1) * tails - norm) / 100))
    return np.array([*half[:0:-1], *half])


def orthant(alpha: float, deficits: Array) -> Array:
    """``S = E[Phi_2(t, t; 1 - x)]`` for deficits x in [0, 2], by Owen's integral.

    ``S = 1/2 - 1/pi int_0^v E exp(-t^2 / (2 cos^2 u)) du``, ``tan v = sqrt(x / (2 - x))``. The grid in t is fine enough
    up to x = 1.999; at 2, S = ``E max(0, 2 lam - 1)``.
    """
    assert not ((np.asarray(deficits) > 1.999) & (np.asarray(deficits) < 2)).any()
    nodes, weights = np.polynomial.legendre.leggauss(64)
    density, found = _density(alpha), []
    for x in np.asarray(deficits, dtype=LONG).ravel():
        if x == 2:
            with mp.workdps(_DIGITS):
                found.append(longdouble(1 / (mpf(alpha) * mp.beta(alpha, alpha) * mpf(4) ** mpf(alpha))))
            continue
        v = 2 * np.arcsin(np.sqrt(x / 2)) / 2  # cos 2v = 1 - x
        u = v * (nodes + 1) / 2
        inner = np.exp(-(_T**2) / (2 * np.cos(u) ** 2)[:, None]) @ density
        found.append(LONG(0.5) - v * (weights @ inner) / 2 / LONG(mp.pi))
    return np.array(found).reshape(np.shape(deficits))


def wrapped_deficit(length: float, n: int, p: int) -> mpf:
    """``1 - r(p)``, r the Gaussian of this length summed over turns of n pixels over its value at 0; 100 digits."""
    with mp.workdps(100):
        scale = mpf(length)
        if p % n == 0 or length == 0:
            return mpf(p % n != 0)
        if length < n:
            total = {
                q: sum((mp.exp(-(mpf(q + k * n) ** 2) / (2 * scale**2)) for k in range(-25, 26)), mpf(0))
                for q in (0, p)
            }
            return 1 - total[p] / total[0]
        c = [mp.exp(-2 * (mp.pi * k * scale / n) ** 2) for k in range(1, 12)]
        below_one = sum((ck * 2 * mp.sin(mp.pi * k * p / n) ** 2 for k, ck in enumerate(c, 1)), mpf(0))
        return 2 * below_one / (1 + 2 * sum(c, mpf(0)))

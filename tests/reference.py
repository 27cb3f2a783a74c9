"""Naive mask laws and moments, written from the definitions; shares no code with the package.

Every law is enumerated for a given lam by loops over integer centres, and integrated over lam by brute-force
Gauss-Legendre panels between the values of lam at which a box changes its size. Slow, and meant for 3x3 to 4x5 images.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy import special

Shape = tuple[int, int]
Outcome = tuple[np.ndarray, float, float]  # mask M [H, W], label weight, probability given lam

TAIL = 1e-14  # every integrand is constant in lam to this accuracy within TAIL of 0 and 1


# --- laws given lam -----------------------------------------------------------------------------------------


def side_length(lam: float, length: int, ratio: float) -> int:
    """Integer side of the box along an axis of ``length`` pixels."""
    return math.floor(length * math.sqrt((1 - lam) * ratio))


@functools.cache
def covered_pixels(length: int, side: int, box: str) -> list[tuple[list[int], float]]:
    """All positions of a box along one axis: covered pixels (end excluded) and the probability of the position."""
    half = side // 2
    if box == "inside":
        starts = [s for s in range(length) if s + 2 * half <= length]
        if half == 0:
            starts = [0]  # an empty box has one position
        return [(list(range(s, s + 2 * half)), 1 / len(starts)) for s in starts]
    positions = []
    for c in range(length):
        pixels = range(c - half, c + half)
        if box == "periodic":
            kept = [p % length for p in pixels]
        elif box == "clipped":
            kept = [p for p in pixels if 0 <= p < length]
        else:
            raise AssertionError(box)
        positions.append((kept, 1 / length))
    return positions


@functools.cache
def boxes(shape: Shape, sides: tuple[int, int], box: str) -> list[tuple[np.ndarray, float]]:
    """Indicators [H, W] of the box at every position, with probabilities."""
    result = []
    for rows, p in covered_pixels(shape[0], sides[0], box):
        for columns, q in covered_pixels(shape[1], sides[1], box):
            indicator = np.zeros(shape)
            for r in rows:
                for c in columns:
                    indicator[r, c] = 1.0
            result.append((indicator, p * q))
    return result


def vanilla(lam: float, shape: Shape) -> list[Outcome]:
    return [(np.ones(shape), 1.0, 1.0)]


def mixup(lam: float, shape: Shape) -> list[Outcome]:
    return [(np.full(shape, lam), lam, 1.0)]


def cutmix(lam: float, shape: Shape, box: str = "clipped", label: str = "pixels") -> list[Outcome]:
    sides = (side_length(lam, shape[0], 1.0), side_length(lam, shape[1], 1.0))
    outcomes = []
    for indicator, p in boxes(shape, sides, box):
        mask = 1.0 - indicator
        outcomes.append((mask, float(mask.mean()) if label == "pixels" else lam, p))
    return outcomes


def hmix(lam: float, shape: Shape, ratio: float = 0.5, box: str = "clipped") -> list[Outcome]:
    sides = (side_length(lam, shape[0], ratio), side_length(lam, shape[1], ratio))
    outcomes = []
    for indicator, p in boxes(shape, sides, box):
        outside = lam / (1 - indicator.sum() / (shape[0] * shape[1]))
        outcomes.append((np.where(indicator == 1.0, 0.0, outside), lam, p))
    return outcomes


def gmix(lam: float, shape: Shape, label: str = "pixels") -> list[Outcome]:
    h, w = shape
    s = min(lam, 1 - lam)
    outcomes = []
    for row in range(h):
        for column in range(w):
            g = np.zeros(shape)
            for r in range(h):
                for c in range(w):
                    g[r, c] = math.exp(-math.pi * ((r - row) ** 2 + (c - column) ** 2) / (s * h * w))
            mask = g if lam < 0.5 else 1 - g
            outcomes.append((mask, float(mask.mean()) if label == "pixels" else lam, 1 / (h * w)))
    return outcomes


GIVEN_LAM = {"vanilla": vanilla, "mixup": mixup, "cutmix": cutmix, "hmix": hmix, "gmix": gmix}


# --- integration over lam -----------------------------------------------------------------------------------


def breakpoints(kind: str, shape: Shape, ratio: float = 0.5) -> list[float]:
    """Values of lam at which an integer side of the box changes, or the definition does."""
    if kind == "gmix":
        return [0.5]
    if kind not in ("cutmix", "hmix"):
        return []
    share = 1.0 if kind == "cutmix" else ratio
    return [1 - (k / n) ** 2 / share for n in shape for k in range(1, n + 1) if (k / n) ** 2 < share]


def beta_rule(a: float, b: float, breaks: list[float], order: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for lam ~ Beta(a, b): Gauss-Legendre on panels, in log lam near 0 and log(1 - lam) near 1.

    The mass within TAIL of an end comes from the incomplete beta function and sits on one node there.
    """
    t, weight = np.polynomial.legendre.leggauss(order)
    log_norm = special.betaln(a, b)

    def panels(cuts: list[float]) -> tuple[np.ndarray, np.ndarray]:
        low, high = np.array(cuts[:-1])[:, None], np.array(cuts[1:])[:, None]
        return (low + (high - low) * (t + 1) / 2).ravel(), ((high - low) / 2 * weight).ravel()

    def log_density(lam: np.ndarray, rest: np.ndarray) -> np.ndarray:
        return (a - 1) * np.log(lam) + (b - 1) * np.log(rest) - log_norm

    edge = 0.05
    logs = list(np.linspace(math.log(TAIL), math.log(edge), 20))
    inner, w_inner = panels(sorted([*np.linspace(edge, 1 - edge, 19), *(x for x in breaks if edge < x < 1 - edge)]))
    low, w_low = panels(sorted([*logs, *(math.log(x) for x in breaks if TAIL < x < edge)]))
    top, w_top = panels(sorted([*logs, *(math.log1p(-x) for x in breaks if TAIL < 1 - x < edge)]))
    low, top = np.exp(low), np.exp(top)
    nodes = [np.array([TAIL]), low, inner, 1 - top, np.array([1 - TAIL])]
    weights = [
        np.array([special.betainc(a, b, TAIL)]),
        w_low * low * np.exp(log_density(low, 1 - low)),
        w_inner * np.exp(log_density(inner, 1 - inner)),
        w_top * top * np.exp(log_density(1 - top, top)),
        np.array([special.betainc(b, a, TAIL)]),
    ]
    return np.concatenate(nodes), np.concatenate(weights)


# --- moments ------------------------------------------------------------------------------------------------


@functools.cache
def moments(
    kind: str, shape: Shape, law: str, *, alpha: float = 1.0, order: int = 12, **options: object
) -> tuple[np.ndarray, np.ndarray]:
    """``qbar`` [H, W] and ``A`` [d, d]: Eq. (2) for "exact"; lam ~ Beta(alpha + 1, alpha) and q = 1 - M for "paper".

    A "choice" has ``members=((probability, kind, ((option, value), ...)), ...)``.
    """
    d = shape[0] * shape[1]
    mean, second = np.zeros(d), np.zeros((d, d))
    if kind == "choice":
        for probability, member, member_options in options["members"]:
            part_mean, part_second = moments(member, shape, law, order=order, **dict(member_options))
            mean += probability * part_mean.ravel()
            second += probability * part_second
        return mean.reshape(shape), second
    breaks = breakpoints(kind, shape, options.get("ratio", 0.5))
    nodes, weights = beta_rule(alpha + (law == "paper"), alpha, breaks, order)
    taken, probabilities = [], []
    for lam, weight in zip(nodes, weights, strict=True):
        if weight < 1e-30:
            continue
        for mask, label, probability in GIVEN_LAM[kind](float(lam), shape, **options):
            if law == "paper":
                taken.append(1 - mask.ravel())
                probabilities.append(weight * probability)
            else:
                taken.append(1 - mask.ravel())
                probabilities.append(weight * probability * label)
                taken.append(mask.ravel())
                probabilities.append(weight * probability * (1 - label))
    q, p = np.array(taken), np.array(probabilities)
    return (p @ q).reshape(shape), q.T @ (p[:, None] * q)


# --- a few pixels of a large image --------------------------------------------------------------------------


def masks_at(kind: str, lam: float, shape: Shape, pixels: np.ndarray, ratio: float = 0.5) -> tuple[np.ndarray, ...]:
    """M at ``pixels`` [n, 2] for every centre [H W, n], and the label weight of each; clipped boxes, pixel labels."""
    centres = np.indices(shape).reshape(2, -1)
    if kind == "gmix":
        s = min(lam, 1 - lam)
        squared = ((pixels.T[:, None, :] - centres[:, :, None]) ** 2).sum(axis=0)
        axes = [
            np.exp(-math.pi * np.subtract.outer(np.arange(n), np.arange(n)) ** 2 / (s * shape[0] * shape[1]))
            for n in shape
        ]
        mean = np.outer(axes[0].mean(axis=1), axes[1].mean(axis=1)).ravel()
        g = np.exp(-math.pi * squared / (s * shape[0] * shape[1]))
        return (g, mean) if lam < 0.5 else (1 - g, 1 - mean)
    inside, count = np.ones((centres.shape[1], len(pixels)), dtype=bool), np.ones(centres.shape[1])
    for axis, n in enumerate(shape):
        half = side_length(lam, n, ratio if kind == "hmix" else 1.0) // 2
        low, high = np.maximum(centres[axis] - half, 0), np.minimum(centres[axis] + half, n)
        inside &= (pixels[:, axis] >= low[:, None]) & (pixels[:, axis] < high[:, None])
        count *= high - low
    kept = 1 - count / (shape[0] * shape[1])
    if kind == "cutmix":
        return 1.0 - inside, kept
    return np.where(inside, 0.0, (lam / kept)[:, None]), np.full(len(kept), lam)


def moments_at(kind: str, shape: Shape, law: str, pixels: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """``qbar`` [n] and ``a`` [n, n] at a few pixels for alpha = 1, over every centre; any image size."""
    if kind == "gmix":
        nodes, weights = beta_rule(1.0 + (law == "paper"), 1.0, [0.5], order)
    else:  # polynomials in lam between the steps of the sides; the density is 1, or 2 lam
        t, weight = np.polynomial.legendre.leggauss(order)
        steps = np.unique([0.0, 1.0, *breakpoints(kind, shape)])
        low, width = steps[:-1, None], np.diff(steps)[:, None]
        nodes, weights = (low + width * (t + 1) / 2).ravel(), (width * weight / 2).ravel()
        weights = weights * 2 * nodes if law == "paper" else weights
    mean, second = np.zeros(len(pixels)), np.zeros((len(pixels), len(pixels)))
    for lam, weight in zip(nodes, weights, strict=True):
        mask, label = masks_at(kind, float(lam), shape, pixels)
        for q, p in ((1 - mask, np.ones_like(label)),) if law == "paper" else ((1 - mask, label), (mask, 1 - label)):
            mean += weight * (p @ q) / len(q)
            second += weight * (q.T * p) @ q / len(q)
    return mean, second


# --- Gaussian fields ----------------------------------------------------------------------------------------


def both_below(t: np.ndarray, r: float) -> np.ndarray:
    """``Phi_2(t, t; r)``, by Owen's T function."""
    if r >= 1:
        return special.ndtr(t)
    if r <= -1:
        return np.maximum(0.0, 2 * special.ndtr(t) - 1)
    return special.ndtr(t) - 2 * special.owens_t(t, math.sqrt((1 - r) / (1 + r)))


def soft_product(t: float, variance: float, covariance: float) -> float:
    """``E M_j M_k`` from the definition ``M = Phi((t - V) / sqrt(1 - variance))``, by a sum over a grid of V."""
    e = np.arange(-9, 9.05, 0.1)
    first = math.sqrt(variance) * e[:, None]
    second = covariance / variance * first + math.sqrt(max(variance - covariance**2 / variance, 0.0)) * e[None, :]
    weight = 0.1**2 * np.exp(-(e[:, None] ** 2 + e[None, :] ** 2) / 2) / (2 * math.pi)
    m = [special.ndtr((t - v) / math.sqrt(1 - variance)) for v in (first, second)]
    return float((weight * m[0] * m[1]).sum())


def field_covariance(shape: Shape, torus: Shape, length: float, sharpness: float) -> np.ndarray:
    """r_jk [d, d] of a Gaussian correlation, summed over 41 x 41 turns of the torus."""
    d = shape[0] * shape[1]
    turns = [n * np.arange(-20, 21) for n in torus]

    def total(py: int, px: int) -> float:
        squared = (py + turns[0])[:, None] ** 2 + (px + turns[1])[None, :] ** 2
        return float(np.exp(-squared / (2 * length**2)).sum())

    r = np.zeros((d, d))
    for j in range(d):
        for k in range(d):
            r[j, k] = sharpness * total(k // shape[1] - j // shape[1], k % shape[1] - j % shape[1]) / total(0, 0)
    return r


def field_moments(
    r: np.ndarray, shape: Shape, law: str, alpha: float, label: str = "nominal"
) -> tuple[np.ndarray, np.ndarray]:
    """``qbar`` [H, W] and ``A`` [d, d] of a field with covariances ``r`` [d, d]: Eq. (2), pair by pair."""
    lam, weight = beta_rule(alpha + (law == "paper"), alpha, [])
    t, d = special.ndtri(lam), len(r)
    known: dict[float, np.ndarray] = {}
    for value in r.ravel():
        key = round(float(value), 13)
        if key not in known:
            known[key] = both_below(t, key)
    both = [[known[round(float(r[j, k]), 13)] for k in range(d)] for j in range(d)]  # E[M_j M_k | lam]
    mean, second = np.zeros(d), np.zeros((d, d))
    with_label = [sum(both[j][k] for k in range(d)) / d for j in range(d)]  # E[w M_j | lam] for w the mean of M
    for j in range(d):
        if law == "paper":
            mean[j] = weight @ (1 - lam)
        elif label == "nominal":
            mean[j] = weight @ (2 * lam * (1 - lam))
        else:
            mean[j] = weight @ (2 * lam - 2 * with_label[j])
        for k in range(d):
            if law == "paper":
                value = 1 - 2 * lam + both[j][k]
            elif label == "nominal":
                value = lam * (1 - 2 * lam + both[j][k]) + (1 - lam) * both[j][k]
            else:
                value = lam - with_label[j] - with_label[k] + both[j][k]
            second[j, k] = weight @ value
    return mean.reshape(shape), second


def equicorrelated_patterns(shape: Shape, c: float, alpha: float) -> list[tuple[np.ndarray, float, float]]:
    """Every mask of 0 and 1 with its probability and its mean lam: pixels ``1{sqrt(c) U + sqrt(1 - c) E_j <= t}``.

    Given lam and U the pixels are independent.
    """
    d = shape[0] * shape[1]
    lam, weight = beta_rule(alpha, alpha, [])
    u = np.arange(-10, 10.05, 0.1)
    density = 0.1 * np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
    one = special.ndtr((special.ndtri(lam)[:, None] - math.sqrt(c) * u) / math.sqrt(1 - c))
    of_count = [(one**k * (1 - one) ** (d - k)) @ density for k in range(d + 1)]
    outcomes = []
    for code in range(2**d):
        mask = np.array([float(code >> j & 1) for j in range(d)]).reshape(shape)
        given = of_count[int(mask.sum())]
        p = float(weight @ given)
        outcomes.append((mask, p, float(weight @ (lam * given)) / p))
    return outcomes


# --- second moments as matrices -----------------------------------------------------------------------------


def displacement_means(matrix: np.ndarray, shape: Shape) -> np.ndarray:
    """Mean of a_jk over the pixel pairs with displacement k - j, [2H-1, 2W-1], zero displacement in the middle."""
    h, w = shape
    total, count = np.zeros((2 * h - 1, 2 * w - 1)), np.zeros((2 * h - 1, 2 * w - 1))
    for j in range(h * w):
        for k in range(h * w):
            py, px = k // w - j // w, k % w - j % w
            total[h - 1 + py, w - 1 + px] += matrix[j, k]
            count[h - 1 + py, w - 1 + px] += 1
    return total / count


def quadratic(matrix: np.ndarray, u: np.ndarray) -> float:
    """u^T A u for one map u [H, W]."""
    flat, total = u.ravel(), 0.0
    for j in range(len(flat)):
        for k in range(len(flat)):
            total += flat[j] * matrix[j, k] * flat[k]
    return total


def apply(matrix: np.ndarray, u: np.ndarray) -> np.ndarray:
    """A u for one map u [H, W]."""
    flat = u.ravel()
    return np.array([sum(matrix[j, k] * flat[k] for k in range(len(flat))) for j in range(len(flat))]).reshape(u.shape)

"""Naive reference for the expansion: loops over images, partners and mask atoms; imports nothing from the package.

Mask laws come in as plain arrays of atoms: masks M [N, H, W], label weights [N], probabilities [N]. Also here: small
networks, random images and the z test of an estimate, which the tests of the expansion share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import jaxtyping
import numpy as np
import torch
from scipy import special, stats
from torch import Tensor, nn

SampleLoss = Callable[[Tensor, Tensor], Tensor]  # l(f [c], y [c]) -> scalar
Law = list[tuple[np.ndarray, float]]  # q [H, W] and its probability


# --- networks and images --------------------------------------------------------------------------------------------


def images(
    m: int, channels: int, shape: tuple[int, int], classes: int, seed: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Correlated images [m, C, H, W] of mean far from 0, and labels that use every class."""
    rng = np.random.default_rng([seed, m, channels, *shape])
    size = channels * shape[0] * shape[1]
    x = 0.4 + rng.normal(size=(m, size)) @ (0.3 * np.eye(size) + 0.4 * rng.normal(size=(size, size)) / math.sqrt(size))
    y = rng.permutation(np.arange(m) % classes)
    return torch.tensor(x.reshape(m, channels, *shape), dtype=dtype), torch.tensor(y)


def randomize(model: nn.Module, seed: int, gain: float = 1.0) -> nn.Module:
    """Weights N(0, gain^2 / fan-in), biases N(0, 0.3^2) and running statistics from ``seed``; float64, eval mode."""
    rng = np.random.default_rng(seed)
    model = model.double().eval()
    with torch.no_grad():
        for p in model.parameters():
            scale = gain / math.sqrt(p[0].numel()) if p.ndim > 1 else 0.3
            p.copy_(torch.from_numpy(rng.normal(scale=scale, size=p.shape)))
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(torch.from_numpy(rng.normal(scale=0.3, size=b.shape)))
            if name.endswith("running_var"):
                b.copy_(torch.from_numpy(rng.uniform(0.5, 2.0, size=b.shape)))
    return model


def network(
    channels: int,
    shape: tuple[int, int],
    outputs: int,
    *,
    activation: type[nn.Module] = nn.Tanh,
    hidden: int = 6,
    seed: int = 0,
    gain: float = 2.0,
) -> nn.Module:
    """Two-layer network on flattened images."""
    size = channels * shape[0] * shape[1]
    layers = nn.Sequential(nn.Flatten(), nn.Linear(size, hidden), activation(), nn.Linear(hidden, outputs))
    return randomize(layers, seed, gain)


def linear(channels: int, shape: tuple[int, int], outputs: int, seed: int = 0) -> nn.Module:
    """Affine model on flattened images."""
    return randomize(nn.Sequential(nn.Flatten(), nn.Linear(channels * shape[0] * shape[1], outputs)), seed, 2.0)


# --- losses of one sample -------------------------------------------------------------------------------------------


def softmax_loss(f: Tensor, y: Tensor) -> Tensor:
    return torch.log(torch.exp(f).sum()) - (y * f).sum()


def squared_loss(f: Tensor, y: Tensor) -> Tensor:
    return (f * f).sum() / 2 - (y * f).sum()


def logistic_loss(f: Tensor, y: Tensor) -> Tensor:
    return (torch.log(1 + torch.exp(f)) - y * f).sum()


def one_hot(y: Tensor, classes: int) -> Tensor:
    rows = torch.zeros(len(y), classes, dtype=torch.float64)
    for i, label in enumerate(y.tolist()):
        rows[i, label] = 1.0
    return rows


# --- laws of q ------------------------------------------------------------------------------------------------------


def one_sided(masks: np.ndarray, lam: np.ndarray, weights: np.ndarray) -> Law:
    """q = 1 - M with probability lam, M otherwise."""
    law: Law = []
    for mask, label, weight in zip(masks, lam, weights, strict=True):
        law.append((1 - mask, float(weight * label)))
        law.append((mask, float(weight * (1 - label))))
    return merged(law)


def merged(law: Law) -> Law:
    """Equal masks once, atoms of no weight not at all."""
    weights: dict[bytes, float] = {}
    masks: dict[bytes, np.ndarray] = {}
    for q, p in law:
        key = np.ascontiguousarray(q + 0.0).tobytes()
        weights[key] = weights.get(key, 0.0) + p
        masks[key] = q
    return [(masks[key], p) for key, p in weights.items() if p > 0]


def paper_law(masks: np.ndarray, nominal: np.ndarray, weights: np.ndarray) -> Law:
    """q = 1 - M under the density 2 lam against the law of the nominal weight."""
    return merged([(1 - mask, float(2 * lam * w)) for mask, lam, w in zip(masks, nominal, weights, strict=True)])


def cutmix_atoms(shape: tuple[int, int], alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every clipped box of CutMix: masks [N, H, W], pixel shares [N], mean nominal lam [N], probabilities [N].

    The integer sides are constant between the values of lam at which ``L sqrt(1 - lam)`` is an integer.
    """
    h, w = shape
    breaks = sorted({0.0, 1.0, *(1 - (k / n) ** 2 for n in shape for k in range(1, n))})
    masks, labels, nominal, weights = [], [], [], []
    for low, high in pairwise(breaks):
        middle = (low + high) / 2
        half = [math.floor(n * math.sqrt(1 - middle)) // 2 for n in shape]
        mass = special.betainc(alpha, alpha, high) - special.betainc(alpha, alpha, low)
        first = (special.betainc(alpha + 1, alpha, high) - special.betainc(alpha + 1, alpha, low)) / 2
        for row in range(h):
            for column in range(w):
                mask = np.ones(shape)
                for r in range(max(0, row - half[0]), min(h, row + half[0])):
                    for c in range(max(0, column - half[1]), min(w, column + half[1])):
                        mask[r, c] = 0.0
                masks.append(mask)
                labels.append(mask.sum() / (h * w))
                nominal.append(first / mass)
                weights.append(mass / (h * w))
    return np.array(masks), np.array(labels), np.array(nominal), np.array(weights)


# --- mixed losses by enumeration ------------------------------------------------------------------------------------


def _losses(model: nn.Module, loss: SampleLoss, x: Tensor, y: Tensor) -> list[float]:
    with torch.no_grad():
        return [float(loss(f, label)) for f, label in zip(model(x), y, strict=True)]


def mix_directly(
    model: nn.Module,
    loss: SampleLoss,
    x: Tensor,
    y: Tensor,
    masks: np.ndarray,
    lam: np.ndarray,
    weights: np.ndarray,
) -> float:
    """``sum over ordered pairs and atoms of l(f(M x_i + (1-M) x_j), lam y_i + (1-lam) y_j)``, y [m, c] targets."""
    total, mask, label = [], torch.from_numpy(masks)[:, None], torch.from_numpy(lam)[:, None]
    for i in range(len(x)):
        for j in range(len(x)):
            mixed = mask * x[i] + (1 - mask) * x[j]
            target = label * y[i] + (1 - label) * y[j]
            values = _losses(model, loss, mixed, target)
            total += [float(w) * v for w, v in zip(weights, values, strict=True)]
    return math.fsum(total) / len(x) ** 2


def mix_one_sided(model: nn.Module, loss: SampleLoss, x: Tensor, y: Tensor, law: Law, t: float = 1.0) -> float:
    """``sum over i, partners r and atoms q of l(f(x_i + t q (r - x_i)), y_i)``."""
    total = []
    q = torch.from_numpy(np.array([a for a, _ in law]))[:, None]
    for i in range(len(x)):
        for r in range(len(x)):
            values = _losses(model, loss, x[i] + t * q * (x[r] - x[i]), y[i].expand(len(law), -1))
            total += [p * v for (_, p), v in zip(law, values, strict=True)]
    return math.fsum(total) / len(x) ** 2


# --- terms of the expansion -----------------------------------------------------------------------------------------


class _Local:
    """Loss, slope, ``J^T h'' J`` and ``sum_c (h' - y)_c D2f_c`` at one image, by reverse-mode differentiation."""

    def __init__(self, model: nn.Module, loss: SampleLoss, point: Tensor, y: Tensor) -> None:
        def outputs(z: Tensor) -> Tensor:
            return model(z.reshape(1, *point.shape))[0]

        z = point.reshape(-1)
        f = outputs(z).detach()
        residual = torch.autograd.functional.jacobian(lambda g: loss(g, y), f)
        curvature = torch.autograd.functional.hessian(lambda g: loss(g, y), f)
        j = torch.autograd.functional.jacobian(outputs, z)
        self.value = float(loss(f, y))
        self.slope = (j.T @ residual).numpy()
        self.gauss_newton = (j.T @ curvature @ j).numpy()
        self.hessian = torch.autograd.functional.hessian(lambda v: (residual * outputs(v)).sum(), z).numpy()


def terms(
    model: nn.Module, loss: SampleLoss, x: Tensor, y: Tensor, law: Law, at: str
) -> tuple[float, float, float, float]:
    """base, R1, R2, R3 as means over images, partners and atoms; y [m, c] targets."""
    m, images_ = len(x), x.numpy()
    mu = sum(images_) / m
    qbar = sum(p * q for q, p in law)
    parts: list[list[float]] = [[], [], [], []]
    for i in range(m):
        fixed = None
        if at == "data":
            fixed = _Local(model, loss, x[i], y[i])
        elif at == "mean":
            fixed = _Local(model, loss, torch.from_numpy(images_[i] + qbar * (mu - images_[i])), y[i])
        for q, p in law:
            local = fixed
            if local is None:
                local = _Local(model, loss, torch.from_numpy(images_[i] + q * (mu - images_[i])), y[i])
            for r in range(m):
                step = q * (images_[r] - images_[i])
                if at == "mean":
                    step = step - qbar * (mu - images_[i])
                if at == "mask":
                    step = q * (images_[r] - mu)
                s = step.reshape(-1)
                parts[0].append(p * local.value)
                parts[1].append(p * float(local.slope @ s))
                parts[2].append(p * 0.5 * float(s @ local.gauss_newton @ s))
                parts[3].append(p * 0.5 * float(s @ local.hessian @ s))
    base, r1, r2, r3 = (math.fsum(v) / m**2 for v in parts)
    return base, r1, r2, r3


# --- checks ---------------------------------------------------------------------------------------------------------


def z_bound(alpha: float = 1e-6) -> float:
    """Two-sided normal bound."""
    return float(stats.norm.isf(alpha / 2))


def assert_estimates(mean: float, se: float, truth: float, *, alpha: float = 1e-6) -> None:
    """``mean`` agrees with ``truth`` within its standard error: z test at level ``alpha``."""
    assert se > 0, "an estimate without error must be compared exactly"
    z = abs(mean - truth) / se
    assert z < z_bound(alpha), f"|z| = {z:.2f}, allowed {z_bound(alpha):.2f}"


@contextmanager
def as_users_run_it() -> Iterator[None]:
    """Turn the shape and type checks of the test run off, so that the package's own errors are reached."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)

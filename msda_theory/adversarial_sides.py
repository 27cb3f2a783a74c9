"""Images, model and mask law side by side: what both sides of the inequality of `adversarial_bound` are made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from msda_theory.data import ImageData
from msda_theory.losses import Loss
from msda_theory.moments.moments import Moments

ROUNDING = 1e-12  # a condition counts as met down to -ROUNDING times the size of its terms


@dataclass(frozen=True, eq=False)
class LocalForms:
    """Local quantities of a batch, float64 on the CPU."""

    x: Tensor  # [B, D]
    f: Tensor  # [B, c]
    jacobian: Tensor  # [B, c, D]
    loss: Tensor  # [B]
    residual: Tensor  # h' - y [B, c]
    bend: Tensor  # h'' [B, c, c]

    @classmethod
    def at(cls, model: nn.Module, x: Tensor, y: Tensor, data: ImageData, loss: Loss) -> LocalForms:
        """The quantities at images x [B, C, H, W] with labels y [B]."""
        f, jacobian = jacobians(model, x)
        target = loss.targets(y, data.num_classes, torch.float64).cpu()
        units = torch.eye(f.shape[1], dtype=f.dtype)
        bend = torch.stack([loss.d2(f, unit.expand_as(f)) for unit in units], dim=2)
        flat = x.double().flatten(1).cpu()
        return cls(flat, f, jacobian, loss.value(f, target), loss.d1(f) - target, bend)


@dataclass(frozen=True, eq=False)
class LawMatrices:
    """What a law and the data contribute."""

    qbar: Tensor  # [D]
    a: Tensor  # A [d, d]
    spread: Tensor  # A o Sigma [D, D]
    mu: Tensor  # [D]
    channels: int

    @classmethod
    def of(cls, moments: Moments, data: ImageData, covariance: Tensor) -> LawMatrices:
        """From moments, the images, and their covariance [D, D]."""
        channels, a = data.x.shape[1], torch.from_numpy(moments.second.dense())
        qbar = torch.from_numpy(moments.mean).flatten().repeat(channels)
        mu = data.x.double().mean(dim=0).flatten().cpu()
        return cls(qbar, a, a.repeat(channels, channels) * covariance, mu, channels)


def jacobians(model: nn.Module, x: Tensor) -> tuple[Float64[Tensor, "B c"], Float64[Tensor, "B c D"]]:
    """Outputs and their Jacobians in the flattened image, in float64 on the CPU; one backward pass for each output."""
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        f = model(x)
        rows = [torch.autograd.grad(f[:, k].sum(), x, retain_graph=True)[0] for k in range(f.shape[1])]
    return f.detach().double().cpu(), torch.stack(rows, dim=1).flatten(2).double().cpu()


def sides(at: LocalForms, law: LawMatrices, radius: str, centred: bool) -> dict[str, Tensor]:
    """The columns of `AdversarialBound` for a batch."""

    def trace(left: Tensor, right: Tensor) -> Tensor:
        return (at.bend * (left @ right.transpose(1, 2))).sum(dim=(1, 2))

    v = at.x - law.mu
    b, c, size = at.jacobian.shape
    partner = 0.5 * trace(at.jacobian @ law.spread, at.jacobian)
    maps = (at.jacobian * v[:, None]).reshape(b, c, law.channels, size // law.channels).sum(dim=2)  # [B, c, d]
    step = -(at.jacobian @ (law.qbar * v)[:, :, None])  # J u [B, c, 1]
    whole, shift = 0.5 * trace(maps @ law.a, maps), 0.5 * trace(step, step)
    r1 = (at.residual * step[:, :, 0]).sum(dim=1)
    slope, bent = r1, shift
    if not centred:
        step = -(at.jacobian @ (law.qbar * at.x)[:, :, None])
        slope, bent = (at.residual * step[:, :, 0]).sum(dim=1), 0.5 * trace(step, step)
    gradient = (at.residual[:, None] @ at.jacobian)[:, 0].norm(dim=1)
    top = _largest(at.bend, at.jacobian)
    if radius == "margin":
        reach, sizes = step[:, 0, 0].abs(), at.jacobian[:, 0].norm(dim=1)
        eps = torch.where(sizes > 0, reach / sizes.clamp_min(torch.finfo(sizes.dtype).tiny), 0.0)
        condition, scale = slope, slope.abs()
    else:
        condition, scale = slope + bent, slope.abs() + bent
        rise = condition.clamp_min(0)
        below = gradient + (gradient.square() + 2 * top * rise).sqrt()
        eps = torch.where(below > 0, 2 * rise / below.clamp_min(torch.finfo(below.dtype).tiny), 0.0)
    return {
        "loss": at.loss,
        "r1": r1,
        "r2": partner + whole,
        "partner": partner,
        "mask": whole - shift,
        "eps": eps,
        "adversarial": at.loss + gradient * eps + 0.5 * top * eps.square(),
        "assumption": condition >= -ROUNDING * scale if radius == "certified" else condition >= 0,
        "inhomogeneity": _inhomogeneity(at),
    }


def _largest(bend: Tensor, jacobian: Tensor) -> Tensor:
    """Largest eigenvalue of ``J^T h'' J`` [B]: that of the c x c matrix ``K^(1/2) h'' K^(1/2)``, ``K = J J^T``."""
    values, vectors = torch.linalg.eigh(jacobian @ jacobian.transpose(1, 2))
    root = vectors * values.clamp_min(0).sqrt()[:, None]  # K = root root^T; rounding may leave K's smallest below 0
    return torch.linalg.eigvalsh(root.transpose(1, 2) @ bend @ root)[:, -1].clamp_min(0)


def _inhomogeneity(at: LocalForms) -> Tensor:
    difference = at.f - (at.jacobian @ at.x[:, :, None])[:, :, 0]
    return difference.norm(dim=1) / at.f.norm(dim=1).clamp_min(torch.finfo(at.f.dtype).tiny)

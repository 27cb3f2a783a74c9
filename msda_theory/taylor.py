"""Second-order Taylor coefficients of a module along many directions at about the cost of one forward pass each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jvp, vjp

from msda_theory.checks import check_apart, check_eval, check_module, check_precision
from msda_theory.jets.jet import NoRule
from msda_theory.jets.program import Program
from msda_theory.jets.trace import call, plain_kernels, state


@dataclass(frozen=True, eq=False)
class TaylorCoefficients:
    """Coefficients of ``f(x + delta_k)``.

    Attributes:
        value: f(x) [B, c].
        first: ``J delta_k`` [K, B, c].
        second: ``sum_k w_k delta_k^T D2f delta_k`` [B, c]; without the factor 1/2.
    """

    value: Tensor
    first: Tensor
    second: Tensor


class Taylor:
    """A module traced once, for many calls; `taylor` accepts it in place of the module.

    The trace holds for samples of one shape and dtype and for the module's code as it was; parameters and buffers are
    read at each call, so training steps between calls are seen.

    Attributes:
        module: the module.
        fallback: what has no rule, so that each direction takes its own forward-over-reverse pass; None if all have.
        kinked: whether the module has piecewise-linear units, so that a part of its second-order response is no
            derivative (docs/theory.md, Eq. (3e)); None if unknown.
        batch: number of samples of one pass.
        bytes_per_sample: of results alive at once in a plain forward pass, for each sample; None if unknown.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        """Trace ``model`` at the samples ``x`` [B, ...]; calls go in passes of B samples.

        Warns:
            UserWarning: naming the operators without a rule.

        Raises:
            TypeError: ``x`` is not float32 or float64; a model that is no module in Python code, or of another dtype.
            ValueError: normalisation by the batch or Dropout in train mode; automatic mixed precision; outputs that
                are not [B, c] or depend on the other samples of the batch; in-place changes of the input; B = 0.
        """
        _check_input(x)
        check_module(model, x)
        check_eval(model)
        check_apart(model, x[:3])
        model = getattr(model, "_orig_mod", model)  # of torch.compile, which cannot be traced
        self.module, self.batch = model, len(x)
        self._modes = [m.training for m in model.modules()]
        self._sample = (x.shape[1:], x.dtype, x.device)
        self._program: Program | None = None
        self.fallback: str | None = None
        try:
            self._program = Program(model, x)
            self._verify(self._program, x)
        except NoRule as reason:
            self._program, self.fallback = None, str(reason)
            warnings.warn(
                f"no second-order rule for {reason}; each direction takes a forward-over-reverse pass of its own, "
                "several times slower. See docs/engine.md to add a rule.",
                stacklevel=2,
            )
        self.kinked = self._program.kinked if self._program else None
        self.bytes_per_sample = self._program.bytes_per_sample if self._program else None

    def __call__(self, x: Tensor, directions: Tensor, weights: Sequence[float] | None = None) -> TaylorCoefficients:
        """As `taylor`."""
        _check_input(x)
        check_eval(self.module)
        if [m.training for m in self.module.modules()] != self._modes:
            raise ValueError(
                "expected the module in the mode of the trace, got other train or eval flags; call eval(), or trace "
                "again with Taylor(model, x)."
            )
        weights = _check_directions(x, directions, weights)
        if (x.shape[1:], x.dtype, x.device) != self._sample:
            shape, dtype, device = self._sample
            raise ValueError(
                f"expected samples {list(shape)} of {dtype} on {device}, as at the trace, got {list(x.shape[1:])} of "
                f"{x.dtype} on {x.device}; trace again with Taylor(model, x)."
            )
        if self._program is None:
            return TaylorCoefficients(*_by_direction(self.module, x, directions, weights))
        parts = [
            self._pass(self._program, x[low : low + self.batch], directions[:, low : low + self.batch], weights)
            for low in range(0, len(x), self.batch)
        ]
        value, first, second = zip(*parts, strict=True)
        return TaylorCoefficients(torch.cat(value), torch.cat(first, dim=1), torch.cat(second))

    def _pass(
        self, program: Program, x: Tensor, directions: Tensor, weights: Sequence[float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One run of the program; a last batch that is too small is filled up with its first sample."""
        n = len(x)
        if n < self.batch:
            fill = [0] * (self.batch - n)
            x, directions = torch.cat([x, x[fill]]), torch.cat([directions, directions[:, fill]], dim=1)
        value, first, second = program(x, directions, weights)
        return value[:n], first[:, :n], second[:n]

    def _verify(self, program: Program, x: Tensor) -> None:
        """Raise NoRule unless the program runs and gives the outputs of the module."""
        tolerance = 1e-9 if x.dtype == torch.float64 else 1e-3
        # Elsewhere too: values of x that the code took out of torch would be constants of the trace.
        for z in (x, 0.75 * x.flip(0) + 0.125 * x.flip(-1)):
            with torch.no_grad():
                value, first, _ = program(z, z[None], (1.0,))
                expected = self.module(z)
            if value.shape != expected.shape or first.shape[1:] != value.shape:
                raise NoRule("outputs that change shape when traced")
            if not bool(((value - expected).abs() <= tolerance * (1 + expected.abs().max())).all()):
                raise NoRule("outputs that differ when traced (random, state kept outside parameters, values of x)")


def taylor(
    model: nn.Module | Taylor, x: Tensor, directions: Tensor, weights: Sequence[float] | None = None
) -> TaylorCoefficients:
    """Value, directional derivatives and summed second directional derivatives of ``model`` at ``x``.

    Taylor coefficients are propagated through the operators of the module, second order collapsed over directions:
    K + 2 arrays for K directions (docs/engine.md). Results are differentiable in the module's parameters where
    gradients are enabled.

    Args:
        model: module in eval mode, a function of each sample alone, outputs [B, c]; or a `Taylor`, which saves the
            trace where many calls are made.
        x: inputs [B, ...], float32 or float64.
        directions: [K, B, ...].
        weights: w_k of the directions in the second-order sum; 1 by default.

    Warns:
        UserWarning: naming the operators without a rule; then each direction costs several forward passes.

    Raises:
        ValueError: if ``directions`` is not [K, B, ...] for the shape of ``x``, or K = 0; weights that are not K
            numbers; a module outside the theory (train mode, samples that influence each other, mixed precision).
        TypeError: if ``x`` is not float32 or float64, or ``directions`` differ from it in dtype or device.
    """
    if isinstance(model, Taylor):
        return model(x, directions, weights)
    weights = _check_directions(x, directions, weights)
    return Taylor(model, x)(x, directions, weights)


def curvature(engine: Taylor, x: Tensor, d: Tensor, weigh: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """``f`` [B, c], ``J d_k`` [K, B, c] and ``sum_k sum_c w_c d_k^T D2f_c d_k`` [B] with ``w = weigh(f)``, in float64.

    As `taylor` with one combination of outputs, which saves work where there is no rule.

    Args:
        engine: the traced module.
        x: inputs [B, ...].
        d: directions [K, B, ...].
        weigh: from outputs [B, c] in float64 to the weights of their second derivatives [B, c].
    """
    if engine.fallback is None:
        t = engine(x, d)
        value = t.value.double()
        return value, t.first.double(), (weigh(value) * t.second.double()).sum(dim=-1)
    value = engine.module(x).double()
    weights = weigh(value)[None].to(x.dtype)
    firsts, total = [], torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for direction in d:
        _, first, curved = _forward_over_reverse(engine.module, x, direction, weights)
        firsts.append(first.double())
        total = total + (curved[0] * direction).flatten(1).double().sum(dim=1)
    return value, torch.stack(firsts), total


def _by_direction(
    model: nn.Module, x: Tensor, directions: Tensor, weights: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, first and weighted second, one direction after the other: one Hessian product for each output."""
    with torch.no_grad():
        outputs = model(x).shape[1]
    basis = torch.eye(outputs, dtype=x.dtype, device=x.device)[:, None, :].expand(outputs, len(x), outputs)
    firsts, seconds = [], []
    for w, d in zip(weights, directions, strict=True):
        value, first, curved = _forward_over_reverse(model, x, d, basis)
        firsts.append(first)
        seconds.append(w * (curved * d).flatten(2).sum(dim=2).T)
    return value, torch.stack(firsts), torch.stack(seconds).sum(dim=0)


def _forward_over_reverse(model: nn.Module, x: Tensor, d: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f [B, c], J d [B, c] and ``(sum_c weights_kc D2f_c) d`` [k, B, ...] for weights [k, B, c].

    Forward over reverse, not nested forward mode: the latter is wrong for the fused normalisations of torch 2.13
    (LayerNorm, InstanceNorm), undefined for several activations, and takes about twice the time.
    """
    keep = torch.is_grad_enabled()
    tensors = {name: t if keep else t.detach() for name, t in state(model).items()}

    def function(z: Tensor) -> Tensor:
        return call(model, tensors, z)

    def field(z: Tensor) -> tuple[Tensor, Tensor]:
        value, pull = vjp(function, z)[:2]
        return value, torch.stack([pull(w)[0] for w in weights])

    with differentiable():
        (value, _), (first, curved) = jvp(field, (x,), (d,))[:2]
    return (value, first, curved) if keep else (value.detach(), first.detach(), curved.detach())


@contextmanager
def differentiable() -> Iterator[None]:
    """Where forward mode works: its decompositions are chosen only while gradients are enabled, and fused attention
    has none.
    """
    with torch.enable_grad(), plain_kernels():
        yield


def _check_input(x: Tensor) -> None:
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected inputs in float32 or float64, got {x.dtype}; convert with x.double().")
    if not len(x):
        raise ValueError("expected at least one sample, got 0; give inputs [B, ...] with B >= 1.")
    check_precision(x.device)


def _check_directions(x: Tensor, directions: Tensor, weights: Sequence[float] | None) -> Sequence[float]:
    if directions.shape[1:] != x.shape or not len(directions):
        raise ValueError(
            f"expected directions [K, {', '.join(map(str, x.shape))}] with K >= 1, got {tuple(directions.shape)}; "
            "stack one direction for each sample."
        )
    if (directions.dtype, directions.device) != (x.dtype, x.device):
        raise TypeError(
            f"expected directions in {x.dtype} on {x.device}, as the inputs, got {directions.dtype} on "
            f"{directions.device}; convert with directions.to(x)."
        )
    if weights is None:
        return (1.0,) * len(directions)
    if len(weights) != len(directions):
        raise ValueError(f"expected {len(directions)} weights, got {len(weights)}; give one for each direction.")
    return tuple(map(float, weights))

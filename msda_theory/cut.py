"""A model cut at its first parametric layer: what comes before it, the layer, what comes after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from msda_theory.checks import check_eval, check_module


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """A model cut at its first layer; build it with `first_layer`.

    Attributes:
        model: the model.
        name: name of the layer in the model.
        layer: the linear or convolutional layer itself.
    """

    model: nn.Module
    name: str
    layer: nn.Linear | nn.Conv2d

    @property
    def weight(self) -> Tensor:
        """W: [O, n] of a linear layer, [O, C / groups, kh, kw] of a convolution."""
        return self.layer.weight.detach()

    def inputs(self, x: Float[Tensor, "B C H W"]) -> Tensor:
        """u, the input of the layer at images x; differentiable in x."""
        seen: list[Tensor] = []

        def see(_: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            seen.append((args[0] if args else named["input"]).clone())  # what follows may work in place

        with _hooked(self.layer.register_forward_pre_hook(see, with_kwargs=True)):
            self.model(x)
        return seen[0]

    def steps(self, u: Tensor, weight: Tensor) -> Tensor:
        """``W u``, the layer without its bias and with any weight of its shape."""
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(u, weight)
        return self.layer._conv_forward(u, weight, None)

    def upper(self, x: Float[Tensor, "B C H W"], z: Tensor) -> Float[Tensor, "B c"]:
        """g(z) for pre-activations z; x is passed to the model, whose output must not depend on it."""
        with _hooked(self.layer.register_forward_hook(lambda *_: z.clone())):
            return self.model(x)


def first_layer(model: nn.Module, x: Float[Tensor, "B C H W"], *, name: str | None = None) -> FirstLayer:
    """Cut ``model`` at its first parametric layer, found by running it on a few images.

    Whatever is affine may come before: layers without parameters, normalisations with fixed statistics. It is folded
    into the metric.

    Args:
        model: in eval mode.
        x: some images, at least 2.
        name: of the layer, where it is not the first one with parameters.

    Raises:
        ValueError: if the layer is no `torch.nn.Linear` or `torch.nn.Conv2d` (the message names it), is used more than
            once, gets an input that is not affine in the image, or if the output depends on the image otherwise too.
    """
    check_module(model, x)
    check_eval(model)
    if len(x) < 2:
        raise ValueError(f"expected at least 2 images to find the first layer with, got {len(x)}.")
    called = _called(model, x)
    if name is None:
        found = [n for n in called if isinstance(model.get_submodule(n), nn.Linear | nn.Conv2d)]
        name = found[0] if found else (called or [""])[0]
    elif name not in called:
        raise ValueError(f"expected a layer with parameters among {list(dict.fromkeys(called))}, got {name!r}.")
    before = (
        [n for n in called[: called.index(name)] if not isinstance(model.get_submodule(n), _NormBase)] if called else []
    )
    other = [n for n in [*before, name] if not isinstance(model.get_submodule(n), nn.Linear | nn.Conv2d)]
    if not called or name in other or any(isinstance(model.get_submodule(n), _ConvNd) for n in other):
        shown = type(model.get_submodule(other[0])).__name__ if called else "none"
        raise ValueError(
            f"the first parametric layer {(other or [''])[0]!r} is {shown}; only torch.nn.Linear and torch.nn.Conv2d "
            "are supported. Pass name= for a later one."
        )
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    if called.count(name) > 1:
        raise ValueError(f"the layer {name!r} is used {called.count(name)} times in one pass; name one used once.")
    cut = FirstLayer(model, name, layer)
    _check_cut(cut, x, before)
    return cut


@contextmanager
def _hooked(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _called(model: nn.Module, x: Tensor) -> list[str]:
    """Names of the modules with parameters of their own, in the order of their calls."""
    called: list[str] = []
    own = {
        n: m
        for n, m in model.named_modules()
        if (parametrize.is_parametrized(m) or any(True for _ in m.parameters(recurse=False)))
        and "parametrizations" not in n.split(".")
        and (isinstance(m, nn.Linear | nn.Conv2d) or not any(True for _ in m.children()))
    }
    handles = [m.register_forward_pre_hook(lambda _m, _i, n=n: called.append(n)) for n, m in own.items()]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return called


def _check_cut(cut: FirstLayer, x: Tensor, before: list[str]) -> None:
    with torch.no_grad():
        other = x.flip(0) + 0.5
        u, v, between = (cut.inputs(t) for t in (x, other, 0.25 * x + 0.75 * other))
        scale = float(torch.maximum(u.abs(), v.abs()).max()) + 1e-30
        tolerance = 1e4 * torch.finfo(x.dtype).eps
        if not float((0.25 * u + 0.75 * v - between).abs().max()) <= tolerance * scale:
            named = {n: type(cut.model.get_submodule(n)).__name__ for n in before}
            raise ValueError(
                f"the input of the layer {cut.name!r} is not affine in the image (parametric layers before it: "
                f"{named}); a normalisation with fixed statistics may come before it, nothing else."
            )
        if len(u) != len(x):
            raise ValueError(
                f"expected one input of the layer {cut.name!r} for each image, got {len(u)} for {len(x)}; a layer "
                "that is applied to parts of images as if they were images is not supported."
            )
        z = cut.layer(u)
        own, bias = cut.steps(u, cut.weight), cut.layer.bias
        if bias is not None:
            own = own + (bias if isinstance(cut.layer, nn.Linear) else bias[:, None, None])
        if own.shape != z.shape or not float((own - z).abs().max()) <= tolerance * (float(z.abs().max()) + 1e-30):
            raise ValueError(
                f"the layer {cut.name!r} ({type(cut.layer).__name__}) does not compute W u + b with its own weights; "
                "replace it by a plain Linear or Conv2d, or remove its hooks."
            )
        f, g = cut.upper(x, z), cut.upper(other, z)
        if not float((f - g).abs().max()) <= tolerance * (float(f.abs().max()) + 1e-30):
            raise ValueError(
                f"the output depends on the image not only through the layer {cut.name!r}; R2 is no quadratic form of "
                "its weights alone."
            )

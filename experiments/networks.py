"""A network for a data set: by name or from the user's own code, with normalisation inside."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from experiments.models import NETWORKS, SMALL, initial_weights

KNOWN = {**NETWORKS, **SMALL}


class Normalised(nn.Module):
    """A network of images in [0, 1]: ``net((x - mean) / std)``, channel by channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c"]:
        """Images in [0, 1] to logits."""
        return self.net((x - self.mean) / self.std)


def build(name: str, *, classes: int, shape: tuple[int, int, int], seed: int, **options: int | str | None) -> nn.Module:
    """A network with ``classes`` outputs for images of ``shape`` (C, H, W).

    Args:
        name: of `experiments.models.NETWORKS` or ``SMALL``, or ``module:function`` for your own, importable from where
            you are.
        classes: number of outputs.
        shape: of the images; a network that takes ``channels`` or ``image`` (the side) is given them.
        seed: of the initial weights; the global random state is left as it was.
        options: passed on unless None.

    Raises:
        ValueError: unknown name (the message lists the known ones), or an option that the network does not take.
    """
    make = _constructor(name)
    takes = inspect.signature(make).parameters
    any_name = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values())
    given = {k: v for k, v in options.items() if v is not None}
    unknown = [k for k in given if k not in takes and not any_name]
    if unknown:
        raise ValueError(f"expected options of {name} among {sorted(takes)}, got {unknown}; leave them out.")
    if shape[1] == shape[2]:
        given.setdefault("image", shape[1])
    known = {"channels": shape[0], **given}
    with initial_weights(seed):
        return make(classes=classes, **{k: v for k, v in known.items() if k in takes or (any_name and k in options)})


def source(name: str) -> bytes | None:
    """Source of the module of a network ``module:function``; None for the networks of this project."""
    if name in KNOWN:
        return None
    return inspect.getsource(inspect.getmodule(_constructor(name)) or _constructor(name)).encode()


def _constructor(name: str) -> Callable[..., nn.Module]:
    if name in KNOWN:
        return KNOWN[name]
    module, colon, function = name.partition(":")
    if colon:
        try:
            return getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"expected {name!r} to be an importable module:function, got: {error}; fix it.") from error
    raise ValueError(f"expected a network among {list(KNOWN)} or module:function, got {name!r}; choose one of them.")

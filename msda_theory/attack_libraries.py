"""The attacks of foolbox and pyautoattack as one kind of function; the libraries are imported when an attack runs.

Each maker takes a frozen model and a batch, and returns a function that proposes examples for the images still to fool.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from msda_theory.streams import seeded

NORMS = ("linf", "l2")
_CANDIDATES = 10  # classes that DeepFool considers, at most
_TARGETS = 9  # target classes of the standard ensemble, at most
_NAMES = {"linf": "Linf", "l2": "L2"}  # of norms in pyautoattack

Seeds = Callable[[float, int], int]  # radius, restart -> seed
Propose = Callable[[float, int, Tensor], Tensor]  # radius, restart, images still to fool [k] -> examples [k, C, H, W]


@dataclass(frozen=True)
class AttackSettings:
    """What an attack may spend.

    Attributes:
        norm: ``"linf"`` or ``"l2"``, of the step in pixels on [0, 1], all channels together.
        steps: gradient steps of PGD and of DeepFool.
        restarts: random starts of PGD.
        queries: evaluations of Square; the standard ensemble keeps its own budgets.

    Raises:
        ValueError: unknown norm, or a budget below 1.
    """

    norm: str = "linf"
    steps: int = 50
    restarts: int = 2
    queries: int = 1000

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"expected norm among {list(NORMS)}, got {self.norm!r}; choose one of them.")
        if min(self.steps, self.restarts, self.queries) < 1:
            raise ValueError(
                f"an attack needs steps, restarts and queries >= 1, got {self.steps}, {self.restarts} and "
                f"{self.queries}; raise them."
            )


class Frozen(nn.Module):
    """A model whose parameters take no part in gradients; the model itself is left as it is."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._model = (model,)  # in a tuple: not a submodule, so that nothing done to this one reaches it
        self._detached = {name: p.detach() for name, p in model.named_parameters()}
        self._dtype = dtype
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of the model for ``x`` in the dtype of the model."""
        return torch.func.functional_call(self._model[0], self._detached, (x.to(self._dtype),))

    def classes(self, x: Tensor) -> Int[Tensor, " B"]:
        """Predicted classes."""
        with torch.no_grad():
            return self(x).argmax(dim=1)


def libraries() -> tuple[Any, Any, Any]:
    """foolbox, eagerpy and pyautoattack.

    Raises:
        ImportError: if one is missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # foolbox's own imports
            import eagerpy
            import foolbox
            import pyautoattack
    except ImportError as error:
        raise ImportError(
            f"attacks come from foolbox and pyautoattack, got: {error}; install them with "
            "pip install 'msda_theory[robustness]'."
        ) from error
    return foolbox, eagerpy, pyautoattack


def foolbox_model(net: nn.Module, x: Tensor, bounds: tuple[float, float] = (0.0, 1.0)) -> Any:
    """``net`` as foolbox wants it, for inputs like ``x`` within ``bounds``."""
    return libraries()[0].PyTorchModel(net, bounds=bounds, device=x.device)


def _fgsm(net: Frozen, x: Tensor, y: Tensor, settings: AttackSettings, seeds: Seeds) -> Propose:
    kinds, model = libraries()[0].attacks, foolbox_model(net, x)
    attack = kinds.LinfFastGradientAttack() if settings.norm == "linf" else kinds.L2FastGradientAttack()
    return lambda radius, restart, todo: attack.run(model, x[todo], y[todo], epsilon=radius)


def projected_gradient(norm: str, steps: int) -> Any:
    """Foolbox's PGD with steps of ``2.5 eps / steps``: enough to cross the ball."""
    kinds = libraries()[0].attacks
    kind = kinds.LinfProjectedGradientDescentAttack if norm == "linf" else kinds.L2ProjectedGradientDescentAttack
    return kind(rel_stepsize=2.5 / steps, steps=steps, random_start=True)


def _pgd(net: Frozen, x: Tensor, y: Tensor, settings: AttackSettings, seeds: Seeds) -> Propose:
    model, eagerpy = foolbox_model(net, x), libraries()[1]

    def propose(radius: float, restart: int, todo: Tensor) -> Tensor:
        attack = projected_gradient(settings.norm, settings.steps)
        with seeded(seeds(radius, restart)):
            starts = attack.get_random_start(eagerpy.astensor(x), radius).raw  # for the whole batch
        attack.get_random_start = lambda x0, epsilon: eagerpy.astensor(starts[todo])
        return attack.run(model, x[todo], y[todo], epsilon=radius)

    return propose


def _deepfool(net: Frozen, x: Tensor, y: Tensor, settings: AttackSettings, seeds: Seeds) -> Propose:
    kinds, model = libraries()[0].attacks, foolbox_model(net, x)
    kind = kinds.LinfDeepFoolAttack if settings.norm == "linf" else kinds.L2DeepFoolAttack
    outputs = net(x[:1]).shape[1]
    nearest = kind(steps=settings.steps, candidates=None if outputs <= _CANDIDATES else _CANDIDATES).run(model, x, y)
    return lambda radius, restart, todo: nearest[todo]


def _square(net: Frozen, x: Tensor, y: Tensor, settings: AttackSettings, seeds: Seeds) -> Propose:
    (h, w), side = x.shape[2:], _square_side(x.shape[2], x.shape[3], settings.norm)
    wide = nn.functional.pad(x, (0, side - w, 0, side - h))

    def propose(radius: float, restart: int, todo: Tensor) -> Tensor:
        attack = libraries()[2].square.SquareAttack(
            lambda images: net(images[..., :h, :w]),
            norm=_NAMES[settings.norm],
            n_queries=settings.queries,
            eps=radius,
            device=x.device,
            resc_schedule=True,
        )
        attack.init_hyperparam(wide)
        with seeded(seeds(radius, restart)):
            found: Tensor = attack.attack_single_run(wide, y)[1]  # its perturb would draw for correct images only
        return found[todo, :, :h, :w]

    return propose


def _square_side(h: int, w: int, norm: str) -> int:
    """Side of the square canvas that images are put on for Square, the corner that the model sees being the image.

    The library's squares never cover the last row and column, so one is added for linf; in l2, where it would use up
    part of the radius, only as much is added as makes the library's tiling of the first step fit.
    """
    side = max(h, w) + 1 if norm == "linf" else max(h, w, 5)
    while norm == "l2" and side // 5 > 1 and side // (side // 5) > 5:
        side += 1
    return side


def _autoattack(net: Frozen, x: Tensor, y: Tensor, settings: AttackSettings, seeds: Seeds) -> Propose:
    """The standard ensemble; with 4 to 9 classes all wrong ones are targets, below 4 without its targeted loss."""
    outputs = net(x[:1]).shape[1]
    few = {"version": "custom", "attacks": ["apgd-ce", "fab", "square"]} if outputs < 4 else {"version": "standard"}

    def propose(radius: float, restart: int, todo: Tensor) -> Tensor:
        ensemble = libraries()[2].AutoAttack(
            _Single(net),
            norm=_NAMES[settings.norm],
            eps=radius,
            seed=seeds(radius, restart),
            device=x.device,
            **few,
        )
        ensemble.verbose = False
        for part in (ensemble.apgd_targeted, ensemble.fab):
            part.n_target_classes = min(_TARGETS, outputs - 1)
        tracer = sys.gettrace()
        try:
            with seeded(0):  # the library seeds each attack itself
                found: Tensor = ensemble.run_standard_evaluation(x[todo].float(), y[todo], batch_size=len(todo))[0]
        finally:
            sys.settrace(tracer)  # which a check of the library turns off
        return found

    return propose


class _Single(nn.Module):
    """Outputs in float32, the dtype that pyautoattack works in."""

    def __init__(self, net: Frozen) -> None:
        super().__init__()
        self._net = (net,)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self._net[0](x).float()


MAKERS: dict[str, Callable[[Frozen, Tensor, Tensor, AttackSettings, Seeds], Propose]] = {
    "fgsm": _fgsm,
    "pgd": _pgd,
    "deepfool": _deepfool,
    "square": _square,
    "autoattack": _autoattack,
}

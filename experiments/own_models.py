"""A model of the user's own: made by a factory, weights from a safetensors file, normalisation inside, in eval mode."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.images import DataSet
from experiments.models import initial_weights
from experiments.networks import Normalised
from experiments.weights import tensors
from msda_theory.checks import check_eval
from msda_theory.data import ImageData
from msda_theory.files import AnyPath, read_whole

FRESH = "-"  # in place of a file of weights
_SEEN = 32  # images whose outputs are in the digest
_SHOWN = 3  # names in a message, of each kind
_WRAPPERS = ("module.", "_orig_mod.")  # prefixes by DataParallel and torch.compile


@dataclass(frozen=True)
class Spec:
    """What a model is made of.

    Attributes:
        name: in tables and files.
        factory: ``module:function``.
        weights: safetensors file, or ``-`` for the weights that the factory gives with ``seed``.
    """

    name: str
    factory: str
    weights: str = FRESH


@dataclass(frozen=True, eq=False)
class OwnModel:
    """A model ready to be measured.

    Attributes:
        net: images in [0, 1] to logits, in eval mode.
        weights_sha256: digest of the weights file, or of the fresh weights.
        code_sha256: digest of the source of the factory's module, then of outputs, see `with_outputs`.
        notes: what was done on the way: arguments of the factory, normalisation, and what the user may not expect.
    """

    net: nn.Module
    weights_sha256: str
    code_sha256: str
    notes: tuple[str, ...]


def own_model(spec: Spec, data: DataSet, *, mean: Sequence[float], std: Sequence[float], seed: int) -> OwnModel:
    """Make the model, load its weights, put it into eval mode; float64, on the CPU.

    The factory is called with those of ``num_classes``, ``classes``, ``channels`` and ``image`` (the side of square
    images) that it takes by name, and with ``num_classes`` if it takes any name. Weights of ``experiments.train`` hold
    the normalisation of their training, which is then used in place of ``mean`` and ``std``.

    Args:
        spec: factory and weights.
        data: gives the number of classes and the shape of the images.
        mean, std: of each channel; the network sees ``(x - mean) / std``. Empty: images in [0, 1] as they are.
        seed: of fresh weights; the global random state is left as it was.

    Raises:
        ValueError: a factory that is not ``module:function`` or needs other arguments, weights that do not fit.
        TypeError: a factory that is not callable or returns no module.
        FileNotFoundError: no such file of weights.
    """
    make = _factory(spec.factory)
    options = _arguments(make, spec.factory, data)
    with initial_weights(seed):
        net = make(**options)
    if not isinstance(net, nn.Module):
        raise TypeError(
            f"expected {spec.factory} to return a torch.nn.Module, got {type(net).__name__}; return the network itself."
        )
    notes = [f"made by {spec.factory}({', '.join(f'{k}={v}' for k, v in options.items())})"]
    net = net.double()
    if spec.weights == FRESH:
        digest = _state_digest(net.state_dict())
        notes.append(f"no weights given: fresh ones of seed {seed}")
        model, note = _normalised(net, mean, std)
        notes.append(note)
    else:
        weights, digest = read_weights(Path(spec.weights))
        model, note = _loaded(net, weights, spec, mean, std)
        notes.append(note)
    return OwnModel(_in_eval_mode(model, notes), digest, _source_digest(make), tuple(notes))


def with_outputs(model: OwnModel, data: ImageData) -> OwnModel:
    """The model with outputs on some images in its digest: its code may be spread over many modules.

    Outputs are rounded to three digits of the largest, so that rounding errors hardly ever count as another model.
    """
    with torch.no_grad():
        f = model.net(data.x[:_SEEN]).double().cpu().numpy()
    rounded = (f / max(float(abs(f).max()), 1e-300)).round(3) + 0.0  # no negative zeros
    digest = hashlib.sha256(rounded.tobytes()).hexdigest()
    return replace(model, code_sha256=f"{model.code_sha256}:{digest}")


def check_outputs(model: nn.Module, spec: Spec, data: ImageData, name: str) -> None:
    """Raise unless the model takes the images of data set ``name`` and gives one output for each class.

    Raises:
        ValueError: with what was expected.
    """
    x = data.x[:2]
    try:
        with torch.no_grad():
            f = model(x)
    except RuntimeError as error:
        raise ValueError(
            f"{spec.name}: the model does not take images {list(x.shape)} of {name} ({error}); give data of the size "
            "and channels that it was made for."
        ) from error
    if isinstance(f, Tensor) and f.ndim == 2 and f.shape[1] != data.num_classes:
        raise ValueError(
            f"{spec.name}: expected {data.num_classes} outputs, one for each class of {name}, got {f.shape[1]}; give "
            "the data set the model was trained on, or a factory that takes num_classes."
        )


def _factory(text: str) -> Callable[..., Any]:
    module, colon, function = text.partition(":")
    if not (module and colon and function.isidentifier()):
        raise ValueError(
            f"expected --model as module:function, as in my_package.nets:resnet, got {text!r}; name the module as in "
            "an import statement and the function that makes the model."
        )
    try:
        make = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise ValueError(
            f"the module of --model {text} does not import ({error}); run from the folder that holds it, or put that "
            "folder on PYTHONPATH."
        ) from error
    except AttributeError as error:
        raise ValueError(
            f"the module of --model {text} has no {function!r} ({error}); correct the function's name."
        ) from error
    if not callable(make):
        raise TypeError(
            f"expected --model {text} to name a function or a class that makes the model, got {type(make).__name__}; "
            "wrap it in a function."
        )
    return make


def _arguments(make: Callable[..., Any], text: str, data: DataSet) -> dict[str, int]:
    """What of the data the factory takes."""
    takes = inspect.signature(make).parameters
    channels, height, width = data.shape
    known = {"num_classes": data.classes, "classes": data.classes, "channels": channels}
    if height == width:
        known["image"] = height
    needed = [
        p.name
        for p in takes.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in known
    ]
    if needed:
        raise ValueError(
            f"expected a factory that needs no arguments, or of {list(known)}, got {text}, which needs {needed}; wrap "
            "it in a function that fills them in."
        )
    named = {k: v for k, v in known.items() if k in takes}
    if not named and any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        named = {"num_classes": data.classes}
    return named


def read_weights(path: AnyPath) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file of weights, and its SHA-256.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not a file, or not a whole one of safetensors.
    """
    try:
        content = read_whole(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"--weights {path} is not a file; correct the path, or leave it out for fresh weights."
        ) from error
    try:
        return tensors(path, content), hashlib.sha256(content).hexdigest()
    except ValueError as error:
        if isinstance(error.__cause__, MemoryError):
            raise
        raise ValueError(
            f"--weights {path} is not a safetensors file ({error.__cause__}); pickles are not read, convert it where "
            "you trust it: safetensors.torch.save_file(model.state_dict(), path)."
        ) from error


def _loaded(
    net: nn.Module, weights: dict[str, Tensor], spec: Spec, mean: Sequence[float], std: Sequence[float]
) -> tuple[nn.Module, str]:
    """The network with its weights, and normalisation around it; what to note of that."""
    for prefix in _WRAPPERS:
        if weights and all(k.startswith(prefix) for k in weights) and prefix + next(iter(net.state_dict())) in weights:
            weights = {k.removeprefix(prefix): v for k, v in weights.items()}
    if {"mean", "std"} <= set(weights) and all(k.startswith("net.") for k in set(weights) - {"mean", "std"}):
        model, note = _normalised(net, weights["mean"].flatten().tolist(), weights["std"].flatten().tolist())
        _fit(model, weights, spec)
        return model, f"{note}, from the weights file, as experiments.train writes it"
    _fit(net, weights, spec)
    return _normalised(net, mean, std)


def _normalised(net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> tuple[nn.Module, str]:
    """The network of images in [0, 1], and what to note."""
    if not mean:
        return net, "images in [0, 1], not normalised"
    text = [", ".join(f"{v:.4g}" for v in values) for values in (mean, std)]
    shown = [f"({t})" if len(mean) > 1 else t for t in text]
    return Normalised(net, mean, std), f"images normalised by mean {shown[0]}, std {shown[1]}"


def _fit(net: nn.Module, weights: dict[str, Tensor], spec: Spec) -> None:
    own = net.state_dict()
    wrong = [
        f"{k} is {list(weights[k].shape)} for {list(own[k].shape)}"
        for k in own
        if k in weights and own[k].shape != weights[k].shape
    ]
    problems = [
        ("missing", [k for k in own if k not in weights]),
        ("unexpected", sorted(k for k in weights if k not in own)),
        ("of another shape", wrong),
    ]
    found = "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in problems if names)
    if found:
        raise ValueError(
            f"--weights {spec.weights} do not fit the model of {spec.factory} ({found}); give the file that was saved "
            "from a model of this factory."
        )
    net.load_state_dict(weights)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")


def _in_eval_mode(model: nn.Module, notes: list[str]) -> nn.Module:
    try:
        check_eval(model)
    except ValueError:
        notes.append("BatchNorm or Dropout was in train mode: put into eval mode")
    return model.eval().requires_grad_(False)


def _state_digest(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _source_digest(make: Callable[..., Any]) -> str:
    """Of the file that defines the factory; empty where there is none."""
    try:
        text = inspect.getsource(inspect.getmodule(make) or make)
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()

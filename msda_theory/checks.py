"""Preconditions of the theory on a model: eval mode, shapes, dtype, samples that do not influence each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd

from msda_theory.data import ImageData
from msda_theory.losses import Loss


def check_model(model: nn.Module, data: ImageData, loss: Loss) -> None:
    """Raise unless ``model`` is a deterministic function of each sample alone, with outputs [B, c].

    Raises:
        TypeError: ``model`` is not a module, or its parameters and the images differ in dtype.
        ValueError: BatchNorm or Dropout in train mode, wrong output shape, outputs that are not finite or that
            depend on the other samples of the batch.
    """
    check_precision(data.x.device)
    check_module(model, data.x)
    check_eval(model)
    _check_outputs(model, data.x[:3], loss.outputs(data.num_classes))


def check_module(model: nn.Module, x: Tensor) -> None:
    """Raise unless ``model`` is a module in Python code with parameters on the device and in the dtype of ``x``.

    Raises:
        TypeError, ValueError: with the parameter that differs.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}; wrap the function in a module.")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"expected a module in Python code, got {type(model).__name__}; pass the module that torch.jit was given."
        )
    for name, parameter in model.named_parameters():
        if parameter.device != x.device:
            raise ValueError(
                f"expected model and images on one device, got {parameter.device} ({name}) and {x.device}; move "
                "one of them."
            )
        if parameter.dtype != x.dtype:
            raise TypeError(
                f"expected parameters in the dtype of the images ({x.dtype}), got {parameter.dtype} "
                f"({name}); convert with model.to(x.dtype) or data.to(dtype)."
            )


def check_precision(device: torch.device) -> None:
    """Raise a ValueError under automatic mixed precision."""
    if torch.is_autocast_enabled(device.type):
        raise ValueError(
            "second derivatives need one precision throughout, got automatic mixed precision; leave torch.autocast."
        )


def check_eval(model: nn.Module) -> None:
    """Raise a ValueError that names the layer if a random or statistics-keeping layer is in train mode."""
    for name, module in model.named_modules():
        tracks = isinstance(module, _NormBase) and (isinstance(module, _BatchNorm) or module.track_running_stats)
        if module.training and (tracks or isinstance(module, _DropoutNd)):
            raise ValueError(
                f"expected a model in eval mode, got {type(module).__name__} {name!r} in train mode; call model.eval()."
            )


def _check_outputs(model: nn.Module, images: Tensor, outputs: int) -> None:
    x = images.clone()
    with torch.no_grad():
        f = model(x)
    _check_unchanged(x, images)
    if not isinstance(f, Tensor) or f.shape != (len(x), outputs):
        got = tuple(f.shape) if isinstance(f, Tensor) else type(f).__name__
        raise ValueError(
            f"expected model outputs of shape [{len(x)}, {outputs}] for {len(x)} images, got {got}; "
            "return one row of logits for each image."
        )
    if not bool(torch.isfinite(f).all()):
        raise ValueError("expected finite model outputs, got NaN or infinity; check the weights and the input scale.")
    check_apart(model, x)


def _check_unchanged(x: Tensor, images: Tensor) -> None:
    if not torch.equal(x, images):
        raise ValueError(
            "expected a model that leaves its input as it is, got one that changes it in place; use inplace=False in "
            "its first layers."
        )


def check_apart(model: nn.Module, x: Tensor) -> None:
    """Raise a ValueError unless ``model`` leaves ``x`` [B, ...] as it is and gives a row [c] for each sample alone."""
    images, x = x, x.clone()
    with torch.no_grad():
        f = model(x)
        _check_unchanged(x, images)
        if not isinstance(f, Tensor) or f.ndim != 2 or len(f) != len(x):
            got = tuple(f.shape) if isinstance(f, Tensor) else type(f).__name__
            raise ValueError(
                f"expected model outputs [{len(x)}, c] for {len(x)} samples, got {got}; return one row for each sample."
            )
        parts = torch.cat([model(part) for part in (x[:1], x[1:]) if len(part)])
    tolerance = 1e-9 if x.dtype == torch.float64 else 1e-3
    difference = float((f - parts).abs().max())
    if difference > tolerance * (1 + float(f.abs().max())):
        raise ValueError(
            f"expected outputs that do not depend on the rest of the batch, got a change of {difference:.2g} when "
            "a batch is split; the theory needs one function of each sample (eval mode, no batch statistics)."
        )

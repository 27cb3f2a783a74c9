"""Weights of trained networks from safetensors files: those of their record, or an error that names the file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from msda_theory.files import FileError, read_whole


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU; memory is twice the file's length.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not a file, or not whole.
    """
    return _tensors(path, read_whole(path))


def load_weights(model: nn.Module, path: Path, sha256: str) -> None:
    """Give a network the weights of a file whose SHA-256 its record holds.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not the file of the record, or does not fit the network.
    """
    content = read_whole(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise FileError(f"{path} does not hold the weights of its record; delete both and train again.")
    try:
        model.load_state_dict(_tensors(path, content))
    except RuntimeError as error:
        raise FileError(f"{path} holds weights of another network ({error}); delete it and train again.") from error


def _tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return load(content)
    except (SafetensorError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise FileError(f"{path} is not a whole safetensors file ({error}); delete it and train again.") from error

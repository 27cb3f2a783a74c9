"""Weights of trained networks from safetensors files: those of their record, or an error that names the file."""

from __future__ import annotations

import hashlib
import re

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from msda_theory.files import AnyPath, FileError, memory_of, read_whole

ENTRIES = 4096  # tensors of a file, at most; each takes 2 kB, whatever its size
# Up to the next brace outside of texts, or to the end. Whatever follows, a text that is not closed included, is part of
# one match, so that no byte is looked at twice.
_BRACE = re.compile(rb'(?:[^"{]++|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z))*+(\{|\Z)', re.DOTALL)


def read_tensors(path: AnyPath) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU; memory is twice the file's length.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not a file, or not whole.
    """
    return tensors(path, read_whole(path))


def load_weights(model: nn.Module, path: AnyPath, sha256: str) -> None:
    """Give a network the weights of a file whose SHA-256 its record holds.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not the file of the record, or does not fit the network.
    """
    content = read_whole(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise FileError(f"{path} does not hold the weights of its record; delete both and train again.")
    try:
        model.load_state_dict(tensors(path, content))
    except RuntimeError as error:
        raise FileError(f"{path} holds weights of another network ({error}); delete it and train again.") from error


def tensors(path: AnyPath, content: bytes) -> dict[str, Tensor]:
    """The tensors of the bytes of a safetensors file.

    Raises:
        ValueError: if they are not such a file, whole and of at most `ENTRIES` tensors.
    """
    try:
        check_header(content)
        with memory_of(path):
            return load(content)
    except FileError:
        raise
    except (SafetensorError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise FileError(f"{path} is not a whole safetensors file ({error}); delete it and train again.") from error


def check_header(content: bytes) -> None:
    """Refuse a safetensors file of more than `ENTRIES` tensors before any of them becomes an object.

    Raises:
        ValueError: then.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    count = -1  # for the header's own brace
    for found in _BRACE.finditer(content, 8, min(end, len(content))):
        count += found[1] == b"{"
        if count > ENTRIES + 1:  # one may be for words beside the tensors
            raise ValueError(f"it declares more than {ENTRIES} tensors")

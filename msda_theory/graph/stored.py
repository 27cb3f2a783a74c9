"""Arrays, CSR matrices and neighbour lists from the files that Planetoid was published in, as data and nothing else.

The files are in the format of Python's object serialisation, whose usual reader imports and calls what a file names:
to read one is to run it. Here its instructions are listed (``pickletools.genops``, which parses and runs nothing) and
the few that arrays, matrices, lists and numbers need are carried out on plain values. A name in a file is compared with
`_NAMES` and never looked up, nothing of a file is called, and memory stays within a multiple of the file's length.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msda_theory.files import FileError

_DTYPE = re.compile(r"(?:b1|[iu][1248]|f[48])")


@dataclass
class _Stored:
    """An object of the file: what it is, and what the file says of it."""

    kind: str
    arguments: tuple[Any, ...] = ()
    state: Any = field(default=None)


@dataclass(frozen=True)
class _Name:
    kind: str


_MARK = object()
_DEEPEST = 4096  # Python writes lists and dicts in runs of 1,000 parts
_NAMES = {
    **{f"numpy.{c}.multiarray _reconstruct": "array" for c in ("core", "_core")},
    **{f"numpy.{c}.numeric _frombuffer": "buffer" for c in ("core", "_core")},
    **{f"scipy.sparse.{c} csr_matrix": "csr" for c in ("csr", "_csr")},
    **{"numpy ndarray": "type", "numpy dtype": "dtype", "collections defaultdict": "dict", "_codecs encode": "bytes"},
    **{f"{c} _reconstructor": "instance" for c in ("copy_reg", "copyreg")},
    **{f"{c} {name}": "type" for c in ("__builtin__", "builtins") for name in ("list", "object")},
    **{f"{c} bytes": "bytes" for c in ("__builtin__", "builtins")},  # without arguments, of an empty array
}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "MARK": lambda: _MARK},
    **{"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict},
}
_PUTS = {"BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """Carries out the instructions of one file; every error is a ValueError or one of Python's own for wrong values."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.before = ""

    def run(self, content: bytes) -> Any:
        """The object that the file holds."""
        for opcode, argument, _ in pickletools.genops(content):
            if len(self.stack) > _DEEPEST:
                raise ValueError(f"more than {_DEEPEST} values that are no part of another")
            if opcode.name in _PUTS and self.before in _PUTS:  # a byte each, of which each would take a hundred
                raise ValueError("a value that is numbered twice")
            self.step(opcode.name, argument)
            self.before = opcode.name
        return self.stack.pop()

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _PUTS:
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise ValueError("a tuple of more values than there are")
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("TUPLE", "LIST", "DICT"):
            values = self.since_mark()
            stack.append(tuple(values) if name == "TUPLE" else values if name == "LIST" else _pairs(values))
        elif name in ("APPEND", "APPENDS"):
            values = [stack.pop()] if name == "APPEND" else self.since_mark()
            if not all(type(value) is int for value in values):
                raise ValueError("a list of other things than numbers")
            _of(stack[-1], list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self.since_mark()
            _of(stack[-1], dict).update(_pairs(values))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(_known(argument if name == "GLOBAL" else " ".join([stack.pop(), stack.pop()][::-1])))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = _of(stack.pop(), tuple)
            stack.append(_made(_of(stack.pop(), _Name).kind, arguments))
        elif name == "BUILD":
            state = stack.pop()
            _of(stack[-1], _Stored).state = state
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"an instruction {name}, which no array needs")

    def since_mark(self) -> list[Any]:
        """The values since the last mark, taken from the stack with it."""
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]


def _of(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} in the place of a {kind.__name__.strip('_').lower()}")
    return value


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2 or not all(type(key) in (int, str) for key in values[::2]):
        raise ValueError("keys that are neither numbers nor words")
    return dict(zip(values[::2], values[1::2], strict=True))


def _known(name: str) -> _Name:
    if name not in _NAMES:
        raise ValueError(f"it asks to import {name[:60]!r}, which no array needs and which was not done")
    return _Name(_NAMES[name])


def _made(kind: str, arguments: tuple[Any, ...]) -> Any:
    if kind == "dict":
        return {}
    if kind == "bytes":
        return _of(arguments[0], str).encode("latin-1") if arguments else b""
    if kind == "instance":
        kind, arguments = _of(arguments[0], _Name).kind, ()
    if kind == "type":
        raise ValueError("an object of no kind that a graph has")
    return _Stored(kind, arguments)


def read_stored(content: bytes, where: str) -> Any:
    """What the bytes of such a file hold: arrays, the parts (data, indices, indptr, shape) of a CSR matrix, a dict.

    Args:
        content: the file.
        where: its name, for errors.

    Raises:
        ValueError: if it is broken, or holds or asks for anything else.
    """
    try:
        found = _Machine().run(content)
        return _plain(found) if isinstance(found, _Stored) else found
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, UnicodeError) as error:
        raise FileError(
            f"{where}: expected arrays or lists as Planetoid stores them, got: {error}; copy the file again."
        ) from error


def _plain(found: _Stored) -> Any:
    if found.kind == "csr":
        state = _of(found.state, dict)
        parts = tuple(_plain(_of(state[part], _Stored)) for part in ("data", "indices", "indptr"))
        shape = _of(state["_shape" if "_shape" in state else "shape"], tuple)
        return (*parts, tuple(int(_of(side, int)) for side in shape))
    if found.kind == "buffer":
        data, dtype, shape, order = found.arguments
        return _array(data, dtype, shape, order == "F")
    if found.kind == "array":
        _, shape, dtype, fortran, data = found.state
        return _array(data, dtype, shape, fortran is True)
    raise ValueError(f"a {found.kind} in the place of an array")


def _array(data: Any, dtype: Any, shape: Any, fortran: bool) -> np.ndarray:
    data = data.encode("latin-1") if isinstance(data, str) else data
    kind = _of(dtype, _Stored).arguments[0]
    if not _DTYPE.fullmatch(kind) or not all(type(side) is int and side >= 0 for side in _of(shape, tuple)):
        raise ValueError(f"an array of {str(kind)[:20]!r}, or of a shape that is none")
    plain = np.dtype(("<" if dtype.state is None or dtype.state[1] != ">" else ">") + kind)
    if len(shape) > 2 or math.prod(shape) * plain.itemsize != len(data):
        raise ValueError(f"an array of shape {shape[:3]} with {len(data)} bytes")
    return np.frombuffer(data, plain).reshape(shape, order="F" if fortran else "C")

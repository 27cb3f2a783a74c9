"""What a reader does beside reading, seen by Python's audit hook: calls, code, sockets, files that are written.

While a file is read (`watching`) every event counts of a shell, a process, an import, code that is run or compiled, a
library that is loaded, a connection, and a file that is opened for writing, renamed or removed. One thing is allowed:
syntax trees, which `ast.literal_eval` makes of the header of an array and which run nothing. What readers import when
they first meet an error is imported before, see `experiments.fuzz_worker`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

_CALLS = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "os.startfile", "pty.spawn"),
    *("subprocess.Popen", "pickle.find_class", "marshal.load", "exec", "import", "code.__new__"),
    *("ctypes.dlopen", "ctypes.dlsym", "socket.connect", "socket.bind", "socket.sendto", "urllib.Request"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate", "shutil."),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

seen: list[str] = []  # calls that no reader has a reason to make
_state = {"watching": False}


@contextlib.contextmanager
def watching() -> Iterator[None]:
    """Events count from here to the end."""
    _state["watching"] = True
    try:
        yield
    finally:
        _state["watching"] = False


def look(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook."""
    if not _state["watching"]:
        return
    if event.startswith(_CALLS) or (event == "open" and _writes(arguments)) or (event == "compile" and not _tree()):
        seen.append(f"{event} {str(arguments)[:80]}")


def _writes(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    return bool(isinstance(flags, int) and flags & _WRITING) or bool(isinstance(mode, str) and set(mode) & set("wax+"))


def _tree() -> bool:
    """Whether ``ast.parse`` compiles, for `ast.literal_eval`: the frames are this one, `look`, and the two."""
    parse, evaluate = sys._getframe(2), sys._getframe(3)
    names = [frame.f_code.co_name for frame in (parse, evaluate)]
    return names == ["parse", "literal_eval"] and {f.f_globals.get("__name__") for f in (parse, evaluate)} == {"ast"}

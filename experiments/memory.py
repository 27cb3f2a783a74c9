"""Memory of this process, as Linux counts it."""

from __future__ import annotations

import re
from pathlib import Path


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    return status_bytes("VmHWM")


def status_bytes(field: str) -> int:
    """Bytes of a field of this process's status; VmHWM, unlike ru_maxrss, starts anew in a child process.

    Raises:
        RuntimeError: if there is no such field.
    """
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"expected {field} in /proc/self/status, found none; memory is measured on Linux only.")
    return 1024 * int(found.group(1))

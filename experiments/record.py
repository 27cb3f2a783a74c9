"""Records: small JSON results with provenance, written whole or not at all, reused when nothing has changed."""

from __future__ import annotations

import ast
import contextlib
import datetime
import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from experiments.files import parse, writable, write_whole
from msda_theory.estimate import Estimate
from msda_theory.files import AnyPath, memory_of, read_whole

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
RECORDS = ROOT / "experiments" / "records"
LONGEST = 2**26  # bytes of a record, at most; the longest so far has 2^21
_NUMBERS = re.compile(r"\[\s*(?:[-+.eE\d]+|null)(?:,\s*(?:[-+.eE\d]+|null))*\s*\]")
_LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "pandas")


class ClaimFailed(SystemExit):
    """An experiment ran to its end and its own check did not hold."""


def write_record(path: Path, record: dict[str, Any]) -> None:
    """A record as JSON: numbers in full, lists of numbers on one line, NaN refused."""
    text = json.dumps(plain(record), indent=1, allow_nan=False, ensure_ascii=False)
    text = _NUMBERS.sub(lambda match: " ".join(match.group().split()), text)
    write_whole(path, (text + "\n").encode())


def read_record(path: AnyPath) -> dict[str, Any] | None:
    """A record, or None where there is none.

    Raises:
        OSError: if the file cannot be read, a link to itself included.
        ValueError: if the file is not a JSON record of at most `LONGEST` bytes.
    """
    try:
        with memory_of(path):
            record = parse(read_whole(path, most=LONGEST))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON record ({error}); delete it and run the experiment again.") from error
    if not isinstance(record, dict) or not all(isinstance(record.get(part), dict) for part in ("config", "result")):
        raise ValueError(f"{path} is not a record (no config and result); delete it and run the experiment again.")
    return record


def plain(value: Any) -> Any:
    """Estimates, dataclasses, arrays and tuples as JSON values; NaN as null."""
    if isinstance(value, Estimate):
        return {"mean": value.mean, "se": value.se, "n": value.n}
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and np.isnan(value):
        return None
    return value


@cache
def code_digest(*files: str, package: tuple[str, ...] = ("",)) -> str:
    """SHA-256 of the package's code and of the named files; docstrings and comments do not count.

    A file is one of this folder, or, where its name has a slash, of the project. Of the package count the files whose
    path in it starts with one of ``package``; all by default.
    """
    source = ROOT / "msda_theory"
    package_files = sorted(p for p in source.rglob("*.py") if p.relative_to(source).as_posix().startswith(package))
    own = [ROOT / (name if "/" in name else f"experiments/{name}") for name in sorted(files)]
    digest = hashlib.sha256()
    for path in [*package_files, *own]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_text(body[0]):
                node.body = body[1:]  # type: ignore[attr-defined]
        digest.update(f"{path.relative_to(ROOT)}\n{ast.dump(tree)}\n".encode())
    for name in _LIBRARIES:
        digest.update(f"{name}=={_version(name)}\n".encode())
    return digest.hexdigest()


def weights_digest(records: list[dict[str, Any]]) -> str:
    """Digest of the weights behind a list of records, for the key of whatever is made from them."""
    return ":" + hashlib.sha256("".join(r["result"]["weights_sha256"] for r in records).encode()).hexdigest()


def current(path: Path, config: Any, code: str, *, needs: Iterable[Path] = ()) -> dict[str, Any] | None:
    """The record at ``path`` if it was made with this configuration and code, and the files it ``needs`` exist."""
    record = read_record(path)
    if record is None or record["config"] != plain(config) or record.get("code") != code:
        return None
    return record if all(p.exists() for p in needs) else None


def cached(
    path: Path,
    config: Any,
    code: str,
    command: str,
    run: Callable[[], dict[str, Any]],
    *,
    needs: Iterable[Path] = (),
    parts: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The `current` record at ``path``, or a new one.

    ``run`` returns the result; configuration, provenance and wall time are added here, the latter with that of the
    records that the result is made from (``parts``, summed over processes).

    Raises:
        OSError: if the folder cannot be written to, before anything is run.
    """
    old = current(path, config, code, needs=needs)
    if old is not None:
        return old
    writable(path)
    start = time.monotonic()
    result = run()
    record = {
        "experiment": path.stem,
        "command": command,
        "config": config,
        "result": result,
        "code": code,
        "wall_s": round(time.monotonic() - start + sum(p["wall_s"] for p in parts), 2),
        **provenance(),
    }
    write_record(path, record)
    return plain(record)


def command_line(module: str, config: Any) -> str:
    """The command that runs ``module`` with ``config``: options that are not default, nested ones with dots."""
    return " ".join([f"python -m {module}", *_options("", config, type(config)())])


def _options(prefix: str, config: Any, default: Any) -> list[str]:
    words: list[str] = []
    for f in fields(config):
        value, usual, name = getattr(config, f.name), getattr(default, f.name), prefix + f.name.replace("_", "-")
        if is_dataclass(value):
            words += _options(f"{name}.", value, usual)
        elif isinstance(value, bool) and value != usual:
            words.append(f"--{name}" if value else f"--{prefix}no-{f.name.replace('_', '-')}")
        elif value != usual:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name}", *(shlex.quote(str(v)) for v in values)]
    return words


def provenance() -> dict[str, Any]:
    """Commit, date, library versions and the kind of machine."""
    return {
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _LIBRARIES}},
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
    }


def check(name: str, holds: bool, detail: str) -> dict[str, Any]:
    """One line of an experiment's own verdict."""
    return {"check": name, "holds": bool(holds), "detail": detail}


def failed(record: dict[str, Any]) -> list[str]:
    """The checks of a record that did not hold."""
    return [f"{c['check']}: {c['detail']}" for c in record["result"].get("checks", []) if not c["holds"]]


def finish(record: dict[str, Any]) -> None:
    """End of a command line: print what was expected and what came, and the checks; exit with 1 if a check failed."""
    for e in record["result"].get("expectations", []):
        print(f"{'as expected' if e['holds'] else 'NOT as expected'}: {e['check']}: {e['detail']}")
    for c in record["result"].get("checks", []):
        print(f"{'holds' if c['holds'] else 'FAILS'}  {c['check']}: {c['detail']}")
    if failed(record):
        raise ClaimFailed(1)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # a benchmark's machine need not have what only other experiments use
        return None


def _commit() -> str | None:
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "msda_theory", "experiments/*.py"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        return f"{head}{' with local changes' if changed else ''}"
    return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

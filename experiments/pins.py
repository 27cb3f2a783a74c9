"""Hashes of the pinned packages: ``python -m experiments.pins --reports REPORT.json`` writes constraints-hashes.txt.

A report is what pip writes for one version of Python, without installing anything; where torch does not come as the
CPU build, for all pins but torch::

    python3.11 -m pip install --dry-run --ignore-installed -c constraints.txt --report 311.json '.[dev]'
    grep -v '^torch==' constraints.txt > pins.txt
    python3.13 -m pip install --dry-run --ignore-installed --no-deps -r pins.txt --report 313.json

The file has every package of the reports with the hashes of the archives that pip chose, and a marker where the report
of a version lacks it, for ``pip install --no-deps --require-hashes -r constraints-hashes.txt``, followed by
``pip install --no-deps --no-build-isolation -e .`` and ``pip check``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from packaging.utils import canonicalize_name

from experiments.files import write_whole
from experiments.record import ROOT

_HEAD = """# The pins of constraints.txt with the SHA-256 of the archives that pip chose; by python -m experiments.pins.
# For {systems}.
# torch: the CPU build for Python 3.11 alone; on others install it first (pip install torch=={torch}). Then:
#   pip install --no-deps --require-hashes -r constraints-hashes.txt
#   pip install --no-deps --no-build-isolation -e . && pip check
"""


@dataclass(frozen=True)
class Config:
    """Reports of pip, and where the file goes."""

    reports: tuple[Path, ...]
    out: Path = ROOT / "constraints-hashes.txt"


def pinned(text: str) -> dict[str, str]:
    """Version by canonical name, of the text of constraints.txt."""
    return {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==([\w.!+]+)$", text, re.MULTILINE)
    }


def locked(reports: Iterable[Mapping[str, Any]], pins: Mapping[str, str]) -> str:
    """Text of constraints-hashes.txt.

    Args:
        reports: of pip, version 1.
        pins: version by canonical name, as `pinned` gives them.

    Raises:
        ValueError: if a package is not pinned, has another version than its pin, or no hash.
    """
    hashes: dict[str, set[str]] = {}
    pythons: dict[str, set[str]] = {}
    systems = []
    for report in reports:
        where = report["environment"]
        systems.append(f"Python {where['python_version']} on {where['sys_platform']} {where['platform_machine']}")
        for item in report["install"]:
            name, version = canonicalize_name(item["metadata"]["name"]), item["metadata"]["version"].partition("+")[0]
            if name == "msda-theory":
                continue
            found = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
            if pins.get(name) != version or found is None:
                raise ValueError(
                    f"expected {name}=={pins.get(name)} of constraints.txt with a hash, got {version}, hash {found}; "
                    "pin it and let pip write the report again."
                )
            hashes.setdefault(name, set()).add(found)
            pythons.setdefault(name, set()).add(where["python_version"])
    everywhere = set().union(*pythons.values())
    lines = []
    for package in sorted(hashes):
        marker = " or ".join(f'python_version == "{version}"' for version in sorted(pythons[package]))
        marker = "" if pythons[package] == everywhere else f" ; {marker}"
        archives = [f"    --hash=sha256:{digest}" for digest in sorted(hashes[package])]
        lines.append(" \\\n".join([f"{package}=={pins[package]}{marker}", *archives]) + "\n")
    return _HEAD.format(systems="; ".join(dict.fromkeys(systems)), torch=pins.get("torch", "")) + "".join(lines)


def main(config: Config) -> None:
    """Write the file."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in config.reports]
    text = locked(reports, pinned((ROOT / "constraints.txt").read_text(encoding="utf-8")))
    write_whole(config.out, text.encode())


if __name__ == "__main__":
    main(tyro.cli(Config))

"""Licences of the packages that an installation pulls in: ``python -m experiments.licences`` writes docs/licences.md.

Names and conditions come from pyproject.toml, everything else from the metadata of the installed packages.
"""

from __future__ import annotations

import platform
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import tyro
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from experiments.files import write_whole
from experiments.record import ROOT

CORE = "core"
# What decides over licence and use alike: GPL, LGPL, AGPL, in words or as SPDX names them.
COPYLEFT = re.compile(r"\b[AL]?GPL|GNU (?:Affero |Lesser |Library )?(?:General )?Public|\bSSPL|\bEUPL", re.IGNORECASE)
_LONGEST = 80  # characters of a name; longer ones are the whole text of a licence
_HEAD = """# Licences

What an installation pulls in besides this package, which is under the [MIT licence](../LICENSE): every package, the
licence that its metadata state, and what needs it, directly or not. *core* is `pip install msda_theory`, the rest are
extras (`dev` holds all of them). Versions are those of [`constraints.txt`](../constraints.txt), for Python {python} on
{system}. Written by `python -m experiments.licences`; a test compares it with pyproject.toml and the metadata.

{direct} packages are asked for by name (bold), {total} in all. In the core no licence is GPL, LGPL or AGPL;
{weak}.
Not in this table: libraries that wheels carry inside, each under its own licence, to be found in the wheel's
`*.dist-info`. Wheels of numpy, scipy, scikit-learn and torch carry run-time libraries of GCC (libgfortran, libquadmath,
libgomp), which are under GPL 3 with an exception, or LGPL, that lets programs of any licence use them. torch as the
registry has it for Linux also pulls in NVIDIA's CUDA libraries, under NVIDIA's own terms; the CPU build does not.

| package | version | licence | needed by |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Config:
    """Where the page goes."""

    out: Path = ROOT / "docs" / "licences.md"


@dataclass(frozen=True)
class Package:
    """One installed package.

    Attributes:
        name, version: the version without the local part of a build, such as ``+cpu``.
        licence: as its metadata states it; empty where they do not.
        needed_by: `CORE` or extras of this project.
        direct: whether pyproject.toml names it.
    """

    name: str
    version: str
    licence: str
    needed_by: tuple[str, ...]
    direct: bool


def declared() -> dict[str, list[Requirement]]:
    """Requirements that pyproject.toml states, by `CORE` or extra."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {CORE: project["dependencies"], **project["optional-dependencies"]}
    return {group: [Requirement(line) for line in lines] for group, lines in groups.items()}


def pulled_in(requirements: Iterable[Requirement]) -> dict[str, Distribution]:
    """Installed packages that these requirements need, directly or not, by canonical name.

    Raises:
        ValueError: if one is missing or its version is not allowed.
    """
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    waiting = [(r, "") for r in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        package = found[name] = _installed(name)
        if not requirement.specifier.contains(package.version, prereleases=True):
            raise ValueError(
                f"expected {requirement}, got {package.version} installed; run make install, then write the page again."
            )
        for asked in {"", *requirement.extras} - {e for n, e in done if n == name}:
            done.add((name, asked))
            waiting += [(Requirement(line), asked) for line in package.requires or ()]
    return found


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"expected every package of pyproject.toml to be installed, got no {name}; run make install."
        ) from error


def licence(package: Distribution) -> str:
    """What the metadata state: the SPDX expression, else the classifiers, else the field License if it is a name."""
    stated = package.metadata
    expression, classes = (stated.get_all("License-Expression") or [""])[0], stated.get_all("Classifier") or []
    names = [c.split(" :: ")[-1] for c in classes if c.startswith("License :: ") and not c.endswith("OSI Approved")]
    field = " ".join((stated.get_all("License") or [""])[0].split())
    if len(field) > _LONGEST or field == "UNKNOWN":
        field = ""
    return expression or ", ".join(names) or field


def packages() -> tuple[Package, ...]:
    """Every package that the core or an extra pulls in, by name."""
    groups = declared()
    direct = {canonicalize_name(r.name) for lines in groups.values() for r in lines}
    needs = {group: pulled_in(lines) for group, lines in groups.items()}
    every = {name: package for found in needs.values() for name, package in found.items()}
    return tuple(
        Package(
            name,
            every[name].version.partition("+")[0],
            licence(every[name]),
            tuple(group for group, found in needs.items() if name in found),
            name in direct,
        )
        for name in sorted(every)
    )


def page(rows: Iterable[Package], *, python: str, system: str) -> str:
    """The page as Markdown."""
    rows = list(rows)
    weak = [r.name for r in rows if CORE in r.needed_by and "MPL" in r.licence]
    head = _HEAD.format(
        python=python,
        system=system,
        direct=sum(r.direct for r in rows),
        total=len(rows),
        weak=f"MPL-2.0, which binds changes to its own files alone, is on {', '.join(weak)}" if weak else "none is MPL",
    )
    lines = [
        f"| {f'**{r.name}**' if r.direct else r.name} | {r.version} | {r.licence or 'not stated'} | "
        f"{', '.join(r.needed_by)} |\n"
        for r in rows
    ]
    return head + "".join(lines)


def main(config: Config) -> None:
    """Write the page of the packages that are installed here."""
    version = ".".join(platform.python_version_tuple()[:2])
    text = page(packages(), python=version, system=f"{platform.system()} {platform.machine()}")
    write_whole(config.out, text.encode())


if __name__ == "__main__":
    main(tyro.cli(Config))

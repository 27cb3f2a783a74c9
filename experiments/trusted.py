"""What the configuration of a record may name: a record is data from elsewhere, and is run as the project's code only.

Trusted are this checkout, the installed libraries and the folder that the command is started in. Not trusted is what a
record says: no text of it becomes code, a command, an option, or a path outside the folders that are named here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from experiments.data import DATA_SETS
from experiments.networks import KNOWN
from experiments.record import read_record
from experiments.run_config import RunConfig

OWN = {  # fields that hold paths, each checked by itself
    "experiments.branch_coverage": {"tests"},
    "experiments.mutants": {"parts", "tests"},
    "experiments.gradient_products": {"runs"},
    "experiments.order_ladder": {"runs"},
    "experiments.run_config": {"data", "model"},
}


def check_config(config: Any) -> None:
    """Refuse a configuration of a record that names what only its owner should run, read or write.

    Networks are the project's own, never ``module:function``, which is imported; data sets are `DATA_SETS`, whose
    files, at any path, are read as data and never written; a folder of runs lies in the folder that the command is
    started in, and its runs keep to the same; other texts have no path in them, since names of files are made of them.
    How long a record takes, and how much memory, is not bounded.

    Raises:
        ValueError: then.
    """
    for part in _parts(config):
        if isinstance(part, RunConfig):
            _check_run(part.model, part.data)
        own = OWN.get(type(part).__module__, set())
        if "runs" in own and part.runs is not None:
            _check_runs(part.runs)
        for name, text in _texts(part):
            if name not in own and (text in (".", "..") or text.startswith("-") or set(text) & set("/\\\0")):
                raise ValueError(
                    f"expected a plain name for {name}, got {text[:200]!r}: a path or an option; a "
                    "record is not trusted with these."
                )


def _check_run(model: Any, data: Any) -> None:
    if model not in KNOWN:
        raise ValueError(
            f"expected a network among {list(KNOWN)}, got {model!r}: a record names no code to import; if "
            "you trust that module, train it with experiments.train."
        )
    if str(data).partition(":")[0] not in DATA_SETS:
        raise ValueError(f"expected a data set among {list(DATA_SETS)}, got {data!r}; make the record again.")


def _check_runs(runs: str) -> None:
    here = Path.cwd()
    if Path(runs).is_absolute() or not (here / runs).resolve().is_relative_to(here.resolve()):
        raise ValueError(
            f"expected a folder of runs below {here}, got {runs!r}; measure it with the record's command if "
            "you trust it."
        )
    for place in sorted((here / runs).glob("*/record.json")):
        config = (read_record(place) or {"config": {}})["config"]
        _check_run(config.get("model", RunConfig.model), config.get("data", RunConfig.data))


def _parts(config: Any) -> Iterator[Any]:
    """A configuration and those in it."""
    yield config
    for f in fields(config):
        if is_dataclass(value := getattr(config, f.name)):
            yield from _parts(value)


def _texts(part: Any) -> Iterator[tuple[str, str]]:
    """Texts of a configuration with the names of their fields."""
    for f in fields(part):
        value = getattr(part, f.name)
        yield from ((f.name, text) for text in (value if isinstance(value, tuple) else (value,)) if type(text) is str)

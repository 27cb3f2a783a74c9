"""Run a record again from what it says of itself, and compare: ``python -m experiments.rerun RECORD [RECORD ...]``.

The configuration is rebuilt from the record, the experiment is run in an empty folder, so that no part of an earlier
run is read, and every number of the result is compared: identical to the bit, or how far off and where. Times of a run
(`experiments.differences.TIMES`) are not compared, and records of benchmarks, which hold little else, are not run.
Also told: whether code, library versions or machine are others than those of the record.

A record is data from elsewhere: what its configuration names is checked before anything is run
(`experiments.trusted`), and one that names code, an option or a path outside is refused.

On one machine with one set of versions all numbers come again to the bit. Elsewhere sums are rounded otherwise; without
training that stays within 1e-9 of a number (`experiments.differences.RELATIVE`), but training in float32 amplifies it,
so that networks, and with them later digits of what is measured on them, are others: the report then says how far off.
Exit status 0: at least one record was compared, and none differs by more than rounding.
"""

from __future__ import annotations

import importlib
import inspect
import tempfile
import time
import types
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import tyro

from experiments import tables
from experiments.differences import ABSOLUTE, RELATIVE, Comparison, compare, leaves
from experiments.parallel import one_thread
from experiments.record import ClaimFailed, plain, read_record
from experiments.run_config import RunConfig
from experiments.train import Execution, train
from experiments.trusted import check_config

# Record -> module of `experiments` whose ``run`` makes it from its ``Config``.
MODULES = {name: name for name in (*tables.EXPERIMENTS, *tables.STUDIES)} | {
    "order_ladder_runs": "order_ladder",
    "gradient_products_runs": "gradient_products",
    "mutants": "mutants",
    "accuracy_gpu": "accuracy",
    "accuracy_imagenet": "accuracy",
}
TRAINING = "record"  # of `experiments.train`, RUN/record.json
DERIVED = {"accuracy": ("run", "grid")}  # what a module's record adds to its configuration
_LIMIT = 2**1023  # what is larger may be no float
_THREADS = 1024  # more would cost the process its memory
_PLAIN = {int: int, float: int | float, str: str, bool: bool}


@dataclass(frozen=True)
class Rerun:
    """What came of running a record again.

    Attributes:
        comparison: of configuration and result.
        notes: what is other than when the record was made.
        seconds: that it took now.
    """

    comparison: Comparison
    notes: tuple[str, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether nothing differs by more than rounding."""
        return not self.comparison.beyond


def rerun(path: Path, *, jobs: int = 1) -> Rerun:
    """Run the record at ``path`` again, in an empty folder, and compare.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no record, one of no known experiment, a benchmark's, its configuration does not fit, or
            it holds what no experiment writes, or names what a record is not trusted with.
    """
    record = read_record(path)
    if record is None:
        raise FileNotFoundError(f"expected a record, got no file {path}; give the path of a record's JSON file.")
    check_values(path, record)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rerun-") as folder, one_thread():
        new, defaults = _run(path, record, Path(folder), jobs)
    parts = ("config", "result")
    old, now = ({k: plain(r[k]) for k in parts} for r in (record, new))
    for place in defaults:  # told in a note
        now["config"].pop(place, None)
    notes = [f"{name} is not in the record's configuration: its default was taken" for name in defaults]
    return Rerun(compare(old, now), (*notes, *_changes(record, new)), time.monotonic() - start)


def check_values(path: Path, record: dict[str, Any]) -> None:
    """Refuse what would end a rerun later on.

    Raises:
        ValueError: if the result is empty, a number is too large for a float, or versions, device or threads are not
            what experiments write.
    """
    result, versions = record["result"], record.get("versions")
    whole = compare(result, result)
    if not whole.numbers + whole.others:
        raise ValueError(f"expected a result with values in {path}, got {result!r}: there is nothing to compare.")
    large = next((place for place, value in leaves(record) if isinstance(value, int) and abs(value) >= _LIMIT), None)
    if large is not None:
        raise ValueError(
            f"expected numbers below 2^{_LIMIT.bit_length() - 1}, got a larger one at {large} of {path}; it is broken, "
            "make it again."
        )
    if not (versions is None or isinstance(versions, dict)):
        raise ValueError(f"expected versions by the names of libraries in {path}, got {versions!r}; make it again.")
    if record.get("experiment") != TRAINING:
        return
    device, threads = result.get("device"), result.get("threads")
    if device not in (None, "cpu", "cuda"):
        raise ValueError(f"expected the device cpu or cuda in the result of {path}, got {device!r}; make it again.")
    if threads is not None and (type(threads) is not int or not 1 <= threads <= _THREADS):
        raise ValueError(f"expected 1 to {_THREADS} threads in the result of {path}, got {threads!r}; make it again.")


def _run(path: Path, record: dict[str, Any], folder: Path, jobs: int) -> tuple[dict[str, Any], list[str]]:
    """The new record, and the fields of the configuration that the old one does not have."""
    name = str(record.get("experiment"))
    if name == TRAINING:
        config, defaults = _allowed(path, RunConfig, record["config"])
        result = record["result"]
        how = Execution(out=folder, device=result.get("device"), threads=result.get("threads"), quiet=True)
        return train(config, how), defaults
    if name in tables.BENCHMARKS or name == "bench_taylor_gpu":
        raise ValueError(
            f"{path} holds times, which do not come again even on one machine: it is not run; `make bench` measures "
            "anew."
        )
    if name not in MODULES:
        raise ValueError(
            f"expected a record among {sorted([*MODULES, TRAINING])}, got one of {name!r} in {path}; parts of a study "
            "are run again with the study."
        )
    module = importlib.import_module(f"experiments.{MODULES[name]}")
    values = record["config"]
    if isinstance(values, dict):
        values = {k: v for k, v in values.items() if k not in DERIVED.get(MODULES[name], ())}
    config, defaults = _allowed(path, module.Config, values)
    options = {"jobs": jobs} if "jobs" in inspect.signature(module.run).parameters else {}
    return module.run(config, folder=folder, **options), defaults


def _allowed(path: Path, kind: type[Any], values: Any) -> tuple[Any, list[str]]:
    """As `rebuild`, of a record at ``path`` that names nothing that it is not trusted with."""
    try:
        config, defaults = rebuild(kind, values)
        check_config(config)
    except ValueError as error:
        raise ValueError(f"{path} cannot be run: {error}") from error
    return config, defaults


def rebuild(kind: type[Any], values: Any) -> tuple[Any, list[str]]:
    """A configuration of the class ``kind`` from what `plain` made of it, and the names of fields it does not have.

    Raises:
        ValueError: if ``values`` has fields that the class does not have, lacks one without a default, or has another
            type somewhere.
    """
    known = {f.name: f for f in fields(kind)}
    need = {n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if not isinstance(values, dict) or set(values) - set(known) or need - set(values):
        got = sorted(values) if isinstance(values, dict) else values
        raise ValueError(
            f"expected a configuration with the fields {sorted(known)} of {kind.__module__}, got {got}; run the code "
            "of the record's commit."
        )
    hints = get_type_hints(kind)
    built = {name: _value(hints[name], value, f"{kind.__module__}: {name}") for name, value in values.items()}
    return kind(**built), sorted(set(known) - set(values))


def _value(kind: Any, value: Any, place: str) -> Any:
    """A value of the type ``kind`` from JSON."""
    if get_origin(kind) in (Union, types.UnionType):
        if value is None:
            return None
        return _value(next(k for k in get_args(kind) if k is not type(None)), value, place)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_value(get_args(kind)[0], v, place) for v in value)
    if is_dataclass(kind) and isinstance(kind, type):
        return rebuild(kind, value)[0]
    if kind in _PLAIN and isinstance(value, _PLAIN[kind]) and (kind is bool or not isinstance(value, bool)):
        return kind(value)
    raise ValueError(f"expected {place} of type {kind}, got {value!r}; the record is broken, make it again.")


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Code, versions and machine, where they are others than those of the record."""
    code, weights = (_halves(r.get("code")) for r in (old, new)), []
    (old_code, old_weights), (new_code, new_weights) = code
    found = []
    if old_code != new_code:
        found.append(f"the code is other than that of the record; its commit is {old.get('commit')}")
    weights = [old_weights, new_weights]
    if weights[0] != weights[1] and all(weights):
        found.append("the networks have other weights than those of the record")
    before, now = old.get("versions") or {}, new["versions"]
    found += [
        f"{name} is {now.get(name)}, was {before.get(name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if old.get("machine") != new["machine"]:
        found.append(f"the machine is {new['machine']!r}, was {old.get('machine')!r}")
    return found


def _halves(code: Any) -> tuple[str, str]:
    """Digest of the code, and that of the weights behind the record (empty where it has none)."""
    first, _, second = str(code).partition(":")
    return (first, second) if second else (first[:64], first[64:])


def report(path: Path, outcome: Rerun) -> str:
    """What came of a record, in a few lines."""
    c, largest = outcome.comparison, outcome.comparison.largest
    total = c.numbers + c.others
    if c.identical:
        lines = [
            f"{path}: identical: {c.numbers} numbers to the bit and {c.others} other values ({outcome.seconds:.1f} s)"
        ]
    else:
        verdict = "equal but for rounding" if outcome.holds else "DIFFERS"
        bound = f"rounding is {RELATIVE:g} of a number and {ABSOLUTE:g}"
        head = (
            f"{len(c.found)} of {total} values ({c.numbers} numbers, {c.others} others) differ, {len(c.beyond)} by "
            f"more than rounding ({bound})"
        )
        lines = [f"{path}: {verdict}: {head} ({outcome.seconds:.1f} s)"]
    if largest is not None:
        lines.append(
            f"  largest relative difference {largest.relative:.2g} at {largest.place}: {largest.old!r} in the record, "
            f"{largest.new!r} now"
        )
    others = [d for d in c.found if d.relative == float("inf")]
    lines += [f"  {d.place}: {_short(d.old)} in the record, {_short(d.new)} now" for d in others[:5]]
    lines += [f"  ... and {len(others) - 5} more that are no numbers"] * (len(others) > 5)
    return "\n".join([*lines, *(f"  {note}" for note in outcome.notes)])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def main(records: tyro.conf.Positional[tuple[Path, ...]], jobs: int = 1) -> None:
    """Run records again and compare; exit with 1 if one differs by more than rounding, or none could be compared.

    Args:
        records: paths of records.
        jobs: processes; they change no number.
    """
    outcomes, refused = [], 0
    for path in records:
        try:
            outcomes.append(rerun(path, jobs=jobs))
        except (ValueError, OSError) as error:
            timed = "holds times" in str(error)
            refused += not timed
            print(f"{'NOT RUN' if timed else 'REFUSED'}  {error}", flush=True)
            continue
        except Exception as error:  # a record may ask for anything; the others are still run
            refused += 1
            print(f"FAILED  {path}: {type(error).__name__}: {error}", flush=True)
            continue
        print(report(path, outcomes[-1]), flush=True)
    if refused or not outcomes or not all(o.holds for o in outcomes):
        raise ClaimFailed(1)


if __name__ == "__main__":
    tyro.cli(main)

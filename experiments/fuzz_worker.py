"""One process of the fuzzing of readers: reads damaged files under limits of memory, and says how each case ended.

It is told a reader, a fault and numbers of cases, one request a line, and answers with one line a case, in order. That
it ends or stops answering is an outcome as well, which `experiments.fuzz_readers` names and counts.
"""

from __future__ import annotations

import codecs
import ctypes
import gc
import hashlib
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments import fuzz_hook
from experiments.fuzz_faults import BYTES, PLACES
from experiments.fuzz_harm import harmful
from experiments.fuzz_samples import READERS
from experiments.fuzz_values import Sample, held
from msda_theory.streams import stream

LIMIT = 2 * 2**30  # bytes of address space on top of what the process has when it starts
_trim = ctypes.CDLL(None).malloc_trim


@dataclass(frozen=True)
class Harm:
    """A content made to do harm, and the file whose place it takes."""

    name: str
    content: bytes
    path: Path


class Bench:
    """A sample in a folder of its own, damaged and mended again and again."""

    def __init__(self, reader: str, seed: int, large: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz"))
        place = self.folder / "data"
        place.mkdir()
        self.sample: Sample = READERS[reader](place, stream(seed, "sample", reader), large)
        self.reader, self.seed, self.large = reader, seed, large
        self.whole = {p: p.read_bytes() for p in self.sample.paths if p.is_file()}
        self.harm = [
            Harm(name, content, path)
            for path, whole in self.whole.items()
            for name, content in harmful(reader, whole, large)
        ]
        self.damaged: Path | None = None
        self.calls: list[str] = []
        self.sample.read()

    def faults(self) -> dict[str, int]:
        """Faults of this reader by name, and the number of different contents; 0 where it is not bounded."""
        files = len(self.sample.paths)
        bounded = dict.fromkeys(PLACES, files)
        for harm in self.harm:
            bounded[harm.name] = bounded.get(harm.name, 0) + 1
        if not self.whole:
            return bounded
        return {**bounded, **{name: files if name == "last byte missing" else 0 for name in BYTES}, "none": 1}

    def damage(self, fault: str, number: int) -> tuple[Path, bytes]:
        """Do the damage of a case; returns the file, and its bytes or the name of what stands in its place."""
        rng = stream(self.seed, self.reader, fault, str(number))
        paths = self.sample.paths
        path = paths[number % len(paths)]
        if fault not in (*PLACES, *BYTES, "none"):
            own = [harm for harm in self.harm if harm.name == fault]
            path = own[number % len(own)].path
        if path != self.damaged or fault in PLACES:
            self.mend()
        self.damaged = path
        if fault in PLACES:
            _remove(path)
            PLACES[fault](path)
            return path, fault.encode()
        if fault in BYTES:
            content = BYTES[fault](self.whole[path], rng)
        elif fault == "none":
            content = self.whole[path]
        else:
            content = own[number % len(own)].content
        if path.is_symlink() or not path.is_file():
            _remove(path)
        path.write_bytes(content)
        return path, content

    def mend(self) -> None:
        """Put the undamaged file back."""
        path, self.damaged = self.damaged, None
        if path is None:
            return
        _remove(path)
        if path in self.whole:
            path.write_bytes(self.whole[path])
        else:
            shutil.rmtree(self.folder / "data")
            (self.folder / "data").mkdir()
            READERS[self.reader](self.folder / "data", stream(self.seed, "sample", self.reader), self.large)

    def case(self, fault: str, number: int) -> dict[str, Any]:
        """One case: outcome, what the error said, memory and time."""
        path, content = self.damage(fault, number)
        size = path.stat().st_size if path.is_file() and fault not in PLACES else 0
        declared = 0 if fault in PLACES else self.sample.declared(content)
        start = time.process_time()
        found, error, grown = watched(self.sample.read)
        seconds = time.process_time() - start
        outcome = self.outcome(found, error, path)
        legitimate = max(size, self.sample.decoded, declared, 0 if outcome != "read" else held(found))
        bound = int(self.sample.factor * legitimate) + self.sample.constant
        name = hashlib.sha256(f"{self.reader} {path.name} ".encode() + content).hexdigest()[:16]
        text = str(self.calls) if outcome == "executed" else "" if error is None else f"{type(error).__name__}: {error}"
        del found, error
        if outcome in ("read", "refused") and grown > bound:
            outcome, text = "too much memory", f"{grown:,} bytes of {bound:,}"
        sizes = {"grown": grown, "legitimate": legitimate, "factor": self.sample.factor, "bound": bound}
        own = {"outcome": outcome, **sizes, "seconds": seconds}
        return {**own, "content": name, "text": text.replace(str(self.folder), "")[:300]}

    def outcome(self, found: Any, error: BaseException | None, path: Path) -> str:
        """How a case ended; only "read" and "refused" are right."""
        self.calls = [*fuzz_hook.seen, *(["a file"] if Path("executed").exists() else [])]
        if self.calls:
            fuzz_hook.seen.clear()
            Path("executed").unlink(missing_ok=True)
            return "executed"
        if error is None:
            try:
                return "read" if self.sample.valid(found) else "read wrong"
            except Exception:
                return "read wrong"
        if isinstance(error, MemoryError):
            return "too much memory"
        if not isinstance(error, ValueError | OSError):
            return "another error"
        named = path.name in str(error) or str(self.folder) in str(error)
        return "refused" if named and "; " in str(error) and len(str(error)) < 5000 else "unclear error"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def watched(read: Callable[[], Any]) -> tuple[Any, BaseException | None, int]:
    """The value or the error of a call, and the bytes by which memory grew meanwhile at most.

    The larger of two: what Python and numpy asked for (tracemalloc), touched or not, and the growth of the process's
    resident memory, in which decoders count that are no Python, less what tracemalloc took for itself by the end (more
    at its peak, so that this is an upper bound). Free memory that earlier cases left is given back to the system first,
    so that to use it again is growth. Pages that are partly in use stay.
    """
    _trim(0)
    with open("/proc/self/clear_refs", "wb", buffering=0) as marks:  # noqa: PTH123
        marks.write(b"5")  # the high-water mark starts from now
    resident, own = _memory("VmRSS"), tracemalloc.get_tracemalloc_memory()
    tracemalloc.reset_peak()
    traced = tracemalloc.get_traced_memory()[0]
    found, failure = None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with fuzz_hook.watching():
                found = read()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            failure = error.with_traceback(None)
    peak = tracemalloc.get_traced_memory()[1]
    own = max(0, tracemalloc.get_tracemalloc_memory() - own)
    return found, failure, max(peak - traced, _memory("VmHWM") - resident - own)


def _memory(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    with open("/proc/self/status", "rb", buffering=0) as file:  # noqa: PTH123
        text = file.read(8192)
    place = text.index(name.encode()) + len(name) + 1
    return 1024 * int(text[place : place + 30].split()[0])


def main() -> None:
    """Answer requests until there are none."""
    torch.set_num_threads(1)
    limit = LIMIT + _memory("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    codecs.lookup("raw_unicode_escape")  # Python imports a codec when it is first used; texts of pickles have this one
    sys.addaudithook(fuzz_hook.look)
    tracemalloc.start()
    home, bench = tempfile.mkdtemp(prefix="fuzz"), None
    os.chdir(home)
    try:
        for line in sys.stdin:
            request = json.loads(line)
            key = (request["reader"], request["seed"], request["large"])
            if bench is None or (bench.reader, bench.seed, bench.large) != key:
                if bench is not None:
                    shutil.rmtree(bench.folder)
                bench = Bench(*key)
                gc.collect()
            if "fault" not in request:
                print(json.dumps(bench.faults()), flush=True)
                continue
            for number in range(request["low"], request["high"]):
                print(json.dumps(bench.case(request["fault"], number)), flush=True)
    finally:
        shutil.rmtree(home)
        if bench is not None:
            shutil.rmtree(bench.folder)


if __name__ == "__main__":
    main()

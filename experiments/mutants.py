"""Would the tests notice a fault? Small faults are put into the code one at a time, and the tests are run on each.

Of the mask laws, the moments, the losses and the expansion, what everything else rests on: the operators of mutmut
(`mutant_operators`) change one operator, number, text, flag or argument at a time; `mutant_runner` runs the tests that
run the changed lines, quick ones first, at most ``seconds`` of them for each mutant. What survives is listed, and
explained in ``mutant_survivors.json`` beside this file: there an explanation names function, line and change.

Expected, and checked: 90 % of the mutants are killed, every survivor has an explanation, every explanation a survivor;
and no test that killed a mutant fails on the code as it is.

Needs the extra ``mutation``. Cost: some two hours of one processor; a run that was stopped goes on, and after a
change of tests only mutants whose tests changed are run again. Record: ``mutants.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.inside import inside
from experiments.mutant_runner import Answer, search, unsound
from experiments.mutant_tests import Mutant, Project, Server, measured
from experiments.record import RESULTS, ROOT, cached, check, code_digest, command_line, finish

SOURCES = ("mutants.py", "mutant_operators.py", "mutant_runner.py", "mutant_server.py", "mutant_tests.py")
SLOW = (
    "torch", "torch.func", "torch.utils.data", "torch._dynamo", "torch.testing", "torch.distributed.tensor", "sympy",
    "scipy.stats", "scipy.integrate", "scipy.optimize", "scipy.signal", "sklearn.linear_model", "pandas", "hypothesis",
    "jaxtyping", "beartype", "filelock", "coverage", "PIL.Image",
)  # fmt: skip
SURVIVORS = ROOT / "experiments" / "mutant_survivors.json"
KINDS = {
    "equivalent": "no result can differ",
    "rounding": "results differ by less than any tolerance: a limit of rounding, of an iteration, of a quadrature",
    "cost": "only time or memory differ",
    "choice": "a number that was chosen, and would do as well",
    "text": "a description for readers differs",
    "open": "a test is missing",
}


@dataclass(frozen=True)
class Config:
    """What is mutated; folders and files of tests; limits in seconds; share that is to be killed."""

    parts: tuple[str, ...] = ("masks", "moments", "losses.py", "expansion.py")
    tests: tuple[str, ...] = (
        "masks", "moments", "properties", "test_losses.py", "test_loss_forms.py", "test_expansion.py",
        "test_engines.py", "test_objective.py", "test_order_ladder.py", "test_regressions.py", "test_rng.py",
        "test_gradient_products.py", "test_verify.py", "test_taylor.py", "test_calibration.py", "test_mix_transform.py",
        "test_compare.py", "test_first_layer.py", "test_linear_models.py", "test_distance.py", "test_proportions.py",
    )  # fmt: skip
    seconds: float = 5.0
    longest: float = 6.0
    share: float = 0.9

    def __post_init__(self) -> None:
        for top, names in (("msda_theory", self.parts), ("tests", self.tests)):
            inside(names, ROOT / top, ROOT / top)

    def project(self, folder: Path) -> Project:
        """The files behind the names.

        Raises:
            ValueError: if a name stands for no file.
        """
        files, tests = _files("msda_theory", self.parts, "*.py"), _files("tests", self.tests, "test_*.py")
        checker, log = "msda_theory,beartype.beartype", folder / "mutants"
        return Project(ROOT, files, tests, checker, self.seconds, self.longest, log, SLOW)


def _files(top: str, names: Sequence[str], pattern: str) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        path = ROOT / top / name
        own = [path] if path.is_file() else sorted(path.glob(pattern))
        if not own:
            raise ValueError(f"expected files of Python in {top}/{name}, got none; correct the name.")
        found += [p.relative_to(ROOT).as_posix() for p in own]
    return tuple(found)


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Make the mutants, run the tests, count."""
    project = config.project(folder)
    texts = "".join((ROOT / f).read_text(encoding="utf-8") for f in project.tests) + SURVIVORS.read_text("utf-8")
    return cached(
        folder / "mutants.json",
        config,
        f"{code_digest(*SOURCES, package=config.parts)}:{hashlib.sha256(texts.encode()).hexdigest()}",
        command_line("experiments.mutants", config),
        lambda: _result(config, project, jobs),
    )


def _result(config: Config, project: Project, jobs: int) -> dict[str, Any]:
    from experiments.mutant_operators import mutants  # the only module that needs the extra

    server = Server(project)
    tests = measured(project, server)
    server.close()
    made = [m for f in project.files for m in mutants(f, (project.root / f).read_text(encoding="utf-8"))]
    answers = search(project, made, tests, jobs)
    explained = json.loads(SURVIVORS.read_text(encoding="utf-8"))
    return {
        **summary(made, answers, explained, config.share, list(unsound(project, answers.values(), tests))),
        "tests": {"files": len(project.tests), "tests": len(tests)},
        "seconds": round(sum(answers[m.key].wall for m in made), 1),
        "tools": {name: version(name) for name in ("mutmut", "libcst", "coverage", "pytest", "hypothesis")},
    }


def summary(
    made: Sequence[Mutant],
    answers: Mapping[str, Answer],
    explained: Sequence[Mapping[str, Any]],
    share: float,
    failing: Sequence[str],
) -> dict[str, Any]:
    """Counts by file and in all, survivors with their explanations, and the checks."""
    files = [_counts(f, [answers[m.key] for m in made if m.file == f]) for f in dict.fromkeys(m.file for m in made)]
    total = _counts("all", [answers[m.key] for m in made])
    alive = [m for m in made if answers[m.key].outcome == "survived"]
    reasons = [_reason(m, explained) for m in alive]
    survivors = [
        {"file": m.file, "line": m.lines[0], "function": m.function, "before": m.before, "after": m.after, **r}
        for m, r in zip(alive, reasons, strict=True)
    ]
    idle = [e for e in explained for a in e["after"] if not any(_fits(m, e, a) for m in alive)]
    unknown = sum(r["kind"] == "unexplained" for r in reasons)
    return {
        "files": files,
        "total": total,
        "survivors": survivors,
        "kinds": dict(Counter(r["kind"] for r in reasons)),
        "checks": [
            check("killed", total["share"] >= share, f"{total['share']:.1%} of {total['made']}, at least {share:.0%}"),
            check("survivors explained", not unknown, f"{unknown} of {len(alive)} are not"),
            check("explanations in use", not idle, f"{len(idle)} name a mutant that does not survive"),
            check("tests pass on the code as it is", not failing, f"failing: {', '.join(failing) or 'none'}"),
        ],
    }


def _counts(name: str, answers: Sequence[Answer]) -> dict[str, Any]:
    found = Counter(a.outcome for a in answers)
    killed = len(answers) - found["survived"]
    return {
        "file": name,
        "made": len(answers),
        "killed": killed,
        "by_time": found["time"],
        "by_crash": found["crash"],
        "survived": found["survived"],
        "share": killed / len(answers),
    }


def _reason(mutant: Mutant, explained: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    for entry in explained:
        if any(_fits(mutant, entry, after) for after in entry["after"]):
            return {"kind": entry["kind"], "why": entry["why"]}
    return {"kind": "unexplained", "why": ""}


def _fits(mutant: Mutant, entry: Mapping[str, Any], after: str) -> bool:
    place = (entry["file"], entry["function"], entry["before"])
    return place == (mutant.file, mutant.function, mutant.before) and after == mutant.after


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Run over ``jobs`` processes; print the checks."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)

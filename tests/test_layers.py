"""The shape of the package: imports go down only, files and functions stay small, the front page is a short list."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import msda_theory

ROOT = Path(__file__).parents[1]
PACKAGES = ("msda_theory", "experiments", "figures", "reporting", "docsite")

# Level of each module of the package; a name ending in "." stands for everything below it.
LEVELS: list[set[str]] = [
    {"scalars"},
    {"streams", "estimate", "proportions", "data", "losses", "checks", "files"},
    {"moments.", "masks.", "jets.", "npz"},
    {
        *("cut", "taylor", "pairs", "engines", "mixing", "mix_transform"),
        *("predictions", "corruptions", "attack_libraries", "attacks"),
    },
    {
        "graph.",
        "terms",
        "rungs",
        "stand_ins",
        "ladder_table",
        "verdicts",
        "dense",
        "first_order",
        "ladder",
        "expansion",
        "mixed_loss",
        *("distance", "sampled_distance", "gradient_products"),
        "kink",
        "shards",
        "first_layer",
        "filters",
        "linear_models",
        "robustness",
        "adversarial_sides",
        "adversarial_bound",
        "inner_maximum",
        "ellipsoids",
        "rademacher",
        "generalization",
        "calibration",
        "stress",
        "objective",
    },
    {"verify", "compare", "order_ladder", "radii"},
    {"__init__"},
]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(p): p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))}
PACKAGE_FILES = {name: path for name, path in FILES.items() if name.split(".")[0] == "msda_theory"}


def imported(path: Path) -> Iterator[str]:
    """Dotted names imported anywhere in a file, functions and type-checking blocks included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph() -> dict[str, set[str]]:
    """Edges between the modules of the project."""
    edges = {}
    for name, path in FILES.items():
        edges[name] = {target for target in imported(path) if target in FILES} - {name}
        # "from msda_theory.data import ImageData" executes the package's __init__ too, by Python's rules; not an edge.
        edges[name] -= {n for n in edges[name] if name.startswith(n + ".")}
    return edges


def level(name: str) -> int:
    inner = name.removeprefix("msda_theory").removeprefix(".") or "__init__"
    for number, members in enumerate(LEVELS):
        if inner in members or any(m.endswith(".") and (inner + ".").startswith(m) for m in members):
            return number
    raise AssertionError(f"{name} has no level: add it to LEVELS")


def test_the_graph_is_not_empty():
    edges = graph()
    assert len(PACKAGE_FILES) > 20
    assert "msda_theory.moments.moments" in edges["msda_theory.masks.base"]
    assert "msda_theory.data" in edges["msda_theory.checks"]


@pytest.mark.parametrize("name", PACKAGE_FILES)
def test_imports_go_down_only(name):
    for target in graph()[name]:
        assert target.split(".")[0] == "msda_theory", f"{name} imports {target}, which is above the package"
        if target != "msda_theory":
            assert level(target) <= level(name), f"{name} (L{level(name)}) imports {target} (L{level(target)})"
        else:
            pytest.fail(f"{name} imports the front page; import from the module that defines the name")


def test_moments_do_not_import_masks_and_the_bottom_stands_alone():
    edges = graph()
    for name, targets in edges.items():
        inner = name.removeprefix("msda_theory.")
        if inner.startswith("moments"):
            assert not any(t.startswith("msda_theory.masks") for t in targets), f"{name} imports {targets}"
        if inner in LEVELS[0] | LEVELS[1] - {"checks"}:
            below = {f"msda_theory.{t}" for t in LEVELS[0]} if inner in LEVELS[1] else set()
            assert targets <= below, f"{name} imports {targets}"


def test_there_are_no_cycles():
    edges, done, path = graph(), set(), []

    def visit(name: str) -> None:
        assert name not in path, f"cycle: {' -> '.join([*path[path.index(name) :], name])}"
        if name in done:
            return
        path.append(name)
        for target in sorted(edges[name]):
            visit(target)
        done.add(path.pop())

    for name in edges:
        visit(name)
    assert done == set(FILES)


@pytest.mark.parametrize("name", [n for n in FILES if n.split(".")[0] == "figures"])
def test_figures_read_records_only(name):
    roots = {target.split(".")[0] for target in imported(FILES[name])}
    assert not roots & {"msda_theory", "torch", "experiments"}, f"{name} imports {roots}"


# Libraries of attacks and first weights of torch's modules draw from torch's global generators.
FORKED = ("msda_theory.streams",)


def seeded_in_a_fork(path: Path) -> set[tuple[int, int]]:
    """Places of ``torch.random.fork_rng`` at the head of a with statement and of ``torch.manual_seed`` in its body."""
    found: set[tuple[int, int]] = set()
    if module_name(path) in FORKED:
        for block in (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.With)):
            head = [item.context_expr for item in block.items]
            if any(isinstance(h, ast.Call) and ast.unparse(h.func) == "torch.random.fork_rng" for h in head):
                for node in (n for part in (*head, *block.body) for n in ast.walk(part)):
                    if ast.unparse(node) in ("torch.random.fork_rng", "torch.manual_seed"):
                        found.add((node.lineno, node.col_offset))
    return found


@pytest.mark.parametrize("name", FORKED)
def test_there_is_one_fork_in_each(name):
    assert len(seeded_in_a_fork(FILES[name])) == 2


@pytest.mark.parametrize("name", PACKAGE_FILES)
def test_no_global_random_state(name):
    """Only generators that are passed in, or made from a named stream; torch's own, in two places, inside a fork."""
    allowed = {"numpy.random.Generator", "numpy.random.default_rng"}
    aliases = {"np": "numpy"}
    forked = seeded_in_a_fork(FILES[name])
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and (node.lineno, node.col_offset) not in forked:
            parts, inner = [node.attr], node.value
            while isinstance(inner, ast.Attribute):
                parts.append(inner.attr)
                inner = inner.value
            if isinstance(inner, ast.Name):
                full = ".".join([aliases.get(inner.id, inner.id), *reversed(parts)])
                if full.startswith("numpy.random."):
                    assert full in allowed, f"{name}: {full}"
                banned = {"torch.manual_seed", "torch.seed", "torch.rand", "torch.randn", "torch.randint"}
                banned |= {"torch.randperm", "torch.normal", "torch.multinomial", "torch.bernoulli", "torch.rand_like"}
                assert full not in banned | {"torch.randn_like"}, f"{name}: {full}"
                assert not full.startswith(("torch.random.", "random.")), f"{name}: {full}"
    assert "random" not in set(imported(FILES[name])), f"{name} imports random"
    assert not any(t.startswith(("numpy.random", "torch.random")) for t in imported(FILES[name]))


@pytest.mark.parametrize("name", FILES)
def test_files_stay_short(name):
    lines = len(FILES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= 300, f"{name}: {lines} lines"


@pytest.mark.parametrize("name", FILES)
def test_functions_stay_short(name):
    """At most 60 lines from ``def`` to the end, docstring not counted."""
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                lines -= first.end_lineno - first.lineno + 1
            assert lines <= 60, f"{name}.{node.name}: {lines} lines"


def test_the_front_page_is_short_and_documented():
    names = msda_theory.__all__
    assert len(names) < 40
    assert len(set(names)) == len(names)
    for name in names:
        thing = getattr(msda_theory, name)
        assert (thing.__doc__ or "").strip(), f"{name} has no docstring"
        assert thing.__module__.startswith("msda_theory."), f"{name} comes from {thing.__module__}"
        # The dataclass decorator writes a docstring of its own where none is given.
        assert not thing.__doc__.startswith(f"{name}("), f"{name} has no docstring"


def test_the_front_page_has_the_fixed_names():
    fixed = (
        "Vanilla Mixup CutMix HMix GMix Choice DropMix strategy strategies Moments ImageData SoftmaxCrossEntropy "
        "Estimate expand taylor mixed_loss MixTransform compare remainder_order"
    )
    assert set(fixed.split()) <= set(msda_theory.__all__)


def test_the_front_page_does_nothing_but_import():
    body = ast.parse(Path(msda_theory.__file__).read_text(encoding="utf-8")).body
    kinds = [type(node).__name__ for node in body]
    assert kinds[0] == "Expr"
    assert set(kinds[1:-1]) == {"ImportFrom"}
    assert kinds[-1] == "Assign"
    listed = {alias.asname or alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert listed == set(msda_theory.__all__)


@pytest.mark.parametrize("name", PACKAGE_FILES)
def test_every_module_imports_and_has_a_docstring(name):
    assert (importlib.import_module(name).__doc__ or "").strip()


def test_files_of_tests_have_names_of_their_own():
    """Folders of tests are no packages: pytest refuses a second file of one name, and with it the whole run."""
    names = [p.name for p in sorted((ROOT / "tests").rglob("*.py")) if p.name != "conftest.py"]
    assert len(names) == len(set(names)), sorted(n for n in set(names) if names.count(n) > 1)

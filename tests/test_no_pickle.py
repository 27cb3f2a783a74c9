"""No source of the project reads or writes an object serialisation: to read one is to run what it holds.

Dask and multiprocessing move objects between processes of one run that way; that is theirs, and no file of anybody's.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from test_layers import FILES

MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
LISTED = {"pickletools": ("msda_theory.graph.stored",)}  # lists the instructions of a file, and carries none out
CALLS = {"torch.load", "torch.jit.load", "torch.package.PackageImporter"}
METHODS = {"read_pickle", "to_pickle"}


def serialised(tree: ast.AST, module: str) -> Iterator[str]:
    """What of a source reads or writes an object serialisation."""
    for node in ast.walk(tree):
        roots: list[str] = []
        if isinstance(node, ast.Import):
            roots = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            roots = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            yield from (name for name in roots if name in CALLS)
        elif isinstance(node, ast.Call):
            # import_module("pickle") and the like
            roots = [str(a.value) for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        for root in {name.split(".")[0] for name in roots}:
            if root in MODULES or module not in LISTED.get(root, (module,)):
                yield root
        if isinstance(node, ast.Attribute) and (ast.unparse(node) in CALLS or node.attr in METHODS):
            yield ast.unparse(node)
        if isinstance(node, ast.keyword) and not (isinstance(node.value, ast.Constant) and node.value.value is False):
            if node.arg == "allow_pickle":
                yield "allow_pickle"
        elif isinstance(node, ast.keyword) and node.arg == "weights_only":
            yield "weights_only=False"


@pytest.mark.parametrize("module", FILES)
def test_no_source_reads_or_writes_an_object_serialisation(module):
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    assert list(serialised(tree, module)) == []


@pytest.mark.parametrize(
    "text",
    [
        *("import pickle", "from pickle import loads", "import dill as json", "from joblib.numpy_pickle import load"),
        *("import pickletools", "__import__('marshal')", "importlib.import_module('shelve')", "import _pickle"),
        *("torch.load(path)", "from torch import load", "torch.load(path, weights_only=True)", "read = torch.load"),
        *("np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=x)", "np.load(path, allow_pickle=not 0)"),
        *("pd.read_pickle(path)", "table.to_pickle(path)", "f(path, weights_only=False)", "from torch.jit import load"),
    ],
)
def test_every_way_is_seen(text):
    """Negative control."""
    assert list(serialised(ast.parse(text), "experiments.any"))


def test_what_runs_nothing_is_allowed():
    for text in ("np.load(path, allow_pickle=False)", "json.load(file)", "safetensors.torch.load(content)"):
        assert list(serialised(ast.parse(text), "experiments.any")) == []
    assert list(serialised(ast.parse("import pickletools"), "msda_theory.graph.stored")) == []

"""No source of the project reads or writes an object serialisation, or runs text: to read one is to run what it holds.

Dask and multiprocessing move objects between processes of one run that way; that is theirs, and no file of anybody's.
Names are followed through imports (``import torch as t``, ``from numpy import load as read``) and assignments of one
name to another, as far as one source goes. A name that is put together while the program runs is not found.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from test_layers import FILES

MODULES = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "dbm"),
    *("numpy.lib.npyio", "multiprocessing.reduction", "torch.package", "torch.hub", "torch.serialization"),
}
RUN = {"eval", "exec", "compile", "builtins.eval", "builtins.exec", "builtins.compile"}
CALLS = {
    *("torch.load", "torch.save", "torch.jit.load", "torch.export.load", "torch.distributed.checkpoint.load"),
    *("torch.multiprocessing.reductions.ForkingPickler", "numpy.core.multiarray.fromstring", "code.interact"),
    *("runpy.run_path", "runpy.run_module", "logging.config.listen", "yaml.load", "yaml.unsafe_load"),
    *RUN,
}
METHODS = {"read_pickle", "to_pickle", "ForkingPickler", "Unpickler", "Pickler"}
# Calls that can unpickle, and the place of ``allow_pickle`` among their positional arguments.
ARRAYS = {
    **{"numpy.load": 2, "numpy.save": 2, "numpy.DataSource": 0},
    **{f"numpy.lib{inner}.format.{name}_array": place for inner in ("", "._format_impl") for name, place in
       (("read", 1), ("write", 3))},
    **{f"numpy.lib{inner}.npyio.NpzFile": 2 for inner in ("", "._npyio_impl")},
}  # fmt: skip
# What is used lawfully, by module, and why.
LISTED = {
    ("msda_theory.graph.stored", "pickletools"): "lists the instructions of a file, and carries none out",
    (
        "experiments.workers",
        "ForkingPickler",
    ): "moves tasks and results between processes of one run, through their pipes",
    ("experiments.workers", "multiprocessing.reduction"): "the same",
    ("experiments.mutant_operators", "compile"): "asks whether a mutant of the project's own code is Python; not run",
}


def names(tree: ast.AST) -> dict[str, str]:
    """Names of a source -> the dotted name of what they were imported from or set to."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):  # in their order, so that chains of names are followed
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name | ast.Attribute):
            known |= {t.id: dotted(node.value, known) for t in node.targets if isinstance(t, ast.Name)}
    return known


def dotted(node: ast.expr, known: dict[str, str]) -> str:
    """The full name of an expression of names and dots; else its text."""
    text = ast.unparse(node)
    first, dot, rest = text.partition(".")
    return known.get(first, first) + dot + rest


def forbidden(name: str) -> Iterator[str]:
    """What of a full name is forbidden."""
    yield from (m for m in MODULES | {"pickletools"} if name == m or name.startswith(f"{m}."))
    yield from (name for _ in range(name in CALLS))
    yield from (m for m in METHODS if m in name.split("."))


def unpickles(node: ast.Call, name: str) -> bool:
    """Whether a call may unpickle: ``allow_pickle`` in any way but False, by place, by name, or among ``**``."""
    named = {k.arg: k.value for k in node.keywords}
    flag = [named["allow_pickle"]] if "allow_pickle" in named else []
    if name in ARRAYS:
        place = ARRAYS[name]
        hidden = None in named or any(isinstance(a, ast.Starred) for a in node.args[: place + 1])
        flag += node.args[place : place + 1]
        if hidden or (not flag and name.endswith(("save", "write_array"))):
            return True  # the default of what writes is True
    loose = [named["weights_only"]] if "weights_only" in named else []
    text = {a.value for k in node.keywords if k.arg is None for a in ast.walk(k.value) if isinstance(a, ast.Constant)}
    allowed = all(isinstance(f, ast.Constant) and f.value is False for f in flag)
    weights = all(isinstance(w, ast.Constant) and w.value is True for w in loose)
    return not (allowed and weights) or bool(text & {"allow_pickle", "weights_only"})


def serialised(tree: ast.AST, module: str) -> Iterator[str]:
    """What of a source reads or writes an object serialisation, or runs text."""
    known = names(tree)
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            found = [dotted(node, known)]
        elif isinstance(node, ast.Call):
            name = dotted(node.func, known)
            # import_module("pickle"), getattr(torch, "load") and the like
            texts = [str(a.value) for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if name == "getattr":
                texts = [f"{dotted(node.args[0], known)}.{t}" for t in texts]
            found = [name, *(t for t in texts if t not in RUN)]  # compile(text, name, "exec")
            if unpickles(node, name):
                yield f"{name} may unpickle"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and known.get(node.id, node.id) in RUN:
            found = [known.get(node.id, node.id)]
        for name in found:
            yield from (f for f in forbidden(name) if (module, f) not in LISTED)


@pytest.mark.parametrize("module", FILES)
def test_no_source_reads_or_writes_an_object_serialisation(module):
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    assert list(serialised(tree, module)) == []


WAYS = (
    *("import pickle", "from pickle import loads", "import dill as json", "from joblib.numpy_pickle import load"),
    *("import pickletools", "__import__('marshal')", "importlib.import_module('shelve')", "import _pickle"),
    *("torch.load(path)", "from torch import load", "torch.load(path, weights_only=True)", "read = torch.load"),
    *("np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=x)", "np.load(path, allow_pickle=not 0)"),
    *("pd.read_pickle(path)", "table.to_pickle(path)", "f(path, weights_only=False)", "from torch.jit import load"),
    *("torch.serialization.load(path)", "import torch as t\nt.load(path)", "from torch.serialization import load"),
    *("from torch import serialization", "import torch.serialization as s", "torch.hub.load(a, b)", "import torch.hub"),
    *("import numpy as np\nnp.load(p, None, True)", "import numpy\nnumpy.load(p, None, x)"),
    *("import numpy as np\nnp.lib.format.read_array(f, True)", "np.load(p, **{'a': 1, **b})\nimport numpy as np"),
    "from numpy.lib.format import read_array as r\nr(f, True)",
    *("from numpy import load\nload(p, **{'allow_pickle': True})", "import numpy as np\nnp.load(p, **options)"),
    *("import numpy as np\nnp.load(*given)", "read(p, **{'allow_pickle': True})", "read(p, **{'weights_only': False})"),
    *("import numpy as np\nnp.save(path, values)", "from numpy.lib import format\nformat.write_array(f, x)"),
    *("import numpy as np\nread = np.load\nread(p, None, True)", "import numpy as a\nb = a\nb.load(p, None, 1)"),
    *("from multiprocessing.reduction import ForkingPickler", "reduction.ForkingPickler.loads(content)"),
    *("from multiprocessing import reduction", "getattr(torch, 'load')(path)", "import torch as t\ngetattr(t, 'load')"),
    *("eval(text)", "exec(text)", "run = eval", "compile(text, 'a', 'exec')", "builtins.exec(text)"),
    *("from builtins import eval as e\ne(text)", "import marshal", "import shelve", "import joblib", "import dill"),
    *("import cloudpickle", "from marshal import loads as json", "joblib.load(path)", "runpy.run_path(path)"),
    *("torch.save(model, path)", "f(path, weights_only=x)", "torch.package.PackageImporter(path)", "yaml.load(text)"),
)  # fmt: skip


@pytest.mark.parametrize("text", WAYS)
def test_ways_to_unpickle_or_to_run_text_are_seen(text):
    """Negative control: those that are known, of many."""
    assert list(serialised(ast.parse(text), "experiments.any"))


def test_what_runs_nothing_is_allowed():
    for text in (
        *("np.load(path, allow_pickle=False)", "json.load(file)", "safetensors.torch.load(content)", "model.eval()"),
        *("from safetensors.torch import load\nload(content)", "import numpy as np\nnp.load(path)", "re.compile(text)"),
        *("import numpy as np\nnp.load(path, None, False)", "ast.literal_eval(text)", "f(path, weights_only=True)"),
    ):  # fmt: skip
        assert list(serialised(ast.parse(text), "experiments.any")) == []


@pytest.mark.parametrize(("module", "name"), LISTED)
def test_what_is_listed_is_used_and_allowed_in_its_module_alone(module, name):
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    assert list(serialised(tree, module)) == []
    assert name in list(serialised(tree, "experiments.any"))

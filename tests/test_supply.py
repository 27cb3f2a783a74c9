"""What an installation pulls in is pinned and its licences are listed; the archives hold the package and nothing else.

With MSDA_SUPPLY=1 also: pip check, and the wheel in a fresh virtual environment outside the repository.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from experiments import licences
from experiments.pins import locked, pinned

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PYTHONS = ("3.11", "3.12", "3.13")
SOURCES = [
    p for f in ("msda_theory", "experiments", "figures", "reporting", "docsite") for p in (ROOT / f).rglob("*.py")
]
REMOVED = {  # from the standard library in 3.12 and 3.13
    *("asynchat", "asyncore", "distutils", "imp", "smtpd", "aifc", "audioop", "cgi", "cgitb", "chunk", "crypt"),
    *("imghdr", "lib2to3", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "sndhdr", "spwd", "sunau"),
    *("telnetlib", "uu", "xdrlib"),
}
when_asked = pytest.mark.skipif(not os.environ.get("MSDA_SUPPLY"), reason="slow: set MSDA_SUPPLY=1")


def pins() -> dict[str, str]:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = pinned(text)
    assert len(found) == sum(not line.startswith("#") for line in text.splitlines()), "a line pins one version"
    return found


@pytest.fixture(scope="module")
def needed():
    groups = {**licences.declared(), "build": [Requirement(line) for line in PYPROJECT["build-system"]["requires"]]}
    found = {group: licences.pulled_in(lines) for group, lines in groups.items()}
    assert len(found["dev"]) > 50
    return found


@pytest.fixture(scope="module")
def listed():
    text = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    table = text.partition("|---|---|---|---|\n")[2]
    rows = re.findall(r"^\| (\*{0,2})([\w-]+)\*{0,2} \| (\S+) \| (.+) \| ([\w, ]+) \|$", table, re.MULTILINE)
    assert len(rows) == len(table.splitlines()) > 50
    return {name: (bool(bold), number, licence, groups.split(", ")) for bold, name, number, licence, groups in rows}


def test_every_package_of_an_installation_is_pinned_to_what_is_installed(needed):
    pinned = pins()
    for name, package in {n: p for found in needed.values() for n, p in found.items()}.items():
        assert name in pinned, f"add {name}=={package.version} to constraints.txt"
        assert package.version.partition("+")[0] == pinned[name], name


def test_every_pin_is_of_use(needed):
    assert set(pins()) <= {name for found in needed.values() for name in found}


def test_the_development_installation_holds_every_extra(needed):
    for group in PROJECT["optional-dependencies"]:
        assert set(needed[group]) <= set(needed["dev"]) | set(needed["core"]), group


def test_the_walk_follows_extras_and_refuses_what_is_missing_or_too_old(needed):
    assert "distributed" in needed["cluster"]  # by dask[distributed] alone
    assert "networkx" in needed["core"]  # by torch
    with pytest.raises(ValueError, match="to be installed, got no"):
        licences.pulled_in([Requirement("no-such-package-of-msda")])
    with pytest.raises(ValueError, match="installed; run make install, then"):
        licences.pulled_in([Requirement("numpy<1")])
    assert licences.pulled_in([Requirement("no-such-package-of-msda; python_version < '3'")]) == {}


def test_every_pin_has_a_hash():
    text = (ROOT / "constraints-hashes.txt").read_text(encoding="utf-8")
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    entry = r"^(\S+==[^\s;]+)( ; python_version == \"3.11\")? \\((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)$"
    found = re.findall(entry, text, re.MULTILINE)
    assert len(found) == len(re.findall(r"^\S", text, re.MULTILINE))
    assert {line for line, _, _ in found} == {f"{name}=={number}" for name, number in pins().items()}
    assert [line for line, marker, _ in found if marker] == [f"torch=={pins()['torch']}"]


def report(name: str, number: str, python: str = "3.11", **archive: dict[str, str]) -> dict[str, object]:
    """What pip writes, as far as it is read."""
    item = {"metadata": {"name": name, "version": number}, "download_info": {"archive_info": archive}}
    where = {"python_version": python, "sys_platform": "linux", "platform_machine": "x86_64"}
    return {"environment": where, "install": [item]}


def test_hashes_of_all_reports_are_collected():
    reports = [report("Torch_X", "1.0+cpu", hashes={"sha256": "b"}), report("torch-x", "1.0", hashes={"sha256": "a"})]
    text = locked([*reports, report("msda_theory", "0.1.0")], {"torch-x": "1.0", "unused": "2"})
    assert text.endswith("pip check\ntorch-x==1.0 \\\n    --hash=sha256:a \\\n    --hash=sha256:b\n")
    assert text.count("Python 3.11 on linux x86_64") == 1


def test_a_package_that_a_report_lacks_has_a_marker():
    pythons = {"a": ("3.11", "3.12", "3.13"), "b": ("3.11", "3.13")}
    reports = [report(name, "1", p, hashes={"sha256": name}) for name in pythons for p in pythons[name]]
    text = locked(reports, {"a": "1", "b": "1"})
    marker = ' ; python_version == "3.11" or python_version == "3.13"'
    assert text.endswith(f"\na==1 \\\n    --hash=sha256:a\nb==1{marker} \\\n    --hash=sha256:b\n")


@pytest.mark.parametrize(
    "found", [report("a", "1", hashes={"sha256": "x"}), report("a", "2"), report("b", "1", hashes={"sha256": "x"})]
)
def test_packages_without_their_pin_or_a_hash_are_refused(found):
    with pytest.raises(ValueError, match="with a hash, got"):
        locked([found], {"a": "2"})


def test_the_page_lists_every_package_with_its_pinned_version(needed, listed):
    for group in licences.declared():
        for name in needed[group]:
            assert name in listed, f"{name} is missing: python -m experiments.licences"
            assert listed[name][1] == pins()[name], name
            assert group in listed[name][3], name


def test_the_page_marks_what_pyproject_names(listed):
    direct = {canonicalize_name(r.name) for lines in licences.declared().values() for r in lines}
    assert {name for name, row in listed.items() if row[0]} == direct


def test_the_page_states_what_the_metadata_state(needed, listed):
    for group in licences.declared():
        for name, package in needed[group].items():
            assert listed[name][2] == (licences.licence(package) or "not stated"), name


def test_every_licence_is_stated_and_none_of_the_core_is_copyleft(listed):
    assert not [name for name, row in listed.items() if row[2] == "not stated"]
    core = {name: row[2] for name, row in listed.items() if "core" in row[3]}
    assert {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]} <= set(core)
    assert not {name: text for name, text in core.items() if licences.COPYLEFT.search(text)}


@pytest.mark.parametrize(
    "text", ["GPL-3.0-only", "LGPL-2.1-or-later", "GNU Affero General Public License v3", "GPLv3", "MIT AND AGPL-3.0"]
)
def test_copyleft_is_recognised(text):
    """Negative control of the test above."""
    assert licences.COPYLEFT.search(text)


def test_metadata_name_the_versions_of_python_that_tools_check():
    named = [c.split(" :: ")[-1] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert tuple(named) == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + PYTHONS[0].replace(".", "")
    assert PYPROJECT["tool"]["mypy"]["python_version"] == PYTHONS[0]


def test_no_module_is_imported_that_newer_versions_lack_and_no_syntax_that_older_ones_lack():
    assert len(SOURCES) > 150
    for path in SOURCES:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 11))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not {name.partition(".")[0] for name in names} & REMOVED, path
        assert not {type(node).__name__ for node in nodes} & {"TypeAlias", "TypeVar", "ParamSpec"}, path


IMPORTS = """
import importlib, pkgutil, sys, msda_theory
def present(): return {m.partition(".")[0] for m in sys.modules if sys.modules[m] is not None}
print(*sorted(present()))
for module in pkgutil.walk_packages(msda_theory.__path__, "msda_theory."):
    importlib.import_module(module.name)
print(*sorted(present()))
"""
MODULES = {
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "pyyaml": "yaml",
}  # import names that are not those of the package


def test_importing_the_package_imports_only_what_it_computes_with(needed):
    """Then every module of it: none takes an extra. Indirect needs are left out: libraries take them where they are."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", IMPORTS]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    front, every = (set(line.split()) for line in found)
    groups = licences.declared()
    direct = {canonicalize_name(r.name) for r in groups["core"]}
    imported = {name for name in direct if MODULES.get(name, name.replace("-", "_")) in front}
    assert imported == {"torch", "numpy", "scipy", "tqdm", "jaxtyping"}
    extras = {canonicalize_name(r.name) for lines in groups.values() for r in lines} - set(needed["core"])
    extras |= {"eagerpy", "distributed"}
    assert {"foolbox", "torch-geometric", "dask", "mkdocs", "playwright", "pytest"} <= extras
    assert "pandas" in every
    assert not {name for name in extras if MODULES.get(name, name.replace("-", "_")) in every}


def test_importing_the_package_takes_less_than_two_and_a_half_seconds():
    """Of the processor, user and system together, at best of at most five fresh processes.

    Where torch alone takes over 1.4 s, which it takes on the machine of the records when that is idle, the processor is
    slower or shared with others, and times are scaled to 1.4 s for torch.
    """
    clock = "t = os.times(); print(t.user + t.system)"
    code = f"import os; {clock}; import torch; {clock}; import msda_theory; {clock}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    took = []
    while not took or (min(took) >= 2.5 and len(took) < 5):
        found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        start, torch, every = (float(line) for line in found.stdout.split())
        took.append(every * min(1.0, 1.4 / (torch - start)))
    assert min(took) < 2.5, took


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The source archive of the files under version control, and the wheel that is built from that archive alone."""
    folder = tmp_path_factory.mktemp("archives")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file() and not name.endswith((".png", ".json")):
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "tree" / name)
    build = "import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"

    def make(kind: str, source: Path) -> Path:
        command = [sys.executable, "-c", build, kind, str(folder)]
        made = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
        return folder / made.stdout.splitlines()[-1]

    sdist = make("build_sdist", folder / "tree")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    return sdist, make("build_wheel", next((folder / "source").iterdir()))


def package_files() -> set[str]:
    return {
        str(p.relative_to(ROOT)) for p in (ROOT / "msda_theory").rglob("*") if p.suffix == ".py" or p.name == "py.typed"
    }


def test_the_wheel_holds_the_package_its_types_and_its_licence_and_nothing_else(archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        names = set(wheel.namelist())
        info = f"msda_theory-{PROJECT['version']}.dist-info"
        assert {n for n in names if not n.startswith(info)} == package_files()
        assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        metadata = wheel.read(f"{info}/METADATA").decode().splitlines()
    assert f"Requires-Python: {PROJECT['requires-python']}" in metadata
    assert "License-Expression: MIT" in metadata
    assert {f"Provides-Extra: {extra}" for extra in PROJECT["optional-dependencies"]} <= set(metadata)


def test_the_source_archive_holds_what_a_build_needs(archives):
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt"} | package_files() <= names
    assert not {n.partition("/")[0] for n in names} & {"tests", "experiments", "figures", "results", "docs"}


SMOKE = """
import numpy as np, torch, msda_theory as mt
print(mt.__file__)
rng = np.random.default_rng(0)
batch = mt.CutMix().sample(5, (8, 8), rng=rng)
assert batch.mask.shape == (5, 8, 8)
moments = mt.HMix().moments((8, 8), law="exact")
assert moments.second.dense().shape == (64, 64)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4), torch.nn.Softplus(), torch.nn.Linear(4, 3))
data = mt.ImageData(torch.from_numpy(rng.normal(size=(6, 1, 8, 8))), np.arange(6) % 3, num_classes=3)
terms = mt.expand(model.double().eval(), data, mt.CutMix(), draws=2, rng=rng)
assert terms.total.mean > 0 and terms.r2.se > 0
"""


@when_asked
def test_the_wheel_passes_a_smoke_test_in_a_fresh_environment(archives, tmp_path):
    """Dependencies come from the packages of this one, by a path file; the package itself from the wheel."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env" / "lib").glob("python3.*")) / "site-packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
    subprocess.run([*install, str(archives[1])], check=True)
    (site / "dependencies.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n", encoding="utf-8")
    command = [str(python), "-W", "error", "-c", SMOKE]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    found = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).parent == site / "msda_theory"


@when_asked
def test_pip_finds_no_conflict():
    found = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    assert version("msda_theory") == PROJECT["version"]

"""Figures come from records alone, without torch, with the same bytes on every rebuild."""

from __future__ import annotations

import subprocess
import sys

import pytest

from experiments.record import RECORDS, ROOT
from figures import make
from figures.style import COLOURS, MARKERS, NAMES, load
from msda_theory.masks.registry import strategies


def test_two_rebuilds_have_the_same_bytes(tmp_path):
    first = make.make(make.Config(records=RECORDS, out=tmp_path / "a"))
    second = make.make(make.Config(records=RECORDS, out=tmp_path / "b"))
    assert len(first) == 2 * (len(make.FIGURES) + len(make.BENCHMARKS))
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name


def test_figures_of_benchmarks_can_be_left_out(tmp_path):
    drawn = make.make(make.Config(records=RECORDS, out=tmp_path, benchmarks=False))
    assert {p.stem for p in drawn} == set(make.FIGURES)


def test_drawing_imports_neither_torch_nor_the_package():
    code = "import sys, figures.make; print([m for m in ('torch', 'msda_theory', 'experiments') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_strategy_has_its_own_colour_marker_and_name():
    for table in (COLOURS, MARKERS, NAMES):
        assert list(table) == strategies()
        assert len(set(table.values())) == len(table)


def test_a_missing_record_names_its_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"make it with: python -m experiments\.digit_nets"):
        load(tmp_path, "digit_nets")


def test_every_figure_has_a_caption():
    for name, draw in {**make.FIGURES, **make.BENCHMARKS}.items():
        captions = [v for k, v in vars(sys.modules[draw.__module__]).items() if k.startswith("CAPTION")]
        assert captions, f"figure {name} has no caption"
        assert min(map(len, captions)) > 100

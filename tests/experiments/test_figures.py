"""Figures come from records alone, without torch, with the same bytes on every rebuild."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tokenize
import zlib

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from experiments.record import RECORDS, ROOT
from figures import designed_law, laws, make, style
from figures.style import COLOURS, MARKERS, NAMES, load
from msda_theory.masks.registry import strategies

ALL = make.FIGURES | make.BENCHMARKS
# Figures in the given order, in a process of its own.
DRAW = (
    "import sys; from pathlib import Path; from figures import make; step = int(sys.argv[2]); "
    "make.FIGURES, make.BENCHMARKS = (dict(list(d.items())[::step]) for d in (make.FIGURES, make.BENCHMARKS)); "
    "make.make(make.Config(out=Path(sys.argv[1])))"
)


@pytest.fixture(scope="module")
def rebuilds(tmp_path_factory):
    """Two folders, drawn at once by two processes: other hash seeds, the figures in opposite orders."""
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DRAW, str(folder), str(step)],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder, step, seed in zip(folders, (1, -1), (1, 2), strict=True)
    ]
    for process in processes:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
    return folders


def test_two_rebuilds_have_the_same_bytes(rebuilds):
    first, second = rebuilds
    names = {f"{name}.{suffix}" for name in ALL for suffix in ("pdf", "png")}
    assert {p.name for p in first.iterdir()} == {p.name for p in second.iterdir()} == names
    for name in sorted(names):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_nothing_is_cut_at_the_edges(rebuilds):
    for name in ALL:
        image = pixels(rebuilds[0] / f"{name}.png")
        for edge in (image[0], image[-1], image[:, 0], image[:, -1]):
            assert (edge == 255).all(), name


@pytest.mark.skipif(
    f"matplotlib=={matplotlib.__version__}" not in (ROOT / "constraints.txt").read_text(encoding="utf-8").split(),
    reason="another matplotlib than the pinned one draws other pixels",
)
def test_committed_figures_are_those_of_the_committed_records(rebuilds):
    shown = sorted((ROOT / "docs" / "figures").glob("*.png"))
    assert shown
    stale = [p.name for p in shown if not np.array_equal(pixels(p), pixels(rebuilds[0] / p.name))]
    assert not stale, "make them again with: python -m experiments.publish"


def test_text_in_every_pdf_is_text_and_a_figure_is_as_wide_as_a_column_or_a_page(rebuilds):
    for name in ALL:
        content = (rebuilds[0] / f"{name}.pdf").read_bytes()
        assert b"/FontFile2" in content, name  # TrueType outlines, with their characters
        assert b"/Type3" not in content, name
        assert any(b"Tj" in zlib.decompress(s) or b"TJ" in zlib.decompress(s) for s in _streams(content)), name
        width = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", content)[1]) / 72
        assert width == pytest.approx(style.COLUMN) or width == pytest.approx(style.PAGE), name


def _streams(content: bytes) -> list[bytes]:
    """Compressed streams of a PDF."""
    found = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
    return [s for s in found if s[:1] == b"\x78"]


def test_docs_show_what_there_is_to_show():
    shown = {p.stem for p in (ROOT / "docs" / "figures").glob("*.png")}
    assert shown == set(ALL) - {"masks"}  # its photographs are of others


def test_figures_of_benchmarks_can_be_left_out(tmp_path, monkeypatch):
    drawn = []
    for name in ("FIGURES", "BENCHMARKS"):
        stubs = {
            k: make.Drawing(lambda _, out, k=k: drawn.append(k) or [out / k], d.caption, d.records)
            for k, d in getattr(make, name).items()
        }
        monkeypatch.setattr(make, name, stubs)
    assert make.make(make.Config(out=tmp_path, benchmarks=False)) == [tmp_path / name for name in make.FIGURES]
    make.make(make.Config(out=tmp_path))
    assert drawn == [*make.FIGURES, *make.FIGURES, *make.BENCHMARKS]


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


@pytest.mark.parametrize("name", ALL)
def test_every_figure_has_a_caption_filled_from_its_records(name):
    records = {k: json.loads((RECORDS / f"{k}.json").read_text(encoding="utf-8")) for k in ALL[name].records}
    text = ALL[name].caption(records)
    assert len(text) > 150
    assert "{" not in text
    assert text.endswith(".")
    assert "\n" not in text
    assert re.search(r"\bn = \d", text), "a caption gives n"
    assert re.search(r"error bar|interval|standard error|quartile|from the least", text), "a caption defines its errors"
    assert make.captions(records)[name] == text


def joined_words(source: str) -> list[str]:
    """String literals that follow each other with no space between, as "END|START"."""
    found, last = [], None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.STRING:
            text = re.sub(r"^[a-zA-Z]*([\"']{3}|[\"'])(.*)\1$", r"\2", token.string, flags=re.DOTALL)
            if last and text and re.search(r"[\w,.;:]$", last) and re.match(r"\w", text):
                found.append(f"{last[-12:]}|{text[:12]}")
            last = text
        elif token.type not in (tokenize.NL, tokenize.COMMENT):
            last = None
    return found


def test_no_two_words_of_a_caption_run_together():
    for path in sorted((ROOT / "figures").glob("*.py")):
        assert joined_words(path.read_text(encoding="utf-8")) == [], path.name


def test_words_that_run_together_would_be_found():
    assert joined_words('a = (\n    "weight of the"\n    "first image"\n)') == ["eight of the|first image"]
    assert joined_words('a = "weight of the " "first image", "a"') == []


def test_periodic_distance_averages_over_pairs_of_pixels():
    side = 4
    rng = np.random.default_rng(0)
    torus = rng.random((side, side))
    at, value = designed_law.by_periodic_distance(
        [[torus[dy % side, dx % side] for dx in range(1 - side, side)] for dy in range(1 - side, side)]
    )
    bins: dict[int, list[tuple[float, float]]] = {}
    for y, x, v, u in np.ndindex(side, side, side, side):
        distance = min(np.hypot(v - y + side * a, u - x + side * b) for a in (-1, 0, 1) for b in (-1, 0, 1))
        bins.setdefault(round(distance), []).append((distance, torus[(v - y) % side, (u - x) % side]))
    expected = np.array([np.mean(bins[k], axis=0) for k in sorted(bins)])
    np.testing.assert_allclose(np.stack([at, value], axis=1), expected, rtol=1e-12)


def test_captions_are_left_out_where_a_record_is_missing():
    assert make.captions({}) == {}


# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB: red-blind and green-blind readers.
BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def _seen(colour: str, kind: str) -> np.ndarray:
    """A colour as its reader sees it, in CIE L*a*b*."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(BLIND[kind]) @ linear, 0, 1) if kind in BLIND else linear
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _nearest(colours: list[str], kind: str) -> float:
    seen = [_seen(c, kind) for c in colours]
    return min(float(np.linalg.norm(a - b)) for k, a in enumerate(seen) for b in seen[:k])


@pytest.mark.parametrize("kind", ["all", *BLIND])
@pytest.mark.parametrize(
    "colours",
    [
        list(COLOURS.values()),
        [style.INDIGO, style.WINE, style.TEAL, style.ROSE, style.GREY],
        [colour for colour, _ in laws.FAMILIES.values()],
    ],
    ids=["strategies", "others", "families of laws"],
)
def test_colours_can_be_told_apart_with_every_kind_of_sight(colours, kind):
    assert _nearest(colours, kind) > 10  # five times the least difference that is seen side by side


def test_red_and_green_of_one_lightness_would_be_found():
    assert _nearest(["#C04040", "#6E6E1E"], "deutan") < 10 < _nearest(["#C04040", "#6E6E1E"], "all")

"""The bars of the terms are those of the record: stacked, negative ones downwards, the measured loss beside them."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from matplotlib.colors import to_rgb

from experiments.record import RECORDS, read_record
from figures import terms
from figures.make import FIGURES
from figures.style import COLOURS, load, use_style

SUMMARY = load(RECORDS, "expansion_gap")["summary"]


@pytest.fixture(scope="module")
def panels():
    """Axes of the figure of the study, which is not written."""
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terms, "save", lambda figure, out, name: kept.append(figure) or [])
        use_style()
        terms.draw(RECORDS, RECORDS)
    return kept[0].axes


def rows(activation: str, matched: bool) -> list[dict]:
    """The rows of a panel in the order of its bars."""
    cells = {tuple(r[k] for k in ("training", "activation", "strategy", "law", "at")): r for r in SUMMARY}
    return [
        cells[strategy if matched else "vanilla", activation, strategy, law, at]
        for strategy in terms.STRATEGIES
        for law, at, _ in terms.BARS
    ]


PANELS = [(k, activation, matched) for k, (activation, matched) in enumerate(
    (a, m) for a in terms.ACTIVATIONS for m in (False, True)
)]  # fmt: skip


@pytest.mark.parametrize(("place", "activation", "matched"), PANELS)
def test_bars_stack_the_terms_of_the_record(panels, place, activation, matched):
    expected = rows(activation, matched)
    bars = panels[place].patches
    assert len(bars) == 4 * len(expected) == 64
    for k, row in enumerate(expected):
        stack = bars[4 * k : 4 * k + 4]
        for bar, term in zip(stack, ("base", "r1", "r2", "r3"), strict=True):
            assert bar.get_height() == pytest.approx(row[term]["mean"], rel=1e-9, abs=1e-12)
            assert (bar.get_y() + bar.get_height() < 0) == (bar.get_height() < 0)
            assert bar.get_y() >= 0 or bar.get_height() <= 0
        top = sum(max(b.get_height(), 0) for b in stack)
        assert max(b.get_y() + b.get_height() for b in stack) == pytest.approx(top)
        assert sum(b.get_height() for b in stack) == pytest.approx(row["predicted"]["mean"])


@pytest.mark.parametrize(("place", "activation", "matched"), PANELS)
def test_markers_are_the_measured_losses_with_their_errors(panels, place, activation, matched):
    expected = rows(activation, matched)[:: len(terms.BARS)]
    drawn = panels[place].containers[-1::-1]
    markers = [c for c in drawn if type(c).__name__ == "ErrorbarContainer"][::-1]
    assert len(markers) == len(expected)
    for container, row in zip(markers, expected, strict=True):
        (line, _, (bar,)) = container
        assert line.get_ydata() == [row["measured"]["mean"]]
        assert line.get_color() == COLOURS[row["strategy"]]
        (low, high) = bar.get_segments()[0][:, 1]
        assert (high - low) / 2 == pytest.approx(row["measured"]["se"])


def test_terms_differ_in_lightness_and_from_the_colours_of_strategies():
    shades = [look["facecolor"] for _, look in terms.TERMS.values()]
    lightness = [sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), to_rgb(s), strict=True)) for s in shades]
    assert all(b - a > 0.12 for a, b in pairwise(lightness))
    assert not set(shades) & set(COLOURS.values())


def test_the_caption_takes_its_numbers_from_the_record():
    record = read_record(RECORDS / "expansion_gap.json")
    assert "Means over n = 3 networks, 256 training images and 12 draws an image" in terms.caption(
        {"expansion_gap": record}
    )
    other = json.loads(json.dumps(record))
    other["result"]["images"] = 99
    assert "99 training images" in terms.caption({"expansion_gap": other})
    kept = [r for r in SUMMARY if r["training"] == "vanilla" and (r["law"], r["at"]) == ("exact", "mask")]
    shares = [
        (r["base"]["mean"] + r["r2"]["mean"]) / r["measured"]["mean"] for r in kept if r["strategy"] in terms.STRATEGIES
    ]
    assert f"base and R2 together are {min(shares):.2f} to {max(shares):.2f}" in terms.caption(
        {"expansion_gap": record}
    )
    assert "terms" in FIGURES

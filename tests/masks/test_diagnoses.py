"""`diagnose`: the reason why images were no blends, for transforms whose fault is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from msda_theory.masks.probes import Probe, diagnose

MOVES = "it moves pixels (a crop, flip, rotation or shift)"
SEVERAL = "it takes pixels of more than one partner, so the pairing cannot be identified"
NOISE = "it adds noise, which differs from pixel to pixel"
FILLS = "it moves pixels (a crop, rotation or shift that fills the rest) or erases some"
CHANGES = "it changes pixel values (normalisation, brightness, contrast), or mixes images from outside the batch"
SHAPE = (3, 5)


def reason(change, batch: int = 8, channels: int = 3, shape: tuple[int, int] = SHAPE, tolerance: float = 1e-4) -> str:
    """What is said of a transform that changes the images and leaves the labels alone."""
    y = torch.eye(batch)
    return diagnose(lambda x, y: (change(x), y), y, Probe.of(batch, channels, shape, tolerance, 0))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape)).float()


def test_what_one_colour_does_not_show_moves_pixels():
    assert reason(lambda x: x.flip(3)) == MOVES
    assert reason(lambda x: (0.3 * x + 0.7 * x.flip(0)).flip(2)) == MOVES


@pytest.mark.parametrize(("rare", "expected"), [(1, CHANGES), (100, CHANGES), (101, MOVES)])
def test_what_is_rare_is_waited_for_in_100_calls(rare, expected):
    calls = []

    def change(x):
        calls.append(1)
        return 0.8 * x if len(calls) == rare else x

    assert reason(change) == expected
    assert len(calls) == min(rare, 100)


@pytest.mark.parametrize("shift", [(1, 2), (1, 3), (3, 6)])
def test_blends_with_several_partners(shift):
    def halves(x):
        out = x.roll(shift[0], 0)
        out[..., 2:] = x.roll(shift[1], 0)[..., 2:]
        return out

    assert reason(halves) == SEVERAL
    mask = random(8, 1, *SHAPE)
    assert reason(lambda x: mask * x + (1 - mask) * halves(x)) == SEVERAL
    assert reason(halves, tolerance=0.0) == SEVERAL  # pixels on the segments to the bit


def test_weights_beyond_the_ends_are_changed_values():
    """A pixel may lie on the line through two colours, but beyond the partner's."""
    assert reason(lambda x: x + 1.5 * (x.flip(0) - x)) == CHANGES
    assert reason(lambda x: x - 0.5 * (x.flip(0) - x)) == CHANGES


@pytest.mark.parametrize("shape", [(1, 2), (1, 3), SHAPE], ids=str)
@pytest.mark.parametrize(
    "change", [lambda x: 0.8 * x, lambda x: 2 * x - 0.7, lambda x: 1 - x], ids=["darker", "contrast", "inverted"]
)
def test_changed_values(change, shape):
    """Each image keeps one colour, and of two pixels that is half of the colours that noise would give."""
    assert reason(change, shape=shape) == CHANGES


def test_images_of_one_pixel_have_a_diagnosis():
    assert reason(lambda x: torch.full_like(x, 0.5), shape=(1, 1)) == CHANGES


@pytest.mark.parametrize("scale", [1e-3, 0.1])
def test_noise(scale):
    noise = scale * torch.from_numpy(np.random.default_rng(1).normal(size=(8, 3, *SHAPE))).float()
    assert reason(lambda x: x + noise) == NOISE


@pytest.mark.parametrize(("pixels", "expected"), [(2, FILLS), (3, NOISE)])
def test_noise_shows_from_three_pixels_on(pixels, expected):
    def change(x):
        out = x.clone()
        out[2, :, 0, :pixels] += 0.1 + 0.1 * random(3, pixels)
        return out

    assert reason(change) == expected


def test_an_erased_box():
    def change(x):
        out = x.clone()
        out[:, :, 1:, 1:4] = 0.5
        return out

    assert reason(change) == FILLS


@pytest.mark.parametrize(("untouched", "expected"), [(1, CHANGES), (2, FILLS)])
def test_less_than_95_percent_of_strange_pixels_are_moved_or_erased(untouched, expected):
    """4 images of 5 pixels, of which one or two are as they were."""

    def change(x):
        out = 0.8 * x
        out[0, :, 0, :untouched] = x[0, :, 0, :untouched]
        return out

    assert reason(change, batch=4, shape=(1, 5)) == expected

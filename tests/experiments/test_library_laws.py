"""The laws of libraries against sums over sides and positions, written here once more; pairing, labels, purity."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from mc_checks import assert_unbiased, fails
from scipy import special

from experiments.library_laws import LAWS, LibraryLaw

SIZE, N = 32, 120_000
BATCHES = 15_000  # of 8, where the images of a batch share their alpha
CLIPPED = ("clovaai", "timm", "timm-elem", "timm-now", "torchvision", "fastai", "composer-uniform")


def nominal_sides(rounding: str, size: int = SIZE) -> list[tuple[int, float]]:
    """Side k and its probability at alpha = 1, where the root of the nominal share r has P(r < t) = t^2."""
    shift = 0.5 if rounding == "round" else 0.0
    edges = [(k, max(0.0, (k - shift) / size), min(1.0, (k + 1 - shift) / size)) for k in range(size + 1)]
    return [(k, b * b - a * a) for k, a, b in edges if b > a]


def covered(low: int, high: int, size: int = SIZE) -> int:
    """Pixels from ``low`` to ``high``, the latter excluded, that lie in the image."""
    return sum(1 for j in range(low, high) if 0 <= j < size)


def mean_share(rounding: str, lengths) -> float:
    """E[a] = sum over k of P(k) E[length | k]^2 / SIZE^2: the axes are independent given k."""
    return sum(p * (np.mean(lengths(k)) / SIZE) ** 2 for k, p in nominal_sides(rounding))


def halved(k: int) -> list[int]:
    return [covered(c - k // 2, c + k // 2) for c in range(SIZE)]


def whole(k: int) -> list[int]:
    return [covered(math.ceil(c - k / 2), math.ceil(c + k / 2)) for c in range(SIZE)]


def beyond(k: int) -> list[int]:
    return [covered(c - k // 2, c + k // 2) for c in range(-math.ceil(k / 2), SIZE + k // 2)]


def keras_share(nodes: int = 60) -> float:
    """E[a] of the real box: start s ~ U(0, S - l) covers ceil(s + l) - ceil(s) pixels; alpha ~ U(0, 1).

    Pixel 0 is in for s = 0 alone, where l = S: the weights so near 0 that 1 - lam rounds to 1 paste all of the image.
    """

    def ceil_integral(t: np.ndarray) -> np.ndarray:
        whole = np.floor(t)
        return whole * (whole + 1) / 2 + (t - whole) * (whole + 1)

    alphas, weights = (v / 2 for v in np.polynomial.legendre.leggauss(nodes))
    total = 0.0
    for alpha, weight in zip(alphas + 0.5, weights, strict=True):
        t, w = special.roots_jacobi(400, alpha - 1, alpha - 1)
        length = SIZE * np.sqrt((1 - t) / 2)
        free = SIZE - length
        expected = (ceil_integral(np.array(float(SIZE))) - ceil_integral(length) - ceil_integral(free)) / free
        total += weight * float((w / w.sum() * (expected / SIZE) ** 2).sum())
        total += weight * special.betainc(alpha, alpha, 2.0**-53) * (1 - (1 - 1 / SIZE) ** 2)
    return total


def expected_shares() -> dict[str, float]:
    floor = mean_share("floor", halved)
    inside = sum(p * (k / SIZE) ** 2 for k, p in nominal_sides("floor"))
    sides = range(int(0.2 * SIZE), int(0.8 * SIZE))
    return {
        **dict.fromkeys(("clovaai", "timm", "timm-elem", "torchvision", "nominal", "tf-models"), floor),
        "fastai": mean_share("round", halved),
        **dict.fromkeys(("timm-now", "keras-cv"), mean_share("floor", whole)),
        "composer-uniform": mean_share("floor", beyond),
        "timm-minmax": (np.mean(sides) / SIZE) ** 2,
        **dict.fromkeys(("timm-naflex", "kornia", "kornia-misread"), inside),
        "keras": keras_share(),
    }


def expected_errors() -> dict[str, float]:
    """E|w - share kept|; w is never above the share kept where the label is not corrected."""
    shares, area = expected_shares(), sum(p * (k / SIZE) ** 2 for k, p in nominal_sides("floor"))
    return {
        **dict.fromkeys((*CLIPPED, "timm-minmax", "timm-naflex", "kornia"), 0.0),
        "nominal": 0.5 - shares["nominal"],
        "tf-models": area - shares["tf-models"],
        "keras-cv": area - shares["keras-cv"],
        "kornia-misread": sum(p * abs(2 * (k / SIZE) ** 2 - 1) for k, p in nominal_sides("floor")),
    }


def draws(law: LibraryLaw, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Share taken and |w - share kept|, independent draws [n] each (means over a batch that shares its alpha)."""
    rng, shared = np.random.default_rng(seed), law.random_alpha
    calls = [8] * BATCHES if shared else [N // 20] * 20
    taken, error = [], []
    for call in calls:
        box, own = law.draw(call, call, (SIZE, SIZE), rng=rng)
        share = box.mean(axis=(1, 2))
        values = share, np.abs(own - (1 - share))
        taken.append(values[0].mean(keepdims=True) if shared else values[0])
        error.append(values[1].mean(keepdims=True) if shared else values[1])
    return np.concatenate(taken), np.concatenate(error)


@pytest.mark.parametrize("name", LAWS)
def test_share_taken_and_label_error_are_those_of_the_enumeration(name):
    """With evil twins: an odd side that keeps its pixel, or does not, and another rounding."""
    law = LAWS[name]
    share, error = expected_shares()[name], expected_errors().get(name)
    taken, wrong_label = draws(law)
    assert_unbiased(taken, np.array(share))
    if error is not None:
        assert_unbiased(wrong_label, np.array(error))
    twin = replace(law, limits=(0.2, 0.85)) if law.sides == "range" else replace(law, even=not law.even)
    if law.sides != "real":
        assert fails(lambda: assert_unbiased(draws(twin)[0], np.array(share)))
    else:
        assert fails(lambda: assert_unbiased(draws(replace(law, random_alpha=False))[0], np.array(share)))


def test_values_of_the_enumeration():
    """Known values at alpha = 1 and 32x32, and the label error of the real box of Keras, a few thousandths."""
    shares, errors = expected_shares(), expected_errors()
    for name, value in {
        "clovaai": 0.29925, "fastai": 0.31033, "keras-cv": 0.31023, "kornia": 0.47917, "composer-uniform": 0.14749,
    }.items():  # fmt: skip
        assert shares[name] == pytest.approx(value, abs=5e-6)
    assert shares["keras"] == pytest.approx(0.4906, abs=2e-4)
    for name, value in {"nominal": 0.20075, "tf-models": 0.17992, "keras-cv": 0.16894}.items():
        assert errors[name] == pytest.approx(value, abs=5e-6)
    assert set(shares) == set(LAWS)
    assert 0.01 < draws(LAWS["keras"])[1].mean() < 0.02


def test_uniform_sampling_takes_every_pixel_alike_and_centres_do_not():
    rng = np.random.default_rng(0)
    for name, alike in (("composer-uniform", True), ("clovaai", False)):
        box, _ = LAWS[name].draw(40_000, 40_000, (8, 8), rng=rng)
        flat = box.reshape(len(box), -1).astype(float)
        assert fails(lambda flat=flat: assert_unbiased(flat, np.full(64, flat.mean()))) != alike


def test_kornia_never_pastes_the_last_row_and_column():
    box, _ = LAWS["kornia"].draw(20_000, 20_000, (8, 8), rng=np.random.default_rng(0))
    assert box[:, 0].any()
    assert not box[:, -1].any()
    assert not box[:, :, -1].any()


@pytest.mark.parametrize("name", LAWS)
def test_images_come_from_the_partner_in_one_box_and_labels_are_convex(name):
    law = LAWS[name]
    rng = np.random.default_rng(3)
    mix = law.transform(8, rng=rng)
    x, y = torch.arange(8.0)[:, None, None, None].expand(8, 2, 12, 10).clone(), torch.arange(8)
    boxes = []
    for _ in range(50):
        mixed, soft = mix(x, y)
        own = torch.arange(8)
        partner = {"flip": own.flip(0), "roll": own.roll(1), "neighbour": own ^ 1}.get(law.partner)
        changed = mixed != x
        assert torch.equal(changed[:, 0], changed[:, 1])
        for i in range(8):
            values = set(mixed[i].unique().tolist()) - {float(i)}
            assert len(values) <= 1
            if values and partner is not None:
                assert values == {float(partner[i])}
            rows, columns = changed[i, 0].any(dim=1), changed[i, 0].any(dim=0)
            assert torch.equal(changed[i, 0], rows[:, None] & columns)
            labelled = soft[i].nonzero().flatten().tolist()
            j = {int(v) for v in values}
            assert set(labelled) <= {i} | j or len(values) == 0
        assert float(soft.min()) >= 0
        torch.testing.assert_close(soft.sum(dim=1), torch.ones(8))
        boxes.append(changed[:, 0])
    assert torch.equal(x, torch.arange(8.0)[:, None, None, None].expand(8, 2, 12, 10))
    assert torch.equal(y, torch.arange(8))
    if partner is not None:  # nobody meets itself, so every box is seen
        same = torch.stack([(b == b[0]).all() for b in boxes])
        assert bool(same.all()) == (law.size_per == law.place_per == "batch")


def test_the_label_is_the_share_kept_where_it_is_corrected():
    x, y = torch.arange(8.0)[:, None, None, None].expand(8, 1, 12, 10), torch.arange(8)
    for name in ("timm", "timm-elem", "torchvision", "timm-minmax", "timm-naflex", "nominal"):
        mix = LAWS[name].transform(8, rng=np.random.default_rng(1))
        kept, own = [], []
        for _ in range(20):
            mixed, soft = mix(x, torch.nn.functional.one_hot(y, 8).float())
            kept.append((mixed == x).float().mean(dim=(1, 2, 3)))
            own.append(soft.diagonal())
        exact = torch.allclose(torch.stack(kept), torch.stack(own), atol=1e-6)
        assert exact == (name != "nominal")


def test_equal_generators_give_equal_batches():
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8)
    for law in LAWS.values():
        one, two = (law.transform(8, rng=np.random.default_rng(5))(x, y) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_odd_batches_of_pairs_are_refused():
    x, y = torch.rand(5, 1, 8, 8), torch.arange(5)
    for name in ("timm", "timm-naflex"):
        with pytest.raises(ValueError, match="pairs the images of a batch, got 5; pass an even number of them"):
            LAWS[name].transform(5, rng=np.random.default_rng(0))(x, y)

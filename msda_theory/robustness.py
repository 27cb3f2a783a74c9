"""Accuracy under attack, in pixel units on [0, 1], with intervals and a check for masked gradients (claim C3)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Bool
from torch import nn

from msda_theory.attack_libraries import AttackSettings
from msda_theory.attacks import ATTACKS, GRADIENT, GRADIENT_FREE, run_attack
from msda_theory.data import ImageData, check_batch_size
from msda_theory.predictions import correct_bits, predict
from msda_theory.proportions import PairedDifference, Proportion, paired_difference
from msda_theory.streams import seed_from

DEFAULT_ATTACKS = ("fgsm", "pgd", "deepfool", "square")
DEFAULT_EPS = {
    "linf": (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255, 32 / 255),
    "l2": (0.0, 0.125, 0.25, 0.5, 1.0, 2.0),
}


@dataclass(frozen=True, eq=False)
class Robustness:
    """Which images a model classifies correctly under which attack and radius.

    Attributes:
        attacks: names [a].
        norm: ``"linf"`` or ``"l2"``.
        eps: radii [e] in pixels on [0, 1], rising.
        clean: correct as they are [m].
        correct: correct under the attack at this and every smaller radius of the grid [a, e, m].
        protocol: digest of images, seed and settings; equal ones make results paired.

    Raises:
        ValueError: if shapes disagree, or an image is correct under attack but not clean, or correct at a radius but
            not at a smaller one.
    """

    attacks: tuple[str, ...]
    norm: str
    eps: tuple[float, ...]
    clean: Bool[np.ndarray, " m"]
    correct: Bool[np.ndarray, "a e m"]
    protocol: str

    def __post_init__(self) -> None:
        expected = (len(self.attacks), len(self.eps), len(self.clean))
        if self.correct.shape != expected:
            raise ValueError(f"expected bits [attacks, eps, images] = {expected}, got {self.correct.shape}.")
        before = np.concatenate([np.broadcast_to(self.clean, (expected[0], 1, expected[2])), self.correct], axis=1)
        if (before[:, 1:] & ~before[:, :-1]).any():
            raise ValueError("an image that an attack broke stays broken at larger radii, got one that recovers.")

    def bits(self, attack: str = "worst") -> Bool[np.ndarray, "e m"]:
        """Correctness under one attack, or in the worst case over all: correct if every attack failed.

        Raises:
            ValueError: unknown attack.
        """
        if attack == "worst":
            return np.logical_and.reduce(self.correct, axis=0)
        if attack not in self.attacks:
            raise ValueError(f"expected attack among {['worst', *self.attacks]}, got {attack!r}; choose one of them.")
        return self.correct[self.attacks.index(attack)]

    def accuracy(self, attack: str = "worst") -> tuple[Proportion, ...]:
        """Share of correct images at each radius; never rises with the radius."""
        return tuple(Proportion.of(row) for row in self.bits(attack))

    @property
    def gradient_versus_free(self) -> tuple[PairedDifference, ...]:
        """At each radius: images broken without gradients alone (``only_first``), and with gradients alone.

        The first count holds against attacks by gradients; a few such images are usual, more than the second count
        are not: see `masked`.
        """
        by_gradient, free = (
            np.logical_or.reduce(~self.correct[[name in kind for name in self.attacks]], axis=0)
            for kind in (GRADIENT, GRADIENT_FREE)
        )
        return tuple(paired_difference(f, g) for f, g in zip(free, by_gradient, strict=True))

    @property
    def masked(self) -> Bool[np.ndarray, " e"]:
        """Whether attacks without gradients break more images than all attacks with gradients together.

        Then gradients are masked (or the gradient attack has failed otherwise), and its accuracy says nothing. One
        image is enough for a flag: read the counts and ``gradient_versus_free[e].p_value`` too. No flag is no proof of
        the contrary. Source: Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of
        Security" (ICML 2018), Section 3.
        """
        return np.array([pair.mean > 0 for pair in self.gradient_versus_free])

    def frame(self) -> pd.DataFrame:
        """One row for each attack (and ``clean`` and ``worst``) and radius.

        Columns: ``norm eps attack accuracy low high n only_free only_gradient masked``; ``low`` and ``high`` are the
        95 % Wilson interval, the last three those of `gradient_versus_free` and `masked`, the same for all attacks.
        """
        rows = []
        clean = (Proportion.of(self.clean),) * len(self.eps)
        for attack in ("clean", *self.attacks, "worst"):
            shares = clean if attack == "clean" else self.accuracy(attack)
            for eps, share, pair in zip(self.eps, shares, self.gradient_versus_free, strict=True):
                low, high = share.interval()
                counts = (pair.only_first, pair.only_second, pair.mean > 0)
                rows.append((self.norm, eps, attack, share.mean, low, high, share.n, *counts))
        columns = "norm eps attack accuracy low high n only_free only_gradient masked"
        return pd.DataFrame(rows, columns=columns.split())


def robustness(
    model: nn.Module,
    data: ImageData,
    *,
    norm: str = "linf",
    eps: tuple[float, ...] | None = None,
    attacks: tuple[str, ...] = DEFAULT_ATTACKS,
    steps: int = 50,
    restarts: int = 2,
    queries: int = 1000,
    rng: np.random.Generator,
    batch_size: int = 256,
) -> Robustness:
    """Clean and adversarial accuracy of ``model`` over a grid of radii; attacks are untargeted.

    ``correct[a, e, i]``: the model gives image i its label, and attack a found no example ``x_i + u`` in [0, 1] with
    ``|u| <= eps`` for this or any smaller eps of the grid that it does not. So accuracy never rises with eps, and every
    number is an upper bound on the accuracy under the strongest attack. The worst case over attacks is that of the
    attacks run. Every example is checked again here; see `attacks.run_attack` for tolerances.

    Args:
        model: module in eval mode, float32 or float64, with logits [B, K], K >= 2, for images in [0, 1]: normalisation
            belongs inside. A model of one logit f is attacked as the logits (0, f).
        data: images in [0, 1] and labels.
        norm: ``"linf"`` or ``"l2"``, over all pixels and channels together.
        eps: radii, rising, from 0; by default 0 and 1 to 32 over 255 (linf), 0 and 1/8 to 2 (l2). At 0 the clean
            accuracy.
        attacks: among ``fgsm pgd deepfool square autoattack``; at least one by gradients and ``"square"``, so that
            masked gradients show. By default the first four: PGD with restarts is the strong one, Square uses no
            gradient. ``"autoattack"``, the standard ensemble, is far slower.
        steps: of PGD and DeepFool.
        restarts: of PGD.
        queries: of Square.
        rng: source of all starts; equal seeds, images and batch sizes give equal starts on one device.
        batch_size: images attacked together; part of the protocol, since Square shares its squares in a batch.

    The model's parameters, statistics and gradients are left alone, and so is torch's global random state.

    Raises:
        ValueError: images outside [0, 1], radii that do not rise from 0 or more, unknown attacks, norm, missing kinds
            of attacks, budgets below 1, or a model outside the preconditions (train mode, outputs).
        TypeError: dtypes that disagree, or a missing generator.
        ImportError: without the extra ``robustness``.
    """
    settings = AttackSettings(norm, steps, restarts, queries)
    radii = _radii(DEFAULT_EPS[norm] if eps is None else eps)
    _check_attacks(attacks)
    _check_images(data)
    check_batch_size(batch_size)
    clean = correct_bits(predict(model, data, batch_size=batch_size), data.y)
    seed = seed_from(rng)
    broken = [
        run_attack(name, model, data, radii, settings, seed=seed, batch_size=batch_size).broken for name in attacks
    ]
    protocol = _digest(data, seed, settings, batch_size)
    return Robustness(tuple(attacks), norm, radii, clean, ~np.stack(broken), protocol)


def paired_differences(first: Robustness, second: Robustness, *, attack: str = "worst") -> tuple[PairedDifference, ...]:
    """Accuracy of the first less the second at each radius, on the same images with the same starts.

    Args:
        first: result of `robustness`.
        second: result for another model, with an equal seed of ``rng``, images, settings and batch size.
        attack: one of theirs, or ``"worst"``.

    Raises:
        ValueError: if the results are not paired (other images, seed, settings, radii or attacks).
    """
    differing = [name for name in ("attacks", "norm", "eps") if getattr(first, name) != getattr(second, name)]
    if differing or first.protocol != second.protocol:
        raise ValueError(
            f"paired differences need the same images, seed, settings and batch size, got other {differing or 'ones'}; "
            "call robustness for both with rng=numpy.random.default_rng(seed) and equal arguments."
        )
    return tuple(paired_difference(a, b) for a, b in zip(first.bits(attack), second.bits(attack), strict=True))


def _radii(eps: tuple[float, ...]) -> tuple[float, ...]:
    radii = tuple(float(e) for e in eps)
    if not (radii and radii[0] >= 0 and all(a < b for a, b in pairwise(radii))):
        raise ValueError(f"expected radii eps that rise from 0 or more, got {list(radii)}; sort them.")
    if not np.isfinite(radii).all():
        raise ValueError(f"radii must be finite, got {list(radii)}; they are in pixels on [0, 1].")
    return radii


def _check_attacks(attacks: tuple[str, ...]) -> None:
    unknown = [name for name in attacks if name not in ATTACKS]
    if unknown or len(set(attacks)) < len(attacks):
        raise ValueError(f"expected different attacks among {list(ATTACKS)}, got {list(attacks)}; choose among them.")
    if not all(set(attacks) & set(kind) for kind in (GRADIENT, GRADIENT_FREE)):
        raise ValueError(
            f"masked gradients only show beside an attack without gradients, got {list(attacks)}; take at least one of "
            f"{list(GRADIENT)} and {list(GRADIENT_FREE)}."
        )


def _check_images(data: ImageData) -> None:
    low, high = float(data.x.min()), float(data.x.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"attacks need images in [0, 1], where eps is in pixel units, got values from {low:.3g} to {high:.3g}; "
            "pass the images before normalisation, and put the normalisation inside the model."
        )
    if data.num_classes < 2:
        raise ValueError(f"an attack needs 2 classes or more to confuse, got {data.num_classes}; check num_classes.")


def _digest(data: ImageData, seed: int, settings: AttackSettings, batch_size: int) -> str:
    parts = (
        data.x.cpu().numpy().tobytes(),
        data.y.cpu().numpy().tobytes(),
        repr((seed, settings, batch_size)).encode(),
    )
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

"""What popular libraries do under the name CutMix: one entry a law, rebuilt from its form, no code taken over.

Each entry of `LAWS` names the repository, the file and the commit where the law was read; it is a fact about that
commit, not about later ones. All fit one form: nominal sides from lam, a place, a label weight, a partner. Left out,
since none of it changes the law of a mixed batch of square images: label smoothing, the probability that a batch is
mixed at all, the choice between CutMix and Mixup, widths that two libraries compute from the height.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

Array = np.ndarray
Shape = tuple[int, int]
Transform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# Nominal side of the box on an axis of n pixels, given the square root r of the nominal share.
SIDES: dict[str, Callable[[Array, int], Array]] = {
    "floor": lambda r, n: np.floor(r * n),
    "round": lambda r, n: np.rint(r * n),  # half to even
    "real": lambda r, n: r * n,
}
# First pixel of the box, given u uniform on [0, 1), the nominal side k and n pixels; what sticks out is cut off.
PLACES: dict[str, Callable[[Array, Array, int], Array]] = {
    "centre": lambda u, k, n: np.floor(u * n) - k // 2,  # the centre is a pixel, uniform
    "beyond": lambda u, k, n: np.floor(u * (n + k)) - k,  # centres beyond the border: every pixel equally likely
    "inside": lambda u, k, n: np.floor(u * (n - k + 1)),  # every place at which the box fits
    "inside but last": lambda u, k, n: np.floor(u * (n - k)),
    "inside but two": lambda u, k, n: np.floor(u * (n - k - 1)),
    "real": lambda u, k, n: u * (n - k),
}
PARTNERS: dict[str, Callable[[int, np.random.Generator], Array]] = {
    "permutation": lambda b, rng: rng.permutation(b),
    "flip": lambda b, rng: np.arange(b)[::-1].copy(),
    "roll": lambda b, rng: np.roll(np.arange(b), 1),
    "neighbour": lambda b, rng: np.arange(b) ^ 1,
}


@dataclass(frozen=True)
class LibraryLaw:
    """A box law: ``x~ = x_partner`` in a box and x outside, ``y~ = w y + (1 - w) y_partner``.

    Attributes:
        title: name for tables and figures.
        family: laws that differ by rounding, pairing or batching only share it.
        source: repository, file and commit.
        sides: key of `SIDES`, or ``"range"``: each side uniform on integers, between ``limits`` of the image.
        even: whether the pasted side is ``2 (k // 2)``, so that an odd side loses a pixel.
        place: key of `PLACES`.
        label: own label weight w; ``"pixels"``: share kept; ``"lam"``: the number drawn; ``"sides"``: one minus the
            product of nominal sides over pixels; ``"misread"``: that product, taken for the own weight.
        partner: key of `PARTNERS`.
        size_per, place_per: ``"batch"`` or ``"sample"``: what shares one lam, and one position.
        random_alpha: lam ~ Beta(a, a) with ``a ~ U(0, 1)`` for each batch, in place of Beta(alpha, alpha).
        limits: see ``sides``.
    """

    title: str
    family: str
    source: str
    sides: str = "floor"
    even: bool = True
    place: str = "centre"
    label: str = "pixels"
    partner: str = "permutation"
    size_per: str = "batch"
    place_per: str = "batch"
    random_alpha: bool = False
    limits: tuple[float, float] = (0.2, 0.8)

    def draw(
        self, sizes: int, places: int, shape: Shape, *, alpha: float = 1.0, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Boxes [n, H, W] as booleans, and own label weights w [n]; n is the larger of ``sizes`` and ``places``.

        ``sizes`` independent sizes meet ``places`` independent positions; equal numbers, or one of them 1.
        """
        a = 1e-6 + rng.random() if self.random_alpha else alpha
        lam = rng.beta(a, a, sizes)
        axes, area = [], np.ones(sizes)
        for n in shape:
            if self.sides == "range":
                low, high = (int(n * limit) for limit in self.limits)
                k = rng.integers(low, high, sizes).astype(float)
            else:
                k = SIDES[self.sides](np.sqrt(1 - lam), n)
            area *= k / n
            start = PLACES[self.place](rng.random(places), k, n)[:, None]
            stop = start + (2 * (k // 2) if self.even else k)[:, None]
            j = np.arange(n)
            axes.append((j >= start) & (j < stop))
        box = axes[0][:, :, None] & axes[1][:, None, :]
        own = {"pixels": 1 - box.mean(axis=(1, 2)), "lam": lam, "sides": 1 - area, "misread": area}[self.label]
        return box, np.broadcast_to(own, len(box)).copy()

    def transform(self, num_classes: int, *, alpha: float = 1.0, rng: np.random.Generator) -> Transform:
        """The augmentation as a user calls it: (x [B, C, H, W], y [B] or [B, c]) -> mixed x, soft labels [B, c]."""

        def mix(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            b, shape = len(x), (x.shape[2], x.shape[3])
            if b % 2 and self.partner in ("flip", "neighbour"):
                raise ValueError(f"{self.title} pairs the images of a batch, got {b}; pass an even number of them.")
            number = {"batch": 1, "sample": b}
            box, own = self.draw(number[self.size_per], number[self.place_per], shape, alpha=alpha, rng=rng)
            j = torch.from_numpy(PARTNERS[self.partner](b, rng)).to(x.device)
            cut = torch.from_numpy(box)[:, None].to(x.device)
            w = torch.from_numpy(own)[:, None].to(x)
            soft = one_hot(y, num_classes).to(x) if y.ndim == 1 else y
            return torch.where(cut, x[j], x), w * soft + (1 - w) * soft[j]

        return mix


LAWS: dict[str, LibraryLaw] = {
    "clovaai": LibraryLaw(
        "clovaai", "clipped", "clovaai/CutMix-PyTorch train.py 9dc824518643a1bb4c9635aa7482aa5d3d17c14f; the same "
        "law in Westlake-AI/openmixup openmixup/models/augments/cutmix.py a0c5840f3e0ba9e0a7a69460b965a80e5e31cfe9 and "
        "open-mmlab/mmpretrain mmpretrain/models/utils/batch_augments/cutmix.py "
        "0979e785737baa0342a6be2917736a58669a1238",
    ),
    "timm-now": LibraryLaw(
        "timm from 1.0.29", "clipped", "timm/data/mixup.py in the releases 1.0.29 to 1.0.31 on PyPI; not in 1.0.28",
        even=False, partner="flip",
    ),
    "timm": LibraryLaw(
        "timm to 1.0.28", "clipped", "huggingface/pytorch-image-models timm/data/mixup.py "
        "15d1dbc896dde826b89d1aab479f9bd4ffda085a", partner="flip",
    ),
    "timm-elem": LibraryLaw(
        "timm, mode='elem'", "clipped", "huggingface/pytorch-image-models timm/data/mixup.py "
        "15d1dbc896dde826b89d1aab479f9bd4ffda085a", partner="flip", size_per="sample", place_per="sample",
    ),
    "torchvision": LibraryLaw(
        "torchvision", "clipped", "pytorch/vision torchvision/transforms/v2/_augment.py "
        "da6134da47a01f107e591a8badefd5527041888b", partner="roll",
    ),
    "fastai": LibraryLaw(
        "fastai", "clipped", "fastai/fastai fastai/callback/mixup.py 51edd15b0ea08087a5a896794d26a4803ad80e6b",
        sides="round",
    ),
    "composer-uniform": LibraryLaw(
        "composer, uniform", "uniform", "mosaicml/composer composer/algorithms/cutmix/cutmix.py "
        "4564f90c107ed2a6f05dbdc7ad7b75890fd50232, uniform_sampling=True", place="beyond",
    ),
    "timm-minmax": LibraryLaw(
        "timm, minmax", "range", "huggingface/pytorch-image-models timm/data/mixup.py "
        "15d1dbc896dde826b89d1aab479f9bd4ffda085a, cutmix_minmax=(.2, .8)",
        sides="range", even=False, place="inside but last", partner="flip",
    ),
    "timm-naflex": LibraryLaw(
        "timm, NaFlex", "inside", "huggingface/pytorch-image-models timm/data/naflex_mixup.py "
        "0d439427f235b8c5e1d779c1df2bd02113487f51, images of one size",
        even=False, place="inside", partner="neighbour", place_per="sample",
    ),
    "kornia": LibraryLaw(
        "kornia", "inside", "kornia/kornia kornia/augmentation/random_generator/_2d/cutmix.py "
        "bf8a16f0669c3c6597dfdb0b62af6c7ef33ac7d1, kornia/augmentation/_2d/mix/cutmix.py "
        "a8ecf75db221ca264dac7af193c497a57aa4b793", even=False, place="inside but two", size_per="sample",
    ),
    "keras": LibraryLaw(
        "Keras 3", "random alpha", "keras-team/keras keras/src/layers/preprocessing/image_preprocessing/cut_mix.py "
        "0c07bd6503f2f73d9b3a7a40906bd501edb6c783, factor=1.0 (the default)",
        sides="real", even=False, place="real", label="sides", size_per="sample", place_per="sample",
        random_alpha=True,
    ),
    "nominal": LibraryLaw(
        "clovaai, first commit", "uncorrected", "clovaai/CutMix-PyTorch train.py "
        "5ee7b8d4d9531c9c3d82b79de018ac162cce0f21; timm with correct_lam=False", label="lam",
    ),
    "tf-models": LibraryLaw(
        "TF models", "uncorrected", "tensorflow/models official/vision/ops/augment.py "
        "00b830c7ca641413f37e5147cf059c89f79b0e8e",
        label="sides", partner="flip", size_per="sample", place_per="sample",
    ),
    "keras-cv": LibraryLaw(
        "KerasCV", "uncorrected", "keras-team/keras-cv keras_cv/src/layers/preprocessing/cut_mix.py "
        "fb4fca44d3ea8e43e84f66eee4acf4f9c7a6ec11", even=False, label="sides", size_per="sample", place_per="sample",
    ),
    "kornia-misread": LibraryLaw(
        "kornia, misread", "misread", "as kornia; its third label entry, the weight of the partner, taken for the own",
        even=False, place="inside but two", label="misread", size_per="sample",
    ),
}  # fmt: skip

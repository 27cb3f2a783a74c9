"""Two designed tasks: evidence in one small place (``object``), and spread over the whole image (``texture``).

Images are 16x16, one channel, bytes ``round(128 + 24 u)`` clipped to 0 .. 255; labels are balanced. In units u, with
e and z independent standard normal:

- ``object``, 8 classes: ``u = 0.25 e`` but for a 4x4 patch at a uniform place, which is ``1 + 1.25 P_y + 0.5 z``.
  P_y is one of 8 orthogonal Walsh patterns of signs. The patch is a sixteenth of the image and holds all evidence.
- ``texture``, 4 classes: ``u = 1.3^(y - 1.5) z``, white noise whose contrast is the class. All pixels hold evidence
  alike; it is the contrast, which averaging two images lowers and cutting and pasting does not.

`Ideal` is the exact log-likelihood of the classes (but for bytes), differentiable: the best classifier of each task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msda_theory.streams import stream

SIZE, PATCH = 16, 4
CENTRE, SCALE = 128, 24  # byte of u = 0; bytes a unit
BACKGROUND, OFFSET, HEIGHT, NOISE = 0.25, 1.0, 1.25, 0.5  # of the object task, in units u
RATIO = 1.3  # of the contrasts of neighbouring classes
CLASSES = {"object": 8, "texture": 4}
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Designed:
    """Images uint8 [m, 1, 16, 16] and labels int64 [m]; ``places`` int64 [m, 2], the patch's first row and column.

    ``places`` are those of ``train`` then ``test`` images, in one array each; None for textures.
    """

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    places_train: Array | None
    places_test: Array | None
    classes: int


def designed(kind: str, *, train: int, test: int, seed: int) -> Designed:
    """Training and test images of the task ``kind``; each set comes from a stream of its own.

    Raises:
        ValueError: unknown kind, or numbers of images that are no multiples of the number of classes.
    """
    check_kind(kind)
    classes = CLASSES[kind]
    if train < 1 or test < 1 or train % classes or test % classes:
        raise ValueError(
            f"expected balanced classes, numbers of images that are multiples of {classes}, got {train} and {test}; "
            "round them."
        )
    make = _objects if kind == "object" else _textures
    sets = []
    for part, number in (("train", train), ("test", test)):
        rng = stream(seed, "designed", kind, part)
        y = rng.permutation(np.arange(number) % classes)
        u, places = make(y, rng)
        x = np.clip(np.rint(CENTRE + SCALE * u), 0, 255).astype(np.uint8)[:, None]
        sets.append((x, y.astype(np.int64), places))
    (x_train, y_train, places_train), (x_test, y_test, places_test) = sets
    return Designed(x_train, y_train, x_test, y_test, places_train, places_test, classes)


def check_kind(kind: str) -> None:
    """Raise a ValueError that lists the known tasks if ``kind`` is not one of them."""
    if kind not in CLASSES:
        raise ValueError(f"expected a designed task among {list(CLASSES)}, got {kind!r}; choose one of them.")


def units(x: Array) -> Tensor:
    """Images in units u, float64: ``(x - 128) / 24``."""
    return (torch.from_numpy(x).double() - CENTRE) / SCALE


def patterns() -> Array:
    """The 8 patterns of the object task [8, 4, 4], entries -1 and 1, orthogonal to each other and to a constant."""
    walsh = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    return np.stack([np.outer(a, b) for a in walsh for b in walsh])[1 : 1 + CLASSES["object"]]


def contrasts() -> Array:
    """Standard deviations of the texture classes, in units u."""
    k = CLASSES["texture"]
    return RATIO ** (np.arange(k) - (k - 1) / 2)


def _objects(y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    u = BACKGROUND * rng.standard_normal((len(y), SIZE, SIZE))
    places = rng.integers(0, SIZE - PATCH + 1, (len(y), 2))
    patches = OFFSET + HEIGHT * patterns()[y] + NOISE * rng.standard_normal((len(y), PATCH, PATCH))
    for image, (row, column), patch in zip(u, places, patches, strict=True):
        image[row : row + PATCH, column : column + PATCH] = patch
    return u, places


def _textures(y: Array, rng: np.random.Generator) -> tuple[Array, None]:
    return contrasts()[y][:, None, None] * rng.standard_normal((len(y), SIZE, SIZE)), None


class Ideal(nn.Module):
    """Log-likelihood of each class, up to a number that is the same for all; its softmax is the exact posterior.

    Object: ``log sum_p exp(sum over the patch at p of [u^2 / 2 b^2 - (u - m_c)^2 / 2 s^2])``, m_c the patch's mean,
    s and b the standard deviations in it and behind it. Texture: ``-|u|^2 / 2 s_c^2 - d log s_c``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        check_kind(kind)
        self.kind = kind
        self.register_buffer("means", torch.from_numpy(OFFSET + HEIGHT * patterns())[:, None])
        self.register_buffer("sd", torch.from_numpy(contrasts()))

    def forward(self, u: Tensor) -> Tensor:
        """[B, 1, 16, 16] in units u to [B, classes]."""
        if self.kind == "texture":
            sd = self.get_buffer("sd").to(u)
            energy = (u * u).flatten(1).sum(dim=1, keepdim=True)
            return energy * (-0.5 / sd**2) - u[0].numel() * torch.log(sd)
        means = self.get_buffer("means").to(u)
        inside, behind = 1 / NOISE**2, 1 / BACKGROUND**2
        energy = nn.functional.conv2d(u * u, torch.ones_like(means[:1])) * (0.5 * (behind - inside))
        match = nn.functional.conv2d(u, means * inside)
        rest = 0.5 * inside * (means**2).sum(dim=(1, 2, 3))
        return (match + energy - rest[:, None, None]).flatten(2).logsumexp(dim=2)

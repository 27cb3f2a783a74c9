"""Mixing batches in a training loop or a DataLoader, by any strategy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.mixing import mix_images
from msda_theory.scalars import check_real
from msda_theory.streams import seed_from, stream

_IMAGES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class MixTransform:
    """Mixed batches: ``x~_i = M_i x_i + (1 - M_i) x_p(i)``, ``y~_i = lam_i y_i + (1 - lam_i) y_p(i)``.

    p is a uniform permutation of the batch and (M, lam) are draws of the strategy: one for the whole batch, or with
    ``per_sample=True`` one for each image. Any `Strategy` will do, your own and `Choice` included. In a loop::

        mix = mt.MixTransform(mt.CutMix(), num_classes=10, rng=np.random.default_rng(0))
        for x, y in loader:
            x, y = mix(x.to(device), y.to(device))  # y is now soft, [B, 10]
            loss = torch.nn.functional.cross_entropy(model(x), y)

    or in the workers of a DataLoader::

        loader = DataLoader(data, batch_size=128, shuffle=True, num_workers=4, collate_fn=mix.collate)
        for epoch in range(epochs):
            mix.set_epoch(epoch)
            for x, y in loader:  # mixed already

    **Self pairs.** p leaves an image where it is with probability 1/B, and the image is then not mixed. So a loop
    minimises the mixed loss, docs/theory.md, Eq. (1), with weight near 1 - 1/B and the plain loss with the rest
    (Section 2 there). A batch of one image comes back as it was, as a copy.

    **Seeds.** All draws follow from one integer that is taken from ``rng`` here; no global random state is used. In the
    main process the calls continue one stream. Workers of a DataLoader each have a stream of their own:

    - After `set_epoch` draws depend on the seed, the epoch, the worker's number and the number of the call in that
      epoch. Call it before each epoch, as for a DistributedSampler: left at one value, it repeats that epoch's draws
      in workers that are started anew. Persistent workers are reached too. An epoch that is left early leaves them
      batches to finish, which may count as calls of the next one.
    - Without it, draws depend on the seed and the worker's torch seed, which the DataLoader takes anew from torch's
      global generator (or its argument ``generator``) whenever it starts workers; fix that one for equal runs.
      Persistent workers continue their streams.

    Two DataLoaders that share one transform in one epoch draw the same; give each its own. Processes of a distributed
    run need different seeds: ``rng=np.random.default_rng([seed, rank])``. Partners do not
    depend on the strategy: equal seeds give paired comparisons.

    Args:
        strategy: the law of (M, lam).
        num_classes: number of classes K.
        rng: source of the seed, a numpy.random.Generator.
        per_sample: draw a mask for each image rather than one for the batch.
        smoothing: share s of uniform labels, in [0, 1): mixed labels become ``(1 - s) y~ + s / K``.

    Raises:
        TypeError: if ``strategy`` is no strategy, ``rng`` no generator or ``smoothing`` no number.
        ValueError: if ``num_classes`` or ``smoothing`` is out of range.
    """

    def __init__(
        self,
        strategy: Strategy,
        num_classes: int,
        *,
        rng: np.random.Generator,
        per_sample: bool = False,
        smoothing: float = 0.0,
    ) -> None:
        check_strategy(strategy)
        if not isinstance(num_classes, int | np.integer) or isinstance(num_classes, bool) or num_classes < 1:
            raise ValueError(f"expected the number of classes, a whole number >= 1, got {num_classes!r}; pass e.g. 10.")
        check_real("smoothing", smoothing)
        if not 0 <= smoothing < 1:
            raise ValueError(f"expected smoothing in [0, 1), got {smoothing}; it is the share of uniform labels.")
        self.strategy = strategy
        self.num_classes = num_classes
        self.per_sample = per_sample
        self.smoothing = smoothing
        self._seed = seed_from(rng)
        # (number of calls of set_epoch, epoch), in shared memory so that running workers see it
        self._epoch = torch.zeros(2, dtype=torch.int64)
        _share(self._epoch)
        self._place: tuple[str, ...] = ()
        self._streams: tuple[np.random.Generator, ...] = ()

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B K"]]:
        """A mixed batch; x and y stay as they are.

        Args:
            x: images [B, C, H, W], B >= 1, in float16, bfloat16, float32 or float64, on any device. NaN and infinity
                are not looked for, which would cost time (and on a GPU a wait); they spread to the partners.
            y: class indices [B], int64, or soft labels [B, K], floating point, finite and >= 0, mixed as they are; on
                the device of x.

        Returns:
            Images in the dtype, memory format and device of x, differentiable in x; and soft labels [B, K] in x's
            dtype if that is float32 or float64, otherwise float32.

        Raises:
            TypeError: if x or y is no tensor, or x is not floating point.
            ValueError: if shapes or devices disagree, or a class index or a soft label is out of range.
        """
        _check_images(x)
        targets = self._targets(x, y)
        partners, masks = self._generators()
        n, (h, w) = len(x), x.shape[2:]
        partner = partners.permutation(n)
        draws = self.strategy.sample_compact(n if self.per_sample else 1, (h, w), rng=masks)
        lam = torch.tensor(np.ascontiguousarray(draws.lam), dtype=targets.dtype, device=x.device)[:, None]
        mixed = targets[torch.from_numpy(partner).to(x.device)].lerp_(targets, lam)
        if self.smoothing:
            mixed.mul_(1 - self.smoothing).add_(self.smoothing / self.num_classes)
        return mix_images(x, partner, draws), mixed

    def collate(self, samples: Sequence[Any]) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B K"]]:
        """Samples (image, label) as one mixed batch: the ``collate_fn`` of a DataLoader.

        Raises:
            TypeError: if samples are not pairs; and whatever a call raises.
        """
        batch = default_collate(list(samples))
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise TypeError(
                f"expected samples (image, label), got {type(samples[0]).__name__}; collate them yourself and call "
                "the transform on images and labels."
            )
        return self(*batch)

    def set_epoch(self, epoch: int) -> None:
        """Start the draws of ``epoch``, here and in the workers of every DataLoader that uses this transform.

        Raises:
            ValueError: if ``epoch`` is not a whole number of at least 0.
        """
        if not isinstance(epoch, int | np.integer) or epoch < 0:
            raise ValueError(f"expected an epoch 0, 1, 2, ..., got {epoch!r}; pass the number of the epoch.")
        self._epoch.copy_(torch.tensor([int(self._epoch[0]) + 1, int(epoch)]))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies by value (deepcopy, pickle) get shared memory of their own."""
        self.__dict__.update(state)
        _share(self._epoch)

    def _generators(self) -> tuple[np.random.Generator, ...]:
        """Generators of partners and of masks, new ones where the process or the epoch has changed."""
        calls, epoch = self._epoch.tolist()
        worker = get_worker_info()
        place: tuple[str, ...]
        if calls:
            place = (f"epoch {epoch}", "main process" if worker is None else f"worker {worker.id}")
        else:
            place = ("main process" if worker is None else f"worker of seed {worker.seed}",)
        if (str(calls), *place) != self._place:
            self._place = (str(calls), *place)
            self._streams = tuple(stream(self._seed, "mix", *place, purpose) for purpose in ("partner", "mask"))
        return self._streams

    def _targets(self, x: Tensor, y: Tensor) -> Float[Tensor, "B K"]:
        """Labels [B, K] in the dtype of the result, checked."""
        if not isinstance(y, Tensor):
            raise TypeError(
                f"expected labels as a torch.Tensor, got {type(y).__name__}; convert them, torch.tensor(y)."
            )
        if y.device != x.device:
            raise ValueError(f"expected labels on the device of the images, {x.device}, got {y.device}; move them.")
        n, k = len(x), self.num_classes
        dtype = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
        if y.is_floating_point() and y.shape == (n, k):
            least, most = torch.stack(y.detach().aminmax()).tolist()
            if not (least >= 0 and most < math.inf):
                raise ValueError(
                    f"expected soft labels that are finite and >= 0, got {least:.3g} .. {most:.3g}; repair the labels."
                )
            return y.to(dtype)
        if y.dtype != torch.int64 or y.shape != (n,):
            raise ValueError(
                f"expected labels as class indices [{n}] in int64 or soft labels [{n}, {k}] in floating point, got "
                f"{list(y.shape)} in {y.dtype}; convert them, e.g. y.long()."
            )
        low, high = torch.stack(y.aminmax()).tolist()
        if low < 0 or high >= k:
            raise ValueError(
                f"expected class indices in 0 .. {k - 1}, got {low} .. {high}; fix the labels or num_classes."
            )
        return torch.zeros(n, k, dtype=dtype, device=x.device).scatter_(1, y[:, None], 1.0)


def _share(t: Tensor) -> None:
    """Move the memory of ``t`` to where other processes see it."""
    t.share_memory_()  # type: ignore[no-untyped-call]


def _check_images(x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"expected a batch of images as a torch.Tensor, got {type(x).__name__}; convert it first.")
    if x.dtype not in _IMAGES:
        raise TypeError(
            f"expected floating point images, got {x.dtype}; scale them to [0, 1] first, e.g. x.float() / 255."
        )
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"expected a batch of images [B, C, H, W], none of them 0, got {list(x.shape)}; reshape x.")

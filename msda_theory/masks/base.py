"""The protocol of a mask law: a strategy is a joint law of (M, lam), M the weight of x_i, lam the label weight."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float64

from msda_theory.masks.batches import Array, Atoms, MaskBatch, SeparableMasks, Shape
from msda_theory.moments.moments import Moments, check_law, check_shape
from msda_theory.moments.sampled import chunks
from msda_theory.scalars import as_alpha, check_whole


class Strategy(ABC):
    """A mixed-sample data augmentation: ``x~ = M x_i + (1 - M) x_j``, ``y~ = lam y_i + (1 - lam) y_j``.

    A subclass is a frozen dataclass with a field ``alpha`` (the nominal weight is Beta(alpha, alpha), alpha from 1e-12
    to 1e7) that defines `masks`. That is enough for every function of this package: moments are then estimated from
    draws. A subclass that knows its law in closed form also defines `closed_moments` (and `atoms`, for
    ``method="dense"`` at the mask).
    """

    alpha: float = 1.0

    @abstractmethod
    def masks(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> MaskBatch:
        """Masks [n, H, W] and label weights [n], given the nominal weights ``lam`` [n]."""

    def closed_moments(self, shape: Shape, law: str) -> Moments | None:
        """Moments without sampling, or None where no closed form is known."""
        return None

    def atoms(self, shape: Shape, *, order: int = 16) -> Atoms:
        """The law of (M, lam) as weighted atoms; ``order`` Gauss nodes for each interval of lam."""
        raise ValueError(
            f"{self.name} does not enumerate its law, which an exact computation needs; "
            'define atoms(), or use method="sampled".'
        )

    def sample(self, n: int, shape: Shape, *, rng: np.random.Generator) -> MaskBatch:
        """n independent draws of (M, lam) for images of size ``shape`` = (H, W).

        Raises:
            ValueError: if n is below 1, the size is not two positive integers, or alpha is outside [1e-12, 1e7].
            TypeError: if ``rng`` is not a numpy.random.Generator, or n or alpha is no number.
        """
        shape = self._check_draw(n, shape, rng)
        return self._masks(self._nominal(n, rng), shape, rng)

    def sample_compact(self, n: int, shape: Shape, *, rng: np.random.Generator) -> MaskBatch | SeparableMasks:
        """The draws of `sample`, from the same numbers of ``rng``, as factors where the strategy knows them."""
        return self.sample(n, shape, rng=rng)

    def partner_weights(
        self, n: int, shape: Shape, *, law: str = "exact", rng: np.random.Generator
    ) -> Float64[Array, "n H W"]:
        """n draws of q [n, H, W], the weight taken from the partner in the one-sided form, docs/theory.md, Eq. (1).

        Both laws use the same numbers of ``rng``, so that equal seeds give paired draws. With u uniform, the exact law
        takes ``1 - M(lam)`` if ``u < label weight`` and ``M(lam)`` otherwise; the paper's law takes ``1 - M(lam')``
        with ``lam' = lam`` if ``u < lam`` and ``1 - lam`` otherwise, which has density ``2 lam'`` against
        Beta(alpha, alpha), Eq. (2a).
        """
        check_law(law)
        shape = self._check_draw(n, shape, rng)
        u = rng.random(n)
        lam = self._nominal(n, rng)
        if law == "paper":
            batch = self._masks(np.where(u < lam, lam, 1 - lam), shape, rng)
            return 1 - batch.mask
        batch = self._masks(lam, shape, rng)
        return np.where((u < batch.lam)[:, None, None], 1 - batch.mask, batch.mask)

    def moments(
        self, shape: Shape, *, law: str = "exact", rng: np.random.Generator | None = None, draws: int | None = None
    ) -> Moments:
        """Moments (2) of q for images of size ``shape`` = (H, W), under ``law="exact"`` or ``"paper"``.

        Args:
            shape: (H, W).
            law: the law the expectation is taken under.
            rng: needed only by strategies without closed moments, which are then estimated from ``draws`` draws.
            draws: see ``rng``; by default 20,000, fewer where they would take over 256 MB, but at least 1,000 (400 MB
                at 224x224).

        Raises:
            ValueError: unknown law, size that is not two positive integers, or no closed moments and no ``rng``.
        """
        check_law(law)
        shape = check_shape(shape)
        closed = self.closed_moments(shape, law)
        if closed is not None:
            return closed
        if rng is None:
            raise ValueError(
                f"{self.name} has no closed moments; pass rng=numpy.random.default_rng(seed) to estimate them."
            )
        if draws is None:
            draws = max(1_000, min(20_000, 2**25 // (shape[0] * shape[1])))
        q = np.empty((draws, *shape))
        for part in chunks(draws, shape):
            q[part] = self.partner_weights(part.stop - part.start, shape, law=law, rng=rng)
        return Moments.from_draws(q, law)

    @property
    def name(self) -> str:
        """Name for tables and figures: the class in lower case, with the options that are not default."""
        own = getattr(self, "__dataclass_fields__", {}).values()  # none where a user's class is no dataclass
        options = [(f.name, getattr(self, f.name), f.default) for f in own]
        changed = [f"{key}={_plain(value)}" for key, value, default in options if not _same(value, default)]
        name = type(self).__name__.lower()
        return f"{name}({', '.join(changed)})" if changed else name

    def _nominal(self, n: int, rng: np.random.Generator) -> Float64[Array, " n"]:
        alpha = as_alpha(self.alpha)
        return rng.beta(alpha, alpha, n)

    def _masks(self, lam: Float64[Array, " n"], shape: Shape, rng: np.random.Generator) -> MaskBatch:
        batch = self.masks(lam, shape, rng=rng)
        if batch.mask.shape != (len(lam), *shape):
            raise ValueError(
                f"expected masks [{len(lam)}, {shape[0]}, {shape[1]}] for images of {shape[0]}x{shape[1]} pixels, got "
                f"{list(batch.mask.shape)} from {type(self).__name__}.masks; return one for each draw."
            )
        return batch

    def _check_draw(self, n: int, shape: Shape, rng: np.random.Generator) -> Shape:
        if not isinstance(rng, np.random.Generator):
            raise TypeError(
                f"expected rng to be a numpy.random.Generator, got {type(rng).__name__}; "
                "pass numpy.random.default_rng(seed)."
            )
        check_whole("n", n)
        if n < 1:
            raise ValueError(f"expected at least 1 draw, got n={n}; raise n.")
        return check_shape(shape)


class SeparableStrategy(Strategy):
    """A strategy whose masks are products of a row and a column factor; a subclass defines `factors`."""

    @abstractmethod
    def factors(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> SeparableMasks:
        """Factors of the masks and label weights [n], given the nominal weights ``lam`` [n]."""

    def masks(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> MaskBatch:
        """Masks [n, H, W] and label weights [n], given the nominal weights ``lam`` [n]."""
        return self.factors(lam, shape, rng=rng).dense()

    def sample_compact(self, n: int, shape: Shape, *, rng: np.random.Generator) -> SeparableMasks:
        """The draws of `sample`, from the same numbers of ``rng``, as factors."""
        shape = self._check_draw(n, shape, rng)
        return self.factors(self._nominal(n, rng), shape, rng=rng)


def check_strategy(strategy: object) -> None:
    """Raise unless ``strategy`` is an instance of `Strategy`."""
    if not isinstance(strategy, Strategy):
        raise TypeError(
            f"expected a strategy such as CutMix(alpha=1.0), got {strategy!r}; build it with its class, or by name "
            "with strategy('cutmix')."
        )


def check_option(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise unless ``value`` is one of the ``known`` choices of the option ``name``."""
    if value not in known:
        raise ValueError(f"expected {name} among {list(known)}, got {value!r}; choose one of them.")


def _same(value: object, default: object) -> bool:
    """Equality that also answers for arrays, which compare elementwise."""
    return value is default or (not isinstance(value, np.ndarray) and bool(value == default))


def _plain(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"array{list(value.shape)}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return "+".join(v.name if isinstance(v, Strategy) else _plain(v) for v in value)
    return str(value)

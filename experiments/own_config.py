"""What a comparison on a model of the user's own is, where and how it runs, and what must fit before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from experiments.own_measures import Options
from experiments.own_models import FRESH, Spec
from experiments.record import RESULTS, command_line
from msda_theory.moments.moments import check_law
from msda_theory.terms import check_at

Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True)
class Config:
    """What is compared.

    Attributes:
        model: factory of the network as ``module:function``, importable from where you are; called with those of
            ``num_classes``, ``classes``, ``channels`` and ``image`` that it takes. Once for each model.
        weights: safetensors file of its weights, once for each model; ``-`` or none at all for fresh weights.
        names: of the models in tables and figures; by default those of the factories.
        data: ``name`` or ``name:path``, see `experiments.data.load_data`: digits, cifar10, cifar100, fashion_mnist,
            imagenette64, npz:FOLDER or folder:FOLDER.
        strategies: as text, e.g. ``cutmix`` or ``hmix(alpha=0.5, ratio=0.75)``.
        split: images of the training or of the held-out part.
        images: how many, classes balanced.
        size: side of pictures in folders.
        normalise: ``data``: the network sees images less the mean, over the standard deviation, of each channel of the
            training images, as in `experiments.train`; ``none``: images in [0, 1], for models that normalise them.
            Weights of `experiments.train` bring their own. ``data`` is the default since most networks are trained on
            images that their pipeline has normalised, which files of weights do not hold; notes say what was done.
        mean: of each channel, in place of that of the data.
        std: likewise; both together.
        precision: of terms and losses; the order of the remainder is always measured in float64.
        distance_images: images behind R2 by distance; fewer where it would take long; 0 leaves it out.
        options: laws, points, draws, seed.
    """

    model: Repeated = ()
    weights: Repeated = ()
    names: tuple[str, ...] = ()
    data: str = "digits"
    strategies: tuple[str, ...] = ("mixup", "cutmix", "hmix", "gmix")
    split: Literal["train", "test"] = "train"
    images: int = 128
    size: int | None = None
    normalise: Literal["data", "none"] = "data"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    precision: Literal["float32", "float64"] = "float32"
    distance_images: int = 64
    options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)

    def specs(self) -> list[Spec]:
        """The models."""
        names = self.names or tuple(m.partition(":")[2] for m in self.model)
        weights = self.weights or (FRESH,) * len(self.model)
        return [Spec(*parts) for parts in zip(names, self.model, weights, strict=True)]


@dataclass(frozen=True)
class Execution:
    """How and where; nothing here changes what is computed, but for rounding.

    Attributes:
        name: of the folder; by default the names of the models.
        out: folder of the records and the page, in place of ``results/compare/NAME``.
        device: cpu, cuda, ...; a GPU if there is one.
        jobs: processes; by default one for each core, and one alone on a GPU.
        batch_size: images of one plain forward pass.
        memory: bytes of intermediate results in one propagation; by default 1 GiB, an eighth of a GPU.
        page: build the page at the end.
    """

    name: str | None = None
    out: Path | None = None
    device: str | None = None
    jobs: int | None = None
    batch_size: int = 512
    memory: int | None = None
    page: bool = True

    def folder(self, config: Config) -> Path:
        """Where records go."""
        return self.out or RESULTS / "compare" / (self.name or "-".join(s.name for s in config.specs()))

    @property
    def where(self) -> str:
        """The device."""
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")


def check_config(config: Config) -> None:
    """Raise unless there are models, strategies, laws and points, and options for each model or channel go together.

    Raises:
        ValueError: with what was expected.
    """
    if not config.model:
        raise ValueError("expected a model to compare strategies on, got none; give --model package.module:factory.")
    for option, values in (("weights", config.weights), ("names", config.names)):
        if values and len(values) != len(config.model):
            raise ValueError(
                f"expected {option} once for each of {len(config.model)} models, got {len(values)}; give as many, "
                f"weights {FRESH} for a model with fresh ones."
            )
    names = [s.name for s in config.specs()]
    odd = [n for n in names if not n[:1].isalnum() or not all(c.isalnum() or c in "-_.+=" for c in n)]
    if odd or len(set(names)) < len(names):
        raise ValueError(
            "expected different names for the models, of letters, digits and, after the first, -_.+=, "
            f"got {names}; give --names."
        )
    if not config.strategies or not config.options.laws or not config.options.points:
        raise ValueError(
            "nothing to compare: --strategies, --laws and --points need a value each; give it or leave the option out."
        )
    for law in config.options.laws:
        check_law(law)
    for at in config.options.points:
        check_at(at)
    if len(config.mean) != len(config.std):
        raise ValueError(
            f"expected --mean and --std together, one number a channel, got {len(config.mean)} and {len(config.std)}."
        )


def command(config: Config, how: Execution) -> str:
    """The command that makes the record; options that may be repeated are written once for each value."""
    rest = command_line("experiments.compare", replace(config, model=(), weights=()))
    words = [f"--{k} {v}" for k in ("model", "weights") for v in getattr(config, k)]
    return " ".join([rest.replace("--options.", "--"), *words, *([f"--name {how.name}"] if how.name else [])])

"""Which terms does each strategy add to the loss of *your* model? The measures of the study on a model of your own.

``python -m experiments.compare --model package.module:factory --weights w.safetensors --data cifar100:PATH
--strategies cutmix 'hmix(ratio=0.5)'``. For every model and strategy: base, R1, R2, R3, predicted and measured mixed
loss and the shares of the rise explained, at the data (both laws), the conditional mean and the mask; the rungs of the
order ladder; the order of the remainder, where the network is smooth. For every strategy: coefficients a(p) at this
image size and R2 by pixel distance. Claims C1, C5, C6 (Park, Yun, Chun, NeurIPS 2022) become visible on the model.
All models and strategies share partners and the random numbers behind the masks, so that their differences have small
errors. Several models: ``--model`` and ``--weights`` once for each (``-`` for fresh weights), and ``--names``.

Checks: the terms and the ladder see one measured loss; the remainder is of third order where it has an order.
Cost: about a second a strategy on digits, minutes at 32x32 with a residual network. Records: ``compare.json`` and
parts under ``results/compare/NAME``, made once for each model, strategy and set of options; there also the page.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from experiments.batches import batches, to_unit
from experiments.data import DataSet, load_data
from experiments.images import balanced
from experiments.own_measures import Options, by_distance, law_summary, measure
from experiments.own_models import FRESH, OwnModel, Spec, check_outputs, own_model
from experiments.own_tables import table
from experiments.parallel import spread
from experiments.record import RESULTS, cached, check, code_digest, command_line, current, finish
from experiments.strategies import strategy_from
from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.losses import SoftmaxCrossEntropy
from msda_theory.moments.moments import check_law
from msda_theory.terms import check_at

SOURCES = (
    *("own_models.py", "own_measures.py", "networks.py", "strategies.py"),
    *("data.py", "readers.py", "images.py", "pictures.py", "batches.py"),
)
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
            training images, as in `experiments.train`; ``none``: images in [0, 1].
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


@dataclass(frozen=True)
class _Task:
    """One record: a model under a strategy, a model's R2 by distance (no strategy), or a law (no model)."""

    config: Config
    how: Execution
    spec: Spec | None
    strategy: str | None
    key: dict[str, Any]
    code: str

    @property
    def place(self) -> tuple[str | None, str | None]:
        """Names of its model and strategy."""
        return (self.spec.name if self.spec else None, self.strategy)

    @property
    def path(self) -> Path:
        """File of its record."""
        names = (self.spec.name if self.spec else "law", self.strategy or "distance")
        text = "--".join("".join(c if c.isalnum() or c in "=.+" else "-" for c in n).strip("-") for n in names)
        return self.how.folder(self.config) / "parts" / f"{text}.json"


def run(config: Config, how: Execution = Execution()) -> dict[str, Any]:
    """Measure every model under every strategy, and sum up.

    Raises:
        ValueError, TypeError, FileNotFoundError: what does not fit, before anything is measured; see `own_model`,
            `strategy_from` and `load_data`.
    """
    _check(config)
    texts = list(dict.fromkeys(strategy_from(text).name for text in config.strategies))
    data, images = _load(config, how)
    models = {spec: _model(config, spec, data, images, how) for spec in config.specs()}
    about = {"name": config.data, "split": config.split, "shape": data.shape, "classes": data.classes}
    about |= {"images": len(images), "sha256": _digest(images)}
    tasks = list(_tasks(config, how, models, texts, about))
    jobs = how.jobs or (1 if how.where.startswith("cuda") else os.cpu_count() or 1)
    parts = spread(_one, [(t,) for t in tasks], jobs, "compare", known=lambda t: current(t.path, t.key, t.code))
    digests = ":".join(m.weights_sha256 + m.code_sha256 for m in models.values())
    return cached(
        how.folder(config) / "compare.json",
        config,
        f"{code_digest(*SOURCES, 'compare.py')}:{about['sha256']}:{digests}",
        _command(config, how),
        lambda: _summary(config, models, images, about, texts, {t.place: p for t, p in zip(tasks, parts, strict=True)}),
        parts=parts,
    )


def _check(config: Config) -> None:
    if not config.model:
        raise ValueError("expected a model to compare strategies on, got none; give --model package.module:factory.")
    for option, values in (("weights", config.weights), ("names", config.names)):
        if values and len(values) != len(config.model):
            raise ValueError(
                f"expected {option} once for each of {len(config.model)} models, got {len(values)}; give as many, "
                f"weights {FRESH} for a model with fresh ones."
            )
    names = [s.name for s in config.specs()]
    odd = [n for n in names if not n or not all(c.isalnum() or c in "-_.+=" for c in n)]
    if odd or len(set(names)) < len(names):
        raise ValueError(
            f"expected different names of letters, digits and -_.+= for the models, got {names}; give --names."
        )
    if not config.strategies or not config.options.laws or not config.options.points:
        raise ValueError("expected at least one strategy, law and point to compare, got none of one; name some.")
    for law in config.options.laws:
        check_law(law)
    for at in config.options.points:
        check_at(at)
    if len(config.mean) != len(config.std):
        raise ValueError(
            f"expected --mean and --std together, one number a channel, got {len(config.mean)} and {len(config.std)}."
        )


def _load(config: Config, how: Execution) -> tuple[DataSet, ImageData]:
    """The data set, and the images that are measured, in [0, 1]."""
    data = load_data(config.data, size=config.size)
    split = data.train if config.split == "train" else data.test
    count = min(config.images, len(split))
    part = split[balanced(split.y.numpy(), count, data.class_names, f"{config.data}, {config.split}")]
    (x,) = batches(part, [np.arange(len(part))], "cpu", train=False)
    unit = to_unit(x, part.white, getattr(torch, config.precision))
    return data, ImageData(unit.to(how.where), part.y.to(how.where), data.classes)


def _model(config: Config, spec: Spec, data: DataSet, images: ImageData, how: Execution) -> OwnModel:
    """The model on its device, in its precision, checked on the images."""
    own = config.normalise == "none" or config.mean
    mean, std = (config.mean, config.std) if own else (data.mean, data.std)
    if len(mean) not in (0, data.shape[0]):
        raise ValueError(
            f"expected --mean of one number for each of {data.shape[0]} channels, got {len(mean)} numbers."
        )
    found = own_model(spec, data, mean=mean, std=std, seed=config.options.seed)
    found.net.to(how.where, getattr(torch, config.precision))
    check_outputs(found.net, spec, images, config.data)
    check_model(found.net, images, SoftmaxCrossEntropy())
    return found


def _digest(images: ImageData) -> str:
    x, y = images.x.cpu().numpy(), images.y.cpu().numpy()
    return hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()


def _tasks(
    config: Config, how: Execution, models: dict[Spec, OwnModel], texts: list[str], about: dict[str, Any]
) -> Iterator[_Task]:
    code, options = code_digest(*SOURCES, "compare.py"), config.options
    usual = {k: getattr(config, k) for k in ("normalise", "mean", "std", "precision")} | {"data": about}
    for spec, model in models.items():
        own = f"{code}:{model.weights_sha256}:{model.code_sha256}"
        for text in texts:
            yield _Task(config, how, spec, text, {**usual, "model": spec, "strategy": text, "options": options}, own)
        if config.distance_images:
            key = {**usual, "model": spec, "strategies": texts, "images": config.distance_images, "laws": options.laws}
            yield _Task(config, how, spec, None, {**key, "seed": options.seed}, own)
    for text in texts:
        key = {"strategy": text, "shape": about["shape"], "laws": options.laws, "seed": options.seed}
        yield _Task(config, how, None, text, key, code)


def _one(task: _Task) -> dict[str, Any]:
    return cached(task.path, task.key, task.code, _command(task.config, task.how), lambda: _measured(task))


def _measured(task: _Task) -> dict[str, Any]:
    config, how, options = task.config, task.how, task.config.options
    if task.spec is None:
        assert task.strategy is not None, "a law has a strategy"
        channels_first = tuple(task.key["shape"])
        rows = law_summary(strategy_from(task.strategy), channels_first[1:], options.laws, options.seed)
        return {"rows": rows}
    data, images = _load(config, how)
    net = _model(config, task.spec, data, images, how).net
    if task.strategy is None:
        strategies = [strategy_from(text) for text in task.key["strategies"]]
        return by_distance(net, images[: config.distance_images], strategies, options)
    return measure(net, images, strategy_from(task.strategy), options, batch_size=how.batch_size, memory=how.memory)


def _summary(
    config: Config,
    models: dict[Spec, OwnModel],
    images: ImageData,
    about: dict[str, Any],
    texts: list[str],
    parts: dict[tuple[str | None, str | None], dict[str, Any]],
) -> dict[str, Any]:
    names = [spec.name for spec in models]

    def rows(kind: str) -> list[dict[str, Any]]:
        found = [(n, parts[n, t]["result"][kind]) for n in names for t in texts]
        return [{"model": n, **r} for n, part in found for r in (part if isinstance(part, list) else [part])]

    distance = {n: parts[n, None]["result"] for n in names if (n, None) in parts}
    return {
        "data": about,
        "models": [_about(spec, model, images) for spec, model in models.items()],
        "strategies": texts,
        "terms": rows("terms"),
        "ladder": rows("ladder"),
        "remainder": rows("remainder"),
        "laws": [r for t in texts for r in parts[None, t]["result"]["rows"]],
        "distance": {
            "models": [{"model": n, "images": d["images"], "reason": d["reason"]} for n, d in distance.items()],
            "rows": [{"model": n, **r} for n, d in distance.items() for r in d["rows"]],
        },
        "checks": [*_one_loss(rows("terms"), rows("ladder")), *_third_order(rows("remainder"))],
    }


def _about(spec: Spec, model: OwnModel, images: ImageData) -> dict[str, Any]:
    with torch.no_grad():
        right = (torch.cat([model.net(x).argmax(1) for x in images.x.split(256)]) == images.y).sum()
    return {
        "model": spec.name,
        "factory": spec.factory,
        "weights": spec.weights,
        "weights_sha256": model.weights_sha256,
        "parameters": sum(p.numel() for p in model.net.parameters()),
        "correct": int(right),
        "images": len(images),
        "notes": model.notes,
    }


def _one_loss(terms: list[dict[str, Any]], ladder: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Terms and ladder measure the mixed loss on the same draws."""
    own = {(r["model"], r["strategy"]): r["measured"]["mean"] for r in terms}
    other = [r for r in ladder if (r["law"], r["rung"]) == ("exact", "measured")]
    if not other:
        return []
    worst = max(abs(r["value"]["mean"] / own[r["model"], r["strategy"]] - 1) for r in other)
    name = "terms and ladder see one measured loss"
    return [check(name, worst < 1e-4, f"relative difference {worst:.1g} at most")]


def _third_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [(f"{r['model']}, {r['strategy']}: the remainder is of third order", r["slope"]) for r in rows]
    return [check(name, 2.7 < slope < 3.3, f"slope {slope:.3f}") for name, slope in found if slope is not None]


def _command(config: Config, how: Execution) -> str:
    """The command that makes the record; options that may be repeated are written once for each value."""
    rest = command_line("experiments.compare", replace(config, model=(), weights=()))
    words = [f"--{k} {v}" for k in ("model", "weights") for v in getattr(config, k)]
    return " ".join([rest.replace("--options.", "--"), *words, *([f"--name {how.name}"] if how.name else [])])


def main(
    config: Annotated[Config, tyro.conf.arg(name="")], how: Annotated[Execution, tyro.conf.arg(name="")] = Execution()
) -> None:
    """Measure, print the table and the checks, build the page."""
    record = run(config, how)
    print(table(record))
    if how.page:
        folder = how.folder(config)
        # By name: the page needs what this module does not, templates and figures.
        page = importlib.import_module("reporting.build").build_own(folder, folder / "page")
        print(f"page: {page}")
    finish(record)


if __name__ == "__main__":
    tyro.cli(main)

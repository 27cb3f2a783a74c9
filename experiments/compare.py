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
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from experiments.batches import batches, to_unit
from experiments.data import DataSet, load_data
from experiments.images import balanced
from experiments.own_config import Config, Execution, check_config, command
from experiments.own_measures import by_distance, law_summary, measure
from experiments.own_models import OwnModel, Spec, check_outputs, own_model, with_outputs
from experiments.own_tables import table
from experiments.parallel import spread
from experiments.record import cached, check, code_digest, current, finish
from experiments.strategies import strategy_from
from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.losses import SoftmaxCrossEntropy

SOURCES = (
    *("own_models.py", "own_measures.py", "networks.py", "strategies.py"),
    *("data.py", "readers.py", "images.py", "pictures.py", "batches.py"),
)
USUAL = Execution()


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
        folder = self.how.folder(self.config) / "parts"
        text = "".join(c if c.isalnum() or c in "=.+" else "-" for c in self.strategy or "distance").strip("-")
        return folder / (f"{self.spec.name}--{text}.json" if self.spec else f"laws/{text}.json")


def run(config: Config, how: Execution = USUAL) -> dict[str, Any]:
    """Measure every model under every strategy, and sum up.

    Raises:
        ValueError, TypeError, FileNotFoundError: what does not fit, before anything is measured; see `own_model`,
            `strategy_from` and `load_data`.
    """
    check_config(config)
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
        command(config, how),
        lambda: _summary(config, models, images, about, texts, {t.place: p for t, p in zip(tasks, parts, strict=True)}),
        parts=parts,
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
    return with_outputs(found, images)


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
    return cached(task.path, task.key, task.code, command(task.config, task.how), lambda: _measured(task))


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
        right = (torch.cat([model.net(x).argmax(1) for x in torch.split(images.x, 256)]) == images.y).sum()
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


def main(config: Annotated[Config, tyro.conf.arg(name="")], how: Annotated[Execution, tyro.conf.arg(name="")]) -> None:
    """Measure, print the table and the checks, build the page."""
    record = run(config, how)
    folder = how.folder(config)
    print(f"{table(record)}\nrecords: {folder}")
    if how.page:
        # By name: the page needs what this module does not, templates and figures.
        page = importlib.import_module("reporting.build").build_own(folder, folder / "page")
        print(f"page: {page}")
    finish(record)


if __name__ == "__main__":
    tyro.cli(main)

"""Randomness is an argument: no public function touches a global random state or a module's parameters."""

from __future__ import annotations

import functools
import inspect
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import graph_files
import naive
import numpy as np
import pytest
import torch

import msda_theory as mt
from msda_theory.adversarial_bound import adversarial_bounds
from msda_theory.attack_libraries import AttackSettings
from msda_theory.attacks import ATTACKS, run_attack
from msda_theory.calibration import calibration
from msda_theory.corruptions import Occlusion, PatchShuffle, common_corruptions, corrupt
from msda_theory.dense import pair_weights
from msda_theory.distance import gradient_weights
from msda_theory.ellipsoids import ellipsoid
from msda_theory.generalization import effective_dimensions, generalization_gap
from msda_theory.gradient_products import gradient_products, share_difference
from msda_theory.graph.contrast import binary_cross_entropy, info_nce
from msda_theory.graph.encoders import Views, contrastive_model
from msda_theory.graph.expansion import (
    as_problem,
    enumerated_negative_loss,
    expand_negatives,
    mixed_negative_loss,
    score_steps,
)
from msda_theory.graph.graphs import Graph, check_split, from_data
from msda_theory.graph.hardness import hardness, select
from msda_theory.graph.information import information_kept
from msda_theory.graph.negatives import draw_partners, draw_weights, mix_negatives
from msda_theory.graph.probes import linear_probe, validated_probe
from msda_theory.graph.readers import load_graph, normalize_rows, read_graph
from msda_theory.graph.sparse import sparsify
from msda_theory.graph.splits import random_split
from msda_theory.graph.synthetic import block_graph
from msda_theory.graph.training import (
    Recipe,
    contrastive_loss,
    keep_negatives,
    measure_hardness,
    train_contrastive,
)
from msda_theory.graph.views import heat, lost_mass, normalized_adjacency, ppr
from msda_theory.inner_maximum import inner_maximum, linear_inner_maximum
from msda_theory.masks.design import design
from msda_theory.masks.registry import REGISTRY
from msda_theory.masks.wishes import decaying
from msda_theory.objective import expansion_loss
from msda_theory.order_ladder import order_ladder
from msda_theory.rademacher import rademacher_complexity
from msda_theory.radii import order_radii
from msda_theory.robustness import Robustness, paired_differences, robustness
from msda_theory.sampled_distance import sampled_gradient_term
from msda_theory.stand_ins import class_means, local_means
from msda_theory.stress import stress
from msda_theory.verdicts import rank_agreement

SHAPE = (3, 3)


@dataclass(frozen=True)
class Row(mt.Strategy):
    """A strategy with masks alone: its moments are sampled."""

    alpha: float = 1.0

    def masks(self, lam, shape, *, rng):
        mask = np.ones((len(lam), *shape))
        mask[:, 0] = rng.random((len(lam), 1))
        return mt.MaskBatch(mask, mask.mean(axis=(1, 2)))


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@functools.cache
def problem():
    """Made once: the layers of torch draw their first weights from the global state."""
    x, y = naive.images(4, 1, SHAPE, 3, seed=1)
    return naive.network(1, SHAPE, 3), mt.ImageData(x, y, 3)


def augmenter() -> Callable[[torch.Tensor, torch.Tensor], object]:
    """Mixup with random numbers of its own."""
    own = rng()

    def transform(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lam = own.random()
        return lam * x + (1 - lam) * x.flip(0), lam * y + (1 - lam) * y.flip(0)

    return transform


def expand_everywhere(strategy: mt.Strategy) -> list[mt.Expansion]:
    model, data = problem()
    sampled = [mt.expand(model, data, strategy, at=at, draws=3, rng=rng()) for at in ("data", "mean", "mask")]
    return [*sampled, mt.expand(model, data, mt.CutMix(), method="dense")]


def by_distance() -> object:
    model, data = problem()
    return mt.gradient_term_by_distance(pair_weights(model, data, mt.SoftmaxCrossEntropy()), mt.CutMix().moments(SHAPE))


def by_displacement() -> object:
    model, data = problem()
    weights = pair_weights(model, data, mt.SoftmaxCrossEntropy())
    return mt.gradient_term_by_displacement(weights, mt.CutMix().moments(SHAPE))


@functools.cache
def attacked() -> tuple[torch.nn.Module, mt.ImageData]:
    model, data = problem()
    return model, mt.ImageData(data.x.sigmoid(), data.y, 3)


@functools.cache
def binary() -> tuple[torch.nn.Module, mt.ImageData]:
    return naive.linear(1, SHAPE, 1), mt.ImageData(problem()[1].x, problem()[1].y.clamp(max=1), 2)


def under_attack() -> Robustness:
    return robustness(*attacked(), eps=(0.1,), steps=3, queries=5, rng=rng())


def pixels() -> mt.ImageData:
    """The images of the problem, in [0, 1], with a side that patches divide."""
    x = problem()[1].x.sigmoid().repeat(1, 1, 2, 2)
    return mt.ImageData(x, problem()[1].y, 3)


class Small(torch.nn.Module):
    """The network of the problem, on the upper left quarter."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return problem()[0](x[..., :3, :3])


class Triangle(NamedTuple):
    """Three nodes in a ring, and one apart."""

    edges: torch.Tensor = torch.tensor([[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]])
    nodes: int = 4


def corruptions() -> list[object]:
    return [*common_corruptions((5,)), Occlusion(0.25), Occlusion(0.5, shape="pixels"), PatchShuffle(2)]


def blocks() -> Graph:
    return block_graph((60, 70), 0.1, 0.02, features=12, signal=0.3, background=0.1, rng=rng())


def graph_from_file() -> list[Graph]:
    with tempfile.TemporaryDirectory() as folder:
        graph_files.write_npz(Path(folder) / "cora.npz", blocks())
        return [load_graph("cora", folder), read_graph(Path(folder) / "cora.npz")]


def vectors(n: int = 5, size: int = 6) -> torch.Tensor:
    return torch.from_numpy(rng().normal(size=(n, size)))


def views_of_blocks() -> Views:
    return Views.of(blocks().features, normalized_adjacency(blocks()), ppr(blocks()))


def one_step() -> list[object]:
    """Representations, the negatives kept of them, and their loss."""
    model, recipe = contrastive_model(12, 4, rng=rng()), Recipe(width=4)
    nodes = model.represent(views_of_blocks(), torch.arange(130).flip(0))
    kept = keep_negatives(nodes, recipe)
    local, global_ = nodes.local_negatives[kept.local], nodes.global_negatives[kept.global_]
    return [measure_hardness(nodes), contrastive_loss(model, nodes, local, global_, recipe)]


def mixed_steps() -> list[object]:
    n, w = vectors(), vectors(1)[0]
    steps = score_steps(n, w, 0.1, mt.DropMix().moments((1, 6)))
    exact = enumerated_negative_loss(n, w, 0.1, mt.DropMix())
    return [expand_negatives(steps), exact, mixed_negative_loss(n, w, 0.1, mt.DropMix(), draws=2, rng=rng())]


CALLS: dict[str, Callable[[], object]] = {
    "strategy": lambda: mt.strategy("hmix", ratio=0.3),
    "strategies": mt.strategies,
    "expand": lambda: [expand_everywhere(s) for s in (mt.CutMix(), mt.GMix(), Row())],
    "law_of": lambda: mt.law_of(augmenter(), SHAPE, draws=20),
    "first_layer_form": lambda: mt.first_layer_form(*problem(), mt.CutMix().moments(SHAPE)).value(),
    "first_layer_r2": lambda: mt.first_layer_r2(*problem(), mt.CutMix(), draws=3, rng=rng()),
    "taylor": lambda: mt.taylor(problem()[0], problem()[1].x, problem()[1].x[None]),
    "mixed_loss": lambda: mt.mixed_loss(*problem(), mt.CutMix(), draws=3, rng=rng()),
    "MixTransform": lambda: [
        mt.MixTransform(s, 3, rng=rng(), per_sample=each)(problem()[1].x, problem()[1].y)
        for s in (mt.CutMix(), mt.GMix(), Row())
        for each in (False, True)
    ],
    "coefficient_by_distance": lambda: mt.coefficient_by_distance(mt.CutMix().moments(SHAPE)),
    "gradient_term_by_displacement": by_displacement,
    "gradient_term_by_distance": by_distance,
    "gradient_weights": lambda: gradient_weights(*problem()),
    "sampled_gradient_term": lambda: sampled_gradient_term(*problem(), mt.CutMix(), draws=3, rng=rng()),
    "gradient_products": lambda: gradient_products(*problem()).normalised(),
    "share_difference": lambda: share_difference(*[[gradient_products(*problem())] * 2] * 2, 1.0),
    "compare": lambda: mt.compare({"net": problem()[0]}, problem()[1], [mt.CutMix(), Row()], draws=3, rng=rng()),
    "kink": lambda: mt.kink(*problem(), mt.CutMix(), draws=3, rng=rng()),
    "remainder_order": lambda: [
        mt.remainder_order(*problem(), mt.CutMix(), method=method, draws=3, rng=rng())
        for method in ("enumerated", "paired")
    ],
    "order_ladder": lambda: order_ladder(*problem(), [mt.CutMix(), mt.GMix(), Row()], draws=3, rng=rng()).frame(),
    "order_radii": lambda: order_radii(*problem(), [mt.CutMix()], scales=(0.5, 1.0), draws=3, rng=rng()).frame(),
    "rank_agreement": lambda: rank_agreement([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]),
    "class_means": lambda: class_means(problem()[1]),
    "local_means": lambda: local_means(problem()[1], 1.0),
    "robustness": lambda: under_attack().frame(),
    "paired_differences": lambda: paired_differences(under_attack(), under_attack()),
    "run_attack": lambda: [
        run_attack(name, *attacked(), (0.1,), AttackSettings(norm, 3, 1, 5), seed=1, batch_size=4).images
        for name in ATTACKS[:4]
        for norm in ("linf", "l2")
    ],
    "adversarial_bounds": lambda: adversarial_bounds(*problem(), [mt.CutMix(), Row()], rng=rng()),
    "inner_maximum": lambda: inner_maximum(*problem(), np.ones(4), steps=3, restarts=1, rng=rng()),
    "linear_inner_maximum": lambda: linear_inner_maximum(*binary(), np.ones(4), loss=mt.Logistic()),
    "effective_dimensions": lambda: effective_dimensions([mt.CutMix(), Row()], problem()[1], rng=rng()),
    "rademacher_complexity": lambda: rademacher_complexity(
        ellipsoid(mt.CutMix().moments(SHAPE), problem()[1]), problem()[1], draws=5, rng=rng()
    ),
    "generalization_gap": lambda: generalization_gap(*problem(), problem()[1]),
    "calibration": lambda: calibration(*problem(), resamples=20, rng=rng()),
    "corrupt": lambda: [corrupt(pixels().x, c, rng=rng()) for c in corruptions()],
    "design": lambda: design(decaying(SHAPE, near=1 / 3, far=0.2, length=2.0, power=2.0)).strategy.moments(SHAPE),
    "expansion_loss": lambda: [
        expansion_loss(*problem(), s, at=at, rng=rng()).total.item()
        for s in (mt.CutMix(), Row())
        for at in ("data", "mean", "mask")
    ],
    "block_graph": blocks,
    "from_data": lambda: from_data(SimpleNamespace(x=blocks().features, edge_index=blocks().edges[:, ::2])),
    "load_graph": graph_from_file,
    "normalize_rows": lambda: normalize_rows(blocks()),
    "check_split": lambda: check_split(blocks()),
    "random_split": lambda: random_split(blocks(), rng=rng()),
    "normalized_adjacency": lambda: normalized_adjacency(Triangle()),
    "ppr": lambda: [ppr(Triangle(), method=method) for method in ("exact", "threshold", "push")],
    "heat": lambda: [heat(Triangle(), method=method) for method in ("exact", "threshold")],
    "lost_mass": lambda: lost_mass(Triangle(), ppr(Triangle(), method="push")),
    "sparsify": lambda: [sparsify(ppr(Triangle()), **k) for k in ({"threshold": 0.1}, {"degree": 2.0})],
    "hardness": lambda: hardness(vectors(), vectors(4)),
    "select": lambda: [select(*vectors(2, 20), mode=mode) for mode in ("per_view", "sum", "both")],
    "draw_partners": lambda: draw_partners(5, rng=rng()),
    "draw_weights": lambda: [draw_weights(5, 6, s, rng=rng()) for s in (mt.DropMix(), mt.DropMix(dims="random"))],
    "mix_negatives": lambda: mix_negatives(vectors(), draw_partners(5, rng=rng()), torch.full((1, 6), 0.35)),
    "binary_cross_entropy": lambda: binary_cross_entropy(vectors()[0], vectors()[1]),
    "info_nce": lambda: info_nce(vectors()[0], vectors()[1]),
    "contrastive_model": lambda: contrastive_model(3, 4, rng=rng()),
    "contrastive_loss, keep_negatives, measure_hardness": one_step,
    "train_contrastive": lambda: [
        train_contrastive(views_of_blocks(), Recipe(s, width=4, epochs=2), rng=rng()).losses
        for s in (mt.DropMix(), mt.GMix())
    ],
    "linear_probe": lambda: linear_probe(vectors(130), blocks(), repeats=2, steps=2, rng=rng()),
    "validated_probe": lambda: validated_probe(vectors(130), blocks()),
    "information_kept": lambda: information_kept(vectors(), vectors(4), mt.DropMix(), rng=rng()),
    "score_steps, expand_negatives, enumerated_negative_loss, mixed_negative_loss": mixed_steps,
    "as_problem": lambda: as_problem(vectors(), vectors(1)[0], 0.1),
    "stress": lambda: stress({"net": Small().eval()}, pixels(), corruptions(), rng=rng()),
}
for _name, _cls in REGISTRY.items():
    CALLS[f"sample {_name}"] = lambda cls=_cls: cls().sample(5, SHAPE, rng=rng())
    CALLS[f"partner_weights {_name}"] = lambda cls=_cls: cls().partner_weights(5, SHAPE, rng=rng())
    CALLS[f"moments {_name}"] = lambda cls=_cls: cls().moments(SHAPE, law="paper")
    if _cls.atoms is not mt.Strategy.atoms:  # a Gaussian field is no finite law
        CALLS[f"atoms {_name}"] = lambda cls=_cls: cls().atoms(SHAPE)


def snapshot() -> tuple[object, ...]:
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return (
        (kind, keys.tobytes(), position, has_gauss, cached),
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
    )


def test_every_public_function_is_called():
    functions = {name for name in mt.__all__ if inspect.isfunction(getattr(mt, name))}
    assert functions
    assert functions <= set(CALLS), f"add to CALLS: {sorted(functions - set(CALLS))}"


@pytest.mark.parametrize("name", CALLS)
def test_global_random_state_is_not_touched(name):
    with naive.as_users_run_it():  # the type checker of the test run itself draws from the module random
        problem(), binary()
        before = snapshot()
        CALLS[name]()
        assert snapshot() == before


def test_the_snapshot_sees_draws():
    """Negative control."""
    draws = (lambda: np.random.random(), lambda: torch.rand(1), random.random)  # noqa: NPY002
    before = snapshot()
    for part, draw in enumerate(draws):
        draw()
        after = snapshot()
        assert [a == b for a, b in zip(after, before, strict=True)] == [k != part for k in range(3)]
        before = after


@pytest.mark.parametrize(
    "name",
    [
        *("expand", "mixed_loss", "inner_maximum", "paired_differences", "expansion_loss"),
        *("sample cutmix", "sample choice", "partner_weights hmix", "train_contrastive", "linear_probe"),
        "information_kept",
    ],
)
def test_global_random_state_has_no_influence(name):
    torch.manual_seed(1)
    first = CALLS[name]()
    torch.manual_seed(2)
    second = CALLS[name]()
    if isinstance(first, mt.MaskBatch):
        np.testing.assert_array_equal(first.mask, second.mask)
        np.testing.assert_array_equal(first.lam, second.lam)
    elif isinstance(first, np.ndarray):
        np.testing.assert_array_equal(first, second)
    else:
        assert first == second


@pytest.mark.parametrize(
    "call",
    [
        lambda m, d: mt.expand(m, d, mt.CutMix(), draws=2, rng=rng()),
        lambda m, d: mt.expand(m, d, mt.CutMix(), method="dense"),
        lambda m, d: mt.mixed_loss(m, d, mt.CutMix(), draws=2, rng=rng()),
        lambda m, d: mt.compare({"net": m}, d, [mt.CutMix()], draws=2, rng=rng()),
        lambda m, d: mt.remainder_order(m, d, mt.CutMix()),
        lambda m, d: expansion_loss(m, d, mt.CutMix(), rng=rng()),
        lambda m, d: adversarial_bounds(m, d, [mt.CutMix()]),
        lambda m, d: inner_maximum(m, d, np.ones(4), steps=3, restarts=1, rng=rng()),
    ],
    ids=[
        *("expand", "expand-dense", "mixed_loss", "compare", "remainder_order", "expansion_loss"),
        *("adversarial_bounds", "inner_maximum"),
    ],
)
def test_model_and_data_are_left_as_they_were(call):
    model, data = problem()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    x, y = data.x.clone(), data.y.clone()
    call(model, data)
    assert torch.equal(data.x, x)
    assert torch.equal(data.y, y)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not data.x.requires_grad
    assert not model.training
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32

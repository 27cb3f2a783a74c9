"""Contrastive training: the loss against loops, streams, stopping, and what it learns on a small block model."""

from __future__ import annotations

import math
from dataclasses import replace

import naive
import naive_graph
import numpy as np
import pytest
import torch
from mc_checks import assert_share, fails
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from msda_theory.graph import training
from msda_theory.graph.encoders import Representations, Views, contrastive_model
from msda_theory.graph.graphs import Graph
from msda_theory.graph.hardness import MODES, select
from msda_theory.graph.negatives import draw_partners, draw_weights, mix_negatives
from msda_theory.graph.probes import validated_probe
from msda_theory.graph.products import FixedMatrix
from msda_theory.graph.synthetic import block_graph
from msda_theory.graph.training import (
    Recipe,
    Trained,
    contrastive_loss,
    keep_negatives,
    measure_hardness,
    train_contrastive,
)
from msda_theory.graph.views import normalized_adjacency, ppr
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla
from msda_theory.streams import seed_from, stream

SMALL = Recipe(width=8, epochs=4, lr=1e-2)
STRATEGIES = [Vanilla(), DropMix(), DropMix(dims="random"), DropMix(share=1.0), Mixup(), GMix()]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([46, seed])


def views_of(graph: Graph) -> Views:
    return Views.of(graph.features, normalized_adjacency(graph), ppr(graph))


GRAPH = block_graph((14, 16), 0.3, 0.05, features=10, signal=0.3, background=0.2, rng=rng())
VIEWS = views_of(GRAPH)


def nodes(k: int = 6, n: int = 9, size: int = 5) -> Representations:
    source = rng(7)
    return Representations(*(torch.from_numpy(source.normal(size=(m, size))) for m in (n, n, k, k)))


def run(recipe: Recipe = SMALL, seed: int = 1, **options) -> Trained:
    return train_contrastive(VIEWS, recipe, rng=rng(seed), **options)


def same_weights(a: Trained, b: Trained) -> bool:
    first, second = a.model.state_dict(), b.model.state_dict()
    return all(torch.equal(value, second[name]) for name, value in first.items())


# --- one step -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["bce", "info_nce"])
def test_the_loss_crosses_the_views(loss):
    """Vectors of one view meet the summary of the other, one by one."""
    model = contrastive_model(3, 5, rng=rng()).double()
    given = nodes()
    found = contrastive_loss(
        model, given, given.local_negatives[:4], given.global_negatives[:4], Recipe(loss=loss, temperature=0.5)
    )

    def scores(vectors, others):
        summary = torch.sigmoid(sum(others) / len(others))
        return torch.stack([model.discriminator(v[None], summary[None])[0, 0] for v in vectors])

    sides = [
        (scores(given.local, given.global_), scores(given.local_negatives[:4], given.global_)),
        (scores(given.global_, given.local), scores(given.global_negatives[:4], given.local)),
    ]
    if loss == "bce":
        logits = torch.cat([s for side in sides for s in side])
        labels = torch.tensor(([1.0] * 9 + [0.0] * 4) * 2, dtype=torch.float64)
        truth = binary_cross_entropy_with_logits(logits, labels)
    else:
        rows = [torch.cat([p[None], n]) / 0.5 for ps, n in sides for p in ps]
        truth = cross_entropy(torch.stack(rows), torch.zeros(18, dtype=torch.int64))
    torch.testing.assert_close(found, truth, rtol=1e-13, atol=0)


@pytest.mark.parametrize("search", [None, "bfloat16"])
def test_hardness_of_each_view_against_its_own_positives(search):
    given = nodes()
    found = measure_hardness(given, search=search)
    pairs = ((given.local_negatives, given.local, found.local), (given.global_negatives, given.global_, found.global_))
    for negatives, positives, measured in pairs:
        np.testing.assert_allclose(
            measured, naive_graph.hardness(negatives, positives), rtol=0, atol=0.012 if search else 1e-14
        )


@pytest.mark.parametrize("mode", MODES)
def test_kept_negatives_are_those_of_the_recipe(mode):
    given = nodes(k=40)
    found = measure_hardness(given)
    recipe = Recipe(mode=mode, low=0.1, high=0.8)
    kept, truth = keep_negatives(given, recipe), select(found.local, found.global_, mode=mode, low=0.1, high=0.8)
    assert torch.equal(kept.local, truth.local)
    assert torch.equal(kept.global_, truth.global_)
    assert keep_negatives(given, replace(recipe, low=0.0, high=1.0)).local.tolist() == list(range(40))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_one_step_from_its_parts(strategy):
    """The first loss, from named streams: weights, shuffle, hardness and choice, partners, masks, loss."""
    recipe = replace(SMALL, strategy=strategy, epochs=1)
    seed = seed_from(rng(1))
    weights, shuffles, partners, masks = (stream(seed, use) for use in ("weights", "shuffles", "partners", "masks"))
    model = contrastive_model(10, 8, rng=weights)
    given = model.represent(VIEWS, torch.from_numpy(shuffles.permutation(30)))
    found = measure_hardness(given)
    kept = select(found.local, found.global_)
    local, global_ = given.local_negatives[kept.local], given.global_negatives[kept.global_]
    chosen = draw_partners(len(kept), rng=partners)
    q = draw_weights(len(kept), 8, strategy, rng=masks)
    loss = contrastive_loss(model, given, mix_negatives(local, chosen, q), mix_negatives(global_, chosen, q), recipe)
    assert run(recipe).losses == (pytest.approx(loss.item(), rel=1e-6),)


# --- streams ------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_results_whatever_the_global_state():
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        states.append(run(replace(SMALL, strategy=DropMix(dims="random"))))
        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert states[0].losses == states[1].losses
    assert same_weights(*states)
    other = run(replace(SMALL, strategy=DropMix(dims="random")), seed=2)
    assert other.losses != states[0].losses


def test_first_weights_and_shuffles_do_not_depend_on_what_is_mixed(monkeypatch):
    first, orders = [], []

    def recorded_model(*args, **kwargs):
        model = contrastive_model(*args, **kwargs)
        first.append({name: value.clone() for name, value in model.state_dict().items()})
        represent = model.represent
        model.represent = lambda views, order: (orders[-1].append(order.tolist()), represent(views, order))[1]
        return model

    monkeypatch.setattr(training, "contrastive_model", recorded_model)
    recipes = [replace(SMALL, strategy=s) for s in STRATEGIES]
    recipes += [replace(SMALL, mode="both"), replace(SMALL, low=0.0, high=1.0), replace(SMALL, loss="info_nce")]
    losses = []
    for recipe in recipes:
        orders.append([])
        losses.append(run(recipe).losses)
    for state, order in zip(first[1:], orders[1:], strict=True):
        assert order == orders[0]
        assert all(torch.equal(value, first[0][name]) for name, value in state.items())
    assert len(orders[0]) == 4
    assert len({tuple(o) for o in orders[0]}) == 4
    assert len({ls[-1] for ls in losses}) == len(recipes), "two recipes trained alike"
    run(SMALL, seed=2)
    assert orders[-1][4:] != orders[0]
    assert not torch.equal(first[-1]["discriminator.weight"], first[0]["discriminator.weight"])


# --- stopping -----------------------------------------------------------------------------------------------


def scripted(monkeypatch, values):
    """Losses of given values, with the gradients of the real ones; the model's weights before each step."""
    models, weights, script = [], [], iter(values)

    def recorded_model(*args, **kwargs):
        models.append(contrastive_model(*args, **kwargs))
        return models[-1]

    def loss(model, *args):
        weights.append({name: value.clone() for name, value in model.state_dict().items()})
        real = contrastive_loss(model, *args)
        return real - real.detach() + next(script)

    monkeypatch.setattr(training, "contrastive_model", recorded_model)
    monkeypatch.setattr(training, "contrastive_loss", loss)
    return weights


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "best"),
    [
        ((5, 4, 3, 3.5, 3.2, 3.1, 0, 0), 3, 6, 2),
        ((5, 4, 3, 3.5, 3.2, 2, 2.5, 2.5, 2.5, 0), 3, 9, 5),
        ((5, 6, 0, 0), 1, 2, 0),
        ((5, 4, 3, 2), 1, 4, 3),
        ((3, 3, 3, 4, 4), 2, 3, 0),
        ((1, 2, 2, 2), 3, 4, 0),
        ((1, 2, 2, 2), 4, 4, 0),
    ],
    ids=["stops", "a-new-lowest", "patience-1", "ends", "ties", "at-the-end", "no-stop"],
)
def test_patience_and_the_epoch_of_the_lowest_loss(monkeypatch, values, patience, epochs, best):
    seen = []
    scripted(monkeypatch, values)
    found = run(replace(SMALL, epochs=min(len(values), 10), patience=patience), observe=lambda *pair: seen.append(pair))
    assert found.losses == pytest.approx(values[:epochs], rel=1e-6)
    assert found.best == best
    assert seen == list(enumerate(found.losses))
    assert not found.model.training


@pytest.mark.parametrize("weights", ["best", "last"])
@pytest.mark.parametrize("stops", [True, False])
def test_weights_of_the_lowest_loss_or_the_last(monkeypatch, weights, stops):
    before = scripted(monkeypatch, (5, 4, 6, 7))
    found = run(replace(SMALL, patience=2 if stops else 3, weights=weights))
    assert (len(before), found.best) == (4, 1)
    state = found.model.state_dict()
    same = [all(torch.equal(value, state[name]) for name, value in b.items()) for b in before]
    # "last" are those after the last step; none follows the loss that ends training early.
    wanted = {"best": [False, True, False, False], "last": [False, False, False, stops]}
    assert same == wanted[weights]


def test_the_last_weights_have_made_a_step_in_every_epoch(monkeypatch):
    before = scripted(monkeypatch, (5, 4, 3, 2, 1))
    run(replace(SMALL, epochs=5))
    scripted(monkeypatch, (5, 4, 3, 2))
    state = run(replace(SMALL, epochs=4, weights="last")).model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in before[4].items())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_losses_that_are_not_finite(monkeypatch, value):
    scripted(monkeypatch, (5, 4, value))
    with pytest.raises(ValueError, match=rf"the training loss became {value} in epoch 2; lower the learning rate"):
        run()


# --- recipes ------------------------------------------------------------------------------------------------


def test_no_hardness_is_computed_where_all_are_kept(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("hardness was computed")

    monkeypatch.setattr(training, "hardness", refuse)
    run(replace(SMALL, low=0.0, high=1.0))
    with pytest.raises(AssertionError, match="hardness was computed"):
        run(SMALL)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", ["bce", "info_nce"])
def test_every_mode_and_loss_lowers_the_loss(mode, loss):
    found = run(replace(SMALL, mode=mode, loss=loss, epochs=60, patience=60))
    assert np.mean(found.losses[-5:]) < found.losses[0] - 0.03


def test_the_search_in_half_precision_runs():
    exact, rough = run(), run(replace(SMALL, search="bfloat16"))
    assert rough.losses == pytest.approx(exact.losses, rel=0.05)


def test_weight_decay_is_that_of_adam():
    """One step of Adam from p moves by lr g / |g|, with the penalty in g: towards 0 where it is large."""
    free, held = (run(replace(SMALL, epochs=2, weight_decay=w)) for w in (0.0, 1e4))
    assert free.losses[0] == held.losses[0]
    assert free.losses[1] != held.losses[1]
    start = contrastive_model(10, 8, rng=stream(seed_from(rng(1)), "weights")).discriminator.weight
    moved = run(replace(SMALL, epochs=1, weight_decay=1e4, weights="last")).model.discriminator.weight
    torch.testing.assert_close(moved, start - 1e-2 * start.sign(), rtol=0, atol=1e-5)


def test_the_defaults_are_the_published_ones():
    r = Recipe()
    assert r.strategy == DropMix(lam=0.35, share=1 / 6)
    assert (r.mode, r.low, r.high, r.loss) == ("per_view", 0.15, 0.95, "bce")
    assert (r.width, r.epochs, r.patience, r.lr, r.weight_decay) == (512, 600, 20, 1e-3, 2e-3)
    assert (Recipe(low=0.0, high=1.0).keeps_all, r.keeps_all) == (True, False)


# --- what is learnt -----------------------------------------------------------------------------------------


def test_embeddings_tell_the_blocks_apart():
    """Of 60 test nodes in three classes far more than a third; with shuffled labels no more than that."""
    graph = block_graph((40, 40, 40), 0.25, 0.02, features=30, signal=0.15, background=0.1, test=60, val=20, rng=rng(3))
    found = train_contrastive(views_of(graph), Recipe(width=16, epochs=60, lr=1e-2), rng=rng())
    vectors = found.model.embed(views_of(graph))
    n = int(graph.test.sum())
    right = round(validated_probe(vectors, graph).accuracy * n)
    assert fails(lambda: assert_share(right, n, 1 / 3))
    assert right > n / 2
    labels = graph.labels[torch.from_numpy(rng(4).permutation(120))]
    chance = round(validated_probe(vectors, replace(graph, labels=labels)).accuracy * n)
    assert_share(chance, n, 1 / 3)


def test_isolated_nodes_nodes_without_features_and_without_labels():
    edges = torch.tensor([[a, b] for a in range(12) for b in range(12) if abs(a - b) in (1, 3)]).T
    features = torch.from_numpy((rng(5).random((14, 6)) < 0.4).astype(np.float32))
    features[[3, 12]] = 0
    no = torch.zeros(14, dtype=torch.bool)
    graph = Graph(features, edges, torch.full((14,), -1), no, no, no)
    assert graph.degrees[12:].tolist() == [0, 0]
    found = train_contrastive(views_of(graph), SMALL, rng=rng())
    assert np.isfinite(found.losses).all()
    assert torch.isfinite(found.model.embed(views_of(graph))).all()


# --- input --------------------------------------------------------------------------------------------------


def test_too_few_negatives():
    with pytest.raises(ValueError, match="expected at least two negatives to mix, got 1 of 30 between the shares"):
        run(replace(SMALL, low=0.5, high=0.55))


@pytest.mark.parametrize("pair", [(0.5, 0.5), (0.5, 0.2), (-0.1, 0.5), (0.5, 1.5)], ids=str)
def test_shares_out_of_order(pair):
    with pytest.raises(
        ValueError, match=rf"expected shares 0 <= low < high <= 1, got {pair[0]} and {pair[1]}; change them"
    ):
        Recipe(low=pair[0], high=pair[1])


@pytest.mark.parametrize("name", ["epochs", "patience", "width"])
def test_numbers_of_at_least_one(name):
    with pytest.raises(ValueError, match="expected epochs, patience and width of at least 1, got"):
        Recipe(**{name: 0})


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["lr", "temperature"])
def test_positive_numbers(name, value):
    with pytest.raises(ValueError, match=rf"expected {name} > 0, got {value}; change it\."):
        Recipe(**{name: value})


@pytest.mark.parametrize("name", ["mode", "loss", "weights", "search"])
def test_options_that_do_not_exist(name):
    with pytest.raises(ValueError, match=rf"expected {name} among \[.*\], got 'other'"):
        Recipe(**{name: "other"})


def test_a_recipe_needs_a_strategy():
    with naive.as_users_run_it(), pytest.raises(TypeError, match="expected a strategy such as CutMix"):
        Recipe(strategy="dropmix")


@pytest.mark.parametrize("value", [-1e-3, math.nan, math.inf])
def test_weight_decay_is_not_negative(value):
    with pytest.raises(ValueError, match=rf"expected weight_decay >= 0, got {value}; 0 is none"):
        Recipe(weight_decay=value)


def test_a_law_that_never_mixes_vectors_is_refused():
    with pytest.raises(ValueError, match="cutmix never mixes vectors, which are images of one row"):
        Recipe(strategy=CutMix(), width=16)
    for law in (Vanilla(), DropMix(share=0.0), DropMix(lam=0.0), Mixup(), GMix()):
        assert Recipe(strategy=law, width=16).strategy == law


def test_training_needs_a_generator():
    with (
        naive.as_users_run_it(),
        pytest.raises(TypeError, match=r"expected rng to be a numpy\.random\.Generator"),
    ):
        train_contrastive(VIEWS, SMALL, rng=0)


def test_a_flat_loss_runs_out_of_patience(monkeypatch):
    monkeypatch.setattr(
        training, "contrastive_loss", lambda model, *_: 0 * sum(p.sum() for p in model.parameters()) + 1
    )
    found = run(replace(SMALL, epochs=30, patience=3))
    assert (found.losses, found.best) == ((1.0,) * 4, 0)


def test_a_view_that_is_not_symmetric_has_right_gradients():
    """Columns rescaled, as some codes do with their diffusion."""
    skew = ppr(GRAPH, dtype=torch.float64) * torch.linspace(0.5, 2, GRAPH.nodes, dtype=torch.float64)
    skew[skew < 0.05] = 0
    views = [Views.of(GRAPH.features.double(), skew, v) for v in (skew, skew)]
    dense = FixedMatrix.of(skew, sparse=False)
    views[1] = Views(views[1].features, dense, dense)
    assert not torch.equal(skew, skew.T)
    order, gradients = torch.arange(GRAPH.nodes).flip(0), []
    for v in views:
        model = contrastive_model(10, 6, rng=rng()).double()
        nodes_of = model.represent(v, order)
        loss = contrastive_loss(model, nodes_of, nodes_of.local_negatives, nodes_of.global_negatives, SMALL)
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)

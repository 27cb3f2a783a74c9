"""The expansion as a training loss: values and gradients against enumeration, unbiasedness, what gets a gradient."""

from __future__ import annotations

import math

import naive
import naive_objective
import numpy as np
import pytest
import torch
from mc_checks import assert_unbiased, fails
from torch import nn

from msda_theory.data import ImageData
from msda_theory.expansion import expand
from msda_theory.losses import Logistic, Squared
from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import MaskBatch
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla
from msda_theory.objective import TERMS, ExpansionLoss, expansion_loss

POINTS = ("data", "mean", "mask")
GRID = pytest.mark.parametrize("at", POINTS)
SETS = (("r1", "r2", "r3"), ("r2",), ("r1",), (), ("r3", "linear"))


def problem(activation=nn.Tanh, shape=(3, 3), dtype=torch.float64):
    x, y = naive.images(3, 2, shape, 3, seed=2)
    model = naive.network(2, shape, 3, activation=activation, hidden=3)
    return model.to(dtype), ImageData(x.to(dtype), y, 3)


def law(shape) -> naive.Law:
    masks, share, _, weights = naive.cutmix_atoms(shape, 1.0)
    return naive.one_sided(masks, share, weights)


def number(value: torch.Tensor) -> float:
    return value.detach().item()


def gradient(value, model) -> torch.Tensor:
    own = list(model.parameters())
    parts = torch.autograd.grad(value, own, retain_graph=True, allow_unused=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(own, parts, strict=True)])


def enumerated(model, data, at, terms=TERMS[:3]) -> dict[str, torch.Tensor]:
    """Average of `ExpansionLoss.at_pairs` over every atom of the law and every partner of every image."""
    objective = ExpansionLoss(model, data, CutMix(), at=at, terms=terms, pairs=1)
    m, total = len(data), {}
    for q, p in law(data.shape):
        masks = torch.from_numpy(q).expand(m, m, *data.shape)
        found = objective.at_pairs(data, masks, data.x.expand(m, *data.x.shape))
        for name, value in {"base": found.base, **found.terms}.items():
            total[name] = total.get(name, 0.0) + p * value
    return total


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Softplus, nn.ReLU])
@GRID
def test_enumerated_estimates_have_the_values_and_gradients_of_loops(at, activation):
    model, data = problem(activation)
    expected = naive_objective.expansion(model, data.x, naive.one_hot(data.y, 3), law(data.shape), at)
    got = enumerated(model, data, at) | enumerated(model, data, at, ("linear",))
    assert set(got) == set(expected)
    for name, value in expected.items():
        assert number(got[name]) == pytest.approx(number(value), rel=0, abs=1e-10), name
        if name == "r1" and at != "data":  # 0 by identity: no graph
            assert number(got[name]) == 0
            assert not got[name].requires_grad
            continue
        slope = gradient(got[name], model)
        torch.testing.assert_close(slope, gradient(value, model), rtol=0, atol=1e-9)
        if not (name == "r3" and activation is nn.ReLU):
            assert number(slope.abs().max()) > 1e-3, f"{name} would hide an error"


@GRID
def test_values_are_those_of_the_dense_expansion(at):
    model, data = problem()
    exact = expand(model, data, CutMix(), at=at, method="dense")
    got = enumerated(model, data, at)
    for name in ("base", "r1", "r2", "r3"):
        assert number(got[name]) == pytest.approx(getattr(exact, name).mean, rel=0, abs=1e-10)


def draws(model, data, at, number=300, strategy=None, law="exact", **options):
    """Estimates of base and terms and of the gradient of their sum [number, ...]."""
    objective = ExpansionLoss(model, data, strategy or CutMix(), at=at, law=law, pairs=2, **options)
    rng, rows = np.random.default_rng(17), []
    for _ in range(number):
        found = objective(data, rng=rng)
        values = torch.stack([found.base, *found.terms.values()]).detach()
        rows.append(torch.cat([values, gradient(found.total, model)]).numpy())
    return np.array(rows)


def truth(model, data, at, q):
    found = naive_objective.expansion(model, data.x, naive.one_hot(data.y, 3), q, at)
    parts = [found[name] for name in ("base", "r1", "r2", "r3")]
    return torch.cat([torch.stack(parts).detach(), gradient(sum(parts), model)]).numpy()


@GRID
def test_estimates_and_their_gradients_are_unbiased(at):
    model, data = problem()
    assert_unbiased(draws(model, data, at), truth(model, data, at, law(data.shape)))


@GRID
def test_evil_twin_the_other_law_is_rejected(at):
    model, data = problem()
    sampled = draws(model, data, at, law="paper")
    assert fails(lambda: assert_unbiased(sampled, truth(model, data, at, law(data.shape))))


def test_evil_twin_a_residual_without_gradient_is_rejected():
    """h' - y depends on the parameters too."""
    model, data = problem()
    found = naive_objective.expansion(model, data.x, naive.one_hot(data.y, 3), law(data.shape), "data")
    sampled = draws(model, data, "data", terms=("r1", "r2"))
    wrong = gradient(found["base"] + found["r2"], model).numpy()  # R1 as a number
    assert fails(lambda: assert_unbiased(sampled[:, 3:], wrong))


def test_partners_come_from_the_population_and_mu_is_its_mean():
    model, data = problem()
    few = data[:1]
    objective = ExpansionLoss(model, data, CutMix(), at="data", terms=("r1",))
    qbar = torch.from_numpy(CutMix().moments(data.shape).mean)
    f, slope = torch.func.jvp(model, (few.x,), (qbar * (data.x.mean(dim=0) - few.x),))
    expected = ((f.softmax(dim=1) - naive.one_hot(few.y, 3)) * slope).sum()
    assert number(objective(few, rng=np.random.default_rng(0)).terms["r1"]) == pytest.approx(
        number(expected), abs=1e-12
    )
    alone = expansion_loss(model, few, CutMix(), rng=np.random.default_rng(0))  # the only partner is the image itself
    assert all(number(t) == 0 for t in alone.terms.values())
    among = expansion_loss(model, few, CutMix(), population=data, pairs=20, rng=np.random.default_rng(0))
    assert all(number(t) != 0 for t in among.terms.values())


@GRID
@pytest.mark.parametrize("terms", SETS)
def test_only_the_terms_asked_for_are_there_and_total_is_their_sum(at, terms):
    model, data = problem()
    found = expansion_loss(model, data, CutMix(), at=at, terms=terms, rng=np.random.default_rng(3))
    assert set(found.terms) == set(terms)
    assert number(found.total) == pytest.approx(number(found.base) + sum(number(v) for v in found.terms.values()))
    assert found.total.requires_grad
    # The same pairs: terms do not depend on which others are asked for.
    every = expansion_loss(model, data, CutMix(), at=at, rng=np.random.default_rng(3))
    for name in set(terms) & set(every.terms):
        assert number(found.terms[name]) == pytest.approx(number(every.terms[name]), rel=1e-12, abs=1e-15)
    if at != "data" and "r1" in terms:
        assert number(found.terms["r1"]) == 0


def test_linear_is_r2_to_second_order_around_a_mean():
    """Over steps +eta and -eta odd orders cancel: what is left falls with the fourth power of their length."""
    model, data = problem()
    q = torch.from_numpy(CutMix().partner_weights(12, data.shape, rng=np.random.default_rng(0))).reshape(
        3, 4, *data.shape
    )
    noise, rest = (data.x - data.mean)[:, None].expand(-1, 4, -1, -1, -1), []
    for t in (1e-1, 1e-2):
        values = []
        for name in ("linear", "r2"):
            objective = ExpansionLoss(model, data, CutMix(), at="mask", terms=(name,))
            both = [objective.at_pairs(data, q, data.mean + s * t * noise).terms[name] for s in (1, -1)]
            values.append(number(sum(both)))
        rest.append(abs(values[0] - values[1]))
    assert 3.9 < np.log10(rest[0] / rest[1]) < 4.1


def test_frozen_parameters_get_no_gradient_and_others_the_same():
    model, data = problem()
    whole = ExpansionLoss(model, data, CutMix())(data, rng=np.random.default_rng(4)).total
    expected = torch.autograd.grad(whole, model[3].weight)[0]
    model[1].weight.requires_grad_(False)
    ExpansionLoss(model, data, CutMix())(data, rng=np.random.default_rng(4)).total.backward()
    assert model[1].weight.grad is None
    torch.testing.assert_close(model[3].weight.grad, expected, rtol=1e-12, atol=1e-14)
    for p in model.parameters():
        p.requires_grad_(False)
    assert not ExpansionLoss(model, data, CutMix())(data, rng=np.random.default_rng(4)).total.requires_grad


@GRID
def test_training_steps_between_calls_are_seen(at):
    model, data = problem()
    objective = ExpansionLoss(model, data, CutMix(), at=at)
    before = number(objective(data, rng=np.random.default_rng(1)).total)
    with torch.no_grad():
        model[1].weight += 0.1
    after = number(objective(data, rng=np.random.default_rng(1)).total)
    fresh = number(ExpansionLoss(model, data, CutMix(), at=at)(data, rng=np.random.default_rng(1)).total)
    assert after == pytest.approx(fresh, rel=1e-12)
    assert after != before


@GRID
def test_batches_of_other_sizes_and_float32(at):
    model, data = problem()
    rng = np.random.default_rng(0)
    q = torch.from_numpy(CutMix().partner_weights(6, data.shape, rng=rng)).reshape(3, 2, *data.shape)
    r = data.x[torch.from_numpy(rng.integers(3, size=(3, 2)))]
    objective = ExpansionLoss(model, data, CutMix(), at=at)
    whole = objective.at_pairs(data, q, r)
    parts = [objective.at_pairs(data[k : k + 1], q[k : k + 1], r[k : k + 1]) for k in range(3)]
    assert number(whole.total) == pytest.approx(np.mean([number(p.total) for p in parts]), rel=1e-12)
    expected = gradient(whole.total, model)
    single, images = problem(dtype=torch.float32)
    found = ExpansionLoss(single, images, CutMix(), at=at).at_pairs(images, q.float(), r.float())
    assert found.total.dtype == torch.float64
    torch.testing.assert_close(gradient(found.total, single).double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("loss", [Squared(), Logistic()], ids=["squared", "logistic"])
def test_other_losses(loss):
    x, y = naive.images(4, 1, (2, 2), 2, seed=5)
    model = naive.network(1, (2, 2), 1 if isinstance(loss, Logistic) else 2, hidden=3)
    data = ImageData(x, y, 2)
    exact = expand(model, data, CutMix(), loss=loss, method="dense")
    rng = np.random.default_rng(6)
    objective = ExpansionLoss(model, data, CutMix(), loss=loss, pairs=4)
    rows = [[number(v.detach()) for v in objective(data, rng=rng).terms.values()] for _ in range(300)]
    assert_unbiased(np.array(rows), np.array([exact.r1.mean, exact.r2.mean, exact.r3.mean]))


def test_vanilla_adds_nothing_and_relu_has_no_r3():
    model, data = problem(nn.ReLU)
    for at in POINTS:
        none = expansion_loss(model, data, Vanilla(), at=at, rng=np.random.default_rng(0))
        assert [number(v) for v in none.terms.values()] == [0, 0, 0]
        some = expansion_loss(model, data, CutMix(), at=at, rng=np.random.default_rng(0))
        assert number(some.terms["r3"]) == 0
        assert number(some.terms["r2"]) > 0
    slope = gradient(some.terms["r3"], model)
    assert number(slope.abs().max()) == 0


def test_partners_do_not_depend_on_the_strategy_and_seeds_decide():
    model, data = problem()
    rows = [expansion_loss(model, data, CutMix(), rng=np.random.default_rng(s)).total for s in (1, 1, 2)]
    assert number(rows[0]) == number(rows[1]) != number(rows[2])
    rng = np.random.default_rng(1)
    objective = ExpansionLoss(model, data, GMix())
    assert number(objective(data, rng=rng).total) != number(objective(data, rng=rng).total)


class Stripe(Strategy):
    """One row from the partner; no closed moments."""

    alpha = 1.0

    def masks(self, lam, shape, *, rng):
        mask = np.ones((len(lam), *shape))
        mask[:, 0] = 0.0
        return MaskBatch(mask, mask.mean(axis=(1, 2)))


def test_a_strategy_without_closed_moments():
    model, data = problem()
    with pytest.raises(ValueError, match="has no closed moments; pass rng"):
        ExpansionLoss(model, data, Stripe())
    found = expansion_loss(model, data, Stripe(), rng=np.random.default_rng(0))
    assert number(found.terms["r1"]) != 0
    assert number(ExpansionLoss(model, data, Stripe(), at="mask")(data, rng=np.random.default_rng(0)).total) > 0


@pytest.mark.parametrize("logit", [-1.0, -7.0])
def test_r1_and_r2_at_the_data_have_no_lower_bound(logit):
    """Eq. (3u): an image on the wrong side, with the slope that is best for L + R1 + R2."""
    x = torch.tensor([[[[0.3]]], [[[1.5]]]], dtype=torch.float64)
    data = ImageData(x, torch.tensor([1, 0]), 2)
    atoms, weights = Mixup().atoms((1, 1)).partner("exact")
    first = (weights * atoms[:, 0, 0]).sum() * (1.5 - 0.3) / 2
    second = (weights * atoms[:, 0, 0] ** 2).sum() * (1.5 - 0.3) ** 2 / 2
    p, c = 1 / (1 + np.exp(-logit)), second / first**2
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1)).double().eval()
    slope = 1 / (p * c * first)
    with torch.no_grad():
        model[1].weight.fill_(slope)
        model[1].bias.fill_(logit - slope * 0.3)
    objective = ExpansionLoss(model, data, Mixup(), loss=Logistic(), terms=("r1", "r2"), pairs=1)
    total = 0.0
    for q, weight in zip(atoms, weights, strict=True):
        for r in x:
            found = objective.at_pairs(data[:1], torch.from_numpy(q)[None, None], r[None, None])
            total += weight / 2 * number(found.total)
    assert total == pytest.approx(-np.log(p) - (1 - p) / (2 * p * c), rel=1e-10)
    if logit < -3:
        assert total < -100


def test_what_is_refused():
    model, data = problem()
    with pytest.raises(TypeError, match="expected several terms of the objective"):
        ExpansionLoss(model, data, CutMix(), terms="r2")
    with pytest.raises(ValueError, match="expected terms of the objective among"):
        ExpansionLoss(model, data, CutMix(), terms=("r4",))
    with pytest.raises(ValueError, match="the term linear holds r1 and r2 to second order"):
        ExpansionLoss(model, data, CutMix(), terms=("r2", "linear"))
    with pytest.raises(ValueError, match=r"expected at least 1 pair \(q, r\) for each image of a batch"):
        ExpansionLoss(model, data, CutMix(), pairs=0)
    with pytest.raises(ValueError, match="expected at among"):
        ExpansionLoss(model, data, CutMix(), at="median")
    with naive.as_users_run_it(), pytest.raises(TypeError, match="expected rng to be a numpy"):
        ExpansionLoss(model, data, CutMix())(data, rng=3)
    dropping = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(18, 3)).double()
    with pytest.raises(ValueError, match="expected a model in eval mode"):
        ExpansionLoss(dropping, data, CutMix())
    objective = ExpansionLoss(dropping.eval(), data, CutMix())
    objective(data, rng=np.random.default_rng(0))
    dropping.train()
    with pytest.raises(ValueError, match="expected a model in eval mode"):
        objective(data, rng=np.random.default_rng(0))


class Bessel(nn.Module):
    """A Bessel function of a linear layer: the operator, which has no rule, or its power series."""

    def __init__(self, opaque: bool) -> None:
        super().__init__()
        self.layer, self.opaque = nn.Linear(18, 3), opaque

    def forward(self, x):
        z = self.layer(0.3 * x.flatten(1))
        if self.opaque:
            return torch.special.i0(z)
        return sum((z * z / 4) ** k / float(math.factorial(k)) ** 2 for k in range(20))


def test_a_module_without_a_rule_has_the_same_gradient():
    _, data = problem()
    plain, opaque = (naive.randomize(Bessel(o), 3) for o in (False, True))
    found = expansion_loss(plain, data, Mixup(), rng=np.random.default_rng(2))
    with pytest.warns(UserWarning, match="no second-order rule for"):
        other = expansion_loss(opaque, data, Mixup(), rng=np.random.default_rng(2))
    torch.testing.assert_close(gradient(found.total, plain), gradient(other.total, opaque), rtol=0, atol=1e-9)

"""Measures of the first layer against loops, the penalty's gradient, a tiny run of the experiment, and its pages."""

from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np
import pytest
import torch

from experiments import first_layer, layer_training, tables_first_layer
from experiments.data import digits
from experiments.layer_measures import BANDS, Measures, distance_to_expansion, interval
from experiments.layer_training import RunConfig, build, penalty, train_network
from experiments.record import ROOT
from figures import first_layer as figure
from msda_theory.data import ImageData
from msda_theory.expansion import expand
from msda_theory.masks.registry import strategy as make_strategy


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    config = first_layer.Config(
        strategies=("vanilla", "cutmix"),
        penalties=("cutmix",),
        strengths=(0.5,),
        seeds=(0, 1),
        epochs=1,
        checkpoints=(0,),
        images=24,
        min_accuracy=0.0,
    )
    return config, first_layer.run(config, folder=folder), folder


def naive_steps(data, strategy):
    """Steps q (r - x_i) of every image, partner and mask, with their probabilities."""
    masks, weights = strategy.atoms(data.shape).partner("exact")
    x = data.x.numpy()
    for i, r in itertools.product(range(len(x)), range(len(x))):
        for q, weight in zip(masks, weights, strict=True):
            yield i, (q * (x[r] - x[i])).ravel(), weight / len(x) ** 2


def test_measures_are_those_of_loops_over_pixels_partners_and_masks():
    rng = np.random.default_rng(0)
    data = ImageData(rng.normal(size=(5, 1, 3, 3)), rng.integers(0, 4, 5), 4)
    model = layer_training.small_mlp("softplus", hidden=3, pixels=9, classes=4, seed=0).double().eval()
    strategy = make_strategy("cutmix")
    found = Measures(model, data, data, {"cutmix": strategy.moments(data.shape)})(model)
    w = model[1].weight.detach().numpy()
    jacobian = [torch.autograd.functional.jacobian(model, x[None]).reshape(4, 9).numpy() for x in data.x]
    response, change = np.zeros(3), 0.0
    for i, step, weight in naive_steps(data, strategy):
        response += weight * (w @ step) ** 2
        moved = jacobian[i] @ step
        change += weight * ((moved - moved.mean()) ** 2).sum()
    f = model(data.x).detach().numpy()
    f = f - f.mean(axis=1, keepdims=True)
    assert found["norm_cutmix"] == pytest.approx(np.sqrt(response.mean()))
    assert found["change_cutmix"] == pytest.approx(change / ((f - f.mean(axis=0)) ** 2).sum(axis=1).mean())
    white = sum(
        weight * (step**2).sum() * (w**2).sum() / 9 / 3 for _, step, weight in naive_steps(data, strategy)
    )  # E |w|^2 |delta|^2 / n
    assert found["relative_cutmix"] == pytest.approx(np.sqrt(response.mean() / white))
    z = data.x.numpy().reshape(5, 9) @ w.T + model[1].bias.detach().numpy()
    assert found["offset"] == pytest.approx(np.sqrt((z.mean(axis=0) ** 2).mean() / z.var(axis=0).mean()))
    assert found["frobenius"] == pytest.approx(np.sqrt((w**2).sum()))
    assert found["accuracy"] == pytest.approx((f.argmax(axis=1) == data.y.numpy()).mean())
    r2 = expand(model, data, strategy, method="dense").r2.mean
    assert found["r2_cutmix"] == pytest.approx(r2, rel=1e-10)


def test_bands_are_those_of_a_slow_fourier_sum(tiny):
    w = build(RunConfig(network="conv", width=2))[0].weight.detach().numpy()
    energy = dict.fromkeys(BANDS, 0.0)
    for a, b in itertools.product(range(8), range(8)):
        omega = [2 * np.pi * (k if k < 4 else k - 8) / 8 for k in (a, b)]
        wave = np.array([[np.exp(-1j * (omega[0] * u + omega[1] * v)) for v in range(3)] for u in range(3)])
        power = sum(abs((picture * wave).sum()) ** 2 for picture in w[:, 0])
        band = next(name for name, (low, high) in BANDS.items() if low <= np.hypot(*omega) < high)
        energy[band] += power
    config = dataclasses.replace(RunConfig(network="conv", width=2))
    data = digits()
    images = data.train[:4]
    model = build(config)
    found = Measures(model, images, images, {"cutmix": make_strategy("cutmix").moments(images.shape)})(model)
    for name, value in energy.items():
        assert found[name] == pytest.approx(value / sum(energy.values()))
    assert sum(tiny[1]["result"]["bands"].values()) == pytest.approx(1)


@pytest.mark.parametrize("network", layer_training.NETWORKS)
def test_the_penalty_pulls_at_the_first_layers_weights_alone(network):
    model, data = build(RunConfig(network=network)), digits().train
    moments = make_strategy("cutmix").moments(data.shape)
    value = penalty(model, data[:8], moments, data)
    value.backward()
    first = next(m for m in model if isinstance(m, torch.nn.Conv2d | torch.nn.Linear))
    touched = [p for p in model.parameters() if p.grad is not None and bool(p.grad.any())]
    assert [p is first.weight for p in touched] == [True]
    # A quadratic form: Euler's identity
    assert float((first.weight.grad * first.weight.detach()).sum()) == pytest.approx(2 * value.item())


def test_the_penalty_is_r2_of_the_batch_with_partners_from_all():
    model, data = build(RunConfig(network="mlp")), digits().train[:12]
    strategy = make_strategy("mixup")
    whole = penalty(model, data, strategy.moments(data.shape), data).item()
    assert whole == pytest.approx(expand(model, data, strategy, method="dense").r2.mean, rel=1e-10)
    parts = (slice(0, 6), slice(6, 12))
    halves = [penalty(model, data[part], strategy.moments(data.shape), data).item() for part in parts]
    assert sum(halves) / 2 == pytest.approx(whole)


def test_training_starts_alike_and_differs_by_the_training():
    def curve(strategy, control):
        seen = []
        config = RunConfig(strategy, network="mlp", hidden=8, epochs=1, penalty=control)
        train_network(config, lambda _, model: seen.append(model[1].weight.detach().clone()))
        return seen

    vanilla, cutmix, control = curve("vanilla", False), curve("cutmix", False), curve("cutmix", True)
    assert torch.equal(vanilla[0], cutmix[0])
    assert torch.equal(vanilla[0], control[0])
    assert not torch.equal(vanilla[1], cutmix[1])
    assert not torch.equal(vanilla[1], control[1])
    assert torch.equal(cutmix[1], curve("cutmix", False)[1])


def test_a_penalty_of_no_mixing_is_no_penalty():
    """Vanilla's R2 is 0: training with it is vanilla training, step by step."""
    config = RunConfig("vanilla", network="mlp", hidden=8, epochs=1)
    ends = [train_network(dataclasses.replace(config, penalty=p), lambda *_: None) for p in (False, True)]
    for a, b in zip(*(m.parameters() for m in ends), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_wrong_runs_are_refused():
    with pytest.raises(ValueError, match="expected a first-layer network among"):
        RunConfig(network="transformer")
    with pytest.raises(ValueError, match="first-layer ratios are taken to vanilla"):
        first_layer.Config(strategies=("mixup", "cutmix"))
    with pytest.raises(FloatingPointError, match="first-layer run mlp-cutmix-0 diverged in epoch 1"):
        train_network(RunConfig("cutmix", network="mlp", epochs=2, lr=1e9), lambda *_: None)


def test_the_record_has_every_cell_and_is_found_again(tiny):
    config, record, folder = tiny
    rows = record["result"]["rows"]
    trainings = ["vanilla", "cutmix", "penalty-cutmix"]
    partly = [("mlp", "vanilla"), ("mlp", "cutmix"), ("mlp", "penalty-cutmix-0.5"), ("mlp", "penalty-cutmix")]
    assert [(r["network"], r["training"]) for r in rows] == [*(("conv", t) for t in trainings), *partly]
    assert [r["penalty"] for r in rows] == [None, None, 1.0, None, None, 0.5, 1.0]
    assert all(r["epoch"] == [0, 1] and r["seeds"] == 2 for r in rows)
    assert {r["own"] for r in rows} == {"cutmix"}
    assert all(c["holds"] for c in record["result"]["checks"])
    for r in rows:  # equal initial weights
        start = next(v for v in rows if (v["network"], v["training"]) == (r["network"], "vanilla"))
        assert r["curves"]["norm_cutmix"]["mean"][0] == start["curves"]["norm_cutmix"]["mean"][0]
    assert first_layer.run(config, folder=folder) == record


def test_a_wrong_form_and_an_untrained_network_fail_their_checks(tiny):
    config, _, _ = tiny
    bad = {"distance_to_expansion": 1e-3, "contributions": {"rest": 1e-3}, "curve": {"accuracy": [0.2]}}
    held = first_layer._checks(dataclasses.replace(config, min_accuracy=0.9), [bad])
    assert [c["holds"] for c in held] == [False, False, False]
    images = digits().train[:4]
    laws = {n: make_strategy(n).moments(images.shape) for n in ("mixup", "cutmix")}
    model = build(RunConfig(network="mlp"))
    assert distance_to_expansion(model, images, laws) < 1e-9


def test_expectations_are_told_by_intervals():
    def row(mean, half):
        ratio = {"norm_cutmix": {"mean": mean, "half": half}}
        return {"network": "mlp", "training": "cutmix", "own": "cutmix", "ratio": ratio}

    told = first_layer._lower("size", "lower", [row(0.8, 0.1), row(0.95, 0.1), row(1.2, 0.1)], "norm")
    assert [c["side"] for c in told["cells"]] == ["lower", "?", "higher"]
    assert not told["holds"]
    assert first_layer._lower("size", "lower", [row(0.8, 0.1)], "norm")["holds"]
    assert interval([1.0, 2.0, 3.0])["half"] == pytest.approx(4.30265 / 3**0.5, rel=1e-4)
    assert np.isnan(interval([1.0])["half"])


def test_the_code_of_the_page_runs(capsys):
    page = (ROOT / "docs" / "first_layer.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    exec(compile(block, "first_layer.md", "exec"), {})
    assert "FilterMeasures(frobenius=" in capsys.readouterr().out


def test_tables_and_figures_of_the_tiny_record(tiny, tmp_path):
    _, record, folder = tiny
    assert len(tables_first_layer.sizes(record).splitlines()) == 2 + 7 + 2
    assert len(tables_first_layer.metrics(record).splitlines()) == 2 + 7
    assert len(tables_first_layer.control(record).splitlines()) == 2 + 5
    assert "0.5 × penalty of CutMix" in tables_first_layer.control(record)
    assert len(tables_first_layer.specific(record).splitlines()) == 2  # there is one law
    assert len(tables_first_layer.expectations(record).splitlines()) == 2 + 6 + 2
    assert "on 14 trained networks" in tables_first_layer.ledger(record)
    assert "2 softplus networks of each kind" in tables_first_layer.setting(record)
    assert "mean over n = 2 networks" in figure.caption({"first_layer": record})
    assert "(6 of 48)" in figure.caption_filters({"first_layer": record})
    for draw in (figure.draw, figure.draw_filters):
        assert all(p.exists() for p in draw(folder, tmp_path))

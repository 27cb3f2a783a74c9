"""The designed tasks and their ideal classifiers, a tiny run of the study of winners, its checks and its pages."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from experiments import tables_tasks, task_runs, task_winners
from experiments.designed import (
    BACKGROUND,
    CLASSES,
    HEIGHT,
    NOISE,
    OFFSET,
    PATCH,
    SCALE,
    SIZE,
    Ideal,
    contrasts,
    designed,
    patterns,
    units,
)
from experiments.record import ROOT
from figures import tasks as figure
from msda_theory.masks.cutmix import CutMix

KINDS = tuple(CLASSES)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    config = task_winners.Config(
        strategies=("vanilla", "mixup", "cutmix"), seeds=(0, 1), train=16, test=16, epochs=1, batch=8, draws=2
    )
    return config, task_winners.run(config, folder=folder), folder


def log_normal(u, mean, sd):
    return -0.5 * ((u - mean) / sd) ** 2 - np.log(sd)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_draw_equal_images_and_classes_are_balanced(kind):
    a, b, c = (designed(kind, train=48, test=24, seed=s) for s in (3, 3, 4))
    assert np.array_equal(a.x_train, b.x_train)
    assert np.array_equal(a.y_test, b.y_test)
    assert not np.array_equal(a.x_train, c.x_train)
    assert not np.array_equal(a.x_train[:24], a.x_test)
    assert a.x_train.dtype == np.uint8
    assert a.x_train.shape == (48, 1, SIZE, SIZE)
    assert a.y_train.dtype == np.int64
    assert set(np.bincount(a.y_train)) == {48 // a.classes}
    assert set(np.bincount(a.y_test)) == {24 // a.classes}
    longer = designed(kind, train=96, test=24, seed=3)
    assert np.array_equal(longer.x_test, a.x_test)  # a stream for each set


def test_the_evidence_of_an_object_is_in_its_patch_and_nowhere_else():
    d = designed("object", train=800, test=8, seed=5)
    u = units(d.x_train).numpy()[:, 0]
    inside = np.zeros(u.shape, dtype=bool)
    for mask, (row, column) in zip(inside, d.places_train, strict=True):
        mask[row : row + PATCH, column : column + PATCH] = True
    assert (inside.sum(axis=(1, 2)) == PATCH**2).all()
    patches = u[inside].reshape(-1, PATCH, PATCH)
    assert u[~inside].mean() == pytest.approx(0, abs=0.005)
    assert u[~inside].std() == pytest.approx(BACKGROUND, rel=0.01)
    expected = OFFSET + HEIGHT * patterns()[d.y_train]
    assert (patches - expected).mean() == pytest.approx(0, abs=0.02)
    assert (patches - expected).std() == pytest.approx(NOISE, rel=0.03)
    # Nearly all of the 169 places occur, and what is behind the patch looks alike in every class
    assert len(set(map(tuple, d.places_train))) > 150
    behind = [u[d.y_train == c][~inside[d.y_train == c]].std() for c in range(8)]
    assert np.ptp(behind) < 0.01


def test_the_evidence_of_a_texture_is_spread_over_all_pixels():
    d = designed("texture", train=2000, test=4, seed=6)
    u = units(d.x_train).numpy()[:, 0]
    for c, sd in enumerate(contrasts()):
        by_pixel = u[d.y_train == c].std(axis=0)
        assert by_pixel.mean() == pytest.approx(sd, rel=0.01)
        assert (np.abs(by_pixel / sd - 1) < 5 / np.sqrt(2 * 500)).all()
    assert d.places_train is None


def test_patterns_are_orthogonal_signs():
    flat = patterns().reshape(CLASSES["object"], -1)
    assert np.array_equal(flat @ flat.T, 16 * np.eye(8))
    assert not flat.sum(axis=1).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_ideal_classifier_is_the_log_likelihood(kind):
    d = designed(kind, train=8, test=8, seed=7)
    u = units(d.x_train)
    f = Ideal(kind)(u).numpy()
    truth = np.zeros_like(f)
    for i, image in enumerate(u.numpy()[:, 0]):
        for c in range(d.classes):
            if kind == "texture":
                truth[i, c] = log_normal(image, 0.0, contrasts()[c]).sum()
                continue
            places = []
            for row in range(SIZE - PATCH + 1):
                for column in range(SIZE - PATCH + 1):
                    patch = image[row : row + PATCH, column : column + PATCH]
                    inside = log_normal(patch, OFFSET + HEIGHT * patterns()[c], NOISE).sum()
                    behind = log_normal(image, 0.0, BACKGROUND).sum() - log_normal(patch, 0.0, BACKGROUND).sum()
                    places.append(inside + behind)
            truth[i, c] = np.logaddexp.reduce(places)
    shift = truth - f
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1], f.shape), rtol=0, atol=1e-8)
    assert task_runs.accuracy(Ideal(kind), d.x_train, d.y_train) == 1.0


def test_units_undo_the_bytes():
    assert float(units(np.array([[[[128 + SCALE]]]], dtype=np.uint8))) == 1.0


def test_the_entropy_of_mixup_labels_is_that_of_a_uniform_weight():
    # E[-lam log lam - (1 - lam) log(1 - lam)] = 1/2 for uniform lam; draws: a relative error of about 0.003
    assert task_runs.label_entropy("mixup", 4) == pytest.approx(0.5 * 3 / 4, rel=0.015)
    assert task_runs.label_entropy("vanilla", 4) == 0.0


def test_conflict_is_the_loss_of_the_tempered_classifier_over_the_entropy():
    d = designed("texture", train=16, test=4, seed=8)
    options = {"classes": 4, "draws": 2, "seed": 8}
    found = task_runs.conflicts(Ideal("texture"), d.x_train, d.y_train, ("mixup", "cutmix"), **options)
    for row in found.values():
        assert row["predicted"] == pytest.approx(row["base"] + row["r2"] - row["entropy"])  # R1 at the mask is 0
        assert row["temperature"] in task_runs.TEMPERATURES
        assert row["measured"] > 0
    scaled = task_runs.Tempered(Ideal("texture"), 4.0)
    again = task_runs.conflicts(scaled, d.x_train, d.y_train, ("mixup",), **options)
    assert again["mixup"]["temperature"] == found["mixup"]["temperature"] / 4
    assert again["mixup"]["predicted"] == pytest.approx(found["mixup"]["predicted"])


def test_training_starts_alike_repeats_itself_and_leaves_the_global_state():
    d = designed("object", train=16, test=8, seed=9)
    options = {"classes": 8, "seed": 2, "epochs": 1, "batch": 8, "lr": 0.1}
    state = torch.get_rng_state()
    one, two, other = (
        task_runs.train_network(d.x_train, d.y_train, s, **options) for s in ("mixup", "mixup", "vanilla")
    )
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one[0].weight, other[0].weight)
    assert not one.training
    assert one[0].weight.dtype == torch.float64


def test_wrong_tasks_and_configurations_are_refused():
    with pytest.raises(ValueError, match="expected a designed task among"):
        designed("scene", train=8, test=8, seed=0)
    with pytest.raises(ValueError, match="expected balanced classes, numbers of images that are multiples of 8"):
        designed("object", train=12, test=8, seed=0)
    with pytest.raises(ValueError, match="a study of winners compares vanilla, mixup and cutmix"):
        task_winners.Config(strategies=("mixup", "cutmix"))
    with pytest.raises(ValueError, match="the others have seen the design"):
        task_winners.Config(seeds=(0, 1000))
    d = designed("object", train=16, test=8, seed=0)
    broken = {"classes": 8, "seed": 0, "epochs": 4, "batch": 8, "lr": 1e30}
    with pytest.raises(FloatingPointError, match="mixup on designed task diverged in epoch"):
        task_runs.train_network(d.x_train, d.y_train, "mixup", **broken)


def test_the_record_has_every_cell_and_is_found_again(tiny):
    config, record, folder = tiny
    tasks = record["result"]["tasks"]
    assert [t["task"] for t in tasks] == ["object", "texture"]
    for t in tasks:
        assert [r["strategy"] for r in t["rows"]] == list(config.strategies)
        assert all(r["accuracy"]["n"] == 2 for r in t["rows"])
        accuracy = {s: np.array(v) for s, v in t["by_seed"].items()}
        difference = t["cutmix_minus_mixup"]["accuracy"]["mean"]
        assert difference == pytest.approx((accuracy["cutmix"] - accuracy["mixup"]).mean(), rel=1e-4, abs=1e-9)
    assert len(record["result"]["checks"]) == 5
    assert task_winners.run(config, folder=folder) == record


def flip(task, better):
    """A task's differences as they would be if ``better`` won, as predicted."""
    sign = 1 if better == "cutmix" else -1
    task = copy.deepcopy(task)
    task["cutmix_minus_mixup"]["accuracy"] |= {"mean": 0.1 * sign, "half": 0.05}
    task["cutmix_minus_mixup"]["ideal_predicted"] |= {"mean": -0.3 * sign, "half": 0.1}
    vanilla = next(r for r in task["rows"] if r["strategy"] == "vanilla")
    vanilla["accuracy"]["mean"] = 0.9
    return task


def test_checks_ask_for_predicted_and_measured_signs_and_for_the_flip(tiny):
    config, record, _ = tiny
    good = [flip(t, b) for t, b in zip(record["result"]["tasks"], ("mixup", "cutmix"), strict=True)]

    def held(tasks):
        return [c["holds"] for c in task_winners._checks(config, tasks)]

    assert held(good) == [True] * 5
    wrong = copy.deepcopy(good)  # prediction on the wrong side
    wrong[0]["cutmix_minus_mixup"]["ideal_predicted"]["mean"] *= -1
    assert held(wrong) == [False, True, True, True, True]
    vague = copy.deepcopy(good)  # an interval that holds 0
    vague[1]["cutmix_minus_mixup"]["accuracy"]["half"] = 0.2
    assert held(vague) == [True, True, False, True, False]
    same = [good[0], flip(good[1], "mixup")]  # one winner on both tasks
    assert held(same) == [True, True, True, True, False]
    untrained = copy.deepcopy(good)
    untrained[1]["rows"][0]["accuracy"]["mean"] = 0.3
    assert held(untrained) == [True, True, True, False, True]
    assert task_winners.side({"mean": 1.0, "half": None}) == 0  # a single seed tells nothing


def test_ranks_are_those_of_spearman_and_of_nothing_where_all_are_alike():
    assert task_winners._rank_correlation([1.0, 5.0, 3.0], [0.1, 0.3, 0.2]) == 1.0
    assert task_winners._rank_correlation([1.0, 2.0, 3.0], [0.1, 0.3, 0.2]) == 0.5
    assert np.isnan(task_winners._rank_correlation([1.0, 2.0], [0.5, 0.5]))


def test_the_box_of_the_example_has_the_label_weight_of_its_pixels():
    found = task_winners._examples("object")
    one, other, cut = (np.array(v) for v in (found["clean"][0], found["clean"][-1], found["cutmix"]))
    assert ((cut == one) | (cut == other)).all()
    assert found["lam"] == pytest.approx(1 - 11 * 11 / SIZE**2, abs=1e-4)


def test_tables_and_the_figure_of_the_tiny_record(tiny, tmp_path):
    _, record, folder = tiny
    assert len(tables_tasks.winners(record).splitlines()) == 2 + 2 * 3
    assert len(tables_tasks.differences(record).splitlines()) == 2 + 7 + 4
    assert "2 drawings of each task, each with 16 training" in tables_tasks.setting(record)
    assert "object: CutMix - Mixup" in tables_tasks.ledger(record)
    assert all(p.exists() for p in figure.draw(folder, tmp_path))
    changed = dataclasses.replace(task_winners.Config(), seeds=(0,))
    assert changed.mixing == ("mixup", "cutmix", "hmix", "gmix", "choice")


def test_the_coefficients_on_the_page():
    """docs/tasks.md: what CutMix and Mixup take of a pixel, of opposite corners of a patch, and leave of a texture."""
    moments = CutMix().moments((SIZE, SIZE))
    second = moments.second.dense().reshape(SIZE, SIZE, SIZE, SIZE)
    k = np.arange(SIZE - 3)
    corners = second[k[:, None], k, k[:, None] + 3, k + 3].mean()
    own = np.einsum("ijij->ij", second).mean()
    assert (round(own, 2), round(corners, 2), round(1 - moments.mean.mean(), 2)) == (0.34, 0.22, 0.66)
    page = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    assert ".34 for\n  a pixel with itself, .22 still for opposite corners of a patch" in page
    assert "under CutMix, .66 on average" in page

"""Statistics of laws against enumeration; the zoo and the sweep of alpha with tiny configurations; their pages."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from mc_checks import assert_unbiased

from experiments import alpha_sweep, digit_nets, law_statistics, law_zoo, tables_laws
from experiments.data import digits
from experiments.library_laws import LAWS
from experiments.record import RECORDS, read_record
from figures import alpha as alpha_figure
from figures import laws as laws_figure
from msda_theory.dense import pair_weights
from msda_theory.losses import SoftmaxCrossEntropy
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.law_of import law_of
from msda_theory.masks.measured import MeasuredLaw
from msda_theory.masks.registry import strategy as make_strategy

SHAPE = (4, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def zoo(folder):
    config = law_zoo.Config(
        laws=("timm", "kornia", "nominal"), size=10, draws=300, seeds=(0, 1), epochs=1, images=12, pairs=2
    )
    return config, law_zoo.run(config, folder=folder)


@pytest.fixture(scope="module")
def sweep(folder):
    training = digit_nets.Config(("vanilla", "cutmix"), ("softplus",), (0, 1), epochs=1, min_accuracy=0.0)
    config = alpha_sweep.Config(
        training=training, strategies=("mixup", "cutmix"), alphas=(0.2, 1.0), images=12, pairs=2, draws=2, sizes=(8,)
    )
    return config, alpha_sweep.run(config, folder=folder)


@pytest.mark.parametrize("name", law_zoo.OWN)
def test_exact_statistics_are_those_of_the_enumerated_law(name):
    strategy = law_zoo.OWN[name][1]
    atoms = strategy.atoms(SHAPE, order=24)
    taken = np.tensordot(atoms.weight, 1 - atoms.mask, axes=1)
    found = law_statistics.exact(strategy, SHAPE, rng=np.random.default_rng(0))
    assert found["share"]["mean"] == pytest.approx(taken.mean(), abs=1e-6)
    assert [c["mean"] for c in found["corners"]] == pytest.approx(taken[[0, 0, 3, 3], [0, 3, 0, 3]], abs=1e-6)
    assert found["corner"]["mean"] == pytest.approx(taken[[0, 0, 3, 3], [0, 3, 0, 3]].mean(), abs=1e-6)
    middle = [taken[0, 1], taken[0, 2], taken[3, 1], taken[3, 2], taken[1, 0], taken[2, 0], taken[1, 3], taken[2, 3]]
    assert found["edge"]["mean"] == pytest.approx(np.mean(middle), abs=1e-6)
    assert found["centre"]["mean"] == pytest.approx(taken[1:3, 1:3].mean(), abs=1e-6)
    if name != "gmix-nominal":  # its atoms stand for an interval of lam; the error is not linear there
        kept = atoms.mask.mean(axis=(1, 2))
        error = abs(float(atoms.weight @ (atoms.lam - kept)))
        assert abs(found["label_error"]["mean"] - error) <= 5 * found["label_error"]["se"] + 1e-12


def test_measured_statistics_are_those_of_the_draws():
    law = law_of(LAWS["timm-elem"].transform(6, rng=np.random.default_rng(0)), (6, 5), 400, batch_size=6)
    found = law_statistics.measured(law)
    taken = np.tensordot(law.weight, 1 - np.asarray(law.store[slice(0, len(law))]), axes=1)
    assert found["draws"] == len(law)
    assert found["share"]["mean"] == pytest.approx(taken.mean())
    assert [c["mean"] for c in found["corners"]] == pytest.approx(
        [taken[0, 0], taken[0, -1], taken[-1, 0], taken[-1, -1]]
    )
    assert found["centre"]["mean"] == pytest.approx(taken[2:4, 2].mean())
    assert found["label_error"]["mean"] < 1e-6


def test_errors_by_batch_means_see_draws_that_share_a_number():
    """Right on average for independent draws and for groups of 5 equal ones; single draws would be a root of 5 off."""
    rng, n, repeats = np.random.default_rng(0), 1000, 400
    for group in (1, 5):
        values = np.repeat(rng.standard_normal((n // group, repeats)), group, axis=0)
        mean, se = law_statistics.batch_means(values, np.full(n, 1 / n))
        np.testing.assert_allclose(mean, values.mean(axis=0), atol=1e-12)
        assert_unbiased(se**2 * n / group, np.array(1.0))
    weight = rng.random(n)
    np.testing.assert_allclose(
        law_statistics.batch_means(values, weight / weight.sum())[0], np.average(values, axis=0, weights=weight)
    )


def test_errors_over_few_networks_are_not_below_those_of_their_draws():
    values = np.array([1.0, 2.0, 4.0])
    over = law_statistics.over_networks(values)
    assert over["se"] == pytest.approx(values.std(ddof=1) / 3**0.5)
    assert law_statistics.over_networks(values, np.full(3, 0.1))["se"] == over["se"]
    assert law_statistics.over_networks(values, np.full(3, 6.0))["se"] == pytest.approx(6 / 3**0.5)
    assert law_statistics.over_networks(np.ones(3), common=0.5)["se"] == 0.5


def test_terms_of_draws_are_those_of_the_moments(folder):
    data = digits().train[:6]
    record = digit_nets.train_one(digit_nets.RunConfig("cutmix", "softplus", 0, epochs=1), folder)
    weights = pair_weights(digit_nets.load_model(record, folder), data, SoftmaxCrossEntropy())
    law = law_of(LAWS["nominal"].transform(6, rng=np.random.default_rng(0)), (8, 8), 200, batch_size=6)
    found = law.weight @ law_statistics.terms_of_draws(law, [weights])[:, :, 0]
    np.testing.assert_allclose(found, weights.terms(law.moments((8, 8))), rtol=1e-10)


def test_the_curve_of_a_measured_law_averages_its_parts():
    law = law_of(LAWS["kornia"].transform(6, rng=np.random.default_rng(0)), (6, 6), 300, batch_size=6)
    found, whole = law_statistics.curve(law, (6, 6)), law.moments((6, 6)).second.by_distance()
    assert found["coefficient"][0] == pytest.approx(whole.value[0])
    assert found["coefficient"][1] == pytest.approx(np.average(whole.value[1:3], weights=whole.pairs[1:3]))
    assert (found["se"] > 0).all()
    exact = law_statistics.curve(make_strategy("mixup"), (6, 6))
    np.testing.assert_allclose(exact["coefficient"], 1 / 6)
    assert len(exact["coefficient"]) == 6


def test_the_zoo_has_every_law(zoo):
    config, record = zoo
    rows = record["result"]["rows"]
    assert [r["law"] for r in rows] == [*config.laws, *law_zoo.OWN]
    assert [s["size"] for s in rows[0]["sizes"]] == [10, 8]
    assert all(len(r["terms"][t]["networks"]) == 2 for r in rows for t in law_zoo.TERMS)
    published = next(r for r in rows if r["law"] == "cutmix")
    assert all(v == {"mean": 1.0, "se": 0.0} for v in published["relative"].values())


def test_two_processes_give_the_zoo_of_one(zoo, tmp_path):
    config, record = zoo
    assert law_zoo.run(config, jobs=2, folder=tmp_path)["result"] == record["result"]


def test_a_law_that_is_another_is_noticed(zoo):
    """The measured timm agrees with CutMix, not with CutMix whose box stays inside, nor nominal labels with it."""
    rows = {r["law"]: r for r in zoo[1]["result"]["rows"]}
    assert law_zoo._disagreement(rows["timm"], rows["cutmix"]) < law_zoo.Z
    for wrong in ("cutmix-inside", "cutmix-nominal"):
        assert law_zoo._disagreement(rows["timm"], rows[wrong]) > law_zoo.Z
    assert law_zoo._disagreement(rows["nominal"], rows["cutmix"]) > law_zoo.Z


def test_shares_out_of_range_fail_their_check(zoo):
    rows = copy.deepcopy(zoo[1]["result"]["rows"])
    rows[0]["sizes"][0]["share"]["mean"] = 0.9
    assert not law_zoo._checks(rows)[0]["holds"]


def test_measured_laws_serve_the_expansion_like_closed_ones():
    law = law_of(LAWS["clovaai"].transform(6, rng=np.random.default_rng(1)), (8, 8), 2000, batch_size=6)
    assert isinstance(law, MeasuredLaw)
    mean, closed = law.moments((8, 8)).mean.mean(), CutMix().moments((8, 8)).mean.mean()
    assert abs(mean - closed) < 5 * 0.25 / np.sqrt(2000)


def test_the_sweep_has_every_cell(sweep):
    config, record = sweep
    cells = [(r["training"], r["strategy"], r["alpha"]) for r in record["result"]["summary"]]
    on = {"vanilla": ("mixup", "cutmix"), "cutmix": ("cutmix",)}
    assert cells == [(t, s, a) for t, names in on.items() for s in names for a in config.alphas]
    laws = record["result"]["laws"]
    assert [c["strategy"] for c in laws] == ["mixup", "cutmix", alpha_sweep.INSIDE]
    assert laws[0]["share"] == pytest.approx([3 * 0.2 / 1.4, 1.0])
    assert all(c["holds"] for c in record["result"]["checks"][:2])


def test_a_choice_draws_all_members_with_the_alpha():
    choice = alpha_sweep.with_alpha("choice", 0.2)
    assert [s.alpha for s in choice.strategies] == [0.2, 0.2]
    assert alpha_sweep.with_alpha(alpha_sweep.INSIDE, 0.2) == CutMix(alpha=0.2, box="inside")


def test_a_sweep_without_alpha_1_is_refused():
    with pytest.raises(ValueError, match="expected alpha = 1 among the alphas"):
        alpha_sweep.Config(alphas=(0.5, 2.0))


def test_tables_and_figures_of_the_tiny_records(zoo, sweep, folder, tmp_path):
    record = zoo[1]
    assert len(tables_laws.laws(record).splitlines()) == 2 + 10 + 2
    assert len(tables_laws.law_terms(record).splitlines()) == 2 + 10
    assert len(tables_laws.law_sources(record).splitlines()) == 3
    assert "300 draws of each law" in tables_laws.law_setting(record)
    assert "Over 3 laws" in tables_laws.law_summary(record)
    whole = read_record(RECORDS / "law_zoo.json")
    assert "Not among these, since it is a misreading of a label: kornia, misread (" in tables_laws.law_summary(whole)
    assert "alpha = 0.2, over that at alpha = 1: CutMix" in tables_laws.alpha_sentence(sweep[1])
    assert len(tables_laws.alpha_table(sweep[1]).splitlines()) == 2 + 9
    assert "12 digits" in tables_laws.alpha_setting(sweep[1])
    for draw in (laws_figure.draw, alpha_figure.draw):
        assert all(p.exists() for p in draw(folder, tmp_path))

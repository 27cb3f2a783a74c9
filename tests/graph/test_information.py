"""Information kept by mixed negatives, every field against a loop; nothing mixed keeps everything."""

from __future__ import annotations

import statistics

import naive_graph
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from msda_theory.graph.information import information_kept
from msda_theory.graph.negatives import draw_partners, draw_weights
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla

K, N, SIZE = 12, 9, 8


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([48, seed])


def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, LogisticRegression]:
    """Negatives, positives, classes of the negatives, and a probe that tells the classes apart now and then."""
    source = rng(1)
    n, p = (torch.from_numpy(source.normal(size=(m, SIZE)) + 0.5) for m in (K, N))
    classes = torch.arange(K) % 3
    n[:, 0] += 2 * classes
    fitted = LogisticRegression().fit(n.numpy() + source.normal(size=(K, SIZE)), classes.numpy())
    return n, p, classes, fitted


def estimate(values):
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5, len(values)


@pytest.mark.parametrize("law", [DropMix(share=0.4), DropMix(dims="random", share=0.4), Mixup()], ids=lambda s: s.name)
def test_every_field_against_a_loop(law):
    n, p, classes, probe = problem()
    found = information_kept(n, p, law, probe=probe, classes=classes, rng=rng(2))
    source = rng(2)
    partners = draw_partners(K, rng=source).tolist()
    q = draw_weights(K, SIZE, law, rng=source).expand(K, SIZE).tolist()
    rows = n.tolist()
    mixed = [
        [own + w * (other - own) for own, other, w in zip(rows[k], rows[partners[k]], q[k], strict=True)]
        for k in range(K)
    ]
    before, after = (naive_graph.hardness(torch.tensor(v, dtype=torch.float64), p) for v in (rows, mixed))
    harder = [float(b > a) for a, b in zip(before, after, strict=True)]
    right = [float(guess == y) for guess, y in zip(probe.predict(mixed), classes.tolist(), strict=True)]
    assert 0 < sum(harder) < K
    assert 0 < sum(right) < K
    truth = {
        "similarity": [naive_graph.cosine(a, b) for a, b in zip(mixed, rows, strict=True)],
        **{"hardness": after, "original": before, "harder": harder, "probe": right},
    }
    for name, values in truth.items():
        e = getattr(found, name)
        assert (e.mean, e.se, e.n) == pytest.approx(estimate(values), abs=1e-13), name
    assert found.kept == pytest.approx(sum(after) / sum(before), rel=1e-12)


@pytest.mark.parametrize("law", [DropMix(share=0.0), DropMix(lam=0.0), Vanilla()], ids=lambda s: s.name)
def test_no_mixing_keeps_everything(law):
    n, p, classes, probe = problem()
    found = information_kept(n, p, law, probe=probe, classes=classes, rng=rng())
    assert found.similarity.mean == pytest.approx(1, abs=1e-15)
    assert found.similarity.se == pytest.approx(0, abs=1e-15)
    assert (found.kept, found.harder.mean, found.harder.se) == (1, 0, 0)
    assert found.hardness == found.original
    assert found.probe.mean == probe.score(n.numpy(), classes.numpy())


def test_taking_the_partner_whole_loses_the_original():
    """Every negative becomes another one: the same hardness in the mean, since two swap theirs."""
    n, p, _, _ = problem()
    found = information_kept(n[:2], p, DropMix(lam=1.0, share=1.0), rng=rng())
    assert found.hardness.mean == pytest.approx(found.original.mean, rel=1e-14)
    assert found.kept == pytest.approx(1, rel=1e-14)
    assert found.harder.mean == 0.5
    assert found.similarity.mean == pytest.approx(naive_graph.cosine(*n[:2].tolist()), rel=1e-13)
    assert found.probe is None


def test_more_dimensions_keep_less():
    n, p, _, _ = problem()
    similar = [information_kept(n, p, DropMix(share=s), rng=rng(3)).similarity.mean for s in (0.0, 0.25, 0.5, 1.0)]
    assert similar == sorted(similar, reverse=True)
    assert similar[-1] < 0.99 * similar[1]


def test_equal_seeds_give_equal_numbers():
    n, p, _, _ = problem()
    a, b, c = (information_kept(n, p, DropMix(), rng=rng(seed)) for seed in (1, 1, 2))
    assert a == b
    assert a != c


def test_input_that_does_not_fit():
    n, p, classes, probe = problem()
    for options in ({"probe": probe}, {"classes": classes}):
        with pytest.raises(
            ValueError, match="expected a probe together with the classes that it should find, got only"
        ):
            information_kept(n, p, DropMix(), rng=rng(), **options)
    with pytest.raises(ValueError, match="expected at least two negatives to mix, got 1; keep more"):
        information_kept(n[:1], p, DropMix(), rng=rng())
    with pytest.raises(ValueError, match=r"expected negatives \[k, h\] and positives"):
        information_kept(n, p[:, :-1], DropMix(), rng=rng())
    with pytest.raises(ValueError, match="expected a class for each of the 9 vectors, got"):
        information_kept(n[:9], p, DropMix(), probe=probe, classes=classes[:8], rng=rng())


def test_vectors_with_a_gradient_are_taken_as_they_are():
    n, p, classes, probe = problem()
    plain = information_kept(n, p, DropMix(), probe=probe, classes=classes, rng=rng())
    attached = information_kept(
        n.clone().requires_grad_(), p.clone().requires_grad_(), DropMix(), probe=probe, classes=classes, rng=rng()
    )
    assert attached == plain

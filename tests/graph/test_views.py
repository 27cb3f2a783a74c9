"""Views of a graph: closed forms, dense algebra by other means, and the bounds of the approximations."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from naive import as_users_run_it
from numpy.polynomial import chebyshev as polynomials
from scipy import linalg
from scipy.sparse import csr_array
from scipy.sparse.linalg import expm_multiply

from msda_theory.graph import diffusion
from msda_theory.graph.diffusion import heat_coefficients, ppr_coefficients
from msda_theory.graph.sparse import THRESHOLDS, sparsify
from msda_theory.graph.views import heat, lost_mass, normalized_adjacency, ppr

CORA = Path(os.environ.get("MSDA_DATA", "/nowhere")) / "planetoid" / "cora.npz"
EXACT = {"atol": 1e-12, "rtol": 0}


class Pairs(NamedTuple):
    edges: torch.Tensor
    nodes: int


def graph(nodes, pairs):
    """Every pair in both directions, once, without loops."""
    both = sorted({(a, b) for p in pairs for a, b in (tuple(p), tuple(p)[::-1]) if a != b})
    return Pairs(torch.tensor(both, dtype=torch.int64).reshape(-1, 2).T.contiguous(), nodes)


def path(n):
    return graph(n, [(k, k + 1) for k in range(n - 1)])


def complete(n):
    return graph(n, [(j, k) for j in range(n) for k in range(j)])


def cycle(n):
    return graph(n, [(k, (k + 1) % n) for k in range(n)])


def random_graph(n, m, seed=0):
    return graph(n, np.random.default_rng(seed).integers(0, n, (m, 2)).tolist())


def heavy_tailed(n, m, seed=0):
    """Ends drawn in proportion to 1, 1/2, 1/3, ...: a few hubs that know each other, many leaves, some isolated."""
    weight = 1 / np.arange(1, n + 1)
    return graph(n, np.random.default_rng(seed).choice(n, (m, 2), p=weight / weight.sum()).tolist())


def with_tail(g, n):
    """A path of n nodes hung on the last node: entries of every size."""
    return graph(g.nodes + n, [*g.edges.T.tolist(), *((g.nodes + k - 1, g.nodes + k) for k in range(n))])


def disconnected():
    """A triangle, a path and two nodes without edges."""
    return graph(9, [(0, 4), (4, 2), (2, 0), (1, 5), (5, 6), (6, 8)])


GRAPHS = {
    "one-node": graph(1, []),
    "no-edges": graph(4, []),
    "path-7": path(7),
    "complete-6": complete(6),
    "cycle-8": cycle(8),
    "star-12": graph(12, [(0, k) for k in range(1, 12)]),
    "disconnected": disconnected(),
    "random-40": random_graph(40, 70),
    "heavy-60": heavy_tailed(60, 250),
    "tailed-120": with_tail(heavy_tailed(60, 120), 60),
}
EVERY = pytest.mark.parametrize("g", GRAPHS.values(), ids=GRAPHS)
LARGE = pytest.mark.parametrize("g", [GRAPHS["heavy-60"], GRAPHS["tailed-120"]], ids=["heavy-60", "tailed-120"])
VIEWS = {
    "ppr": lambda g, **k: ppr(g, teleport=0.2, **k),
    "ppr-0.05": lambda g, **k: ppr(g, teleport=0.05, **k),
    "heat": lambda g, **k: heat(g, time=5.0, **k),
    "heat-0.3": lambda g, **k: heat(g, time=0.3, **k),
}
VIEW = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)


def naive_degrees(g):
    degrees = [1.0] * g.nodes
    for a in g.edges[0].tolist():
        degrees[a] += 1
    return np.array(degrees)


def naive_adjacency(g):
    d = naive_degrees(g)
    dense = np.diag(1 / d)
    for a, b in g.edges.T.tolist():
        dense[a, b] = 1 / (math.sqrt(d[a]) * math.sqrt(d[b]))
    return dense


def by_eigenvalues(g, function):
    values, vectors = np.linalg.eigh(naive_adjacency(g))
    return sum(function(v) * np.outer(u, u) for v, u in zip(values, vectors.T, strict=True))


def by_powers(g, weights):
    """``sum_k weights_k T^k``."""
    t, power, total = naive_adjacency(g), np.eye(g.nodes), np.zeros((g.nodes, g.nodes))
    for w in weights:
        total += w * power
        power = power @ t
    return total


def dense(matrix):
    return matrix.to_dense().numpy().astype(np.float64)


def exact(view, g):
    return view(g, dtype=torch.float64).numpy()


# --- the local view -------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalized_adjacency(g, dtype):
    t = normalized_adjacency(g, dtype=dtype)
    assert (t.layout, t.dtype, tuple(t.shape)) == (torch.sparse_csr, dtype, (g.nodes, g.nodes))
    assert t.values().numel() == g.edges.shape[1] + g.nodes
    got = t.to_dense()
    assert torch.equal(got, got.T)
    tolerance = 1e-7 if dtype == torch.float32 else 1e-15
    np.testing.assert_allclose(got, naive_adjacency(g), atol=tolerance, rtol=0)
    roots = np.sqrt(naive_degrees(g))
    np.testing.assert_allclose(got.numpy() @ roots, roots, rtol=10 * tolerance)


def test_isolated_nodes_keep_to_themselves():
    t = normalized_adjacency(disconnected()).to_dense()
    for k in (3, 7):
        assert torch.equal(t[k], torch.eye(9)[k])
    for s in (ppr(disconnected(), dtype=torch.float64), heat(disconnected(), dtype=torch.float64)):
        np.testing.assert_allclose(s[[3, 7]], np.eye(9)[[3, 7]], **EXACT)
        np.testing.assert_allclose(s[[0, 2, 4]][:, [1, 5, 6, 8]], 0, **EXACT)
    sparse = ppr(disconnected(), method="threshold", threshold=0.0).to_dense()
    assert int((sparse > 0).sum()) == 3**2 + 4**2 + 2


# --- exact diffusions -----------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("teleport", [0.01, 0.2, 0.85])
def test_ppr_equals_its_eigenvalues_and_its_series(g, teleport):
    s = ppr(g, teleport=teleport, dtype=torch.float64).numpy()
    np.testing.assert_allclose(s, by_eigenvalues(g, lambda v: teleport / (1 - (1 - teleport) * v)), **EXACT)
    terms = int(40 / teleport)  # (1 - a)^terms < e^-40
    np.testing.assert_allclose(s, by_powers(g, teleport * (1 - teleport) ** np.arange(terms)), **EXACT)


@EVERY
@pytest.mark.parametrize("time", [0.3, 5.0, 40.0])
def test_heat_equals_the_matrix_exponential_and_its_series(g, time):
    s = heat(g, time=time, dtype=torch.float64).numpy()
    np.testing.assert_allclose(s, linalg.expm(-time * (np.eye(g.nodes) - naive_adjacency(g))), **EXACT)
    terms = np.arange(200)
    poisson = np.exp(-time + terms * math.log(time) - [math.lgamma(k + 1) for k in terms])
    np.testing.assert_allclose(s, by_powers(g, poisson), **EXACT)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_complete_graphs(n):
    """T is the projection J / n, hence f(T) = f(0) (I - T) + f(1) T."""
    t = np.full((n, n), 1 / n)
    np.testing.assert_allclose(ppr(complete(n), teleport=0.3, dtype=torch.float64), 0.3 * np.eye(n) + 0.7 * t, **EXACT)
    e = math.exp(-2.0)
    expected = e * np.eye(n) + (1 - e) * t
    np.testing.assert_allclose(heat(complete(n), time=2.0, dtype=torch.float64), expected, **EXACT)


@pytest.mark.parametrize("n", [3, 8, 11])
def test_cycles(n):
    """Circulant with the eigenvalues (1 + 2 cos(2 pi k / n)) / 3."""
    angle = 2 * np.pi * np.arange(n) / n
    values = (1 + 2 * np.cos(angle)) / 3
    distance = np.subtract.outer(np.arange(n), np.arange(n))
    waves = np.cos(distance[..., None] * angle)  # [n, n, k]
    expected = (waves * (0.2 / (1 - 0.8 * values))).mean(-1)
    np.testing.assert_allclose(ppr(cycle(n), dtype=torch.float64), expected, **EXACT)
    expected = (waves * np.exp(-5 * (1 - values))).mean(-1)
    np.testing.assert_allclose(heat(cycle(n), dtype=torch.float64), expected, **EXACT)


def test_path_of_two_nodes_is_not_a_path_of_three():
    """[[1/2, 1/sqrt 6, 0], [., 1/3, .], ...] solved by hand at a = 1/2: S = (2 I - T)^{-1}."""
    s6 = 1 / math.sqrt(6)
    by_hand = np.linalg.inv([[1.5, -s6, 0], [-s6, 5 / 3, -s6], [0, -s6, 1.5]])
    assert by_hand[1, 1] == pytest.approx(1.5 / (1.5 * 5 / 3 - 2 / 6))
    np.testing.assert_allclose(ppr(path(3), teleport=0.5, dtype=torch.float64), by_hand, **EXACT)


@EVERY
@VIEW
def test_what_holds_for_every_diffusion(g, view):
    s, roots = exact(view, g), np.sqrt(naive_degrees(g))
    assert np.array_equal(s, s.T)
    assert s.min() > -1e-14
    assert s.max() < 1 + 1e-14
    np.testing.assert_allclose(s @ roots, roots, atol=1e-12)
    values = np.linalg.eigvalsh(s)
    assert -1e-14 < values.min() <= values.max() < 1 + 1e-13
    single = view(g)
    assert (single.dtype, single.layout) == (torch.float32, torch.strided)
    np.testing.assert_allclose(single, s, atol=1e-7, rtol=0)


@EVERY
def test_limits(g):
    one = torch.eye(g.nodes, dtype=torch.float64)
    for method in ("exact", "threshold"):
        for s in (
            ppr(g, teleport=1.0, method=method, dtype=torch.float64),
            heat(g, time=0.0, method=method, dtype=torch.float64),
        ):
            torch.testing.assert_close(s.to_dense(), one, atol=1e-14, rtol=0)
    torch.testing.assert_close(ppr(g, teleport=1.0, method="push", dtype=torch.float64).to_dense(), one)
    near = ppr(g, teleport=1 - 1e-6, dtype=torch.float64) - one
    assert float(near.abs().max()) < 1.1e-6
    assert float(near.abs().max()) > 1e-7 or g.edges.numel() == 0


def test_many_steps_forget_the_seed():
    """teleport -> 0 and time -> infinity: sqrt(d) sqrt(d)' / sum d on a connected graph."""
    d = naive_degrees(path(7))
    limit = np.sqrt(np.outer(d, d)) / d.sum()
    for method in ("exact", "threshold"):
        s = heat(path(7), time=2000.0, method=method, threshold=0.0, dtype=torch.float64)
        np.testing.assert_allclose(dense(s), limit, atol=1e-10, rtol=0)
        s = ppr(path(7), teleport=1e-8, method=method, threshold=0.0, dtype=torch.float64)
        np.testing.assert_allclose(dense(s), limit, atol=1e-6, rtol=0)


# --- series ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [1e-3, 1e-7, 1e-12])
@pytest.mark.parametrize(
    ("coefficients", "function"),
    [
        *((ppr_coefficients, lambda x, a=a: (a, a / (1 - (1 - a) * x))) for a in (0.01, 0.2, 0.9, 1.0)),
        *((heat_coefficients, lambda x, t=t: (t, np.exp(-t * (1 - x)))) for t in (0.0, 1e-3, 5.0, 300.0)),
    ],
    ids=[*(f"ppr-{a}" for a in (0.01, 0.2, 0.9, 1.0)), *(f"heat-{t}" for t in (0.0, 1e-3, 5.0, 300.0))],
)
def test_series_are_as_long_as_they_must_be(coefficients, function, tail):
    """At x = 1 every polynomial is 1: the error there is the whole tail."""
    x = np.cos(np.linspace(0, np.pi, 501))
    parameter, expected = function(x)
    c = coefficients(parameter, tail)
    rounding = 1e-13
    assert np.abs(polynomials.chebval(x, c) - expected).max() < tail + rounding
    assert (c > 0).all()
    if len(c) > 1:
        assert np.abs(polynomials.chebval(x, c[:-1]) - expected).max() > tail - rounding


@EVERY
@VIEW
def test_threshold_zero_is_exact(g, view):
    sparse = view(g, method="threshold", threshold=0.0, dtype=torch.float64)
    np.testing.assert_allclose(dense(sparse), exact(view, g), atol=1e-10, rtol=0)


@VIEW
@pytest.mark.parametrize("threshold", [1e-4, 1e-3, 1e-2])
def test_threshold_keeps_what_it_says(view, threshold):
    g = GRAPHS["tailed-120"]
    s = exact(view, g)
    sparse = view(g, method="threshold", threshold=threshold, dtype=torch.float64)
    assert sparse.layout == torch.sparse_csr
    p = dense(sparse)
    assert np.array_equal(p, p.T)
    tail = 1e-3 * threshold
    sure = np.abs(s - threshold) > tail  # the others may go either way
    assert sure.mean() > 0.99
    assert np.array_equal((p > 0)[sure], (s >= threshold)[sure])
    kept = p > 0
    assert sparse.values().numel() == kept.sum()
    error = np.abs(s - p)[kept].max()
    assert error <= tail
    assert threshold / 10 < (s - p)[~kept].max() <= threshold + tail


# --- pushing --------------------------------------------------------------------------------------------------------


def assert_pushed(s, p, degrees, threshold):
    """Eq. (12d)."""
    bound = threshold * np.sqrt(np.minimum.outer(degrees, degrees))
    assert (s - p).min() >= -1e-14
    worst = ((s - p) / bound).max()
    assert worst <= 1 + 1e-9, f"error {worst:.3f} times its bound"


@EVERY
@pytest.mark.parametrize("teleport", [0.05, 0.2, 0.7])
@pytest.mark.parametrize("threshold", [1e-4, 1e-2])
def test_push_is_below_and_within_its_bound(g, teleport, threshold):
    s = ppr(g, teleport=teleport, dtype=torch.float64).numpy()
    sparse = ppr(g, teleport=teleport, method="push", threshold=threshold, dtype=torch.float64)
    p, degrees = dense(sparse), naive_degrees(g)
    assert np.array_equal(p, p.T)
    assert_pushed(s, p, degrees, threshold)
    with pytest.raises(AssertionError, match="times its bound"):
        assert_pushed(s, p, degrees, threshold / 10)


def test_the_bound_of_push_needs_the_degrees():
    """A clique with tails: between its nodes the error is beyond the plain threshold."""
    g = graph(60, [(j, k) for j in range(30) for k in range(j)] + [(k, k + 30) for k in range(30)])
    s, p = (dense(ppr(g, method=m, threshold=1e-2, dtype=torch.float64)) for m in ("exact", "push"))
    assert_pushed(s, p, naive_degrees(g), 1e-2)
    with pytest.raises(AssertionError, match="times its bound"):
        assert_pushed(s, p, np.ones(60), 1e-2)


@pytest.mark.parametrize("threshold", [1e-3, 1e-2])
def test_push_equals_a_loop_over_seeds(threshold):
    g, a = GRAPHS["heavy-60"], 0.2
    t, roots = naive_adjacency(g), np.sqrt(naive_degrees(g))
    columns = np.zeros((g.nodes, g.nodes))
    for j in range(g.nodes):
        residual = np.eye(g.nodes)[j]
        while (due := residual > threshold * roots).any():
            pushed = [r if d else 0.0 for r, d in zip(residual, due, strict=True)]
            columns[:, j] += a * np.array(pushed)
            residual = residual - pushed + (1 - a) * t @ pushed
    got = dense(ppr(g, teleport=a, method="push", threshold=threshold, dtype=torch.float64))
    np.testing.assert_allclose(got, np.maximum(columns, columns.T), **EXACT)


@LARGE
def test_blocks_do_not_matter(g, monkeypatch):
    def run():
        return [
            dense(ppr(g, method="threshold", dtype=torch.float64)),
            dense(heat(g, method="threshold", dtype=torch.float64)),
            dense(ppr(g, method="push", dtype=torch.float64)),
        ]

    whole = run()
    monkeypatch.setattr(diffusion, "_DENSE", 7 * g.nodes)
    monkeypatch.setattr(diffusion, "_PUSHED", 1)
    for a, b in zip(run(), whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-15, rtol=0)


# --- what is lost ---------------------------------------------------------------------------------------------------

APPROXIMATIONS = {
    "ppr-threshold": lambda g: (ppr(g, dtype=torch.float64), ppr(g, method="threshold", threshold=1e-2)),
    "ppr-push": lambda g: (ppr(g, dtype=torch.float64), ppr(g, method="push", threshold=1e-2)),
    "heat-threshold": lambda g: (heat(g, dtype=torch.float64), heat(g, method="threshold", threshold=1e-2)),
}


@LARGE
@pytest.mark.parametrize("case", APPROXIMATIONS.values(), ids=APPROXIMATIONS)
def test_lost_mass(g, case):
    full, part = (dense(m) for m in case(g))
    roots = np.sqrt(naive_degrees(g))
    expected = [sum((full - part)[i, j] * roots[j] for j in range(g.nodes)) / roots[i] for i in range(g.nodes)]
    got = lost_mass(g, case(g)[1])
    np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0)  # the part is float32, and has its tail
    norm = np.linalg.norm(full - part, 2)
    assert norm <= got.max()
    assert norm > got.max() / 5, "the bound says nothing"
    np.testing.assert_allclose(lost_mass(g, torch.from_numpy(full)), 0, atol=1e-12)


def test_lost_mass_wants_the_graph_of_the_matrix():
    with pytest.raises(ValueError, match="expected a diffusion of this graph"):
        lost_mass(path(3), ppr(path(4)))


@LARGE
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
def test_sparsify_by_threshold(g, sparse):
    full = ppr(g, dtype=torch.float64)
    s = full.numpy()
    got = sparsify(ppr(g, method="threshold", threshold=0.0, dtype=torch.float64) if sparse else full, threshold=0.02)
    expected = np.where(s >= 0.02, s, 0)
    assert (got.matrix.layout, got.matrix.dtype) == (torch.sparse_csr, torch.float64)
    np.testing.assert_allclose(dense(got.matrix), expected, atol=1e-11, rtol=0)
    assert got.matrix.values().numel() == (expected > 0).sum()
    assert got.kept_per_row == (expected > 0).sum() / g.nodes
    lost = max(sum(v for v in row if v < 0.02) for row in s)
    assert got.lost == pytest.approx(lost, abs=1e-9)
    assert np.linalg.norm(s - expected, 2) <= got.lost + 1e-9


def test_sparsify_weighs_magnitudes_and_drops_zeros():
    matrix = torch.tensor([[0.0, -3.0, 0.5], [0.0, 0.0, 0.0]])
    got = sparsify(matrix, threshold=1.0)
    assert torch.equal(got.matrix.to_dense(), torch.tensor([[0.0, -3.0, 0.0], [0.0, 0.0, 0.0]]))
    assert (got.kept_per_row, got.lost) == (0.5, 0.5)
    everything = sparsify(matrix, threshold=0.0)
    assert (everything.kept_per_row, everything.lost) == (1.0, 0.0)
    nothing = sparsify(matrix, threshold=4.0)
    assert (nothing.kept_per_row, nothing.lost) == (0.0, 3.5)
    assert torch.equal(nothing.matrix.to_dense(), torch.zeros(2, 3))


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
def test_sparsify_by_degree(sparse):
    g = with_tail(heavy_tailed(200, 400), 100)
    full = ppr(g, method="threshold", threshold=0.0) if sparse else ppr(g)
    s = dense(full)
    counts = [(np.abs(s) >= e).sum() / 300 for e in THRESHOLDS]
    assert len(set(counts)) == 4
    chosen = set()
    for degree in (4.0, counts[1] + 1, counts[2] - 1, 1e6):
        got = sparsify(full, degree=degree)
        gaps = [abs(degree - c) for c in counts]
        assert got.threshold == THRESHOLDS[gaps.index(min(gaps))]
        assert got.kept_per_row == pytest.approx(counts[THRESHOLDS.index(got.threshold)], abs=0.1)
        chosen.add(got.threshold)
    assert len(chosen) == 4
    assert np.array_equal(dense(full), s), "the matrix given was changed"


# --- use ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["threshold", "push"])
def test_sparse_views_multiply_and_have_gradients(method):
    g = GRAPHS["heavy-60"]
    s = ppr(g, method=method, threshold=1e-3)
    assert s.crow_indices().dtype == s.col_indices().dtype == torch.int32
    x = torch.arange(120.0).reshape(60, 2).requires_grad_()
    weight = torch.linspace(-1, 1, 120).reshape(60, 2)
    ((s @ x) * weight).sum().backward()
    torch.testing.assert_close(s @ x.detach(), s.to_dense() @ x.detach())
    torch.testing.assert_close(x.grad, s.to_dense().T @ weight)


def test_edges_are_left_as_they_were():
    g = heavy_tailed(60, 250)
    before = g.edges.clone()
    for call in (normalized_adjacency, ppr, heat):
        call(g)
    assert torch.equal(g.edges, before)


@pytest.mark.data
@pytest.mark.skipif(not CORA.exists(), reason="MSDA_DATA does not hold planetoid/cora.npz")
def test_bounds_on_cora():
    with np.load(CORA) as file:
        g = Pairs(torch.from_numpy(file["edge_index"].astype(np.int64)), len(file["y"]))
    s = ppr(g, dtype=torch.float64).numpy()
    d = naive_degrees(g)
    np.testing.assert_allclose(s @ np.sqrt(d), np.sqrt(d), atol=1e-11)
    x = np.random.default_rng(0).normal(size=(g.nodes, 3))
    t = normalized_adjacency(g, dtype=torch.float64).to_dense().numpy()
    np.testing.assert_allclose(s @ (x - 0.8 * (t @ x)), 0.2 * x, atol=1e-11)
    for method in ("push", "threshold"):
        p = dense(ppr(g, method=method, threshold=1e-3, dtype=torch.float64))
        if method == "push":
            assert_pushed(s, p, d, 1e-3)
            with pytest.raises(AssertionError, match="times its bound"):
                assert_pushed(s, p, d, 1e-4)
        else:
            assert (s - p).min() >= -1e-6
            assert 0.9e-3 < (s - p).max() <= 1.001e-3
    seeds = np.eye(g.nodes)[:, ::100]
    h = expm_multiply(csr_array(-5 * (np.eye(g.nodes) - t)), seeds)
    p = dense(heat(g, method="threshold", threshold=1e-3, dtype=torch.float64))[:, ::100]
    assert (h - p).min() >= -1e-6
    assert 0.9e-3 < (h - p).max() <= 1.001e-3


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("teleport", [0.0, -0.1, 1.1, math.nan, 1e-9])
def test_teleport_out_of_range(teleport):
    with pytest.raises(ValueError, match=r"expected teleport in \(0, 1\]"):
        ppr(path(3), teleport=teleport)


@pytest.mark.parametrize("time", [-1.0, math.inf, math.nan])
def test_time_out_of_range(time):
    with pytest.raises(ValueError, match="expected a finite time >= 0 for the heat diffusion"):
        heat(path(3), time=time)


def test_unknown_methods():
    with as_users_run_it():
        with pytest.raises(ValueError, match=r"expected method among \['exact', 'threshold', 'push'\], got 'solve'"):
            ppr(path(3), method="solve")
        with pytest.raises(ValueError, match=r"expected method among \['exact', 'threshold'\], got 'push'"):
            heat(path(3), method="push")


@pytest.mark.parametrize("threshold", [-1e-4, math.inf, math.nan])
@pytest.mark.parametrize("method", ["threshold", "push", "exact"])
def test_threshold_out_of_range(threshold, method):
    calls = [lambda: ppr(path(3), method=method, threshold=threshold)]
    calls += [lambda: heat(path(3), method=method, threshold=threshold)] if method != "push" else []
    calls += [lambda: sparsify(torch.eye(3), threshold=threshold)]
    for call in calls:
        with pytest.raises(ValueError, match="expected a finite threshold >= 0"):
            call()


def test_pushing_needs_a_threshold():
    with pytest.raises(ValueError, match="pushing needs a threshold > 0, got 0"):
        ppr(path(3), method="push", threshold=0.0)


@pytest.mark.parametrize("call", [normalized_adjacency, ppr, heat])
def test_dtypes(call):
    with pytest.raises(TypeError, match=r"expected dtype torch\.float32 or torch\.float64, got torch\.float16"):
        call(path(3), dtype=torch.float16)


def test_sparsify_wants_one_rule_and_a_matrix():
    one = torch.eye(3)
    for options in ({}, {"threshold": 0.1, "degree": 2.0}):
        with pytest.raises(ValueError, match="expected either a threshold or a degree"):
            sparsify(one, **options)
    for degree in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="expected a finite degree > 0 to aim at"):
            sparsify(one, degree=degree)
    with pytest.raises(ValueError, match="expected a matrix to thin out, got 1 axes"):
        sparsify(torch.ones(3), threshold=0.1)
    with pytest.raises(TypeError, match="expected a dense or a sparse CSR matrix"):
        sparsify(one.to_sparse_coo(), threshold=0.1)

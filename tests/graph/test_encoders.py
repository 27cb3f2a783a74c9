"""Encoders against torch_geometric's layers and a loop; the bilinear score against torch's own."""

from __future__ import annotations

import sys

import naive_graph
import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn import DenseGCNConv, GCNConv

from msda_theory.graph.encoders import ContrastiveModel, GraphEncoder, Views, contrastive_model
from msda_theory.graph.products import FixedMatrix
from msda_theory.graph.synthetic import block_graph
from msda_theory.graph.views import normalized_adjacency, ppr

NODES, FEATURES, WIDTH = 9, 6, 4


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([45, seed])


def numbers(*shape: int, share: float = 1.0, seed: int = 0) -> torch.Tensor:
    source = rng(seed)
    return torch.from_numpy(source.normal(size=shape) * (source.random(shape) < share))


def model(seed: int = 0) -> ContrastiveModel:
    """In float64, with biases and slopes that are not the first ones."""
    made = contrastive_model(FEATURES, WIDTH, rng=rng(seed)).double()
    with torch.no_grad():
        for k, encoder in enumerate((made.local, made.global_)):
            encoder.convolution.bias.copy_(numbers(WIDTH, seed=10 + k))
            encoder.activation.weight.fill_(0.1 + 0.2 * k)
        made.discriminator.bias.fill_(0.7)
    return made


def encoder() -> GraphEncoder:
    return model().global_


X = numbers(NODES, FEATURES, share=0.5, seed=1)
V = numbers(NODES, NODES, share=0.3, seed=2)  # not symmetric
ORDER = torch.from_numpy(rng(3).permutation(NODES))


def views() -> Views:
    symmetric = V + V.T
    return Views.of(X, symmetric, symmetric @ symmetric)


# --- encoder ------------------------------------------------------------------------------------------------


def test_encoder_against_a_loop():
    e = encoder()
    found = e(FixedMatrix.of(X), FixedMatrix.of(V))
    weight, bias = e.convolution.lin.weight.detach().numpy(), e.convolution.bias.detach().numpy()
    truth = naive_graph.encoded(X.numpy(), V.numpy(), weight, bias, 0.3)
    assert (truth < 0).any()
    np.testing.assert_allclose(found.detach(), truth, rtol=0, atol=1e-13)


def test_encoder_is_the_layer_of_torch_geometric():
    """A view [i, j] weighs what node i takes from node j: an edge from j to i."""
    e = encoder()
    assert isinstance(e.convolution, GCNConv)
    i, j = V.nonzero().T
    theirs = e.activation(e.convolution(X, torch.stack([j, i]), V[i, j]))
    torch.testing.assert_close(e(FixedMatrix.of(X), FixedMatrix.of(V)), theirs, rtol=0, atol=1e-13)
    turned = e.activation(e.convolution(X, torch.stack([i, j]), V[i, j]))
    assert (theirs - turned).abs().max() > 0.1


def test_local_view_is_the_dense_layer_of_torch_geometric():
    """`DenseGCNConv` adds the self-loops and normalises by itself."""
    graph = block_graph((6, 7), 0.4, 0.2, features=FEATURES, signal=0.3, background=0.3, rng=rng(4))
    e = encoder()
    dense = DenseGCNConv(FEATURES, WIDTH).double()
    dense.load_state_dict({"bias": e.convolution.bias, "lin.weight": e.convolution.lin.weight})
    adjacency = torch.zeros(13, 13, dtype=torch.float64)
    adjacency[graph.edges[0], graph.edges[1]] = 1
    theirs = e.activation(dense(graph.features.double(), adjacency)[0])
    view = FixedMatrix.of(normalized_adjacency(graph, dtype=torch.float64), symmetric=True)
    torch.testing.assert_close(e(FixedMatrix.of(graph.features.double()), view), theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_both_are_two_passes(sparse):
    """With gradients: those of PReLU are written out in the package."""
    v = torch.block_diag(V, *([torch.eye(1, dtype=torch.float64)] * 30)) if sparse else V
    x = torch.cat([X, torch.zeros(30, FEATURES)]) if sparse else X
    order = torch.cat([ORDER, torch.arange(NODES, NODES + 30)]) if sparse else ORDER
    features, view, e = FixedMatrix.of(x), FixedMatrix.of(v), encoder()
    assert (features.matrix.layout == view.matrix.layout == torch.sparse_csr) == sparse
    ours = e.both(features, view, order)
    apart = e(features, view), e(FixedMatrix.of(x[order]), view)
    linear = x @ e.convolution.lin.weight.T
    plain = [nn.functional.prelu(v @ z + e.convolution.bias, e.activation.weight) for z in (linear, linear[order])]
    weights = numbers(len(x), WIDTH, seed=5), numbers(len(x), WIDTH, seed=6)
    gradients = []
    for pair in (ours, apart, plain):
        for found, truth in zip(pair, plain, strict=True):
            torch.testing.assert_close(found, truth, rtol=0, atol=1e-13)
        loss = sum((h * w).sum() for h, w in zip(pair, weights, strict=True))
        gradients.append(torch.autograd.grad(loss, list(e.parameters())))
    assert len(gradients[0]) == 3
    for found in gradients[:2]:
        torch.testing.assert_close(found, gradients[2], rtol=0, atol=1e-12)


def test_activation_at_zero_has_the_gradient_of_torch():
    e = encoder()
    with torch.no_grad():
        e.convolution.bias.zero_()
    zero, view = FixedMatrix.of(torch.zeros(NODES, FEATURES, dtype=torch.float64)), FixedMatrix.of(V)
    ours = torch.autograd.grad(e(zero, view).sum(), list(e.parameters()))
    plain = nn.functional.prelu(torch.zeros(NODES, WIDTH) + e.convolution.bias, e.activation.weight)
    theirs = torch.autograd.grad(plain.sum(), (e.convolution.bias, e.activation.weight))
    named = dict(zip([name for name, _ in e.named_parameters()], ours, strict=True))
    torch.testing.assert_close((named["convolution.bias"], named["activation.weight"]), theirs)


# --- model --------------------------------------------------------------------------------------------------


def test_views_of_the_graph_and_of_shuffled_features():
    m, v = model(), views()
    nodes = m.represent(v, ORDER)
    shuffled = FixedMatrix.of(X[ORDER])
    truth = m.local(v.features, v.local), m.global_(v.features, v.global_), m.local(shuffled, v.local)
    found = nodes.local, nodes.global_, nodes.local_negatives, nodes.global_negatives
    for a, b in zip(found, (*truth, m.global_(shuffled, v.global_)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_score_is_bilinear():
    """Of every vector and the sigmoid of the mean of the other view."""
    m = model()
    vectors, others = numbers(5, WIDTH, seed=7), numbers(NODES, WIDTH, seed=8)
    summary = torch.sigmoid(others.mean(dim=0))
    truth = m.discriminator(vectors, summary.expand(5, WIDTH))[:, 0]
    torch.testing.assert_close(m.score(vectors, m.direction(others)), truth, rtol=0, atol=1e-14)
    turned = m.discriminator(summary.expand(5, WIDTH).contiguous(), vectors)[:, 0]
    assert (truth - turned).abs().max() > 0.1, "a symmetric matrix would hide the order"


def test_score_is_linear_in_the_vectors():
    m = model()
    direction = m.direction(numbers(NODES, WIDTH)).detach()
    vector = numbers(1, WIDTH, seed=7)
    hessian = torch.func.hessian(lambda v: m.score(v[None], direction)[0])(vector[0])
    assert not hessian.any()


def test_embedding_is_the_sum_of_both_views():
    m, v = model(), views()
    found = m.embed(v)
    assert not found.requires_grad
    torch.testing.assert_close(found, m.local(v.features, v.local) + m.global_(v.features, v.global_))


def test_parts_of_the_model():
    """No layer that ties nodes together or behaves otherwise in training, such as BatchNorm or Dropout."""
    m = model()
    kinds = {type(part) for part in m.modules()}
    assert {kind.__name__ for kind in kinds} <= {
        *("ContrastiveModel", "GraphEncoder", "GCNConv", "Linear", "PReLU", "Bilinear", "SumAggregation"),
    }
    assert not list(m.buffers())
    shapes = {name: tuple(p.shape) for name, p in m.named_parameters()}
    one = {"convolution.lin.weight": (WIDTH, FEATURES), "convolution.bias": (WIDTH,), "activation.weight": (1,)}
    both = {f"{side}.{name}": shape for side in ("local", "global_") for name, shape in one.items()}
    assert shapes == {**both, "discriminator.weight": (1, WIDTH, WIDTH), "discriminator.bias": (1,)}


def test_first_weights():
    m = contrastive_model(FEATURES, WIDTH, rng=rng())
    for side in (m.local, m.global_):
        assert side.activation.weight.tolist() == [0.25]
        assert not side.convolution.bias.any()
        bound = (6 / (FEATURES + WIDTH)) ** 0.5
        assert 0.5 * bound < side.convolution.lin.weight.abs().max() <= bound
    assert not m.discriminator.bias.any()
    assert not torch.equal(m.local.convolution.lin.weight, m.global_.convolution.lin.weight)
    assert contrastive_model(3, rng=rng()).discriminator.weight.shape == (1, 512, 512)


def test_equal_seeds_give_equal_weights_and_global_state_is_left():
    before = torch.get_rng_state()
    first, again, other = (contrastive_model(FEATURES, WIDTH, rng=rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    after = contrastive_model(FEATURES, WIDTH, rng=rng(1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert torch.equal(value, after.state_dict()[name])
    assert not torch.equal(first.discriminator.weight, other.discriminator.weight)


# --- input --------------------------------------------------------------------------------------------------


def test_views_keep_few_entries_sparse():
    graph = block_graph((30, 30), 0.05, 0.02, features=40, signal=0.05, background=0.02, rng=rng(4))
    v = Views.of(graph.features, normalized_adjacency(graph), ppr(graph))
    assert v.features.matrix.layout == v.local.matrix.layout == torch.sparse_csr
    assert torch.equal(v.local.transposed.to_dense(), v.local.matrix.to_dense())
    assert v.global_.matrix.layout == torch.strided


@pytest.mark.parametrize("side", ["local", "global"])
def test_views_of_another_graph(side):
    small, good = V[:-1, :-1], V
    pair = (small, good) if side == "local" else (good, small)
    with pytest.raises(
        ValueError,
        match=rf"expected a {side} view of the 9 nodes that have features, got \[8, 8\]; build both from one graph",
    ):
        Views.of(X, *pair)


@pytest.mark.parametrize("sizes", [(0, 4), (4, 0)], ids=str)
def test_models_without_units(sizes):
    with pytest.raises(ValueError, match=f"expected at least 1 feature and 1 unit, got {sizes[0]} and {sizes[1]}"):
        contrastive_model(*sizes, rng=rng())


def test_encoders_need_torch_geometric(monkeypatch):
    for module in ("torch_geometric", "torch_geometric.nn"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"graph encoders, raw files .* pip install 'msda_theory\[graph\]'"):
        contrastive_model(3, 2, rng=np.random.default_rng(0))

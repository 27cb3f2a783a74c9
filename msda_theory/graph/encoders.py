"""Two encoders, one for each view of a graph, and the bilinear discriminator that they share.

Hassani, Khasahmadi, "Contrastive Multi-View Representation Learning on Graphs", ICML 2020 (MVGRL); Ma, Chen, Li,
"DropMix", 2023, builds on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from msda_theory.graph.extra import geometric
from msda_theory.graph.products import FixedMatrix
from msda_theory.streams import seeded


@dataclass(frozen=True, eq=False)
class Views:
    """What the encoders see: features, and the two views of the graph.

    Attributes:
        features: X [n, F].
        local: normalised adjacency [n, n].
        global_: diffusion [n, n]: the global view.
    """

    features: FixedMatrix
    local: FixedMatrix
    global_: FixedMatrix

    def __post_init__(self) -> None:
        n = self.features.shape[0]
        for name, view in (("local", self.local), ("global", self.global_)):
            if view.shape != (n, n):
                raise ValueError(
                    f"expected a {name} view of the {n} nodes that have features, got {list(view.shape)}; build both "
                    "from one graph."
                )

    @classmethod
    def of(cls, features: Tensor, local: Tensor, global_: Tensor) -> Views:
        """From tensors; matrices with few entries are kept sparse."""
        return cls(FixedMatrix.of(features), FixedMatrix.of(local), FixedMatrix.of(global_))


@dataclass(frozen=True, eq=False)
class Representations:
    """Nodes of both views: those of the graph and those of the graph with shuffled features.

    Attributes:
        local, global_: positives [n, h].
        local_negatives, global_negatives: negatives [n, h].
    """

    local: Tensor
    global_: Tensor
    local_negatives: Tensor
    global_negatives: Tensor


class GraphEncoder(nn.Module):
    """``PReLU(V X W + b)``: one graph convolution on the view V, weights of torch_geometric's ``GCNConv``."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.convolution = geometric("nn").GCNConv(features, width, normalize=False)
        self.activation = nn.PReLU()

    def forward(self, features: FixedMatrix, view: FixedMatrix) -> Tensor:
        """Representations [n, h]."""
        return self._activate(view @ self._linear(features))

    def both(self, features: FixedMatrix, view: FixedMatrix, order: Tensor) -> tuple[Tensor, Tensor]:
        """Representations with the features as they are and with rows in another ``order`` [n]: two of [n, h].

        X W is shared, since ``(P X) W = P (X W)``.
        """
        linear = self._linear(features)
        return self._activate(view @ linear), self._activate(view @ linear.index_select(0, order))

    def _activate(self, product: Tensor) -> Tensor:
        activated: Tensor = _PReLU.apply(product + self.convolution.bias, self.activation.weight)  # type: ignore[no-untyped-call]
        return activated

    def _linear(self, features: FixedMatrix) -> Tensor:
        return features @ self.convolution.lin.weight.T


class _PReLU(torch.autograd.Function):
    """PReLU with one slope by the kernels of LeakyReLU: its own backward pass is twice as slow on processors."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        ctx.slope = slope.item()
        return leaky_relu(z, ctx.slope)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (z,) = ctx.saved_tensors
        inner = torch.ops.aten.leaky_relu_backward(gradients[0], z, ctx.slope, False)
        return inner, (gradients[0] * z.clamp(max=0)).sum().reshape(1)


class ContrastiveModel(nn.Module):
    """Encoders of the local and the global view, and a bilinear score ``h^T W c + b`` of a node and a summary.

    The summary of a view is the sigmoid of the mean of its representations.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.local, self.global_ = GraphEncoder(features, width), GraphEncoder(features, width)
        self.discriminator = nn.Bilinear(width, width, 1)
        nn.init.xavier_uniform_(self.discriminator.weight)
        nn.init.zeros_(self.discriminator.bias)

    def represent(self, views: Views, order: Tensor) -> Representations:
        """Positives and negatives of both views; negatives have the features of node ``order[i]`` at node i."""
        local, local_negatives = self.local.both(views.features, views.local, order)
        global_, global_negatives = self.global_.both(views.features, views.global_, order)
        return Representations(local, global_, local_negatives, global_negatives)

    def direction(self, nodes: Tensor) -> Tensor:
        """``W c`` [h] of the summary c of ``nodes`` [n, h]: the score of a vector v is ``v . (W c) + b``."""
        summary = torch.sigmoid(nodes.mean(dim=0))
        return self.discriminator.weight[0] @ summary

    def score(self, vectors: Tensor, direction: Tensor) -> Tensor:
        """Scores [k] of vectors [k, h]: linear in the vectors, so the input Hessian vanishes."""
        return vectors @ direction + self.discriminator.bias

    @torch.no_grad()
    def embed(self, views: Views) -> Tensor:
        """Sum of the representations of both views [n, h]: what the linear evaluation sees."""
        return self.local(views.features, views.local) + self.global_(views.features, views.global_)


def contrastive_model(features: int, width: int = 512, *, rng: np.random.Generator) -> ContrastiveModel:
    """A model with first weights drawn from ``rng``; the global random state is left as it was.

    Raises:
        ValueError: if ``features`` or ``width`` is below 1.
    """
    if features < 1 or width < 1:
        raise ValueError(f"expected at least 1 feature and 1 unit, got {features} and {width}; raise them.")
    with seeded(int(rng.integers(2**62))):
        return ContrastiveModel(features, width)

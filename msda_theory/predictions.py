"""Outputs of a model on a data set, under the preconditions that every measurement shares."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.losses import Loss, SoftmaxCrossEntropy
from msda_theory.proportions import Bits


def predict(
    model: nn.Module, data: ImageData, *, loss: Loss | None = None, batch_size: int = 512
) -> Float64[Tensor, "m c"]:
    """Outputs f(x_i) of every image [m, c], float64 on the CPU, without gradients.

    Args:
        model: module in eval mode, with parameters in the dtype and on the device of the images.
        data: images.
        loss: tells how many outputs c there must be; by default ``data.num_classes``.
        batch_size: images in one pass; no influence on the result beyond rounding.

    Raises:
        TypeError, ValueError: as `checks.check_model`: train mode, wrong outputs, NaN or infinity, outputs that depend
            on the rest of the batch.
    """
    check_model(model, data, loss or SoftmaxCrossEntropy())
    with torch.no_grad():
        f = torch.cat([model(x).double().cpu() for x, _ in data.batches(batch_size)])
    bad = ~torch.isfinite(f).all(dim=1)
    if bool(bad.any()):
        raise ValueError(
            f"expected finite outputs for every image, got NaN or infinity for {int(bad.sum())}, the first of them "
            f"image {int(bad.nonzero()[0])}; check the weights and the input scale."
        )
    return f


def correct_bits(outputs: Tensor, y: Tensor) -> Bits:
    """Whether each image is classified correctly.

    The class is the argmax of c outputs (the first of equal ones); for one output it is 1 if the output is positive.
    """
    classes = outputs.argmax(dim=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
    return np.asarray((classes == y.cpu()).numpy())

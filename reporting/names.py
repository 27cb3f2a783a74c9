"""What readers see in the place of the names that records use."""

from __future__ import annotations

from typing import Any

from figures.style import LAWS, NAMES
from figures.theory_training import LABELS

SHOWN: dict[str, str] = {
    **NAMES,
    **LAWS,
    **LABELS,
    **{"cifar10": "CIFAR-10", "fashion_mnist": "Fashion-MNIST", "cora": "Cora", "citeseer": "CiteSeer"},
    **{"resnet8": "ResNet-8", "resnet8-relu": "ResNet-8, ReLU", "resnet8-gelu": "ResNet-8, GELU"},
    **{"preactresnet18": "PreActResNet-18", "wideresnet28": "WideResNet-28", "vit": "ViT", "resnet50": "ResNet-50"},
    **{"relu": "ReLU", "conv": "convolutional", "mlp": "one hidden layer"},
    **{"linf": "largest change of a pixel (linf)", "l2": "Euclidean (l2)"},
    **{"fgsm": "FGSM", "pgd": "PGD", "deepfool": "DeepFool", "square": "Square", "worst": "worst of all"},
    **{"taylor": "Taylor mode", "nested jvp": "nested forward mode", "HVP": "Hessian-vector product"},
    # Rungs are sums: each stands on those below it.
    **{"r1": "+ R1", "r2": "+ R1 + R2", "r3": "+ R1 + R2 + R3", "linearised": "linearised network"},
    **{"quadratic": "quadratic network"},
    **{"batch": "for the batch", "per sample": "for each image"},
}


def shown(value: Any) -> str:
    """The text of a cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return SHOWN.get(str(value), str(value))

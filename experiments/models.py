"""Networks of the experiments: a small one for 8x8 digits, and the ones that people train at 32x32 and 224x224."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Weights made inside are those of ``seed``; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def network(name: str, *, classes: int = 10, seed: int, **options: int | str) -> nn.Module:
    """The network of that name from `NETWORKS`; the global random state is left as it was.

    Args:
        name: resnet8, preactresnet18, wideresnet28, wideresnet16, resnet50 or vit.
        classes: number of outputs.
        seed: of the initial weights.
        options: ``activation``, ``width`` and what else the network takes.

    Raises:
        ValueError: unknown network or activation (the message lists the known ones).
    """
    if name not in NETWORKS:
        raise ValueError(f"expected network among {list(NETWORKS)}, got {name!r}; choose one of them.")
    with initial_weights(seed):
        return NETWORKS[name](classes=classes, **options)


def _activation(name: str) -> type[nn.Module]:
    if name not in ACTIVATIONS:
        raise ValueError(f"expected activation among {list(ACTIVATIONS)}, got {name!r}; choose one of them.")
    return ACTIVATIONS[name]


def conv8(*, classes: int, width: int = 12, activation: str = "relu", channels: int = 1) -> nn.Sequential:
    """Three 3x3 convolutions (strides 1, 2, 2) and a linear layer, for 8x8 images; about 9,000 weights at width 12."""
    act = _activation(activation)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        act(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        act(),
        nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
        act(),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )


def linear(*, classes: int, image: int, channels: int = 1) -> nn.Sequential:
    """Logits that are affine in the image: softmax regression."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image**2, classes))


def relu_without_bias(*, classes: int, image: int, width: int = 48, channels: int = 1) -> nn.Sequential:
    """Two hidden ReLU layers without biases, so that ``f(x) = J(x) x``; about 5,500 weights for 8x8 images."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * image**2, width, bias=False),
        nn.ReLU(),
        nn.Linear(width, width, bias=False),
        nn.ReLU(),
        nn.Linear(width, classes, bias=False),
    )


def small_conv_net(activation: str, *, width: int = 12, classes: int = 10, seed: int) -> nn.Sequential:
    """`conv8` with the weights of ``seed``, by torch's default initialisation.

    The global random state is left as it was.

    Raises:
        ValueError: unknown activation (the message lists the known ones).
    """
    with initial_weights(seed):
        return conv8(classes=classes, width=width, activation=activation)


def small_mlp(activation: str, *, hidden: int = 48, pixels: int = 64, classes: int = 10, seed: int) -> nn.Sequential:
    """One hidden layer over flattened images: each filter is a picture; about 3,600 weights for 8x8 images.

    Weights come from torch's default initialisation with ``seed``; the global random state is left as it was.

    Raises:
        ValueError: unknown activation (the message lists the known ones).
    """
    act = _activation(activation)
    with initial_weights(seed):
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), act(), nn.Linear(hidden, classes))


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class PreActBlock(nn.Module):
    """BatchNorm, activation, 3x3 convolution, twice; a shortcut that changes shapes starts after the first activation.

    He et al., "Identity Mappings in Deep Residual Networks", 2016.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.norm1, self.act1, self.conv1 = nn.BatchNorm2d(inputs), act(), _conv(inputs, outputs, 3, stride)
        self.norm2, self.act2, self.conv2 = nn.BatchNorm2d(outputs), act(), _conv(outputs, outputs, 3)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else _conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        z = self.act1(self.norm1(x))
        skip = x if self.shortcut is None else self.shortcut(z)
        return skip + self.conv2(self.act2(self.norm2(self.conv1(z))))


class PreActResNet(nn.Module):
    """Pre-activation residual network for small images: a 3x3 stem and stages of `PreActBlock`, strides 1, 2, 2, ...

    PreActResNet-18 has four stages of two blocks with widths w, 2w, 4w, 8w; WideResNet-d-k (Zagoruyko and Komodakis,
    2016) has three stages of (d - 4) / 6 blocks with widths 16k, 32k, 64k behind a stem of 16.
    """

    def __init__(self, stem: int, widths: list[int], blocks: int, classes: int, activation: str, channels: int) -> None:
        super().__init__()
        act = _activation(activation)
        self.stem = _conv(channels, stem, 3)
        layers: list[nn.Module] = []
        inputs = stem
        for stage, outputs in enumerate(widths):
            for block in range(blocks):
                layers.append(PreActBlock(inputs, outputs, 2 if stage and not block else 1, act))
                inputs = outputs
        self.blocks = nn.Sequential(*layers)
        self.norm, self.act, self.head = nn.BatchNorm2d(inputs), act(), nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] to logits [B, classes]."""
        z = self.act(self.norm(self.blocks(self.stem(x))))
        return self.head(z.mean(dim=(2, 3)))


def preactresnet18(*, classes: int, width: int = 64, activation: str = "relu", channels: int = 3) -> PreActResNet:
    """PreActResNet-18; 11.2 million weights at width 64."""
    return PreActResNet(width, [width, 2 * width, 4 * width, 8 * width], 2, classes, activation, channels)


def resnet8(*, classes: int, width: int = 16, activation: str = "relu", channels: int = 3) -> PreActResNet:
    """Three stages of one pre-activation block, for a CPU; 77,000 weights at width 16."""
    return PreActResNet(width, [width, 2 * width, 4 * width], 1, classes, activation, channels)


def wideresnet28(*, classes: int, width: int = 2, activation: str = "relu", channels: int = 3) -> PreActResNet:
    """WideResNet-28-``width``; 1.5 million weights at width 2."""
    return PreActResNet(16, [16 * width, 32 * width, 64 * width], 4, classes, activation, channels)


def wideresnet16(*, classes: int, width: int = 4, activation: str = "relu", channels: int = 3) -> PreActResNet:
    """WideResNet-16-``width``; 2.7 million weights at width 4."""
    return PreActResNet(16, [16 * width, 32 * width, 64 * width], 2, classes, activation, channels)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions around a shortcut; He et al., "Deep Residual Learning", 2016."""

    def __init__(self, inputs: int, width: int, stride: int, act: type[nn.Module]) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            *(_conv(inputs, width, 1), nn.BatchNorm2d(width), act()),
            *(_conv(width, width, 3, stride), nn.BatchNorm2d(width), act()),
            *(_conv(width, outputs, 1), nn.BatchNorm2d(outputs)),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
        )
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, 4 width, H / stride, W / stride]."""
        return self.act(self.shortcut(x) + self.body(x))


class ResNet50(nn.Module):
    """ResNet-50 for 224x224 images; 25.6 million weights at width 64 and 1,000 classes."""

    def __init__(self, *, classes: int, width: int = 64, activation: str = "relu", channels: int = 3) -> None:
        super().__init__()
        act = _activation(activation)
        stem = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), act(), nn.MaxPool2d(3, stride=2, padding=1)]
        inputs = width
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                layers.append(Bottleneck(inputs, width * 2**stage, 2 if stage and not block else 1, act))
                inputs = 4 * width * 2**stage
        self.body, self.head = nn.Sequential(*layers), nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] to logits [B, classes]."""
        return self.head(self.body(x).mean(dim=(2, 3)))


class Attention(nn.Module):
    """Multi-head self-attention over tokens [B, n, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, n, width] to [B, n, width]."""
        b, n, width = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        z = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(z.transpose(1, 2).reshape(b, n, width))


class EncoderBlock(nn.Module):
    """LayerNorm and attention, LayerNorm and a two-layer network, each around a shortcut."""

    def __init__(self, width: int, heads: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), act(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, n, width] to [B, n, width]."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Small vision transformer with a class token (Dosovitskiy et al., 2021); 2.7 million weights by default."""

    def __init__(
        self,
        *,
        classes: int,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
        image: int = 32,
        patch: int = 4,
        activation: str = "gelu",
        channels: int = 3,
    ) -> None:
        super().__init__()
        act = _activation(activation)
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, (image // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads, act) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, image, image] to logits [B, classes]."""
        z = self.patches(x).flatten(2).transpose(1, 2)
        z = torch.cat([self.token.expand(len(z), -1, -1), z], dim=1) + self.position
        return self.head(self.norm(self.blocks(z))[:, 0])


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": resnet8,
    "preactresnet18": preactresnet18,
    "wideresnet28": wideresnet28,
    "wideresnet16": wideresnet16,
    "resnet50": ResNet50,
    "vit": ViT,
}
SMALL: dict[str, Callable[..., nn.Module]] = {  # for images of 8x8 pixels, or of any size but without convolutions
    "conv8": conv8,
    "linear": linear,
    "relu_without_bias": relu_without_bias,
}

"""Networks as users write them, of `torch.nn` alone, and the workloads E to R made of them.

`python -m benchmarks.speed own` measures them.  Batch norm keeps no running statistics, which would
mix tasks; apart from that nothing here knows of meta-learning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contest import Workload


def norm2d(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, track_running_stats=False)


def norm1d(channels: int) -> nn.Module:
    return nn.BatchNorm1d(channels, track_running_stats=False)


def conv4(channels: int, width: int, size: int, n_way: int = 5) -> nn.Module:
    """Four blocks of convolution, batch norm, ReLU and max-pooling: `[B, C, size, size]`."""
    layers: list[nn.Module] = []
    for inputs in (channels, width, width, width):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), norm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * (size // 16) ** 2, n_way))


class ResidualBlock(nn.Module):
    """A block of ResNet-12: three convolutions beside one of 1 x 1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = norm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = norm2d(outputs)
        self.conv3 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn3 = norm2d(outputs)
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), norm2d(outputs))
        self.relu, self.pool = nn.LeakyReLU(0.1), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.pool(self.relu(out + self.downsample(x)))


def resnet12(widths: tuple[int, ...] = (16, 32, 64, 128), n_way: int = 5) -> nn.Module:
    """Four residual blocks, average pooling: `[B, 3, H, W]`."""
    blocks = [ResidualBlock(a, b) for a, b in zip((3, *widths), widths, strict=False)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], n_way)]
    return nn.Sequential(*blocks, *head)


def mlp(n_way: int = 5) -> nn.Module:
    """784-256-64: `[B, 1, 28, 28]`."""
    hidden = [nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, n_way))


class Transformer(nn.Module):
    """Two layers of PyTorch's encoder: sequences `[B, 28, 28]`."""

    def __init__(self, width: int = 64, n_way: int = 5) -> None:
        super().__init__()
        self.embed = nn.Linear(28, width)
        self.position = nn.Parameter(0.02 * torch.randn(28, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, n_way)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x) + self.position).mean(dim=1))


class Recurrent(nn.Module):
    """A GRU, its last state classified: sequences `[B, 28, 28]`."""

    def __init__(self, width: int = 64, n_way: int = 5) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(28, width, batch_first=True), nn.Linear(width, n_way)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1])


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class ViTBlock(nn.Module):
    """A block of a vision transformer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """A vision transformer of four layers on patches of 7 x 7: `[B, 1, 28, 28]`."""

    def __init__(self, width: int = 64, n_way: int = 5) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 7, stride=7)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.blocks = nn.Sequential(*(ViTBlock(width, 4) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, n_way)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


def conv1d(width: int = 64, n_way: int = 5) -> nn.Module:
    """Three blocks over time, of three sensors: `[B, 3, 128]`."""
    layers: list[nn.Module] = []
    for inputs, kernel in ((3, 7), (width, 5), (width, 3)):
        layers += [nn.Conv1d(inputs, width, kernel, padding=kernel // 2), norm1d(width)]
        layers += [nn.ReLU(), nn.MaxPool1d(2)]
    head = [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, n_way)]
    return nn.Sequential(*layers, *head)


class DenseLayer(nn.Module):
    """Batch norm, ReLU, convolution; what comes out is put beside what came in."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm, self.relu = norm2d(inputs), nn.ReLU()
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.relu(self.norm(x)))], dim=1)


def densenet(growth: int = 16, n_way: int = 5) -> nn.Module:
    """Two dense blocks of three layers with a transition between them: `[B, 1, 28, 28]`."""
    width = 2 * growth
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False)]
    for block in range(2):
        for _ in range(3):
            layers += [DenseLayer(width, growth)]
            width += growth
        layers += [norm2d(width), nn.ReLU()]
        if block == 0:
            layers += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
            width //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_way))


def double_conv(inputs: int, outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), norm2d(outputs)]
        layers += [nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Two levels down and up, which sorts pixels: `[B, 1, 32, 32]` to `[B, 2, 32, 32]`."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down1, self.down2 = double_conv(1, width), double_conv(width, 2 * width)
        self.bottom, self.pool = double_conv(2 * width, 4 * width), nn.MaxPool2d(2)
        self.rise2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.up2 = double_conv(4 * width, 2 * width)
        self.rise1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.up1 = double_conv(2 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(self.pool(first))
        x = self.rise2(self.bottom(self.pool(second)))
        x = self.up2(torch.cat([second, x], dim=1))
        x = self.up1(torch.cat([first, self.rise1(x)], dim=1))
        return self.head(x)


def mobilenet(channels: int = 1, width: int = 32, n_way: int = 5) -> nn.Module:
    """Depthwise and 1 x 1 convolutions in turn, as in MobileNet: `[B, channels, H, W]`."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)]
    layers += [norm2d(width), nn.ReLU()]
    for outputs, stride in ((2 * width, 1), (2 * width, 2), (4 * width, 1), (4 * width, 1)):
        layers += [nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False)]
        layers += [norm2d(width), nn.ReLU()]
        layers += [nn.Conv2d(width, outputs, 1, bias=False), norm2d(outputs), nn.ReLU()]
        width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_way))


class Residual(nn.Module):
    """What comes in, and what layers make of it, ReLU behind the sum."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.layers(x))


def group_norms(width: int = 32, n_way: int = 5) -> nn.Module:
    """Two residual blocks with group norm instead of batch norm: `[B, 1, 28, 28]`."""

    def conv() -> list[nn.Module]:
        return [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(8, width)]

    first = [nn.Conv2d(1, width, 3, stride=2, padding=1), nn.GroupNorm(8, width), nn.ReLU()]
    blocks = [Residual(*conv(), nn.ReLU(), *conv()) for _ in range(2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_way)]
    return nn.Sequential(*first, *blocks, *head)


def temporal(channels: int = 3, width: int = 32, n_way: int = 5) -> nn.Module:
    """Residual blocks whose convolutions reach ever further: `[B, channels, length]`."""

    def conv(dilation: int) -> nn.Module:
        return nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)

    blocks = [Residual(conv(d), nn.ReLU(), conv(d), nn.ReLU()) for d in (1, 2, 4, 8)]
    head = [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, n_way)]
    return nn.Sequential(nn.Conv1d(channels, width, 1), *blocks, *head)


@dataclass(frozen=True)
class OwnWorkload(Workload):
    """A workload on a network as users write them.

    Args:
        pixels: the targets are classes of pixels, 0 and 1, instead of one class an example.
        attention: whether PyTorch's fused attention is in it, which has no second derivative.
        recurrent: whether recurrent layers are, of which cuDNN has no second derivative.
        orders: what is measured where nothing else is asked for.
    """

    pixels: bool = False
    attention: bool = False
    recurrent: bool = False
    orders: tuple[str, ...] = ("first", "second")

    def targets(self, x: Tensor, per_class: int) -> Tensor:
        return (x[:, :, 0] > 0.5).long() if self.pixels else super().targets(x, per_class)

    def smaller(self, tasks: int) -> OwnWorkload:
        """The same with no more than `tasks` tasks."""
        return replace(self, tasks=min(self.tasks, tasks))


GREY, SERIES = (1, 28, 28), (28, 28)
OWN = {
    "E": OwnWorkload(lambda: conv4(1, 64, 28), 8, 5, 1, 15, 5, 0.01, GREY),
    "F": OwnWorkload(
        lambda: conv4(3, 32, 84), 4, 5, 5, 15, 5, 0.01, (3, 84, 84), orders=("first",)
    ),
    "G": OwnWorkload(resnet12, 2, 5, 1, 5, 2, 0.01, (3, 84, 84)),
    "H": OwnWorkload(mlp, 16, 5, 1, 15, 5, 0.01, GREY),
    "I": OwnWorkload(Transformer, 8, 5, 1, 15, 3, 0.01, SERIES, attention=True),
    "J": OwnWorkload(Recurrent, 8, 5, 1, 15, 3, 0.01, SERIES, recurrent=True),
    "K": OwnWorkload(ViT, 8, 5, 1, 15, 3, 0.01, GREY, attention=True),
    "L": OwnWorkload(conv1d, 8, 5, 1, 15, 5, 0.01, (3, 128)),
    "M": OwnWorkload(densenet, 4, 5, 1, 15, 3, 0.01, GREY),
    "N": OwnWorkload(UNet, 4, 5, 1, 3, 3, 0.01, (1, 32, 32), pixels=True),
    "O": OwnWorkload(mobilenet, 8, 5, 1, 15, 3, 0.01, GREY),
    "P": OwnWorkload(lambda: conv4(1, 20, 28), 8, 5, 1, 15, 5, 0.01, GREY),
    "Q": OwnWorkload(group_norms, 8, 5, 1, 15, 3, 0.01, GREY),
    "R": OwnWorkload(temporal, 8, 5, 1, 15, 3, 0.01, (3, 128)),
}

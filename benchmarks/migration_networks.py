# SPDX-License-Identifier: Apache-2.0
"""Small convolutional and recurrent networks of the families that `migration_models.py` lists."""

import torch
from torch import Tensor, nn


def convolution(inputs: int, outputs: int, stride: int = 1, groups: int = 1, size: int = 3) -> nn.Sequential:
    """Convolution, batch norm, rectifier."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Residual(nn.Module):
    """A bottleneck as in ResNet-50."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            convolution(width, width // 4, size=1),
            convolution(width // 4, width // 4),
            convolution(width // 4, width, size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The input and what three convolutions add."""
        return nn.functional.relu(x + self.inner(x))


class UNet(nn.Module):
    """Down, up, and across."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.down = convolution(3, 16), nn.Sequential(nn.MaxPool2d(2), convolution(16, 32))
        self.up, self.end = (
            nn.ConvTranspose2d(32, 16, 2, stride=2),
            nn.Sequential(convolution(32, 16), nn.Conv2d(16, 2, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """A class for every pixel."""
        wide = self.start(x)
        return self.end(torch.cat([wide, self.up(self.down(wide))], 1))


class Mish(nn.Module):
    """Written out, as the PyTorch forms of YOLOv4 have it."""

    def forward(self, x: Tensor) -> Tensor:
        """The activation of x."""
        return x * torch.tanh(nn.functional.softplus(x))


class Detector(nn.Module):
    """Convolutions with Mish, pooled spatial pyramids and two scales, as in YOLOv4."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), Mish(), nn.Conv2d(16, 32, 3, 2, 1), nn.LeakyReLU(0.1)
        )
        self.pool = nn.ModuleList([nn.MaxPool2d(size, 1, size // 2) for size in (5, 9, 13)])
        self.mix, self.head = nn.Conv2d(128, 32, 1), nn.Conv2d(64, 18, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Boxes and scores on a grid."""
        deep = self.stem(x)
        deep = self.mix(torch.cat([deep, *(pool(deep) for pool in self.pool)], 1))
        large = nn.functional.interpolate(deep, scale_factor=2.0, mode="nearest")
        small = nn.functional.max_pool2d(large, 2)
        return self.head(torch.cat([deep, small], 1)).flatten(2).sigmoid()


class Mobile(nn.Module):
    """Inverted bottlenecks with depthwise convolutions and hard swish."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(3, 16, 2),
            nn.Conv2d(16, 64, 1),
            nn.Hardswish(),
            convolution(64, 64, 1, 64),
            nn.Conv2d(64, 16, 1),
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of ten classes."""
        return self.head(self.body(x).mean((2, 3)))


class Sequence(nn.Module):
    """A recurrent network over tokens."""

    def __init__(self, kind: type[nn.Module], *, both: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 16)
        self.inner = kind(16, 24, num_layers=2, batch_first=True, bidirectional=both)
        self.head = nn.Linear(48 if both else 24, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores from the last step."""
        return self.head(self.inner(self.table(tokens))[0][:, -1])


def vgg() -> nn.Module:
    """Plain convolutions, as in VGG-16."""
    return nn.Sequential(
        convolution(3, 16), convolution(16, 16), nn.MaxPool2d(2), convolution(16, 32), convolution(32, 32),
        nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(4),
        nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10),
    )  # fmt: skip


def bottlenecks() -> nn.Module:
    """A stem and bottlenecks, as in ResNet-50."""
    return nn.Sequential(
        convolution(3, 64, 2, size=7),
        nn.MaxPool2d(3, 2, 1),
        Residual(64),
        Residual(64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )

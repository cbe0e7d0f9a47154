# SPDX-License-Identifier: Apache-2.0
"""Random networks of inverted bottlenecks, fused ones and depthwise blocks, as graphs, for `chips_learned.py`.

The space: inputs of 64 to 160 pixels, a strided stem, three to five stages of one to three blocks whose kind, kernel,
expansion and width are drawn for each stage, then a 1x1 convolution, the mean and a linear layer: the block types of
MobileNet (Howard et al. 2017), MobileNetV2 (Sandler et al. 2018) and MobileDets (Xiong et al. 2021).
"""

import numpy as np

from sirdar.workload.graph import Graph, Operator, TensorSpec

SIZES = (64, 96, 128, 160)
WIDTHS = tuple(range(8, 129, 8))
MOST_PARAMETERS = 1_000_000  # what a microcontroller holds
KINDS = ("ibn", "fused", "depthwise")


def sample(rng: np.random.Generator) -> Graph:
    """One network that a microcontroller holds."""
    while True:
        graph = _any(rng)
        if graph.parameter_bytes("int8") <= MOST_PARAMETERS:
            return graph


def _any(rng: np.random.Generator) -> Graph:
    size = int(rng.choice(SIZES))
    builder = _Builder(size)
    width = int(rng.choice((8, 16, 24, 32)))
    x = builder.conv(builder.image, width, 3, stride=2)
    for stage in range(int(rng.integers(3, 6))):
        kind, kernel = str(rng.choice(KINDS)), int(rng.choice((3, 5)))
        expansion = int(rng.choice((2, 3, 4, 6)))
        width = int(rng.choice([w for w in WIDTHS if width <= w <= 3 * width + 8]))
        for block in range(int(rng.integers(1, 4))):
            stride = 2 if block == 0 and x.shape[2] > 4 and (stage < 3 or rng.random() < 0.5) else 1
            x = builder.block(kind, x, width, kernel, stride, expansion)
    x = builder.conv(x, int(rng.choice((128, 192, 256, 320))), 1)
    return builder.done(x)


class _Builder:
    """Operators in a row."""

    def __init__(self, size: int) -> None:
        self.image = TensorSpec((1, 3, size, size), "fp32", "image")
        self.operators: list[Operator] = []

    def conv(
        self, x: TensorSpec, out: int, kernel: int, *, stride: int = 1, groups: int = 1, rectified: bool = True
    ) -> TensorSpec:
        """A convolution, with ReLU6 behind it unless said otherwise."""
        place = len(self.operators)
        high, wide = (-(-side // stride) for side in x.shape[2:])
        y = TensorSpec((1, out, high, wide), "fp32", f"conv{place}")
        weight = TensorSpec((out, x.shape[1] // groups, kernel, kernel), "fp32", f"weight{place}")
        attributes = {
            "target": "aten.convolution.default",
            "kernel": [kernel] * 2,
            "stride": [stride] * 2,
            "padding": [kernel // 2] * 2,
            "dilation": [1, 1],
            "transposed": False,
            "groups": groups,
        }
        macs = y.elements * weight.elements // out
        self.operators.append(Operator(y.name, "conv", (x,), (y,), (weight,), macs=macs, attributes=attributes))
        return self._then("relu6", (y,), y) if rectified else y

    def block(self, kind: str, x: TensorSpec, out: int, kernel: int, stride: int, expansion: int) -> TensorSpec:
        """One block, with a shortcut where the shapes allow."""
        inner = x.shape[1] * expansion
        if kind == "ibn":
            y = self.conv(x, inner, 1)
            y = self.conv(y, inner, kernel, stride=stride, groups=inner)
        elif kind == "fused":
            y = self.conv(x, inner, 3, stride=stride)
        else:
            y = self.conv(x, x.shape[1], kernel, stride=stride, groups=x.shape[1])
        y = self.conv(y, out, 1, rectified=kind == "depthwise")
        return self._then("add", (x, y), y) if kind != "depthwise" and x.shape == y.shape else y

    def done(self, x: TensorSpec) -> Graph:
        """Mean, linear layer, and the whole."""
        mean = TensorSpec((*x.shape[:2], 1, 1), "fp32", "mean")
        self.operators.append(
            Operator("mean", "reduction", (x,), (mean,), flops=x.elements, attributes={"target": "aten.mean.dim"})
        )
        flat = TensorSpec(x.shape[:2], "fp32", "flat")
        self.operators.append(Operator("flat", "view", (mean,), (flat,), attributes={"target": "aten.view.default"}))
        scores, weight = TensorSpec((1, 10), "fp32", "scores"), TensorSpec((10, x.shape[1]), "fp32", "weight")
        self.operators.append(Operator("linear", "matmul", (flat,), (scores,), (weight,), macs=10 * x.shape[1]))
        return Graph(tuple(self.operators), (self.image,), ("scores",))

    def _then(self, name: str, inputs: tuple[TensorSpec, ...], like: TensorSpec) -> TensorSpec:
        made = TensorSpec(like.shape, "fp32", f"{name}{len(self.operators)}")
        attributes = {"target": f"aten.{name}.default"}
        self.operators.append(
            Operator(made.name, "elementwise", inputs, (made,), flops=made.elements, attributes=attributes)
        )
        return made

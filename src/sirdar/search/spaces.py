# SPDX-License-Identifier: Apache-2.0
"""Ready-made spaces: plain data that say what can be chosen. How a network is built from it is the task's business.

Names tell position: "stage2.kind", "stage2.channels", ... Block kinds are those of MobileDets (Xiong et al. 2021,
arXiv:2004.14525): "ibn", an inverted bottleneck (1x1 expansion, depthwise, 1x1 projection); "fused", in which one full
convolution expands; "depthwise", a depthwise and a 1x1 convolution; "standard", one full convolution.
"""

from collections.abc import Sequence

from sirdar.errors import ArgumentError
from sirdar.search.space import Choice, SearchSpace, Value

KINDS = ("ibn", "fused", "depthwise", "standard")
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def stages(
    name: str,
    channels: Sequence[Sequence[int]],
    *,
    depths: Sequence[int] = (1, 2, 3),
    kinds: Sequence[str] = KINDS,
    kernels: Sequence[int] = (3, 5),
    expansions: Sequence[int] = (2, 4, 6),
    extra: Sequence[Choice] = (),
) -> SearchSpace:
    """A backbone of stages, each with a width, a depth, and a kind of block with its kernel and expansion.

    Args:
        name: of the space.
        channels: what each stage may be wide, rising.
        depths: blocks of a stage.
        kinds: of blocks, of `KINDS`; the expansion matters for "ibn" and "fused" alone.
        kernels: sizes of the spatial convolution.
        expansions: of the channels within a block.
        extra: choices before the stages, such as the resolution.

    Raises:
        ArgumentError: a kind is unknown, or options are missing.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        msg = f"block kind {unknown[0]!r} is not known; known are {', '.join(KINDS)}"
        raise ArgumentError(msg)
    expanding = tuple(kind for kind in kinds if kind in ("ibn", "fused"))
    choices = list(extra)
    for number, widths in enumerate(channels, start=1):
        stage = f"stage{number}"
        choices += [
            Choice(f"{stage}.channels", tuple(widths)),
            Choice(f"{stage}.depth", tuple(depths)),
            Choice(f"{stage}.kind", tuple(kinds)),
            Choice(f"{stage}.kernel", tuple(kernels)),
        ]
        if expanding:
            choices.append(Choice(f"{stage}.expansion", tuple(expansions), f"{stage}.kind", expanding))
    return SearchSpace(name, tuple(choices))


def classifier(
    channels: Sequence[Sequence[int]] = ((16, 24, 32), (24, 32, 48), (48, 64, 96), (64, 96, 128)),
    *,
    multipliers: Sequence[float] = (0.5, 0.75, 1.0),
    resolutions: Sequence[int] = (24, 28, 32),
    kinds: Sequence[str] = KINDS,
) -> SearchSpace:
    """Classifiers of small images: input resolution, a multiplier of all channels, and four stages."""
    return stages("classifier", channels, kinds=kinds, extra=_image(resolutions, multipliers))


def detector(
    channels: Sequence[Sequence[int]] = ((16, 24, 32), (24, 32, 48), (32, 64, 96), (64, 96, 128)),
    *,
    multipliers: Sequence[float] = (0.5, 0.75, 1.0),
    resolutions: Sequence[int] = (192, 256, 320),
    kinds: Sequence[str] = KINDS,
) -> SearchSpace:
    """Single-shot detectors: input resolution, multiplier, four stages, and the width of the head."""
    head = Choice("head.channels", (32, 48, 64, 96))
    return stages("detector", channels, kinds=kinds, extra=(*_image(resolutions, multipliers), head))


def segmenter(
    channels: Sequence[Sequence[int]] = ((16, 24, 32), (24, 32, 48), (32, 64, 96), (64, 96, 128)),
    *,
    multipliers: Sequence[float] = (0.5, 0.75, 1.0),
    resolutions: Sequence[int] = (120, 180, 240),
    output_strides: Sequence[int] = (4, 8),
    kinds: Sequence[str] = KINDS,
) -> SearchSpace:
    """Segmenters: input resolution, resolution of the answer, multiplier, four stages, and the width of the decoder."""
    rest = (Choice("output.stride", tuple(output_strides)), Choice("head.channels", (16, 32, 48, 64)))
    return stages("segmenter", channels, kinds=kinds, extra=(*_image(resolutions, multipliers), *rest))


def edge_name(source: int, target: int) -> str:
    """The choice that an edge is: "edge 0-1"."""
    return f"edge {source}-{target}"


def nasbench201() -> SearchSpace:
    """The 15,625 cells of NAS-Bench-201 (Dong and Yang 2020): one of five operations on each of six edges."""
    return SearchSpace("nasbench201", tuple(Choice(edge_name(*edge), OPERATIONS) for edge in EDGES))


def mqcnn(
    widths: Sequence[int] = (8, 12, 16, 20, 24, 28, 32, 40, 48, 64),
    *,
    depths: Sequence[int] = (2, 3, 4, 5, 6),
    decoders: Sequence[int] = (8, 12, 16, 20, 24, 28, 32, 40, 48, 64),
) -> SearchSpace:
    """MQ-CNN: width and depth of the encoder, and width of the decoder."""
    return SearchSpace(
        "mq-cnn",
        (
            Choice("encoder.width", tuple(widths)),
            Choice("encoder.depth", tuple(depths)),
            Choice("decoder.width", tuple(decoders)),
        ),
    )


def mqtransformer(
    widths: Sequence[int] = (8, 16, 24, 32, 48, 64),
    *,
    depths: Sequence[int] = (2, 3, 4, 5, 6),
    heads: Sequence[int] = (1, 2, 4),
    memories: Sequence[int] = (0, 2, 4),
) -> SearchSpace:
    """MQTransformer: as MQ-CNN, and the heads of its attention and how many earlier origins are seen again."""
    rest = (Choice("attention.heads", tuple(heads)), Choice("attention.memory", tuple(memories)))
    return SearchSpace("mq-transformer", (*mqcnn(widths, depths=depths, decoders=widths).choices, *rest))


def _image(resolutions: Sequence[int], multipliers: Sequence[Value]) -> tuple[Choice, ...]:
    return (
        Choice("input.resolution", tuple(resolutions)),
        Choice("multiplier", tuple(multipliers)),
    )

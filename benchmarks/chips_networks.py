# SPDX-License-Identifier: Apache-2.0
"""Well-known networks as closed-form operator graphs, for benchmarks that need dozens of them in a second.

Shapes come from the published configurations. Operators are at the level that `sirdar.trace` gives; `chips_advise.py`
checks the counts of BERT and ResNet-50 against it.
"""

import math
from dataclasses import dataclass, field

from sirdar.workload.graph import Graph, Operator, TensorSpec


@dataclass
class Net:
    """Collects operators; every method returns the tensor it makes."""

    name: str
    dtype: str = "fp32"
    weights_in: str = "fp32"
    operators: list[Operator] = field(default_factory=list)
    inputs: list[TensorSpec] = field(default_factory=list)
    shared: dict[str, TensorSpec] = field(default_factory=dict)

    def given(self, *shape: int) -> TensorSpec:
        """An input of the network."""
        spec = TensorSpec(shape, self.dtype, f"input_{len(self.inputs)}")
        self.inputs.append(spec)
        return spec

    def graph(self, out: TensorSpec) -> Graph:
        """The whole network."""
        return Graph(tuple(self.operators), tuple(self.inputs), (out.name,), self.name)

    def linear(self, x: TensorSpec, out: int, *, weight: str = "", bias: bool = True) -> TensorSpec:
        """A dense layer over the last axis; the same `weight` name is the same memory."""
        rows, depth = math.prod(x.shape[:-1]), x.shape[-1]
        attributes = {"batch": 1, "rows": rows, "columns": out, "depth": depth}
        return self.made(
            "matmul",
            (x,),
            (*x.shape[:-1], out),
            (self._weight((out, depth), weight),),
            macs=rows * depth * out,
            flops=rows * out * bias,
            attributes=attributes,
        )

    def conv(self, x: TensorSpec, out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> TensorSpec:
        """A convolution with padding that keeps positions at stride 1."""
        size = tuple(math.ceil(n / stride) for n in x.shape[2:])
        taps = kernel ** len(size) * x.shape[1] // groups
        shape = (x.shape[0], out, *size)
        weight = self._weight((out, x.shape[1] // groups, *(kernel,) * len(size)))
        macs = math.prod(shape) * taps
        return self.made("conv", (x,), shape, (weight,), macs=macs, attributes={"groups": groups})

    def attention(self, query: TensorSpec, key: TensorSpec, heads: int) -> TensorSpec:
        """Scaled dot products of [batch, time, width], cut into heads."""
        batch, times, width = query.shape
        keys = key.shape[1]
        cut = [self.shaped(x, batch, heads, x.shape[1], width // heads) for x in (query, key)]
        macs, flops = 2 * batch * times * keys * width, 5 * batch * heads * times * keys
        mixed = self.made("attention", tuple(cut), (batch, heads, times, width // heads), macs=macs, flops=flops)
        return self.shaped(mixed, batch, times, width)

    def each(self, *x: TensorSpec, flops: int = 1) -> TensorSpec:
        """Something elementwise: a sum, an activation."""
        return self.made("elementwise", x, x[0].shape, flops=flops * x[0].elements)

    def norm(self, x: TensorSpec, flops: int = 7) -> TensorSpec:
        """Layer norm; 2 operations a value for batch norm with stored statistics."""
        return self.made(
            "norm",
            (x,),
            x.shape,
            (self._weight((x.shape[-1] if flops == 7 else x.shape[1],)),),
            flops=flops * x.elements,
        )

    def pool(self, x: TensorSpec, stride: int, window: int = 0) -> TensorSpec:
        """Pooling over windows."""
        size = tuple(math.ceil(n / stride) for n in x.shape[2:])
        shape = (*x.shape[:2], *size)
        return self.made("pool", (x,), shape, flops=math.prod(shape) * (window or stride) ** len(size))

    def concat(self, *x: TensorSpec) -> TensorSpec:
        """Along the channels."""
        first = x[0].shape
        return self.made("concat", x, (first[0], sum(part.shape[1] for part in x), *first[2:]))

    def grow(self, x: TensorSpec, factor: int = 2) -> TensorSpec:
        """Nearest-neighbour upsampling."""
        return self.made("gather", (x,), (*x.shape[:2], *(n * factor for n in x.shape[2:])))

    def shaped(self, x: TensorSpec, *shape: int) -> TensorSpec:
        """The same values in another shape."""
        return self.made("view", (x,), shape)

    def _weight(self, shape: tuple[int, ...], name: str = "") -> TensorSpec:
        spec = TensorSpec(
            shape, self.weights_in if len(shape) > 1 else self.dtype, name or f"weight_{len(self.shared)}"
        )
        return self.shared.setdefault(spec.name, spec)

    def made(
        self,
        kind: str,
        inputs: tuple[TensorSpec, ...],
        shape: tuple[int, ...],
        weights: tuple[TensorSpec, ...] = (),
        *,
        macs: int = 0,
        flops: int = 0,
        attributes: dict[str, int] | None = None,
    ) -> TensorSpec:
        """One operator of any kind."""
        out = TensorSpec(tuple(shape), self.dtype, f"{kind}_{len(self.operators)}")
        read = tuple(dict.fromkeys(inputs))
        row = Operator(f"op_{len(self.operators)}", kind, read, (out,), weights, macs, flops, attributes or {})
        self.operators.append(row)
        return out


def encoder_layer(net: Net, x: TensorSpec, heads: int, inner: int, *, tied: str = "") -> TensorSpec:
    """Attention and feed-forward with residuals, as in BERT and ViT."""
    width = x.shape[-1]
    name = [f"{tied}.{part}" if tied else "" for part in ("q", "k", "v", "o", "up", "down")]
    q, k, _ = (net.linear(x, width, weight=name[part]) for part in range(3))
    mixed = net.linear(net.attention(q, k, heads), width, weight=name[3])
    x = net.norm(net.each(x, mixed))
    hidden = net.each(net.linear(x, inner, weight=name[4]), flops=8)
    return net.norm(net.each(x, net.linear(hidden, width, weight=name[5])))


def encoder(
    layers: int, width: int, batch: int, tokens: int, *, heads: int = 0, tied: bool = False, vocabulary: int = 0
) -> Graph:
    """BERT, its relatives and ViT, from the embedded tokens on."""
    net = Net("encoder")
    x = net.norm(net.given(batch, tokens, width))
    for _ in range(layers):
        x = encoder_layer(net, x, heads or width // 64, 4 * width, tied="layer" if tied else "")
    return net.graph(net.linear(x, vocabulary) if vocabulary else x)


def resnet(blocks: tuple[int, ...], batch: int, *, wide: bool, size: int = 224) -> Graph:
    """ResNet: two 3x3 convolutions a block, or (`wide`) a bottleneck of 1x1, 3x3 and 1x1."""
    net = Net("resnet")
    x = net.pool(_cnr(net, net.given(batch, 3, size, size), 64, 7, 2), 2, 3)
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            shapes = (
                ((width, 1, 1), (width, 3, stride), (4 * width, 1, 1)) if wide else ((width, 3, stride), (width, 3, 1))
            )
            y = x
            for place, (out, kernel, step) in enumerate(shapes):
                y = net.norm(net.conv(y, out, kernel, step), flops=2)
                y = net.each(y) if place < len(shapes) - 1 else y
            if not block and (stage or wide):
                x = net.norm(net.conv(x, shapes[-1][0], 1, stride), flops=2)
            x = net.each(net.each(x, y))
    return net.graph(net.linear(net.shaped(net.pool(x, x.shape[2]), batch, x.shape[1]), 1000))


def _cnr(net: Net, x: TensorSpec, out: int, kernel: int = 3, stride: int = 1) -> TensorSpec:
    """Convolution, norm, rectifier."""
    return net.each(net.norm(net.conv(x, out, kernel, stride), flops=2))


def vgg(plan: tuple[int, ...], batch: int) -> Graph:
    """VGG: convolutions by width, 0 for a pool; three dense layers."""
    net = Net("vgg")
    x = net.given(batch, 3, 224, 224)
    for width in plan:
        x = net.each(net.conv(x, width)) if width else net.pool(x, 2)
    x = net.shaped(x, batch, 512 * 49)
    for width in (4096, 4096):
        x = net.each(net.linear(x, width))
    return net.graph(net.linear(x, 1000))


def unet(batch: int, size: int = 224) -> Graph:
    """The U-Net of Ronneberger et al. with 64 to 1024 channels, upsampled by interpolation."""
    net = Net("unet")
    x = net.given(batch, 3, size, size)
    kept: list[TensorSpec] = []
    for stage in range(5):
        x = net.pool(x, 2) if stage else x
        for _ in range(2):
            x = _cnr(net, x, 64 * 2**stage)
        kept.append(x)
    for stage in range(3, -1, -1):
        x = net.conv(net.grow(x), 64 * 2**stage, 2)
        x = net.concat(kept[stage], x)
        for _ in range(2):
            x = _cnr(net, x, 64 * 2**stage)
    return net.graph(net.conv(x, 2, 1))


def clip(batch: int, width: int, layers: int, patch: int, text_width: int, text: int = 77) -> Graph:
    """CLIP: the picture's tower and, for every picture, the text's."""
    net = Net("clip")
    x = net.norm(net.given(batch, (224 // patch) ** 2 + 1, width))
    y = net.given(batch, text, text_width)
    for _ in range(layers):
        x = encoder_layer(net, x, width // 64, 4 * width)
    for _ in range(12):
        y = encoder_layer(net, y, text_width // 64, 4 * text_width)
    return net.graph(net.concat(net.shaped(x, 1, x.elements), net.shaped(y, 1, y.elements)))


def decoder(  # noqa: PLR0913 - the published configuration
    layers: int,
    width: int,
    heads: int,
    kv_heads: int,
    inner: int,
    vocabulary: int,
    *,
    batch: int,
    cores: int,
    context: int,
    stored: str = "fp32",
    tokens: int = 1,
    gated: bool = True,
    cross: int = 0,
) -> Graph:
    """One core's share of one step of a language model: heads, inner width and vocabulary are cut over the cores."""
    net = Net("decoder", weights_in=stored)
    x = net.given(batch, tokens, width)
    size = width // heads
    mine, kv = max(1, math.ceil(heads / cores)), max(1, math.ceil(kv_heads / cores))
    for _ in range(layers):
        h = net.norm(x)
        q = net.linear(h, mine * size, bias=False)
        net.linear(h, 2 * kv * size, bias=False)
        for length in (context, cross) if cross else (context,):
            cache = net.given(batch, length, kv, 2 * size)
            x = net.each(x, net.linear(_cached(net, q, cache, mine, size), width, bias=False))
        h = net.norm(x)
        up = net.linear(h, math.ceil(inner / cores) * (2 if gated else 1), bias=False)
        x = net.each(x, net.linear(_half(net, up) if gated else net.each(up, flops=8), width, bias=False))
    return net.graph(net.linear(net.norm(x), math.ceil(vocabulary / cores), bias=False))


def _half(net: Net, x: TensorSpec) -> TensorSpec:
    """The product of one half with the activation of the other."""
    return net.made("elementwise", (x,), (*x.shape[:-1], x.shape[-1] // 2), flops=5 * x.elements)


def _cached(net: Net, query: TensorSpec, cache: TensorSpec, heads: int, size: int) -> TensorSpec:
    """Attention of new tokens to a cache of keys and values."""
    batch, tokens, _ = query.shape
    context = cache.shape[1]
    attributes = {"batch": batch * heads * 2, "rows": tokens, "columns": context, "depth": size}
    return net.made(
        "matmul",
        (query, cache),
        (batch, tokens, heads * size),
        macs=2 * batch * tokens * heads * size * context,
        flops=5 * batch * heads * tokens * context,
        attributes=attributes,
    )


def diffusion_unet(
    batch: int, latent: int, widths: tuple[int, ...], depths: tuple[int, ...], middle: int, text: int, channels: int = 4
) -> Graph:
    """One step of the U-Net of Stable Diffusion: residual blocks and, at some levels, transformers over positions."""
    net = Net("diffusion")
    x = net.conv(net.given(batch, channels, latent, latent), widths[0])
    words = net.given(batch, 77, text)
    kept = [x]
    for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for _ in range(2):
            x = _spatial(net, _residual(net, x, width), words, depth)
            kept.append(x)
        if level < len(widths) - 1:
            x = net.conv(x, width, 3, 2)
            kept.append(x)
    x = _residual(net, _spatial(net, _residual(net, x, widths[-1]), words, middle), widths[-1])
    for level in range(len(widths) - 1, -1, -1):
        for _ in range(3):
            x = _spatial(net, _residual(net, net.concat(x, kept.pop()), widths[level]), words, depths[level])
        if level:
            x = net.conv(net.grow(x), widths[level])
    return net.graph(net.conv(net.each(net.norm(x, 9), flops=4), 4))


def _residual(net: Net, x: TensorSpec, width: int) -> TensorSpec:
    y = net.conv(net.each(net.norm(x, 9), flops=4), width)
    y = net.conv(net.each(net.norm(y, 9), flops=4), width)
    return net.each(net.conv(x, width, 1) if x.shape[1] != width else x, y)


def _spatial(net: Net, x: TensorSpec, words: TensorSpec, depth: int) -> TensorSpec:
    """Transformer blocks over positions, with attention to the words."""
    if not depth:
        return x
    batch, width, *size = x.shape
    y = net.shaped(net.norm(x, 9), batch, math.prod(size), width)
    y = net.linear(y, width)
    for _ in range(depth):
        for source in (None, words):
            h = net.norm(y)
            q, k, _ = net.linear(h, width), net.linear(source or h, width), net.linear(source or h, width)
            y = net.each(y, net.linear(net.attention(q, k, width // 64), width))
        up = net.linear(net.norm(y), 8 * width)
        y = net.each(y, net.linear(_half(net, up), width))
    return net.each(x, net.shaped(net.linear(y, width), *x.shape))


def image_decoder(batch: int, latent: int) -> Graph:
    """The decoder of Stable Diffusion's autoencoder, from latents to pixels."""
    net = Net("image-decoder")
    x = net.conv(net.given(batch, 4, latent, latent), 512)
    x = _residual(net, x, 512)
    q, k, _ = (net.linear(net.shaped(x, batch, latent**2, 512), 512) for _ in range(3))
    x = net.each(x, net.shaped(net.linear(net.attention(q, k, 1), 512), *x.shape))
    for level, width in enumerate((512, 512, 256, 128)):
        for _ in range(3):
            x = _residual(net, x, width)
        if level < 3:
            x = net.conv(net.grow(x), width)
    return net.graph(net.conv(x, 3))


def pixart(batch: int, tokens: int, words: int = 120) -> Graph:
    """One step of PixArt's transformer: 28 layers of width 1152 with attention to the words."""
    net = Net("pixart")
    x = net.linear(net.given(batch, tokens, 16), 1152)
    text = net.given(batch, words, 1152)
    for _ in range(28):
        for source in (None, text):
            h = net.each(net.norm(x), flops=2)
            q, k, _ = net.linear(h, 1152), net.linear(source or h, 1152), net.linear(source or h, 1152)
            x = net.each(x, net.linear(net.attention(q, k, 16), 1152))
        x = net.each(x, net.linear(net.each(net.linear(net.each(net.norm(x), flops=2), 4608), flops=8), 1152))
    return net.graph(net.linear(x, 32))


def perceiver(
    batch: int, inputs: int, width: int, latents: int, size: int, layers: int, *, queries: int = 1, query_width: int = 0
) -> Graph:
    """Perceiver IO: latents look at all inputs once, then at each other; queries look at the latents."""
    net = Net("perceiver")
    x, data = net.given(batch, latents, size), net.given(batch, inputs, width)
    h, d = net.norm(x), net.norm(data)
    q, k, _ = net.linear(h, width), net.linear(d, width), net.linear(d, width)
    x = _fed(net, net.each(x, net.linear(net.attention(q, k, 1), size)))
    for layer in range(layers):
        tied = f"layer_{layer % 6}"
        h = net.norm(x)
        q, k, _ = (net.linear(h, size, weight=f"{tied}.{part}") for part in "qkv")
        x = _fed(net, net.each(x, net.linear(net.attention(q, k, 8), size, weight=f"{tied}.o")), tied)
    asked = net.given(batch, queries, query_width or size)
    q, k, _ = net.linear(asked, size), net.linear(x, size), net.linear(x, size)
    return net.graph(net.linear(net.attention(q, k, 1), query_width or 1000))


def _fed(net: Net, x: TensorSpec, tied: str = "") -> TensorSpec:
    """A feed-forward part that does not widen."""
    width, name = x.shape[-1], [f"{tied}.{part}" if tied else "" for part in ("up", "down")]
    hidden = net.each(net.linear(net.norm(x), width, weight=name[0]), flops=8)
    return net.each(x, net.linear(hidden, width, weight=name[1]))


def yolo(batch: int, size: int = 608) -> Graph:
    """YOLO v4: residual stages at five scales and a head that mixes three of them."""
    net = Net("yolo")
    x = _cnr(net, net.given(batch, 3, size, size), 32)
    kept: list[TensorSpec] = []
    for width, count in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        x = _cnr(net, x, width, 3, 2)
        side, x = _cnr(net, x, width // 2, 1), _cnr(net, x, width // 2, 1)
        for _ in range(count):
            x = net.each(x, _cnr(net, _cnr(net, x, width // 2, 1), width // 2))
        x = _cnr(net, net.concat(side, _cnr(net, x, width // 2, 1)), width, 1)
        kept.append(x)
    heads: list[TensorSpec] = []
    for level, width in ((4, 512), (3, 256), (2, 128), (3, 256), (4, 512)):
        side = _cnr(net, kept[level], width, 1)
        if heads and heads[-1].shape[2] < side.shape[2]:
            side = net.concat(side, net.grow(_cnr(net, heads[-1], width, 1)))
        for _ in range(2):
            side = _cnr(net, _cnr(net, side, width, 1), 2 * width)
        heads.append(_cnr(net, side, width, 1))
    return net.graph(
        net.concat(*(net.shaped(net.conv(head, 255, 1), batch, 255 * head.shape[2] ** 2) for head in heads[2:]))
    )


def openpose(batch: int, height: int = 368, width: int = 656) -> Graph:
    """OpenPose: the first ten convolutions of VGG-19, then six stages of two branches."""
    net = Net("openpose")
    x = net.given(batch, 3, height, width)
    for out in (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 256, 128):
        x = net.each(net.conv(x, out)) if out else net.pool(x, 2)
    features, y = x, x
    for stage in range(6):
        branches: list[TensorSpec] = []
        for out in (38, 19):
            z = y
            for _ in range(5 if stage else 3):
                z = net.each(net.conv(z, 128, 7 if stage else 3))
            branches.append(net.conv(net.each(net.conv(z, 128 if stage else 512, 1)), out, 1))
        y = net.concat(features, *branches)
    return net.graph(y)

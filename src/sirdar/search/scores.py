# SPDX-License-Identifier: Apache-2.0
"""Scores of a network that was never trained, each as published: larger is meant to be better.

They see an untrained network and a batch of inputs, and no label. `observe` runs the network forward and backward once
and keeps what the scores need, so that many scores cost little more than one.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sirdar.errors import ArgumentError

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU)
_CALLED = ("relu", "gelu", "silu", "hardswish", "leaky_relu")  # what the same are called as functions, beside ReLU6
_MOST_UNITS = 4096  # of a layer's activations that are looked at


@dataclass(frozen=True)
class Observation:
    """What one pass over an untrained network shows.

    Args:
        parameters: number of them.
        macs: multiply-accumulates of convolutions, matrix products, attention and recurrent layers for one input.
        blocks: features [sample, channel] and Jacobian gain of each block, in order of the network.
        codes: [batch, unit] signs before each rectifier or what resembles one, at most 4096 units of a layer; none
            before activations of another kind, such as tanh.
        maps: smallest eigenvalue of the correlation of each layer's channels.
        gradients: per layer, mean magnitude over spread of its weights' gradients over parts of the batch.
    """

    parameters: int
    macs: int
    blocks: tuple[tuple[float, float], ...]
    codes: Tensor
    maps: tuple[float, ...]
    gradients: tuple[float, ...]


def parameters(seen: Observation) -> float:
    """The logarithm of the number of parameters: the baseline that other scores must beat."""
    return math.log1p(seen.parameters)


def operations(seen: Observation) -> float:
    """The logarithm of the multiply-accumulates."""
    return math.log1p(seen.macs)


def regions(seen: Observation) -> float:
    """NASWOT: how differently the samples of a batch switch the rectifiers (Mellor et al. 2021, arXiv:2006.04647)."""
    if not seen.codes.shape[1]:
        return -math.inf
    code = seen.codes.double()
    kernel = code @ code.T + (1 - code) @ (1 - code).T
    return float(torch.linalg.slogdet(kernel)[1])


def patterns(seen: Observation) -> float:
    """SWAP: distinct patterns that units make over the samples (Peng et al. 2024, arXiv:2403.04161)."""
    if not seen.codes.shape[1]:
        return 0.0
    weights = 2.0 ** torch.arange(min(seen.codes.shape[0], 52), dtype=torch.float64)
    words = weights @ seen.codes[:52].double()
    return float(torch.unique(words).numel())


def correlation(seen: Observation) -> float:
    """MeCo: smallest eigenvalue of the correlation of feature maps, over layers (Jiang et al. 2023, NeurIPS)."""
    return float(sum(seen.maps))


def gradients(seen: Observation) -> float:
    """ZiCo without labels: steady gradients train fast (Li et al. 2023, arXiv:2301.11300), per layer.

    A batch of one has no parts to compare: minus infinity.
    """
    if len(seen.codes) < 2:
        return -math.inf
    return float(sum(math.log(value) for value in seen.gradients if value > 0))


def expressivity(seen: Observation) -> float:
    """Entropy of the principal components of each block's features (Lee and Ham 2024, arXiv:2403.19232)."""
    return float(sum(entropy for entropy, _ in seen.blocks))


def progressivity(seen: Observation) -> float:
    """The least rise of that entropy from block to block (Lee and Ham 2024)."""
    entropies = [entropy for entropy, _ in seen.blocks]
    return min((b - a for a, b in pairwise(entropies)), default=-math.inf)


def trainability(seen: Observation) -> float:
    """How close the gain of each block's Jacobian is to one (Lee and Ham 2024)."""
    gains = [gain for _, gain in seen.blocks[1:]]
    return float(sum(2 - gain - 1 / gain if gain > 0 else -math.inf for gain in gains)) / max(len(gains), 1)


Score = Callable[[Observation], float]
SCORES: Mapping[str, Score] = {
    score.__name__: score
    for score in (
        parameters,
        operations,
        regions,
        patterns,
        correlation,
        gradients,
        expressivity,
        progressivity,
        trainability,
    )
}


def observe(network: nn.Module, inputs: Tensor, seed: int) -> Observation:
    """Runs an untrained network once forward, and backward through it and through each of its blocks.

    Args:
        network: with fresh random weights and one output or a tuple of them; it is seen block by block along the
            attribute `blocks` that it or a child has, without one along its direct children.
        inputs: a batch; random values will do.
        seed: of the random directions in which Jacobians are probed.

    Raises:
        ArgumentError: there are no inputs, or something else than tensors comes out.
    """
    if not len(inputs):
        msg = "zero-shot scores need a batch of inputs, got none"
        raise ArgumentError(msg)
    with _restored(network):
        return _observed(network, inputs, seed)


@contextmanager
def _restored(network: nn.Module) -> Iterator[None]:
    """Modes and buffers, such as the statistics of batch norms, are afterwards as they were."""
    modes = {part: part.training for part in network.modules()}
    held = [(part, *pair, pair[1].clone()) for part in modes for pair in part.named_buffers(recurse=False)]
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
        with torch.no_grad():
            for part, name, buffer, before in held:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
                setattr(part, name, buffer)  # another tensor may have taken its place


def _observed(network: nn.Module, inputs: Tensor, seed: int) -> Observation:
    network.train()
    owned = (getattr(part, "blocks", None) for part in (network, *network.children()))
    parts = next((blocks for blocks in owned if isinstance(blocks, nn.Module)), network)
    blocks = list(parts.children())
    watch = _Watch(blocks, len(inputs))
    hooks = [module.register_forward_hook(watch.layer) for module in network.modules() if isinstance(module, _LAYERS)]
    for module in (part for part in network.modules() if isinstance(part, _ACTIVATIONS)):
        hooks += [module.register_forward_pre_hook(watch.activation), module.register_forward_hook(watch.activated)]
    hooks += [block.register_forward_pre_hook(watch.entry) for block in blocks]
    hooks += [block.register_forward_hook(watch.block) for block in blocks]
    counter = FlopCounterMode(display=False, custom_mapping=_formulas(watch))
    try:
        with counter:
            found = network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    outputs = _joined(found)
    finite = bool(outputs.isfinite().all())
    generator = torch.Generator().manual_seed(seed)
    return Observation(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=counter.get_total_flops() // 2 // len(inputs),
        blocks=tuple((_entropy(made), _gain(taken, made, generator)) for taken, made in watch.blocks)
        if finite
        else ((math.nan, math.nan),) * 2,
        codes=torch.cat(watch.codes, dim=1) if watch.codes else torch.zeros(len(inputs), 0),
        maps=tuple(map(_least_correlation, watch.features)),
        gradients=_steadiness(network, outputs, generator),
    )


class _Watch:
    """Collects from the hooks of one forward pass."""

    def __init__(self, blocks: list[nn.Module], batch: int) -> None:
        self.known = set(map(id, blocks))
        self.batch, self.within = batch, 0  # activation modules under way
        self.blocks: list[tuple[Tensor, Tensor]] = []
        self.codes: list[Tensor] = []
        self.features: list[Tensor] = []
        self.taken: dict[nn.Module, Tensor] = {}

    def layer(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        if isinstance(output, Tensor):  # a copy, looked at later: what comes next may write into it
            self.features.append((output[:1] if output.dim() > 2 else output).detach().clone())

    def activation(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.within += 1
        self._code(inputs[0])

    def activated(self, *_called: object) -> None:
        self.within -= 1

    def called(self, *_inputs: Any, out_val: Tensor, **_named: Any) -> int:  # noqa: ANN401
        """An activation that the network calls as a function; its sign is that of its input. It counts no work."""
        if not self.within and out_val.dim() > 1 and len(out_val) == self.batch:
            self._code(out_val)
        return 0

    def _code(self, values: Tensor) -> None:
        code = (values.detach() > 0).flatten(1)
        if code.shape[1] > _MOST_UNITS:
            code = code[:, :: math.ceil(code.shape[1] / _MOST_UNITS)]
        self.codes.append(code.cpu())

    def entry(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not inputs or not isinstance(inputs[0], Tensor):
            return None
        self.taken[module] = inputs[0]  # the block gets a copy, into which it may write
        return inputs[0].clone(), *inputs[1:]

    def block(self, module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        taken = self.taken.pop(module, None)
        if taken is not None and isinstance(output, Tensor) and output.dim() > 1:
            self.blocks.append((taken, output))


def _formulas(watch: _Watch) -> dict[Any, Callable[..., int]]:
    """What the counter lacks, by operator: attention and LSTM as the CPU runs them; `watch` is shown activations."""

    def called(*inputs: Any, **named: Any) -> int:  # noqa: ANN401
        return watch.called(*inputs, **named)

    def clamped(inputs: Tensor, least: float | int = -1, *rest: Any, **named: Any) -> int:  # noqa: ANN401
        return watch.called(inputs, least, *rest, **named) if least == 0 else 0  # of ReLU6, and not of a hard tanh

    aten = torch.ops.aten
    seen = {getattr(aten, name + end): called for name in _CALLED for end in ("", "_")}
    seen |= {aten.hardtanh: clamped, aten.hardtanh_: clamped}
    for formula in (called, clamped):  # with the counter's own mark, they get tensors and not their shapes
        formula._get_raw = True  # pyright: ignore[reportFunctionMemberAccess] - that is how torch reads it
    return {**seen, aten._scaled_dot_product_flash_attention_for_cpu: _attention, aten.mkldnn_rnn_layer: _recurrence}


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **_named: object) -> int:
    """Floating-point operations of both products, of shapes [batch, head, token, width]."""
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrence(inputs: Sequence[int], enter: Sequence[int], again: Sequence[int], *_: object, **_named: object) -> int:
    """Floating-point operations of one layer in one direction: inputs [step, batch, width], weights [unit, width]."""
    return 2 * math.prod(inputs[:-1]) * (math.prod(enter) + math.prod(again))


def _joined(outputs: Any) -> Tensor:  # noqa: ANN401 - whatever comes out
    """All that a network puts out, [batch, ...]."""
    tensors = (outputs,) if isinstance(outputs, Tensor) else outputs
    if not isinstance(tensors, tuple | list) or not all(isinstance(part, Tensor) for part in tensors) or not tensors:
        msg = f"zero-shot scores need a network that puts out tensors, got {type(outputs).__name__}"
        raise ArgumentError(msg)
    return outputs if isinstance(outputs, Tensor) else torch.cat([part.flatten(1) for part in outputs], dim=1)


def _channels(features: Tensor) -> Float[Tensor, "channel value"]:
    return (features.movedim(1, 0).flatten(1) if features.dim() > 2 else features.T).double()


def _least_correlation(features: Tensor) -> float:
    """Smallest eigenvalue of the correlation of channels over positions, or over samples where there are none."""
    rows = _channels(features)
    if rows.shape[0] < 2 or rows.shape[1] < 2:
        return 0.0
    rows = rows - rows.mean(dim=1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    if not rows.isfinite().all():
        return math.nan
    return float(torch.linalg.eigvalsh(rows @ rows.T)[0])


def _entropy(features: Tensor) -> float:
    """Entropy, in nats, of the normalised spectrum of the channels' covariance."""
    rows = _channels(features.detach())
    rows = rows - rows.mean(dim=1, keepdim=True)
    if not rows.isfinite().all():
        return math.nan
    spectrum = torch.linalg.eigvalsh(rows @ rows.T / max(rows.shape[1] - 1, 1)).clamp(min=0)
    total = float(spectrum.sum())
    if total <= 0:
        return 0.0
    share = spectrum / total
    return float(-(share * torch.log(share + 1e-12)).sum())


def _gain(taken: Tensor, made: Tensor, generator: torch.Generator) -> float:
    """Largest singular value of a block's Jacobian between channels, by random directions (Lee and Ham 2024)."""
    if not made.requires_grad or not taken.requires_grad or taken.dim() < 2 or made is taken:
        return 1.0
    direction = (torch.rand(made.shape, generator=generator) < 0.5).to(made) * 2 - 1
    (back,) = torch.autograd.grad(made, taken, direction, retain_graph=True, allow_unused=True)
    if back is None:
        return 0.0
    rows, columns = _channels(_resized(direction, back)), _channels(back)
    if rows.shape[1] != columns.shape[1]:  # a block that changes the axes has no positions to compare
        return float(back.norm() / direction.norm())
    product = rows @ columns.T / columns.shape[1]
    return float(torch.linalg.matrix_norm(product, 2)) if product.isfinite().all() else math.nan


def _resized(direction: Tensor, like: Tensor) -> Tensor:
    """Directions brought to the resolution of the input, by repetition, so that positions correspond."""
    if direction.dim() < 3 or direction.shape[2:] == like.shape[2:]:
        return direction
    return nn.functional.interpolate(direction, like.shape[2:], mode="nearest")


def _steadiness(network: nn.Module, outputs: Tensor, generator: torch.Generator) -> tuple[float, ...]:
    """Per layer, the sum over weights of mean magnitude over spread of gradients, over two halves of the batch."""
    weights = [m.weight for m in network.modules() if isinstance(m, _LAYERS) and isinstance(m.weight, Tensor)]
    if not outputs.requires_grad or not weights:
        return ()
    direction = torch.randn(outputs.shape, generator=generator).to(outputs)
    half = len(outputs) // 2
    if not half:
        return ()
    parts = []
    for rows, keep in ((slice(0, half), True), (slice(half, None), False)):
        value = (outputs[rows] * direction[rows]).mean()
        parts.append(torch.autograd.grad(value, weights, retain_graph=keep, allow_unused=True))
    found = []
    for first, second in zip(*parts, strict=True):
        if first is None or second is None:
            continue
        mean, spread = (first.abs() + second.abs()) / 2, (first - second).abs() / 2
        moves = spread > 0
        found.append(float((mean[moves] / spread[moves]).sum()))
    return tuple(found)

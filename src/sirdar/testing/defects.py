# SPDX-License-Identifier: Apache-2.0
"""Small networks with one defect each: what `sirdar migrate` must find, on which line, by which compiler code.

The faulty line ends with the word "defect" in a comment, so that a test can look it up.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Example = tuple[Tensor, ...]


@dataclass(frozen=True)
class Defect:
    """One seeded defect.

    Args:
        name: what is wrong.
        code: of the compiler; empty for what has none.
        rule: name of the rule that must find it.
        module: makes the network.
        example: makes its inputs.
        chip: where it must be found.
        dynamic: `dynamic_shapes` of torch.export.
        rewritten: whether it is mended, so that the network runs after all.
    """

    name: str
    code: str
    rule: str
    module: Callable[[], nn.Module]
    example: Callable[[], Example]
    chip: str = "trainium1"
    dynamic: Mapping[str, Any] | None = field(default=None, hash=False)
    rewritten: bool = False

    @property
    def line(self) -> int | None:
        """Number of the faulty line in this file; None where the defect is of the whole network."""
        kind = type(self.module())
        lines, first = inspect.getsourcelines(kind)
        marked = [first + place for place, text in enumerate(lines) if text.rstrip().endswith("# defect")]
        return marked[0] if marked else None


class Branch(nn.Module):
    """Decides by the values of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Either of two."""
        if x.sum() > 0:  # defect
            return x + 1
        return x - 1


class Selection(nn.Module):
    """Keeps as many rows as are positive."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows, however many."""
        return x[x[:, 0] > 0]  # defect


class MovingBatch(nn.Module):
    """A batch of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """One layer."""
        return self.inner(x)


class Complex(nn.Module):
    """Rotates pairs as complex numbers, as rotary embeddings are often written."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The real part of a product."""
        return (torch.complex(x, y)).abs()  # defect


class Fourier(nn.Module):
    """A spectrum."""

    def forward(self, x: Tensor) -> Tensor:
        """Magnitudes."""
        return torch.fft.rfft(x).abs()  # defect


class Fnuz(nn.Module):
    """8-bit floats of another vendor."""

    def forward(self, x: Tensor) -> Tensor:
        """There and back."""
        return x.to(torch.float8_e4m3fnuz).to(torch.float32)  # defect


class Ocp8(nn.Module):
    """8-bit floats up to 448."""

    def forward(self, x: Tensor) -> Tensor:
        """There and back."""
        return x.to(torch.float8_e4m3fn).to(torch.float32)  # defect


class Ocp8Weights(nn.Module):
    """Weights in 8-bit floats up to 448, with a scale."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.linspace(-448, 448, 64).reshape(8, 8)
        self.weight: Tensor
        self.register_buffer("weight", weight.to(torch.float8_e4m3fn))

    def forward(self, x: Tensor) -> Tensor:
        """A product."""
        return x @ (self.weight.to(torch.float32) * 0.01)  # defect


class Doubles(nn.Module):
    """64-bit floats in the middle."""

    def forward(self, x: Tensor) -> Tensor:
        """A square root in fp64."""
        return (x.double().abs() + 1).sqrt().float()  # defect


class Scales8(nn.Module):
    """Powers of two as 8-bit scales, which only later chips have."""

    def forward(self, x: Tensor) -> Tensor:
        """There and back."""
        return x.to(torch.float8_e8m0fnu).to(torch.float32)  # defect


class TwoDilations(nn.Module):
    """A transposed convolution with stride and dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 3, 3, stride=2, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        """Larger images."""
        return self.up(x)  # defect


class IntegerTopK(nn.Module):
    """The largest of integers."""

    def forward(self, x: Tensor) -> Tensor:
        """Three of them."""
        return torch.topk(x, 3).values  # defect


class SmallIntegerTopK(nn.Module):
    """The largest of integers that are known to be small."""

    def forward(self, x: Tensor) -> Tensor:
        """Three of them."""
        return torch.topk(x.clamp(0, 100), 3).values  # defect


@torch.library.custom_op("sirdar_testing::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    """An operator that no compiler knows."""
    return x * 2


@doubled.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class CustomOperator(nn.Module):
    """Calls an operator of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """Twice x."""
        return doubled(x)  # defect


class IntegerScatterReduce(nn.Module):
    """Reduces integers by a scatter."""

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Sums by index."""
        return torch.zeros(4, 5, dtype=torch.int32).scatter_reduce(1, index, x, "sum")  # defect


class IntegerScatterAdd(nn.Module):
    """Adds integers by a scatter."""

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Sums by index."""
        return torch.zeros(4, 5, dtype=torch.int32).scatter_add(1, index, x)  # defect


class Histogram(nn.Module):
    """Counts, which stay small: safe to do in floats."""

    def forward(self, index: Tensor) -> Tensor:
        """How often each of five stands in every row."""
        ones = torch.ones_like(index)
        return torch.zeros(4, 5, dtype=torch.int64).scatter_add(1, index, ones)  # defect


class DilatedPool(nn.Module):
    """Pooling over every second value."""

    def forward(self, x: Tensor) -> Tensor:
        """Maxima."""
        return nn.functional.max_pool2d(x, 3, stride=2, padding=1, dilation=2)  # defect


class PoolIndices(nn.Module):
    """Pooling that remembers where."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maxima and their places."""
        values, places = nn.functional.max_pool2d(x, 2, return_indices=True)  # defect
        return values, places


class NarrowShift(nn.Module):
    """A shift of 16-bit integers."""

    def forward(self, x: Tensor) -> Tensor:
        """Halved."""
        return torch.bitwise_right_shift(x, 1)  # defect


class ScatterBeyond(nn.Module):
    """Writes ten rows into a tensor of eight."""

    def forward(self, x: Tensor) -> Tensor:
        """A longer one was meant."""
        return x.index_put((torch.arange(10),), torch.ones(10, 3))  # defect


class PositionsBeyond(nn.Module):
    """More positions than the table has."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Values and positions."""
        return x + self.positions(torch.arange(x.shape[1]))  # defect


class LongMatmul(nn.Module):
    """A product of 64-bit integers."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Large ones."""
        return x @ y  # defect


class WordMatmul(nn.Module):
    """A product of 32-bit integers."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Large ones."""
        return x @ y  # defect


class MaskMatmul(nn.Module):
    """Counts pairs by a product of masks, which fp32 does exactly."""

    def forward(self, x: Tensor) -> Tensor:
        """How often both are positive."""
        mask = (x > 0).to(torch.int64)
        return mask @ mask.T  # defect


class Generator(nn.Module):
    """Draws with a generator of its own instead of torch.rand."""

    def forward(self, x: Tensor) -> Tensor:
        """With noise."""
        seed = torch.tensor(0)
        draw = torch.ops.rngprims.philox_rand
        return x + draw(list(x.shape), seed, seed, None, x.device, torch.float32)[0]  # defect


class AllReduce(nn.Module):
    """Adds counts over devices."""

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        return torch.ops._c10d_functional.all_reduce(x, "sum", "0")  # defect


class ReduceScatter(nn.Module):
    """Adds counts over devices and deals them out."""

    def forward(self, x: Tensor) -> Tensor:
        """A share of the sum."""
        return torch.ops._c10d_functional.reduce_scatter_tensor(x, "sum", 2, "0")  # defect


class LongPower(nn.Module):
    """A power of 64-bit integers."""

    def forward(self, x: Tensor) -> Tensor:
        """Cubes."""
        return x**3  # defect


class SmallPower(nn.Module):
    """A power of 64-bit integers that stay small."""

    def forward(self, x: Tensor) -> Tensor:
        """Cubes of places."""
        return x + torch.arange(6) ** 3  # defect


class WideConstant(nn.Module):
    """A constant beyond 32 bits."""

    def forward(self, x: Tensor) -> Tensor:
        """A hash."""
        return x + 5_000_000_000  # defect


class Triangular(nn.Module):
    """Solves a triangular system."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The solution."""
        return torch.linalg.solve_triangular(x, y, upper=True)  # defect


class Sorting(nn.Module):
    """Sorts, and keeps the order."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values and places."""
        values, places = torch.sort(x)  # defect
        return values, places


class SortedValues(nn.Module):
    """Sorts, and keeps the values only."""

    def forward(self, x: Tensor) -> Tensor:
        """Values."""
        return torch.sort(x, dim=1, descending=True).values  # defect


class Huge(nn.Module):
    """More weights than the chip has memory, though no machine needs to hold them to know."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(70_000, 200_000, device="meta"), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """One product."""
        return x @ self.table


class Long(nn.Module):
    """A product so large that its tiles exceed what the compiler allows."""

    def forward(self, x: Tensor) -> Tensor:
        """Scores of all pairs."""
        return (x @ x.transpose(-1, -2)).sum(-1)


def _floats(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _whole(*shape: int, high: int = 5, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(0)).to(dtype)


_BATCH = torch.export.Dim.DYNAMIC

DEFECTS: tuple[Defect, ...] = (
    Defect("a branch on data", "NCC_EMOD025", "data-dependent", Branch, lambda: (_floats(4),)),
    Defect("a selection on data", "NCC_EMOD025", "dynamic-shape", Selection, lambda: (_floats(4, 3),)),
    Defect(
        "a moving batch",
        "NCC_EMOD025",
        "dynamic-input",
        MovingBatch,
        lambda: (_floats(3, 4),),
        dynamic={"x": {0: _BATCH}},
        rewritten=True,
    ),
    Defect("complex numbers", "NCC_EVRF004", "complex", Complex, lambda: (_floats(4), _floats(4))),
    Defect("a Fourier transform", "NCC_EVRF004", "complex", Fourier, lambda: (_floats(8),)),
    Defect("fp8 of the FNUZ kind", "NCC_EVRF005", "fp8-fnuz", Fnuz, lambda: (_floats(8),)),
    Defect("fp8 up to 448", "NCC_EVRF051", "fp8-e4m3fn", Ocp8, lambda: (_floats(8),)),
    Defect("fp8 weights", "NCC_EVRF051", "fp8-e4m3fn", Ocp8Weights, lambda: (_floats(2, 8),), rewritten=True),
    Defect("fp8 on Inferentia 1", "NCC_ESPP047", "fp8", Ocp8, lambda: (_floats(8),), "inferentia1"),
    Defect("64-bit floats", "NCC_ESPP004", "strange-type", Doubles, lambda: (_floats(8),), rewritten=True),
    Defect("8-bit scales", "NCC_ESPP004", "strange-type", Scales8, lambda: (_floats(8).abs() + 1,)),
    Defect(
        "two dilations", "NCC_EVRF010", "two-dilations", TwoDilations, lambda: (_floats(1, 2, 5, 5),), rewritten=True
    ),
    Defect("TopK of integers", "NCC_EVRF013", "integer-topk", IntegerTopK, lambda: (_whole(4, 9, high=99),)),
    Defect(
        "TopK of small integers",
        "NCC_EVRF013",
        "integer-topk",
        SmallIntegerTopK,
        lambda: (_whole(4, 9, high=99),),
        rewritten=True,
    ),
    Defect("a custom operator", "NCC_EVRF015", "custom-operator", CustomOperator, lambda: (_floats(4),)),
    Defect(
        "scatter-reduce of integers",
        "NCC_EVRF016",
        "integer-scatter-reduce",
        IntegerScatterReduce,
        lambda: (_whole(4, 6, dtype=torch.int32), _whole(4, 6)),
    ),
    Defect(
        "dilated pooling", "NCC_EVRF018", "window-dilation", DilatedPool, lambda: (_floats(1, 2, 9, 9),), rewritten=True
    ),
    Defect("pooling with indices", "NCC_EVRF019", "pooling-indices", PoolIndices, lambda: (_floats(1, 2, 8, 8),)),
    Defect(
        "a narrow shift",
        "NCC_EVRF022",
        "narrow-shift",
        NarrowShift,
        lambda: (_whole(6, high=99, dtype=torch.int16),),
        rewritten=True,
    ),
    Defect("a scatter beyond the end", "NCC_EVRF031", "scatter-out-of-range", ScatterBeyond, lambda: (_floats(8, 3),)),
    Defect(
        "positions beyond the table", "NCC_EVRF056", "gather-out-of-range", PositionsBeyond, lambda: (_floats(2, 9, 3),)
    ),
    Defect(
        "a product of 64-bit integers",
        "NCC_EVRF035",
        "integer-matmul-64",
        LongMatmul,
        lambda: (_whole(3, 4, high=9), _whole(4, 3, high=9)),
    ),
    Defect(
        "a product of 32-bit integers",
        "NCC_EVRF035",
        "integer-matmul-32",
        WordMatmul,
        lambda: (_whole(3, 4, dtype=torch.int32), _whole(4, 3, dtype=torch.int32)),
        "trainium2",
    ),
    Defect(
        "a product of masks", "NCC_EVRF035", "integer-matmul-64", MaskMatmul, lambda: (_floats(5, 7),), rewritten=True
    ),
    Defect(
        "a scatter that adds integers",
        "NCC_EVRF060",
        "integer-scatter",
        IntegerScatterAdd,
        lambda: (_whole(4, 6, dtype=torch.int32), _whole(4, 6)),
    ),
    Defect("a histogram", "NCC_EVRF060", "integer-scatter", Histogram, lambda: (_whole(4, 6),), rewritten=True),
    Defect("a generator of its own", "NCC_EVRF006", "generator", Generator, lambda: (_floats(4),)),
    Defect("an all-reduce of integers", "NCC_EVRF061", "integer-all-reduce", AllReduce, lambda: (_whole(4),)),
    Defect(
        "a reduce-scatter of integers", "NCC_EVRF063", "integer-reduce-scatter", ReduceScatter, lambda: (_whole(4),)
    ),
    Defect("a power of 64-bit integers", "NCC_EVRF062", "integer-power", LongPower, lambda: (_whole(4),)),
    Defect("a small power", "NCC_EVRF062", "integer-power", SmallPower, lambda: (_whole(6),), rewritten=True),
    Defect("a wide constant", "NCC_ESFH002", "wide-constant", WideConstant, lambda: (_whole(4),)),
    Defect(
        "a triangular system",
        "NCC_EUOC002",
        "unsupported-operator",
        Triangular,
        lambda: (_floats(3, 3).triu() + 3 * torch.eye(3), _floats(3, 2)),
    ),
    Defect("sorting", "NCC_EVRF001", "sort", Sorting, lambda: (_floats(3, 5),)),
    Defect("sorted values", "NCC_EVRF001", "sort", SortedValues, lambda: (_floats(3, 5),), rewritten=True),
    Defect(
        "more than the memory",
        "NCC_EOOM001",
        "memory",
        Huge,
        lambda: (torch.empty(2, 70_000, device="meta"),),
        "inferentia1",
    ),
    Defect(
        "too many instructions",
        "NCC_EVRF007",
        "instructions",
        Long,
        lambda: (torch.empty(64, 65_536, 4_096, device="meta"),),
    ),
)

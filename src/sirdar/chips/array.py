# SPDX-License-Identifier: Apache-2.0
"""Cycles of a matrix product on an array of multipliers, tile by tile: why 33 channels cost as much as 64.

An array does a fixed number of multiply-accumulates at once: so many along the depth of the product, so many along its
columns. That is its *parallelism*. Work comes in whole tiles, so each axis is paid for rounded up to a multiple of it,
and time against width is a staircase. Two ways to lay a product out are modelled:

* "weight": a tile of the weights stays in the array and rows stream past it. Where loading the next tile is not
  hidden, a tile of R x C costs 2R + C - 2 cycles beside its rows (Samajdar et al., "SCALE-Sim", arXiv 1811.02883,
  eq. 3, weight-stationary).
* "output": a tile of the results stays, the depth streams past it, and tiles are dealt to the arrays in waves, as a GPU
  deals its thread blocks to multiprocessors. Few rows have lower tiles, few columns narrower ones, and few tiles share
  out the depth, as matrix libraries do ("split-K").
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from sirdar.workload.graph import Operator

STATIONARY = ("weight", "output")
_LEAST_ROWS, _LEAST_COLUMNS = 16, 8  # of a tile of results: what one instruction of a tensor core multiplies


@dataclass(frozen=True)
class Product:
    """A batch of matrix products of the same shape: [rows, depth] times [depth, columns].

    Args:
        rows: of the moving operand: positions of a convolution, tokens of a sequence.
        depth: summed over.
        columns: of the result: channels a convolution puts out.
        batch: how many such products.
    """

    rows: int
    depth: int
    columns: int
    batch: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.rows * self.depth * self.columns * self.batch


@dataclass(frozen=True)
class Array:
    """Arrays of multipliers, all alike.

    Args:
        rows: parallelism along the depth ("weight") or the rows of the result ("output").
        columns: parallelism along the columns of the result.
        clock_hz: of one step.
        count: arrays that share the work.
        stationary: what stays in the array, one of `STATIONARY`.
        macs_per_cycle: of one array; rows times columns where it is 0.
        stream: most rows that pass a tile of weights in one step.
        least_stream: cycles that a step takes at least.
        hidden_load: whether the next tile of weights is loaded while rows stream past the present one.
        passes: by number format, how often everything is done; 1 where it is not named.
    """

    rows: int
    columns: int
    clock_hz: float
    count: int = 1
    stationary: Literal["weight", "output"] = "weight"
    macs_per_cycle: float = 0.0
    stream: int = 512
    least_stream: int = 1
    hidden_load: bool = True
    passes: Mapping[str, float] = field(default_factory=dict, hash=False)

    def cycles(self, work: Product, dtype: str = "bf16") -> float:
        """Cycles from the first multiplication to the last, on all arrays together.

        Args:
            work: the product.
            dtype: number format; formats differ in how often the array passes over the work.
        """
        once = self._weight_cycles(work) if self.stationary == "weight" else self._output_cycles(work)
        return once * self.passes.get(dtype, 1.0)

    def seconds(self, work: Product, dtype: str = "bf16") -> float:
        """The same in seconds."""
        return self.cycles(work, dtype) / self.clock_hz

    def macs_per_s(self, dtype: str = "bf16") -> float:
        """Peak of all arrays together."""
        each = self.macs_per_cycle or self.rows * self.columns
        return each * self.count * self.clock_hz / self.passes.get(dtype, 1.0)

    def _weight_cycles(self, work: Product) -> float:
        tiles = work.batch * math.ceil(work.depth / self.rows) * math.ceil(work.columns / self.columns)
        if not self.hidden_load:
            # Every tile streams all rows; the last one's results leave a cycle before the next could enter.
            exposed = 2 * self.rows + self.columns - 2
            return float(math.ceil(tiles / self.count) * (work.rows + exposed) - 1)
        full, rest = divmod(work.rows, self.stream)
        least = self.least_stream
        steps = tiles * (full + (rest > 0))
        cycles = tiles * (full * max(self.stream, least) + (max(rest, least) if rest else 0))
        # Steps are dealt to the arrays whole, so the busiest array has the rounded-up share, of the long ones too.
        busiest = cycles * math.ceil(steps / self.count) / steps if steps else 0.0
        return max(busiest, float(math.ceil(tiles * full / self.count) * max(self.stream, least)))

    def _output_cycles(self, work: Product) -> float:
        # A tile as low and as narrow as the result, and where there are fewer tiles than arrays the depth is dealt out
        # as well: without either, a batch of one would wait for memory no longer than for a hundred idle rows.
        rows = min(self.rows, _doubled(_LEAST_ROWS, work.rows))
        columns = min(self.columns, _doubled(_LEAST_COLUMNS, work.columns))
        tiles = work.batch * math.ceil(work.rows / rows) * math.ceil(work.columns / columns)
        pieces = max(1, self.count // max(tiles, 1))
        depth = max(math.ceil(work.depth / pieces), min(work.depth, self.columns))
        each = rows * columns * depth / (self.macs_per_cycle or self.rows * self.columns)
        return math.ceil(tiles / self.count) * each


def _doubled(least: int, size: int) -> int:
    """The least, doubled until it holds a size."""
    return least * 2 ** (math.ceil(size / least) - 1).bit_length()


def products(operator: Operator) -> Iterator[Product]:
    """The matrix products that an operator is made of; none for operators without multiply-accumulates.

    A convolution is one product per group, of positions by kernel times channels in by channels out (im2col); so is a
    transposed one, seen from its input. Attention is queries times keys and weights times values, for every head.
    """
    if operator.macs == 0:
        return
    if operator.kind == "matmul":
        yield _multiplication(operator)
    elif operator.kind == "conv":
        yield _convolution(operator)
    elif operator.kind == "attention":
        yield from _attention(operator)
    else:  # nothing else is counted in multiply-accumulates; one long product is the least it can be
        yield Product(1, operator.macs, 1)


def _multiplication(operator: Operator) -> Product:
    """From its attributes; a graph written by hand may lack them, and the shape of the result says the same."""
    of, out = operator.attributes, operator.outputs[0].shape
    if {"batch", "rows", "columns", "depth"} <= of.keys():
        return Product(of["rows"], of["depth"], of["columns"], of["batch"])
    columns = out[-1] if out else 1
    rows = math.prod(out[:-1])
    return Product(rows, max(1, round(operator.macs / max(1, rows * columns))), columns)


def _convolution(operator: Operator) -> Product:
    """A graph written by hand may lack the shape of the weight, which is that of the first one then."""
    groups = int(operator.attributes.get("groups", 1))
    stated = operator.attributes.get("weight")
    kernel = tuple(stated) if stated else (operator.weights or operator.inputs[1:])[0].shape
    rows = operator.macs // math.prod(kernel)
    if operator.attributes.get("transposed"):
        return Product(rows, kernel[0] // groups, math.prod(kernel[1:]), groups)
    return Product(rows, math.prod(kernel[1:]), kernel[0] // groups, groups)


def _attention(operator: Operator) -> Iterator[Product]:
    """Without attributes, by inputs: the same tensor in several roles is listed once; what follows is a mask."""
    shapes = [spec.shape for spec in operator.inputs]
    by_place = (shapes[min(place, len(shapes) - 1)] for place in range(3)) if shapes else ((),) * 3
    roles = zip(("query", "key", "value"), by_place, strict=True)
    query, key, value = (tuple(operator.attributes.get(role, shape)) for role, shape in roles)
    heads = math.prod(query[:-2])
    yield Product(query[-2], query[-1], key[-2], heads)
    yield Product(query[-2], key[-2], value[-1], heads)


def staircase(array: Array, work: Product, widths: range) -> dict[int, float]:
    """Cycles by number of columns, all else alike: what widening a layer costs."""
    return {columns: array.cycles(replace(work, columns=columns)) for columns in widths}

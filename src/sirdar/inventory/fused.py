# SPDX-License-Identifier: Apache-2.0
"""One step of lost sales as one operation with its own derivative: a third of the memory traffic of separate ones.

    left = max(stock - wanted, 0),   position' = position + order - (stock - left)

where stock = on hand + arriving; what is left and what is lost is added up on the way, while it is still in the cache.
What was shipped, stock - left, is not kept: whoever asks for it subtracts.
Compiled by numba for tensors in main memory; without numba, or elsewhere, the same is done by torch. At the kink,
stock = wanted, both paths take the derivative of the side on which a unit would be sold.
"""

import ctypes
import importlib.util
from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import Any, NamedTuple, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

Units = Float[Tensor, "*batch series"]
_BLOCK = 1024  # numbers that stay in a core's first cache while others are added to them


class Shelf(NamedTuple):
    """Where series stand between two steps, all [*batch, series].

    Args:
        on_hand: units left.
        position: units on hand and under way.
        held: weighted sum of units left so far.
        lost: weighted sum of units wanted and not shipped so far.
    """

    on_hand: Units
    position: Units
    held: Units
    lost: Units


def serve(shelf: Shelf, arriving: Units, wanted: Units, order: Units, weight: float = 1.0) -> Shelf:
    """The shelf after the step, which counts with `weight` in its sums.

    The sums may be the given tensors, changed.
    """
    tensors = [*shelf, arriving, wanted, order]
    plain = all(x.device.type == "cpu" and x.dtype == wanted.dtype for x in tensors) and not wanted.requires_grad
    if plain and has_numba():
        traced = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
        after = _Serve.apply(weight, *tensors) if traced else _served(weight, tensors)
        return Shelf(*after)  # pyright: ignore[reportGeneralTypeIssues]
    return serve_plainly(shelf, arriving, wanted, order, weight)


def serve_plainly(shelf: Shelf, arriving: Units, wanted: Units, order: Units, weight: float = 1.0) -> Shelf:
    """The same in torch's own operations."""
    stock = shelf.on_hand + arriving
    left = (stock - wanted).relu()
    shipped = stock - left
    position = shelf.position + order - shipped
    # Nothing where something is left: there wanted less shipped is the rounding error of the stock.
    short = torch.where(left > 0, torch.zeros_like(left), wanted - stock)
    return Shelf(left, position, shelf.held + weight * left, shelf.lost + weight * short)


def add_up(parts: Sequence[Units], into: Units) -> None:
    """Write the sum of parts, one after the other, over the values of a tensor; its graph is left as it is."""
    if into.device.type != "cpu" or not into.is_contiguous() or not has_numba():
        into.data.copy_(reduce(torch.add, [part.detach() for part in parts]))
        return
    whole = [part.detach().contiguous() for part in parts]
    addresses = torch.tensor([part.data_ptr() for part in whole])
    _compiled(into.dtype).add_up(addresses.data_ptr(), into.data_ptr(), into.numel(), len(whole))


@cache
def has_numba() -> bool:
    """Whether the compiled path can be taken."""
    return importlib.util.find_spec("numba") is not None


def _served(weight: float, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
    on_hand, position, held, lost, arriving, wanted, order = (x.contiguous() for x in given)
    left, after = (torch.empty_like(on_hand) for _ in range(2))
    tensors = (on_hand, position, arriving, wanted, order, left, after, held, lost)
    _compiled(left.dtype).forward(*(x.data_ptr() for x in tensors), left.numel(), weight)
    return left, after, held, lost


class _Serve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: float, *given: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        served = _served(weight, given)
        ctx.mark_dirty(*(own for own in served[2:] if any(own is x for x in given)))
        ctx.save_for_backward(served[0])
        ctx.weight = weight
        return served

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (left,) = ctx.saved_tensors
        whole = [grad.contiguous() for grad in grads]
        stock = torch.empty_like(left)
        _compiled(left.dtype).backward(*(x.data_ptr() for x in (left, *whole, stock)), left.numel(), ctx.weight)
        _, after, held, lost = whole
        return None, stock, after, held, lost, stock, None, after


class _Compiled(NamedTuple):
    """Loops over plain memory: to call them costs a tenth of what handing over arrays does."""

    forward: Callable[..., None]
    backward: Callable[..., None]
    add_up: Callable[..., None]


@cache
def _compiled(dtype: torch.dtype) -> _Compiled:
    """The loops for a kind of number, compiled at its first use."""
    import numba  # here, not above: it is slow to load

    kind = {torch.float32: numba.float32, torch.float64: numba.float64}[dtype]
    return _Compiled(_callable(_forward, 9, kind), _callable(_backward, 6, kind), _summing(kind))


def _summing(kind: Any) -> Callable[..., None]:  # noqa: ANN401
    """A loop that takes the address of addresses, that of the sum, a size and how many there are."""
    from numba import cfunc, types

    one = types.CPointer(kind)
    made = cfunc(types.void(types.CPointer(one), one, types.int64, types.int64), cache=True)(_add_up)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2)(int(made.address or 0))


def _callable(loop: Callable[..., None], pointers: int, kind: Any) -> Callable[..., None]:  # noqa: ANN401
    """A loop that takes addresses, a size and a weight."""
    from numba import cfunc, types

    made = cfunc(types.void(*[types.CPointer(kind)] * pointers, types.int64, kind), cache=True)(loop)
    weight = ctypes.c_float if kind is types.float32 else ctypes.c_double
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * pointers, ctypes.c_int64, weight)(int(made.address or 0))


@no_type_check
def _forward(on_hand, position, arriving, wanted, order, left, after, held, lost, size, weight) -> None:  # noqa: ANN001, PLR0913
    for i in range(size):
        stock = on_hand[i] + arriving[i]
        none = weight - weight  # a zero of the same kind
        rest = max(stock - wanted[i], none)
        gone = stock - rest
        left[i] = rest
        after[i] = position[i] + order[i] - gone
        held[i] += weight * rest
        lost[i] += weight * max(wanted[i] - stock, none)


@no_type_check
def _backward(left, to_left, to_after, to_held, to_lost, stock, size, weight) -> None:  # noqa: ANN001
    for i in range(size):
        if left[i] > 0:
            stock[i] = to_left[i] + weight * to_held[i]
        else:
            stock[i] = -to_after[i] - weight * to_lost[i]


@no_type_check
def _add_up(parts, into, size, count) -> None:  # noqa: ANN001
    for first in range(0, size, _BLOCK):
        last = min(first + _BLOCK, size)
        one = parts[0]
        for i in range(first, last):
            into[i] = one[i]
        for part in range(1, count):
            more = parts[part]
            for i in range(first, last):
                into[i] += more[i]

# SPDX-License-Identifier: Apache-2.0
"""One step of lost sales as one operation with its own derivative: a third of the memory traffic of separate ones.

    left = max(stock - wanted, 0),   shipped = stock - left,   position' = position + order - shipped

where stock = on hand + arriving. Compiled by numba for tensors in main memory; without numba, or elsewhere, the same is
done by torch. At the kink, stock = wanted, both paths take the derivative of the side on which a unit would be sold.
"""

import importlib.util
from functools import cache
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

Units = Float[Tensor, "*batch series"]


def serve(on_hand: Units, arriving: Units, wanted: Units, order: Units, position: Units) -> tuple[Units, Units, Units]:
    """Units left, units shipped, and the position after the step."""
    tensors = [on_hand, arriving, wanted, order, position]
    if has_numba() and all(x.device.type == "cpu" and x.dtype == on_hand.dtype for x in tensors):
        return _Serve.apply(*tensors)  # pyright: ignore[reportReturnType]
    return serve_plainly(*tensors)


def serve_plainly(
    on_hand: Units, arriving: Units, wanted: Units, order: Units, position: Units
) -> tuple[Units, Units, Units]:
    """The same in torch's own operations."""
    stock = on_hand + arriving
    left = (stock - wanted).relu()
    shipped = stock - left
    return left, shipped, position + order - shipped


@cache
def has_numba() -> bool:
    """Whether the compiled path can be taken."""
    return importlib.util.find_spec("numba") is not None


class _Serve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        flat = [x.contiguous() for x in given]
        left, shipped, after = (torch.empty_like(flat[0]) for _ in range(3))
        _kernels()[0](*(x.numpy().reshape(-1) for x in (*flat, left, shipped, after)))
        ctx.save_for_backward(left)
        ctx.set_materialize_grads(False)
        return left, shipped, after

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (left,) = ctx.saved_tensors
        one = left.new_zeros(1)
        # A zero of length 1 stands for a gradient that is not there.
        flat = [one if grad is None else grad.contiguous() for grad in grads]
        stock = torch.empty_like(left)
        _kernels()[1](*(x.numpy().reshape(-1) for x in (left, *flat, stock)))
        return stock, stock, None, grads[2], grads[2]


@cache
def _kernels() -> tuple[Any, Any]:
    """Forward and backward loops, compiled on first use."""
    from numba import njit  # here, not above: it is slow to load

    @njit(cache=True, fastmath=False)
    @no_type_check
    def forward(on_hand, arriving, wanted, order, position, left, shipped, after):  # noqa: ANN001, ANN202
        for i in range(len(left)):
            stock = on_hand[i] + arriving[i]
            left[i] = max(stock - wanted[i], 0)
            shipped[i] = stock - left[i]
            after[i] = position[i] + order[i] - shipped[i]

    @njit(cache=True, fastmath=False)
    @no_type_check
    def backward(left, to_left, to_shipped, to_after, stock):  # noqa: ANN001, ANN202
        size = len(stock)
        a, b, c = len(to_left) == size, len(to_shipped) == size, len(to_after) == size
        for i in range(size):
            kept = to_left[i if a else 0]
            gone = to_shipped[i if b else 0] - to_after[i if c else 0]
            stock[i] = kept if left[i] > 0 else gone

    return forward, backward

# SPDX-License-Identifier: Apache-2.0
"""A cache that is written where it lies is neither made anew nor read for the sake of writing."""

import pytest
import torch
from torch import nn

from sirdar.workload.graph import Operator
from sirdar.workload.trace import trace

STORED, WRITTEN = 4 * 64 * 8, 4 * 8  # values of the cache, and of one step


class Cache(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(1, 4, 64, 8))
        self.way = way

    def forward(self, query: torch.Tensor, key: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        if self.way == "index_copy":
            self.keys.index_copy_(2, place, key)
        elif self.way == "index":
            self.keys[:, :, place] = key
        elif self.way == "slice":
            self.keys[:, :, 5:6] = key
        else:  # what stood there before is read afterwards
            changed = self.keys.index_copy(2, place, key)
            query = query * self.keys.amax()
            self.keys.copy_(changed)
        return query @ self.keys.transpose(-1, -2)


def example() -> tuple[torch.Tensor, ...]:
    return torch.zeros(1, 4, 1, 8), torch.zeros(1, 4, 1, 8), torch.tensor([5])


def writes(operator: Operator) -> bool:
    return str(operator.attributes["target"]).startswith(("aten.index_put", "aten.slice_scatter"))


@pytest.mark.parametrize("way", ["index_copy", "index", "slice"])
def test_a_cache_is_written_where_it_lies(way: str) -> None:
    graph = trace(Cache(way), example())
    (write,) = [operator for operator in graph.operators if writes(operator)]
    assert write.outputs == ()
    assert write.attributes["slices"] == {"keys": WRITTEN}
    (product,) = [operator for operator in graph.operators if operator.kind == "matmul"]
    assert [spec.name for spec in product.weights] == ["keys"]
    assert graph.parameter_bytes() == 4 * STORED
    assert graph.peak_bytes() < 4 * STORED / 4


def test_a_cache_that_is_read_as_it_was_is_made_anew() -> None:
    graph = trace(Cache("late"), example())
    (write,) = [operator for operator in graph.operators if writes(operator)]
    assert [spec.elements for spec in write.outputs] == [STORED]
    assert "slices" not in write.attributes


def test_a_mask_may_write_everywhere() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kept", torch.zeros(6, 3))

        def forward(self, mask: torch.Tensor) -> torch.Tensor:
            self.kept[mask] = 1.0
            return self.kept.sum()

    graph = trace(Masked(), torch.ones(6, dtype=torch.bool))
    (write,) = [operator for operator in graph.operators if writes(operator)]
    assert (write.outputs, "slices" in write.attributes) == ((), False)

# SPDX-License-Identifier: Apache-2.0
"""Several networks of one kind as one: a deep ensemble (Lakshminarayanan et al. 2017, arXiv:1612.01474)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sirdar.forecasting.scaling import Scaled


class Members(nn.Module):
    """Its quantiles are the mean of its members' (Vincent averaging), so they cannot cross either.

    In training one member, drawn at random, answers at each step, so that each sees batches of its own.

    Args:
        networks: of one kind and shape.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, *given: Any) -> tuple[Float[Tensor, "batch origin horizon level"], Scaled]:  # noqa: ANN401
        """Quantiles and their scale, which the members share, as it comes from demand alone."""
        if self.training:
            return self.networks[int(torch.randint(len(self.networks), ()))](*given)
        answers = [network(*given) for network in self.networks]
        return torch.stack([quantiles for quantiles, _ in answers]).mean(dim=0), answers[0][1]

# SPDX-License-Identifier: Apache-2.0
"""Chips as data, what a network costs on each, and which to choose. No torch."""

from pathlib import Path

from sirdar.chips.advisor import advise as advise
from sirdar.chips.analytic import Estimator as Estimator
from sirdar.chips.analytic import NullEstimator as NullEstimator
from sirdar.chips.analytic import OperatorCost as OperatorCost
from sirdar.chips.analytic import Roofline as Roofline
from sirdar.chips.analytic import SlowRoofline as SlowRoofline
from sirdar.chips.chip import Chip as Chip
from sirdar.chips.chip import Instance as Instance
from sirdar.chips.energy import energy as energy
from sirdar.chips.energy import grams_co2 as grams_co2
from sirdar.chips.joules import LayerEnergy as LayerEnergy
from sirdar.chips.joules import layers as layers
from sirdar.chips.number import Number as Number
from sirdar.chips.option import Option as Option
from sirdar.chips.option import Ranking as Ranking
from sirdar.chips.option import Saving as Saving
from sirdar.chips.reading import load as load
from sirdar.chips.reading import names as names
from sirdar.chips.reading import npu_names as npu_names
from sirdar.chips.tiled import Tiled as Tiled
from sirdar.units import Cost
from sirdar.workload.graph import Graph


def estimate(graph: Graph, chip: str | Path | Chip = "trainium1", dtype: str = "bf16") -> Cost:
    """What a network costs on a chip, by the analytic estimator: tiles on its array, or else the roofline.

    Args:
        graph: the network.
        chip: a name of the catalogue, the path of a TOML file, or a chip.
        dtype: number format to run in; a chip that lacks it uses the next one it has (`Chip.usable_dtype`).

    Raises:
        ArgumentError: the chip or the format is unknown.
        DataError: the chip's own file is wrong.
    """
    return Tiled().estimate(graph, chip if isinstance(chip, Chip) else load(chip), dtype)

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


def estimate(graph: Graph, chip: str | Path | Chip = "trainium1", dtype: str | None = None) -> Cost:
    """What a network costs on a chip, by the analytic estimator: tiles on its array, or else the roofline.

    `sirdar.estimate` is this one, but for the catalogue's Ethos-U, of which it asks Arm's compiler.

    Args:
        graph: the network.
        chip: a name of the catalogue, the path of a TOML file, or a chip.
        dtype: number format to run in; a chip that lacks it uses the next one it has (`Chip.usable_dtype`). Where None,
            bf16 in this way, and on a chip that has nothing in its place the chip's own.

    Raises:
        ArgumentError: the chip or the format is unknown, or nothing of the chip's takes the place of the format.
        DataError: the chip's own file is wrong.
    """
    sheet = chip if isinstance(chip, Chip) else load(chip)
    return Tiled().estimate(graph, sheet, sheet.usual_dtype() if dtype is None else dtype)

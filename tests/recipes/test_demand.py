# SPDX-License-Identifier: Apache-2.0
"""A table for a search: read by its columns, and named by what stands in it and how it is read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.recipes.demand import Demand, with_lost_sales
from sirdar.testing.forecasters import panel_of


def test_a_table_is_read_by_its_columns_and_named_by_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "demand"
    folder.mkdir()
    rows = [f"{sku},2024-01-{day:02d},{day}" for sku in "ab" for day in (1, 8, 15)]
    for number, part in enumerate((rows[:3], rows[3:])):
        (folder / f"part{number}.csv").write_text("\n".join(["sku,week,units", *part]) + "\n")
    roles = {"id": "sku", "time": "week", "target": "units"}
    demand = Demand(folder, 2, roles)
    assert demand.read().ids == ["a", "b"]
    names = [demand.digest(), Demand(folder, 2, roles | {"freq": "M"}).digest()]
    assert Demand(folder, 2, dict(reversed(roles.items()))).digest() == names[0]
    assert Demand(folder, 3, roles).digest() == names[0]  # the same data, whatever is asked of them
    (folder / "part1.csv").write_text("sku,week,units\nb,2024-01-01,7\n")
    assert len({*names, demand.digest()}) == 3


def test_the_bundled_demand_stands_in() -> None:
    assert Demand().digest() != Demand(roles={"freq": "M"}).digest()
    assert len(Demand(roles={"freq": "M"}).read().ids) > 1000


def test_what_sold_out_steps_would_have_sold_is_estimated() -> None:
    """Negative binomial demand of 20, 60 at the end of a year, and as much stock as often as not."""
    rng = np.random.default_rng(0)
    mean = np.where(np.arange(104) % 52 >= 47, 60, 20) * np.ones((40, 1))
    demand = rng.negative_binomial(4, 4 / (4 + mean))
    stock = rng.integers(12, 60, demand.shape)
    sold, never = np.minimum(demand, stock), np.zeros(demand.shape, dtype=bool)
    never[:, 10] = True  # no stock at all, and nothing sold
    sold[never] = 0
    short = (demand >= stock) & ~never
    panel = replace(panel_of(sold), in_stock=~(short | never).ravel(), notes=("9 steps out of stock are left out.",))
    found = with_lost_sales(panel)
    target = found.target.reshape(demand.shape)
    assert found.in_stock is not None
    np.testing.assert_array_equal(found.in_stock, ~never.ravel())
    np.testing.assert_array_equal(target[~short], sold[~short])
    assert (target >= sold).all()
    assert found.whole
    for part in (slice(0, 47), slice(47, 52)):  # the season is shared, and so is what is known of it
        assert target[:, part].sum() == pytest.approx(demand[:, part][~never[:, part]].sum(), rel=0.06)
    assert len(found.notes) == 2
    assert found.notes[0].startswith(f"{short.sum()} steps sold out: their demand is estimated, ")
    assert found.notes[1].startswith("40 steps without stock, in which nothing was sold, are left out")
    assert with_lost_sales(replace(panel, in_stock=None)).target is panel.target


def test_a_table_says_what_sold_out_steps_are(tmp_path: Path) -> None:
    table = tmp_path / "sales.csv"
    rows = [f"a,2024-01-{day:02d},{day},{int(day != 22)}" for day in (1, 8, 15, 22, 29)]
    table.write_text("\n".join(["unique_id,ds,y,stocked", *rows]) + "\n")
    roles = {"in_stock": "stocked"}
    assert Demand(table, roles=roles).read().observed.sum() == 4
    assert Demand(table, roles=roles | {"sold_out": "estimated"}).read().observed.sum() == 5
    with pytest.raises(ArgumentError, match="must be one of missing, estimated, got 'zero'"):
        Demand(table, roles=roles | {"sold_out": "zero"}).read()
    with pytest.raises(ArgumentError, match="name it as in_stock"):
        Demand(table, roles={"sold_out": "estimated"}).read()

# SPDX-License-Identifier: Apache-2.0
"""A table for a search: read by its columns, and named by what stands in it and how it is read."""

from pathlib import Path

from sirdar.recipes.demand import Demand


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

# SPDX-License-Identifier: Apache-2.0
"""Importing costs nothing, and the public face is one sorted list."""

import subprocess
import sys

import pytest

import sirdar
from sirdar import errors

HEAVY = ("torch", "numpy", "polars", "pandas", "statsforecast", "altair", "typer", "numba")


@pytest.mark.parametrize("module", ["sirdar", "sirdar.errors", "sirdar.units"])
def test_import_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module", ["sirdar.chips", "sirdar.workload.graph", "sirdar.numerics.formats", "sirdar.inventory", "sirdar.cli"]
)
def test_import_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_public_names_are_sorted_and_there() -> None:
    assert list(sirdar._HOME) == sorted(sirdar._HOME)
    for name in sirdar.__all__:
        assert getattr(sirdar, name) is not None
    assert set(sirdar.__all__) <= set(dir(sirdar))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Panels'"):
        _ = sirdar.Panels


def test_every_error_descends_from_the_root() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) == 5
    assert all(issubclass(kind, errors.SirdarError) for kind in kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)

# SPDX-License-Identifier: Apache-2.0
"""What the tests of rounding share."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def oracles() -> ModuleType:
    """The module `oracles.py` beside this file: with --import-mode=importlib tests cannot import one another."""
    spec = importlib.util.spec_from_file_location("numerics_oracles", Path(__file__).with_name("oracles.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

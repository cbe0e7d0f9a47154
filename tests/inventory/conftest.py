# SPDX-License-Identifier: Apache-2.0
"""What the tests of policies share."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def demand() -> ModuleType:
    """The module `demand.py` beside this file: with --import-mode=importlib tests cannot import one another."""
    spec = importlib.util.spec_from_file_location("inventory_demand", Path(__file__).with_name("demand.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

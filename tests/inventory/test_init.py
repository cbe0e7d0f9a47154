# SPDX-License-Identifier: Apache-2.0
"""The package's names: all there, sorted, and none left out of them."""

import sirdar.inventory


def test_a_star_brings_all_names() -> None:
    found: dict[str, object] = {}
    exec("from sirdar.inventory import *", found)
    found.pop("__builtins__")
    assert sorted(found) == sorted(sirdar.inventory.__all__)
    assert {"simulate", "uncensor", "LearnedPolicy", "BaseStock"} <= set(found)
    assert set(found) <= set(dir(sirdar.inventory))


def test_no_public_name_is_left_out() -> None:
    ours = {
        name
        for name, value in vars(sirdar.inventory).items()
        if getattr(value, "__module__", "").startswith("sirdar.inventory") and not name.startswith("_")
    }
    assert ours | set(sirdar.inventory._LATE) == set(sirdar.inventory.__all__)

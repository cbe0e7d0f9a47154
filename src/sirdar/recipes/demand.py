# SPDX-License-Identifier: Apache-2.0
"""A demand table as recipes read it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sirdar.forecasting.bundled import ONLINE_RETAIL, ROLES
from sirdar.forecasting.panel import Panel


@dataclass(frozen=True)
class Demand:
    """A table, how its columns are read, and how far it is to be forecast.

    Args:
        source: a Parquet or CSV file or a folder of them; the bundled retail demand when None.
        horizon: steps to forecast.
        roles: arguments of `Panel.read`: columns, frequency, what a gap means.
    """

    source: Path | None = None
    horizon: int = 13
    roles: Mapping[str, Any] = field(default_factory=dict)

    def read(self) -> Panel:
        """The panel.

        Raises:
            DataError: names the file, column, row or value and what to do.
        """
        if self.source is None:
            return Panel.read(ONLINE_RETAIL, **(ROLES | dict(self.roles)))
        return Panel.read(self.source, **self.roles)

    def digest(self) -> str:
        """Names the table's content and how it is read."""
        source = self.source or ONLINE_RETAIL
        files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        found = hashlib.sha256(json.dumps(dict(self.roles), sort_keys=True).encode())
        for file in files:
            found.update(file.read_bytes())
        return found.hexdigest()[:16]

# SPDX-License-Identifier: Apache-2.0
"""The demand that ships with the package: UCI Online Retail as daily product sales (CC BY 4.0, see ATTRIBUTION.md)."""

from pathlib import Path

ONLINE_RETAIL = Path(__file__).parent / "online_retail.parquet"
# How the table is read: it lists sales only, so a day without a row is a day without a sale.
ROLES = {"freq": "W", "price": "price", "past": ["orders"], "static": ["description"], "gaps": "zero"}

# SPDX-License-Identifier: Apache-2.0
"""Claim: price elasticities of Dominick's orange juice have the right sign, and knowing prices pays when they change.

Data under --data: `dominicks_oj/orange_juice_weekly.parquet` (83 stores x 11 brands, weeks 40-160). Elasticities: the
own-price coefficients on all weeks but the last 12. Holdout: those 12 weeks, forecast once with default settings, with
and without the price and promotion component; scored on the weeks whose price differs from that of the week before.
Prices, deals and features of the holdout are known ahead, as a retailer knows its own plans.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from store import bar, store

from sirdar.forecasting.addons.elasticity import PriceElasticity
from sirdar.forecasting.models.addons import AddOns
from sirdar.forecasting.panel import Panel
from sirdar.predictive import scores

HORIZON = 12
RIVALS = [f"price{brand}" for brand in range(1, 12)]
FLAGS = ["deal", "feat"]


def main() -> None:
    """Estimate, forecast, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds dominicks_oj/")
    file = parser.parse_args().data / "dominicks_oj" / "orange_juice_weekly.parquet"
    if not file.is_file():
        print(f"skipped: {file} is not there")
        sys.exit(0)
    past = read(file).cut(HORIZON)
    signs, elasticities = estimate(past)
    errors = compare(past)
    fall = 1 - errors["with prices"]["mae"] / errors["without prices"]["mae"]
    bars = [
        bar("share of brands with a negative own elasticity", signs["brands"], 0.95, better="higher"),
        bar("share of store-brands with a negative own elasticity", signs["store-brands"], 0.95, better="higher"),
        bar("fall of the absolute error in weeks of a price change", fall, 0.10, better="higher"),
    ]
    measured = {"signs": signs, "elasticity by brand": elasticities, "holdout in weeks of a price change": errors}
    claim = (
        "own-price elasticities of orange juice are negative, and the price component lowers the error at price changes"
    )
    store("forecasting/elasticity", claim, "python benchmarks/forecasting_elasticity.py --data DIR", measured, bars)


def read(file: Path) -> Panel:
    """The panel, with the own price beside the eleven prices of the store."""
    own = pl.coalesce([pl.when(pl.col("brand") == brand).then(pl.col(f"price{brand}")) for brand in range(1, 12)])
    table = pl.read_parquet(file).with_columns(own.alias("price"), pl.col("brand", "store").cast(pl.String))
    panel = Panel.read(table, freq="W", static=["brand", "store"], future=["price", *FLAGS, *RIVALS])
    return replace(panel, price="price")


def estimate(past: Panel) -> tuple[dict[str, float], dict[str, Any]]:
    """Shares of negative own elasticities, and each brand's with its standard error."""
    fitted = PriceElasticity(cross=RIVALS, promotions=FLAGS, category="brand").fit(past)
    own = fitted.elasticities().filter(variable="price")
    brands = fitted.elasticities("category").filter(variable="price")
    signs = {
        "brands": float((brands["elasticity"] < 0).mean()),
        "store-brands": float((own["elasticity"] < 0).mean()),
        "store-brands beyond two standard errors": float((own["elasticity"] + 2 * own["standard_error"] < 0).mean()),
    }
    rows = brands.select("name", "elasticity", "standard_error").iter_rows()
    return signs, {name: {"elasticity": round(e, 3), "standard_error": round(s, 3)} for name, e, s in rows}


def compare(past: Panel) -> dict[str, dict[str, float]]:
    """Errors of one model with and without the component, on the weeks whose price changed."""
    actual = past.actuals(HORIZON)
    prices = past.tail(past.future["price"], 1, ahead=HORIZON)
    changed = np.abs(np.diff(np.log(prices), axis=1)) > 1e-4
    actual = np.where(changed, actual, np.float32(np.nan))
    models = {
        "without prices": AddOns(HORIZON, components=("season",)),
        "with prices": AddOns(HORIZON, promotions=FLAGS, category="brand"),
    }
    found = {}
    for name, model in models.items():
        forecast = model.fit(past).predict(past)
        found[name] = {
            "mae": float(np.nanmean(np.abs(actual - forecast.median()))),
            "wql": scores.wql(actual, forecast.values, forecast.levels),
            "steps": int(np.isfinite(actual).sum()),
        }
        print(name, found[name], "kept", model.kept, flush=True)
    return found


if __name__ == "__main__":
    main()

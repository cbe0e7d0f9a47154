# SPDX-License-Identifier: Apache-2.0
"""Makes the bundled panel from UCI Online Retail's transactions (Chen 2015, doi 10.24432/C5BW33, CC BY 4.0).

    python -m sirdar.forecasting.bundled.build transactions.parquet [online_retail.parquet]

One row per product and day with a sale: units, mean unit price (revenue / units, GBP) and number of orders. The rules:

1. Codes are trimmed and upper-cased (the shop typed "85123a" and "85123A"). A product is five digits with optional
   letters, a "DCGS..." gift set, or "PADS". All other codes are no products: postage (POST, DOT, C2), manual
   entries (M), discounts (D), samples (S), fees (AMAZONFEE, BANK CHARGES), donations (CRUK), bad debt (B) and
   vouchers (GIFT_...).
2. A line with a price of zero or less is a stock adjustment ("damaged", "thrown away", "?"), not demand: dropped.
3. A cancellation (invoice C...) that undoes a whole line of the same customer, product and quantity entered within the
   seven days before removes that line: it was a mistake or a changed mind, such as the +80,995/-80,995 and
   +74,215/-74,215 entries. One line is undone at most once. Any other cancellation is a return of goods that had been
   wanted: it is dropped and the demand stays where it was.
4. Days on which the shop took no order (Saturdays, Christmas, bank holidays) have no row for any product, and stay so.
"""

import sys
from pathlib import Path

import polars as pl

PRODUCT_CODE = r"^(\d{5}[A-Z]*|DCGS\w+|PADS)$"
UNDO_WITHIN = "7d"


def clean(transactions: pl.DataFrame) -> pl.DataFrame:
    """The lines that are demand, by rules 1 to 3."""
    lines = transactions.with_columns(
        pl.col("StockCode").str.strip_chars().str.to_uppercase().alias("code"),
        pl.col("CustomerID").fill_null(-1),
    ).filter(pl.col("code").str.contains(PRODUCT_CODE), pl.col("UnitPrice") > 0)
    lines = lines.sort("InvoiceDate", "InvoiceNo", "code", maintain_order=True).with_row_index("line")
    cancelled = lines.filter(pl.col("InvoiceNo").str.starts_with("C"))
    sold = lines.filter(~pl.col("InvoiceNo").str.starts_with("C"), pl.col("Quantity") > 0)
    undone = (
        cancelled.filter(pl.col("CustomerID") >= 0)
        .with_columns(-pl.col("Quantity"))
        .select("CustomerID", "code", "Quantity", "InvoiceDate")
        .join_asof(
            sold.select("CustomerID", "code", "Quantity", "InvoiceDate", "line"),
            on="InvoiceDate",
            by=["CustomerID", "code", "Quantity"],
            tolerance=UNDO_WITHIN,
            check_sortedness=False,  # sorted above; polars cannot check within groups
        )
    )
    return sold.filter(~pl.col("line").is_in(undone["line"].drop_nulls().implode()))


def daily(lines: pl.DataFrame) -> pl.DataFrame:
    """Units, mean unit price and orders of each product and day, and the product's commonest description."""
    names = (
        lines.filter(pl.col("Description").is_not_null())
        .group_by("code", pl.col("Description").str.strip_chars().alias("description"))
        .len()
        .sort("code", -pl.col("len").cast(pl.Int64), "description")
        .unique("code", keep="first", maintain_order=True)
        .select("code", "description")
    )
    units = pl.col("Quantity").sum()
    revenue = (pl.col("Quantity") * pl.col("UnitPrice").cast(pl.Float64)).sum()
    return (
        lines.group_by("code", pl.col("InvoiceDate").dt.date().alias("ds"))
        .agg(
            units.cast(pl.Int32).alias("y"),
            (revenue / units).round(3).cast(pl.Float32).alias("price"),
            pl.col("InvoiceNo").n_unique().cast(pl.Int16).alias("orders"),
        )
        .join(names, on="code", how="left")
        .rename({"code": "unique_id"})
        .sort("unique_id", "ds")
    )


def main(source: str, target: str | None = None) -> None:
    """Reads the transactions and writes the panel beside this file, or to `target`."""
    path = Path(target) if target else Path(__file__).parent / "online_retail.parquet"
    panel = daily(clean(pl.read_parquet(source)))
    part = path.with_suffix(".part")
    panel.write_parquet(part, compression="zstd", compression_level=22, row_group_size=len(panel), statistics=False)
    part.replace(path)
    size = path.stat().st_size / 1e6
    sys.stdout.write(
        f"{panel['unique_id'].n_unique()} products, {len(panel)} rows, {panel['ds'].min()} to {panel['ds'].max()}, "
        f"{panel['y'].sum()} units, {size:.2f} MB -> {path}\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

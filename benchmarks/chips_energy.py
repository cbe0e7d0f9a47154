# SPDX-License-Identifier: Apache-2.0
"""Claim, to be checked and not believed: a 16-bit matrix product takes a third of the energy of a 32-bit one.

BERT-base on 128 tokens, one batch, every matrix product and attention of it by layer in bf16 and in fp32: what the
multipliers take, what they take with sums in fp32, what the layer takes with its traffic, and with leakage for as long
as it runs. On Trainium (7 nm) and on the same chip in 45 nm. The bars are the claim's own third; those that it misses
are its answer. Writes `results/chips/energy.json`.
"""

from dataclasses import replace
from datetime import date

import chips_networks
from store import bar, store

from sirdar.chips import Chip, LayerEnergy, Number, layers, load

CHIP, BATCH, TOKENS, THIRD = "trainium1", 8, 128, 1 / 3
PARTS = {
    "multiplications": ("multiply",),
    "with sums in fp32": ("multiply", "accumulate"),
    "with traffic": ("multiply", "accumulate", "elementwise", "sram", "dram"),
    "with leakage, all of the layer": ("multiply", "accumulate", "elementwise", "sram", "dram", "static"),
}


def main() -> None:
    """Compare, store."""
    chip = load(CHIP)
    old = replace(chip, node_nm=Number(45.0, "for comparison", date(2026, 11, 28)))
    found = {"7 nm": compared(chip), "45 nm": compared(old)}
    bars = [
        bar(f"{node}, {name}: bf16 over fp32", row[name]["ratio"], THIRD)
        for node, row in found.items()
        for name in PARTS
    ]
    measured = {"chip": CHIP, "network": f"BERT-base, {BATCH} times {TOKENS} tokens", "matrix_products": found}
    claim = "A 16-bit matrix product takes a third of the energy of a 32-bit one"
    store("chips/energy", claim, "python benchmarks/chips_energy.py", measured, bars)


def compared(chip: Chip) -> dict[str, dict[str, float]]:
    """Joules of all matrix products in both formats by what is counted, their ratio, and the extremes over layers.

    The ratio is of middle values; tables of low and high values stand in `energy.toml`.
    """
    graph = chips_networks.encoder(12, 768, BATCH, TOKENS)
    narrow, wide = ([row for row in layers(graph, chip, dtype) if row.multiply.mid_j > 0] for dtype in ("bf16", "fp32"))
    return {name: ratios(narrow, wide, parts) for name, parts in PARTS.items()}


def ratios(narrow: list[LayerEnergy], wide: list[LayerEnergy], parts: tuple[str, ...]) -> dict[str, float]:
    """Of sums over layers, and the extremes over layers."""

    def joules(row: LayerEnergy) -> float:
        return sum(getattr(row, part).mid_j for part in parts)

    each = [joules(a) / joules(b) for a, b in zip(narrow, wide, strict=True)]
    bf16, fp32 = sum(map(joules, narrow)), sum(map(joules, wide))
    figures = {"bf16_j": bf16, "fp32_j": fp32, "ratio": bf16 / fp32, "least": min(each), "greatest": max(each)}
    return {key: float(f"{value:.4g}") for key, value in figures.items()}


if __name__ == "__main__":
    main()

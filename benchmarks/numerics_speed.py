# SPDX-License-Identifier: Apache-2.0
"""Claim: stochastic rounding costs at most twice (bf16) or three times (e4m3) a plain copy of fp32.

64M floats on two threads, memory of the result given, both sides in turn in one process; the ratio is that of the
medians. Then against other libraries, where they can be imported, with everything that a call allocates: torchao's
`_fp32_to_bf16_sr` and `encode` make bf16, qtorch's `float_quantize`, gfloat's `round_ndarray` and `quantise` fp32, of
64M floats again, but of 16M for gfloat, whose temporaries would not fit a small machine; ours also with memory given.
Writes `results/chips/numerics_speed.json`.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from store import bar, store

from sirdar.numerics import encode, quantise

LARGE, MEDIUM, THREADS = 1 << 26, 1 << 24, 2


def main() -> None:
    """Measure, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(THREADS)
    copies = against_copy(repeats)
    others = {name: ratio for name, pair in rivals().items() if (ratio := against(*pair))}
    report(copies, others)


def seconds(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median of each call; they take turns, so that a busy machine is busy for all."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def against_copy(repeats: int) -> dict[str, float]:
    """Milliseconds of a copy and of rounding 64M floats."""
    x = torch.randn(LARGE, generator=torch.Generator().manual_seed(0))
    out = torch.empty_like(x)
    calls: dict[str, Callable[[], Any]] = {"copy": lambda: out.copy_(x), "allocating_copy": x.clone}
    for name in ("bf16", "fp16", "e5m2", "e4m3", "e4m3fn", "e2m1"):
        for rounding in ("nearest", "stochastic"):
            calls[f"{name}_{rounding}"] = lambda n=name, r=rounding: quantise(x, n, rounding=r, seed=0, out=out)
    for name in ("bf16", "e4m3"):
        calls[f"{name}_allocating"] = lambda n=name: quantise(x, n, rounding="stochastic", seed=0)
        calls[f"{name}_encode"] = lambda n=name: encode(x, n, rounding="stochastic", seed=0)
    return {f"{name}_ms": round(1e3 * s, 2) for name, s in seconds(calls, repeats).items()}


def rivals() -> dict[str, tuple[int, Callable[[], Any], Callable[..., Any], torch.Tensor]]:
    """How many floats, their call and ours, for what can be imported."""
    large = torch.randn(LARGE, generator=torch.Generator().manual_seed(1))
    medium = large[:MEDIUM].clone()
    array = medium.numpy()

    def ours(x: torch.Tensor, name: str) -> tuple[Callable[..., Any], torch.Tensor]:
        return lambda **o: quantise(x, name, rounding="stochastic", seed=0, **o), torch.empty_like(x)

    pairs: dict[str, tuple[int, Callable[[], Any], Callable[..., Any], torch.Tensor]] = {}
    if torchao := optional("torchao.optim.quant_utils"):
        pairs["torchao_bf16"] = (
            LARGE,
            lambda: torchao._fp32_to_bf16_sr(large),
            lambda **o: encode(large, "bf16", rounding="stochastic", seed=0, **o),
            torch.empty(LARGE, dtype=torch.uint16),
        )
    if qtorch := optional("qtorch.quant"):
        for name, exponent, mantissa in (("bf16", 8, 7), ("e4m3", 4, 3)):
            pairs[f"qtorch_{name}"] = (
                LARGE,
                lambda e=exponent, m=mantissa: qtorch.float_quantize(large, exp=e, man=m, rounding="stochastic"),
                *ours(large, name),
            )
    if gfloat := optional("gfloat"):
        formats, modes = import_module("gfloat.formats"), gfloat.RoundMode
        for name, row in (("bf16", formats.format_info_bfloat16), ("e4m3fn", formats.format_info_ocp_e4m3)):
            draws = np.random.default_rng(2).integers(0, 1 << 16, MEDIUM)
            pairs[f"gfloat_{name}"] = (
                MEDIUM,
                lambda r=row, d=draws: gfloat.round_ndarray(r, array, modes.Stochastic, True, d, 16),
                *ours(medium, name),
            )
    return pairs


def optional(name: str) -> Any:  # noqa: ANN401 - a module, whose names no checker knows
    """A module, or None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(name)
    except (ImportError, OSError, RuntimeError):
        return None


def against(floats: int, theirs: Callable[[], Any], ours: Callable[..., Any], out: torch.Tensor) -> dict[str, float]:
    """Millions of values a second of both, and the ratio."""
    times = seconds({"theirs": theirs, "ours": ours, "given": lambda: ours(out=out)}, 3)
    rates = {name: floats / s / 1e6 for name, s in times.items()}
    return {
        "floats": floats,
        "theirs_million_per_s": round(rates["theirs"], 2),
        "ours_million_per_s": round(rates["ours"], 1),
        "ours_memory_given_million_per_s": round(rates["given"], 1),
        "ratio": round(rates["ours"] / rates["theirs"], 1),
        "ratio_memory_given": round(rates["given"] / rates["theirs"], 1),
    }


def report(copies: dict[str, float], others: dict[str, dict[str, float]]) -> None:
    """Store the ratios; with memory given only ours is spared the allocation, so that is no bar."""
    bars = []
    for name, target in (("bf16", 2.0), ("e4m3", 3.0)):
        ratio = copies[f"{name}_stochastic_ms"] / copies["copy_ms"]
        bars.append(bar(f"{name} stochastic, times a copy of fp32", ratio, target))
    for name, result in others.items():
        target = 25.0 if name.startswith("torchao") else 50.0
        bars.append(bar(f"speed over {name}", result["ratio"], target, better="higher"))
    measured = {"floats": LARGE, "threads": THREADS, **copies, "others": others}
    claim = "Stochastic rounding costs at most twice (bf16) or three times (e4m3) a plain copy of fp32"
    store("chips/numerics_speed", claim, "python benchmarks/numerics_speed.py", measured, bars)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Claim: on a GPU, rounding runs at the speed of its memory, stochastic rounding included.

Values a second of `quantise` on fp32 tensors that fit no cache, memory of the result allocated by torch's own cache,
timed with events over many calls; every value is read and written once, so bytes a second are eight times that. The
bandwidth it is held against is the device's own: the clock and bus width that the driver reports, twice (double data
rate). A plain copy of the same tensor stands beside it. The bits are compared with the CPU's. Writes
`results/chips/numerics_gpu.json`; without a GPU nothing is stored.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from store import bar, store

from sirdar.numerics import quantise

VALUES = 1 << 28  # 1 GiB in, 1 GiB out
BYTES = 8  # a value read and a value written
CASES = [
    (name, how)
    for name in ("bf16", "fp16", "e5m2", "e4m3", "e4m3fn", "mxfp8_e4m3")
    for how in ("nearest", "stochastic")
]


def main() -> None:
    """Measure, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--values", type=int, default=VALUES)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU is there, so nothing is stored")
        return
    x = torch.randn(arguments.values, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    out = torch.empty_like(x)
    copy_s = seconds(lambda: out.copy_(x), arguments.repeats)
    rates = {
        f"{name} {how}": BYTES * x.numel() / seconds(lambda n=name, h=how: call(x, n, h), arguments.repeats)
        for name, how in CASES
    }
    report(x.numel(), BYTES * x.numel() / copy_s, rates, same_bits())


def call(x: torch.Tensor, name: str, how: str) -> torch.Tensor:
    """One rounding, its result allocated."""
    return quantise(x, name, rounding=how, seed=0 if how == "stochastic" else None)


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median of single calls by events, after two to warm up."""
    for _ in range(2):
        action()
    times = []
    for _ in range(repeats):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        action()
        ended.record()
        ended.synchronize()
        times.append(began.elapsed_time(ended) / 1e3)
    return statistics.median(times)


def peak_bytes_per_s() -> float | None:
    """Of the device's memory, from the clock and width that its driver reports; None where it does not."""
    facts = torch.cuda.get_device_properties(0)
    clock_khz, width_bits = (getattr(facts, name, 0) for name in ("memory_clock_rate", "memory_bus_width"))
    return 2 * clock_khz * 1e3 * width_bits / 8 or None


def same_bits() -> bool:
    """Whether a million values have the bits of the CPU."""
    x = torch.randn(1 << 20, generator=torch.Generator().manual_seed(1))
    return all(torch.equal(call(x.cuda(), name, how).cpu(), call(x, name, how)) for name, how in CASES)


def report(values: int, copied: float, rates: dict[str, float], same: bool) -> None:  # noqa: FBT001
    """Store shares of the bandwidth; where the driver tells none, the copy's own rate stands in."""
    peak = peak_bytes_per_s()
    against = peak or copied
    bars = [
        bar(f"{name}, share of {'memory' if peak else 'a copy of'} bandwidth", rate / against, 0.8, better="higher")
        for name, rate in rates.items()
        if not name.startswith("mx")
    ]
    bars.append(bar("bits as on the CPU", float(same), 1.0, better="higher"))
    measured = {
        "device": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "values": values,
        "peak_bytes_per_s": peak,
        "copy_bytes_per_s": round(copied),
        "bytes_per_s": {name: round(rate) for name, rate in rates.items()},
    }
    claim = "On a GPU, rounding runs at the speed of its memory, stochastic rounding included"
    store("chips/numerics_gpu", claim, "python benchmarks/numerics_gpu.py", measured, bars)


if __name__ == "__main__":
    main()

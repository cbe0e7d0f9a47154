# SPDX-License-Identifier: Apache-2.0
"""Claim: the emulated bf16 error of a network is that of torch's own bf16 execution.

Each network runs in fp32, in torch's bf16 (weights, activations and operators), and in the emulation of bf16 that
`sirdar migrate` uses. Errors are root mean squares relative to fp32. Rounding errors are random, so single networks
with few outputs differ; what must agree is their size over all networks.
"""

import argparse
import copy
import json
import math
import statistics
from pathlib import Path
from typing import Any

import torch
from migration_models import MODELS, Entry
from store import bar, store
from torch.utils import _pytree as pytree

from sirdar.deploy.capture import capture, quiet
from sirdar.deploy.emulation import Formats, network, outputs, relative_error

SKIPPED = ("bert-base",)  # takes a minute and says what the small one does


def main() -> None:
    """Every network, then the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=Path, help="file that keeps what has been measured, to go on after a stop")
    parser.add_argument(
        "--most", type=int, default=1000, help="networks to measure before stopping; stores when all are"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done: dict[str, Any] = {}
    if arguments.part and arguments.part.exists():
        done = json.loads(arguments.part.read_text())
    left = [entry for entry in MODELS if entry.name not in SKIPPED and entry.name not in done]
    for entry in left[: arguments.most]:
        done[entry.name] = measured(entry)
        print(entry.name, done[entry.name], flush=True)
        if arguments.part:
            arguments.part.write_text(json.dumps(done))
    if len(left) > arguments.most:
        return
    rows = [row for row in done.values() if row["torch"] is not None and row["torch"] > 0]
    ratios = [row["emulated"] / row["torch"] for row in rows]
    typical = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
    within = sum(0.5 <= ratio <= 2 for ratio in ratios) / len(ratios)
    store(
        "migration/bf16",
        "the emulated bf16 error of a network is that of torch's own bf16 execution",
        "python benchmarks/migration_bf16.py",
        {"models": done, "typical_ratio": typical, "within_a_factor_of_two": within},
        [
            bar("networks compared", float(len(rows)), 30, better="higher"),
            bar("emulated error over torch's, geometric mean, away from 1", abs(typical - 1), 0.2),
            bar("networks whose errors agree within a factor of two", within, 0.9, better="higher"),
        ],
    )


def measured(entry: Entry) -> dict[str, Any]:
    """Errors of both against fp32, and of one against the other; None where torch has no bf16 for an operator."""
    module, example = entry.make()
    net = network(capture(module, example))
    with torch.no_grad(), quiet():
        exact, emulated = outputs(net), outputs(net, Formats(default="bf16", storage="bf16"))
        error = relative_error(list(zip(exact, emulated, strict=True)))
        try:
            narrow = copy.deepcopy(module).to(torch.bfloat16)
            found = narrow(*(item.bfloat16() if item.is_floating_point() else item for item in example))
        except RuntimeError as reason:
            return {"emulated": error, "torch": None, "reason": str(reason).splitlines()[0]}
    own = [
        item.float()
        for item in pytree.tree_leaves(found)
        if isinstance(item, torch.Tensor) and item.is_floating_point()
    ]
    if len(own) != len(exact):
        return {"emulated": error, "torch": None, "reason": f"{len(own)} results instead of {len(exact)}"}
    return {
        "emulated": error,
        "torch": relative_error(list(zip(exact, own, strict=True))),
        "between": relative_error(list(zip(own, emulated, strict=True))),
    }


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The script that compiles a rewritten network with the vendor's compiler, on a machine that has it."""

from collections.abc import Mapping, Sequence

from sirdar.deploy.migrate import Migration
from sirdar.errors import UnsupportedError

_CASTS = {"bf16": "bf16", "fp16": "fp16", "tf32": "tf32", "e4m3": "fp8_e4m3", "e4m3fn": "fp8_e4m3"}
_PRECISE = ("fp32", "tf32", "fp16", "bf16", "e3m4", "e4m3fn", "e4m3", "e5m2")  # the most exact first

_NEURON = '''# SPDX-License-Identifier: Apache-2.0
"""Compiles {title} for {chip} with neuronx-cc. Run it on an instance with the Neuron SDK: python compile.py

network.pt2 is the rewritten network: it computes what the original does (difference {difference:.1e}).
{lead}
"""

from pathlib import Path

import torch

HERE = Path(__file__).parent
FLAGS = {flags}
SHAPES = {shapes}


def network():
    """The rewritten network and its example inputs."""
    program = torch.export.load(HERE / "network.pt2")
    arguments, keywords = program.example_inputs
    return program.module(), tuple(arguments), dict(keywords)


def trace():
    """Ahead of time, for torch_neuronx up to torch 2.9: writes network.neuron.pt."""
    import torch_neuronx

    module, arguments, keywords = network()
    compiled = torch_neuronx.trace(module, (*arguments, *keywords.values()), compiler_args=FLAGS)
    torch.jit.save(compiled, HERE / "network.neuron.pt")
    return compiled


def native():
    """TorchNeuron, from torch 2.10 on: the network compiles when it is first called."""
    import os

    os.environ["NEURON_CC_FLAGS"] = " ".join(FLAGS)
    module, arguments, keywords = network()
    module = module.to("neuron")
    compiled = torch.compile(module, backend="neuron", dynamic=False)
    moved = {{name: item.to("neuron") for name, item in keywords.items()}}
    compiled(*(item.to("neuron") for item in arguments), **moved)
    return compiled


if __name__ == "__main__":
    try:
        import torch_neuronx  # noqa: F401
    except ImportError:
        native()
    else:
        trace()
'''


def flags(made: Migration) -> tuple[str, ...]:
    """Flags of neuronx-cc that the plan implies.

    One flag casts all matrix products alike, so it names the most exact format that the plan uses anywhere; layers that
    may go lower are listed in migration.json.
    """
    book = made.book
    if book is None:
        return ()
    found = [f"--target={book.target}"]
    used = set() if made.plan is None else {layer.format for layer in made.plan.layers}
    widest = next((name for name in _PRECISE if name in used), "fp32")
    if widest in _CASTS:
        stored = made.plan is not None and made.plan.formats.storage != "fp32"
        found += ["--auto-cast=all" if stored else "--auto-cast=matmult", f"--auto-cast-type={_CASTS[widest]}"]
    else:
        found.append("--auto-cast=none")
    if any(row.operators for row in made.rewrites if row.name == "halve-fp8"):
        found.append("--experimental-unsafe-fp8e4m3fn-as-fp8e4m3")
    kinds = {} if made.graph is None else _kinds(made)
    if kinds.get("softmax", 0) and kinds.get("matmul", 0) > kinds.get("conv", 0):
        found.append("--model-type=transformer")
    if made.fit is not None and made.fit.risk in ("high", "beyond the limit"):
        found.append("--optlevel=1")
    return tuple(found)


def script(made: Migration) -> str:
    """The text of a Python file that compiles network.pt2, which lies beside it.

    Raises:
        UnsupportedError: the chip has no vendor compiler that a script could call.
    """
    if made.book is None or made.book.compiler != "neuron":
        msg = f"{made.chip.name} has no vendor compiler that a script could call"
        raise UnsupportedError(msg)
    shapes: Sequence[tuple[int, ...]] = () if made.buckets is None else made.buckets.shapes
    lead = (
        "Compile once for each shape in SHAPES and pad inputs to the next larger one."
        if shapes
        else "Shapes are fixed."
    )
    rows = ",\n    ".join(repr(flag) for flag in flags(made))
    return _NEURON.format(
        title=made.title,
        chip=made.chip.name,
        difference=made.difference,
        lead=lead,
        flags=f"[\n    {rows},\n]",
        shapes=repr(list(shapes)),
    )


def _kinds(made: Migration) -> Mapping[str, int]:
    assert made.graph is not None
    found: dict[str, int] = {}
    for operator in made.graph.operators:
        found[operator.kind] = found.get(operator.kind, 0) + 1
    return found

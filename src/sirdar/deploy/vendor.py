# SPDX-License-Identifier: Apache-2.0
"""The script that compiles a rewritten network with the vendor's compiler, on a machine that has it."""

from collections.abc import Mapping, Sequence

from sirdar.deploy.migrate import Migration
from sirdar.errors import UnsupportedError

PROGRAM = "network.pt2"
PLANNED = "network_planned.pt2"  # the network with the casts of its plan
_CASTS = {"bf16": "bf16", "fp16": "fp16", "tf32": "tf32"}
_PRECISE = ("fp32", "tf32", "fp16", "bf16")  # the most exact first

_NEURON = '''# SPDX-License-Identifier: Apache-2.0
"""Compiles {title} for {chip} with neuronx-cc. Run it on an instance with the Neuron SDK: python compile.py

{program} is the rewritten network{casts}.
{lead}
"""

from pathlib import Path

import torch

HERE = Path(__file__).parent
PROGRAM = HERE / "{program}"
FLAGS = {flags}
SHAPES = {shapes}


class Ordered(torch.nn.Module):
    """The network with all its inputs in order, those by keyword last."""

    def __init__(self, module, count, names):
        super().__init__()
        self.module, self.count, self.names = module, count, names

    def forward(self, *inputs):
        return self.module(*inputs[: self.count], **dict(zip(self.names, inputs[self.count :])))


def network():
    """The rewritten network and its example inputs."""
    program = torch.export.load(PROGRAM)
    arguments, keywords = program.example_inputs
    return Ordered(program.module(), len(arguments), list(keywords)), (*arguments, *keywords.values())


def trace():
    """Ahead of time, for torch_neuronx up to torch 2.9: writes network.neuron.pt."""
    import torch_neuronx

    module, inputs = network()
    compiled = torch_neuronx.trace(module, inputs, compiler_args=FLAGS)
    torch.jit.save(compiled, HERE / "network.neuron.pt")
    return compiled


def native():
    """TorchNeuron, from torch 2.10 on: the network compiles when it is first called."""
    import os

    os.environ["NEURON_CC_FLAGS"] = " ".join(FLAGS)
    module, inputs = network()
    compiled = torch.compile(module.to("neuron"), backend="neuron", dynamic=False)
    compiled(*(item.to("neuron") for item in inputs))
    return compiled


if __name__ == "__main__":
    try:
        import torch_neuronx  # noqa: F401
    except ImportError:
        native()
    else:
        trace()
'''

_FIRST = '''# SPDX-License-Identifier: Apache-2.0
"""Compiles {title} for {chip} with neuron-cc. Run it where torch-neuron is installed:

    python compile.py package.module:factory

torch-neuron ends at torch 1.13, which cannot open the programs of today's torch: the factory is the one that was given
to sirdar migrate, and returns (module, example). What sirdar migrate rewrote is not in it: see migration.json.
{lead}
"""

import importlib
import sys
from pathlib import Path

import torch

FLAGS = {flags}
SHAPES = {shapes}


def trace(name):
    """Ahead of time; writes network.neuron.pt."""
    import torch_neuron  # noqa: F401 - it adds torch.neuron

    title, _, attribute = name.partition(":")
    module, example = getattr(importlib.import_module(title), attribute)()
    example = example if isinstance(example, tuple) else (example,)
    compiled = torch.neuron.trace(module.eval(), example, compiler_args=FLAGS)
    compiled.save(str(Path(__file__).parent / "network.neuron.pt"))
    return compiled


if __name__ == "__main__":
    trace(sys.argv[1])
'''


def flags(made: Migration, *, planned: bool = True) -> tuple[str, ...]:
    """Flags of the vendor's compiler that the plan implies; none where there is no such compiler.

    Args:
        made: the migration.
        planned: whether the program that is compiled carries the casts of the plan. Then only what it leaves in fp32 is
            for a flag to cast, and only to tf32, since torch has no such type. Otherwise one flag casts all matrix
            products alike, and names the most exact format that the plan uses anywhere.
    """
    book = made.book
    if book is None or book.compiler != "neuron":
        return ()
    if book.target == "inf1":
        return _first_flags(made)
    found = [f"--target={book.target}", *(_left(made) if planned else _widest(made))]
    if any(row.operators for row in made.rewrites if row.name == "halve-fp8"):
        found.append("--experimental-unsafe-fp8e4m3fn-as-fp8e4m3")
    kinds = {} if made.graph is None else _kinds(made)
    if kinds.get("softmax", 0) and kinds.get("matmul", 0) > kinds.get("conv", 0):
        found.append("--model-type=transformer")
    if made.fit is not None and made.fit.risk in ("high", "beyond the limit"):
        found.append("--optlevel=1")
    return tuple(found)


def _left(made: Migration) -> list[str]:
    used = set() if made.plan is None else {layer.format for layer in made.plan.layers}
    if "tf32" in used and "fp32" not in used:
        return ["--auto-cast=matmult", "--auto-cast-type=tf32"]
    return ["--auto-cast=none"]


def _widest(made: Migration) -> list[str]:
    used = set() if made.plan is None else {layer.format for layer in made.plan.layers}
    widest = next((name for name in _PRECISE if name in used), "fp32" if not used else "bf16")
    if widest not in _CASTS:
        return ["--auto-cast=none"]
    stored = made.plan is not None and made.plan.formats.storage != "fp32"
    return ["--auto-cast=all" if stored else "--auto-cast=matmult", f"--auto-cast-type={_CASTS[widest]}"]


def _first_flags(made: Migration) -> tuple[str, ...]:
    """Of neuron-cc, which casts everything to bf16 by itself; what it keeps in fp32 is at least as exact as planned."""
    used = set() if made.plan is None else {layer.format for layer in made.plan.layers}
    storage = "" if made.plan is None else made.plan.formats.storage
    if used == {"fp16"}:
        return ("--fast-math", "fp32-cast-all-fp16" if storage == "fp16" else "fp32-cast-matmult-fp16")
    return ("--fast-math", "fp32-cast-all" if used == {"bf16"} and storage == "bf16" else "fp32-cast-matmult-bf16")


def script(made: Migration, *, planned: bool = True) -> str:
    """The text of a Python file that calls the vendor's compiler.

    Args:
        made: the migration.
        planned: whether `PLANNED` lies beside it; otherwise it compiles `PROGRAM`.

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
    rows = ",\n    ".join(repr(flag) for flag in flags(made, planned=planned))
    form = _FIRST if made.book.target == "inf1" else _NEURON
    error = 0.0 if made.plan is None else made.plan.error
    casts = f", with the casts of its plan (error {error:.1e} when emulated)"
    return form.format(
        title=made.title,
        chip=made.chip.name,
        program=PLANNED if planned else PROGRAM,
        casts=casts if planned else f": it computes what the original does (difference {made.difference:.1e})",
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

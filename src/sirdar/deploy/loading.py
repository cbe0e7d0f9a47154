# SPDX-License-Identifier: Apache-2.0
"""A network by its name on the command line: a factory of the user's own, or an exported program.

``package.module:factory`` names a function without arguments that returns a module and example inputs; it is the
user's own code and runs as such. ``package.module:factory@weights.safetensors`` fills its weights from a file.
``network.pt2`` is a file that `torch.export.save` wrote; nothing in it can run code (`sirdar.deploy.archive`).
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sirdar.deploy.findings import location_of_error
from sirdar.deploy.opening import opened
from sirdar.errors import ArgumentError, DataError, nearest
from sirdar.workload.trace import Example, split

FORMS = "package.module:factory, package.module:factory@weights.safetensors or network.pt2"


def load(spec: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network that a text names, as one that takes tensors in a row.

    Args:
        spec: one of the forms above. Modules are looked for in the current folder too.

    Returns:
        The module in evaluation mode, and example inputs in the order of its arguments.

    Raises:
        ArgumentError, DataError: as `load_with_example`.
    """
    module, example = load_with_example(spec)
    arguments, keywords = split(example)
    if keywords or not all(isinstance(item, Tensor) for item in arguments):
        return Positional(module, arguments, keywords).eval(), tensors_of(example)
    return module, arguments


def load_with_example(spec: str) -> tuple[nn.Module, Example]:
    """The network that a text names, and its example as it was given.

    Args:
        spec: one of the forms above. Modules are looked for in the current folder too.

    Returns:
        The module in evaluation mode, and a tensor, a tuple of arguments or a dictionary of keyword arguments.

    Raises:
        ArgumentError: the text has none of the forms, or what it names does not exist or is no factory.
        DataError: a file is missing, wrong, or could run code; the sentence names it.
    """
    if spec.endswith(".pt2"):
        return _exported(Path(spec))
    name, _, weights = spec.partition("@")
    if ":" not in name:
        msg = f"a network must be given as {FORMS}, got {spec!r}"
        raise ArgumentError(msg)
    module, example = _made(name)
    if weights:
        _fill(module, Path(weights))
    return module.eval(), example


def _made(name: str) -> tuple[nn.Module, Example]:
    """What a factory returns, checked."""
    made = _called(name, _factory(name))
    if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], nn.Module):
        msg = f"{name} must return (module, example), got {_described(made)}"
        raise ArgumentError(msg)
    module, example = made
    if not isinstance(example, Tensor | tuple | dict) or not tensors_of(example):
        msg = f"{name} must return a tensor, or a tuple or dict with tensors, as the example, got {_described(example)}"
        raise ArgumentError(msg)
    return module, example


def _called(name: str, factory: Any) -> Any:  # noqa: ANN401 - the user's function
    try:
        return factory()
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        inner = error.__traceback__.tb_next if error.__traceback__ is not None else None  # without this very line
        place = location_of_error(error.with_traceback(inner))
        where = f" at {place}" if place is not None else ""
        msg = f"{name} raised {type(error).__name__}{where}: {_first_line(error)}"
        raise ArgumentError(msg) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["without a word"])[0]


def _described(value: object) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(item).__name__ for item in value) or 'nothing'}"
    return type(value).__name__


def _factory(name: str) -> Any:  # noqa: ANN401 - the user's function
    title, _, attribute = name.partition(":")
    try:
        with _current_folder():
            owner = importlib.import_module(title)
    except (Exception, SystemExit) as error:  # the user's own code runs when it is imported, and may raise anything
        kind = "" if isinstance(error, ImportError | ValueError) else f"{type(error).__name__}: "
        msg = f"module {title!r} of {name!r} cannot be imported: {kind}{_first_line(error)}"
        raise ArgumentError(msg) from error
    factory = getattr(owner, attribute, None)
    if not callable(factory):
        hint = nearest(attribute, vars(owner)) if attribute and factory is None else ""
        missing = "does not exist" if factory is None else "cannot be called"
        msg = f"{attribute!r} of module {title!r} {missing}.{hint}"
        raise ArgumentError(msg)
    return factory


@contextmanager
def _current_folder() -> Iterator[None]:
    """As `python -m` does: an installed command does not look for modules in the current folder by itself."""
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)


def _fill(module: nn.Module, path: Path) -> None:
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        msg = f"{path}: cannot be read as safetensors ({reason})"
        raise DataError(msg) from error
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n")[1:2]).strip() or error
        msg = f"{path}: does not fit {type(module).__name__}: {reason}"
        raise DataError(msg) from error


def _exported(path: Path) -> tuple[nn.Module, tuple[Tensor, ...]]:
    program = opened(path)
    inputs, keywords = program.example_inputs or ((), {})
    example = tensors_of((inputs, keywords))
    if not example:
        msg = f"{path}: carries no example inputs that are tensors; export it with some"
        raise DataError(msg)
    module = program.module(check_guards=False)
    # torch.export refuses to switch modes, since the mode is compiled in; here everything is evaluated anyway.
    for method in ("train", "eval"):
        module.__dict__.pop(method, None)
    return Positional(module, inputs, keywords), example


def tensors_of(example: Any) -> tuple[Tensor, ...]:  # noqa: ANN401 - as nested as arguments may be
    """The tensors of an example in a row, those by keyword last."""
    return tuple(item for item in pytree.tree_leaves(example) if isinstance(item, Tensor))


class Positional(nn.Module):
    """A network that takes the tensors of its arguments in a row, those by keyword last.

    Args:
        module: the network.
        arguments: its positional arguments, of which all but the tensors are passed as they are here.
        keywords: the same by name.
    """

    def __init__(self, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        super().__init__()
        self.module = module
        leaves, self.structure = pytree.tree_flatten((arguments, keywords))
        self.others = {place: item for place, item in enumerate(leaves) if not isinstance(item, Tensor)}

    def forward(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - whatever the network returns
        """What the network makes of its inputs."""
        given = iter(inputs)
        places = range(self.structure.num_leaves)
        leaves = [self.others[place] if place in self.others else next(given) for place in places]
        arguments, keywords = pytree.tree_unflatten(leaves, self.structure)
        return self.module(*arguments, **keywords)

# SPDX-License-Identifier: Apache-2.0
"""Camera networks that a search saved, opened as they were trained."""

from importlib import import_module
from pathlib import Path

from torch import Tensor, nn

from sirdar.errors import DataError
from sirdar.tensors import read_tensors
from sirdar.vision.checkpoint import load_network

_WEIGHTS = "network.safetensors"  # as `sirdar search` writes it
_PRODUCTS = ("detection", "classification", "segmentation")


def camera_file(model: str) -> Path | None:
    """The weights of a camera network, where a text is their path or that of a folder that holds them."""
    path = Path(model)
    if path.name == _WEIGHTS:
        return path
    return path / _WEIGHTS if (path / _WEIGHTS).exists() else None


def saved_camera(path: Path) -> tuple[nn.Module, Tensor]:
    """A network that a search for a camera product saved, with one image.

    Raises:
        DataError: the file is missing, none of ours, or of another network than it says.
    """
    tensors, facts = read_tensors(path)
    name = facts.get("product") if isinstance(facts, dict) else None
    if name not in _PRODUCTS:
        msg = f"{path}: is for the product {name!r}; known are {', '.join(_PRODUCTS)}"
        raise DataError(msg)
    recipe = import_module(f"sirdar.recipes.{name}")
    try:
        product = recipe.product_of(facts, 1)
        candidate = product.space.candidate(facts["choices"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path}: its choices are not of the space of {name} ({error})"
        raise DataError(msg) from error
    network = product.network(candidate)
    others = [tensors[key] for key, value in network.state_dict().items() if _differs(tensors.get(key), value)]
    if others:  # it was trained for another number of classes
        network = recipe.product_of(facts, int(others[0].shape[0])).network(candidate)
    load_network(path, network)
    return network.eval(), product.example(candidate)


def _differs(found: Tensor | None, wanted: Tensor) -> bool:
    return found is not None and found.ndim > 0 and found.shape[1:] == wanted.shape[1:] and found.shape != wanted.shape

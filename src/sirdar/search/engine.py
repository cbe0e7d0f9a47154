# SPDX-License-Identifier: Apache-2.0
"""Optuna, where it is used and as quiet as it can be."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sirdar.errors import UnsupportedError


def require_optuna() -> Any:  # noqa: ANN401 - the module
    """The module, or a sentence that says how to install it.

    Raises:
        UnsupportedError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        msg = "this search needs Optuna, which is not installed: pip install 'sirdar[search]'"
        raise UnsupportedError(msg) from error
    return optuna


@contextmanager
def quiet(optuna: Any) -> Iterator[None]:  # noqa: ANN401 - the module
    """Optuna says nothing but warnings within, and what it said before after it."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)

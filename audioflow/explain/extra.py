"""The packages that only explaining needs."""

import importlib
from typing import Any

from audioflow.errors import InputError


def needed(package: str) -> Any:
    """The package; raises `InputError`, which says how to install it, where it is missing."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{package} is not installed ({error}): install it with `pip install "
            "'audioflow[explain]'`"
        ) from error

"""Packages that only some backbones need, imported when they are used."""

import importlib
from typing import Any

from audioflow.registry import UnknownPlugin


def needed(package: str, backbone: str, extra: str, also: str = "") -> Any:
    """The module `package`. Raises `UnknownPlugin` naming the extra to install where it is not.

    also: a package that is in no extra, to be installed beside it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package.partition(".")[0]:
            raise
        raise UnknownPlugin(
            f"backbone {backbone!r} needs the package {error.name!r}, which is not installed: "
            f"pip install 'audioflow[{extra}]' {also}".rstrip()
        ) from error

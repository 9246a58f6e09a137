"""Plug-ins by name: a name in a recipe, a "module:Class" in code, imported on first use."""

import difflib
import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from audioflow.errors import AudioflowError, shown


class Settings(BaseModel):
    """Base of every group of settings: frozen; unknown keys and values out of range are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def expression(value: str, prefix: str = "") -> str:
    """The value, where what follows the prefix is a regular expression; else `ValueError`."""
    try:
        re.compile(value.removeprefix(prefix))
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from None
    return value


Expression = Annotated[str, AfterValidator(expression)]
"""A regular expression."""


LEAST_SHARE = 0.0001
"""Of a CPU or a GPU: Ray refuses less."""


def _gpus(value: float) -> float:
    if value and not (LEAST_SHARE <= value <= 1 or value.is_integer()):
        raise ValueError(
            f"{shown(value)} is not allowed; allowed: 0, from {LEAST_SHARE:g} to 1, or a whole "
            "number"
        )
    return value


Gpus = Annotated[float, AfterValidator(_gpus)]
"""GPUs of one process: some whole ones, or a share of one."""


class UnknownPlugin(AudioflowError):
    """A name that no plug-in of this kind has, or a plug-in whose package is not installed."""

    exit_code = 2


@dataclass(frozen=True)
class Registry:
    """The plug-ins of one folder.

    Every registered class has a nested or imported `Settings` class (attribute `Settings`), and is
    constructed from one instance of it.
    """

    kind: str
    entries: Mapping[str, str]

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self.entries)

    def load(self, name: str) -> Any:
        """Import and return the class behind `name`.

        Raises `UnknownPlugin` for any other name, and where a package that it needs is missing.
        """
        if name not in self.entries:
            hint = nearest(name, self.entries)
            raise UnknownPlugin(
                f"{self.kind} {name!r} does not exist; there are {', '.join(self.names())}"
                + (f"; did you mean {hint!r}?" if hint else "")
            )
        module, _, attribute = self.entries[name].partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("", __name__.partition(".")[0]):
                raise
            raise UnknownPlugin(
                f"{self.kind} {name!r} needs the package {error.name!r}, which is not installed"
            ) from error

    def build(self, name: str, options: Mapping[str, Any]) -> Any:
        """The plug-in `name`, constructed from `options` checked by its own `Settings`.

        Raises `UnknownPlugin`, and `pydantic.ValidationError` for options that are wrong.
        """
        plugin = self.load(name)
        return plugin(plugin.Settings.model_validate(dict(options)))


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The candidate spelt most like `word` (case aside), or "" where none is close."""
    by_spelling = {str(candidate).casefold(): str(candidate) for candidate in candidates}
    found = difflib.get_close_matches(str(word).casefold(), by_spelling, n=1, cutoff=0.6)
    return by_spelling[found[0]] if found else ""

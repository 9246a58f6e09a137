"""Plug-ins by name: a name in a recipe, a "module:Class" in code, imported when it is first used."""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from audioflow.errors import AudioflowError


class Settings(BaseModel):
    """Base of every group of settings: frozen, and unknown keys or values out of range are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class UnknownPlugin(AudioflowError):
    """A name that no plug-in of this kind has."""

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
        """Import and return the class behind `name`; raises `UnknownPlugin` for any other name."""
        if name not in self.entries:
            hint = nearest(name, self.entries)
            raise UnknownPlugin(
                f"{self.kind} {name!r} does not exist; there are {', '.join(self.names())}"
                + (f"; did you mean {hint!r}?" if hint else "")
            )
        module, _, attribute = self.entries[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def build(self, name: str, options: Mapping[str, Any]) -> Any:
        """The plug-in `name`, constructed from `options` checked by its own `Settings`."""
        plugin = self.load(name)
        return plugin(plugin.Settings.model_validate(dict(options)))


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The candidate spelt most like `word`, or "" where none is close."""
    found = difflib.get_close_matches(str(word), [str(c) for c in candidates], n=1, cutoff=0.6)
    return found[0] if found else ""

"""Public weight files as a backbone declares them, and the settings that name weights."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel

RANDOM = "random"
"""Given instead of a file: weights drawn from a seed, for tests and baselines; untrained."""


@dataclass(frozen=True)
class KnownWeights:
    """A public weight file.

    sha256: of the whole file, or its first digits where only these are published. md5: where that
    is what is published. Where neither is known, the hash is pinned at the first fetch.
    citation: whom to cite. note: what a user has to know, such as which code the file is from.
    """

    name: str
    url: str
    licence: str
    citation: str
    sha256: str = ""
    md5: str = ""
    size_bytes: int | None = None
    note: str = ""


class _NamesWeights:
    """Marks a setting whose value names a weight file."""


WeightsName = Annotated[str, _NamesWeights()]
"""A setting that names weights: one of the backbone's `KnownWeights`, `random`, a path or a url."""


def weights_fields(settings: type[BaseModel]) -> list[str]:
    """The settings that name weights, `WeightsName` or `WeightsName | None`."""
    return [
        name
        for name, field in settings.model_fields.items()
        if any(isinstance(mark, _NamesWeights) for mark in _marks(field))
    ]


def _marks(field: object) -> list[object]:
    found = list(getattr(field, "metadata", ()))
    for part in getattr(getattr(field, "annotation", None), "__args__", ()):
        found += getattr(part, "__metadata__", ())
    return found

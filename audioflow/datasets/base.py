"""What every reader offers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from audioflow.clip import Clip
from audioflow.registry import Settings
from audioflow.storage import Folder

Resolve = Callable[[str], Folder]
"""Turns a path of the recipe into its place: an absolute url, with the options of its store."""


@dataclass(frozen=True)
class About:
    """What a person wants to know of a reader; what it reads stands in its file's docstring.

    recipe: the section `manifest` for it, in YAML. get: commands of a shell that fetch the public
    set into the folder they run in; nobody but a person runs them. size: of what they fetch.
    """

    recipe: str
    get: tuple[str, ...] = ()
    home: str = ""
    licence: str = ""
    size: str = ""


class Reader(Protocol):
    """A data-set format: finds clips, labels and published columns; decodes nothing.

    makes_media: whether it writes the media where they are not there. about: see `About`.
    """

    Settings: ClassVar[type[Settings]]
    makes_media: ClassVar[bool]
    about: ClassVar[About]

    def __init__(self, settings: Any) -> None: ...

    @property
    def source(self) -> str:
        """What is read, for messages."""
        ...

    def read(self, resolve: Resolve) -> Iterable[Clip]:
        """All clips, once: those of a long list one after the other, not all in memory.

        Raises `InputError` for what is missing or wrong as a whole, here or while they are gone
        through.
        """
        ...


def clip_id(relative: str, start_s: float | None, duration_s: float | None) -> str:
    """The id of a clip: its path below the root, with the span where it has one."""
    if start_s is None and duration_s is None:
        return relative
    length = "" if duration_s is None else f"+{duration_s:.15g}"
    return f"{relative}@{start_s or 0.0:.15g}{length}"

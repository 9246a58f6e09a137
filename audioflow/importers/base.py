"""What every importer offers."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import AfterValidator, Field

from audioflow.downloads import LocalFile
from audioflow.embeddings import ClipEmbedding
from audioflow.errors import InputError
from audioflow.listing import find_files
from audioflow.matching import KeyChoice, KeySettings
from audioflow.registry import Settings
from audioflow.schemas import embeddings_schema
from audioflow.storage import Folder

Resolve = Callable[[str], Folder]
"""Turns a path of the recipe into its place: an absolute url, with the options of its store."""

_TAKEN = tuple(embeddings_schema({}).names)


def _free(value: str) -> str:
    if value in _TAKEN:
        raise ValueError(
            f"{value!r} is a column of every embeddings table; allowed: any other name than "
            + ", ".join(_TAKEN)
        )
    return value


LayerName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_free)]


class ImporterSettings(Settings):
    """What every importer takes. key: how its ids are matched to clips."""

    key: KeyChoice = KeySettings(of="clip_id")


@dataclass(frozen=True)
class Place:
    """Where a file to import lies. name: its path below the folder that the settings name, where
    that says whose vectors it holds; it counts then, as the content does."""

    folder: Folder
    name: str = ""


class Imported(Protocol):
    """The vectors in some files, by their own ids. A clip is in memory only while it is asked for.

    A layer may have several vectors per patch (the frames of a spectrogram), of each the same.

    They may have `column_names`: layer name -> what each of its columns is, in words.
    """

    @property
    def layers(self) -> Mapping[str, int]:
        """Names and widths of the layers."""
        ...

    @property
    def clip_ids(self) -> Collection[str]:
        """The clips there are; `in` takes no longer with many of them."""
        ...

    def embedding(self, clip_id: str) -> ClipEmbedding:
        """The vectors of a clip, one or more; raises `KeyError` for a clip that is not there, and
        `InputError` for vectors that cannot be.

        Its length is that of its patches, as far as nothing else is known; its coverage is 1.
        """
        ...


class Importer(Protocol):
    """A form in which vectors are kept.

    revision: raised whenever the same files give other vectors than before.
    """

    Settings: ClassVar[type[ImporterSettings]]
    revision: ClassVar[int]

    def __init__(self, settings: Any) -> None: ...

    @property
    def settings(self) -> ImporterSettings:
        """What the recipe says."""
        ...

    @property
    def layers(self) -> Sequence[str]:
        """Names of the layers, as the settings say; those of the files where they say none."""
        ...

    def files(self, resolve: Resolve) -> Sequence[Place]:
        """The places of all files that are read; raises `InputError` where there is none."""
        ...

    def what_counts(self) -> Mapping[str, Any]:
        """The settings that decide the vectors, beside the content of the files."""
        ...

    def opened(self, files: Sequence[LocalFile]) -> AbstractContextManager[Imported]:
        """The vectors of the files, which have the names of their places.

        Raises `InputError` for what is missing or wrong in them.
        """
        ...


def files_below(place: Folder, *endings: str, expected: str) -> list[Place]:
    """The places of all files below a folder whose names end so; raises `InputError` for none."""
    found = [
        Place(Folder(file.url, place.options), file.relative)
        for file in find_files(place.url, place.options)
        if file.relative.endswith(endings)
    ]
    if not found:
        raise InputError(f"{place.url} holds no {' or '.join(endings)} file; expected {expected}")
    return found

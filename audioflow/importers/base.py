"""What every importer offers."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import Field

from audioflow.embeddings import ClipEmbedding
from audioflow.registry import Settings


class ImporterSettings(Settings):
    """What every importer asks for. files: paths or urls; their content counts, not their place."""

    files: list[str] = Field(min_length=1)


@dataclass(frozen=True)
class LocalFile:
    """A file to import: a local path with its content, and the url that messages name."""

    path: str
    url: str


class Imported(Protocol):
    """The vectors in some files, by clip id. A clip is in memory only while it is asked for."""

    @property
    def layers(self) -> Mapping[str, int]:
        """Names and widths of the layers."""
        ...

    @property
    def clip_ids(self) -> Collection[str]:
        """The clips there are; `in` takes no longer with many of them."""
        ...

    def embedding(self, clip_id: str) -> ClipEmbedding:
        """The vectors of a clip, one or more; raises `KeyError` for a clip that is not there.

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
    def files(self) -> Sequence[str]:
        """What is read: paths or urls, as the settings say."""
        ...

    @property
    def layers(self) -> Sequence[str]:
        """Names of the layers, as the settings say."""
        ...

    def what_counts(self) -> Mapping[str, Any]:
        """The settings that decide the vectors, beside the content of the files."""
        ...

    def opened(self, files: Sequence[LocalFile]) -> AbstractContextManager[Imported]:
        """The vectors of the files. Raises `InputError` for what is missing or wrong in them."""
        ...

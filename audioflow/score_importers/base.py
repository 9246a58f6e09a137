"""What every score importer offers.

Shapes: N rows, K columns.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from audioflow.downloads import LocalFile
from audioflow.foreign_scores import Wanted
from audioflow.matching import KeyChoice, KeySettings
from audioflow.registry import Settings
from audioflow.storage import Folder

Resolve = Callable[[str], Folder]
"""Turns a path of the recipe into its place: an absolute url, with the options of its store."""


class ScoreImporterSettings(Settings):
    """What every score importer asks for, beside its files.

    values: what they are; `auto` tells it by looking at all of them. task: `single` (scores of a
    clip add up to 1), `multi` (every class has a score of its own), or `auto`: `multi` where a clip
    of the manifest has several labels or none beside others that have some. key: how rows are
    matched to clips. rename: a class of the file -> ours. spelling: `loose` where case, blanks, '_'
    and '-' do not count. other_classes: of classes that no clip has as a label. zero_rows: whether
    a row of zeros alone counts as not there. max_unknown_share: more rows of
    no clip than this are an error.
    """

    values: Wanted = "auto"
    task: Literal["auto", "single", "multi"] = "auto"
    key: KeyChoice = KeySettings()
    rename: dict[str, str] = Field(default_factory=dict)
    spelling: Literal["exact", "loose"] = "exact"
    other_classes: Literal["keep", "drop"] = "keep"
    zero_rows: Literal["fail", "keep"] = "fail"
    max_unknown_share: float = Field(1.0, ge=0, le=1)


@dataclass(frozen=True)
class Matrix:
    """Values as they stand in a file.

    ids: of the N rows, as the file has them. columns: names of the K classes. values_NK: numbers of
    any type, perhaps mapped from a file; NaN where there is none. told: what was recognised.
    """

    ids: Sequence[str]
    columns: Sequence[str]
    values_NK: NDArray[np.generic]
    told: str


class ScoreImporter(Protocol):
    """A form in which scores are kept.

    revision: raised whenever the same files give other values than before.
    """

    Settings: ClassVar[type[ScoreImporterSettings]]
    revision: ClassVar[int]

    def __init__(self, settings: Any) -> None: ...

    @property
    def settings(self) -> ScoreImporterSettings:
        """What the recipe says."""
        ...

    def files(self, resolve: Resolve) -> Sequence[Folder]:
        """The places of all files that are read; raises `InputError` where there is none."""
        ...

    def what_counts(self) -> Mapping[str, Any]:
        """The settings that decide the values, beside the content of the files."""
        ...

    def opened(self, files: Sequence[LocalFile]) -> AbstractContextManager[Matrix]:
        """The matrix in the files (in the order of `files`), in bounded memory.

        Raises `InputError` for what is missing or wrong in them.
        """
        ...

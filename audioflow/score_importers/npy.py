"""`npy`: an array of scores, beside it a list of ids and a list of classes.

N clips and C classes stand in the array as N x C, N x 1 x C, C x N, C x N x 1 or with other axes of
length 1. It is mapped into memory and never unpickled.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray
from pydantic import Field

from audioflow.downloads import LocalFile
from audioflow.errors import InputError
from audioflow.id_lists import read_classes, read_ids
from audioflow.npy_arrays import numbers
from audioflow.score_importers.base import Matrix, Resolve, ScoreImporterSettings
from audioflow.storage import Folder

_FILES = ("scores", "ids", "classes")
_EXPECTED = "an array of numbers, such as (clips, classes)"

Layout = Literal["auto", "clips_first", "classes_first"]


class NpySettings(ScoreImporterSettings):
    """scores: the array. ids: a list of ids or paths, a row of the array each. classes: their names
    in the order of the array. id_column: of ids in a file with a header. layout: which axis comes
    first; needed where there are as many clips as classes."""

    scores: str = Field(min_length=1)
    ids: str = Field(min_length=1)
    classes: str = Field(min_length=1)
    id_column: str | None = None
    layout: Layout = "auto"


class NpyScores:
    """An array of numbers and two lists."""

    Settings = NpySettings
    revision: ClassVar[int] = 1

    def __init__(self, settings: NpySettings) -> None:
        self.settings = settings

    def files(self, resolve: Resolve) -> Sequence[Folder]:
        return [resolve(getattr(self.settings, name)) for name in _FILES]

    def what_counts(self) -> Mapping[str, Any]:
        return self.settings.model_dump(mode="json", exclude=set(_FILES))

    @contextlib.contextmanager
    def opened(self, files: Sequence[LocalFile]) -> Iterator[Matrix]:
        scores, ids_file, classes_file = files
        ids = read_ids(ids_file, self.settings.id_column)
        classes = read_classes(classes_file)
        array = numbers(scores, _EXPECTED)
        counts = f"{ids_file.url} has {len(ids)} ids, {classes_file.url} has {len(classes)} classes"
        values_NK, told = arranged(
            array, (len(ids), len(classes)), self.settings.layout, f"{scores.url}", counts
        )
        yield Matrix(ids, classes, values_NK, told)


def arranged(
    array: NDArray[Any], shape: tuple[int, int], layout: Layout, source: str, counts: str
) -> tuple[NDArray[Any], str]:
    """The array as a view (N, C), and in words how it was read.

    shape: N and C. Raises `InputError` where the array cannot be of this shape, and where it is so
    both ways and `layout` does not say which is meant.
    """
    ways = {
        "clips_first" if clips < classes else "classes_first": (clips, classes)
        for clips, classes in itertools.permutations(range(array.ndim), 2)
        if (array.shape[clips], array.shape[classes]) == shape and array.size == shape[0] * shape[1]
    }
    if not ways:
        raise InputError(
            f"{source} is {_shaped(array)}, but {counts}; expected {shape[0]} x {shape[1]} (or "
            f"{shape[1]} x {shape[0]}) and axes of length 1"
        )
    if layout == "auto":
        if len(ways) > 1 and min(shape) > 1:
            raise InputError(
                f"{source} is {_shaped(array)}, with as many clips as classes; say by layout which "
                "come first: clips_first or classes_first"
            )
        layout = "clips_first" if "clips_first" in ways else "classes_first"
    if layout not in ways:
        raise InputError(
            f"{source} is {_shaped(array)}, but {counts}; layout {layout} does not fit, "
            f"{' and '.join(ways)} does"
        )
    clips, classes = ways[layout]
    others = [axis for axis in range(array.ndim) if axis not in (clips, classes)]
    names = {clips: "clips", classes: "classes"}
    told = " x ".join(names.get(axis, "1") for axis in range(array.ndim))
    values_NK = array.transpose([clips, classes, *others]).reshape(shape)
    return values_NK, f"{_shaped(array)} read as {told}"


def _shaped(array: NDArray[Any]) -> str:
    return f"{' x '.join(map(str, array.shape)) or 'one number'} {array.dtype}"

"""`list`: clips by a list of ids or paths alone, of Unix or Windows; no media has to be there.

For scores that other programs computed (`score.imports`). Labels are the folders that the files
stand in, or stand in a file such as `path n_frames label`.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.downloads import LocalFile, local_file
from audioflow.errors import InputError
from audioflow.id_lists import class_numbers, each_id, each_label
from audioflow.matching import KeyChoice, KeySettings, stem
from audioflow.redaction import has_password, masked, unsigned
from audioflow.registry import Settings
from audioflow.storage import Folder
from audioflow.text_index import TextIndex

_AT_ONCE = 16_384


class ListSettings(Settings):
    """list: .npy, .csv (with a header) or text, an id or path per line.

    id_column: of a list with a header, the column with ids or paths; by default the first. labels:
    a file whose lines begin with an id or path and end with a label; without, a clip's label is the
    folder that it stands in. delimiter: of that file; by default a comma in .csv, a tab in .tsv,
    else blanks. key: how its lines are matched to clips. classes: names of the classes whose
    numbers labels are. labelled: false where clips have no label. path_ids: clip ids are whole
    paths, not names without folders and extension.
    """

    list: str = Field(min_length=1)
    id_column: str | None = None
    labels: str | None = Field(None, min_length=1)
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    key: KeyChoice = KeySettings()
    classes: str | None = Field(None, min_length=1)
    labelled: bool = True
    path_ids: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> "ListSettings":
        given = [name for name in ("labels", "classes") if getattr(self, name) is not None]
        if given and not self.labelled:
            raise ValueError(f"labelled is false, but {given[0]} is given; leave one of them out")
        return self


class ListReader:
    """Clips from a list of ids or paths."""

    Settings = ListSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest: {reader: list, list: files.txt, labels: labels.txt}"
    )

    def __init__(self, settings: ListSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.list

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """The clips; columns are `label`, `folder` (its name) and `set` (the folder above that).

        Raises `InputError` for lists that cannot be read, clips without a label, and labels that
        `classes` does not name.
        """
        settings = self.settings
        with contextlib.ExitStack() as stack:

            def opened(path: str) -> LocalFile:
                place: Folder = resolve(path)
                return stack.enter_context(local_file(place.url, place.options))

            listed = opened(settings.list)
            classes = class_numbers(opened(settings.classes)) if settings.classes else None
            labels = _Labels(opened(settings.labels), settings) if settings.labels else None
            names = each_id(listed, settings.id_column)
            clips = (
                self._clip(name, labels, f"{listed.url}:{row}")
                for row, name in enumerate(names, start=1)
            )
            yield from self._labelled(clips, classes, listed.url)

    def _labelled(
        self, clips: Iterable[Clip], classes: Mapping[int, str] | None, place: str
    ) -> Iterator[Clip]:
        """The clips with names of classes in the place of their numbers."""
        settings = self.settings
        known = {str(number): name for number, name in (classes or {}).items()}
        allowed = {*known, *known.values()}
        count = missing = 0
        first, odd = "", None
        for clip in clips:
            count += 1
            if not clip.labels and settings.labelled:
                missing += 1
                first = first or clip.uri
            elif classes is None:
                yield clip
            elif clip.labels[0] in allowed:
                yield replace(clip, labels=(known.get(clip.labels[0], clip.labels[0]),))
            else:
                odd = odd or clip
        if missing:
            where = f"in {settings.labels}" if settings.labels else "by the folder it stands in"
            raise InputError(
                f"{place}: {missing} of {count} clips have no label {where}, "
                f"{first!r} for one; give labels, a file of ids and labels, or another key"
            )
        if odd is not None:
            numbers = list(known)
            raise InputError(
                f"{odd.place}: the label {odd.labels[0]!r} is no number from {numbers[0]} to "
                f"{numbers[-1]} and no name in {settings.classes}"
            )

    def _clip(self, name: str, labels: "_Labels | None", place: str) -> Clip:
        if "@" in name and has_password(name):  # nearly no path has one
            raise InputError(
                f"{place}: {masked(name)!r} is a url with a password; give that in the recipe's "
                "storage_options or in the environment, and here the url without it"
            )
        above = [part for part in name.replace("\\", "/").split("/") if part][:-1]
        if labels is None:
            label = above[-1] if above and self.settings.labelled else ""
        else:
            label = labels.of(name)
        columns = {"label": label, "folder": above[-1] if above else ""}
        columns["set"] = above[-2] if len(above) > 1 else ""
        clip_id = unsigned(name.replace("\\", "/")) if self.settings.path_ids else stem(name)
        return Clip(clip_id, name, (label,) if label else (), columns=columns, place=place)


class _Labels:
    """Labels by the key of their line, in columns."""

    def __init__(self, file: LocalFile, settings: ListSettings) -> None:
        self._key = settings.key.key
        self._file, self._delimiter = file, settings.delimiter
        codes: dict[str, int] = {}
        keys, numbers = [], []
        lines = each_label(file, settings.delimiter)
        while batch := list(islice(lines, _AT_ONCE)):
            keyed = [(self._key(name), label) for name, label in batch]
            known = [(key, label) for key, label in keyed if key is not None]
            keys.append(pa.array([key for key, _ in known], pa.string()))
            found = [codes.setdefault(label, len(codes)) for _, label in known]
            numbers.append(np.array(found, np.int32))
        self._index = TextIndex(pa.chunked_array(keys, pa.string()))
        self._codes, self._labels = np.concatenate([np.zeros(0, np.int32), *numbers]), list(codes)
        if self._index.repeats():
            self._refuse_two_labels()

    def of(self, name: str) -> str:
        """The label of a clip, "" where it has none."""
        row = self._index.row(self._key(name) or "")
        return "" if row is None else self._labels[self._codes[row]]

    def _refuse_two_labels(self) -> None:
        for row, (name, label) in enumerate(self._told()):
            first = self._index.rows(self._key(name) or "")[0]
            other = self._labels[self._codes[first]]
            if first < row and other != label:
                raise InputError(
                    f"{self._file.url}: {name!r} has the label {label!r}, and {other!r} above; "
                    "keep one of them, or give another key"
                )

    def _told(self) -> Iterator[tuple[str, str]]:
        """The lines that have a key, again."""
        for name, label in each_label(self._file, self._delimiter):
            if self._key(name) is not None:
                yield name, label

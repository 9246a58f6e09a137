"""`list`: clips by a list of ids or paths alone, of Unix or Windows; no media has to be there.

For scores that other programs computed (`score.imports`). Labels are the folders that the files
stand in, or stand in a file such as `path n_frames label`.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field, model_validator

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.downloads import LocalFile, local_file
from audioflow.errors import InputError
from audioflow.id_lists import class_numbers, read_ids, read_labels
from audioflow.matching import KeyChoice, KeySettings, stem
from audioflow.redaction import has_password, masked, unsigned
from audioflow.registry import Settings
from audioflow.storage import Folder


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

    def read(self, resolve: Resolve) -> Sequence[Clip]:
        """The clips; columns are `label`, `folder` (its name) and `set` (the folder above that).

        Raises `InputError` for lists that cannot be read, clips without a label, and labels that
        `classes` does not name.
        """
        settings = self.settings
        with contextlib.ExitStack() as stack:

            def opened(path: str) -> LocalFile:
                place: Folder = resolve(path)
                return stack.enter_context(local_file(place.url, place.options))

            names = read_ids(opened(settings.list), settings.id_column)
            classes = class_numbers(opened(settings.classes)) if settings.classes else None
            labels = self._labels(opened(settings.labels)) if settings.labels else None
        listed = resolve(settings.list)
        place = masked(listed.url, listed.options.secrets)
        clips = [self._clip(name, labels, f"{place}:{row + 1}") for row, name in enumerate(names)]
        missing = [name for name, clip in zip(names, clips, strict=True) if not clip.labels]
        if missing and settings.labelled:
            where = f"in {settings.labels}" if settings.labels else "by the folder it stands in"
            raise InputError(
                f"{place}: {len(missing)} of {len(names)} clips have no label {where}, "
                f"{missing[0]!r} for one; give labels, a file of ids and labels, or another key"
            )
        return clips if classes is None else _named(clips, classes, settings)

    def _labels(self, file: LocalFile) -> dict[str, str]:
        """Labels by the key of their line."""
        found: dict[str, str] = {}
        for name, label in read_labels(file, self.settings.delimiter):
            key = self.settings.key.key(name)
            if key is not None and found.setdefault(key, label) != label:
                raise InputError(
                    f"{file.url}: {name!r} has the label {label!r}, and {found[key]!r} above; keep "
                    "one of them, or give another key"
                )
        return found

    def _clip(self, name: str, labels: Mapping[str, str] | None, place: str) -> Clip:
        if has_password(name):
            raise InputError(
                f"{place}: {masked(name)!r} is a url with a password; give that in the recipe's "
                "storage_options or in the environment, and here the url without it"
            )
        above = [part for part in re.split(r"[\\/]", name) if part][:-1]
        if labels is None:
            label = above[-1] if above and self.settings.labelled else ""
        else:
            label = labels.get(self.settings.key.key(name) or "", "")
        columns = {"label": label, "folder": above[-1] if above else ""}
        columns["set"] = above[-2] if len(above) > 1 else ""
        clip_id = unsigned(name.replace("\\", "/")) if self.settings.path_ids else stem(name)
        return Clip(clip_id, name, (label,) if label else (), columns=columns, place=place)


def _named(clips: Sequence[Clip], classes: Mapping[int, str], settings: ListSettings) -> list[Clip]:
    """The clips with names of classes in the place of their numbers."""
    known = {str(number): name for number, name in classes.items()}
    allowed = {*known, *known.values()}
    odd = next((clip for clip in clips if clip.labels[0] not in allowed), None)
    if odd is not None:
        numbers = list(known)
        raise InputError(
            f"{odd.place}: the label {odd.labels[0]!r} is no number from {numbers[0]} to "
            f"{numbers[-1]} and no name in {settings.classes}"
        )
    return [
        replace(clip, labels=tuple(known.get(label, label) for label in clip.labels))
        for clip in clips
    ]

"""`probabilities`: `Filename,<class>...`, all scores of clips, in our order or a template's."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from audioflow.errors import InputError
from audioflow.exporters.base import Source, Written, written
from audioflow.exporters.template import Template
from audioflow.exporters.wide import wide_file
from audioflow.matching import KeyChoice, KeySettings
from audioflow.registry import Settings, nearest
from audioflow.scores import score_matrix
from audioflow.spool import blank

_ROWS_AT_ONCE = 4096
_FILE = "Filename"


class ProbabilitiesSettings(Settings):
    """template: a CSV file whose header names the file's column and the classes, and whose first
    column has the ids to write, in order; without, all scored clips are written. fill: the class of
    ids that have no scores. rename: a class of ours -> its name in the file. key: what clips are
    called, and how ids are matched to them."""

    template: str | None = Field(None, min_length=1)
    fill: str | None = None
    rename: dict[str, str] = Field(default_factory=dict)
    key: KeyChoice = KeySettings()


class Probabilities:
    """The scores of every clip, under its file's name."""

    Settings: ClassVar[type[Settings]] = ProbabilitiesSettings

    def __init__(self, settings: ProbabilitiesSettings) -> None:
        if settings.fill is not None and settings.template is None:
            raise InputError(f"--fill {settings.fill!r} is of no use without --template")
        self._settings = settings

    def write(self, source: Source, out: Path) -> Written:
        names = self._names(source.header().classes)
        if self._settings.template is None:
            return self._every(source, out, names)
        return self._by_template(source, out, names, Template.read(self._settings.template))

    def _names(self, classes: list[str]) -> list[str]:
        for name in self._settings.rename:
            if name not in classes:
                hint = nearest(name, classes)
                raise InputError(
                    f"--rename {name!r} is no class; there are {', '.join(classes[:20])}"
                    + (f"; did you mean {hint!r}?" if hint else "")
                )
        return [self._settings.rename.get(name, name) for name in classes]

    def _every(self, source: Source, out: Path, names: list[str]) -> Written:
        keys, clips = source.keys(self._settings.key), 0
        seen: dict[str, str] = {}
        with written(out) as path, wide_file(path, [_FILE], names) as write:
            for rows in source.shards(["clip_id", "scores"]):
                files = []
                for clip_id in rows["clip_id"].to_pylist():
                    file = keys.get(clip_id, clip_id)
                    if (other := seen.setdefault(file, clip_id)) != clip_id:
                        raise InputError(
                            f"the clips {other!r} and {clip_id!r} would both be called {file!r}; "
                            "give another --key, such as clip_id"
                        )
                    files.append(file)
                write([pa.array(files, pa.string())], score_matrix(rows))
                clips += rows.num_rows
        return Written(clips, 1)

    def _by_template(
        self, source: Source, out: Path, names: list[str], template: Template
    ) -> Written:
        columns = _columns(names, template)
        places = template.places(source, self._settings.key)
        with blank(len(template.ids), len(names)) as values_NC:
            others = 0
            for rows in source.shards(["clip_id", "scores"]):
                ids = rows["clip_id"].to_pylist()
                kept = [place for place, clip_id in enumerate(ids) if clip_id in places]
                values_NC[[places[ids[place]] for place in kept]] = score_matrix(rows)[kept]
                others += len(ids) - len(kept)
            missing = [row for row in range(len(values_NC)) if np.isnan(values_NC[row, 0])]
            if self._settings.fill is None:
                template.refuse_missing(missing, source.system)
            else:
                values_NC[missing] = self._filled(names)
            file, *classes = template.columns
            with written(out) as path, wide_file(path, [file], classes) as write:
                for start in range(0, len(values_NC), _ROWS_AT_ONCE):
                    part = slice(start, start + _ROWS_AT_ONCE)
                    write([pa.array(template.ids[part])], values_NC[part][:, columns])
        return Written(len(template.ids), 1, self._notes(len(missing), others))

    def _filled(self, names: list[str]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        fill = self._settings.rename.get(str(self._settings.fill), self._settings.fill)
        if fill not in names:
            raise InputError(f"--fill {fill!r} is no class; there are {', '.join(names[:20])}")
        return (np.array(names) == fill).astype(np.float32)

    def _notes(self, missing: int, others: int) -> tuple[str, ...]:
        notes = []
        if missing:
            fill = self._settings.fill
            notes.append(f"{missing} ids have no scores, and got 1 for {fill!r} (--fill)")
        if others:
            notes.append(f"{others} scored clips are not in the template, and left out")
        return tuple(notes)


def _columns(names: list[str], template: Template) -> list[int]:
    """Which class each column of the template is; all have to be there."""
    wanted = list(template.columns[1:])
    absent = [name for name in wanted if name not in names]
    unasked = [name for name in names if name not in wanted]
    if absent or unasked:
        told = [f"its column {name!r} is no class" for name in absent[:3]]
        told += [f"it has no column for the class {name!r}" for name in unasked[:3]]
        hint = nearest(absent[0], unasked) if absent else ""
        raise InputError(
            f"--template {template.path}: {', '.join(told)}; say by --rename how classes are "
            "called there" + (f", such as --rename {hint}={absent[0]}" if hint else "")
        )
    return [names.index(name) for name in wanted]

"""`kaggle`: `Id,Category`, a row per id of a template, in its order."""

import csv
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from audioflow.errors import InputError
from audioflow.exporters.base import Source, Written, written
from audioflow.exporters.template import Template, local
from audioflow.id_lists import class_numbers
from audioflow.matching import KeyChoice, KeySettings
from audioflow.registry import Settings, nearest


class KaggleSettings(Settings):
    """template: a CSV file with a header and the ids in its first column. fill: the class of ids
    that have no scores; without, they are an error. numbers: a list of numbers and names of
    classes; categories are numbers then. key: how ids are matched to clips."""

    template: str = Field(min_length=1)
    fill: str | None = None
    numbers: str | None = None
    key: KeyChoice = KeySettings()


class Kaggle:
    """The predicted class of every id."""

    Settings: ClassVar[type[Settings]] = KaggleSettings

    def __init__(self, settings: KaggleSettings) -> None:
        self._settings = settings

    def write(self, source: Source, out: Path) -> Written:
        settings, header = self._settings, source.header()
        template = Template.read(settings.template)
        categories = self._categories(header.classes)
        fill = None if settings.fill is None else _class(settings.fill, header.classes)
        places, index = template.places(source, settings.key), _numbered(header.classes)
        chosen_N = np.full(len(template.ids), -1, np.int64)
        others = 0
        for rows in source.shards(["clip_id", "predicted"]):
            pairs = zip(rows["clip_id"].to_pylist(), rows["predicted"].to_pylist(), strict=True)
            for clip_id, predicted in pairs:
                if (row := places.get(clip_id)) is None:
                    others += 1
                else:
                    chosen_N[row] = index[predicted]
        missing = np.flatnonzero(chosen_N < 0).tolist()
        if fill is None:
            template.refuse_missing(missing, source.system)
        else:
            chosen_N[missing] = index[fill]
        with written(out) as path, path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(template.columns[:2])
            named = zip(template.ids, chosen_N.tolist(), strict=True)
            writer.writerows((name, categories[place]) for name, place in named)
        return Written(len(template.ids), 1, _notes(len(missing), fill, others))

    def _categories(self, classes: list[str]) -> list[str]:
        """What stands in the file for each class."""
        if self._settings.numbers is None:
            return classes
        told = class_numbers(local(self._settings.numbers))
        number_of = {name: str(number) for number, name in told.items()}
        missing = [name for name in classes if name not in number_of]
        if missing:
            hint = nearest(missing[0], number_of)
            raise InputError(
                f"--numbers {self._settings.numbers} has no number of {missing[0]!r}"
                + (f"; did you mean its {hint!r}?" if hint else "")
            )
        return [number_of[name] for name in classes]


def _class(name: str, classes: list[str]) -> str:
    if name not in classes:
        hint = nearest(name, classes)
        raise InputError(
            f"--fill {name!r} is no class; there are {', '.join(classes[:20])}"
            + (f"; did you mean {hint!r}?" if hint else "")
        )
    return name


def _numbered(classes: list[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(classes)}


def _notes(missing: int, fill: str | None, others: int) -> tuple[str, ...]:
    notes = []
    if missing:
        notes.append(f"{missing} ids have no scores, and got the class {fill!r} (--fill)")
    if others:
        notes.append(f"{others} scored clips are not in the template, and left out")
    return tuple(notes)

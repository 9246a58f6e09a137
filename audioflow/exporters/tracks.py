"""Label tracks: stretches of recordings in which patches score above a threshold.

Shapes: P patches of a clip, C classes.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TextIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from audioflow.calibration.system import SystemCalibration
from audioflow.errors import InputError, TableError
from audioflow.exporters.base import Source, Written, written
from audioflow.redaction import unsigned
from audioflow.registry import Settings
from audioflow.tables import Header

_COLUMNS = ("clip_id", "patch_start_s", "patch_scores")


class TrackSettings(Settings):
    """threshold: of every class; by default those that the system's calibration has. gap_s:
    stretches of a class with no more between them are one. patch_s: length of a patch, where the
    table does not know it."""

    threshold: float | None = Field(None, ge=0, le=1)
    gap_s: float = Field(0.0, ge=0)
    patch_s: float | None = Field(None, gt=0)


@dataclass(frozen=True)
class Stretch:
    """Where a class was heard: seconds from the start of the recording; the largest score of its
    patches."""

    start_s: float
    end_s: float
    label: str
    score: float


@dataclass(frozen=True)
class Place:
    """Where a clip lies: its recording, and its span there (end None: to the end)."""

    uri: str
    start_s: float
    end_s: float | None


Writer = Callable[[TextIO, str, Sequence[Stretch]], None]
"""Writes the track of one recording (its uri) to a file."""


def write_tracks(
    source: Source, out: Path, settings: TrackSettings, suffix: str, write: Writer
) -> Written:
    """A file per recording in the folder `out`; raises as exporters do."""
    header = source.header()
    limits_C = _limits(source, header, settings)
    columns = header.settings.get("columns") or ()
    if "patch_scores" not in columns:
        raise InputError(
            f"scores/{source.system} has no scores of patches; score with score.patches: true"
        )
    patch_s = settings.patch_s or header.settings.get("patch_s")
    places = _places(source)
    names = _file_names({place.uri for place in places.values()}, suffix)
    clips, found, done = 0, 0, set[str]()
    for rows in source.shards(_COLUMNS):
        for uri, stretches in _by_recording(rows, places, header.classes, limits_C, patch_s):
            if uri in done:
                raise TableError(
                    f"clips of {unsigned(uri)} lie in two shards of scores/{source.system}; run "
                    "the job score again"
                )
            done.add(uri)
            merged = merge(stretches, settings.gap_s)
            found += len(merged)
            with written(out / names[uri]) as path, path.open("w", encoding="utf-8") as stream:
                write(stream, unsigned(uri), merged)
        clips += rows.num_rows
    return Written(clips, len(done), (f"{found} stretches of {len(header.classes)} classes",))


def merge(stretches: Sequence[Stretch], gap_s: float) -> list[Stretch]:
    """Stretches of one class that touch, overlap or lie `gap_s` apart as one; in order of time."""
    found: list[Stretch] = []
    last: dict[str, int] = {}
    for one in sorted(stretches, key=lambda each: (each.start_s, each.label)):
        place = last.get(one.label)
        if place is not None and one.start_s <= found[place].end_s + gap_s + 1e-6:
            before = found[place]
            end_s, score = max(before.end_s, one.end_s), max(before.score, one.score)
            found[place] = Stretch(before.start_s, end_s, one.label, score)
        else:
            last[one.label] = len(found)
            found.append(one)
    return found


def _limits(source: Source, header: Header, settings: TrackSettings) -> NDArray[np.float64]:
    """The threshold of each class (C,); infinity for one that has none."""
    if settings.threshold is not None:
        return np.full(len(header.classes), settings.threshold)
    calibration = SystemCalibration.load(source.head)
    thresholds = calibration.thresholds() if calibration is not None else {}
    if not thresholds:
        raise InputError(
            f"{source.system} has no thresholds; give --threshold, or fit some for a precision or "
            f"recall: systems.{source.system}.calibration.thresholds"
        )
    values = [thresholds[name].value for name in header.classes]
    return np.array([np.inf if value is None else value for value in values])


def _places(source: Source) -> dict[str, Place]:
    rows = source.manifest.read(["clip_id", "uri", "start_s", "duration_s"])
    found = {}
    for clip_id, uri, start_s, duration_s in zip(*rows.to_pydict().values(), strict=True):
        end_s = None if duration_s is None else (start_s or 0.0) + duration_s
        found[clip_id] = Place(uri, start_s or 0.0, end_s)
    return found


def _file_names(uris: set[str], suffix: str) -> dict[str, str]:
    """A file name per recording: its own without extension, or with it where that would make two
    the same, or with its folders."""
    paths = {uri: PurePosixPath(unsigned(uri).replace("\\", "/").partition("?")[0]) for uri in uris}
    found: dict[str, str] = {}
    ways: Sequence[Callable[[PurePosixPath], str]] = (
        lambda path: path.stem,
        lambda path: path.name,
        lambda path: "__".join(part for part in path.parts if part.strip("/:")),
    )
    for way in ways:
        counts = Counter(way(path) for path in paths.values())
        for uri, path in paths.items():
            if uri not in found and counts[way(path)] == 1:
                found[uri] = way(path) + suffix
    for number, uri in enumerate(sorted(uris - set(found)), start=1):
        found[uri] = f"{paths[uri].stem}-{number}{suffix}"
    return found


def _by_recording(
    rows: pa.Table,
    places: Mapping[str, Place],
    classes: Sequence[str],
    limits_C: NDArray[np.float64],
    patch_s: float | None,
) -> Iterator[tuple[str, list[Stretch]]]:
    found: dict[str, list[Stretch]] = {}
    for clip_id, starts, scores in zip(*(rows[name] for name in _COLUMNS), strict=True):
        place = places[clip_id.as_py()]
        starts_P = np.asarray(starts.as_py(), np.float64)
        flat = scores.values.flatten().to_numpy(zero_copy_only=False)
        scores_PC = flat.reshape(len(starts_P), len(classes))
        length_s = patch_s or _distance(starts_P, clip_id.as_py())
        mine = found.setdefault(place.uri, [])
        for patch, label in np.argwhere(scores_PC.astype(np.float64) >= limits_C).tolist():
            start_s = place.start_s + float(starts_P[patch])
            end_s = start_s + length_s
            end_s = end_s if place.end_s is None else min(end_s, place.end_s)
            mine.append(Stretch(start_s, end_s, classes[label], float(scores_PC[patch, label])))
    yield from found.items()


def _distance(starts_P: NDArray[np.float64], clip_id: str) -> float:
    if len(starts_P) < 2:
        raise InputError(
            f"clip {clip_id!r} has one patch, and the table does not say how long it is; give "
            "--patch, in seconds"
        )
    return float(np.diff(starts_P).min())

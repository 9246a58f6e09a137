"""The manifest of a recipe: its own data set, and further ones mixed into it (`manifest.extra`)."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.additions import Addition
from audioflow.clip import Clip
from audioflow.clip_columns import ClipColumns, texts_at
from audioflow.datasets import READERS
from audioflow.datasets.base import Resolve
from audioflow.errors import InputError
from audioflow.grouping import columns_used, some_of
from audioflow.listing import Noted
from audioflow.manifest import arranged
from audioflow.recipe import ManifestSection
from audioflow.recipe_sources import MAIN, ExtraSection
from audioflow.registry import nearest


@dataclass(frozen=True)
class Mixed:
    """A manifest, and what became of the clips of each source; empty where there is only one.

    stats: by source, `clips` that were taken, `read`, `no_label` (none of its classes is taken),
    `over_limit`, and with `one_label` those with `several_labels`. notes: what listings left out,
    and what they found by two paths, in words.
    """

    manifest: pa.Table
    stats: dict[str, dict[str, int]]
    notes: tuple[str, ...] = ()


def read_manifest(section: ManifestSection, read_from: Resolve, write_to: Resolve) -> Mixed:
    """Read all data sets of the section.

    read_from, write_to: places of paths that are read, and of those that a reader fills itself.
    Raises `InputError` for what is missing or wrong in one of them, and what `build_manifest` does.
    """
    noted = {MAIN: Noted()}
    resolve = _noting(read_from, noted[MAIN])
    found, source = _read(section.reader, section.options, resolve, write_to)
    clips = ClipColumns(found, columns_used(section))
    if not len(clips) or not section.extra:
        clips.merge(section.merge)
        return Mixed(arranged(clips, section, source), {}, _told(noted))
    known = clips.used_labels()
    stats = {MAIN: {"clips": len(clips), "read": len(clips)}}
    additions = []
    for name, extra in section.extra.items():
        noted[name] = Noted()
        resolve = _noting(read_from, noted[name])
        try:
            theirs, their_source = _read(extra.reader, extra.options, resolve, write_to)
            filtered = _Filtered(theirs, extra)
            if not filtered.read:
                raise InputError(f"{their_source} holds no clip")
            taken, stats[name] = _taken(filtered, known, section.seed)
        except InputError as error:
            raise InputError(f"manifest.extra.{name}: {error}") from error
        taken.merge(section.merge)
        additions.append(Addition(name, extra.split, taken))
    clips.merge(section.merge)
    return Mixed(arranged(clips, section, source, additions), stats, _told(noted))


def _noting(read_from: Resolve, noted: Noted) -> Resolve:
    """The same places, whose listings tell what they leave out."""
    return lambda path: replace(read_from(path), note=noted)


def _told(noted: Mapping[str, Noted]) -> tuple[str, ...]:
    """Of all data sets, the further ones by their names."""
    return tuple(
        text if name == MAIN else f"{name}: {text}"
        for name, one in noted.items()
        for text in one.told()
    )


def _read(
    name: str, options: dict[str, Any], read_from: Resolve, write_to: Resolve
) -> tuple[Iterable[Clip], str]:
    """The clips of one data set, and what it is called in messages."""
    reader = READERS.build(name, options)
    return reader.read(write_to if reader.makes_media else read_from), reader.source


class _Filtered:
    """Clips of a further data set with a class that is taken, under our names of their classes."""

    def __init__(self, clips: Iterable[Clip], extra: ExtraSection) -> None:
        self.extra = extra
        self.read = self.labelled = 0
        self.first = ""
        self.there: Counter[str] = Counter()
        self.clips = ClipColumns(self._kept(clips))

    def _kept(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        for clip in clips:
            self.read += 1
            self.there.update(clip.labels)
            labels = _labels(clip, self.extra)
            if not labels:
                continue
            self.first = self.first or clip.clip_id
            self.labelled += 1
            if len(labels) == 1 or not self.extra.one_label:
                yield replace(clip, labels=labels)


def _taken(filtered: _Filtered, known: set[str], seed: int) -> tuple[ClipColumns, dict[str, int]]:
    """The clips that are taken within the limit, and what became of all of them."""
    extra, kept = filtered.extra, filtered.clips
    _refuse_absent(filtered.there, extra, known)
    if not filtered.labelled:
        classes = ", ".join(sorted(filtered.there))
        raise InputError(f"no clip has a class that is taken; its classes are {classes}")
    if not len(kept):
        raise InputError(
            f"all {filtered.labelled} clips have several of the classes that are taken, "
            f"{filtered.first!r} for one; one_label: true leaves none of them"
        )
    if not extra.new_classes:
        _refuse_unknown(kept, known)
    count = len(kept)
    kept.reorder(_lots(kept, seed)[: extra.limit])
    several = {"several_labels": filtered.labelled - count} if extra.one_label else {}
    return kept, {
        "clips": len(kept),
        "read": filtered.read,
        "no_label": filtered.read - filtered.labelled,
        **several,
        "over_limit": count - len(kept),
    }


def _labels(clip: Clip, extra: ExtraSection) -> tuple[str, ...]:
    taken = [each for each in clip.labels if extra.classes is None or extra.classes.takes(each)]
    return tuple(dict.fromkeys(extra.rename.get(label, label) for label in taken))


def _refuse_absent(there: Counter[str], extra: ExtraSection, known: set[str]) -> None:
    """Names of classes that the data set has not: a slip would let in, or lose, a whole class.

    A class of the main data set is no slip where it is to be kept or dropped.
    """
    named = extra.classes.named if extra.classes else []
    for key, names in (
        ("classes", [name for name in named if name not in known]),
        ("rename", list(extra.rename)),
    ):
        for name in names:
            if name not in there:
                hint = nearest(name, there)
                raise InputError(
                    f"{key} names {name!r}, which is not among its classes "
                    f"{', '.join(sorted(there))}" + (f"; did you mean {hint!r}?" if hint else "")
                )


def _refuse_unknown(clips: ClipColumns, known: set[str]) -> None:
    unknown = sorted(clips.used_labels() - known)
    if unknown:
        counts = np.bincount(clips.flat_labels()[1])
        codes = {label: code for code, label in enumerate(clips.classes)}
        told = some_of(unknown, lambda label: f"{label!r} ({counts[codes[label]]} clips)")
        raise InputError(
            f"the main data set has no class {told}; its classes are "
            f"{', '.join(sorted(known))}: rename theirs to one of these, drop them by classes, or "
            "give new_classes: true"
        )


def _lots(clips: ClipColumns, seed: int) -> NDArray[np.int64]:
    """The order in which clips are drawn: by id, so that most stay drawn where others come or
    go."""
    start = f"{seed}:".encode()
    ids = clips.rows["clip_id"]
    lots = b"".join(
        hashlib.blake2b(start + clip_id, digest_size=16).digest()
        for batch in texts_at(ids, np.arange(len(ids)))
        for clip_id in batch
    )
    pairs = np.frombuffer(lots, ">u8").reshape(-1, 2)
    return np.lexsort((pairs[:, 1], pairs[:, 0]))

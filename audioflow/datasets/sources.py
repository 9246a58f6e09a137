"""The manifest of a recipe: its own data set, and further ones mixed into it (`manifest.extra`)."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from audioflow.clip import Clip
from audioflow.datasets import READERS
from audioflow.datasets.base import Resolve
from audioflow.errors import InputError
from audioflow.manifest import Addition, build_manifest
from audioflow.recipe import ManifestSection
from audioflow.recipe_sources import MAIN, ExtraSection
from audioflow.registry import nearest

_SHOWN = 5


@dataclass(frozen=True)
class Mixed:
    """A manifest, and what became of the clips of each source; empty where there is only one.

    stats: by source, `clips` that were taken, `read`, `no_label` (none of its classes is taken),
    `over_limit`, and with `one_label` those with `several_labels`.
    """

    manifest: pa.Table
    stats: dict[str, dict[str, int]]


def read_manifest(section: ManifestSection, read_from: Resolve, write_to: Resolve) -> Mixed:
    """Read all data sets of the section.

    read_from, write_to: places of paths that are read, and of those that a reader fills itself.
    Raises `InputError` for what is missing or wrong in one of them, and what `build_manifest` does.
    """
    clips, source = _read(section.reader, section.options, read_from, write_to)
    if not clips or not section.extra:
        return Mixed(build_manifest(_merged(clips, section.merge), section, source), {})
    known = {label for clip in clips for label in clip.labels}
    stats = {MAIN: {"clips": len(clips), "read": len(clips)}}
    additions = []
    for name, extra in section.extra.items():
        try:
            theirs, their_source = _read(extra.reader, extra.options, read_from, write_to)
            if not theirs:
                raise InputError(f"{their_source} holds no clip")
            taken, stats[name] = _taken(theirs, extra, known, section.seed)
        except InputError as error:
            raise InputError(f"manifest.extra.{name}: {error}") from error
        additions.append(Addition(name, extra.split, taken))
    additions = [replace(one, clips=_merged(one.clips, section.merge)) for one in additions]
    clips = _merged(clips, section.merge)
    return Mixed(build_manifest(clips, section, source, additions), stats)


def _merged(clips: Sequence[Clip], merge: Mapping[str, str]) -> list[Clip]:
    """Clips with classes in place of the labels that become them."""
    there = {label for clip in clips for label in clip.labels}
    return [
        replace(
            clip,
            labels=tuple(dict.fromkeys(merge.get(label, label) for label in clip.labels)),
            fine_labels=clip.labels,
        )
        if not there.isdisjoint(merge)
        else clip
        for clip in clips
    ]


def _read(
    name: str, options: dict[str, Any], read_from: Resolve, write_to: Resolve
) -> tuple[Sequence[Clip], str]:
    """The clips of one data set, and what it is called in messages."""
    reader = READERS.build(name, options)
    return reader.read(write_to if reader.makes_media else read_from), reader.source


def _taken(
    clips: Sequence[Clip], extra: ExtraSection, known: set[str], seed: int
) -> tuple[list[Clip], dict[str, int]]:
    """The clips with a class that is taken, under our names of their classes, within the limit."""
    _refuse_absent(clips, extra, known)
    labelled = [replace(clip, labels=_labels(clip, extra)) for clip in clips]
    labelled = [clip for clip in labelled if clip.labels]
    if not labelled:
        classes = ", ".join(sorted(_counted(clips)))
        raise InputError(f"no clip has a class that is taken; its classes are {classes}")
    kept = [clip for clip in labelled if len(clip.labels) == 1 or not extra.one_label]
    if not kept:
        raise InputError(
            f"all {len(labelled)} clips have several of the classes that are taken, "
            f"{labelled[0].clip_id!r} for one; one_label: true leaves none of them"
        )
    if not extra.new_classes:
        _refuse_unknown(kept, known)
    drawn = sorted(kept, key=_lot(seed))[: extra.limit]
    several = {"several_labels": len(labelled) - len(kept)} if extra.one_label else {}
    return drawn, {
        "clips": len(drawn),
        "read": len(clips),
        "no_label": len(clips) - len(labelled),
        **several,
        "over_limit": len(kept) - len(drawn),
    }


def _labels(clip: Clip, extra: ExtraSection) -> tuple[str, ...]:
    taken = [each for each in clip.labels if extra.classes is None or extra.classes.takes(each)]
    return tuple(dict.fromkeys(extra.rename.get(label, label) for label in taken))


def _counted(clips: Sequence[Clip]) -> Counter[str]:
    return Counter(label for clip in clips for label in clip.labels)


def _refuse_absent(clips: Sequence[Clip], extra: ExtraSection, known: set[str]) -> None:
    """Names of classes that the data set has not: a slip would let in, or lose, a whole class.

    A class of the main data set is no slip where it is to be kept or dropped.
    """
    there = _counted(clips)
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


def _refuse_unknown(clips: Sequence[Clip], known: set[str]) -> None:
    counts = _counted(clips)
    unknown = [f"{label!r} ({counts[label]} clips)" for label in sorted(set(counts) - known)]
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise InputError(
            f"the main data set has no class {', '.join(unknown[:_SHOWN])}{more}; its classes are "
            f"{', '.join(sorted(known))}: rename theirs to one of these, drop them by classes, or "
            "give new_classes: true"
        )


def _lot(seed: int) -> Callable[[Clip], bytes]:
    """Which clips are drawn: by id, so that most stay drawn where others come or go."""

    def lot(clip: Clip) -> bytes:
        text = f"{seed}:{clip.clip_id}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16).digest()

    return lot

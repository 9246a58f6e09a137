"""The manifest: clips from a reader, checked, divided into splits, as an Arrow table."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from audioflow.errors import InputError
from audioflow.recipe import ManifestSection
from audioflow.recipe_splits import SPLITS, SplitsSection
from audioflow.registry import nearest
from audioflow.stratify import divide, missing
from audioflow.tables import MANIFEST_SCHEMA, fingerprint

CROSS_VALIDATED = "cv"
"""Value of `split` for clips that are divided by `fold` instead."""

_SHOWN = 5
_LEAST_FOLDS = 3
_FOLD = re.compile(r"[^/\x00-\x1f]{1,100}")  # becomes part of a folder's name


@dataclass(frozen=True)
class Clip:
    """One clip as a reader found it. `columns` are the reader's: for splits, folds and groups."""

    clip_id: str
    uri: str
    labels: tuple[str, ...]
    start_s: float | None = None
    duration_s: float | None = None
    size_bytes: int | None = None
    version: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    """Where the clip was read, for messages: a file, or a line of a list."""

    @property
    def origin(self) -> str:
        return self.place or self.uri


def build_manifest(clips: Sequence[Clip], section: ManifestSection, source: str) -> pa.Table:
    """The manifest table (`tables.MANIFEST_SCHEMA`), sorted by `clip_id`.

    source: what was read, for messages. Raises `InputError` for no clip at all, ids that occur
    twice, a column that is not there, and classes with too few groups for the splits.
    """
    if not clips:
        raise InputError(
            f"{source} holds no clip; point manifest at the folder or list of your media"
        )
    _refuse_duplicates(clips)
    clips = sorted(clips, key=lambda clip: clip.clip_id)
    groups = [_group(clip, section.group_by) for clip in clips]
    splits, folds = _divided(clips, groups, section, source)
    columns: dict[str, list[Any]] = {
        "clip_id": [clip.clip_id for clip in clips],
        "uri": [clip.uri for clip in clips],
        "start_s": [clip.start_s for clip in clips],
        "duration_s": [clip.duration_s for clip in clips],
        "labels": [list(clip.labels) for clip in clips],
        "split": splits,
        "fold": folds,
        "group": groups,
        "size_bytes": [clip.size_bytes for clip in clips],
        "version": [clip.version for clip in clips],
    }
    return pa.Table.from_pydict(columns, schema=MANIFEST_SCHEMA)


def manifest_fingerprint(manifest: pa.Table) -> str:
    """Fingerprint of everything in the manifest."""
    return fingerprint(
        "manifest", [row for name in manifest.column_names for row in manifest[name].to_pylist()]
    )


def classes_of(manifest: pa.Table) -> list[str]:
    """All class names, sorted."""
    return sorted({label for labels in manifest["labels"].to_pylist() for label in labels})


def _refuse_duplicates(clips: Sequence[Clip]) -> None:
    seen: dict[str, Clip] = {}
    twice = []
    for clip in clips:
        if clip.clip_id in seen:
            twice.append(f"{clip.clip_id!r} ({seen[clip.clip_id].origin} and {clip.origin})")
        seen[clip.clip_id] = clip
    if twice:
        count = "a clip id occurs" if len(twice) == 1 else f"{len(twice)} clip ids occur"
        raise InputError(
            f"{count} twice: {_some(twice)}; remove one of each, or name an id_column whose values "
            "are unique"
        )


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


def _group(clip: Clip, group_by: str) -> str:
    if group_by == "recording":
        return clip.uri
    if group_by.startswith("regex:"):
        found = re.search(group_by.removeprefix("regex:"), clip.clip_id)
        if not found:
            raise InputError(
                f"manifest.group_by: {group_by!r} matches nothing in the clip id {clip.clip_id!r} "
                f"({clip.origin})"
            )
        group = found.group(1) if found.groups() else found.group(0)
    else:
        group = _column(clip, group_by, "manifest.group_by")
    if not group:
        raise InputError(
            f"manifest.group_by: {group_by!r} gives clip {clip.clip_id!r} an empty group "
            f"({clip.origin}); every clip needs one"
        )
    return group


def _column(clip: Clip, name: str, key: str) -> str:
    if name not in clip.columns:
        there = ", ".join(clip.columns) or "none (this reader has no columns)"
        hint = nearest(name, clip.columns)
        raise InputError(
            f"{key}: there is no column {name!r} at {clip.origin}; columns: {there}"
            + (f"; did you mean {hint!r}?" if hint else "")
        )
    return clip.columns[name]


def _divided(
    clips: Sequence[Clip], groups: Sequence[str], section: ManifestSection, source: str
) -> tuple[list[str], list[str | None]]:
    """The split and the fold of every clip."""
    splits = section.splits
    if isinstance(splits.folds, str):
        return [CROSS_VALIDATED] * len(clips), list(_published_folds(clips, groups, splits.folds))
    if isinstance(splits.folds, int):
        shares = {str(number + 1): 1.0 for number in range(splits.folds)}
        folds = _stratified(clips, groups, shares, section.seed, source)
        return [CROSS_VALIDATED] * len(clips), list(folds)
    if splits.column is not None:
        return _published(clips, groups, splits), [None] * len(clips)
    shares = {name: share for name, share in splits.fractions.items() if share > 0}
    return _stratified(clips, groups, shares, section.seed, source), [None] * len(clips)


def _published_folds(clips: Sequence[Clip], groups: Sequence[str], name: str) -> list[str]:
    key = "manifest.splits.folds"
    folds = [_column(clip, name, key) for clip in clips]
    for clip, fold in zip(clips, folds, strict=True):
        if not _FOLD.fullmatch(fold):
            raise InputError(
                f"{key}: {name} is {fold!r} at {clip.origin}; a fold needs a name without '/'"
            )
    if len(set(folds)) < _LEAST_FOLDS:
        raise InputError(
            f"{key}: the column {name!r} has the values {', '.join(sorted(set(folds)))}; "
            f"{_LEAST_FOLDS} or more are needed: one to test, one to select, the rest to train"
        )
    _refuse_straddling(folds, groups, clips)
    found: dict[str, set[str]] = {}
    for clip, fold in zip(clips, folds, strict=True):
        for label in clip.labels:
            found.setdefault(label, set()).add(fold)
    few = [
        f"{label!r} is in {', '.join(sorted(has))}"
        for label, has in sorted(found.items())
        if len(has) < _LEAST_FOLDS
    ]
    if few:
        raise InputError(
            f"{key}: every class needs clips in {_LEAST_FOLDS} folds or more, to be tested, "
            f"selected on and learnt, but {_some(few)}; remove the class or choose other folds"
        )
    return folds


def _published(clips: Sequence[Clip], groups: Sequence[str], splits: SplitsSection) -> list[str]:
    name, values = splits.column or "", splits.values
    found = []
    unknown: dict[str, Clip] = {}
    for clip in clips:
        value = _column(clip, name, "manifest.splits.column")
        found.append(values.get(value, ""))
        if value not in values:
            unknown.setdefault(value, clip)
    if unknown:
        told = [f"{value!r} ({clip.origin})" for value, clip in sorted(unknown.items())]
        raise InputError(
            f"manifest.splits: the column {name!r} has values that belong to no split: "
            f"{_some(told)}; given are {', '.join(map(repr, values))}"
        )
    _refuse_straddling(found, groups, clips)
    trained = {
        label
        for clip, split in zip(clips, found, strict=True)
        if split == "train"
        for label in clip.labels
    }
    unseen = sorted({label for clip in clips for label in clip.labels} - trained)
    if unseen and splits.train:
        raise InputError(
            f"no train clip has the class {_some(list(map(repr, unseen)))}, so no head could learn "
            f"it; remove the class, or give train other values of {name!r}"
        )
    return found


def _refuse_straddling(parts: Sequence[str], groups: Sequence[str], clips: Sequence[Clip]) -> None:
    seen: dict[str, tuple[str, Clip]] = {}
    for part, group, clip in zip(parts, groups, clips, strict=True):
        other = seen.setdefault(group, (part, clip))
        if other[0] != part:
            raise InputError(
                f"group {group!r} stands in {other[0]} ({other[1].origin}) and in {part} "
                f"({clip.origin}); a group may not straddle splits: choose another "
                "manifest.group_by or another column"
            )


def _stratified(
    clips: Sequence[Clip],
    groups: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
    source: str,
) -> list[str]:
    """Whole groups to parts, every class divided as `shares` say; the same for a seed."""
    members: dict[str, list[Clip]] = {}
    for clip, group in zip(clips, groups, strict=True):
        members.setdefault(group, []).append(clip)
    _refuse_small_classes(members, shares, source)
    # Named by their first clip: a recording's url changes with the place of the data.
    named = {group: inside[0].clip_id for group, inside in members.items()}
    labels = {
        named[group]: Counter(label for clip in inside for label in clip.labels)
        for group, inside in members.items()
    }
    parts = divide(labels, shares, seed)
    lacking = [
        f"{label!r} is not in {', '.join(lacks)}"
        for label, lacks in missing(labels, parts, shares).items()
    ]
    if lacking:
        raise InputError(
            f"{source}: with whole groups no division was found that has every class in each of "
            f"{', '.join(shares)}: {_some(lacking)}; choose another manifest.group_by, remove the "
            "class, or give other manifest.splits"
        )
    return [parts[named[group]] for group in groups]


def _refuse_small_classes(
    members: Mapping[str, Sequence[Clip]], shares: Mapping[str, float], source: str
) -> None:
    found: dict[str, set[str]] = {}
    example: dict[str, Clip] = {}
    for group, clips in members.items():
        for clip in clips:
            for label in clip.labels:
                found.setdefault(label, set()).add(group)
                example.setdefault(label, clip)
    small = [
        f"{label!r} has {len(groups)} ({example[label].origin})"
        for label, groups in sorted(found.items())
        if len(groups) < len(shares)
    ]
    if small:
        raise InputError(
            f"{source}: every class needs a recording (group) in each of {', '.join(shares)}, but "
            f"class {_some(small)}; add recordings, remove the class, or give other manifest.splits"
        )


def split_counts(manifest: pa.Table) -> dict[str, dict[str, int]]:
    """Clips per split (or fold) and class."""
    found: dict[str, Counter[str]] = {}
    splits, folds = manifest["split"].to_pylist(), manifest["fold"].to_pylist()
    for split, fold, labels in zip(splits, folds, manifest["labels"].to_pylist(), strict=True):
        name = f"fold {fold}" if split == CROSS_VALIDATED else split
        found.setdefault(name, Counter()).update(labels)
    order = [name for name in SPLITS if name in found] + sorted(set(found) - set(SPLITS))
    return {name: dict(sorted(found[name].items())) for name in order}

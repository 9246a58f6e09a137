"""The manifest: clips from readers, checked, divided into splits, as an Arrow table."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from audioflow.errors import InputError
from audioflow.recipe import ManifestSection
from audioflow.recipe_sources import MAIN
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
    fine_labels: tuple[str, ...] | None = None
    """The labels before some were merged; None where none was."""
    place: str = ""
    """Where the clip was read, for messages: a file, or a line of a list."""
    group: str = ""
    """What the clip was cut from, where its reader knows of more than its file."""

    @property
    def origin(self) -> str:
        return self.place or self.uri


@dataclass(frozen=True)
class Addition:
    """Clips of a further data set, which all belong to one split."""

    name: str
    split: str
    clips: Sequence[Clip]


@dataclass(frozen=True)
class _Placed:
    """A clip with its place in the manifest."""

    clip: Clip
    clip_id: str
    split: str
    fold: str | None
    group: str
    source: str

    @property
    def row(self) -> dict[str, Any]:
        clip = self.clip
        return {
            "clip_id": self.clip_id,
            "uri": clip.uri,
            "start_s": clip.start_s,
            "duration_s": clip.duration_s,
            "labels": list(clip.labels),
            "split": self.split,
            "fold": self.fold,
            "group": self.group,
            "size_bytes": clip.size_bytes,
            "version": clip.version,
            "source": self.source,
            "fine_labels": list(clip.labels if clip.fine_labels is None else clip.fine_labels),
        }


def build_manifest(
    clips: Sequence[Clip],
    section: ManifestSection,
    source: str,
    additions: Sequence[Addition] = (),
) -> pa.Table:
    """The manifest table (`tables.MANIFEST_SCHEMA`), sorted by `clip_id`.

    The clips and groups of additions get the addition's name in front. They are in no fold, and no
    class of them has to be in any split. source: what was read, for messages. Raises `InputError`
    for no clip at all, ids that occur twice, a column that is not there, classes with too few
    groups for the splits, and a recording that is in two splits by way of an addition.
    """
    if not clips:
        raise InputError(
            f"{source} holds no clip; point manifest at the folder or list of your media"
        )
    _refuse_duplicates(clips)
    clips = sorted(clips, key=lambda clip: clip.clip_id)
    groups = [_group(clip, section.group_by) for clip in clips]
    splits, folds = _divided(clips, groups, section, source, _taught(additions))
    placed = [
        _Placed(clip, clip.clip_id, split, fold, group, MAIN)
        for clip, split, fold, group in zip(clips, splits, folds, groups, strict=True)
    ]
    placed += _added(additions, placed)
    rows = sorted((one.row for one in placed), key=lambda row: str(row["clip_id"]))
    columns = {name: [row[name] for row in rows] for name in MANIFEST_SCHEMA.names}
    return pa.Table.from_pydict(columns, schema=MANIFEST_SCHEMA)


def manifest_fingerprint(manifest: pa.Table) -> str:
    """Fingerprint of everything in the manifest."""
    names = manifest.column_names
    return fingerprint("manifest", names, [manifest[name].to_pylist() for name in names])


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


def _taught(additions: Sequence[Addition]) -> set[str]:
    """The classes that additions have train clips of."""
    trained = [clip for one in additions if one.split == "train" for clip in one.clips]
    return {label for clip in trained for label in clip.labels}


def _added(additions: Sequence[Addition], main: Sequence[_Placed]) -> list[_Placed]:
    """The clips of all additions, after making sure that they can stand beside the others."""
    ids = {one.clip_id: one for one in main}
    groups = {one.group for one in main}
    parts = {one.clip.uri: one for one in main}
    found = []
    for addition in additions:
        _refuse_duplicates(addition.clips)
        key = f"manifest.extra.{addition.name}"
        for clip in addition.clips:
            clip_id = f"{addition.name}/{clip.clip_id}"
            group = f"{addition.name}/{clip.group or clip.uri}"
            if clip_id in ids or group in groups:
                what = f"clip id {clip_id!r}" if clip_id in ids else f"group {group!r}"
                raise InputError(
                    f"{key}: the {what} ({clip.origin}) is one of the main data set, too; give "
                    f"{addition.name!r} another name"
                )
            placed = _Placed(clip, clip_id, addition.split, None, group, addition.name)
            other = parts.setdefault(clip.uri, placed)
            if (other.split, other.fold) != (placed.split, placed.fold):
                part = f"fold {other.fold}" if other.fold is not None else other.split
                raise InputError(
                    f"{key}: the recording {clip.uri!r} is in {addition.split} here "
                    f"({clip.origin}), and in {part} as {other.clip_id!r} of "
                    f"{other.source!r}; take it out of one of them, or what is tested was learnt"
                )
            found.append(placed)
    return found


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


def _group(clip: Clip, group_by: str) -> str:
    if group_by == "recording":
        return clip.group or clip.uri
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
    clips: Sequence[Clip],
    groups: Sequence[str],
    section: ManifestSection,
    source: str,
    taught: Collection[str],
) -> tuple[list[str], list[str | None]]:
    """The split and the fold of every clip; taught: classes with train clips elsewhere."""
    splits = section.splits
    if splits.folds is not None:
        return _in_folds(clips, groups, section, source)
    if splits.column is not None:
        found = _published(clips, groups, splits, taught)
        if splits.val_share is not None:
            found = _with_val(found, clips, groups, section, source)
        return found, [None] * len(clips)
    shares = {name: share for name, share in splits.fractions.items() if share > 0}
    return _stratified(clips, groups, shares, section.seed, source), [None] * len(clips)


def _in_folds(
    clips: Sequence[Clip], groups: Sequence[str], section: ManifestSection, source: str
) -> tuple[list[str], list[str | None]]:
    """The split and the fold of every clip; those of the test split are in no fold."""
    name, test = section.splits.folds, section.splits.test
    if isinstance(name, str):
        values = [_column(clip, name, "manifest.splits.folds") for clip in clips]
        tested = {str(value) for value in test or ()}
        splits = ["test" if value in tested else CROSS_VALIDATED for value in values]
        _refuse_straddling(splits, groups, clips)
    elif test is None:
        splits = [CROSS_VALIDATED] * len(clips)
    else:
        shares = {CROSS_VALIDATED: 1 - float(test), "test": float(test)}
        splits = _stratified(clips, groups, shares, section.seed, source)
    places = [place for place, split in enumerate(splits) if split == CROSS_VALIDATED]
    inside, of = [clips[place] for place in places], [groups[place] for place in places]
    if isinstance(name, str):
        folds = _published_folds(inside, of, name)
    else:
        shares = {str(number + 1): 1.0 for number in range(name)}
        folds = _stratified(inside, of, shares, section.seed, source)
    by_place = dict(zip(places, folds, strict=True))
    return splits, [by_place.get(place) for place in range(len(clips))]


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


def _published(
    clips: Sequence[Clip],
    groups: Sequence[str],
    splits: SplitsSection,
    taught: Collection[str],
) -> list[str]:
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
    trained = set(taught)
    for clip, split in zip(clips, found, strict=True):
        trained.update(clip.labels if split == "train" else ())
    unseen = sorted({label for clip in clips for label in clip.labels} - trained)
    if unseen and (splits.train or taught):
        raise InputError(
            f"no train clip has the class {_some(list(map(repr, unseen)))}, so no head could learn "
            f"it; remove the class, or give train other values of {name!r}"
        )
    return found


def _with_val(
    found: Sequence[str],
    clips: Sequence[Clip],
    groups: Sequence[str],
    section: ManifestSection,
    source: str,
) -> list[str]:
    """The splits with a share of the train clips as val."""
    share = section.splits.val_share or 0.0
    places = [place for place, split in enumerate(found) if split == "train"]
    inside, of = [clips[place] for place in places], [groups[place] for place in places]
    shares = {"train": 1 - share, "val": share}
    parts = _stratified(inside, of, shares, section.seed, source)
    drawn = dict(zip(places, parts, strict=True))
    return [drawn.get(place, split) for place, split in enumerate(found)]


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

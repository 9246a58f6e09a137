"""Which split and which fold a clip is in: by shares, by a published column, or in folds."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from audioflow.clip import Clip
from audioflow.errors import InputError
from audioflow.recipe import ManifestSection
from audioflow.recipe_splits import SplitsSection
from audioflow.registry import nearest
from audioflow.stratify import divide, missing

CROSS_VALIDATED = "cv"
"""Value of `split` for clips that are divided by `fold` instead."""

_SHOWN = 5
_LEAST_FOLDS = 3
_FOLD = re.compile(r"[^/\x00-\x1f]{1,100}")  # becomes part of a folder's name


def divided(
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
            f"selected on and learnt, but {some_of(few)}; remove the class or choose other folds"
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
            f"{some_of(told)}; given are {', '.join(map(repr, values))}"
        )
    _refuse_straddling(found, groups, clips)
    trained = set(taught)
    for clip, split in zip(clips, found, strict=True):
        trained.update(clip.labels if split == "train" else ())
    unseen = sorted({label for clip in clips for label in clip.labels} - trained)
    if unseen and (splits.train or taught):
        raise InputError(
            f"no train clip has the class {some_of(list(map(repr, unseen)))}, so no head could "
            f"learn it; remove the class, or give train other values of {name!r}"
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
            f"{', '.join(shares)}: {some_of(lacking)}; choose another manifest.group_by, remove "
            "the class, or give other manifest.splits"
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
            f"class {some_of(small)}; add recordings, remove the class, or give other "
            "manifest.splits"
        )


def group_of(clip: Clip, group_by: str) -> str:
    """What must not straddle splits, of this clip; raises `InputError` where nothing says it."""
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


def some_of(items: Sequence[str]) -> str:
    """The first few, and how many more there are, for messages."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more

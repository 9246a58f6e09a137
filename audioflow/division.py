"""Which split and which fold a clip is in: by shares, by a published column, or in folds.

Shapes: N clips in the order of their ids, U groups.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.clip_columns import GROUP_ROWS, Rows, texts_at
from audioflow.errors import InputError
from audioflow.grouping import GroupedClips, column_of, encoded, some_of
from audioflow.recipe_splits import SPLITS, SplitsSection
from audioflow.stratify import Groups, divide, missing

CROSS_VALIDATED = "cv"
"""Value of `split` for clips that are divided by `fold` instead."""

_LEAST_FOLDS = 3
_FOLD = re.compile(r"[^/\x00-\x1f]{1,100}")  # becomes part of a folder's name

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """What part of several each clip is in: codes (N,) are places in `names`, -1 is none."""

    codes: NDArray[np.integer]
    names: Sequence[str]

    @classmethod
    def all_in(cls, name: str | None, count: int) -> "Parts":
        """One part for all clips, or none."""
        return cls(np.full(count, -1 if name is None else 0, np.int16), [name or ""])

    def of(self, row: int) -> str | None:
        """The part of one clip."""
        code = int(self.codes[row])
        return None if code < 0 else self.names[code]

    def texts(self) -> Rows:
        """The part of every clip as text."""
        words = pa.array(self.names, pa.string())
        starts = range(0, len(self.codes), GROUP_ROWS)
        codes = (self.codes[start : start + GROUP_ROWS] for start in starts)
        chunks = [words.take(pa.array(part, mask=part < 0)) for part in codes]
        return pa.chunked_array(chunks, pa.string())


def divided(clips: GroupedClips, taught: Collection[str]) -> tuple[Parts, Parts]:
    """The split and the fold of every clip; taught: classes with train clips elsewhere."""
    splits = clips.section.splits
    if splits.folds is not None:
        return _in_folds(clips)
    nowhere = Parts.all_in(None, len(clips))
    if splits.column is not None:
        found = _published(clips, splits, taught)
        return _with_val(found, clips) if splits.val_share is not None else found, nowhere
    shares = {name: share for name, share in splits.fractions.items() if share > 0}
    return Parts(_stratified(clips, _all(clips), shares), list(shares)), nowhere


def _all(clips: GroupedClips) -> Integers:
    return np.arange(len(clips))


def _in_folds(clips: GroupedClips) -> tuple[Parts, Parts]:
    """The split and the fold of every clip; those of the test split are in no fold."""
    name, test = clips.section.splits.folds, clips.section.splits.test
    if isinstance(name, str):
        values = column_of(clips.columns, name, "manifest.splits.folds")
        tested = pa.array([str(value) for value in test or ()], pa.string())
        held_out = pc.is_in(values, value_set=tested).to_numpy()
        splits = Parts(held_out.astype(np.int16), [CROSS_VALIDATED, "test"])
        _refuse_straddling(splits, clips, _all(clips))
    elif test is None:
        splits = Parts.all_in(CROSS_VALIDATED, len(clips))
    else:
        shares = {CROSS_VALIDATED: 1 - float(test), "test": float(test)}
        splits = Parts(_stratified(clips, _all(clips), shares), list(shares))
    places = np.flatnonzero(splits.codes == 0)
    inside: NDArray[np.integer]
    if isinstance(name, str):
        inside, names = _published_folds(clips, places, name)
    else:
        names = [str(number + 1) for number in range(name)]
        inside = _stratified(clips, places, dict.fromkeys(names, 1.0))
    codes = np.full(len(clips), -1, inside.dtype)
    codes[places] = inside
    return splits, Parts(codes, names)


def _published_folds(
    clips: GroupedClips, places: Integers, name: str
) -> tuple[NDArray[np.int32], list[str]]:
    """The folds of the clips at these places, and the names of all folds."""
    key = "manifest.splits.folds"
    column = column_of(clips.columns, name, key)
    codes, names = encoded(column)
    inside = codes[places]
    there = np.unique(inside).tolist()
    odd = [code for code in there if not _FOLD.fullmatch(names[code])]
    if odd:
        at = int(places[np.flatnonzero(np.isin(inside, odd))[0]])
        raise InputError(
            f"{key}: {name} is {names[codes[at]]!r} at {clips.columns.origin(at)}; a fold needs a "
            "name without '/'"
        )
    if len(there) < _LEAST_FOLDS:
        told = ", ".join(sorted(names[code] for code in there))
        raise InputError(
            f"{key}: the column {name!r} has the values {told}; "
            f"{_LEAST_FOLDS} or more are needed: one to test, one to select, the rest to train"
        )
    _refuse_straddling(Parts(codes, names), clips, places)
    owners, labels = _labels_of(clips, places)
    pairs = np.unique(labels * len(names) + codes[owners])
    having, counts = np.unique(pairs // len(names), return_counts=True)
    classes = clips.columns.classes
    few = []
    for code in sorted(having[counts < _LEAST_FOLDS].tolist(), key=lambda code: classes[code]):
        has = sorted(names[pair % len(names)] for pair in pairs[pairs // len(names) == code])
        few.append(f"{classes[code]!r} is in {', '.join(has)}")
    if few:
        raise InputError(
            f"{key}: every class needs clips in {_LEAST_FOLDS} folds or more, to be tested, "
            f"selected on and learnt, but {some_of(few)}; remove the class or choose other folds"
        )
    return inside, names


def _published(clips: GroupedClips, splits: SplitsSection, taught: Collection[str]) -> Parts:
    name, values = splits.column or "", splits.values
    codes, words = encoded(column_of(clips.columns, name, "manifest.splits.column"))
    unknown = sorted(word for word in words if word not in values)
    if unknown:

        def told(word: str) -> str:
            first = int(np.argmax(codes == words.index(word)))
            return f"{word!r} ({clips.columns.origin(first)})"

        raise InputError(
            f"manifest.splits: the column {name!r} has values that belong to no split: "
            f"{some_of(unknown, told)}; given are {', '.join(map(repr, values))}"
        )
    split_of = np.array([SPLITS.index(values[word]) for word in words], np.int16)
    found = Parts(split_of[codes], SPLITS)
    _refuse_straddling(found, clips, _all(clips))
    owners, labels = clips.columns.flat_labels()
    classes = clips.columns.classes
    learnt = np.unique(labels[found.codes[owners] == SPLITS.index("train")])
    trained = {*taught, *(classes[code] for code in learnt)}
    unseen = sorted(clips.columns.used_labels() - trained)
    if unseen and (splits.train or taught):
        raise InputError(
            f"no train clip has the class {some_of(list(map(repr, unseen)))}, so no head could "
            f"learn it; remove the class, or give train other values of {name!r}"
        )
    return found


def _with_val(found: Parts, clips: GroupedClips) -> Parts:
    """The splits with a share of the train clips as val."""
    share = clips.section.splits.val_share or 0.0
    places = np.flatnonzero(found.codes == SPLITS.index("train"))
    codes = found.codes.copy()
    # The places of train and val in SPLITS are those of the two shares.
    codes[places] = _stratified(clips, places, {"train": 1 - share, "val": share})
    return Parts(codes, found.names)


def _refuse_straddling(parts: Parts, clips: GroupedClips, places: Integers) -> None:
    first = clips.first_of_groups(places)[clips.numbers[places]]
    apart = parts.codes[first] != parts.codes[places]
    if apart.any():
        row = int(np.argmax(apart))
        here, other, origin = int(places[row]), int(first[row]), clips.columns.origin
        raise InputError(
            f"group {clips.groups[here].as_py()!r} stands in {parts.of(other)} ({origin(other)}) "
            f"and in {parts.of(here)} ({origin(here)}); a group may not straddle splits: choose "
            "another manifest.group_by or another column"
        )


def _stratified(
    clips: GroupedClips, places: Integers, shares: Mapping[str, float]
) -> NDArray[np.int16]:
    """Whole groups to parts, every class divided as `shares` say; the same for a seed.

    The place in `shares` of the part of each clip at `places`.
    """
    first = clips.first_of_groups(places)
    firsts = np.sort(first[first >= 0])
    # Groups in the order of their first clips.
    ranks = np.empty(len(first), np.int32)
    ranks[clips.numbers[firsts]] = np.arange(len(firsts), dtype=np.int32)
    numbers = ranks[clips.numbers[places]]
    groups = _groups_to_divide(clips, places, numbers, firsts)
    _refuse_small_classes(clips, groups, (places, numbers), list(shares))
    parts = divide(groups, shares, clips.section.seed)
    lacking = [
        f"{label!r} is not in {', '.join(lacks)}"
        for label, lacks in missing(groups, parts, shares).items()
    ]
    if lacking:
        raise InputError(
            f"{clips.source}: with whole groups no division was found that has every class in each "
            f"of {', '.join(shares)}: {some_of(lacking)}; choose another manifest.group_by, remove "
            "the class, or give other manifest.splits"
        )
    return parts[numbers]


def _labels_of(clips: GroupedClips, places: Integers) -> tuple[Integers, Integers]:
    """Of every label of the clips at these places: the place of its clip, and its code."""
    owners, codes = clips.columns.flat_labels()
    if len(places) == len(clips):
        return owners, codes
    inside = np.zeros(len(clips), np.bool_)
    inside[places] = True
    kept = inside[owners]
    return owners[kept], codes[kept]


def _groups_to_divide(
    clips: GroupedClips, places: Integers, numbers: NDArray[np.int32], firsts: Integers
) -> Groups:
    ids, classes = clips.columns.rows["clip_id"], clips.columns.classes
    number_of = np.full(len(clips), -1, np.int32)
    number_of[places] = numbers
    owners, codes = _labels_of(clips, places)
    width = max(1, len(classes))
    keys = number_of[owners].astype(np.int64) * width + codes
    del owners, codes
    if (keys[1:] > keys[:-1]).all():
        counts = np.ones(len(keys), np.int32)
    else:
        keys, many = np.unique(keys, return_counts=True)
        counts = many.astype(np.int32)
    return Groups(
        size=len(firsts),
        # Named by their first clip: a recording's url changes with the place of the data.
        names=lambda rows: texts_at(ids, firsts[rows]),
        owners=(keys // width).astype(np.int32),
        codes=(keys % width).astype(np.int32),
        counts=counts,
        classes=classes,
    )


def _refuse_small_classes(
    clips: GroupedClips,
    groups: Groups,
    members: tuple[Integers, NDArray[np.int32]],
    shares: Sequence[str],
) -> None:
    """members: places of clips, and the number of the group of each."""
    small = [code for code in groups.used if groups.spread[code] < len(shares)]
    if small:
        owners, labels = clips.columns.flat_labels()

        def told(code: int) -> str:
            """The class, and the first of its clips in its first group."""
            group = int(groups.owners[np.argmax(groups.codes == code)])
            inside = members[0][members[1] == group]
            example = int(np.intersect1d(owners[labels == code], inside)[0])
            where = clips.columns.origin(example)
            return f"{groups.classes[code]!r} has {groups.spread[code]} ({where})"

        raise InputError(
            f"{clips.source}: every class needs a recording (group) in each of "
            f"{', '.join(shares)}, but class {some_of(small, told)}; add recordings, remove the "
            "class, or give other manifest.splits"
        )

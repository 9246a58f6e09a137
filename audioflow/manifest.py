"""The manifest: clips from readers, checked, divided into splits, as an Arrow table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.clip import Clip
from audioflow.division import CROSS_VALIDATED, divided, group_of, some_of
from audioflow.errors import InputError
from audioflow.recipe import ManifestSection
from audioflow.recipe_sources import MAIN
from audioflow.recipe_splits import SPLITS
from audioflow.tables import MANIFEST_SCHEMA, fingerprint


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
    groups = [group_of(clip, section.group_by) for clip in clips]
    splits, folds = divided(clips, groups, section, source, _taught(additions))
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


def without_one_label(manifest: pa.Table) -> NDArray[np.bool_]:
    """Which clips (N,) have several labels, or none.

    But for clips of the split test without a label: theirs is not known, as in a list of what is to
    be submitted.
    """
    counts_N = pc.list_value_length(manifest["labels"]).to_numpy()
    tested_N = pc.equal(manifest["split"], "test").to_numpy(zero_copy_only=False)
    found: NDArray[np.bool_] = (counts_N > 1) | ((counts_N == 0) & ~tested_N)
    return found


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
            f"{count} twice: {some_of(twice)}; remove one of each, or name an id_column whose "
            "values are unique"
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


def split_counts(manifest: pa.Table) -> dict[str, dict[str, int]]:
    """Clips per split (or fold) and class."""
    found: dict[str, Counter[str]] = {}
    splits, folds = manifest["split"].to_pylist(), manifest["fold"].to_pylist()
    for split, fold, labels in zip(splits, folds, manifest["labels"].to_pylist(), strict=True):
        name = f"fold {fold}" if split == CROSS_VALIDATED else split
        found.setdefault(name, Counter()).update(labels)
    order = [name for name in SPLITS if name in found] + sorted(set(found) - set(SPLITS))
    return {name: dict(sorted(found[name].items())) for name in order}

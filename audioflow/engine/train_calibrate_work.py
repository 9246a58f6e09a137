"""What runs in the workers of a calibration: scoring the clips it is fitted on, and fitting it.

Shapes: N clips, C classes.
"""

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.calibration.fit_system import Material, Wanted, fit_system
from audioflow.calibration.system import SystemCalibration
from audioflow.calibration.thresholds import Target
from audioflow.recipe_calibration import CalibrationSection
from audioflow.storage import Folder
from audioflow.systems.bundle import HeadBundle
from audioflow.systems.examples import multi_hot
from audioflow.tables import Table


@dataclass(frozen=True)
class RawTask:
    """Clips of a system to be scored by one of its heads: those of `val`, or of a fold."""

    head: Folder
    embeddings: Folder
    manifest: Folder
    fold: str | None
    dropped: tuple[str, ...]
    most_clips: int

    @property
    def bundle(self) -> Folder:
        return self.head if self.fold is None else self.head / f"fold-{self.fold}"


@dataclass(frozen=True)
class RawScores:
    """Scores of clips by a head that never saw them, and their labels."""

    raw_NC: NDArray[np.float32]
    targets: NDArray[Any]
    groups: list[str]
    fold: str | None
    multi_label: bool
    left_out: int


def raw_scores(task: RawTask) -> RawScores:
    """Score the clips of `val`, or of a fold; of very many an even share."""
    bundle = HeadBundle.load(task.bundle)
    rows, left_out = _clips(task)
    labels, groups = (
        dict(zip(rows["clip_id"].to_pylist(), rows[name].to_pylist(), strict=True))
        for name in ("labels", "group")
    )
    wanted = rows["clip_id"].combine_chunks()
    ids: list[str] = []
    scores = [np.zeros((0, len(bundle.spec.classes)), np.float32)]
    for _, shard in Table(task.embeddings).shards(bundle.inputs.columns):
        mine = shard.filter(
            pc.and_(pc.equal(shard["variant"], 0), pc.is_in(shard["clip_id"], wanted))
        )
        if mine.num_rows:
            clips = bundle.inputs.read(mine.combine_chunks())
            ids += clips.clip_ids
            scores.append(bundle.scores(clips))
    places = {label: place for place, label in enumerate(bundle.spec.classes)}
    found = [[places[label] for label in labels[clip_id]] for clip_id in ids]
    if bundle.spec.multi_label:
        targets: NDArray[Any] = multi_hot(found, len(places)) > 0.5
    else:
        targets = np.array([one[0] for one in found], np.int64)
    return RawScores(
        np.concatenate(scores),
        targets,
        [groups[clip_id] for clip_id in ids],
        task.fold,
        bundle.spec.multi_label,
        left_out,
    )


def _clips(task: RawTask) -> tuple[pa.Table, int]:
    """The clips to score: ids, labels and groups; and how many more there are."""
    columns = ["clip_id", "labels", "group", "split", "fold", "source"]
    rows = Table(task.manifest).read(columns)
    mine = (
        pc.equal(rows["split"], "val") if task.fold is None else pc.equal(rows["fold"], task.fold)
    )
    dropped = pc.is_in(rows["source"], pa.array(task.dropped, pa.string()))
    rows = rows.filter(pc.and_(mine, pc.invert(dropped)))
    left = rows.num_rows - task.most_clips
    if left <= 0:
        return rows, 0
    drawn = np.array([zlib.crc32(clip_id.encode()) for clip_id in rows["clip_id"].to_pylist()])
    return rows.take(pa.array(np.argsort(drawn, kind="stable")[: task.most_clips])), left


def fit_on(
    section: CalibrationSection, classes: tuple[str, ...], key: str, *parts: RawScores
) -> SystemCalibration | None:
    """Fit on the clips of all heads; None where there is none."""
    count = sum(len(part.raw_NC) for part in parts)
    if not count:
        return None
    folds = [part.fold for part in parts for _ in part.groups if part.fold is not None]
    material = Material(
        np.concatenate([part.raw_NC for part in parts]),
        np.concatenate([part.targets for part in parts]),
        [group for part in parts for group in part.groups],
        folds or None,
    )
    wanted = Wanted(
        section.method, _target(section), section.keep_raw, classes, parts[0].multi_label
    )
    found = fit_system(material, wanted, key)
    if left := sum(part.left_out for part in parts):
        note = f"fitted on {count:,} clips, an even share: {left:,} more were left out"
        notes = [note, *found.fitted["notes"]]
        found = replace(found, fitted={**found.fitted, "notes": notes})
    return found


def _target(section: CalibrationSection) -> Target | None:
    wanted = section.thresholds
    if wanted is None:
        return None
    if wanted.f1 is not None:
        return Target("f1")
    if wanted.recall is not None:
        return Target("recall", wanted.recall)
    return Target("precision", wanted.precision)

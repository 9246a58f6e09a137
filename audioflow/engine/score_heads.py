"""Trained heads in a worker: from rows of embeddings to rows of score tables.

Shapes: N clips, C classes, P patches of a clip.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.embeddings import patch_rows
from audioflow.engine.score_target import Target
from audioflow.scores import ScoredClips, score_rows, vectors_column
from audioflow.systems.ensemble import Heads

Floats = NDArray[np.float32]


@dataclass
class Found:
    """What a head gave, by clip id: scores (C,), of patches their starts (P,) and scores (P, C)."""

    scores: dict[str, Floats] = field(default_factory=dict)
    starts_s: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    patches: dict[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True)
class Clips:
    """Clips to be scored, in order: ids, labels, the split as which they are scored, folds."""

    ids: Sequence[str]
    labels: Sequence[Sequence[str]]
    splits: Sequence[str]
    folds: Sequence[str | None]

    def at(self, places: Sequence[int]) -> "Clips":
        """Those at these places."""
        return Clips(
            [self.ids[place] for place in places],
            [self.labels[place] for place in places],
            [self.splits[place] for place in places],
            [self.folds[place] for place in places],
        )


class Scorer:
    """The heads of one score table; read when they are needed for the first time."""

    def __init__(self, target: Target) -> None:
        self.target = target

    @cached_property
    def heads(self) -> Heads:
        return Heads.load(self.target.head)

    def prepare(self) -> None:
        """Read the heads now."""
        _ = self.heads

    @property
    def columns(self) -> list[str]:
        """The columns of embeddings that it needs."""
        more = ["patch_start_s"] if self.target.patches else []
        return list(dict.fromkeys([*self.heads.columns, *more]))

    def score(self, rows: pa.Table, folds: Mapping[str, str | None], found: Found) -> None:
        """Add the scores of these rows of embeddings to what is found.

        folds: those of all clips, by id. A clip of a fold is scored by the head that did not see
        that fold, one of no fold by the mean of all folds' heads. All variants of a clip have to be
        among the rows.
        """
        wanted = rows if self.target.mean else recorded(rows)
        for fold, mine in self._groups(wanted, folds):
            ids, scores_NC = self.heads.scores(mine, fold)
            if self.target.mean:
                ids, scores_NC = _means(ids, scores_NC)
            found.scores.update(zip(ids, scores_NC, strict=True))
        if self.target.patches:
            for fold, mine in self._groups(recorded(rows), folds):
                self._score_patches(mine, fold, found)

    def _score_patches(self, rows: pa.Table, fold: str | None, found: Found) -> None:
        """Every patch by itself: as if it were a clip."""
        layers = [name for name in self.heads.columns if name in _layers(rows)]
        starts = rows["patch_start_s"].combine_chunks()
        ends = np.cumsum(np.asarray(starts.value_lengths(), np.int64))[:-1]
        _, scores_NC = self.heads.scores(patch_rows(rows, layers), fold)
        ids = rows["clip_id"].to_pylist()
        flat = starts.flatten().to_numpy(zero_copy_only=False)
        found.starts_s.update(zip(ids, np.split(flat, ends), strict=True))
        found.patches.update(zip(ids, np.split(scores_NC, ends), strict=True))

    def _groups(
        self, rows: pa.Table, folds: Mapping[str, str | None]
    ) -> Iterator[tuple[str | None, pa.Table]]:
        """The rows of every fold."""
        if not rows.num_rows:
            return
        of = [folds[clip_id] if self.target.by_fold else None for clip_id in _ids(rows)]
        for fold in dict.fromkeys(of):
            mine = rows
            if len(set(of)) > 1:
                mine = rows.filter(pa.array([one == fold for one in of])).combine_chunks()
            yield fold, mine

    def rows(self, clips: Clips, found: Found) -> pa.Table:
        """Rows of the score table, calibrated where the bundle says how; all clips were scored."""
        classes = self.target.classes
        raw_NC = np.zeros((0, len(classes)), np.float32)
        if clips.ids:
            raw_NC = np.stack([found.scores[clip_id] for clip_id in clips.ids])
        folds = list(clips.folds) if self.target.by_fold else [None] * len(clips.ids)
        calibration = self.heads.calibration
        scores_NC = calibration.apply(raw_NC, folds) if calibration else raw_NC
        more: dict[str, pa.Array] = {}
        if calibration and "raw_scores" in calibration.columns:
            more["raw_scores"] = vectors_column(raw_NC)
        if calibration and "above_threshold" in calibration.columns:
            above = calibration.above(scores_NC, folds)
            more["above_threshold"] = pa.array(above, pa.list_(pa.string()))
        if self.target.patches:
            more |= self._patch_columns(clips.ids, folds, found)
        about = ScoredClips(clips.ids, clips.labels, clips.splits)
        return score_rows(about, scores_NC, classes, more=more or None)

    def _patch_columns(
        self, ids: Sequence[str], folds: Sequence[str | None], found: Found
    ) -> dict[str, pa.Array]:
        starts = [found.starts_s[clip_id] for clip_id in ids]
        counts = [len(one) for one in starts]
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        none_NC = np.zeros((0, len(self.target.classes)), np.float32)
        scores_NC = np.concatenate([none_NC, *(found.patches[clip_id] for clip_id in ids)])
        if calibration := self.heads.calibration:
            of_patches = [
                fold for fold, count in zip(folds, counts, strict=True) for _ in range(count)
            ]
            scores_NC = calibration.apply(scores_NC, of_patches)
        flat = pa.array(np.concatenate([np.zeros(0), *starts]), pa.float64())
        return {
            "patch_start_s": pa.ListArray.from_arrays(offsets, flat),
            "patch_scores": pa.ListArray.from_arrays(offsets, vectors_column(scores_NC)),
        }


def recorded(rows: pa.Table) -> pa.Table:
    """Without the rows of variants."""
    mine = pc.equal(rows["variant"], 0)
    return rows if pc.all(mine).as_py() else rows.filter(mine)


def _ids(rows: pa.Table) -> list[str]:
    found: list[str] = rows["clip_id"].to_pylist()
    return found


def _layers(rows: pa.Table) -> set[str]:
    return set(rows.column_names) - {"clip_id", "variant", "patch_start_s"}


def _means(ids: Sequence[str], scores_NC: Floats) -> tuple[list[str], Floats]:
    """Every clip once, with the mean of its rows."""
    places = {clip_id: place for place, clip_id in enumerate(dict.fromkeys(ids))}
    of_N = np.array([places[clip_id] for clip_id in ids])
    sums = np.zeros((len(places), scores_NC.shape[1]), np.float64)
    np.add.at(sums, of_N, scores_NC)
    counts = np.bincount(of_N, minlength=len(places))
    return list(places), (sums / counts[:, None]).astype(np.float32)

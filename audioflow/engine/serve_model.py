"""Backbones and heads of a served system in one process: decoded media in, scores out.

What is heard goes the way of the job `score` with `score.source: media`: the same patches, batches,
heads, calibration and fusion, here over the clips of several requests.

Shapes: N clips, C classes, S systems.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.backbones import BACKBONES
from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.engine.embed_actor import Embedder
from audioflow.engine.embed_commit import Outcomes
from audioflow.engine.embed_pulse import Pulse
from audioflow.engine.embed_work import Embedded, ShardClips, Work
from audioflow.engine.score_heads import Clips, Found, Scorer
from audioflow.engine.serve_system import Part as ServedPart
from audioflow.engine.serve_system import Served
from audioflow.errors import AudioflowError, MediaError
from audioflow.fusion import Block, Fusion, QualityColumn, quality_columns, quality_rows
from audioflow.media.packing import Packer, Sources
from audioflow.media.parts import Part
from audioflow.recipe_fuse import QualityChoice
from audioflow.scores import score_matrix
from audioflow.serving.answers import Scored
from audioflow.tables import Failure

Media = Mapping[str, Sequence[Part]]
"""By clip id, what was decoded of it: the parts of a recording whose only clip is all of it."""

_WORK = Work("served", {})


@dataclass(frozen=True)
class _Heard:
    """What a backbone gave of some clips: embeddings by place, failures of the others, and rows."""

    good: Mapping[int, list[ClipEmbedding]]
    failed: Mapping[int, Failure]
    rows: pa.Table


class Model:
    """A served system with its backbones and heads loaded."""

    def __init__(self, served: Served) -> None:
        """Raises `AudioflowError` where weights or heads are not what they were."""
        self._served = served
        self._pulse = Pulse()
        self._embedders = {
            table: Embedder(spec, self._pulse) for table, spec in served.specs.items()
        }
        self._sources = Sources.of([spec.input for spec in served.specs.values()])
        self._scorers = {part.name: Scorer(part.target) for part in served.parts}
        for scorer in self._scorers.values():
            scorer.prepare()
        self._fusing = _Fusing(served) if served.fusion else None

    def scores(self, media: Media) -> dict[str, Scored | MediaError]:
        """The scores of every clip, or why it has none.

        Where one clip of several ends the program that embeds them, the others are scored alone.
        """
        try:
            return self._scores(media)
        except AudioflowError as error:
            if len(media) == 1:
                return {clip_id: MediaError("internal", str(error)) for clip_id in media}
        return {one: self.scores({one: parts})[one] for one, parts in media.items()}

    def _scores(self, media: Media) -> dict[str, Scored | MediaError]:
        clips = ShardClips(list(media), list(media), "")
        heard = self._heard(media, clips)
        self._pulse.take_times()
        found = {part.name: self._of_part(part, heard[part.table], clips) for part in self._parts}
        if self._fusing:
            return self._fusing.fused(clips.ids, found, heard)
        return {one: found[self._parts[0].name][one] for one in clips.ids}

    @property
    def _parts(self) -> Sequence[ServedPart]:
        return self._served.parts

    def _heard(self, media: Media, clips: ShardClips) -> dict[str, _Heard]:
        """What every backbone gives."""
        found: dict[str, list[Embedded]] = {table: [] for table in self._embedders}
        for row in self._rows(media):
            for table, embedder in self._embedders.items():
                found[table].append(embedder.embed(row, {table: _WORK}, clips))
        return {table: self._judged(table, clips, parts) for table, parts in found.items()}

    def _rows(self, media: Media) -> Iterator[pa.Table]:
        """The media of all clips, packed as for the job `embed`; in rows of bounded size."""
        packer = Packer(self._sources)
        augment = pa.array([[True] * len(media)], pa.list_(pa.bool_()))
        for place, parts in enumerate(media.values()):
            for part in parts:
                packer.add(replace(part, clip=place))
                if packer.full:
                    yield pa.table(packer.columns() | {"augment": augment})
        yield pa.table(packer.columns() | {"augment": augment})

    def _judged(self, table: str, clips: ShardClips, parts: Sequence[Embedded]) -> _Heard:
        spec = self._served.specs[table]
        outcomes = Outcomes(clips, parts, spec.min_coverage)
        good: dict[int, list[ClipEmbedding]] = {}
        failed: dict[int, Failure] = {}
        for place in range(len(clips.ids)):
            outcome = outcomes.of(place)
            if isinstance(outcome, Failure):
                failed[place] = outcome
            else:
                good[place] = outcome
        pairs = [(clips.ids[place], one) for place, each in good.items() for one in each]
        ids, embeddings = [clip_id for clip_id, _ in pairs], [one for _, one in pairs]
        return _Heard(good, failed, embedding_rows(ids, embeddings, spec.layers))

    def _of_part(
        self, part: ServedPart, heard: _Heard, clips: ShardClips
    ) -> dict[str, Scored | MediaError]:
        """The scores of one head, as they would stand in its table."""
        scorer, found = self._scorers[part.name], Found()
        ids = [clips.ids[place] for place in heard.good]
        scorer.score(heard.rows, dict.fromkeys(ids), found)
        none = [None] * len(ids)
        rows = scorer.rows(Clips(ids, [[]] * len(ids), ["test"] * len(ids), none), found)
        above = rows["above_threshold"].to_pylist() if "above_threshold" in _names(rows) else none
        done: dict[str, Scored | MediaError] = {
            clips.ids[place]: MediaError(one.error, one.reason)
            for place, one in heard.failed.items()
        }
        scores_NC = score_matrix(rows)
        for number, (place, embeddings) in enumerate(heard.good.items()):
            first = embeddings[0]
            done[clips.ids[place]] = Scored(
                scores_NC[number], first.duration_s, first.coverage, above[number]
            )
        return done


def _names(rows: pa.Table) -> list[str]:
    names: list[str] = rows.column_names
    return names


class _Fusing:
    """The fusion of a served system, as it was fitted."""

    def __init__(self, served: Served) -> None:
        assert served.fusion is not None
        self._settings = served.fusion
        self._classes = served.about.classes
        self._parts = served.parts
        self._fusion = Fusion.restored(served.fusion, self._classes)
        # What is sent is of no fold: the fit on all of them is for it.
        params = served.fusion["params"]
        self._params = {key: value for key, value in params.items() if key != "cross_fit"}
        self._orders = {
            part.name: [part.target.classes.index(name) for name in self._classes]
            for part in served.parts
        }
        self._quality_table, self._columns = "", list[QualityColumn]()
        if told := served.fusion.get("quality"):
            choice = QualityChoice.model_validate(told)
            self._quality_table = choice.table
            backbone = BACKBONES.load(served.specs[choice.table].backbone)
            self._columns = quality_columns(choice, backbone)

    def fused(
        self,
        ids: Sequence[str],
        found: Mapping[str, Mapping[str, Scored | MediaError]],
        heard: Mapping[str, _Heard],
    ) -> dict[str, Scored | MediaError]:
        """The fused scores of clips, or why a clip has none."""
        names = [part.name for part in self._parts]
        done: dict[str, Scored | MediaError] = {}
        kept: list[str] = []
        for clip_id in ids:
            lacking = {
                name: one for name in names if isinstance(one := found[name][clip_id], MediaError)
            }
            if len(lacking) == len(names) or (lacking and self._settings["missing"] != "fallback"):
                done[clip_id] = _lacking(lacking)
            else:
                kept.append(clip_id)
        if not kept:
            return done
        shape = (len(names), len(kept), len(self._classes))
        scores_SNC, available_SN = np.full(shape, np.nan, np.float32), np.zeros(shape[:2], np.bool_)
        for s, name in enumerate(names):
            for n, clip_id in enumerate(kept):
                one = found[name][clip_id]
                if isinstance(one, Scored):
                    available_SN[s, n] = True
                    scores_SNC[s, n] = one.scores[self._orders[name]]
        block = Block(scores_SNC, available_SN, self._qualities(kept, heard))
        fused_NC = self._fusion.apply(self._params, block)
        for n, clip_id in enumerate(kept):
            there = [name for s, name in enumerate(names) if available_SN[s, n]]
            first = found[there[0]][clip_id]
            assert isinstance(first, Scored)
            done[clip_id] = replace(first, scores=fused_NC[n], above=None, systems=there)
        return done

    def _qualities(
        self, kept: Sequence[str], heard: Mapping[str, _Heard]
    ) -> NDArray[np.float64] | None:
        """The qualities (N, Q) that the rule looks at, NaN where they are not known."""
        if not self._quality_table:
            return None
        ids, values_NQ = quality_rows(heard[self._quality_table].rows, self._columns)
        places = {clip_id: place for place, clip_id in enumerate(ids)}
        found = np.full((len(kept), len(self._columns)), np.nan)
        for n, clip_id in enumerate(kept):
            if clip_id in places:
                found[n] = values_NQ[places[clip_id]]
        return found


def _lacking(errors: Mapping[str, MediaError]) -> MediaError:
    """Why no system, or not all that have to, could score a clip."""
    first = next(iter(errors.values()))
    reason = "; ".join(f"{name}: {one.error}: {one.reason}" for name, one in errors.items())
    return MediaError(first.error, reason)

"""Score tables that other programs computed: the entries of `score.imports`. Without Ray.

They are as those of a system: one row per clip to be scored, or a failure where the files have no
usable row of it. Rows are matched to clips by a key, never by their order.
"""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.downloads import LocalFile, local_file
from audioflow.engine.run import Run, Watch
from audioflow.errors import InputError
from audioflow.foreign_scores import (
    ClassChoice,
    Reading,
    class_columns,
    kind_of,
    rows_at_once,
    survey,
)
from audioflow.manifest import without_one_label
from audioflow.matching import match
from audioflow.recipe_score import ImportChoice
from audioflow.score_importers import SCORE_IMPORTERS
from audioflow.score_importers.base import Matrix, ScoreImporter, ScoreImporterSettings
from audioflow.scores import ScoredClips, clips_to_score, score_rows
from audioflow.tables import (
    SCHEMA_VERSION,
    Failure,
    Header,
    Receipt,
    Table,
    fingerprint,
    package_versions,
)

JOB = "score"

CLIPS_PER_SHARD = 16_384
_WRITERS = 3
"""Shards that are made at a time: Parquet takes longer to write than scores to read."""
_SHOWN = 3


def import_scores(run: Run, name: str, choice: ImportChoice) -> Header:
    """Write `scores/<name>/` for one entry of `score.imports`.

    Raises `InputError` for files that cannot be read, do not fit each other, or have no clip of the
    manifest; nothing is written then.
    """
    kind = choice.name or name
    importer: ScoreImporter = SCORE_IMPORTERS.build(kind, choice.options)
    table, parent = run.scores(name), run.manifest().complete_header()
    section = run.recipe.score
    assert section is not None
    with contextlib.ExitStack() as stack:
        try:
            places = importer.files(run.input)
            files = [stack.enter_context(local_file(one.url, one.options)) for one in places]
            settings = {
                "importer": kind,
                "revision": importer.revision,
                "settings": dict(importer.what_counts()),
                "content": list(map(_sha256, files)),
            }
            parents = {"manifest": parent.fingerprint}
            key = fingerprint("scores", SCHEMA_VERSION, parents, section.splits, settings)
            if old := run.unchanged(JOB, name, table, key):
                return old
            matrix = stack.enter_context(importer.opened(files))
            work = _planned(run, matrix, importer.settings, parent.classes, files[0].url)
        except InputError as error:
            raise InputError(f"score.imports.{name}: {error}") from error
        told = {
            "splits": list(section.splits),
            "source": "import",
            "import": settings,
            "multi_label": work.reading.multi,
        }
        header = _written(run, table, work, Header("scores", name, key, parents, told, 0, 0, []))
    run.finished(JOB, name, header)
    return header


@dataclass(frozen=True)
class _Work:
    """What is to be written.

    clips: M rows of the manifest, and rows_M where each stands in the matrix (-1: nowhere), in the
    order of the matrix. unknown: ids of rows of no clip. source: what is read, for messages.
    """

    matrix: Matrix
    reading: Reading
    classes: list[str]
    clips: pa.Table
    rows_M: NDArray[np.int64]
    unknown: Sequence[str]
    source: str

    @property
    def told(self) -> dict[str, Any]:
        """What was recognised, for the header."""
        return {
            "read": self.matrix.told,
            "values": self.reading.kind,
            "task": "multi" if self.reading.multi else "single",
            "unknown_clips": len(self.unknown),
        }

    @property
    def note(self) -> str:
        """The same for people."""
        kind = self.reading.kind.replace("_", " ")
        several = ", every class by itself" if self.reading.multi else ""
        text = f"{self.matrix.told}; {kind}{several}"
        if not self.unknown:
            return text
        named = ", ".join(map(repr, self.unknown[:_SHOWN]))
        more = ", ..." if len(self.unknown) > _SHOWN else ""
        return f"{text}; {len(self.unknown)} rows are of no clip of the manifest: {named}{more}"


def _planned(
    run: Run, matrix: Matrix, settings: ScoreImporterSettings, labels: Sequence[str], source: str
) -> _Work:
    """Everything that can be wrong with the files as a whole is found here."""
    section = run.recipe.score
    assert section is not None
    manifest = run.manifest().read(["clip_id", "uri", "labels", "split", "fold"])
    loose, keep = settings.spelling == "loose", settings.other_classes == "keep"
    choice = ClassChoice(settings.rename, loose, keep)
    classes, to = class_columns(matrix.columns, labels, choice, source)
    matched = match(matrix.ids, manifest, settings.key, source)
    _refuse_unknown(matched.unknown, matrix, settings, source)
    multi = settings.task == "multi" or (settings.task == "auto" and _several(manifest))
    kind = kind_of(survey(matrix.values_NK), settings.values, source, multi=multi)
    reading = Reading(kind, multi, to, len(classes), settings.zero_rows == "fail")
    placed = manifest.append_column("row", pa.array(matched.rows))
    clips = clips_to_score(placed, section.splits)
    rows_M = clips["row"].to_numpy()
    order = np.argsort(np.where(rows_M < 0, len(matrix.ids), rows_M), kind="stable")
    clips = clips.take(pa.array(order))
    return _Work(matrix, reading, classes, clips, rows_M[order], matched.unknown, source)


def _several(manifest: pa.Table) -> bool:
    """Whether clips have several labels, or some have none, as the job `train` sees it."""
    labelled = pc.any(pc.greater(pc.list_value_length(manifest["labels"]), 0)).as_py()
    return bool(labelled and without_one_label(manifest).any())


def _refuse_unknown(
    unknown: Sequence[str], matrix: Matrix, settings: ScoreImporterSettings, source: str
) -> None:
    if len(unknown) > settings.max_unknown_share * len(matrix.ids):
        raise InputError(
            f"{source}: {len(unknown)} of {len(matrix.ids)} rows are of no clip of the manifest, "
            f"{unknown[0]!r} for one; max_unknown_share allows {settings.max_unknown_share:g}"
        )


def _written(run: Run, table: Table, work: _Work, header: Header) -> Header:
    """Write all shards and the header; `header` has no counts yet."""
    watch, total = Watch(), work.clips.num_rows
    step = min(CLIPS_PER_SHARD, rows_at_once(max(work.matrix.values_NK.shape[1], 1)))
    starts = {
        f"{number:05d}-{header.fingerprint[:12]}": start
        for number, start in enumerate(range(0, total, step))
    }
    done = table.open_for(starts)
    receipts = table.receipts(sorted(done))
    run.tell(JOB, "start", header.name, total=total, done=_clips(receipts))
    run.tell(JOB, "note", header.name, text=f"{header.name}: {work.note}")

    def make(name: str) -> Receipt:
        part = slice(starts[name], starts[name] + step)
        return table.commit(name, *_content(work, part))

    pool = ThreadPoolExecutor(_WRITERS, "scores")
    try:
        for receipt in pool.map(make, [name for name in starts if name not in done]):
            receipts[receipt.name] = receipt
            failures = sum(each.failures for each in receipts.values())
            told = {"done": _clips(receipts), "total": total, "failures": failures}
            run.tell(JOB, "progress", header.name, **told)
    finally:
        pool.shutdown(cancel_futures=True)
    shards = [receipts[name] for name in starts]
    return table.finish(
        replace(
            header,
            rows=sum(receipt.rows for receipt in shards),
            failures=sum(receipt.failures for receipt in shards),
            shards=shards,
            classes=work.classes,
            stats=watch.stats(total, resumed=len(done), **work.told),
            versions=package_versions(),
        )
    )


def _clips(receipts: Mapping[str, Receipt]) -> int:
    return sum(receipt.clips for receipt in receipts.values())


def _content(work: _Work, part: slice) -> tuple[pa.Table, list[Failure]]:
    """The rows and the failures of some clips, which follow each other in the matrix."""
    rows_B, clips = work.rows_M[part], work.clips.slice(part.start, part.stop - part.start)
    there_B = rows_B >= 0
    scores_BC, why = work.reading.scores(_values(work.matrix.values_NK, rows_B[there_B]))
    reasons = np.full(len(rows_B), f"no row of {work.source} has its key", object)
    reasons[there_B] = [
        f"row {row + 1} of {work.source}: {text}" if text else ""
        for row, text in zip(rows_B[there_B].tolist(), why, strict=True)
    ]
    good_B = reasons == ""
    rows = score_rows(
        _scored(clips.filter(pa.array(good_B))), scores_BC[good_B[there_B]], work.classes
    )
    bad = clips.filter(pa.array(~good_B)).select(["clip_id", "uri"]).to_pylist()
    told = reasons[~good_B].tolist()
    failures = [
        Failure(clip["clip_id"], clip["uri"], JOB, "no_scores", reason)
        for clip, reason in zip(bad, told, strict=True)
    ]
    return rows, failures


def _values(values_NK: NDArray[Any], rows_B: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows of the matrix, ascending; read as one stretch where hardly any is left out."""
    if not rows_B.size:
        return np.zeros((0, values_NK.shape[1]), np.float32)
    start, stop = int(rows_B[0]), int(rows_B[-1]) + 1
    with np.errstate(over="ignore"):
        if stop - start <= 2 * len(rows_B):
            stretch = np.asarray(values_NK[start:stop], np.float32, order="C")
            return stretch[rows_B - start]
        return np.asarray(values_NK[rows_B], np.float32, order="C")


def _scored(clips: pa.Table) -> ScoredClips:
    columns = [clips[name].to_pylist() for name in ("clip_id", "labels", "split")]
    return ScoredClips(*columns)


def _sha256(file: LocalFile) -> str:
    with Path(file.path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

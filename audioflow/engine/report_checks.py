"""What the report lists of leaks and of probable label errors: tables of the page, CSV files."""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audioflow.checks import sides_of, suspects
from audioflow.engine import report_labels, report_leaks
from audioflow.engine.report_tables import Tables
from audioflow.engine.run import Run
from audioflow.report import ClipTable, SystemScores
from audioflow.texts import Texts, as_arrow, taken


@dataclass(frozen=True)
class Checked:
    """Tables for the page, and files by name."""

    tables: tuple[ClipTable, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


def checked(
    run: Run, tables: Tables, manifest: pa.Table, systems: Sequence[SystemScores]
) -> Checked:
    """What the checks of the recipe find in a run."""
    assert run.recipe.report is not None
    wanted = run.recipe.report.checks
    found: list[ClipTable] = []
    files: dict[str, bytes] = {}
    if wanted.leaks:
        leaks = report_leaks.Leaks.of(run, tables, manifest)
        told = {clip_id for leak in leaks.all for clip_id in leak.clips}
        uris = _of_clips(manifest, manifest["uri"], told)
        found.append(report_leaks.leak_table(leaks, systems, uris))
        cells = report_leaks.leak_cells(leaks.all, uris)
        files[report_leaks.LEAKS] = _csv(report_leaks.COLUMNS, cells)
    if wanted.labels and (heard := report_labels.heard_by(systems)):
        doubted = suspects(heard)
        told = {one.clip_id for one in doubted.rows}
        uris = _of_clips(manifest, manifest["uri"], told)
        found.append(report_labels.label_table(doubted, uris))
        places = _of_clips(manifest, sides_of(manifest).places, told)
        cells = report_labels.label_cells(doubted, uris, places)
        files[report_labels.LABELS] = _csv(report_labels.COLUMNS, cells)
    return Checked(tuple(found), files)


def _of_clips(
    manifest: pa.Table, column: pa.ChunkedArray | Sequence[str], clip_ids: Collection[str]
) -> dict[str, str]:
    """What a column says of these clips of the manifest; of all of them no dict is made."""
    asked = pa.array(sorted(clip_ids), manifest["clip_id"].type)
    rows = np.flatnonzero(pc.is_in(manifest["clip_id"], asked).to_numpy())
    names = manifest["clip_id"].take(pa.array(rows)).to_pylist()
    if isinstance(column, pa.ChunkedArray):
        column = Texts(as_arrow(column))
    return dict(zip(names, taken(column, rows), strict=True))


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")

"""What the report lists of leaks and of probable label errors: tables of the page, CSV files."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from audioflow.checks import sides_of, suspects
from audioflow.engine import report_labels, report_leaks
from audioflow.engine.report_tables import Tables
from audioflow.engine.run import Run
from audioflow.report import ClipTable, SystemScores


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
    uris = dict(zip(manifest["clip_id"].to_pylist(), manifest["uri"].to_pylist(), strict=True))
    found: list[ClipTable] = []
    files: dict[str, bytes] = {}
    if wanted.leaks:
        leaks = report_leaks.Leaks.of(run, tables, manifest)
        found.append(report_leaks.leak_table(leaks, systems, uris))
        cells = report_leaks.leak_cells(leaks.all, uris)
        files[report_leaks.LEAKS] = _csv(report_leaks.COLUMNS, cells)
    if wanted.labels and (heard := report_labels.heard_by(systems)):
        doubted = suspects(heard)
        found.append(report_labels.label_table(doubted, uris))
        places = dict(zip(uris, sides_of(manifest).places, strict=True))
        cells = report_labels.label_cells(doubted, uris, places)
        files[report_labels.LABELS] = _csv(report_labels.COLUMNS, cells)
    return Checked(tuple(found), files)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")

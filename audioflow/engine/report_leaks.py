"""Leaks as the report lists them: what is looked for, a table of the page, cells of a CSV file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from audioflow.checks import (
    IN_WORDS,
    Contents,
    Duplicates,
    Leak,
    Sides,
    concerned,
    content_leaks,
    duplicate_leaks,
    manifest_leaks,
    sides_of,
)
from audioflow.checks.limits import ALWAYS, NEIGHBOUR, RATIO
from audioflow.engine.report_labels import MOST_SHOWN, heard_tested
from audioflow.engine.report_tables import Tables, shown_uri
from audioflow.engine.run import Run
from audioflow.errors import InputError
from audioflow.ids import IdIndex
from audioflow.neighbours.streaming import Source
from audioflow.places import input_url
from audioflow.report import ClipRow, ClipTable, SystemScores
from audioflow.report.formats import count, join_words, percent_sign, plural
from audioflow.storage import Folder
from audioflow.texts import as_arrow

LEAKS = "leaks.csv"
COLUMNS = (
    "shared clip_a place_a uri_a clip_b place_b uri_b similarity what tested_clips concerned"
).split()
_SPECTRAL = ("acoustic", "logmel")
"""Backbones that hear what a copy keeps, and so find more copies than networks that were trained to
overlook such things."""


@dataclass(frozen=True)
class Leaks:
    """The leaks of a run; `table` is the one by which near-duplicates were looked for, if any."""

    sides: Sides
    known: Sequence[Leak]
    contents: Contents
    duplicates: Duplicates
    table: str | None

    @classmethod
    def of(cls, run: Run, tables: Tables, manifest: pa.Table) -> "Leaks":
        sides = sides_of(manifest)
        contents = content_leaks(manifest, sides, _Reader(run).read)
        known = [*manifest_leaks(manifest, sides), *contents.leaks]
        name = _duplicates_table(run, tables)
        if name is None:
            return cls(sides, known, contents, Duplicates(), None)
        table, header = tables[f"embeddings/{name}"]
        source = Source(table, next(iter(header.settings["layers"])))
        groups = IdIndex(as_arrow(manifest["group"])).positions()
        found = duplicate_leaks(source, sides, groups)
        return cls(sides, known, contents, found, name)

    @property
    def all(self) -> list[Leak]:
        """What the manifest and the files show first; a copy that they show is not told again."""
        told = concerned(self.known)
        return [*self.known, *(one for one in self.duplicates.leaks if not one.concerned <= told)]


class _Reader:
    """Bytes of recordings."""

    def __init__(self, run: Run) -> None:
        self._storage = run.storage

    def read(self, uri: str, start: int, end: int) -> bytes | None:
        folder, name = Folder(input_url(uri), self._storage).split()
        try:
            return folder.read(name, start, end)
        except (InputError, FileNotFoundError):
            return None


def _duplicates_table(run: Run, tables: Tables) -> str | None:
    """The embeddings table that `report.checks.duplicates` means."""
    assert run.recipe.report is not None
    wanted = run.recipe.report.checks.duplicates
    there = {
        path.partition("/")[2]: header.settings
        for path, (_, header) in tables.items()
        if path.startswith("embeddings/") and header.rows
    }
    if wanted != "auto":
        return wanted if wanted in there else None
    spectral = [name for name, made in there.items() if made.get("backbone") in _SPECTRAL]
    of_sound = [name for name, made in there.items() if "sound_track" in made]
    return next(iter([*spectral, *of_sound, *there]), None)


def leak_table(leaks: Leaks, systems: Sequence[SystemScores], uris: Mapping[str, str]) -> ClipTable:
    found = leaks.all
    rows = [
        ClipRow(
            {clip_id: shown_uri(uris[clip_id]) for clip_id in leak.clips},
            (IN_WORDS[leak.kind], " / ".join(leak.places), leak.similarity, _shared(leak)),
        )
        for leak in found[:MOST_SHOWN]
    ]
    touched = concerned(found)
    return ClipTable(
        id="leaks",
        title="Leaks",
        lead=" ".join([*_looked_at(leaks), *_cost(touched, systems), f"All leaks are in {LEAKS}."]),
        columns=("why", "where", "similarity", "detail"),
        rows=tuple(rows),
        num_rows=len(found),
        numeric=frozenset({"similarity"}),
        alarm=_alarm(found, touched, leaks.sides),
    )


def _shared(leak: Leak) -> str | None:
    what = shown_uri(leak.what) if leak.kind in ("overlap", "recording") else leak.what
    more = "" if leak.kind == "duplicate" else plural(len(leak.concerned), "tested clip")
    return " · ".join(filter(None, [what, more])) or None


def _alarm(found: Sequence[Leak], touched: frozenset[str], sides: Sides) -> str:
    if not touched:
        return ""
    kinds: dict[str, set[str]] = {}
    for leak in found:
        kinds.setdefault(IN_WORDS[leak.kind], set()).update(leak.concerned)
    told = join_words([f"{kind} ({count(len(clips))})" for kind, clips in kinds.items()])
    share = percent_sign(len(touched) / int(sides.tested.sum()))
    verb = "stands" if len(touched) == 1 else "stand"
    clips = plural(len(touched), "tested clip")
    return f"{clips} ({share}) also {verb} where heads learn: {told}."


def _looked_at(leaks: Leaks) -> Iterator[str]:
    """What was compared, how, and what was not."""
    if not leaks.sides.can_leak:
        yield "All clips are on one side, so that nothing can leak."
        return
    yield (
        "What is tested and learnt from at once makes results look better than they are. Compared "
        "were recordings, stretches and groups of the manifest"
    )
    contents, found = leaks.contents, leaks.duplicates
    yield f"and the content of {plural(contents.read, 'file')} of equal sizes."
    if contents.beyond:
        yield f"{plural(contents.beyond, 'file')} of equal sizes were too many to read."
    if contents.unreadable:
        yield f"{plural(contents.unreadable, 'file')} could not be read."
    if leaks.table is None:
        yield "Near-duplicates were not looked for: there are no embeddings to find them by."
        return
    how = "all pairs" if found.exact else "pairs that random projections bring together"
    yield (
        f"Near-duplicates by the embeddings of {leaks.table} ({how}): two clips whose distance is "
        f"below {RATIO} of that to the {NEIGHBOUR}nd nearest unrelated clip of their own side, or "
        f"that are more alike than {ALWAYS}."
    )
    if found.beyond:
        yield f"{plural(found.beyond, 'pair')} that may be some were too many to measure."


def _cost(touched: frozenset[str], systems: Sequence[SystemScores]) -> Iterator[str]:
    """How much less often systems are right where the clips of leaks are left out."""
    told = []
    for heard in heard_tested(systems):
        right = heard.scores.argmax(axis=1) == heard.targets
        clean = np.fromiter((clip_id not in touched for clip_id in heard.clip_ids), np.bool_)
        if clean.any() and not clean.all():
            shares = [percent_sign(float(some.mean())) for some in (right[clean], right)]
            told.append(f"{heard.system} {shares[0]} instead of {shares[1]}")
    if told:
        yield f"Right on the test clips without those listed: {join_words(told)}."


def leak_cells(leaks: Iterable[Leak], uris: Mapping[str, str]) -> Iterator[Sequence[object]]:
    for leak in leaks:
        sides = zip(leak.clips, leak.places, strict=True)
        cells = [cell for clip, place in sides for cell in (clip, place, shown_uri(uris[clip]))]
        shared = shown_uri(leak.what) if leak.kind in ("overlap", "recording") else leak.what
        alike = "" if leak.similarity is None else f"{leak.similarity:.6f}"
        touched = sorted(leak.concerned)
        yield [IN_WORDS[leak.kind], *cells, alike, shared, len(touched), "; ".join(touched)]

"""What the job `report` reads of a run's tables: failures in groups, stages with what held them."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from audioflow.engine import report_tables
from audioflow.engine.report_media import picture_sets
from audioflow.engine.report_tables import failed_clips, stage_rows
from audioflow.storage import Folder
from audioflow.tables import Header, Table
from tests.unit.small_run import LATE, PICTURES, SILENT, SOUND


def tables_of(run: Folder) -> dict[str, tuple[Table, Header]]:
    found = {path: Table(run / path) for path in ("manifest", SOUND, PICTURES, "scores/audio")}
    return {path: (table, table.complete_header()) for path, table in found.items()}


def test_failures_are_counted_where_they_arose_and_grouped_by_reason(whole: Folder) -> None:
    found = failed_clips(tables_of(whole))
    by_clip = {(row.table, row.clip_id): row for row in found.rows}
    assert (SOUND, SILENT) in by_clip
    assert {(SOUND, LATE), (PICTURES, LATE)} <= set(by_clip)
    assert not [row for row in found.rows if row.table.startswith("scores/")]  # told before
    assert found.number == len(found.rows) == sum(group.clips for group in found.groups)
    assert sum(sum(errors.values()) for errors in found.counts.values()) == found.number


def test_reasons_that_differ_in_numbers_only_are_one_group(
    whole: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, (table, header) = next(item for item in tables_of(whole).items() if item[0] == SOUND)
    rows = table.read_failures().slice(0, 1).to_pylist()
    many = [
        rows[0] | {"clip_id": f"c{n}", "reason": f"it ends after {n}.{n} s of {n + 1:,} s"}
        for n in range(40)
    ]
    many.append(rows[0] | {"clip_id": "other", "reason": "no such file"})
    schema = table.read_failures().schema
    failures = pa.Table.from_pylist(many, schema)
    monkeypatch.setattr(Table, "shard_failures", lambda _, name: failures)
    monkeypatch.setattr(report_tables, "MOST_FAILURES", 10)
    shards = [one for one in header.shards if one.failures][:1]
    found = failed_clips({path: (table, replace(header, failures=41, shards=shards))})
    assert [(group.clips, group.clip_id) for group in found.groups] == [(40, "c0"), (1, "other")]
    assert found.groups[0].reason == "it ends after 0.0 s of 1 s"
    assert (len(found.rows), found.number) == (10, 41)


def test_a_stage_says_what_held_it_up(whole: Folder) -> None:
    told = {"bound": "decode", "bare": 0.4, "advice": "more cores", "verdict": "by decoding"}
    tables = {}
    for path, (table, header) in tables_of(whole).items():
        settings = header.settings | {"settings": {}}
        stats = header.stats | (told if path == SOUND else {})
        tables[path] = (table, replace(header, settings=settings, stats=stats))
    rows = {row.table: row for row in stage_rows(tables)}
    sound, pictures = rows[SOUND], rows[PICTURES]
    assert (sound.bound, sound.bare, sound.advice) == ("decode", 0.4, "more cores")
    assert (pictures.bound, pictures.bare) == ("", None)  # as an older run left it
    assert (sound.job, rows["scores/audio"].job) == ("embed", "score")


def test_pictures_of_explanations_are_found(tmp_path: Path) -> None:
    place = tmp_path / "explanations" / "audio-occlusion"
    place.mkdir(parents=True)
    (place / "a.png").write_bytes(b"png")
    index = {
        "version": 1,
        "title": "audio: occlusion",
        "note": "what is hidden",
        "pictures": [{"file": "a.png", "caption": "A"}, {"file": "gone.png", "caption": "B"}],
    }
    (place / "index.json").write_text(json.dumps(index))
    (tmp_path / "explanations" / "unfinished").mkdir()
    found = picture_sets(Folder(str(tmp_path)))
    assert [(one.title, one.note) for one in found] == [("audio: occlusion", "what is hidden")]
    assert [(picture.png, picture.caption) for picture in found[0].pictures] == [(b"png", "A")]
    assert picture_sets(Folder(str(tmp_path / "elsewhere"))) == ()

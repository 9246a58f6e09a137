"""`audioflow failures`: every failure once, where it arose, with what to do."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from audioflow.cli_tools import register
from audioflow.errors import ERROR_CLASSES, InputError, RecipeError
from audioflow.failures import HINTS, Chosen, all_failures, summarise
from audioflow.storage import Folder
from audioflow.tables import Failure, Table
from tests.unit.small_run import (
    CLIPS,
    LATE,
    PICTURES,
    SILENT,
    SOUND,
    edit_header,
    embedding_rows,
    failure,
    recommit,
    scored_rows,
)

app = typer.Typer(pretty_exceptions_enable=False)
register(app)


@app.callback()
def _main() -> None: ...


def command(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["failures", *arguments])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


# What the library says


def test_failures_are_grouped_by_table_stage_and_class(whole: Folder) -> None:
    tables = {table.table: table for table in summarise(whole)}
    assert list(tables) == [SOUND, PICTURES, "scores/audio", "scores/fused", "scores/video"]
    sound = tables[SOUND]
    assert (sound.complete, sound.clips, sound.count, sound.following) == (True, 12, 2, 0)
    groups = [(group.stage, group.error, group.count) for group in sound.groups]
    assert groups == [("decode", "no_audio", 1), ("decode", "truncated", 1)]
    first = sound.groups[0]
    assert first.share == pytest.approx(1 / 12)
    assert first.example == failure(SILENT, "no_audio")
    assert first.hint == HINTS["no_audio"]


def test_the_largest_group_comes_first(run: Folder) -> None:
    lost = [failure(clip, "timeout") for clip in CLIPS[0::3]]
    recommit(run, SOUND, "e-0", embedding_rows([]), *lost)
    (sound, *_) = summarise(run)
    assert [(group.error, group.count) for group in sound.groups] == [
        ("timeout", 4),
        ("no_audio", 1),
        ("truncated", 1),
    ]


def test_failures_of_media_that_were_scored_at_once_are_those_of_the_scores(run: Folder) -> None:
    header = Table(run / "scores/audio").complete_header()
    edit_header(run, "scores/audio", settings=header.settings | {"source": "media"})
    audio = next(table for table in summarise(run) if table.table == "scores/audio")
    assert (audio.count, audio.following) == (1, 0)
    lines = command(run.url, "--table", "scores/audio").output.splitlines()
    assert lines[-1] == "to try them again: audioflow score RECIPE --retry-failed"


def test_failures_that_came_with_the_embeddings_are_not_counted_again(whole: Folder) -> None:
    audio = next(table for table in summarise(whole) if table.table == "scores/audio")
    assert (audio.count, audio.following, audio.groups) == (0, 1, ())
    told = [(table, one.clip_id) for table, one in all_failures(whole)]
    assert told == [(SOUND, SILENT), (SOUND, LATE), (PICTURES, LATE)]


def test_failures_that_arose_in_scoring_are_counted_there(run: Folder) -> None:
    lost = failure("clip08", "internal", stage="score")
    recommit(run, "scores/video", "s-0", scored_rows(["clip06", "clip07"]), lost)
    fused = replace(lost, reason="video: internal: odd")
    recommit(run, "scores/fused", "f-0", scored_rows(CLIPS[6:8] + CLIPS[9:]), fused)
    tables = {table.table: table for table in summarise(run)}
    assert (tables["scores/video"].count, tables["scores/video"].following) == (1, 0)
    assert (tables["scores/fused"].count, tables["scores/fused"].following) == (0, 1)
    assert [table for table, _ in all_failures(run)][-1] == "scores/video"


def test_one_table_or_one_class_may_be_chosen(whole: Folder) -> None:
    (only,) = summarise(whole, Chosen(table=SOUND, error="truncated"))
    assert (only.table, only.count) == (SOUND, 1)
    chosen = all_failures(whole, Chosen(error="truncated"))
    assert [table for table, _ in chosen] == [SOUND, PICTURES]


def test_a_choice_that_there_is_not_is_refused(whole: Folder) -> None:
    with pytest.raises(RecipeError) as refused:
        summarise(whole, Chosen("embeddings/acoustc", "no_sound"))
    told = str(refused.value)
    assert "--table: 'embeddings/acoustc' is not a table of this run with failures" in told
    assert "allowed: embeddings/acoustic, embeddings/color, scores/audio" in told
    assert "did you mean 'embeddings/acoustic'?" in told
    assert "--error: 'no_sound' is not an error class; allowed: not_found, permission" in told
    assert RecipeError.exit_code == 2


def test_a_table_that_is_still_being_made_shows_what_it_has(run: Folder) -> None:
    (run / SOUND).remove("_header.json")
    (run / SOUND).remove("e-2.parquet")
    (run / SOUND / "failures").remove("e-2.parquet")
    (run / SOUND / "_shards").remove("e-2.json")
    sound = summarise(run)[0]
    assert (sound.table, sound.complete, sound.clips, sound.count) == (SOUND, False, 8, 1)
    assert sound.groups[0].share == pytest.approx(1 / 8)
    assert sound.unreadable == ()


def test_a_run_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no table of a run"):
        summarise(Folder(str(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"PAR1" * 9, None])
def test_failures_that_cannot_be_read_are_told_and_the_rest_is_shown(
    run: Folder, content: bytes | None
) -> None:
    (run / SOUND / "failures").remove("e-1.parquet")
    told = "embeddings/acoustic/failures/e-1.parquet holds 0 of 1 failures"
    if content is not None:
        (run / SOUND / "failures").write("e-1.parquet", content)
        told = "embeddings/acoustic/failures/e-1.parquet is damaged ("
    sound = summarise(run)[0]
    (what,) = sound.unreadable
    assert what.startswith(told)
    assert [group.error for group in sound.groups] == ["truncated"]
    assert [one.clip_id for table, one in all_failures(run) if table == SOUND] == [LATE]


def test_a_damaged_header_is_told_and_the_failures_are_shown(run: Folder) -> None:
    edit_header(run, SOUND, rows="many")
    sound = summarise(run)[0]
    assert sound.unreadable == ("embeddings/acoustic: rows is 'many', expected int",)
    assert (sound.complete, sound.count) == (False, 2)


def test_every_error_class_has_a_hint_and_no_other() -> None:
    assert set(HINTS) == set(ERROR_CLASSES)
    assert all(hint[0].isupper() and hint.endswith(".") for hint in HINTS.values())
    assert len(set(HINTS.values())) == len(HINTS)


def test_the_settings_that_hints_name_are_settings() -> None:
    from audioflow.recipe import EmbedSection

    words = " ".join(HINTS.values()).replace(".", " . ").split()
    named = {words[place + 2] for place, word in enumerate(words) if word == "embed"}
    assert named
    assert named <= set(EmbedSection.model_fields)


# What the command prints


def test_the_groups_are_printed_with_an_example_and_a_hint(whole: Folder) -> None:
    result = command(whole.url)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:10] == [
        f"audioflow failures  {whole.url}",
        "",
        "embeddings/acoustic  2 of 12 clips failed (16.7 %)",
        "",
        "  no_audio  1 clip (8.3 %) at decode",
        "    clip    clip07",
        "    file    /data/clip07.mp4",
        "    reason  no_audio it is, 2 attempts on node-1",
        "    hint    There is no sound in it. A system that looks at the pictures can",
        "            still score the clip: fuse both.",
    ]
    place = lines.index("scores/audio  0 of 6 clips failed")
    told = "  beside 1 clip that failed in the tables it was made from: see there"
    assert lines[place + 1] == told
    assert lines[-1] == "to try them again: audioflow embed RECIPE --retry-failed"


def test_what_is_not_complete_is_said(run: Folder) -> None:
    (run / SOUND).remove("_header.json")
    assert "2 of 12 clips failed (16.7 %), not complete yet" in command(run.url).stdout
    result = command(run.url, "--all")
    assert len(result.stdout.splitlines()) == 3
    assert result.stderr == "embeddings/acoustic is not complete yet\n"


def test_what_cannot_be_read_is_said(run: Folder) -> None:
    (run / SOUND / "failures").remove("e-1.parquet")
    out = command(run.url).stdout
    assert "  embeddings/acoustic/failures/e-1.parquet holds 0 of 1 failures" in out
    assert "  -> audioflow verify says what is wrong and what to do" in out


def test_all_is_one_line_per_failure(run: Folder) -> None:
    odd = Failure("a\nb", None, "decode", "not_media", "it is \x1b[31mred", 1, None)
    recommit(run, PICTURES, "e-2", embedding_rows(["clip02"]), odd)
    assert command(run.url, "--all").stdout.splitlines() == [
        "embeddings/acoustic  decode  no_audio  clip07  /data/clip07.mp4  no_audio it is  "
        "2 attempts on node-1",
        "embeddings/acoustic  decode  truncated  clip05  /data/clip05.mp4  truncated it is  "
        "2 attempts on node-1",
        "embeddings/color  decode  not_media  a\\nb  -  it is \\x1b[31mred  1 attempt",
    ]


def test_csv_has_every_failure_with_its_table(whole: Folder, tmp_path: Path) -> None:
    path = tmp_path / "failures.csv"
    result = command(whole.url, "--csv", str(path))
    assert f"all of them: {path}" in result.stdout
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0] == {
        "table": SOUND,
        "clip_id": SILENT,
        "uri": "/data/clip07.mp4",
        "stage": "decode",
        "error": "no_audio",
        "reason": "no_audio it is",
        "attempts": "2",
        "node": "node-1",
    }
    assert [(row["table"], row["clip_id"]) for row in rows[1:]] == [(SOUND, LATE), (PICTURES, LATE)]


def test_a_csv_that_cannot_be_written_is_told(whole: Folder, tmp_path: Path) -> None:
    result = command(whole.url, "--csv", str(tmp_path / "no" / "where.csv"))
    assert result.exit_code == 1
    assert "where.csv cannot be written: No such file or directory" in result.stderr


def test_json_has_the_groups_and_with_all_every_failure(whole: Folder) -> None:
    data = json.loads(command(whole.url, "--json", "--error", "truncated").stdout)
    assert data["run_dir"] == whole.url
    sound = data["tables"][0]
    assert (sound["table"], sound["count"], sound["clips"]) == (SOUND, 1, 12)
    assert sound["groups"][0]["example"]["clip_id"] == LATE
    assert sound["groups"][0]["hint"] == HINTS["truncated"]
    assert "failures" not in data
    data = json.loads(command(whole.url, "--json", "--all", "--table", PICTURES).stdout)
    assert [(row["table"], row["clip_id"]) for row in data["failures"]] == [(PICTURES, LATE)]


def test_a_wrong_choice_ends_with_exit_code_2(whole: Folder) -> None:
    result = command(whole.url, "--error", "no_audo")
    assert result.exit_code == 2
    assert "--error: 'no_audo' is not an error class" in result.stderr
    assert "did you mean 'no_audio'?" in result.stderr


def test_nothing_to_try_again_where_nothing_failed(run: Folder) -> None:
    recommit(run, SOUND, "e-1", embedding_rows(CLIPS[1::3], variants=2))
    recommit(run, SOUND, "e-2", embedding_rows(CLIPS[2::3], variants=2))
    recommit(run, PICTURES, "e-2", embedding_rows(CLIPS[2::3]))
    out = command(run.url).stdout
    assert "embeddings/acoustic  0 of 12 clips failed\n" in out
    assert "retry-failed" not in out

"""`audioflow verify`: what it prints, and how it ends."""

import json
from pathlib import Path

import pytest
import s3fs
import typer
from click.testing import Result
from typer.testing import CliRunner

from audioflow.cli_tools import register, run_folder
from audioflow.storage import Folder
from audioflow.verify.text import one_line
from tests.unit.small_run import (
    CLIPS,
    PICTURES,
    SOUND,
    embedding_rows,
    manifest_rows,
    recommit,
)

app = typer.Typer(pretty_exceptions_enable=False)
register(app)


def command(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def test_a_whole_run_is_one_line_per_table_and_exit_code_0(whole: Folder) -> None:
    result = command("verify", whole.url)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"audioflow verify  {whole.url}",
        "manifest                12 rows     0 failures    2 shards  ok",
        "embeddings/acoustic     30 rows     2 failures    3 shards  ok",
        "embeddings/color        11 rows      1 failure    3 shards  ok",
        "heads/audio              1 head                             ok",
        "heads/video             2 heads                             ok",
        "scores/audio             5 rows      1 failure    2 shards  ok",
        "scores/fused             6 rows     0 failures     1 shard  ok",
        "scores/video             6 rows     0 failures    2 shards  ok",
        "report                3 systems                             ok",
        "ok: every clip is exactly once in the rows or in the failures",
        f"which clips failed, and why: audioflow failures {whole.url}",
    ]
    assert result.stderr == ""


def test_faults_are_listed_by_kind_with_the_way_out_and_exit_code_1(run: Folder) -> None:
    (run / SOUND).remove("e-1.parquet")
    (run / PICTURES).write("copy.parquet", (run / PICTURES).read("e-1.parquet"))
    result = command("verify", run.url)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "embeddings/acoustic     21 rows     2 failures    3 shards  4 faults" in lines
    start = lines.index("files that are missing (1)")
    assert lines[start : start + 3] == [
        "files that are missing (1)",
        "  embeddings/acoustic: the file is gone, and with it 9 rows (e-1.parquet)",
        "  -> remove embeddings/acoustic/_header.json and embeddings/acoustic/_shards/e-1.json, "
        "and run `audioflow embed RECIPE` again",
    ]
    start = lines.index("files that no header names (1)")
    assert lines[start + 1 : start + 3] == [
        "  embeddings/color/_header.json does not name this file (copy.parquet)",
        "  -> remove embeddings/color/copy.parquet",
    ]
    start = lines.index("clips that are neither in the rows nor in the failures (3)")
    told = "embeddings/acoustic: clip 'clip01' is neither in the rows nor in the failures"
    assert lines[start + 1] == f"  {told}"
    assert lines[-2] == "5 faults"


def test_only_the_first_faults_of_a_kind_are_listed(run: Folder) -> None:
    more = [f"new{number:02d}" for number in range(25)]
    rows = manifest_rows([*CLIPS[7:], *more], ["train"] * (5 + len(more)))
    recommit(run, "manifest", "m-1", rows)
    recommit(run, PICTURES, "e-0", embedding_rows([*CLIPS[0::3], *more]))
    lines = command("verify", run.url).stdout.splitlines()
    start = lines.index("clips that are neither in the rows nor in the failures (25)")
    assert sum("'new" in line for line in lines[start:]) == 20
    assert lines[start + 21] == "  and 5 more"


def test_json_says_the_same(run: Folder) -> None:
    (run / SOUND).remove("e-1.parquet")
    result = command("verify", run.url, "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert (data["run_dir"], data["ok"]) == (run.url, False)
    assert data["fault_counts"] == {"missing_file": 1, "lost_clip": 3}
    assert data["tables"][1] == {
        "table": SOUND,
        "complete": True,
        "rows": 21,
        "failures": 2,
        "shards": 3,
        "faults": 4,
    }
    assert data["faults"][0]["where"] == "e-1.parquet"
    assert json.loads(command("verify", run.url, "--json").stdout) == data


def test_an_incomplete_table_is_told(run: Folder) -> None:
    (run / "report").remove("_header.json")
    result = command("verify", run.url)
    assert result.exit_code == 1
    assert "report is not complete: it has no _header.json" in result.stdout
    assert "-> run `audioflow report RECIPE` to its end" in result.stdout


def test_a_folder_without_tables_ends_with_exit_code_4(tmp_path: Path) -> None:
    for tool in ("verify", "failures"):
        result = command(tool, str(tmp_path))
        assert result.exit_code == 4
        assert f"error: {tmp_path} holds no table of a run" in result.stderr
        assert result.stdout == ""


@pytest.mark.usefixtures("s3_server")
@pytest.mark.parametrize(
    "url", ["s3://no-such-bucket-anywhere/run", "s3://no-such-bucket-anywhere"]
)
def test_a_bucket_that_does_not_exist_is_told_as_such(url: str) -> None:
    for tool in ("status", "verify", "failures"):
        result = command(tool, url)
        assert result.exit_code == 4
        assert f"error: {url} cannot be read: The specified bucket does not exist" in result.stderr


@pytest.mark.usefixtures("s3_server")
def test_a_folder_of_a_bucket_without_tables_is_told_as_one_on_a_disk() -> None:
    s3fs.S3FileSystem().mkdir("without-tables")
    for url in ("s3://without-tables/run", "s3://without-tables"):
        result = command("status", url)
        assert result.exit_code == 4
        assert f"error: {url} holds no table of a run" in result.stderr


def test_a_relative_folder_is_found_where_the_jobs_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("AUDIOFLOW_HOME", raising=False)
    assert run_folder("runs").url == str(tmp_path / "here" / "runs")
    monkeypatch.setenv("AUDIOFLOW_HOME", str(tmp_path / "home"))
    assert run_folder("runs").url == str(tmp_path / "here" / "runs")
    assert run_folder("runs/demo").url == str(tmp_path / "home" / "runs" / "demo")
    assert run_folder("s3://bucket/run").url == "s3://bucket/run"


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    assert one_line("a\nb\x1b[31m é\u202e") == "a\\nb\\x1b[31m é\\u202e"


def test_names_with_markup_are_printed_as_they_are(run: Folder) -> None:
    recommit(run, PICTURES, "e-0", embedding_rows([*CLIPS[0::3], "[red]odd[/red]\n"]))
    out = command("verify", run.url).stdout
    assert "clip '[red]odd[/red]\\n' is not in the manifest (e-0.parquet)" in out

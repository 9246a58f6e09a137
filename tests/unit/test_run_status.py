"""What a command says of itself in the folder of its run, and how `audioflow status` shows it."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from audioflow import status_cli
from audioflow.cli import app
from audioflow.errors import TableError
from audioflow.events import Event
from audioflow.run_status import STATUS, RunStatus, Step, is_at_work, read_status
from audioflow.status_writer import StatusWriter
from audioflow.storage import Folder


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of which the job `manifest` can be done."""
    for label in ("cat", "dog"):
        (tmp_path / "media" / label).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "media" / label / f"{number}.wav").write_bytes(b"")
    data = {
        "run_dir": str(tmp_path / "run"),
        "manifest": {"reader": "folder", "root": str(tmp_path / "media")},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data))
    return tmp_path / "recipe.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "run").mkdir(exist_ok=True)
    return Folder(str(tmp_path / "run"))


@pytest.fixture
def writer(folder: Folder) -> StatusWriter:
    return StatusWriter(folder, "run", "audioflow run recipe.yaml storage_options.secret=hush")


def status_of(folder: Folder) -> RunStatus:
    found = read_status(folder)
    assert found is not None
    return found


def at_work(**changes: Any) -> RunStatus:
    now = time.time()
    mine = RunStatus("audioflow embed r.yaml", "embed", socket.gethostname(), os.getpid())
    return replace(mine, began=now - 100, written=now - 3, **changes)


def test_a_command_says_how_it_ended(recipe: Path, tmp_path: Path) -> None:
    assert typed("manifest", str(recipe)).exit_code == 0
    run = tmp_path / "run"
    told = typed("status", str(run))
    assert told.exit_code == 0
    assert f"audioflow manifest {recipe}" in told.output
    assert "ended well" in told.output
    assert "exit code 0" in told.output
    assert "manifest  complete  8 clips" in told.output
    by_recipe = typed("status", str(recipe)).output
    assert by_recipe.splitlines()[3:] == told.output.splitlines()[3:]
    data = json.loads(typed("status", str(run), "--json").output)
    assert (data["at_work"], data["command"]["exit_code"]) == (False, 0)
    assert data["command"]["steps"][0]["state"] == "done"
    (table,) = data["tables"]
    assert (table["table"], table["complete"], table["rows"]) == ("manifest", True, 8)

    assert typed("manifest", str(recipe)).exit_code == 0
    assert "manifest  nothing to do" in typed("status", str(run)).output
    (tmp_path / "media" / "cat" / "sub").mkdir()
    (tmp_path / "media" / "loose.wav").touch()
    assert typed("manifest", str(recipe)).exit_code == 4
    told = typed("status", str(run))
    assert "failed" in told.output
    assert "exit code 4" in told.output
    assert "loose.wav" in told.output


def test_a_command_that_is_refused_says_nothing(recipe: Path, tmp_path: Path) -> None:
    assert typed("manifest", str(recipe), "manifest.reader=no").exit_code == 2
    assert not (tmp_path / "run").exists()
    told = typed("status", str(tmp_path / "run"))
    assert told.exit_code == 4
    assert "holds no table of a run" in told.output
    told = typed("status", str(tmp_path / "no_such.yaml"))
    assert told.exit_code == 2
    assert "no_such.yaml: 1 fault\n  - (file): does not exist" in told.output


def test_steps_follow_the_events(folder: Folder, writer: StatusWriter) -> None:
    writer.begin()
    both = "acoustic, color"
    writer(Event("embed", "start", both, {"total": 100, "done": 20}))
    writer(Event("embed", "progress", both, {"done": 60, "failures": 2, "media_s": 9.0}))
    writer(Event("embed", "retry", both, {"shard": "01", "tries": 1, "reason": "node gone"}))
    writer(Event("embed", "node", "n1", {"what": "lost", "nodes": 1}))
    writer(Event("embed", "done", "acoustic", {"rows": 98, "failures": 2}))
    writer(Event("embed", "skip", "mel", {"rows": 1, "failures": 0}))
    writer(Event("train", "start", "audio", {"total": 9}))
    writer(Event("train", "epoch", "audio", {"epoch": 1, "done": 1, "seconds": 0.5}))
    writer(Event("train", "start", "video", {"total": 4}))
    writer(Event("train", "failed", "video", {"error": "no classes"}))
    writer.finish(1, "video failed")
    status = status_of(folder)
    assert "hush" not in (Path(folder.url) / STATUS).read_text()
    assert (status.exit_code, status.error) == (1, "video failed")
    steps = {(step.job, step.name): step for step in status.steps}
    assert list(steps) == [
        *(("embed", both), ("embed", "mel"), ("train", "audio"), ("train", "video"))
    ]
    embed = steps["embed", both]
    assert (embed.state, embed.done, embed.total, embed.before) == ("done", 60, 100, 20)
    assert (embed.failures, embed.media_s, embed.unit) == (2, 9.0, "clips")
    audio = steps["train", "audio"]
    assert (audio.state, audio.done, audio.unit) == ("running", 1, "epochs")
    assert steps["embed", "mel"].state == "unchanged"
    assert steps["train", "video"].state == "failed"
    assert [said.text for said in status.said] == [
        "shard 01 is done again (1): its worker was lost: node gone",
        "node n1 was lost; 1 are there",
        "failed, and the others go on: no classes",
    ]


def test_what_is_said_of_a_table_with_nothing_to_do_is_kept(
    folder: Folder, writer: StatusWriter
) -> None:
    writer.begin()
    writer(Event("train", "skip", "audio", {"rows": 1, "failures": 0}))
    writer(Event("train", "note", "audio", {"text": "worth reading"}))
    writer.finish(0)
    status = status_of(folder)
    assert [step.state for step in status.steps] == ["unchanged"]
    assert [said.text for said in status.said] == ["worth reading"]


def test_training_that_goes_on_counts_from_where_it_was(
    folder: Folder, writer: StatusWriter
) -> None:
    writer(Event("train", "start", "audio", {"total": 400, "done": 0}))
    writer(Event("train", "progress", "audio", {"done": 370, "total": 400, "before": 370}))
    for epoch in range(371, 377):
        writer(Event("train", "epoch", "audio", {"done": epoch, "seconds": 0.5}))
    writer.begin()
    writer.finish(1, "stopped")
    (step,) = status_of(folder).steps
    assert (step.done, step.before, step.total) == (376, 370, 400)
    assert step.per_s == pytest.approx(6 / 0.5, rel=0.1)
    told = typed("status", folder.url).output
    assert "train audio  not finished: 376/400 epochs (94 %)" in told


def test_how_long_yet_follows_from_the_rate() -> None:
    step = Step("embed", "a", total=1000, done=400, before=300, per_s=5.0)
    assert step.left_s == 120.0
    assert replace(step, per_s=0.0).left_s is None


def test_what_is_at_work_is_shown_with_its_rate_and_what_is_left(folder: Folder) -> None:
    now = time.time()
    step = Step("embed", "vggish", "running", "clips", 1000, 400, 300, 7, 0.0, now - 50, now, 2.0)
    folder.write(STATUS, at_work(steps=(step,), submission="raysubmit_x").to_bytes())
    (Path(folder.url) / "embeddings" / "vggish" / "_shards").mkdir(parents=True)
    for number in range(3):
        (Path(folder.url) / "embeddings" / "vggish" / "_shards" / f"{number}.json").touch()
    told = typed("status", folder.url).output
    assert f"({socket.gethostname()}, process {os.getpid()}, job raysubmit_x)" in told
    assert "at work for 100 s" in told
    assert "embed vggish  400/1,000 clips (40 %), 2.0 clips/s, 7 failures, 5.0 min left" in told
    assert "embeddings/vggish  begun, 3 shards so far" in told


def killed() -> RunStatus:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return replace(at_work(), pid=child.pid)


def elsewhere() -> RunStatus:
    return replace(at_work(), host="another", pid=1, written=time.time() - 3600)


@pytest.mark.parametrize("made", [killed, elsewhere])
def test_a_command_that_was_killed_is_not_at_work(
    folder: Folder, made: Callable[[], RunStatus]
) -> None:
    step = Step("embed", "vggish", total=1000, done=400)
    folder.write(STATUS, replace(made(), steps=(step,)).to_bytes())
    told = typed("status", folder.url).output
    assert "not heard of for" in told
    assert "run the same command again to go on" in told
    assert "not finished: 400/1,000 clips (40 %)" in told
    assert not is_at_work(status_of(folder))


@pytest.mark.parametrize("there", [True, False])
def test_another_command_on_the_same_run_is_told_of(
    folder: Folder, recipe: Path, there: bool
) -> None:
    folder.write(STATUS, (at_work() if there else killed()).to_bytes())
    told = typed("manifest", str(recipe))
    assert told.exit_code == 0
    assert ("another command may be at work on this run: audioflow embed" in told.output) == there
    assert status_of(folder).job == "manifest"


def test_a_damaged_file_is_told_and_written_anew(folder: Folder, recipe: Path) -> None:
    for text in (b"{", b"[]", b'{"command": "x"}', b'{"steps": [3]}'):
        folder.write(STATUS, text)
        with pytest.raises(TableError, match=r"_status\.json is damaged: .*remove it"):
            read_status(folder)
    assert typed("status", folder.url).exit_code != 0
    assert typed("manifest", str(recipe)).exit_code == 0
    assert status_of(folder).exit_code == 0


def test_a_file_of_a_newer_version_is_read(folder: Folder) -> None:
    data = json.loads(at_work(steps=(Step("embed", "a"),)).to_bytes())
    data |= {"schema": 9, "weather": "fine"}
    data["steps"][0]["colour"] = "red"
    folder.write(STATUS, json.dumps(data).encode())
    assert status_of(folder).steps == (Step("embed", "a"),)


def test_a_run_does_not_fail_where_its_state_cannot_be_written(
    folder: Folder, recipe: Path
) -> None:
    (Path(folder.url) / STATUS / "in the way").mkdir(parents=True)
    told = typed("manifest", str(recipe))
    assert told.exit_code == 0
    assert "state of the run could not be written down" in told.output


def test_it_is_written_while_the_command_is_at_work(
    folder: Folder, writer: StatusWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioflow.status_writer.WRITE_EVERY_S", 0.02)
    writer.begin()
    writer(Event("embed", "start", "a", {"total": 10}))
    until = time.monotonic() + 30
    while not any(step.total == 10 for step in (read_status(folder) or at_work()).steps):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert is_at_work(status_of(folder))
    writer.finish(0)
    assert not is_at_work(status_of(folder))


def test_watching_ends_with_the_command(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_cli, "WRITE_EVERY_S", 0.02)
    folder.write(STATUS, at_work().to_bytes())

    def end() -> None:
        folder.write(STATUS, replace(at_work(), ended=time.time(), exit_code=0).to_bytes())

    timer = threading.Timer(0.3, end)
    timer.start()
    told = typed("status", folder.url, "--watch")
    timer.join()
    assert told.exit_code == 0
    assert told.output.index("at work") < told.output.index("ended well")


def test_watching_what_says_nothing_is_refused(folder: Folder, recipe: Path) -> None:
    assert typed("manifest", str(recipe)).exit_code == 0
    folder.remove(STATUS)
    told = typed("status", folder.url, "--watch")
    assert told.exit_code == 4
    assert "no command has said anything of itself" in told.output
    assert "no command has said anything of itself" in typed("status", folder.url).output


def test_the_id_of_the_job_is_ray_s(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"runtime_env": {}, "metadata": {"job_submission_id": "raysubmit_1"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(told))
    writer = StatusWriter(folder, "run", "audioflow run r.yaml")
    writer.begin()
    writer.finish(0)
    assert status_of(folder).submission == "raysubmit_1"

"""What jobs tell: the page has every kind and field; how a command began and ended; nodes."""

import ast
import errno
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from audioflow.cli import Command, _terminate, main, run_command
from audioflow.console import Console
from audioflow.engine.measures import MEASURES, samples
from audioflow.engine.node_names import names_of
from audioflow.engine.nodes import Nodes
from audioflow.errors import StorageError, Terminated
from audioflow.events import Event, Kind
from audioflow.storage import Folder
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "observing.md").read_text(encoding="utf-8")
EVENTS = PAGE.split("\n## Events\n")[1].split("\n## ")[0]
ROWS = [line.strip("|").split(" | ") for line in EVENTS.splitlines() if line.startswith("| `")]
FIELDS = {row[0].strip(" `"): re.findall(r"`(\w+)`", row[1]) for row in ROWS}


OF_ALL = {"time", "id", "job", "kind", "name"}


def told_in(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Kind and plain keywords of every `tell` in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "tell":
            kinds = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            kinds = [kind for kind in kinds if kind in get_args(Kind)]
            if kinds:
                yield kinds[0], {word.arg for word in node.keywords if word.arg}


def test_the_page_has_every_kind_of_event() -> None:
    assert set(FIELDS) == set(get_args(Kind))


def test_the_page_has_every_field_that_is_named_where_an_event_is_told() -> None:
    told = [
        found for path in (ROOT / "audioflow" / "engine").glob("*.py") for found in told_in(path)
    ]
    assert len(told) > 25
    assert [
        (kind, fields - set(FIELDS[kind]))
        for kind, fields in told
        if not fields <= set(FIELDS[kind])
    ] == []
    named = {kind: set().union(*(fields for one, fields in told if one == kind)) for kind in FIELDS}
    for kind in ("shard", "retry", "node", "note", "skip"):
        assert named[kind] == set(FIELDS[kind]), kind


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_how_a_command_ended_is_written_down_whatever_was_wrong(tmp_path: Path) -> None:
    recipe, events = tmp_path / "recipe.yaml", tmp_path / "events.ndjson"
    recipe.write_text("run_dir: x\nmanifst: {}\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["manifest", str(recipe), "--events", str(events)])
    with pytest.raises(SystemExit):
        main(["manifest", str(recipe), "--events", str(events)])
    end, again = read(events)
    assert end["id"] != again["id"], "the file has two commands, and each its own end"
    assert (end["kind"], end["job"], end["exit_code"]) == ("end", "manifest", 2)
    assert "manifst" in end["error"]
    assert {*end} - OF_ALL <= set(FIELDS["end"])


def test_a_command_begins_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    media = tmp_path / "media" / "horn"
    media.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (media / f"{name}.wav").write_text(name)
    recipe, events = tmp_path / "recipe.yaml", tmp_path / "events.ndjson"
    recipe.write_text(
        f"run_dir: {tmp_path}/run\nmanifest: {{reader: folder, root: {tmp_path}/media}}\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["manifest", str(recipe), "--events", str(events)])
    assert ended.value.code == 0
    told = read(events)
    assert [one["kind"] for one in told] == ["begin", "start", "done", "end"]
    assert told[0]["command"] == f"audioflow manifest {recipe}"
    assert told[-1]["exit_code"] == 0
    assert "error" not in told[-1]
    assert len({one["id"] for one in told}) == 1
    for one in told:
        assert {*one} - OF_ALL <= set(FIELDS[one["kind"]])


def test_secrets_are_in_no_event(tmp_path: Path) -> None:
    events = tmp_path / "events.ndjson"
    console = Console(str(events))
    console.hide(["sesame123"])
    console.begin("embed", "s3://bucket/sesame123", "audioflow embed x key=sesame123")
    console.finish("embed", 1, "no sesame123 there")
    console.close()
    assert len(read(events)) == 2
    assert "sesame123" not in events.read_text()


def node(name: str, alive: bool = True, host: str = "", address: str = "") -> dict[str, Any]:
    found = {"NodeID": f"id-{name}", "NodeManagerHostname": host or name, "Alive": alive}
    return found | {"NodeManagerAddress": address or f"10.0.0.{name}"}


def test_nodes_that_were_there_have_not_joined_and_later_ones_have() -> None:
    nodes = Nodes()
    assert nodes.look([node("a"), node("b"), node("old", alive=False)], 1.0) == []
    assert nodes.look([node("a"), node("b"), node("c")], 2.0) == [("joined", "c", "id-c")]
    assert nodes.look([node("a"), node("b", alive=False), node("c")], 3.0) == [
        ("lost", "b", "id-b")
    ]
    assert nodes.look([node("a"), node("c")], 4.0) == []
    assert nodes.marks == [[2.0, "joined", "c"], [3.0, "lost", "b"]]


def test_nodes_of_one_host_name_are_told_apart() -> None:
    nodes = Nodes()
    nodes.look([node("1"), node("2", host="vm")], 1.0)
    more = [node("1"), node("2", host="vm"), node("3", host="vm")]
    assert nodes.look(more, 2.0) == [("joined", "vm (10.0.0.3)", "id-3")]
    less = [node("1"), node("2", alive=False, host="vm"), node("3", host="vm")]
    assert nodes.look(less, 3.0) == [("lost", "vm (10.0.0.2)", "id-2")]
    same = {"host": "vm", "address": "::1"}
    names = names_of([node("a", **same), node("b", **same), node("c", host="vm"), node("d")])
    assert [*names.values()] == ["vm (id-a)", "vm (id-b)", "vm (10.0.0.c)", "d"]


def test_lost_nodes_and_shards_done_again_have_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console(Event("embed", "node", "ip-1", {"what": "lost", "node_id": "x", "nodes": 3}))
    console(Event("embed", "retry", "sound", {"shard": "0110", "tries": 1, "reason": "it died"}))
    again = {"tries": 1, "reason": "1 node was lost."}
    console(Event("train", "retry", "birds", {"workers": 3, "wanted": 4} | again))
    console(Event("train", "retry", "bees", {"workers": 2, "wanted": 2} | again))
    console(Event("train", "retry", "ants", {"workers": 1, "wanted": 1} | again))
    console(Event("tune", "retry", "found", {"trial": 7} | again))
    console.close()
    out = capsys.readouterr().out
    begun = "training is begun again with"
    assert f"birds  {begun} 3 of 4 workers (attempt 2): 1 node was lost." in out
    assert f"bees  {begun} 2 workers (attempt 2): 1 node was lost." in out
    assert f"ants  {begun} 1 worker (attempt 2): 1 node was lost." in out
    assert "found  trial 7 is done again (1): its worker was lost: 1 node was lost." in out
    assert " embed  node ip-1 was lost; 3 are there" in out
    assert "shard 0110 is done again (1): its worker was lost: it died" in out


SHARD = {
    "shard": "0110",
    "clips": 4,
    "rows": {"sound": 3, "color": 4},
    "errors": {"sound": {"no_audio": 1}},
    "media_s": 20.0,
    "size_bytes": 100,
    "node": "n",
    "wall_s": 2.0,
    "seconds": {"decode": 1.0, "embed sound": 0.5},
    "counts": {"bytes": 7, "patches sound": 5, "slots sound": 8},
}


def test_a_shard_counts_once_whatever_tables_it_fills() -> None:
    found = list(samples(Event("embed", "shard", "sound, color", SHARD)))
    values = {(one.name, *sorted(one.labels.items())): one.value for one in found}
    table = ("table", "sound, color")
    assert values["clips", ("node", "n"), table] == 4
    assert values["shards", ("node", "n"), table] == 1
    assert values["failures", ("error", "no_audio"), ("table", "sound")] == 1
    stage = (("node", "n"), ("stage", "embed"))
    assert values["stage_seconds", ("backbone", "sound"), *stage] == 0.5
    assert values["patches", ("backbone", "sound")] == 5
    assert values["batch_slots", ("backbone", "sound")] == 8
    assert values["read_bytes", ("node", "n")] == 7
    assert "0110" not in str(found)  # what names a shard is no label: there is no end of them


def test_samples_have_the_labels_of_their_measures() -> None:
    busy = {"sound": {"share": 0.5, "device": "gpu", "workers": 2}}
    epoch = {"epoch": 1, "fold": None, "train_loss": 1.0, "val_loss": 2.0, "lr": 0.1}
    epoch |= {"metrics": {"val_accuracy": 0.5}, "seconds": 3.0, "examples": 10, "best": True}
    epoch |= {"done": 1, "total": 9}
    events = [
        Event("embed", "start", "sound", {"total": 9, "done": 1, "shards": 2}),
        Event("embed", "shard", "sound", SHARD),
        Event(
            "embed",
            "progress",
            "sound",
            {"total": 9, "done": 3, "shards_left": 1, "shards_waiting": 1, "busy": busy},
        ),
        Event("embed", "retry", "sound", {"shard": "0", "tries": 1, "reason": ""}),
        Event("embed", "node", "n", {"what": "lost", "nodes": 3}),
        Event("train", "epoch", "audio", epoch | {"ingest_s": 0.5, "judge_s": 1.0}),
        Event("tune", "trial", "audio", {"state": "finished", "best": {"score": 0.5}}),
        Event("embed", "done", "sound", {}),
    ]
    found = [sample for event in events for sample in samples(event)]
    assert {one.name for one in found} == set(MEASURES)
    taken_up = Event("train", "progress", "audio", {"done": 370, "before": 370, "total": 400})
    (left,) = samples(taken_up)
    assert (left.name, left.value) == ("epochs_left", 30), "they are no clips"
    for one in found:
        assert set(one.labels) == set(MEASURES[one.name].labels), one.name
        assert all(isinstance(value, str) for value in one.labels.values())


def test_a_command_that_is_ended_is_not_aborted_while_it_tidies_up() -> None:
    signal.alarm(60)  # as Ray's own handler does before ours is called
    with pytest.raises(Terminated, match="SIGTERM"):
        _terminate(signal.SIGTERM, None)
    assert signal.alarm(0) == 0


def test_a_command_is_ended_also_while_it_copes_with_an_error_of_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is at work on the run is asked for, and a store that fails then is let be."""

    def ended(folder: Folder) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise StorageError("it does not answer")

    monkeypatch.setattr("audioflow.status_writer.read_status", ended)
    before = signal.getsignal(signal.SIGTERM)
    try:
        overrides = [f"run_dir={tmp_path}/run", "ray.address=local"]
        assert run_command(Command("manifest", str(ROOT / "configs/demo.yaml"), overrides)) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "stopped by SIGTERM; what is committed stays, run the same" in capsys.readouterr().err
    assert not (tmp_path / "run" / "manifest").exists()


@pytest.mark.parametrize("error", [EOFError, OSError, KeyError, ZeroDivisionError])
def test_a_fault_gives_its_traceback_whatever_click_would_make_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: type[Exception],
) -> None:
    """Click makes `Aborted.` of an `EOFError`, and nothing at all of a broken pipe."""

    def broken(*_: object) -> None:
        raise error(errno.EPIPE, "of a worker")

    monkeypatch.setattr("audioflow.cli._do", broken)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    events = tmp_path / "events.ndjson"
    try:
        with pytest.raises(SystemExit) as caught:
            main(["embed", "recipe.yaml", "--events", str(events)])
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])
    assert caught.value.code == 1
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert "of a worker" in told
    assert "Aborted" not in told
    (end,) = map(json.loads, events.read_text().splitlines())
    assert (end["kind"], end["exit_code"]) == ("end", 1)
    assert "its traceback is on standard error" in end["error"]

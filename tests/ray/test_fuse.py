"""`fuse` on a real Ray: the table that memory gives, errors in our words, workers that are lost."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audioflow import cut
from audioflow.engine import fuse_inputs
from audioflow.engine.fuse import fuse_systems
from audioflow.engine.ray_tasks import OnRay
from audioflow.errors import StalledError, TableError
from audioflow.storage import Folder
from tests.unit.scored_tables import bytes_of, fusing, make_clips, softmax_scores, write_scores

CLIPS = make_clips(300)


def two_tables(run: Folder) -> None:
    for seed, name in enumerate(("audio", "video")):
        scores = softmax_scores(CLIPS, seed)
        write_scores(run, name, CLIPS, scores, failed=range(0, 300, 7 + seed), shards=3 + seed)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts and groups that small tables have several of; decided by the driver."""
    monkeypatch.setattr(cut, "CLIPS_PER_PART", 50)
    monkeypatch.setattr(fuse_inputs, "BYTES_PER_GROUP", 4 * 3 * 150)


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_tasks_write_the_bytes_that_one_process_writes(
    tmp_path: Path, ray_session: None, s3_server: str, where: str
) -> None:
    import s3fs

    url = str(tmp_path / "there")
    if where == "bucket":
        s3fs.S3FileSystem(endpoint_url=s3_server).mkdir("fusing")
        url = "s3://fusing/run"
    two_tables(Folder(str(tmp_path / "here")))
    two_tables(Folder(url))
    held, spread = fusing(str(tmp_path / "here"), engine="memory"), fusing(url, engine="stream")
    headers = [fuse_systems(run)[0] for run in (held, spread)]
    assert headers[0].settings == headers[1].settings
    assert headers[0].shards == headers[1].shards
    assert len(headers[0].shards) == 8
    found = [bytes_of(run.scores("fused")) for run in (held, spread)]
    assert found[0] == found[1]
    done = [event.data["done"] for event in spread.listener if event.kind == "progress"]  # type: ignore[attr-defined]
    assert done[-1] == 300


def test_what_a_task_refuses_is_told_as_it_is(tmp_path: Path, ray_session: None) -> None:
    two_tables(Folder(str(tmp_path)))
    other = replace(CLIPS, targets=(CLIPS.targets + 1) % 3)
    write_scores(Folder(str(tmp_path)), "video", other, softmax_scores(other, 1))
    with pytest.raises(TableError, match=r"has labels \['\w+'\] in score table 'audio' and \["):
        fuse_systems(fusing(str(tmp_path), engine="stream"))


def dies_once(folder: str, number: int) -> int:
    mark = Path(folder, str(number))
    if number == 2 and not mark.exists():
        mark.touch()
        os._exit(1)
    return number * number


def test_a_lost_worker_costs_nothing(tmp_path: Path, ray_session: None) -> None:
    found = dict(OnRay(0, 60)(dies_once, str(tmp_path), range(5)))
    assert found == {number: number * number for number in range(5)}
    assert Path(tmp_path, "2").exists()


def sleeps(_: Any, seconds: float) -> None:
    time.sleep(seconds)


def test_tasks_that_do_not_end_are_given_up(ray_session: None) -> None:
    began = time.monotonic()
    with pytest.raises(StalledError, match=r"none of 2 tasks ended for 0\.5 s"):
        list(OnRay(0, 0.5)(sleeps, None, [30.0, 30.0]))
    assert time.monotonic() - began < 20

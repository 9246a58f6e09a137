"""When `embed` gives up."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from audioflow.engine.embed_give_up import GiveUp
from audioflow.errors import TooManyFailures
from audioflow.shards import plan_shards
from audioflow.storage import Folder
from audioflow.tables import Content, Failure, Receipt, Table
from tests.unit.test_embed_todo import manifest


class Setting:
    """A table of shards of four clips, each of a recording of its own."""

    def __init__(self, folder: Path, committed: tuple[str, ...] = (), clips: int = 80) -> None:
        self.table = Table(Folder(str(folder)))
        self.shards = plan_shards(manifest(clips=clips), 4)
        self.committed = committed
        self.limit = GiveUp({"t": self.table}, {"t": committed}, 6, workers=1)
        self.next = 0

    def shard(self, *errors: str) -> str:
        """The next shard, whose first clips fail so; gives its name."""
        shard = self.shards[self.next]
        self.next += 1
        ids = shard.rows["clip_id"].to_pylist()
        bad = [
            Failure(clip_id, f"/{clip_id}", "fetch", error, "why", 1)
            for clip_id, error in zip(ids, errors, strict=False)
        ]
        rows = pa.table({"clip_id": pa.array(ids[len(bad) :], pa.string())})
        name = shard.name("settings")
        receipt = self.table.commit_content(name, Content(rows, bad))
        self.limit.look(shard, {"t": receipt})
        return name

    def lost(self, error: str = "permission") -> str:
        return self.shard(*[error] * len(self.shards[self.next]))

    def fails(self, error: str = "permission", what: str = "the last [0-9]+ recordings") -> None:
        """Lose shards until it gives up."""
        with pytest.raises(TooManyFailures, match=f"{what} all failed as '{error}'.*: why"):
            self.lose_all(error)

    def lose_all(self, error: str) -> None:
        while self.next < len(self.shards):
            self.lost(error)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def test_where_the_first_clips_all_fail(setting: Setting) -> None:
    setting.fails("not_found", "the first [0-9]+ clips")


def test_where_as_many_recordings_fail_in_mid_run(setting: Setting) -> None:
    setting.shard()
    setting.lost()
    setting.shard("truncated")
    before = setting.next
    setting.fails()
    assert sum(map(len, setting.shards[before : setting.next])) >= 6
    assert sum(map(len, setting.shards[before : setting.next - 1])) < 6


def test_shards_of_which_a_part_failed_at_that_moment_are_made_again(setting: Setting) -> None:
    long_ago = setting.shard("permission")
    for _ in range(5):
        setting.shard()
    half, sound = setting.shard("permission"), setting.shard("truncated")
    setting.fails()
    committed = setting.table.committed()
    assert half not in committed
    assert {sound, long_ago} <= committed


def test_but_not_those_that_are_only_retried(tmp_path: Path) -> None:
    name = Setting(tmp_path).shards[1].name("settings")
    setting = Setting(tmp_path, (name,))
    setting.shard()
    assert setting.shard("network") == name
    setting.fails("network")
    assert name in setting.table.committed()


def test_missing_files_in_mid_run_are_failures_and_no_more(setting: Setting) -> None:
    setting.shard()
    for _ in range(6):
        setting.lost("not_found")


def test_a_recording_of_many_clips_is_one(setting: Setting) -> None:
    setting.shard()
    one: Any = setting.shards[0]
    rows = one.rows.set_column(1, "uri", pa.array(["/same"] * len(one)))
    shard: Any = type("Same", (), {"rows": rows})
    receipt = Receipt("x", 0, 4, "", 0, errors={"permission": 4})
    for _ in range(5):
        setting.limit.look(shard, {"t": receipt})

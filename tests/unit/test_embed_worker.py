"""A worker that cannot read a part of a shard, and the one that gets that part; without Ray."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from audioflow.engine import embed_worker
from audioflow.engine.embed_actor import BackboneSpec
from audioflow.engine.embed_decode import DecodeTask
from audioflow.engine.embed_pipeline import Item
from audioflow.engine.embed_pulse import BoardRef
from audioflow.engine.embed_reading import Reading
from audioflow.engine.embed_work import Done, Embedded, Trial, Work
from audioflow.engine.embed_worker import EmbedWorker
from audioflow.engine.pulse import Pulse
from audioflow.errors import MediaError
from audioflow.media.packing import ClipEnd
from audioflow.media.parts import Wanted
from audioflow.shards import plan_shards
from audioflow.storage import NO_OPTIONS, Folder
from audioflow.tables import PARTS, Table
from tests.media_files import tone, write_wav
from tests.ray.moody import DOWN

CLIPS = 4


class Setting:
    """A shard of four sounds, each in a folder of its own, which can be out of order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for number in range(CLIPS):
            path = self._place(number) / "sound.wav"
            path.parent.mkdir(parents=True)
            write_wav(path, tone(300 + 100 * number, 1.0, 8_000), 8_000)
        self.item = self._item()
        self.table = Table(Folder(str(folder / "table")))
        self.worker = self.another()

    def _place(self, number: int) -> Path:
        return self.folder / f"{number}"

    def _item(self) -> Item:
        ids = [f"clip{number}" for number in range(CLIPS)]
        columns = {
            "clip_id": ids,
            "uri": [str(self._place(number) / "sound.wav") for number in range(CLIPS)],
            "start_s": pa.nulls(CLIPS, pa.float64()),
            "duration_s": pa.nulls(CLIPS, pa.float64()),
            "fold": pa.nulls(CLIPS, pa.string()),
            "size_bytes": [16_044] * CLIPS,
            "version": ["1"] * CLIPS,
        }
        (shard,) = plan_shards(pa.table(columns), 16)
        keys = dict(zip(shard.rows["clip_id"].to_pylist(), shard.clip_keys, strict=True))
        return Item(shard, {"acoustic": Work("shard", keys)}, [False] * CLIPS)

    def another(self) -> EmbedWorker:
        spec = BackboneSpec("acoustic", "acoustic", {}, self.table.folder, 0.9)
        task = DecodeTask(
            {"acoustic": spec.input}, Wanted(decoder="tests.ray.moody:Moody"), 60.0, 4.0, NO_OPTIONS
        )
        return EmbedWorker(task, [spec], BoardRef())

    def down(self, *numbers: int) -> None:
        """Those that do not answer now."""
        for number in range(CLIPS):
            mark = self._place(number) / DOWN
            mark.unlink(missing_ok=True)
            if number in numbers:
                mark.touch()

    def do(self, trial: Trial, worker: EmbedWorker | None = None) -> Done:
        return (worker or self.worker).do(self.item.row(0), trial)

    def rows(self) -> dict[str, Any]:
        return {row["clip_id"]: row for row in self.table.read_shard("shard").to_pylist()}

    def failed(self) -> dict[str, str]:
        rows = self.table.shard_failures("shard").to_pylist()
        return {row["clip_id"]: row["error"] for row in rows}

    def parts(self) -> Sequence[str]:
        return (self.table.folder / PARTS).names()


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    monkeypatch.setattr(embed_worker, "TellingPulse", lambda board: Pulse())
    return Setting(tmp_path)


@pytest.fixture
def clean(setting: Setting) -> dict[str, Any]:
    """What is made where all can be read."""
    assert setting.do(Trial(pass_on=True)).receipts["acoustic"].failures == 0
    found = setting.rows()
    assert len(found) == CLIPS
    setting.table.keep_only(())
    return found


def test_what_it_can_read_is_not_read_again(setting: Setting, clean: dict[str, Any]) -> None:
    setting.down(1, 2)
    done = setting.do(Trial(pass_on=True))
    assert (done.receipts, done.reads) == ({}, True)
    assert not setting.table.committed()
    assert done.doubt is not None
    assert done.doubt.kept
    assert (done.doubt.error, done.doubt.reason) == ("network", "the store does not answer")
    setting.down(0, 3)
    done = setting.do(Trial(doubt=done.doubt))
    assert done.receipts["acoustic"].failures == 0
    assert done.reads
    assert setting.rows() == clean
    assert not setting.parts()


def test_what_neither_can_read_is_a_failure(setting: Setting, clean: dict[str, Any]) -> None:
    setting.down(0, 1, 2)
    one = setting.do(Trial(pass_on=True))
    setting.down(1, 2)
    two = setting.do(Trial(pass_on=True, doubt=one.doubt))
    assert not setting.table.committed()
    assert two.doubt is not None
    assert len(two.doubt.positions) == 2
    setting.down(2)
    done = setting.do(Trial(doubt=two.doubt))
    assert done.receipts["acoustic"].errors == {"network": 1}
    assert setting.failed() == {"clip2": "network"}
    assert setting.rows() == {clip: row for clip, row in clean.items() if clip != "clip2"}
    assert not setting.parts()


def test_where_it_reads_nothing_nothing_is_kept(setting: Setting, clean: dict[str, Any]) -> None:
    setting.down(*range(CLIPS))
    done = setting.do(Trial(pass_on=True))
    assert done.doubt is not None
    assert (done.reads, done.doubt.kept, setting.parts()) == (False, False, [])
    setting.down()
    setting.do(Trial(doubt=done.doubt))
    assert setting.rows() == clean


def test_where_there_is_no_other_node_it_is_as_it_is(setting: Setting) -> None:
    setting.down(3)
    done = setting.do(Trial())
    assert done.doubt is None
    assert done.receipts["acoustic"].errors == {"network": 1}


def ended(*errors: str | None) -> Embedded:
    ends = {
        at: ClipEnd(1.0, 1.0) if error is None else ClipEnd.failed("fetch", MediaError(error, "so"))
        for at, error in enumerate(errors)
    }
    return Embedded([], ends)


@pytest.mark.parametrize(
    ("errors", "doubtful"),
    [
        ((None, "permission", "truncated", "network"), [1, 3]),
        ((None, "not_found"), []),
        (("not_found", "permission"), [0, 1]),
        (("not_found", "not_found"), [0, 1]),
        (("truncated", "not_found"), []),
        (("out_of_memory", "out_of_memory"), []),
        ((), []),
    ],
)
def test_what_may_be_the_fault_of_a_node(errors: Sequence[str | None], doubtful: list[int]) -> None:
    assert list(Reading.of([ended(*errors), ended(*errors)]).doubtful) == doubtful

"""A shard put together: from parts, from older shards, after a retry."""

from pathlib import Path

import numpy as np
import pytest

from audioflow.backbones.running import ClipPart
from audioflow.embeddings import ClipEmbedding, clips_of
from audioflow.engine.embed_commit import Committer
from audioflow.engine.embed_work import Embedded, ShardClips, Work
from audioflow.errors import MediaError
from audioflow.media.packing import ClipEnd
from audioflow.storage import Folder
from audioflow.tables import Receipt, Table

LAYERS = {"embedding": 3}
CLIPS = ShardClips(["a", "b", "c"], ["/a", "/b", "/c"], "node7")
KEYS = {"a": "ka", "b": "kb", "c": "kc"}
WHOLE = ClipEnd(2.0, 1.0)


def part(clip: int, value: float, patches: int = 2, variant: int = 0, begin: int = 0) -> ClipPart:
    vectors = np.full((patches, 3), value, np.float32)
    starts = (begin + np.arange(patches)) * 0.5
    length_s = patches * 0.5 if variant else 0.0
    return ClipPart(clip, ClipEmbedding({"embedding": vectors}, starts, length_s, 0.0, variant))


@pytest.fixture
def committer(tmp_path: Path) -> Committer:
    return Committer("t", Table(Folder(str(tmp_path / "table"))), LAYERS, min_coverage=0.8)


def commit(committer: Committer, work: Work, clips: ShardClips, found: list[Embedded]) -> Receipt:
    return committer.commit({"t": work}, clips, found)["t"]


def rows(committer: Committer, name: str) -> dict[tuple[str, int], ClipEmbedding]:
    table = committer.table.read_shard(name)
    return {(i, clip.variant): clip for i, clip in clips_of(table, LAYERS)}


def failures(committer: Committer, name: str) -> dict[str, dict]:
    return {row["clip_id"]: row for row in committer.table.shard_failures(name).to_pylist()}


def test_clips_become_rows_and_failures_in_their_order(committer):
    lost = ClipEnd.failed("fetch", MediaError("network", "no answer", 5))
    found = Embedded([part(2, 3.0), part(0, 1.0)], {0: WHOLE, 1: lost, 2: ClipEnd(1.0, 0.8)})
    receipt = commit(committer, Work("s", KEYS), CLIPS, [found])
    assert (receipt.rows, receipt.failures, receipt.clips, receipt.media_s) == (2, 1, 3, 3.0)
    assert [key[0] for key in rows(committer, "s")] == ["a", "c"]
    assert rows(committer, "s")["c", 0].coverage == pytest.approx(0.8)
    row = failures(committer, "s")["b"]
    assert (row["stage"], row["error"], row["reason"]) == ("fetch", "network", "no answer")
    assert (row["attempts"], row["node"], row["uri"]) == (5, "node7", "/b")
    assert committer.table.clip_keys(["s"]) == {"s": KEYS}


def test_too_little_coverage_is_a_failure_that_says_how_much(committer):
    found = Embedded([part(0, 1.0)], {0: ClipEnd(2.0, 0.799)})
    commit(committer, Work("s", KEYS), ShardClips(["a"], ["/a"], "n"), [found])
    assert failures(committer, "s")["a"]["reason"] == (
        "79.9% of it could be decoded (2.00 s); embed.min_coverage asks for 80.0%"
    )


@pytest.mark.parametrize("ends", [{}, {0: WHOLE}])
def test_a_clip_of_which_nothing_came_is_an_internal_failure(committer, ends):
    commit(committer, Work("s", KEYS), ShardClips(["a"], ["/a"], "n"), [Embedded([], dict(ends))])
    assert failures(committer, "s")["a"]["error"] == "internal"


def test_parts_written_down_make_the_shard_that_one_part_makes(committer):
    whole = Embedded(
        [part(0, 1.0, 4), part(1, 2.0), part(0, 7.0, 3, variant=1)],
        {0: ClipEnd(2.5, 0.9), 1: WHOLE, 2: ClipEnd.failed("decode", MediaError("empty", "0"))},
    )
    first = Embedded([part(0, 1.0, 3), part(0, 7.0, 1, variant=1)], {2: whole.ends[2]})
    second = Embedded(
        [part(0, 1.0, 1, begin=3), part(0, 7.0, 2, variant=1, begin=1), part(1, 2.0)],
        {0: whole.ends[0], 1: WHOLE},
    )
    one = commit(committer, Work("one", KEYS), CLIPS, [whole])
    for number, item in enumerate((first, second)):
        committer.table.write_part("two", number, item.to_rows(CLIPS, LAYERS))
    parts = [Embedded.from_rows(r, CLIPS, LAYERS) for r in committer.table.read_parts("two", 2)]
    two = commit(committer, Work("two", KEYS), CLIPS, parts)
    assert (one.sha256, one.failures_sha256) == (two.sha256, two.failures_sha256)
    assert (two.rows, two.variants, two.clips) == (3, 1, 3)
    assert rows(committer, "two")["a", 1].duration_s == 1.5
    committer.table.remove_parts("two", 2)
    assert (committer.table.folder / "_parts").names() == []


def test_what_other_shards_have_is_taken_over_bit_by_bit(committer):
    lost = ClipEnd.failed("decode", MediaError("empty", "0 bytes", 2))
    old = Embedded([part(0, 1 / 3), part(0, 0.1, 3, variant=1)], {0: ClipEnd(2.0, 0.95), 1: lost})
    commit(committer, Work("old", KEYS), ShardClips(["a", "b"], ["/a", "/b"], "old"), [old])
    work = Work("new", KEYS, todo=[2], reuse={"old": ["a", "b"]})
    assert [work.wants(position) for position in range(3)] == [False, False, True]
    receipt = commit(committer, work, CLIPS, [Embedded([part(2, 9.0)], {2: WHOLE})])
    assert (receipt.rows, receipt.failures) == (3, 1)
    before = committer.table.read_shard("old")
    assert committer.table.read_shard("new").slice(0, 2).equals(before)
    assert failures(committer, "new") == failures(committer, "old")


def test_a_retry_replaces_failures_and_counts_attempts(committer):
    lost = ClipEnd.failed("fetch", MediaError("network", "no answer", 5))
    first = Embedded([part(0, 1.0)], {0: WHOLE, 1: lost, 2: lost})
    commit(committer, Work("s", KEYS), CLIPS, [first])
    again = Work("s-r1", KEYS, [1, 2], {"s": ["a"]}, retry_of="s", attempts={"b": 5, "c": 5})
    receipt = commit(committer, again, CLIPS, [Embedded([part(1, 2.0)], {1: WHOLE, 2: lost})])
    assert (receipt.name, receipt.rows, receipt.failures) == ("s-r1", 2, 1)
    assert failures(committer, "s-r1")["c"]["attempts"] == 10


def test_a_retry_that_changes_nothing_leaves_the_shard_as_it_is(committer):
    lost = ClipEnd.failed("fetch", MediaError("network", "no answer", 5))
    before = commit(committer, Work("s", KEYS), CLIPS, [Embedded([], {0: lost, 1: lost, 2: lost})])
    again = Work("s-r1", KEYS, None, {}, retry_of="s")
    assert commit(committer, again, CLIPS, [Embedded([], {0: lost, 1: lost, 2: lost})]) == before
    assert committer.table.committed() == {"s"}

"""Leaks that the manifest and the files themselves show."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audioflow.checks import concerned, content_leaks, contents, manifest_leaks, sides_of
from audioflow.datasets.sources import read_manifest
from audioflow.recipe import ManifestSection
from audioflow.storage import Folder
from audioflow.tables import MANIFEST_SCHEMA


def manifest(*rows: Mapping[str, Any]) -> pa.Table:
    """Clips `c0`, `c1`, ..., each a recording and a group of its own unless said otherwise."""
    full = [
        {
            "clip_id": f"c{number}",
            "uri": f"/data/{number}.wav",
            "labels": ["dog"],
            "fine_labels": ["dog"],
            "split": "train",
            "group": f"g{number}",
            "source": "main",
        }
        | row
        for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(full, schema=MANIFEST_SCHEMA)


def found(*rows: Mapping[str, Any]) -> list[tuple[str, tuple[str, str]]]:
    table = manifest(*rows)
    return [(leak.kind, leak.clips) for leak in manifest_leaks(table, sides_of(table))]


TRAIN, VAL, TEST = {"split": "train"}, {"split": "val"}, {"split": "test"}
SAME = {"uri": "/data/a.wav"}


def test_train_and_val_are_one_side_and_every_fold_is_one() -> None:
    folds = [{"split": "cv", "fold": fold} for fold in "ab"]
    sides = sides_of(manifest(TRAIN, VAL, TEST, *folds))
    assert sides.names == ("train", "fold a", "fold b", "test")
    assert sides.side.tolist() == [0, 0, 3, 1, 2]
    assert list(sides.places) == ["train", "val", "test", "fold a", "fold b"]
    assert sides.tested.tolist() == [False, False, True, True, True]


def test_clips_that_share_nothing_do_not_leak() -> None:
    assert found(TRAIN, VAL, TEST) == []
    assert found(TRAIN | SAME, VAL | SAME) == []
    assert found(TEST | SAME, TEST | SAME) == []


def test_a_whole_recording_in_two_splits_is_the_same_stretch() -> None:
    assert found(TEST | SAME, TRAIN | SAME) == [("overlap", ("c1", "c0"))]
    assert found(TRAIN | SAME, TEST | SAME | {"start_s": 5.0}) == [("overlap", ("c0", "c1"))]


def span(start_s: float, duration_s: float) -> dict[str, float]:
    return {"start_s": start_s, "duration_s": duration_s}


def test_stretches_that_touch_share_the_recording_only() -> None:
    apart = found(TRAIN | SAME | span(0, 5), TEST | SAME | span(5, 5))
    assert apart == [("recording", ("c0", "c1"))]


def test_of_overlapping_stretches_the_largest_is_shown() -> None:
    rows = [
        TRAIN | SAME | span(0, 100),
        TRAIN | SAME | span(20, 1),
        TEST | SAME | span(99, 5),
        TEST | SAME | span(30, 10),
        TEST | SAME | span(200, 10),
    ]
    assert found(*rows) == [("overlap", ("c0", "c3"))]
    table = manifest(*rows)
    (leak,) = manifest_leaks(table, sides_of(table))
    assert leak.concerned == {"c2", "c3", "c4"}


def test_overlaps_are_those_that_a_comparison_of_all_finds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        spans = [
            span(float(s), float(d))
            for s, d in zip(rng.integers(0, 40, 8), rng.integers(1, 6, 8), strict=True)
        ]
        splits = rng.permutation([TRAIN, TEST] * 4)
        kinds = [
            kind
            for kind, _ in found(
                *(split | SAME | one for split, one in zip(splits, spans, strict=True))
            )
        ]
        overlapping = any(
            a["start_s"] < b["start_s"] + b["duration_s"]
            and b["start_s"] < a["start_s"] + a["duration_s"]
            for a, first in zip(spans, splits, strict=True)
            for b, second in zip(spans, splits, strict=True)
            if first != second
        )
        assert kinds == (["overlap"] if overlapping else ["recording"])


def test_a_group_in_two_folds_leaks_unless_its_recording_is_told_already() -> None:
    one, other = ({"split": "cv", "fold": fold, "group": "site"} for fold in "ab")
    assert found(one, other) == [("group", ("c0", "c1"))]
    assert found(one | SAME, other | SAME) == [("overlap", ("c0", "c1"))]


def read_file(uri: str, start: int, end: int) -> bytes | None:
    try:
        return Path(uri).read_bytes()[start:end]
    except FileNotFoundError:
        return None


def files(folder: Path, *contents_: bytes) -> list[dict[str, Any]]:
    rows = []
    for number, content in enumerate(contents_):
        path = folder / f"{number}.wav"
        path.write_bytes(content)
        rows.append({"uri": str(path), "size_bytes": len(content), "version": "1"})
    return rows


def test_files_of_the_same_content_leak_whatever_their_names(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(300_000)
    end = noise[:-1] + bytes([noise[-1] ^ 1])
    rows = files(tmp_path, noise, noise, end, b"x" * 300_000, noise[:1000])
    table = manifest(*(TRAIN | rows[0], TEST | rows[1]), *(TEST | row for row in rows[2:]))
    result = content_leaks(table, sides_of(table), read_file)
    (leak,) = result.leaks
    assert (leak.clips, leak.concerned) == (("c0", "c1"), {"c1"})
    assert (result.read, result.beyond, result.unreadable) == (4, 0, 0)


def test_a_file_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    rows = files(tmp_path, b"abc", b"abc")
    (tmp_path / "1.wav").unlink()
    table = manifest(TRAIN | rows[0], TEST | rows[1])
    result = content_leaks(table, sides_of(table), read_file)
    assert (result.leaks, result.unreadable) == ((), 1)


def test_no_more_is_read_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST_BYTES", 10)
    rows = files(tmp_path, b"abc", b"abc", b"x" * 6, b"x" * 6)
    table = manifest(TRAIN | rows[0], TEST | rows[1], TRAIN | rows[2], TEST | rows[3])
    result = content_leaks(table, sides_of(table), read_file)
    assert (result.read, result.beyond) == (2, 2)
    assert concerned(result.leaks) == {"c1"}


def test_objects_are_compared_by_size_and_etag_and_not_read() -> None:
    stored = {"size_bytes": 10, "version": "abc"}
    rows = [{"uri": f"s3://bucket/{name}"} | stored for name in "abc"]
    table = manifest(TRAIN | rows[0], TEST | rows[1], TEST | rows[2] | {"version": "abd"})
    result = content_leaks(table, sides_of(table), read_file)
    assert (concerned(result.leaks), result.read) == ({"c1"}, 0)


def test_files_that_a_link_gives_a_second_time_are_a_leak_where_splits_part_them(
    tmp_path: Path,
) -> None:
    for number in range(40):
        path = tmp_path / "rain" / f"{number:02d}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes([number]) * 100)
    (tmp_path / "water").symlink_to(tmp_path / "rain")
    section = ManifestSection(reader="folder", root=str(tmp_path))
    clips = read_manifest(section, Folder, Folder).manifest
    split = dict(zip(clips["clip_id"].to_pylist(), clips["split"].to_pylist(), strict=True))
    parted = {
        number
        for number in range(40)
        if len({split[f"{name}/{number:02d}.wav"] == "test" for name in ("rain", "water")}) == 2
    }
    leaks = content_leaks(clips, sides_of(clips), read_file).leaks
    assert parted
    assert {int(clip[-6:-4]) for leak in leaks for clip in leak.clips} == parted

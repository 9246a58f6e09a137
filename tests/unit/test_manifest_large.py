"""Manifests of very many clips: read as a stream, kept as columns, the same as of few."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audioflow import clip_columns, division, stratify
from audioflow import manifest as manifests
from audioflow.clip import Clip
from audioflow.datasets import READERS
from audioflow.errors import InputError
from audioflow.manifest import build_manifest, manifest_fingerprint, split_counts
from audioflow.parquet import parquet_bytes
from audioflow.recipe import ManifestSection
from audioflow.storage import Folder
from audioflow.tables import fingerprint

READING = """
import json, resource, sys, time
from audioflow import clip_columns
from audioflow.datasets.sources import read_manifest
from audioflow.manifest import classes_of, manifest_fingerprint, split_counts
from audioflow.parquet import parquet_bytes
from audioflow.recipe import ManifestSection
from audioflow.storage import Folder

def read(path):
    section = ManifestSection(reader="list", list=path)
    rows = read_manifest(section, Folder, Folder).manifest
    manifest_fingerprint(rows), classes_of(rows), parquet_bytes(rows)
    return rows.num_rows, {name: sum(found.values()) for name, found in split_counts(rows).items()}

clip_columns.CHUNK = int(sys.argv[3])
read(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
clips, splits = read(sys.argv[2])
more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
seconds = time.process_time() - start
print(json.dumps({"bytes": more / clips, "splits": splits, "seconds": seconds}))
"""
"""A list of few clips first, so that what any reading takes is not counted."""


def write_list(path: Path, clips: int) -> str:
    with path.open("w") as file:
        for number in range(clips):
            name = f"video_{number * 2654435761 % 2**32:010d}_{number:08d}.wav"
            file.write(f"/data/corpus/train/class_{number % 600:03d}/{name}\n")
    return str(path)


def read_apart(folder: Path, clips: int, chunk: int) -> dict[str, Any]:
    """Bytes per clip at the most, and the splits, of a list that a process of its own reads."""
    lists = [write_list(folder / f"{count}.txt", count) for count in (3000, clips)]
    command = [sys.executable, "-c", READING, *lists, str(chunk)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_a_clip_takes_some_hundred_bytes(tmp_path: Path) -> None:
    found = read_apart(tmp_path, clips=100_000, chunk=4096)
    assert found["splits"] == {"train": 60_000, "val": 20_000, "test": 20_000}
    assert found["bytes"] < 600  # as objects they took 2,300


@pytest.mark.slow
def test_ten_million_clips_take_less_than_five_gigabytes(tmp_path: Path) -> None:
    found = read_apart(tmp_path, clips=10_000_000, chunk=clip_columns.CHUNK)
    assert found["splits"] == {"train": 6_000_000, "val": 2_000_000, "test": 2_000_000}
    assert found["bytes"] < 500
    assert found["seconds"] < 600


def corpus() -> list[Clip]:
    """Clips of several classes at several sites, without order, some without a class."""
    return [
        Clip(
            f"é{number * 37 % 101:03d}",
            f"/data/{number // 2}.wav",
            tuple("abc"[: number % 4]),
            size_bytes=number or None,
            version=f"v{number}" if number % 3 else None,
            columns={"site": f"s{number % 11}", "set": ("learn", "eval")[number % 11 > 7]},
            place=f"list.csv:{number + 2}",
        )
        for number in range(101)
    ]


RECIPES: dict[str, tuple[dict[str, Any], str]] = {
    "shares": ({}, "f1380415fcc0274dd6bb7cb9b1684995"),
    "seed": ({"seed": 3}, "790abf2452fc8f285d1dc3033346083a"),
    "two_splits": ({"splits": {"train": 0.8, "test": 0.2}}, "38da66d207ccb1df33259b811d00cdaf"),
    "sites": ({"group_by": "site"}, "d6a5a891b700f4d9c07e2cbcc585e5f5"),
    "pattern": ({"group_by": r"regex:(\d)\d$"}, "d1f4eb12e9f675c132dacb8f3746de27"),
    "folds": ({"splits": {"folds": 5}}, "059a8ad4d746d0aec581167b9086c347"),
    "folds_of_sites": (
        {"splits": {"folds": "site"}, "group_by": "site"},
        "b974507eadefd469870d5a4afb735b6c",
    ),
    "folds_and_test": (
        {"splits": {"folds": 3, "test": 0.3}, "group_by": "site"},
        "4bb003e67b104abdd88e6867ed7072b5",
    ),
    "test_sites": (
        {"splits": {"folds": "site", "test": ["s1", "s2"]}, "group_by": "site"},
        "91ec5ca0e957a7c99987d667d61920ca",
    ),
    "published": (
        {
            "splits": {"column": "set", "train": ["learn"], "test": ["eval"]},
            "group_by": "site",
        },
        "cfb92b1f2eb80e571ba3d948e5198773",
    ),
    "val_share": (
        {
            "splits": {"column": "set", "train": ["learn"], "val": 0.2, "test": ["eval"]},
            "group_by": "site",
        },
        "8d8feaaece4705da03e40b50116233d1",
    ),
}
"""Sections of recipes, and the fingerprint that the manifest of `corpus` had as objects."""


def built(changes: dict[str, Any]) -> Any:
    return build_manifest(corpus(), ManifestSection(reader="csv", **changes), "data")


@pytest.fixture
def in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every loop over parts of a manifest gets many of them, and a last one that is not full."""
    for module in (clip_columns, manifests, division, stratify):
        for name, size in (("CHUNK", 7), ("GROUP_ROWS", 16), ("_AT_ONCE", 5)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, size)


@pytest.mark.parametrize("name", RECIPES)
def test_a_manifest_is_what_it_always_was(name: str) -> None:
    changes, expected = RECIPES[name]
    assert manifest_fingerprint(built(changes)) == expected


@pytest.mark.usefixtures("in_small_parts")
@pytest.mark.parametrize("name", RECIPES)
def test_a_manifest_is_the_same_in_parts(name: str) -> None:
    changes, expected = RECIPES[name]
    rows = built(changes)
    assert rows["clip_id"].num_chunks == 7
    assert manifest_fingerprint(rows) == expected
    columns = [rows[column].to_pylist() for column in rows.column_names]
    assert expected == fingerprint("manifest", rows.column_names, columns)


def test_a_file_of_a_manifest_in_chunks_has_the_bytes_of_one_in_one() -> None:
    clips = [replace(clip, clip_id=f"{clip.clip_id}/{n}") for n in range(80) for clip in corpus()]
    rows = build_manifest(clips, ManifestSection(reader="csv", splits={"train": 1}), "data")
    assert rows["clip_id"].num_chunks == 1
    assert parquet_bytes(rows) == parquet_bytes(rows.from_pylist(rows.to_pylist(), rows.schema))


@pytest.mark.usefixtures("in_small_parts")
def test_faults_in_later_parts_are_told_with_their_place() -> None:
    clips = corpus()
    clips.append(replace(clips[90], clip_id=clips[5].clip_id))
    with pytest.raises(InputError, match=r"twice: 'é084' \(list\.csv:7 and list\.csv:92\)"):
        build_manifest(clips, ManifestSection(reader="csv"), "data")


@pytest.mark.usefixtures("in_small_parts")
def test_counts_of_classes_do_not_depend_on_parts() -> None:
    counts = split_counts(built({"splits": {"train": 0.5, "test": 0.5}, "group_by": "site"}))
    assert {label: sum(one[label] for one in counts.values()) for label in "abc"} == {
        "a": 75,
        "b": 50,
        "c": 25,
    }


def test_readers_of_lists_read_as_they_are_asked(tmp_path: Path) -> None:
    # The last line is no text: who read all before the first clip would stop there.
    lines = "".join(f"dog/{number:07d}.wav,dog\n" for number in range(20_000))
    path = tmp_path / "clips.csv"
    path.write_bytes(b"file,label\n" + lines.encode() + b"\xff\n")
    options = {"csv": {"file_column": "file", "label_column": "label"}, "list": {}}
    for name, more in options.items():
        clips: Iterator[Clip] = iter(READERS.build(name, {"list": str(path), **more}).read(Folder))
        assert next(clips).uri.endswith("dog/0000000.wav")
        at = len(b"file,label\n" + lines.encode())
        with pytest.raises(InputError, match=rf"clips\.csv is not UTF-8 text \(byte {at} is 0xff"):
            list(clips)

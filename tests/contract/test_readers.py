"""What every registered reader promises. A new one needs an example here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audioflow.datasets import READERS
from audioflow.errors import InputError
from audioflow.manifest import Clip
from audioflow.storage import Folder


def folder(root: Path) -> dict[str, Any]:
    for label in ("dog", "rain"):
        (root / label).mkdir()
        for number in range(3):
            (root / label / f"{number}.wav").write_bytes(b"x" * (number + 1))
    return {"root": str(root)}


def listed(root: Path) -> dict[str, Any]:
    lines = [f"{number}.wav,{'dog' if number % 2 else 'rain'}" for number in range(4)]
    (root / "clips.csv").write_text("\n".join(["file,label", *lines]))
    return {"list": str(root / "clips.csv"), "file_column": "file", "label_column": "label"}


def demo(root: Path) -> dict[str, Any]:
    return {"root": str(root / "demo"), "clips": 24}


EXAMPLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "folder": folder,
    "csv": listed,
    "demo": demo,
}


def read(name: str, options: dict[str, Any]) -> list[Clip]:
    return list(READERS.build(name, options).read(Folder))


def test_every_reader_has_an_example() -> None:
    assert sorted(EXAMPLES) == READERS.names()


@pytest.mark.parametrize("name", READERS.names())
def test_clips_have_unique_ids_labels_and_urls_and_read_the_same_twice(
    name: str, tmp_path: Path
) -> None:
    options = EXAMPLES[name](tmp_path)
    clips = read(name, options)
    assert len({clip.clip_id for clip in clips}) == len(clips) > 1
    assert all(clip.labels and clip.uri for clip in clips)
    assert not any(clip.clip_id.startswith(str(tmp_path)) for clip in clips)
    assert read(name, options) == clips


@pytest.mark.parametrize("name", READERS.names())
def test_the_source_is_named_for_messages(name: str, tmp_path: Path) -> None:
    options = EXAMPLES[name](tmp_path)
    assert READERS.build(name, options).source in options.values()


@pytest.mark.parametrize("name", sorted({"folder", "csv"}))
def test_what_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    options = EXAMPLES[name](tmp_path) | {"root": str(tmp_path / "gone")}
    if name == "csv":
        options["list"] = str(tmp_path / "gone.csv")
    with pytest.raises(InputError, match="gone"):
        read(name, options)

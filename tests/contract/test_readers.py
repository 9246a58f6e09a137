"""What every registered reader promises. A new one needs an example here."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audioflow.clip import Clip
from audioflow.datasets import READERS
from audioflow.errors import InputError
from audioflow.plugins import plugins
from audioflow.recipe_file import load_recipe
from audioflow.storage import Folder
from tests.trees import TREES


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


def cached(root: Path) -> dict[str, Any]:
    ids = np.repeat(["dog/1.wav", "dog/2.wav", "rain/1.wav"], 2)
    arrays = {"X": np.ones((6, 4), np.float32), "Y": np.repeat([0, 0, 1], 2), "IDS": ids}
    np.savez(root / "train.npz", **arrays)
    return {"files": [str(root / "train.npz")], "class_names": ["dog", "rain"]}


def named(root: Path) -> dict[str, Any]:
    (root / "ids.txt").write_text("D:\\v\\dog\\1.wav\nD:\\v\\rain\\2.wav\n")
    return {"list": str(root / "ids.txt")}


def noise(root: Path) -> dict[str, Any]:
    return {"root": str(root / "noise"), "label": "nothing", "count": 3, "duration_s": 0.1}


def tree(make: Callable[[str], dict[str, Any]], root: Path) -> dict[str, Any]:
    return make(str(root / "data"))


EXAMPLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "folder": folder,
    "csv": listed,
    "demo": demo,
    "npz": cached,
    "noise": noise,
    "list": named,
    **{name: partial(tree, make) for name, make in TREES.items()},
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
    given = [value for value in options.values() if isinstance(value, str)]
    assert READERS.build(name, options).source in [*given, *options.get("files", [])]


WHERE = {"csv": "list", "npz": "files", "list": "list"}


@pytest.mark.parametrize("name", READERS.names())
def test_a_reader_makes_its_media_or_names_what_is_not_there(name: str, tmp_path: Path) -> None:
    options = EXAMPLES[name](tmp_path)
    if READERS.load(name).makes_media:
        assert all(Path(clip.uri).is_file() for clip in read(name, options))
        return
    gone = str(tmp_path / "gone")
    options[WHERE.get(name, "root")] = [gone] if name == "npz" else gone
    with pytest.raises(InputError, match="gone"):
        read(name, options)


@pytest.mark.parametrize("name", READERS.names())
def test_a_reader_tells_of_itself(name: str, tmp_path: Path) -> None:
    reader = READERS.load(name)
    assert (sys.modules[reader.__module__].__doc__ or "").startswith(f"`{name}`: ")
    text = f"run_dir: {tmp_path}/run\n{reader.about.recipe}\n"
    (tmp_path / "recipe.yaml").write_text(text)
    section = load_recipe(str(tmp_path / "recipe.yaml"), [], plugins()).manifest
    assert name in {section.reader, *(extra.reader for extra in section.extra.values())}
    if reader.about.get:
        assert reader.about.home.startswith("https://")
        assert reader.about.licence
        assert reader.about.size

"""The reader `list`: clips by their ids or paths alone, of Unix or Windows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from audioflow.clip import Clip
from audioflow.datasets import READERS
from audioflow.errors import InputError
from audioflow.storage import Folder


def write(folder: Path, name: str, *lines: str) -> str:
    (folder / name).write_text("\n".join(lines))
    return str(folder / name)


def read(**options: Any) -> list[Clip]:
    return list(READERS.build("list", options).read(Folder))


def labels(clips: list[Clip]) -> dict[str, tuple[str, ...]]:
    return {clip.clip_id: clip.labels for clip in clips}


def test_a_path_of_windows_is_a_name_a_label_and_a_set(tmp_path: Path) -> None:
    path = write(
        tmp_path, "l.txt", "D:\\k600\\val\\playing chess\\v_1.mp4", "/k/train/zumba/v_2.mp4"
    )
    one, two = read(list=path)
    assert (one.clip_id, one.uri) == ("v_1", "D:\\k600\\val\\playing chess\\v_1.mp4")
    assert one.labels == ("playing chess",)
    assert dict(one.columns) == {"label": "playing chess", "folder": "playing chess", "set": "val"}
    assert (two.clip_id, two.labels, two.columns["set"]) == ("v_2", ("zumba",), "train")
    assert two.place == f"{path}:2"


def test_labels_may_be_numbers_in_a_file_of_the_same_names(tmp_path: Path) -> None:
    listed = tmp_path / "ids.npy"
    np.save(listed, np.array(["D:\\a\\v_1.wav", "D:\\a\\v_2.wav"]))
    told = write(tmp_path, "val.txt", "/other place/v_2.mp4 300 1", "/other place/v_1.mp4 298 0")
    classes = write(tmp_path, "c.txt", "0\tcat", "1\tdog")
    found = read(list=str(listed), labels=told, classes=classes)
    assert labels(found) == {"v_1": ("cat",), "v_2": ("dog",)}
    one_based = write(tmp_path, "c1.txt", "1\tdog", "2\towl")
    with pytest.raises(InputError, match=r"the label '0' is no number from 1 to 2 and no name in"):
        read(list=str(listed), labels=told, classes=one_based)


def test_ids_may_be_a_column_and_labels_names(tmp_path: Path) -> None:
    path = write(tmp_path, "l.csv", "Id,Category", "a,cat", "b,dog")
    assert labels(read(list=path, labels=path)) == {"a": ("cat",), "b": ("dog",)}


def test_whole_paths_may_be_the_ids(tmp_path: Path) -> None:
    path = write(tmp_path, "l.txt", "a\\x.wav", "b\\x.wav")
    assert list(labels(read(list=path, path_ids=True))) == ["a/x.wav", "b/x.wav"]


def test_clips_may_have_no_label_where_that_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, "l.txt", "v_1.wav", "v_2.wav")
    assert labels(read(list=path, labelled=False)) == {"v_1": (), "v_2": ()}
    with pytest.raises(InputError, match=r"2 of 2 clips have no label by the folder .*'v_1.wav'"):
        read(list=path)
    with pytest.raises(ValidationError, match="labelled is false, but labels is given"):
        read(list=path, labelled=False, labels=path)


def test_a_clip_without_a_label_and_one_with_two_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "l.txt", "v_1.wav", "v_2.wav")
    told = write(tmp_path, "lab.txt", "v_1 cat")
    with pytest.raises(InputError, match=r"1 of 2 clips have no label in .*lab.txt, 'v_2.wav'"):
        read(list=path, labels=told)
    twice = write(tmp_path, "twice.txt", "v_1 cat", "v_1.mp4 dog", "v_2 cat")
    with pytest.raises(InputError, match=r"'v_1.mp4' has the label 'dog', and 'cat' above"):
        read(list=path, labels=twice)


def test_a_password_in_a_url_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = write(tmp_path, "l.txt", "https://me:geheim99@host/a/x.wav")
    with pytest.raises(InputError, match=r"l.txt:1: .* is a url with a password") as raised:
        read(list=path)
    assert "geheim99" not in str(raised.value)

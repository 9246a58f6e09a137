"""Files and texts in columns, found by name."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from audioflow import file_table, text_index
from audioflow.datasets.tree import Tree, is_media
from audioflow.file_table import FileTable
from audioflow.listing import FoundFile, find_files
from audioflow.storage import Folder
from audioflow.text_index import TextIndex

CHUNKS = [["b", "a"], [], ["ü", "a", ""], ["a"]]


def index() -> TextIndex:
    return TextIndex(pa.chunked_array(CHUNKS, pa.string()))


@pytest.mark.parametrize("hashed", [hash, lambda text: 0, len])
def test_texts_are_found_also_where_their_hashes_are_alike(
    hashed: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_index, "hash", hashed, raising=False)
    found = index()
    assert [found.rows(text) for text in ("a", "b", "ü", "", "c")] == [[1, 3, 5], [0], [2], [4], []]
    assert (found.row("a"), found.row("c")) == (5, None)
    assert found.repeats()


def test_texts_that_differ_do_not_repeat() -> None:
    assert not TextIndex(pa.chunked_array([["a", "b"], ["c"]])).repeats()
    assert not TextIndex(pa.chunked_array([], pa.string())).repeats()
    assert TextIndex(pa.chunked_array([], pa.string())).rows("a") == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("b/2.wav", "b/1.mp3", "a/notes.txt", "c/deep/er/3.WAV"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    odd = os.fsencode(tmp_path / "b") + b"/\xff.wav"
    Path(os.fsdecode(odd)).write_bytes(b"x")
    return tmp_path


def test_a_table_of_files_is_a_mapping_by_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_table, "_AT_ONCE", 2)
    files = find_files(str(root))
    table = FileTable(files)
    by_path = {file.relative: file for file in files}
    assert list(table) == list(by_path)
    assert len(table) == 5
    assert dict(table) == by_path
    assert "b/%FF.wav" in table
    assert table["b/%FF.wav"].url.startswith("file://"), "not the url below the root"
    assert "b/3.wav" not in table
    assert table.get("b/3.wav") is None
    with pytest.raises(KeyError, match=r"b/3\.wav"):
        table["b/3.wav"]
    rows = table.sorted(is_media)
    expected = sorted(path for path in by_path if is_media(path))
    assert [file.relative for file in table.at(rows)] == expected
    assert [table.path(row) for row in rows.tolist()] == expected


def test_a_table_of_no_file_is_empty() -> None:
    files: list[FoundFile] = []
    table = FileTable(files)
    assert (len(table), list(table), table.get("a")) == (0, [], None)
    assert list(table.at(table.sorted(is_media))) == []


def test_media_are_found_by_their_names(root: Path) -> None:
    tree = Tree.at(Folder(str(root)), "media")
    assert tree.named("4", "3") == "c/deep/er/3.WAV"
    assert tree.named("notes", "4") is None

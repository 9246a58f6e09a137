"""Lists of ids, classes and labels, as other programs keep them; arrays never unpickled."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audioflow.downloads import LocalFile
from audioflow.errors import InputError
from audioflow.id_lists import class_numbers, each_label, read_classes, read_ids
from audioflow.npy_arrays import numbers, texts


def made(folder: Path, name: str, content: Any) -> LocalFile:
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return LocalFile(str(path), name)


IDS = ["D:\\val\\a b\\v_1.wav", "v_2.wav"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", "\r\n".join(IDS) + "\r\n\r\n"),
        ("ids.txt", "\ufeff" + "\n".join(IDS)),
        ("ids.npy", np.array(IDS)),
        ("ids.npy", np.array(IDS).astype("S")),
        ("ids.npy", np.array(IDS)[:, None]),
        ("ids.csv", "Id,Category\n" + "".join(f'"{one}",3\n' for one in IDS)),
        ("ids.tsv", "Id\tCategory\n" + "".join(f"{one}\t3\n" for one in IDS)),
    ],
)
def test_ids_in_every_form(tmp_path: Path, name: str, content: Any) -> None:
    assert read_ids(made(tmp_path, name, content)) == IDS


def test_ids_of_a_named_column(tmp_path: Path) -> None:
    file = made(tmp_path, "ids.csv", "n,file\n1,a.wav\n2,b.wav\n")
    assert read_ids(file, "file") == ["a.wav", "b.wav"]
    with pytest.raises(InputError, match=r"ids.csv has no column 'fil'.*did you mean 'file'"):
        read_ids(file, "fil")
    with pytest.raises(InputError, match=r"ids.txt has no columns, so 'file' cannot be one"):
        read_ids(made(tmp_path, "ids.txt", "a"), "file")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("ids.txt", "a\n\nb\n", "id 2 of 3 is empty"),
        ("ids.txt", "", "holds no id"),
        ("ids.txt", b"a\xff\n", "is not UTF-8 text .byte 1 is 0xff"),
        ("ids.csv", "Id,Category\na,1\n,2\n", "id 2 of 2 is empty"),
        ("ids.npy", np.arange(3), r"holds \(3,\) int64; expected an array of texts"),
        ("ids.npy", np.array([["a", "b"], ["c", "d"]]), r"holds \(2, 2\) <U1"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, name: str, content: Any, why: str) -> None:
    with pytest.raises(InputError, match=f"{name}.*{why}"):
        read_ids(made(tmp_path, name, content))


@pytest.mark.parametrize(
    "end", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\n \t\n"]
)
def test_lines_of_a_text_end_as_in_one_string(tmp_path: Path, end: str) -> None:
    # Long enough for the ends of parts that are read at a time to fall into an end of a line.
    names = [f"{'x' * (number % 61)}{number}" for number in range(3000)]
    text = end.join(names) + end
    file = made(tmp_path, "ids.txt", text.encode())
    if end.isspace() and len(end) > 2:
        with pytest.raises(InputError, match="id 2 of 5999 is empty"):
            read_ids(file)
    else:
        assert read_ids(file) == names


NAMES = ["abseiling", "air drumming", "zumba"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.txt", "0\tabseiling\n1\tair drumming\n2\tzumba\n"),
        ("c.txt", "2\tzumba\n0\tabseiling\n1\tair drumming\n"),
        ("c.txt", "1 abseiling\n2 air drumming\n3 zumba\n"),
        ("c.txt", "abseiling\nair drumming\nzumba\n"),
        ("c.csv", "Label,Category\n0,abseiling\n1,air drumming\n2,zumba\n"),
        ("c.csv", "Category,Label\nabseiling,0\nair drumming,1\nzumba,2\n"),
        ("c.json", '["abseiling", "air drumming", "zumba"]'),
        ("c.json", '{"zumba": 2, "abseiling": 0, "air drumming": 1}'),
        ("c.json", '{"0": "abseiling", "1": "air drumming", "2": "zumba"}'),
        ("c.npy", np.array(NAMES)),
    ],
)
def test_classes_in_every_form(tmp_path: Path, name: str, content: Any) -> None:
    assert read_classes(made(tmp_path, name, content)) == NAMES


def test_numbers_of_classes_are_those_of_the_list(tmp_path: Path) -> None:
    found = class_numbers(made(tmp_path, "c.txt", "1\ta\n2\tb\n"))
    assert found == {1: "a", 2: "b"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("0\ta\n2\tb\n", "numbers 2 classes from 0 to 2; expected every number"),
        ("0\ta\n1\ta\n", "the class 'a' stands twice"),
        ("", "names no class"),
    ],
)
def test_classes_that_leave_a_gap_are_refused(tmp_path: Path, content: str, why: str) -> None:
    with pytest.raises(InputError, match=f"c.txt.*{why}"):
        read_classes(made(tmp_path, "c.txt", content))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.txt", "D:\\a b\\v_1.mp4 300 17\nv_2.mp4 298 4\n"),
        ("l.txt", "D:\\a b\\v_1.mp4 17\nv_2.mp4 4\n"),
        ("l.csv", "D:\\a b\\v_1.mp4,300,17\nv_2.mp4,298,4\n"),
        ("l.tsv", "D:\\a b\\v_1.mp4\t17\nv_2.mp4\t4\n"),
    ],
)
def test_labels_stand_last_whatever_stands_between(tmp_path: Path, name: str, content: str) -> None:
    expected = [("D:\\a b\\v_1.mp4", "17"), ("v_2.mp4", "4")]
    assert list(each_label(made(tmp_path, name, content))) == expected
    with pytest.raises(InputError, match=r"l.csv: 'x' has no label beside it"):
        list(each_label(made(tmp_path, "l.csv", "x\n")))


class Harmful:
    def __reduce__(self) -> Any:
        return (Path("harm").touch, ())


def test_objects_are_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = made(tmp_path, "ids.npy", np.array(["a", Harmful()], object))
    with pytest.raises(InputError, match=r"ids.npy holds Python objects, which are never"):
        texts(file)
    bare = made(tmp_path, "bare.txt", pickle.dumps(Harmful()))
    with pytest.raises(InputError, match=r"bare.txt cannot be read as npy"):
        numbers(bare, "numbers")
    assert not (tmp_path / "harm").exists()


def test_a_cut_or_empty_array_is_refused(tmp_path: Path) -> None:
    file = made(tmp_path, "a.npy", np.ones((8, 4)))
    data = Path(file.path).read_bytes()
    for size in (len(data) - 8, 40, 3, 0):
        Path(file.path).write_bytes(data[:size])
        with pytest.raises(InputError, match=r"a.npy cannot be read as npy .*; expected numbers"):
            numbers(file, "numbers")
    with pytest.raises(InputError, match=r"b.npy holds \(2,\) complex128; expected numbers"):
        numbers(made(tmp_path, "b.npy", np.ones(2, complex)), "numbers")


def test_an_array_is_mapped_not_read(tmp_path: Path) -> None:
    found = numbers(made(tmp_path, "a.npy", np.ones((8, 4), np.float16)), "numbers")
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float16

"""Forms of single score importers: layouts of arrays, wide and long text, lists in Parquet."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from audioflow.downloads import LocalFile
from audioflow.errors import InputError, StorageError
from audioflow.score_importers import SCORE_IMPORTERS
from audioflow.score_importers.base import Matrix
from audioflow.spool import blank, spooled
from audioflow.storage import Folder

N, C = 5, 3
VALUES = np.arange(N * C, dtype=np.float32).reshape(N, C)
IDS = [f"clip{row}" for row in range(N)]
CLASSES = ["dog", "cat", "owl"]


@contextlib.contextmanager
def opened(name: str, **options: Any) -> Iterator[Matrix]:
    importer = SCORE_IMPORTERS.build(name, options)
    files = [LocalFile(place.url, place.url) for place in importer.files(Folder)]
    with importer.opened(files) as matrix:
        yield matrix


# npy


def lists(folder: Path, rows: int = N, classes: int = C) -> dict[str, str]:
    (folder / "ids.txt").write_text("\n".join(f"clip{row}" for row in range(rows)))
    (folder / "c.txt").write_text("\n".join(f"class{row}" for row in range(classes)))
    return {"ids": str(folder / "ids.txt"), "classes": str(folder / "c.txt")}


def array(folder: Path, values: np.ndarray) -> str:
    np.save(folder / "s.npy", values)
    return str(folder / "s.npy")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (VALUES, "5 x 3 float32 read as clips x classes"),
        (VALUES[:, None], "5 x 1 x 3 float32 read as clips x 1 x classes"),
        (VALUES.T, "3 x 5 float32 read as classes x clips"),
        (VALUES.T[:, :, None], "3 x 5 x 1 float32 read as classes x clips x 1"),
        (np.asfortranarray(VALUES), "5 x 3 float32 read as clips x classes"),
        (VALUES.astype(np.float16)[None], "1 x 5 x 3 float16 read as 1 x clips x classes"),
        (VALUES.astype(">f8"), "5 x 3 >f8 read as clips x classes"),
    ],
)
def test_an_array_is_read_in_every_layout_without_a_copy(
    tmp_path: Path, values: np.ndarray, told: str
) -> None:
    with opened("npy", scores=array(tmp_path, values), **lists(tmp_path)) as matrix:
        assert matrix.told == told
        np.testing.assert_array_equal(np.asarray(matrix.values_NK, np.float32), VALUES)
        assert not matrix.values_NK.flags.owndata


def test_as_many_clips_as_classes_need_a_layout(tmp_path: Path) -> None:
    square = np.arange(9, dtype=np.float32).reshape(3, 3)
    given = {"scores": array(tmp_path, square)} | lists(tmp_path, 3, 3)
    with (
        pytest.raises(InputError, match=r"s.npy is 3 x 3 float32, with as many clips as classes"),
        opened("npy", **given),
    ):
        pass
    with opened("npy", layout="classes_first", **given) as matrix:
        np.testing.assert_array_equal(matrix.values_NK, square.T)
    with opened("npy", layout="clips_first", **given) as matrix:
        np.testing.assert_array_equal(matrix.values_NK, square)


@pytest.mark.parametrize("shape", [(4, 3), (5, 4), (15,), (5, 3, 2), ()])
def test_another_shape_is_refused_with_all_three_numbers(tmp_path: Path, shape: Any) -> None:
    scores = array(tmp_path, np.ones(shape, np.float32))
    with (
        pytest.raises(InputError, match=r"s.npy is .*ids.txt has 5 ids, .*c.txt has 3 classes"),
        opened("npy", scores=scores, **lists(tmp_path)),
    ):
        pass


def test_a_layout_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    given = {"scores": array(tmp_path, VALUES)} | lists(tmp_path)
    with (
        pytest.raises(InputError, match="layout classes_first does not fit, clips_first does"),
        opened("npy", layout="classes_first", **given),
    ):
        pass


# csv


def text(folder: Path, *lines: str) -> str:
    (folder / "s.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "s.csv")


def test_a_wide_file_may_have_other_columns_and_separators(tmp_path: Path) -> None:
    path = text(tmp_path, "\ufeffn;file;dog;cat;owl", "1;clip0;0;1;2", "2;clip1;3;;5e0")
    with opened("csv", scores=path, delimiter=";", id_column="file", ignore=["n"]) as matrix:
        assert matrix.ids == ["clip0", "clip1"]
        assert matrix.columns == CLASSES
        np.testing.assert_array_equal(matrix.values_NK, [[0, 1, 2], [3, np.nan, 5]])
        assert matrix.told == "wide: 2 rows of 3 classes"


LONG = [
    f"clip{row},{name},{VALUES[row, column]}"
    for row in range(2)
    for column, name in enumerate(CLASSES)
]


def test_a_long_file_is_known_by_its_texts_in_any_order(tmp_path: Path) -> None:
    lines = [LONG[place] for place in (4, 0, 3, 1, 5, 2)]
    with opened("csv", scores=text(tmp_path, "id,class,score", *lines)) as matrix:
        places = [matrix.columns.index(name) for name in CLASSES]
        rows = [matrix.ids.index(name) for name in ("clip0", "clip1")]
        np.testing.assert_array_equal(matrix.values_NK[rows][:, places], VALUES[:2])


def test_what_a_long_file_does_not_list_is_nothing_or_what_is_said(tmp_path: Path) -> None:
    path = text(tmp_path, "id,class,score", "a,dog,0.5", "a,cat,0.25", "b,dog,NaN")
    with opened("csv", scores=path) as matrix:
        np.testing.assert_array_equal(matrix.values_NK, [[0.5, 0.25], [np.inf, np.nan]])
    with opened("csv", scores=path, absent=0.0) as matrix:
        np.testing.assert_array_equal(matrix.values_NK, [[0.5, 0.25], [np.inf, 0]])


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["id,class,score", "a,dog,1", "a,dog,2"], "'a' has two scores of 'dog'; keep one"),
        (["id,class,score", "a,dog,1", ",dog,2"], "names no clip or class"),
        (["id,dog,dog", "a,1,2"], "two columns named 'dog'"),
        (["id", "a"], "has 1 columns; expected an id and scores"),
        (["id,dog,cat", "a,1,x"], "cannot be read: .*conversion error.*named by ignore"),
        (["id,dog,cat", "a,1"], "cannot be read: .*Expected 3 columns, got 2"),
    ],
)
def test_a_text_that_does_not_fit_is_refused(tmp_path: Path, lines: list[str], why: str) -> None:
    with (
        pytest.raises(InputError, match=f"s.csv.*{why}"),
        opened("csv", scores=text(tmp_path, *lines)),
    ):
        pass


def test_a_column_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = text(tmp_path, "id,dog,cat", "a,1,2")
    with (
        pytest.raises(InputError, match=r"ignore names the column 'dgo'.*did you mean 'dog'"),
        opened("csv", scores=path, ignore=["dgo"]),
    ):
        pass


# parquet


def table(folder: Path, name: str = "s.parquet", **columns: Any) -> str:
    pq.write_table(pa.table(columns), folder / name)
    return str(folder / name)


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), C)])
def test_a_column_of_lists_takes_its_classes_from_a_list(tmp_path: Path, kind: Any) -> None:
    rows = [*VALUES[:4].tolist(), None]
    path = table(tmp_path, label=["x"] * N, clip_id=IDS, scores=pa.array(rows, kind), n=range(N))
    (tmp_path / "c.json").write_text(json.dumps(CLASSES))
    with opened("parquet", scores=path, classes=str(tmp_path / "c.json")) as matrix:
        assert (matrix.ids, matrix.columns) == (IDS, CLASSES)
        np.testing.assert_array_equal(matrix.values_NK[:4], VALUES[:4])
        assert np.isnan(matrix.values_NK[4]).all()
    with (
        pytest.raises(InputError, match="'scores' is of lists, and nothing names their classes"),
        opened("parquet", scores=path),
    ):
        pass


def test_a_list_of_another_length_is_told_with_its_row(tmp_path: Path) -> None:
    path = table(tmp_path, id=["a", "b"], scores=[[1.0, 2.0, 3.0], [1.0]])
    (tmp_path / "c.txt").write_text("\n".join(CLASSES))
    with (
        pytest.raises(InputError, match="'scores' has 1 numbers in row 2, expected 3"),
        opened("parquet", scores=path, classes=str(tmp_path / "c.txt")),
    ):
        pass


def test_a_folder_is_read_as_one(tmp_path: Path) -> None:
    table(tmp_path, "1.parquet", file=IDS[:3], dog=[1, 2, 3], cat=[1.0, 2.0, 3.0])
    table(tmp_path, "2.parquet", cat=[4.0, 5.0], file=IDS[3:], dog=[4, 5])
    with opened("parquet", scores=str(tmp_path)) as matrix:
        assert (matrix.ids, matrix.columns) == (IDS, ["dog", "cat"])
        np.testing.assert_array_equal(matrix.values_NK.T, [[1, 2, 3, 4, 5]] * 2)
    with (
        pytest.raises(InputError, match=r"gone holds no .parquet file"),
        opened("parquet", scores=str(tmp_path / "gone")),
    ):
        pass


# Matrices on disk


def test_a_matrix_is_made_on_disk_and_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with spooled(iter([VALUES[:2], VALUES[2:]]), C) as found:
        np.testing.assert_array_equal(found, VALUES)
        assert len(list(tmp_path.rglob("*.f32"))) == 1
    with blank(2, 3) as found:
        assert np.isnan(found).all()
        found[1, 1] = 4
    assert list(tmp_path.iterdir()) == []
    with spooled(iter([]), C) as found:
        assert found.shape == (0, C)


def test_no_room_for_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with (
        pytest.raises(StorageError, match=r"the scores do not fit in .*; make room there, or set"),
        blank(2, 3),
    ):
        pass

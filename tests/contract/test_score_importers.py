"""What every registered score importer promises. A new one needs an example here."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from audioflow.downloads import LocalFile
from audioflow.errors import InputError
from audioflow.score_importers import SCORE_IMPORTERS
from audioflow.score_importers.base import Matrix, ScoreImporter
from audioflow.storage import Folder

IDS = ["b/1.wav", "a/2.wav", "a/1.wav", "C:\\c\\1.wav"]
CLASSES = ["dog", "cat, small", "owl"]
VALUES = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
VALUES[2, 1] = np.nan


def npy(root: Path) -> dict[str, Any]:
    np.save(root / "scores.npy", VALUES)
    (root / "ids.txt").write_text("\n".join(IDS))
    (root / "classes.txt").write_text("\n".join(CLASSES))
    names = {"scores": "scores.npy", "ids": "ids.txt", "classes": "classes.txt"}
    return {key: str(root / name) for key, name in names.items()}


def csv(root: Path) -> dict[str, Any]:
    lines = ['file,dog,"cat, small",owl']
    for name, row in zip(IDS, VALUES.tolist(), strict=True):
        lines.append(",".join([name, *("" if np.isnan(one) else repr(one) for one in row)]))
    (root / "scores.csv").write_text("\n".join(lines))
    return {"scores": str(root / "scores.csv")}


def parquet(root: Path) -> dict[str, Any]:
    columns: dict[str, Any] = {"file": IDS}
    columns |= dict(zip(CLASSES, VALUES.T.astype(np.float64), strict=True))
    pq.write_table(pa.table(columns), root / "scores.parquet")
    return {"scores": str(root / "scores.parquet")}


EXAMPLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "npy": npy,
    "csv": csv,
    "parquet": parquet,
}


def built(name: str, root: Path, **changes: Any) -> ScoreImporter:
    importer: ScoreImporter = SCORE_IMPORTERS.build(name, EXAMPLES[name](root) | changes)
    return importer


@contextlib.contextmanager
def opened(importer: ScoreImporter) -> Iterator[Matrix]:
    files = [LocalFile(place.url, place.url) for place in importer.files(Folder)]
    with importer.opened(files) as matrix:
        yield matrix


def test_every_score_importer_has_an_example() -> None:
    assert sorted(EXAMPLES) == SCORE_IMPORTERS.names()


@pytest.mark.parametrize("name", SCORE_IMPORTERS.names())
def test_ids_classes_and_values_are_those_of_the_file(name: str, tmp_path: Path) -> None:
    with opened(built(name, tmp_path)) as matrix:
        assert list(matrix.ids) == IDS
        assert list(matrix.columns) == CLASSES
        np.testing.assert_allclose(matrix.values_NK, VALUES, rtol=1e-6)
        assert matrix.told


@pytest.mark.parametrize("name", SCORE_IMPORTERS.names())
def test_the_place_of_the_files_does_not_count_and_all_else_does(name: str, tmp_path: Path) -> None:
    importer = built(name, tmp_path)
    settings = importer.what_counts()
    assert built(name, tmp_path, scores="elsewhere").what_counts() == settings
    assert built(name, tmp_path, key="uri").what_counts() != settings
    named = {"scores", "ids", "classes"}
    assert set(settings) == set(SCORE_IMPORTERS.load(name).Settings.model_fields) - named
    assert SCORE_IMPORTERS.load(name).revision >= 1


@pytest.mark.parametrize("name", SCORE_IMPORTERS.names())
def test_a_file_that_holds_something_else_is_named(name: str, tmp_path: Path) -> None:
    importer = built(name, tmp_path)
    Path(importer.files(Folder)[0].url).write_text("no scores\n")
    with (
        pytest.raises(InputError, match=r"scores\.\w+ (cannot be read|has 1 columns)"),
        opened(importer),
    ):
        pass

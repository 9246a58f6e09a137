"""The importer `number_table`: CSV files with a row per clip, as others write them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from audioflow.downloads import LocalFile
from audioflow.embeddings import ClipEmbedding
from audioflow.engine.embed_plan import embed_shards
from audioflow.engine.imports import import_tables
from audioflow.engine.manifest import make_manifest
from audioflow.engine.run import Run
from audioflow.errors import InputError
from audioflow.importers import IMPORTERS
from audioflow.recipe import Recipe
from audioflow.storage import Folder
from tests.published import KAGGLE_COLUMNS, kaggle_features
from tests.trees import gtzan

CORRELATED = ["spectral_centroid_mean", "spectral_bandwidth_mean", "mfcc2_mean"]
"""What the published SVM leaves out of them, since other columns tell the same."""


def read(folder: Path, text: str, *clips: str, **options: Any) -> list[ClipEmbedding]:
    """The vectors of clips from one file with this text."""
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    importer = IMPORTERS.build("number_table", {"files": [str(path)]} | options)
    with importer.opened([LocalFile(str(path), str(path))]) as imported:
        return [imported.embedding(clip) for clip in clips]


def vectors(folder: Path, text: str, clip: str, **options: Any) -> list[list[float]]:
    (found,) = read(folder, text, clip, **options)
    return found.layers["embedding"].tolist()


def test_the_kaggle_table_of_gtzan_is_matched_by_file_and_its_columns_chosen(
    tmp_path: Path,
) -> None:
    manifest = {"reader": "gtzan"} | gtzan(str(tmp_path / "gtzan"))
    clips = [f"{genre}/{genre}.{number:05d}" for genre in ("blues", "jazz") for number in range(5)]
    rows_ND = kaggle_features(tmp_path / "features_30_sec.csv", [*clips[:-2], "rock/rock.00000"])
    recipe = Recipe.model_validate(
        {
            "run_dir": str(tmp_path / "run"),
            "manifest": manifest,
            "embed": {
                "imports": {
                    "kaggle": {
                        "name": "number_table",
                        "files": [str(tmp_path / "features_30_sec.csv")],
                        "columns": {"drop": CORRELATED},
                        "hop_s": 30.0,
                    }
                }
            },
        }
    )
    told: list[str] = []
    run = Run(recipe, lambda event: told.append(str(event.data.get("text", ""))))
    parent = make_manifest(run)
    assert recipe.embed is not None
    (header,) = import_tables(run, parent, embed_shards(run.manifest().read(), recipe.embed))
    kept = [name for name in KAGGLE_COLUMNS if name not in CORRELATED]
    assert len(kept) == 55
    assert header.settings["layers"] == {"embedding": 55}
    assert header.settings["column_names"] == {"embedding": kept}
    assert (header.rows, header.failures) == (7, 1)  # jazz.00003 is listed, and not in the table
    assert any("2 clips of its files are not in the manifest" in text for text in told)
    rows = {row["clip_id"]: row for row in run.embeddings("kaggle").read().to_pylist()}
    wanted = rows_ND[clips.index("jazz/jazz.00002")][[KAGGLE_COLUMNS.index(name) for name in kept]]
    np.testing.assert_array_equal(rows["jazz/jazz.00002"]["embedding"], wanted[None].astype("f4"))
    assert rows["jazz/jazz.00002"]["duration_s"] == 30.0


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_what_separates_columns_is_told_by_the_first_line(tmp_path: Path, delimiter: str) -> None:
    text = "id,a,b\n\nx, 1,2.5e1\ny,-3,4\n".replace(",", delimiter)
    assert vectors(tmp_path, text, "x") == [[1.0, 25.0]]
    assert vectors(tmp_path, text, "y", delimiter=delimiter) == [[-3.0, 4.0]]


def test_a_table_of_pandas_with_its_own_index_and_names_in_any_column(tmp_path: Path) -> None:
    text = ',a,Genre,path,b,y\n0,1,rock,"d/x, live.wav",2,9\n1,3,pop,d/z.wav,4,8\n'
    assert vectors(tmp_path, text, "d/x, live.wav", id_column="path") == [[1.0, 2.0]]
    with_y = {"id_column": "path", "columns": {"keep": ["b", "y"]}}
    assert vectors(tmp_path, text, "d/z.wav", **with_y) == [[4.0, 8.0]]
    options = {"id_column": "path", "label_columns": ["genre"]}
    assert vectors(tmp_path, text, "d/z.wav", **options) == [[3.0, 4.0, 8.0]]


def test_columns_are_chosen_by_name_or_by_a_pattern(tmp_path: Path) -> None:
    text = "id,mfcc1,mfcc2,tempo\nx,1,2,3\n"
    assert vectors(tmp_path, text, "x", columns={"keep": ["tempo", "mfcc1"]}) == [[1.0, 3.0]]
    assert vectors(tmp_path, text, "x", columns={"keep": ["mfcc*"]}) == [[1.0, 2.0]]
    assert vectors(tmp_path, text, "x", columns={"drop": ["mfcc*"]}) == [[3.0]]


def test_rows_of_patches_and_names_that_number_them(tmp_path: Path) -> None:
    text = "file,a\nx.0.wav,1\ny.0.wav,9\nx.1.wav,2\n"
    options = {"id_pattern": r"(.+)\.\d+\.wav", "patches": True, "hop_s": 3.0}
    one, other = read(tmp_path, text, "x", "y", **options)
    assert one.layers["embedding"].tolist() == [[1.0], [2.0]]
    assert one.patch_start_s.tolist() == [0.0, 3.0]
    assert (one.duration_s, other.duration_s) == (6.0, 3.0)


def test_a_decimal_comma_is_read_where_it_is_said(tmp_path: Path) -> None:
    assert vectors(tmp_path, "id;a\nx;0,35\n", "x", decimal=",") == [[pytest.approx(0.35)]]
    with pytest.raises(InputError, match=r"csv:2: a of 'x' is '0,35', .* with decimal: ','"):
        read(tmp_path, "id;a\nx;0,35\n", "x")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,a\nx,1\ny,loud\n", r"csv:3: a of 'y' is 'loud', which is no finite number; leave the"),
        ("id,a,b\nx,1,\n", r"csv:2: b of 'x' is empty; leave the column out \(columns: \{drop: \["),
        ("id,a\nx,nan\n", r"csv:2: a of 'x' is 'nan', which is no finite number"),
        ("id,a\nx,1e99\n", r"csv:2: a of 'x' is '1e99', which is no finite number"),
        ("id,a,b\nx,1,2\ny,1\n", r"csv:3 has 2 cells, the first line names 3 columns"),
        ("id,a\nx,1\ny,2\nx,3\n", r"csv:4: 'x' stands in line 2 already; .* patches: true"),
        ("id,a\nx,1\n,2\n", r"csv:3: id is empty"),
        ("id,a\n", r"csv has no row below its first line"),
        ("", r"csv: it cannot be read as a table: it is empty"),
        ("id\nx\n", r"csv: it cannot be read as a table: its first line, 'id', is one cell"),
        ("id,a,a\nx,1,2\n", r"csv has two columns named 'a'; rename one of them"),
        ("id,label\nx,1\n", r"csv has no column of numbers beside 'id' that columns and label_"),
        ("a,b,y\n0.35,0.1,3\n", r"first column, 'a', begins with '0.35', which is no name of a"),
    ],
)
def test_a_table_that_cannot_be_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read(tmp_path, text, "x")


def test_columns_that_are_not_there_are_told_with_those_that_are(tmp_path: Path) -> None:
    text = "id,mfcc1,mfcc2\nx,1,2\n"
    with pytest.raises(InputError, match=r"columns.keep names the column 'mfc1', .* 'mfcc1'\?"):
        read(tmp_path, text, "x", columns={"keep": ["mfc1"]})
    with pytest.raises(InputError, match=r"columns.drop names the column 'rms\*', which is not"):
        read(tmp_path, text, "x", columns={"drop": ["rms*"]})
    with pytest.raises(InputError, match=r"id_column names the column 'file', .* has id, mfcc1"):
        read(tmp_path, text, "x", id_column="file")
    with pytest.raises(InputError, match=r"csv:2: the name 'x' has nothing that id_pattern '\(y"):
        read(tmp_path, text, "x", id_pattern="(y+)")


def test_files_of_one_table_have_the_same_columns_and_no_clip_in_common(tmp_path: Path) -> None:
    texts = {"1.csv": "id,a,b\nx,1,2\n", "2.csv": "id,b,a\ny,4,3\n", "3.csv": "id;a\nz;1\n"}
    texts["4.csv"] = "id,a,b\nx,1,2\n"
    files = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        files.append(LocalFile(str(tmp_path / name), str(tmp_path / name)))
    importer = IMPORTERS.build("number_table", {"files": list(texts)})
    with importer.opened(files[:2]) as imported:
        assert imported.embedding("y").layers["embedding"].tolist() == [[3.0, 4.0]]
    with (
        pytest.raises(InputError, match=r"3.csv has no column 'b', which .*1.csv has; import"),
        importer.opened([files[0], files[2]]),
    ):
        pass
    with (
        pytest.raises(InputError, match=r"clip 'x' stands in .*1.csv and in .*4.csv"),
        importer.opened([files[0], files[3]]),
    ):
        pass


def test_text_in_another_code_is_told(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes("id,a\nxyz,1\n".encode("utf-16"))
    importer = IMPORTERS.build("number_table", {"files": ["table.csv"]})
    place = str(tmp_path / "table.csv")
    with (
        pytest.raises(InputError, match=r"csv: it cannot be read as UTF-8 text .*; save it as"),
        importer.opened([LocalFile(place, place)]),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"columns": {"keep": ["a"], "drop": ["b"]}}, "says both keep and drop"),
        ({"columns": {}}, "says neither keep nor drop"),
        ({"delimiter": '"'}, "'\"' cannot separate columns"),
        ({"id_pattern": "("}, "'\\(' is no regular expression"),
        ({"delimiter": ",", "decimal": ","}, "delimiter and decimal are both ','"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        IMPORTERS.build("number_table", {"files": ["x"]} | options)


def test_the_place_of_a_table_may_be_any_url() -> None:
    importer = IMPORTERS.build("number_table", {"files": ["s3://bucket/a.csv", "/b.csv"]})
    assert [place.folder.url for place in importer.files(Folder)] == ["s3://bucket/a.csv", "/b.csv"]

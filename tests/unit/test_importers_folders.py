"""Importers of folders: `soundnet_csv`, `mel_npy` and `hf_dataset`, and whose vectors are whose."""

import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from audioflow.downloads import LocalFile, local_files
from audioflow.embeddings import ClipEmbedding
from audioflow.engine.embed_plan import embed_shards
from audioflow.engine.imports import import_tables
from audioflow.engine.manifest import make_manifest
from audioflow.engine.run import Run
from audioflow.errors import InputError
from audioflow.importers import IMPORTERS
from audioflow.recipe import Recipe
from audioflow.storage import Folder
from audioflow.tables import Header
from tests.trees import cmu11775, kinetics

IDS = [f"{name:=<8}" for name in "abcdefghij0123456789"]
"""The clips of the tree `cmu11775`."""


def random(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def one(name: str, clip_id: str, **options: Any) -> ClipEmbedding:
    """The vectors of a clip, straight from an importer."""
    importer = IMPORTERS.build(name, options)
    places = importer.files(Folder)
    files = [LocalFile(place.folder.url, place.folder.url, place.name) for place in places]
    with importer.opened(files) as imported:
        found: ClipEmbedding = imported.embedding(clip_id)
        return found


def embed(tmp_path: Path, manifest: dict[str, Any], **choice: Any) -> tuple[Header, list[Any]]:
    """The table of one entry of `embed.imports`, and its rows."""
    recipe = Recipe.model_validate(
        {
            "run_dir": str(tmp_path / "run"),
            "manifest": manifest,
            "embed": {"imports": {"theirs": choice}, "clips_per_shard": 8},
        }
    )
    run = Run(recipe, lambda event: None)
    parent = make_manifest(run)
    assert recipe.embed is not None
    (header,) = import_tables(run, parent, embed_shards(run.manifest().read(), recipe.embed))
    return header, run.embeddings("theirs").read().to_pylist()


# soundnet_csv


def soundnet(root: Path, layers: dict[str, int]) -> dict[str, Any]:
    for layer, width in layers.items():
        (root / layer).mkdir(parents=True)
        for number, clip in enumerate(IDS):
            vector = np.arange(width, dtype=np.float32) + 1000 * number
            np.savetxt(root / layer / f"{clip}.csv", vector, delimiter=";")
    return {"name": "soundnet_csv", "folder": str(root), "layers": list(layers)}


def test_features_of_soundnet_are_layers_of_the_clips_of_the_course(tmp_path: Path) -> None:
    choice = soundnet(tmp_path / "snf", {"pool5": 256, "conv6": 512})
    (tmp_path / "snf" / "conv6" / "c=======.csv").unlink()
    manifest = {"reader": "cmu11775"} | cmu11775(str(tmp_path / "data"))
    header, rows = embed(tmp_path, manifest, **choice)
    assert header.settings["layers"] == {"pool5": 256, "conv6": 512}
    assert (header.rows, header.failures) == (19, 1)
    (row,) = [row for row in rows if row["clip_id"] == "d======="]
    assert np.shape(row["pool5"]) == (1, 256)
    assert row["conv6"][0][:2] == [3000.0, 3001.0]
    assert "c=======" not in {row["clip_id"] for row in rows}


def test_other_names_of_the_same_files_are_other_vectors(tmp_path: Path) -> None:
    choice = soundnet(tmp_path / "snf", {"pool5": 4})
    manifest = {"reader": "cmu11775"} | cmu11775(str(tmp_path / "data"))
    first, _ = embed(tmp_path, manifest, **choice)
    assert embed(tmp_path, manifest, **choice)[0] == first
    shutil.move(tmp_path / "snf", tmp_path / "moved")
    moved, _ = embed(tmp_path, manifest, **choice | {"folder": str(tmp_path / "moved")})
    assert moved.settings["vectors"] == first.settings["vectors"]
    one, other = (tmp_path / "moved" / "pool5" / f"{name}.csv" for name in IDS[:2])
    one.rename(tmp_path / "kept")
    other.rename(one)
    (tmp_path / "kept").rename(other)
    swapped, rows = embed(tmp_path, manifest, **choice | {"folder": str(tmp_path / "moved")})
    assert swapped.settings["vectors"] != first.settings["vectors"]
    (row,) = [row for row in rows if row["clip_id"] == IDS[0]]
    assert row["pool5"][0][0] == 1000.0


def test_lines_of_several_numbers_are_vectors(tmp_path: Path) -> None:
    (tmp_path / "mfcc").mkdir()
    np.savetxt(tmp_path / "mfcc" / "a.csv", random(5, 3), delimiter=";")
    (tmp_path / "mfcc" / "b.csv").write_text("1;2;3\n")
    options = {"folder": str(tmp_path), "layers": ["mfcc"], "hop_s": 0.01}
    found = one("soundnet_csv", "a", **options)
    np.testing.assert_allclose(found.layers["mfcc"], random(5, 3), rtol=1e-6)
    assert found.patch_start_s.tolist() == pytest.approx([0, 0.01, 0.02, 0.03, 0.04])
    assert one("soundnet_csv", "b", **options).layers["mfcc"].tolist() == [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1\n2\nx\n", r"b\.csv: it cannot be read as numbers: could not convert string 'x'"),
        ("1\nnan\n3\n", r"b\.csv holds no number, or one that is not finite"),
        ("", r"b\.csv holds no number, or one that is not finite"),
        ("1\n2\n", r"b\.csv holds 1 x 2 numbers; expected 1 x 3, as other files of the layer"),
    ],
)
def test_texts_that_are_no_vectors_are_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.csv").write_text("1\n2\n3\n")
    (tmp_path / "x" / "b.csv").write_text(text)
    with pytest.raises(InputError, match=told):
        one("soundnet_csv", "b", folder=str(tmp_path), layers=["x"])


def test_a_layer_without_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.csv").write_text("1\n2\n3\n")
    with pytest.raises(InputError, match=r"any other file of the layer 'y'; expected y/<id>\.csv"):
        one("soundnet_csv", "a", folder=str(tmp_path), layers=["x", "y"])
    with pytest.raises(ValidationError, match="'coverage' is a column of every embeddings table"):
        IMPORTERS.build("soundnet_csv", {"folder": "x", "layers": ["coverage"]})


# mel_npy


def mels(root: Path, manifest: dict[str, Any], patches: int = 3) -> dict[str, Any]:
    """Patches of the videos of a tree, in the folders of their sounds."""
    for path in Path(manifest["root"]).rglob("*.mp4"):
        folder = root / path.parent.relative_to(manifest["root"]) / f"{path.stem}.wav"
        folder.mkdir(parents=True)
        for number in range(patches):
            values = np.full((64, 96), number, np.float32)
            values[0] = np.arange(96)
            np.save(folder / f"{path.stem}_{number}.npy", values)
    return {"name": "mel_npy", "folder": str(root)}


def test_patches_of_kinetics_are_frames_of_the_clips_of_the_same_name(tmp_path: Path) -> None:
    manifest = kinetics(str(tmp_path / "k600"))
    choice = mels(tmp_path / "mel", manifest)
    columns = {"column": "split", "train": ["train"], "test": ["val"]}
    header, rows = embed(tmp_path, manifest | {"reader": "kinetics", "splits": columns}, **choice)
    assert (header.rows, header.failures) == (6, 0)
    assert header.settings["layers"] == {"spectrogram": 64}
    frames = np.array(rows[0]["spectrogram"]).reshape(3, 96, 64)
    assert frames[2, :, 0].tolist() == list(range(96))
    assert (frames[1, :, 1:] == 1).all()
    assert rows[0]["patch_start_s"] == pytest.approx([0, 0.96, 1.92])
    assert rows[0]["duration_s"] == pytest.approx(2.88)


def test_patches_stand_where_their_numbers_say(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "x.wav"
    folder.mkdir(parents=True)
    for number in (0, 2, 10):
        np.save(folder / f"x_{number}.npy", np.full((5, 4), number, np.float64))
    found = one("mel_npy", "a/x.wav", folder=str(tmp_path), hop_s=1.0, bands_first=False)
    assert found.patch_start_s.tolist() == [0.0, 2.0, 10.0]
    assert found.layers["spectrogram"][:, 0].tolist() == [0] * 5 + [2] * 5 + [10] * 5
    assert found.duration_s == 11.0


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros(3), r"x_1\.npy holds \(3,\) float64; expected an array of two dimensions"),
        (np.zeros((4, 6)), r"x_1\.npy holds 6 frames of 4 bands; expected 6 of 5 as in other"),
        (np.full((5, 6), np.inf), r"x_1\.npy holds 6 frames of 5 bands; expected .*all finite"),
        (np.array(["a"]), r"x_1\.npy holds \(1,\) <U1; expected an array of two dimensions"),
    ],
)
def test_arrays_that_are_no_spectrograms_are_told(
    tmp_path: Path, array: NDArray[Any], told: str
) -> None:
    folder = tmp_path / "a" / "x.wav"
    folder.mkdir(parents=True)
    np.save(folder / "x_0.npy", np.zeros((5, 6)))
    np.save(folder / "x_1.npy", array)
    with pytest.raises(InputError, match=told):
        one("mel_npy", "a/x.wav", folder=str(tmp_path))


def test_names_that_do_not_tell_a_clip_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 6)))
    with pytest.raises(InputError, match=r"x\.npy: it cannot be read whose it is; expected <class"):
        one("mel_npy", "a", folder=str(tmp_path))
    (tmp_path / "x.npy").unlink()
    for split in ("train", "val"):
        (tmp_path / split / "a" / "x.wav").mkdir(parents=True)
        np.save(tmp_path / split / "a" / "x.wav" / "x_0.npy", np.zeros((5, 6)))
    with pytest.raises(InputError, match=r"are the same patch of 'a/x\.wav'; keep one of them"):
        one("mel_npy", "a/x.wav", folder=str(tmp_path))


# hf_dataset


def stream(path: Path, **columns: Any) -> None:
    """A file as `save_to_disk` writes it: an Arrow stream."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    with pa.ipc.new_stream(path, table.schema) as out:
        out.write_table(table, max_chunksize=2)


def test_rows_are_clips_or_patches_of_clips_over_several_files(tmp_path: Path) -> None:
    stream(tmp_path / "data-00000-of-00002.arrow", id=["a", "b", "b"], x=random(3, 4).tolist())
    stream(tmp_path / "data-00001-of-00002.arrow", id=["b", "c"], x=random(5, 4)[3:].tolist())
    stream(tmp_path / "cache-0123.arrow", other=["a"])
    (tmp_path / "state.json").write_text("{}")
    options = {"folder": str(tmp_path), "id_column": "id", "layers": {"embedding": "x"}}
    found = one("hf_dataset", "b", **options, hop_s=0.5)
    np.testing.assert_array_equal(found.layers["embedding"], random(5, 4)[1:4])
    assert found.patch_start_s.tolist() == [0.0, 0.5, 1.0]
    assert one("hf_dataset", "c", **options).layers["embedding"].shape == (1, 4)


def test_ids_may_be_a_field_and_are_matched_by_the_name_of_the_file(tmp_path: Path) -> None:
    manifest = {"reader": "cmu11775"} | cmu11775(str(tmp_path / "data"))
    audio = [{"bytes": b"", "path": f"/elsewhere/{name}.wav"} for name in IDS]
    columns = {"audio": audio, "emb": [[float(number)] * 3 for number in range(20)]}
    (tmp_path / "hf").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "hf" / "train.parquet", row_group_size=7)
    choice = {"folder": str(tmp_path / "hf"), "id_column": "audio.path", "layers": {"clap": "emb"}}
    header, rows = embed(tmp_path, manifest, name="hf_dataset", key="stem", **choice)
    assert (header.rows, header.failures) == (20, 0)
    assert {row["clip_id"]: row["clap"][0][0] for row in rows} == {
        name: float(number) for number, name in enumerate(IDS)
    }


def test_a_store_gives_what_a_folder_does(tmp_path: Path) -> None:
    stream(tmp_path / "hf" / "data.arrow", id=["a", "b"], x=random(2, 4).tolist())
    remote = Folder(f"memory://{uuid.uuid4().hex}/hf")
    remote.write("data.arrow", (tmp_path / "hf" / "data.arrow").read_bytes())
    importer = IMPORTERS.build(
        "hf_dataset", {"folder": remote.url, "id_column": "id", "layers": {"embedding": "x"}}
    )
    (place,) = importer.files(Folder)
    with local_files([place.folder.url]) as (file,):
        assert Path(file.path).is_file()
        with importer.opened([LocalFile(file.path, file.url, place.name)]) as imported:
            found = imported.embedding("b").layers["embedding"]
    np.testing.assert_array_equal(found, random(2, 4)[1:])
    assert not Path(file.path).exists()


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"id": ["a"], "y": [[1.0]]}, r"has no column 'x'; columns: id, y"),
        ({"name": ["a"], "x": [[1.0]]}, r"has no column 'id'; columns: name, x"),
        ({"id": [1], "x": [[1.0]]}, r"id of row 1 is 1; expected a text"),
        ({"id": ["a"], "x": [None]}, r"x of clip 'a' is no vector, and no list of vectors"),
        ({"id": ["a"], "x": [[float("nan")]]}, r"x of clip 'a' is no vector.*of finite numbers"),
        ({"id": ["b", "a"], "x": [[1.0], [1.0, 2.0]]}, r"x of clip 'a' is no .*of width 1, as the"),
    ],
)
def test_tables_that_hold_no_vectors_are_told(
    tmp_path: Path, columns: dict[str, Any], told: str
) -> None:
    stream(tmp_path / "data.arrow", **columns)
    with pytest.raises(InputError, match=rf"data\.arrow.*{told}"):
        one("hf_dataset", "a", folder=str(tmp_path), id_column="id", layers={"embedding": "x"})


def test_a_clip_in_two_splits_is_told(tmp_path: Path) -> None:
    for split in ("train", "test"):
        stream(tmp_path / split / "data.arrow", id=["a"], x=[[1.0]])
    with pytest.raises(InputError, match=r"clip 'a' stands in .*test/data.*train/data.*splits"):
        one("hf_dataset", "a", folder=str(tmp_path), id_column="id", layers={"embedding": "x"})

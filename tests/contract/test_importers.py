"""What every registered importer promises. A new one needs an example here."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audioflow.errors import InputError
from audioflow.importers import IMPORTERS
from audioflow.importers.base import Importer, LocalFile
from audioflow.storage import Folder

COUNTS = {"a/1.wav": 3, "a/2.wav": 1, "b/1.wav": 2}
"""Patches of the clips of every example."""


def npz(root: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    ids = [clip for clip, count in COUNTS.items() for _ in range(count)]
    np.savez(root / "1.npz", X=rng.normal(size=(4, 5)).astype("f4"), IDS=np.array(ids[:4]))
    np.savez(root / "2.npz", X=rng.normal(size=(2, 5)).astype("f4"), IDS=np.array(ids[4:]))
    return {"files": [str(root / "1.npz"), str(root / "2.npz")], "hop_s": 0.5}


def soundnet_csv(root: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for layer, width in (("pool5", 4), ("conv6", 6)):
        for clip, count in COUNTS.items():
            path = root / "snf" / layer / f"{clip}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(path, rng.normal(size=(count, width)), delimiter=";")
    return {"folder": str(root / "snf"), "layers": ["pool5", "conv6"]}


def mel_npy(root: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for clip, count in COUNTS.items():
        folder = root / "val" / clip
        folder.mkdir(parents=True)
        for number in range(count):
            np.save(folder / f"{folder.stem}_{number}.npy", rng.normal(size=(4, 6)).astype("f4"))
    return {"folder": str(root / "val"), "key": "clip_id"}


def hf_dataset(root: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(count, 5)).tolist() for count in COUNTS.values()]
    table = pa.table({"file": list(COUNTS), "vector": vectors})
    (root / "hf").mkdir()
    with pa.ipc.new_stream(root / "hf" / "data-00000-of-00002.arrow", table.schema) as out:
        out.write_table(table[:2])
    pq.write_table(table[2:], root / "hf" / "more.parquet")
    layers = {"embedding": "vector", "again": "vector"}
    return {"folder": str(root / "hf"), "id_column": "file", "layers": layers}


def number_table(root: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    lines = ["file;tempo;mfcc1;mfcc2;label"]
    for clip, count in COUNTS.items():
        for numbers in rng.normal(size=(count, 3)).round(4).tolist():
            lines.append(";".join([clip, *map(str, numbers), "rain"]))
    for name, rows in (("1.csv", lines[1:5]), ("2.csv", lines[5:])):
        (root / name).write_text("\n".join([lines[0], *rows]) + "\n", encoding="utf-8-sig")
    files = [str(root / "1.csv"), str(root / "2.csv")]
    return {"files": files, "patches": True, "hop_s": 0.5, "key": "clip_id"}


EXAMPLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "npz": npz,
    "soundnet_csv": soundnet_csv,
    "mel_npy": mel_npy,
    "hf_dataset": hf_dataset,
    "number_table": number_table,
}
PLACES = {"files", "folder"}
"""Settings that say where the files lie."""


def made(name: str, root: Path) -> dict[str, Any]:
    """The example of an importer, which is made once."""
    kept = root / "options.json"
    if not kept.exists():
        kept.write_text(json.dumps(EXAMPLES[name](root)))
    options: dict[str, Any] = json.loads(kept.read_text())
    return options


def built(name: str, root: Path, **changes: Any) -> Importer:
    importer: Importer = IMPORTERS.build(name, made(name, root) | changes)
    return importer


def files_of(importer: Importer) -> Sequence[LocalFile]:
    places = importer.files(Folder)
    return [LocalFile(place.folder.url, place.folder.url, place.name) for place in places]


def test_every_importer_has_an_example() -> None:
    assert sorted(EXAMPLES) == IMPORTERS.names()


@pytest.mark.parametrize("name", IMPORTERS.names())
def test_clips_have_finite_vectors_of_the_layers_that_were_told(name: str, tmp_path: Path) -> None:
    importer = built(name, tmp_path)
    with importer.opened(files_of(importer)) as imported:
        assert list(imported.layers) == list(importer.layers)
        assert sorted(imported.clip_ids) == sorted(COUNTS)
        for clip_id, count in COUNTS.items():
            found = imported.embedding(clip_id)
            assert list(found.layers) == list(importer.layers)
            for layer, vectors in found.layers.items():
                assert vectors.dtype == np.float32
                assert vectors.shape[1] == imported.layers[layer]
                assert len(vectors) >= count
                assert len(vectors) % count == 0
                assert np.isfinite(vectors).all()
            assert len(found.patch_start_s) == count
            assert np.all(np.diff(found.patch_start_s) > 0)
            assert found.duration_s > found.patch_start_s[-1] >= 0
            assert (found.variant, found.coverage) == (0, 1.0)


@pytest.mark.parametrize("name", IMPORTERS.names())
def test_the_same_files_give_the_same_vectors_in_any_order(name: str, tmp_path: Path) -> None:
    importer = built(name, tmp_path)
    files = files_of(importer)
    with importer.opened(files) as first, importer.opened(files[::-1]) as second:
        for clip_id in COUNTS:
            one, other = first.embedding(clip_id), second.embedding(clip_id)
            for layer in importer.layers:
                np.testing.assert_array_equal(one.layers[layer], other.layers[layer])


@pytest.mark.parametrize("name", IMPORTERS.names())
def test_a_clip_that_is_not_there_is_no_clip(name: str, tmp_path: Path) -> None:
    importer = built(name, tmp_path)
    with importer.opened(files_of(importer)) as imported:
        assert "c/1.wav" not in imported.clip_ids
        with pytest.raises(KeyError, match=r"c/1\.wav"):
            imported.embedding("c/1.wav")


@pytest.mark.parametrize("name", IMPORTERS.names())
def test_the_place_of_the_files_does_not_count_and_all_else_does(name: str, tmp_path: Path) -> None:
    settings = built(name, tmp_path).what_counts()
    fields = set(IMPORTERS.load(name).Settings.model_fields)
    (place,) = fields & PLACES
    elsewhere = ["elsewhere"] if place == "files" else "elsewhere"
    assert built(name, tmp_path, **{place: elsewhere}).what_counts() == settings
    assert set(settings) == fields - PLACES
    assert IMPORTERS.load(name).revision >= 1


@pytest.mark.parametrize("name", IMPORTERS.names())
def test_files_of_a_folder_have_names_that_tell_whose_they_are(name: str, tmp_path: Path) -> None:
    importer = built(name, tmp_path)
    names = [place.name for place in importer.files(Folder)]
    if "folder" not in IMPORTERS.load(name).Settings.model_fields:
        assert set(names) == {""}
        return
    assert len(set(names)) == len(names) > 1
    gone = str(tmp_path / "gone")
    with pytest.raises(InputError, match="gone does not exist"):
        built(name, tmp_path, folder=gone).files(Folder)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.txt").touch()
    with pytest.raises(InputError, match=r"empty holds no .* file; expected"):
        built(name, tmp_path, folder=str(tmp_path / "empty")).files(Folder)


@pytest.mark.parametrize("name", IMPORTERS.names())
def test_a_file_that_holds_something_else_is_named(name: str, tmp_path: Path) -> None:
    importer = built(name, tmp_path)
    (tmp_path / "notes").write_text("no vectors")
    with (
        pytest.raises(InputError, match=r"notes: it cannot be read"),
        importer.opened([LocalFile(str(tmp_path / "notes"), "notes")]),
    ):
        pass

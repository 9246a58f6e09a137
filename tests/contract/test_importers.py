"""What every registered importer promises. A new one needs an example here."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audioflow.errors import InputError
from audioflow.importers import IMPORTERS
from audioflow.importers.base import Importer, LocalFile

COUNTS = {"a/1.wav": 3, "a/2.wav": 1, "b/1.wav": 2}
"""Patches of the clips of every example."""


def npz(root: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    ids = [clip for clip, count in COUNTS.items() for _ in range(count)]
    np.savez(root / "1.npz", X=rng.normal(size=(4, 5)).astype("f4"), IDS=np.array(ids[:4]))
    np.savez(root / "2.npz", X=rng.normal(size=(2, 5)).astype("f4"), IDS=np.array(ids[4:]))
    return {"files": [str(root / "1.npz"), str(root / "2.npz")], "hop_s": 0.5}


EXAMPLES: dict[str, Callable[[Path], dict[str, Any]]] = {"npz": npz}


def built(name: str, root: Path, **changes: Any) -> Importer:
    importer: Importer = IMPORTERS.build(name, EXAMPLES[name](root) | changes)
    return importer


def files_of(importer: Importer) -> Sequence[LocalFile]:
    return [LocalFile(path, path) for path in importer.files]


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
                assert vectors.shape == (count, imported.layers[layer])
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
    assert built(name, tmp_path, files=["elsewhere"]).what_counts() == settings
    assert set(settings) == set(IMPORTERS.load(name).Settings.model_fields) - {"files"}
    assert IMPORTERS.load(name).revision >= 1


@pytest.mark.parametrize("name", IMPORTERS.names())
def test_a_file_that_holds_something_else_is_named(name: str, tmp_path: Path) -> None:
    importer = built(name, tmp_path)
    (tmp_path / "notes").write_text("no vectors")
    with (
        pytest.raises(InputError, match="notes: it cannot be read"),
        importer.opened([LocalFile(str(tmp_path / "notes"), "notes")]),
    ):
        pass

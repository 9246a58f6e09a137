"""Readers and importers on a real S3 server give what they give on disk."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from audioflow.clip import Clip
from audioflow.datasets import READERS
from audioflow.downloads import local_files
from audioflow.importers import IMPORTERS
from audioflow.listing import find_files
from audioflow.storage import Folder, StorageOptions, local_copy
from tests import trees
from tests.contract.test_importers import COUNTS, EXAMPLES
from tests.unit.read_clips import read


@pytest.fixture(scope="module")
def options(s3_server: str) -> StorageOptions:
    import s3fs

    s3fs.S3FileSystem(endpoint_url=s3_server).mkdir("published")
    return StorageOptions.of({"endpoint_url": s3_server})


@pytest.fixture
def root(options: StorageOptions) -> Iterator[str]:
    url = f"s3://published/{uuid.uuid4().hex}"
    yield url
    Folder(url, options).remove_all()


@pytest.mark.parametrize("name", sorted(trees.TREES))
def test_a_data_set_in_a_bucket_is_read_as_on_disk(
    name: str, root: str, options: StorageOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(clip: Clip) -> Any:
        return clip.clip_id, clip.labels, clip.group, clip.start_s, clip.size_bytes

    stored = partial(Folder, options=options)
    local = read(name, **trees.TREES[name](str(tmp_path)))
    monkeypatch.setattr(trees, "Folder", stored)
    clips = list(READERS.build(name, trees.TREES[name](root)).read(stored))
    assert sorted(map(told, clips)) == sorted(map(told, local))
    assert all(clip.version for clip in clips)
    assert all(clip.uri.startswith("s3://published/") for clip in clips)
    with local_copy(clips[-1].uri, options) as path:
        assert Path(path).read_text() == clips[-1].columns["file"]


@pytest.mark.parametrize("name", ["hf_dataset", "mel_npy", "soundnet_csv"])
def test_a_folder_of_vectors_in_a_bucket_is_imported(
    name: str, root: str, options: StorageOptions, tmp_path: Path
) -> None:
    choice = EXAMPLES[name](tmp_path)
    for file in find_files(choice["folder"]):
        place, _, own = f"{root}/{file.relative}".rpartition("/")
        Folder(place, options).write(own, Path(file.url).read_bytes())
    importer = IMPORTERS.build(name, choice | {"folder": root})
    places = importer.files(partial(Folder, options=options))
    with local_files([place.folder.url for place in places], options) as found:
        files = [replace(file, name=place.name) for file, place in zip(found, places, strict=True)]
        with importer.opened(files) as imported:
            assert sorted(imported.clip_ids) == sorted(COUNTS)
            assert len(imported.embedding("a/1.wav").patch_start_s) == COUNTS["a/1.wav"]

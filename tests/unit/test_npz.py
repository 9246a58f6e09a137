"""Cached features in npz files, and the reader `npz`: what is read, and how faults are told."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from audioflow.clip import Clip
from audioflow.datasets import READERS
from audioflow.errors import InputError
from audioflow.manifest import build_manifest
from audioflow.npz import PatchFile
from audioflow.recipe import ManifestSection
from audioflow.storage import Folder

IDS = np.array(["b/2.au", "b/2.au", "a/1.au", "a/1.au", "a/1.au", "b/2.au"])


def arrays(**changes: Any) -> dict[str, Any]:
    found = {"X": np.arange(12, dtype=np.float32).reshape(6, 2), "IDS": IDS}
    found["Y"] = np.array([1, 1, 0, 0, 0, 1])
    return found | changes


def saved(path: Path, *, save: Callable[..., None] = np.savez, **changes: Any) -> str:
    save(path, **{key: value for key, value in arrays(**changes).items() if value is not None})
    return str(path)


def read(files: Any, **options: Any) -> list[Clip]:
    return list(READERS.build("npz", {"files": files, **options}).read(Folder))


# The file


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i2"])
def test_vectors_are_those_that_were_saved(
    tmp_path: Path, save: Callable[..., None], order: Any, dtype: str
) -> None:
    vectors = np.arange(12).reshape(6, 2).astype(dtype, order=order)
    found = PatchFile(saved(tmp_path / "a.npz", save=save, X=vectors), "a.npz").vectors()
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, vectors)
    assert isinstance(found, np.memmap) == (save is np.savez)


def test_a_clip_has_all_its_rows_in_their_order_wherever_they_stand(tmp_path: Path) -> None:
    clips = PatchFile(saved(tmp_path / "a.npz"), "a.npz").clips(with_targets=True)
    assert {name: (clip.runs, clip.target) for name, clip in clips.items()} == {
        "b/2.au": ([slice(0, 2), slice(5, 6)], 1),
        "a/1.au": ([slice(2, 5)], 0),
    }


def test_without_targets_there_need_be_none(tmp_path: Path) -> None:
    file = PatchFile(saved(tmp_path / "a.npz", Y=None), "a.npz")
    assert {clip.target for clip in file.clips(with_targets=False).values()} == {None}
    with pytest.raises(InputError, match=r"a\.npz has no array 'Y'; there are X, IDS; expected"):
        file.clips(with_targets=True)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"X": None}, r"has no array 'X'; there are IDS, Y; expected are X \(patches, width\), Y"),
        ({"IDS": None}, r"has no array 'IDS'; there are X, Y;"),
        ({"X": np.ones((5, 2))}, r"IDS is \(6,\) <U6, but X is \(5, 2\) float64; both need a row"),
        ({"Y": np.ones(7, int)}, r"Y is \(7,\) int64, but X is \(6, 2\) float32; both need a row"),
        ({"X": np.ones((6, 0), "f4")}, r"X is \(6, 0\) float32, which has no value in it"),
        ({"X": np.ones((0, 4), "f4")}, r"X is \(0, 4\) float32, which has no value in it"),
        ({"X": np.ones(6)}, r"X is \(6,\) float64, expected numbers \(patches, width\)"),
        ({"X": np.ones((6, 2), "c8")}, r"X is \(6, 2\) complex64, expected numbers"),
        ({"X": np.array([[{}, 1]] * 6)}, r"X is \(6, 2\) object, Python objects, which are never"),
        ({"IDS": np.array(["a", None] * 3)}, r"IDS is \(6,\) object, Python objects, which are"),
        ({"Y": np.array([1, "x"] * 3, object)}, r"Y is \(6,\) object, Python objects"),
        ({"IDS": np.arange(6)}, r"IDS is \(6,\) int64, expected a text per patch"),
        ({"Y": np.ones(6)}, r"Y is \(6,\) float64, expected a whole number per patch"),
        ({"Y": np.ones((6, 1), int)}, r"Y is \(6, 1\) int64, expected a whole number per patch"),
        ({"IDS": np.array(["a", "a", "b", "b", "", "c"])}, r"IDS \(6,\) is empty in row 4"),
        ({"IDS": np.array([*"aabbb", "\udce9"])}, r"IDS \(6,\) holds no text in row 5: 'utf-8'"),
        ({"Y": np.array([1, 0, 0, 0, 0, 1])}, r"'b/2\.au' has Y 1 in row 0 and 0 in row 1; a clip"),
        ({"Y": np.array([1, 1, 0, 0, 0, 2])}, r"'b/2\.au' has Y 1 in row 0 and 2 in row 5; a clip"),
    ],
)
def test_arrays_that_cannot_be_are_told_with_file_name_and_shape(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    path = saved(tmp_path / "x.npz", **changes)
    with pytest.raises(InputError, match=r"x\.npz:? .*" + told) as caught:
        read([path])
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -1e39])
def test_vectors_that_are_not_finite_are_told_with_their_row(
    tmp_path: Path, save: Callable[..., None], order: Any, value: float
) -> None:
    vectors = np.ones((600_000, 2), np.float64, order=order)  # more than is checked at a time
    vectors[599_990, 1] = value
    ids = np.full(len(vectors), "a")
    path = saved(tmp_path / "x.npz", save=save, X=vectors, IDS=ids, Y=np.zeros(len(vectors), int))
    told = r"x\.npz: X is \(600000, 2\) float64, with NaN, infinity or more .* in row 599990"
    with pytest.raises(InputError, match=told):
        read([path])
    with pytest.raises(InputError, match=told):
        PatchFile(path, path).vectors()


def test_files_that_are_no_npz_or_damaged_are_told(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("X, Y, IDS")
    with pytest.raises(InputError, match=r"text\.npz: it cannot be read as npz \(File is not a zi"):
        read([str(tmp_path / "text.npz")])
    np.save(tmp_path / "array.npy", np.ones(3))
    with pytest.raises(InputError, match=r"array\.npy: it cannot be read as npz"):
        read([str(tmp_path / "array.npy")])
    with pytest.raises(InputError, match=r"gone\.npz does not exist; a \.npz file of cached feat"):
        read([str(tmp_path / "gone.npz")])
    path = tmp_path / "flipped.npz"
    saved(path)
    data = path.read_bytes()
    place = data.index(np.float32(7).tobytes())
    path.write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    with pytest.raises(InputError, match=r"flipped\.npz: X cannot be read as npz \(Bad CRC-32"):
        read([str(path)])


def test_a_head_that_claims_more_than_there_is_is_refused_before_anything_is_allocated(
    tmp_path: Path,
) -> None:
    path = tmp_path / "claims.npz"
    saved(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["X.npy"] = re.sub(rb"\(6, 2\), \}( +)", _claim, members["X.npy"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(
        InputError, match=r"X is \(600000000, 2\) float32, which takes 4800000128 bytes, but the"
    ):
        read([str(path)])


def _claim(found: re.Match[bytes]) -> bytes:
    text = b"(600000000, 2), }"
    return text + b" " * (len(found.group(0)) - len(text))


def test_whatever_bytes_are_flipped_the_file_is_read_or_refused(tmp_path: Path) -> None:
    whole = Path(saved(tmp_path / "a.npz")).read_bytes()
    rng = np.random.default_rng(0)
    told = []
    for number in range(400):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 1 + number % 3):
            data[place] ^= 1 << int(rng.integers(8))
        path = tmp_path / "b.npz"
        path.write_bytes(data)
        try:
            file = PatchFile(str(path), "b.npz")
            file.clips(with_targets=True)
            file.vectors()
        except InputError as error:
            told.append(str(error))
    assert len(told) > 100
    assert all(text.startswith("b.npz") for text in told)


# The reader


def test_every_id_is_a_clip_with_its_class_and_published_split(tmp_path: Path) -> None:
    train = saved(tmp_path / "train.npz")
    ids = np.array(["b/9.au"] * 3 + ["a/9.au"] * 3)
    test = saved(tmp_path / "test.npz", IDS=ids, Y=np.array([1, 1, 1, 0, 0, 0]))
    clips = read({"train": train, "test": test}, class_names=["ant", "bee"])
    assert [(clip.clip_id, clip.labels, clip.columns["split"]) for clip in clips] == [
        ("b/2.au", ("bee",), "train"),
        ("a/1.au", ("ant",), "train"),
        ("b/9.au", ("bee",), "test"),
        ("a/9.au", ("ant",), "test"),
    ]
    assert clips[0].uri == f"{train}#b/2.au"
    assert clips[0].columns == {"class": "bee", "file": train, "folder": "b", "split": "train"}
    splits = {"column": "split", "train": ["train"], "test": ["test"]}
    section = ManifestSection(reader="npz", splits=splits)
    rows = build_manifest(clips, section, "files").to_pylist()
    assert {row["clip_id"]: row["split"] for row in rows} == {
        "a/1.au": "train",
        "a/9.au": "test",
        "b/2.au": "train",
        "b/9.au": "test",
    }


def test_a_class_without_a_name_is_called_by_its_number(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz")
    assert {clip.labels for clip in read([path])} == {("0",), ("1",)}
    with pytest.raises(
        InputError,
        match=r"a\.npz: clip 'b/2\.au' has Y 1, but class_names has 1 names, for 0 to 0",
    ):
        read([path], class_names=["ant"])
    path = saved(tmp_path / "minus.npz", Y=np.full(6, -1))
    assert {clip.labels for clip in read([path])} == {("-1",)}
    with pytest.raises(InputError, match=r"has Y -1, but class_names has 2 names, for 0 to 1"):
        read([path], class_names=["ant", "bee"])


def test_one_file_can_be_divided_by_shares_and_grouped_by_folder(tmp_path: Path) -> None:
    ids = np.array([f"{folder}/{number}.au" for folder in range(5) for number in range(4)])
    path = saved(tmp_path / "a.npz", X=np.ones((20, 2)), IDS=ids, Y=np.zeros(20, int))
    section = ManifestSection(reader="npz", group_by="folder")
    rows = build_manifest(read([path]), section, path).to_pylist()
    splits = {
        row["group"]: {other["split"] for other in rows if other["group"] == row["group"]}
        for row in rows
    }
    assert all(len(found) == 1 for found in splits.values())
    assert len(splits) == 5


def test_a_clip_in_two_files_is_told_with_both_classes(tmp_path: Path) -> None:
    first, second = saved(tmp_path / "1.npz"), saved(tmp_path / "2.npz", Y=np.full(6, 3))
    with pytest.raises(
        InputError,
        match=r"clip 'b/2\.au' stands in .*1\.npz \(class 1\) and in .*2\.npz \(class 3\); keep",
    ):
        read([first, second])


def test_files_in_a_store_are_fetched(tmp_path: Path) -> None:
    saved(tmp_path / "a.npz")
    Folder("memory://cached").write("a.npz", (tmp_path / "a.npz").read_bytes())
    clips = read(["memory://cached/a.npz"])
    assert clips[0].uri == "memory://cached/a.npz#b/2.au"
    with pytest.raises(InputError, match=r"memory://cached/b\.npz does not exist"):
        read(["memory://cached/b.npz"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"files": "a.npz"}, "'a.npz' names no file; allowed: a list of files, or files by split"),
        ({"files": []}, r"\[\] names no file"),
        ({"files": {}}, r"{} names no file"),
        (
            {"files": {"trian": "a.npz"}},
            "'trian' is no split; allowed: train, val, test, or a list",
        ),
        ({"files": ["a.npz", 3]}, "3 is no file; allowed: a path or url"),
        ({"files": {"train": "a.npz", "test": "a.npz"}}, "'a.npz' stands twice; keep one"),
        ({"files": ["a.npz"], "class_names": ["a", "a"]}, "'a' stands twice or is empty; every"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        READERS.build("npz", options)


def test_the_clips_of_real_cached_features_are_those_of_the_published_split() -> None:
    features = Path(__file__).resolve().parents[3] / "shared" / "data" / "features"
    if not features.is_dir():
        pytest.skip(f"real test data is not at {features}")
    kinds = {"train": "training", "test": "evaluation"}
    files = {
        split: str(features / f"{kind}_data_GTZAN_MSDmusicnn_taggram.npz")
        for split, kind in kinds.items()
    }
    clips = read(files)
    per_class = {
        split: [
            sum(clip.columns["split"] == split and clip.labels == (str(k),) for clip in clips)
            for k in range(10)
        ]
        for split in files
    }
    assert per_class == {
        "train": [46, 48, 45, 42, 47, 43, 44, 41, 43, 44],
        "test": [31, 31, 30, 29, 27, 27, 27, 30, 26, 32],
    }
    assert all(clip.clip_id.startswith(clip.columns["folder"] + "/") for clip in clips)

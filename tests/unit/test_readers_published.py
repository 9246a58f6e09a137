"""Readers of published data sets, each on a folder in its publisher's layout (see tests/trees.py).

What all of them promise is first; what is special to one follows, data set by data set.
"""

from pathlib import Path

import pytest

from audioflow.datasets.sources import read_manifest
from audioflow.errors import InputError
from audioflow.recipe import ManifestSection
from audioflow.storage import Folder
from tests.trees import TREES, dcase, esc50, gtzan, hear, hear_events, lines, put
from tests.unit.read_clips import by_id, manifest, read

# all of them


@pytest.mark.parametrize("name", sorted(TREES))
def test_the_recipe_that_a_reader_tells_divides_its_data_set(name: str, tmp_path: Path) -> None:
    found = manifest(name, TREES[name](str(tmp_path / "data")))
    assert found.num_rows == len(set(found["clip_id"].to_pylist())) > 2
    groups = zip(found["group"].to_pylist(), found["split"].to_pylist(), strict=True)
    assert len(set(groups)) == len(set(found["group"].to_pylist()))


@pytest.mark.parametrize("name", sorted(TREES))
def test_clips_are_the_files_that_their_paths_name(name: str, tmp_path: Path) -> None:
    for clip in read(name, **TREES[name](str(tmp_path))):
        assert clip.version
        assert Path(clip.uri).read_text() == clip.columns["file"]  # media here hold their names


@pytest.mark.parametrize("name", sorted(TREES))
def test_a_folder_without_its_lists_says_what_is_expected(name: str, tmp_path: Path) -> None:
    put(str(tmp_path / "data"), "notes.txt")
    options = TREES[name](str(tmp_path / "whole")) | {"root": str(tmp_path / "data")}
    with pytest.raises(InputError, match=r"data.*(expected|the first is 'notes.txt')"):
        read(name, **options)


def test_a_root_that_is_too_high_is_told(tmp_path: Path) -> None:
    esc50(str(tmp_path / "data" / "ESC-50-master"))
    with pytest.raises(
        InputError,
        match=r"data has no meta/esc50.csv; expected audio/\*.wav and meta/esc50.csv; there is one "
        r"in .*/data/ESC-50-master: is that manifest.root\?",
    ):
        read("esc50", root=str(tmp_path / "data"))


# esc50


def test_clips_of_one_freesound_recording_are_one_group(tmp_path: Path) -> None:
    options = esc50(str(tmp_path))
    clip = by_id(read("esc50", **options))["1-1000-A-0.wav"]
    assert (clip.labels, clip.columns["fold"], clip.group) == (("dog",), "1", "freesound/1000")
    assert clip.place.endswith("meta/esc50.csv:2")
    assert {clip.labels for clip in read("esc50", **options, esc10=True)} == {("dog",)}
    drawn = manifest("esc50", options, splits={"train": 0.5, "test": 0.5})
    assert (
        len(set(zip(*(drawn[name].to_pylist() for name in ("group", "split")), strict=True))) == 6
    )


def test_groups_of_a_further_data_set_keep_what_their_reader_knows(tmp_path: Path) -> None:
    options = esc50(str(tmp_path / "more"))
    main = {"reader": "glob", **TREES["glob"](str(tmp_path / "main")), "group_by": "recording"}
    extra = {"reader": "esc50", **options, "new_classes": True}
    section = ManifestSection(**main, splits={"train": 0.5, "test": 0.5}, extra={"more": extra})
    found = read_manifest(section, Folder, Folder).manifest
    groups = [group for group in found["group"].to_pylist() if group.startswith("more/")]
    assert len(groups) == 12
    assert set(groups) == {f"more/freesound/{fold}00{end}" for fold in (1, 2, 3) for end in (0, 14)}


def test_a_missing_file_stays_a_clip_and_a_folder_without_any_is_told(tmp_path: Path) -> None:
    options = esc50(str(tmp_path))
    (tmp_path / "audio" / "1-1000-A-0.wav").unlink()
    clips = read("esc50", **options)
    assert len(clips) == 12
    gone = by_id(clips)["1-1000-A-0.wav"]
    assert (gone.size_bytes, gone.version) == (None, None)
    assert gone.uri == str(tmp_path / "audio" / "1-1000-A-0.wav")
    for path in (tmp_path / "audio").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"none of the 12 files that meta/esc50.csv names is"):
        read("esc50", **options)


def test_a_list_of_other_columns_is_told(tmp_path: Path) -> None:
    options = esc50(str(tmp_path))
    put(str(tmp_path), "meta/esc50.csv", lines("filename,category", "a.wav,dog"))
    with pytest.raises(InputError, match=r"esc50.csv has 'filename', 'category'; expected 'file"):
        read("esc50", **options)
    put(
        str(tmp_path),
        "meta/esc50.csv",
        lines("filename,fold,target,category,esc10,src_file,take", "a"),
    )
    with pytest.raises(InputError, match=r"esc50.csv:2 has 1 cells, expected 7: filename, fold"):
        read("esc50", **options)


# gtzan


@pytest.mark.parametrize(("folder", "ending"), [("genres", "au"), ("genres_original", "wav")])
def test_the_lists_of_gtzan_divide_it_whatever_the_ending(
    folder: str, ending: str, tmp_path: Path
) -> None:
    options = gtzan(str(tmp_path), folder, ending)
    clips = by_id(read("gtzan", **options))
    assert len(clips) == 8
    assert clips["jazz/jazz.00002"].labels == ("jazz",)
    assert clips["jazz/jazz.00002"].columns["split"] == "valid"
    assert clips["jazz/jazz.00002"].uri.endswith(f"{folder}/jazz/jazz.00002.{ending}")
    everything = read("gtzan", **options, filtered=False)
    assert len(everything) == 10
    assert "split" not in everything[0].columns


def test_a_line_of_gtzan_that_is_no_path_is_told(tmp_path: Path) -> None:
    options = gtzan(str(tmp_path))
    put(str(tmp_path), "valid_filtered.txt", lines("jazz.00001.wav"))
    with pytest.raises(InputError, match=r"valid_filtered.txt:1: 'jazz.00001.wav' is no path like"):
        read("gtzan", **options)


# urbansound8k


def test_slices_of_urbansound_lie_in_folders_of_their_folds(tmp_path: Path) -> None:
    clip = by_id(read("urbansound8k", **TREES["urbansound8k"](str(tmp_path))))["203-3-0-1.wav"]
    assert clip.uri == str(tmp_path / "audio/fold2/203-3-0-1.wav")
    assert (clip.labels, clip.group) == (("dog_bark",), "freesound/203")
    assert clip.columns == {
        "file": "audio/fold2/203-3-0-1.wav",
        "fold": "2",
        "fsID": "203",
        "classID": "3",
        "salience": "1",
    }


# fsd50k


def test_fsd50k_has_several_labels_and_uploaders_where_they_are_told(tmp_path: Path) -> None:
    options = TREES["fsd50k"](str(tmp_path))
    clips = by_id(read("fsd50k", **options))
    assert clips["1"].labels == ("Bark", "Dog", "Animal")
    splits = [clips[name].columns["split"] for name in "123456"]
    assert splits == ["train", "train", "val", "val", "test", "test"]
    assert "uploader" not in clips["1"].columns
    place = "FSD50K.metadata/dev_clips_info_FSD50K.json"
    put(str(tmp_path), place, '{"1": {"title": "a", "uploader": "ann"}}')
    assert by_id(read("fsd50k", **options))["1"].columns["uploader"] == "ann"
    put(str(tmp_path), place, '{"1": {"title": "a"}}')
    with pytest.raises(InputError, match=r"dev_clips_info_FSD50K.json does not tell uploaders"):
        read("fsd50k", **options)


def test_a_label_that_the_vocabulary_has_not_is_told(tmp_path: Path) -> None:
    options = TREES["fsd50k"](str(tmp_path))
    put(str(tmp_path), "FSD50K.ground_truth/eval.csv", lines("fname,labels,mids", "5,Barc,/m/1"))
    with pytest.raises(
        InputError, match=r"eval.csv:2: the label 'Barc' is not in vocabulary.csv; .* 'Bark'\?"
    ):
        read("fsd50k", **options)


# dcase


def test_folds_of_dcase_are_those_that_test_a_clip(tmp_path: Path) -> None:
    options = dcase(str(tmp_path))
    clips = by_id(read("dcase", **options))
    assert len(clips) == 12
    clip = clips["audio/b012_10_20.wav"]
    assert (clip.labels, clip.group, clip.columns["fold"]) == (("bus",), "location/b012", "2")
    one = by_id(read("dcase", **options, fold=2))
    assert one["audio/b012_10_20.wav"].columns["split"] == "test"
    assert one["audio/b011_0_10.wav"].columns["split"] == "train"
    with pytest.raises(InputError, match=r"no list of fold 7 \(manifest.fold\); there are 1, 2, 3"):
        read("dcase", **options, fold=7)


def test_a_recording_of_dcase_is_a_group_where_no_location_is_told(tmp_path: Path) -> None:
    put(str(tmp_path), "audio/a001_0_30.wav")
    put(str(tmp_path), "meta.txt", lines("audio/a001_0_30.wav\tbeach", "audio/a002_0_30.wav\tbus"))
    clips = read("dcase", root=str(tmp_path))
    assert [clip.group for clip in clips] == ["location/a001", "location/a002"]
    assert "fold" not in clips[0].columns


def test_later_sets_of_dcase_have_a_header_and_one_fold(tmp_path: Path) -> None:
    root = str(tmp_path)
    names = [f"audio/{scene}-paris-{number}-a.wav" for scene in ("bus", "park") for number in "123"]
    rows = [f"{name}\t{name[6:].split('-')[0]}\tparis-{name[-7]}\ta" for name in names]
    put(root, "meta.csv", lines("filename\tscene_label\tidentifier\tsource_label", *rows))
    for name in names:
        put(root, name)
    setup = "evaluation_setup/fold1"
    put(root, f"{setup}_train.csv", lines("filename\tscene_label", names[0] + "\tbus"))
    put(root, f"{setup}_test.csv", lines("filename", names[1]))
    put(root, f"{setup}_evaluate.csv", lines("filename\tscene_label", names[1] + "\tbus"))
    clips = by_id(read("dcase", root=root))
    assert {name: clip.columns["split"] for name, clip in clips.items()} == {
        names[0]: "train",
        names[1]: "test",
    }
    assert clips[names[0]].group == "location/paris-1"


def test_a_clip_that_two_folds_test_is_told(tmp_path: Path) -> None:
    options = dcase(str(tmp_path))
    put(str(tmp_path), "evaluation_setup/fold3_test.txt", lines("audio/b011_0_10.wav"))
    with pytest.raises(InputError, match=r"b011_0_10.wav is tested in fold 1 and in fold 3; cho"):
        read("dcase", **options)


# hear


def test_a_task_of_scenes_has_files_and_one_of_events_spans(tmp_path: Path) -> None:
    scene = by_id(read("hear", **hear(str(tmp_path / "scene"))))["48000/fold01/fold01-dog.wav"]
    assert (scene.labels, scene.columns["fold"], scene.start_s) == (("dog",), "fold01", None)
    clips = by_id(read("hear", **hear_events(str(tmp_path / "event"))))
    assert len(clips) == 6
    both = clips["48000/valid/a.wav@0+0.5105"]
    assert (both.labels, both.start_s, both.duration_s) == (("C4", "E4"), 0.0, 0.5105)
    assert both.columns["split"] == "valid"
    assert clips["48000/valid/a.wav@0.7+0.2"].labels == ("E4",)


def test_tasks_that_cannot_be_are_told(tmp_path: Path) -> None:
    options = hear_events(str(tmp_path))
    put(str(tmp_path), "train.json", '{"a.wav": [{"label": "C4", "start": 5, "end": 5}]}')
    with pytest.raises(InputError, match=r"train.json: 'a.wav' has .*; expected events .*no span"):
        read("hear", **options)
    put(str(tmp_path), "train.json", '{"a.wav": [{"label": "D4", "start": 5, "end": 6}]}')
    with pytest.raises(InputError, match=r"'a.wav' has the label 'D4', which is not in labelvoc"):
        read("hear", **options)
    put(str(tmp_path), "task_metadata.json", '{"embedding_type": "word"}')
    with pytest.raises(InputError, match=r"embedding_type is 'word'; allowed: 'scene', 'event'"):
        read("hear", **options)

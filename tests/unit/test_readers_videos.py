"""Readers of videos and of lists of other people: kinetics, audioset, dogs, cmu11775, and glob."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from audioflow.clip import Clip
from audioflow.datasets import READERS
from audioflow.errors import InputError
from tests.trees import KINDS, NAMES, SEGMENTS, audioset, cmu11775, dogs, glob, kinetics, lines, put
from tests.unit.read_clips import by_id, manifest, read

STRONG = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel"


def listed(clips: Sequence[Clip]) -> list[tuple[Any, ...]]:
    return [(clip.clip_id, clip.labels, clip.start_s, clip.duration_s) for clip in clips]


# kinetics


def test_folders_of_kinetics_tell_split_and_class(tmp_path: Path) -> None:
    clips = by_id(read("kinetics", **kinetics(str(tmp_path))))
    assert len(clips) == 6
    clip = clips["val/playing chess/v_val______10_000003_000013.mp4"]
    assert (clip.labels, clip.start_s) == (("playing chess",), None)
    assert (clip.columns["split"], clip.columns["youtube_id"]) == ("val", "val______10")
    assert clip.group == "youtube/val______10"


def test_a_label_list_of_kinetics_spells_the_classes(tmp_path: Path) -> None:
    options = kinetics(str(tmp_path / "k"))
    names = put(str(tmp_path), "list.txt", lines("0\tabseiling", "1\tplaying_chess"))
    clips = read("kinetics", **options, label_list=names)
    assert {clip.labels[0] for clip in clips} == {"abseiling", "playing_chess"}
    names = put(str(tmp_path), "list.txt", lines("0\tabseiling", "1\tplaying_chest"))
    with pytest.raises(
        InputError, match=r"the class 'playing chess' is none of the 2 in .*mean 'playing_chest'\?"
    ):
        read("kinetics", **options, label_list=names)


def test_annotations_of_kinetics_find_cut_and_whole_videos(tmp_path: Path) -> None:
    root = str(tmp_path / "videos")
    for name in ("aaaaaaaaaaa_000095_000105.mp4", "x/v_bbbbbbbbbbb_000001_000011.mkv"):
        put(root, name)
    put(root, "ccccccccccc.mp4")
    head = "label,youtube_id,time_start,time_end,split"
    train = lines(
        *(head, "abseiling,aaaaaaaaaaa,95,105,train", "abseiling,bbbbbbbbbbb,1,11,train"),
        *('"bowling, on ice",ccccccccccc,20,30,train', "abseiling,ddddddddddd,7,17,train"),
    )
    paths = [put(str(tmp_path), "train.csv", train)]
    paths += [put(str(tmp_path), "test.csv", lines(head[6:], "ccccccccccc,50,60,test"))]
    clips = read("kinetics", root=root, annotations=paths)
    assert listed(clips) == [
        ("aaaaaaaaaaa_000095_000105", ("abseiling",), None, None),
        ("bbbbbbbbbbb_000001_000011", ("abseiling",), None, None),
        ("ccccccccccc_000020_000030", ("bowling, on ice",), 20.0, 10.0),
        ("ddddddddddd_000007_000017", ("abseiling",), None, None),
        ("ccccccccccc_000050_000060", (), 50.0, 10.0),
    ]
    assert clips[3].uri == f"{root}/train/abseiling/ddddddddddd_000007_000017.mp4"
    assert clips[3].size_bytes is None
    assert clips[2].group == clips[4].group == "youtube/ccccccccccc"
    assert len(read("kinetics", root=root, annotations=paths, missing="drop")) == 4


def test_what_is_no_kinetics_is_told(tmp_path: Path) -> None:
    root = put(str(tmp_path / "k"), "abseiling/a.mp4").removesuffix("/abseiling/a.mp4")
    with pytest.raises(InputError, match=r"k has no video in a folder of a class in a folder of a"):
        read("kinetics", root=root)
    with pytest.raises(InputError, match=r"gone.csv does not exist \(manifest.annotations\)"):
        read("kinetics", root=root, annotations=[str(tmp_path / "gone.csv")])
    head = "label,youtube_id,time_start,time_end,split"
    path = put(str(tmp_path), "a.csv", lines(head, "x,aaaaaaaaaaa,9,9,train"))
    with pytest.raises(InputError, match=r"a.csv:2: time_end is 9 and time_start 9; a clip ends"):
        read("kinetics", root=root, annotations=[path])
    path = put(str(tmp_path), "a.csv", lines(head, "x,aaaaaaaaaaa,-1,9,train"))
    with pytest.raises(InputError, match=r"a.csv:2: time_start is '-1'; allowed: 0 seconds or"):
        read("kinetics", root=root, annotations=[path])
    path = put(str(tmp_path), "a.csv", lines(head, "x,aaaaaaaaaaa,1,9,train"))
    with pytest.raises(InputError, match=r"none of the 1 files .*train/x/aaaaaaaaaaa_000001_"):
        read("kinetics", root=root, annotations=[path])


# audioset


def test_segments_of_audioset_have_names_and_splits(tmp_path: Path) -> None:
    clips = read("audioset", **audioset(str(tmp_path)))
    assert listed(clips) == [
        ("--abcdefghi_30000", ("Bark", "Dishes, pots, and pans"), None, None),
        ("_0RWZT-miF__7000", ("Bark", "Dishes, pots, and pans"), None, None),
        ("-0RWZT-miF__0", ("Bark",), None, None),
        ("Yabcdefghij_5000", ("Dishes, pots, and pans",), None, None),
    ]
    assert [clip.columns["file"] for clip in clips] == [
        "--abcdefghi_30000.wav",
        "_0RWZT-miF__7_17.wav",
        "Y-0RWZT-miF_.wav",
        "Yabcdefghij.m4a",
    ]
    assert [clip.columns["split"] for clip in clips] == ["train", "train", "test", "test"]
    assert clips[0].group == "youtube/--abcdefghi"
    assert clips[0].place.endswith("train.csv:4")


def test_whole_videos_of_audioset_are_read_at_the_segment(tmp_path: Path) -> None:
    options = audioset(str(tmp_path)) | {"media": "videos", "names": None}
    assert listed(read("audioset", **options))[2:] == [
        ("-0RWZT-miF__0", ("/m/05tny_",), 0.0, 9.5),
        ("Yabcdefghij_5000", ("/m/04brg2",), 5.0, 10.0),
    ]


def strong(root: Path) -> dict[str, Any]:
    rows = (
        "b0RFKhbpFJA_30000\t0.000\t10.000\t/m/03m9d0z",
        "b0RFKhbpFJA_30000\t1.250\t2.000\t/m/05tny_",
        "b0RFKhbpFJA_30000\t1.250\t2.000\t/m/03m9d0z",
        "gone4567890_0\t1.000\t2.000\t/m/05tny_",
    )
    put(str(root / "media"), "b0RFKhbpFJA_30000.wav")
    names = put(str(root), "mid_to_display_name.tsv", lines("/m/03m9d0z\tWind", "/m/05tny_\tBark"))
    path = put(str(root), "audioset_train_strong.tsv", lines(STRONG, *rows))
    return {"root": str(root / "media"), "annotations": path, "names": names}


def test_events_of_audioset_are_spans_with_all_their_labels(tmp_path: Path) -> None:
    options = strong(tmp_path)
    assert listed(read("audioset", **options, missing="drop")) == [
        ("b0RFKhbpFJA_30000@0+10", ("Wind",), 0.0, 10.0),
        ("b0RFKhbpFJA_30000@1.25+0.75", ("Bark", "Wind"), 1.25, 0.75),
    ]
    short = read("audioset", **options, longest_s=5.0, media="videos")
    assert listed(short)[0] == ("b0RFKhbpFJA_30000@2.5+5", ("Wind",), 32.5, 5.0)
    assert short[-1].clip_id == "gone4567890_0@1+1"
    assert short[-1].size_bytes is None
    whole = read("audioset", **options, unit="segment", missing="drop")
    assert listed(whole) == [("b0RFKhbpFJA_30000", ("Wind", "Bark"), None, None)]


def test_what_is_no_audioset_is_told(tmp_path: Path) -> None:
    options = audioset(str(tmp_path))
    put(str(tmp_path), "class_labels_indices.csv", lines(*NAMES[:2]))
    with pytest.raises(
        InputError, match=r"train.csv:4: .*indices.csv has no name of the class '/m/04brg2'"
    ):
        read("audioset", **options)
    odd = put(str(tmp_path), "odd.tsv", lines(STRONG, "short\t0\t1\t/m/05tny_"))
    with pytest.raises(InputError, match=r"odd.tsv:2: segment_id is 'short'; expected a YouTube"):
        read("audioset", root=options["root"], annotations=odd)
    other = put(str(tmp_path), "o.csv", lines(*SEGMENTS, 'zzzzzzzzzzz, 0.000, 9.0, "/m/05tny_"'))
    with pytest.raises(InputError, match=r"none of the 1 files that .*o.csv names is there, zzzzz"):
        read("audioset", root=options["root"], annotations=[other])
    put(options["root"], "deep/--abcdefghi_30000.flac")
    put(str(tmp_path), "class_labels_indices.csv", lines(*NAMES))
    with pytest.raises(InputError, match=r"media has 2 files named '--abcdefghi_30000': .*keep"):
        read("audioset", **options)
    for wrong in ({"traim": "a.csv"}, [], [3], {"train": ""}):
        with pytest.raises(ValidationError, match="is no list of segments or events; allowed"):
            read("audioset", root="x", annotations=wrong)


# dogs


def test_kinds_of_dogs_are_fine_and_merge_to_ten_classes(tmp_path: Path) -> None:
    options = dogs(str(tmp_path))
    clips = by_id(read("dogs", **options))
    assert len({clip.labels for clip in clips.values()}) == 15
    cat, other = clips["train_00007"], clips["train_00010"]
    assert (cat.labels, other.labels) == (("Cat",), ("Other",))
    assert cat.columns == {
        "file": "train/train_00007.wav",
        "number": "5",
        "class": "Other",
        "remark": "Cat",
    }
    merged = read("dogs", **options, labels="classes")
    assert len({clip.labels for clip in merged}) == 10
    assert by_id(merged)["train_00007"].labels == ("Other",)
    assert manifest("dogs", options).num_rows == 5 * len(KINDS)


def test_clips_of_one_video_in_the_list_of_dogs_are_one_group(tmp_path: Path) -> None:
    options = dogs(str(tmp_path))
    names = ("_0RWZTxmiFg_0", "_0RWZTxmiFg_1", "train_00001", "gone")
    rows = [f"{name},0,Barking" for name in names]
    put(str(tmp_path), "meta_train.csv", lines("Filename,Label,Remark", *rows))
    for name in names[:2]:
        put(str(tmp_path), f"audioset/{name}.wav")
    clips = read("dogs", **options)
    assert [clip.group for clip in clips] == ["youtube/_0RWZTxmiFg"] * 2 + ["", ""]
    assert [clip.size_bytes is not None for clip in clips] == [True, True, True, False]
    put(str(tmp_path), "meta_train.csv", lines("Filename,Label,Remark", "train_00001,10,Barking"))
    with pytest.raises(InputError, match=r"meta_train.csv:2: Label is '10'; allowed: 0 to 9 \(Ba"):
        read("dogs", **options)


# cmu11775


def test_the_course_has_clips_to_learn_from_and_clips_to_submit(tmp_path: Path) -> None:
    options = cmu11775(str(tmp_path), tested=3)
    clips = by_id(read("cmu11775", **options))
    assert clips["a======="].labels == ("tickling",)
    assert clips["0======="].labels == ("singing",)
    assert clips["0======="].columns["split"] == "train_val"
    assert clips["test0="].labels == ()
    assert clips["test0="].columns["split"] == "test"
    splits = manifest("cmu11775", options)["split"].to_pylist()
    assert (splits.count("train"), splits.count("val"), splits.count("test")) == (18, 2, 3)
    assert len(read("cmu11775", **options, test=False)) == 20


def test_the_map_of_the_course_may_have_numbers_first(tmp_path: Path) -> None:
    options = cmu11775(str(tmp_path))
    put(str(tmp_path), "labels/cls_map.csv", lines("Label,Category", "0,tickling", "1,singing"))
    assert by_id(read("cmu11775", **options))["a======="].labels == ("tickling",)
    put(str(tmp_path), "labels/cls_map.csv", lines("Label,Category", "0,tickling"))
    with pytest.raises(InputError, match=r"train_val.csv:12: Category is '1'; labels/cls_map.csv"):
        read("cmu11775", **options)


# glob


def test_paths_tell_label_columns_group_and_id(tmp_path: Path) -> None:
    options = glob(str(tmp_path))
    clips = by_id(read("glob", **options))
    assert len(clips) == 10
    clip = clips["north/2024-05/owl_0001.wav"]
    assert (clip.labels, clip.columns["site"]) == (("owl",), "north")
    named = r"(?P<group>\w+)/.*/(?P<id>(?P<label>[a-z]+)_\d+)"
    options |= {"pattern": "north/*/*.wav", "match": named}
    clips = by_id(read("glob", **options))
    assert {name: clip.group for name, clip in clips.items()} == {
        "owl_0001": "north",
        "none_0001": "north",
    }


def test_the_first_group_is_the_label_where_none_has_a_name(tmp_path: Path) -> None:
    root = put(str(tmp_path), "a/dog+rain_1.wav").removesuffix("/a/dog+rain_1.wav")
    (clip,) = read("glob", root=root, match=r"([a-z+]+)_\d", label_separator="+")
    assert clip.labels == ("dog", "rain")
    (clip,) = read("glob", root=root)
    assert clip.labels == ()


def test_patterns_and_expressions_that_match_nothing_are_told(tmp_path: Path) -> None:
    options = glob(str(tmp_path))
    with pytest.raises(InputError, match=r"matches manifest.pattern '\*.wav'; there are 11, the"):
        read("glob", **options | {"pattern": "*.wav"})
    with pytest.raises(InputError, match=r"manifest.match .* is not in '.*/none_0001.wav'; corr"):
        read("glob", **options | {"match": "(owl)"})
    kept = read("glob", **options | {"match": "(owl)", "skip_unmatched": True})
    assert len(kept) == 5
    with pytest.raises(InputError, match=r"manifest.match '\(cat\)' names no clip"):
        read("glob", **options | {"match": "(cat)", "skip_unmatched": True})
    with pytest.raises(ValidationError, match=r"'\(owl' is no regular expression: missing \)"):
        READERS.build("glob", {"root": "x", "match": "(owl"})
    with pytest.raises(ValidationError, match=r"'owl' has no group; put what is the label into"):
        READERS.build("glob", {"root": "x", "match": "owl"})

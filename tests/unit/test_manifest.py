"""The manifest: clips checked and divided, whole groups at a time."""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from audioflow.clip import Clip
from audioflow.errors import InputError
from audioflow.manifest import build_manifest, classes_of, manifest_fingerprint, split_counts
from audioflow.recipe import ManifestSection
from audioflow.tables import MANIFEST_SCHEMA

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def clip(clip_id: str, *labels: str, root: str = "/data", **columns: str) -> Clip:
    return Clip(clip_id, f"{root}/{clip_id}", labels, columns=columns, place=f"list.csv:{clip_id}")


def corpus(sizes: dict[str, int], root: str = "/data") -> list[Clip]:
    return [
        clip(f"{label}/{number:04d}.wav", label, root=root)
        for label, size in sizes.items()
        for number in range(size)
    ]


def section(**values: Any) -> ManifestSection:
    return ManifestSection(reader="folder", **values)


def built(clips: Sequence[Clip], **values: Any) -> pa.Table:
    return build_manifest(clips, section(**values), "data")


def column(manifest: pa.Table, name: str) -> dict[str, Any]:
    return dict(zip(manifest["clip_id"].to_pylist(), manifest[name].to_pylist(), strict=True))


def splits(clips: Sequence[Clip], **values: Any) -> dict[str, str]:
    return column(built(clips, **values), "split")


# The table


def test_the_manifest_has_one_row_per_clip_in_the_order_of_ids() -> None:
    clips = corpus({"b": 5, "a": 5})
    clips[0] = Clip("b/0000.wav", "/x.wav", ("b", "c"), 1.0, 2.5, 10, "v1")
    clips += corpus({"c": 5})
    manifest = built(clips)
    assert manifest.schema.equals(MANIFEST_SCHEMA)
    ids = manifest["clip_id"].to_pylist()
    assert ids == sorted(one.clip_id for one in clips)
    row = next(row for row in manifest.to_pylist() if row["clip_id"] == "b/0000.wav")
    assert row.pop("split") in SHARES
    assert row == {
        "clip_id": "b/0000.wav",
        "uri": "/x.wav",
        "start_s": 1.0,
        "duration_s": 2.5,
        "labels": ["b", "c"],
        "fold": None,
        "group": "/x.wav",
        "size_bytes": 10,
        "version": "v1",
        "source": "main",
        "fine_labels": ["b", "c"],
    }
    assert classes_of(manifest) == ["a", "b", "c"]


def test_the_fingerprint_covers_all_that_the_manifest_says() -> None:
    clips = corpus({"a": 5})
    first = manifest_fingerprint(built(clips))
    assert first == manifest_fingerprint(built(clips[::-1]))
    others = [
        built(clips, seed=1),
        built(clips[1:]),
        built([*clips[:-1], Clip(clips[-1].clip_id, "/elsewhere.wav", ("a",))]),
        built([*clips[:-1], Clip(clips[-1].clip_id, clips[-1].uri, ("a",), size_bytes=1)]),
        built(
            [*clips[:-1], Clip(clips[-1].clip_id, clips[-1].uri, ("a", "b"))], splits={"train": 1}
        ),
    ]
    assert len({first, *map(manifest_fingerprint, others)}) == 6


def test_no_clip_at_all_is_told() -> None:
    with pytest.raises(InputError, match="data holds no clip; point manifest at the folder or li"):
        built([])
    assert InputError.exit_code == 4


def test_ids_that_occur_twice_are_told_with_both_places() -> None:
    clips = [*corpus({"a": 5}), Clip("a/0001.wav", "/other/0001.wav", ("a",))]
    with pytest.raises(
        InputError,
        match=r"a clip id occurs twice: 'a/0001\.wav' \(list\.csv:a/0001\.wav and "
        r"/other/0001\.wav\); remove one of each, or name an id_column",
    ):
        built(clips)
    with pytest.raises(InputError, match=r"8 clip ids occur twice: 'a/0000\.wav'.* and 3 more;"):
        built(corpus({"a": 8}) * 2)


# Splits by shares


@pytest.mark.parametrize("size", [3, 4, 5, 7, 10, 13, 40, 101])
def test_every_class_is_divided_as_the_shares_say(size: int) -> None:
    manifest = built(corpus({"a": size, "b": size, "c": size}))
    counts = split_counts(manifest)
    assert list(counts) == ["train", "val", "test"]
    for split, share in SHARES.items():
        for label in "abc":
            assert abs(counts[split][label] - share * size) <= 1
        assert abs(sum(counts[split].values()) - 3 * share * size) <= 3
    if size == 13:  # rounding of single classes evens out over the classes
        assert [sum(counts[split].values()) for split in SHARES] == [23, 8, 8]


def test_the_same_seed_gives_the_same_splits_whatever_the_order_of_the_clips() -> None:
    clips = corpus({"a": 40, "b": 17, "c": 5})
    first = splits(clips, seed=3)
    for order in range(3):
        shuffled = clips.copy()
        random.Random(order).shuffle(shuffled)
        assert splits(shuffled, seed=3) == first


def test_another_seed_gives_other_splits_also_where_groups_differ_in_size() -> None:
    clips = corpus({"a": 40})
    assert len({tuple(splits(clips, seed=seed).values()) for seed in range(4)}) == 4
    uneven = [
        clip(f"site{site}/{number}.wav", "a", site=str(site))
        for site in range(10)
        for number in range(site + 5)
    ]
    found = {tuple(splits(uneven, seed=seed, group_by="site").values()) for seed in range(4)}
    assert len(found) == 4


def test_the_splits_do_not_depend_on_where_the_data_lie() -> None:
    here, there = corpus({"a": 40, "b": 9}), corpus({"a": 40, "b": 9}, root="s3://bucket/x")
    assert splits(here) == splits(there)


def test_two_splits_are_enough() -> None:
    counts = split_counts(built(corpus({"a": 10}), splits={"train": 0.8, "test": 0.2}))
    assert counts == {"train": {"a": 8}, "test": {"a": 2}}


@pytest.mark.parametrize("seed", range(8))
def test_groups_of_very_different_sizes_still_give_the_shares(seed: int) -> None:
    sizes = [40, 20, 20, 10, 10, 5, 5, 3, 3, 2, 2, 1, 1, 1, 1]
    clips = [
        clip(f"{site}/{number}.wav", "a", site=str(site))
        for site, size in enumerate(sizes)
        for number in range(size)
    ]
    counts = split_counts(built(clips, group_by="site", seed=seed))
    for split, share in SHARES.items():
        assert counts[split]["a"] == pytest.approx(share * sum(sizes), abs=3)


def test_one_large_group_goes_to_the_largest_split() -> None:
    clips = [clip(f"big{number}.wav", "a", site="big") for number in range(50)]
    clips += [clip(f"{site}.wav", "a", site=str(site)) for site in range(6)]
    found = built(clips, group_by="site")
    assert split_counts(found) == {"train": {"a": 50}, "val": {"a": 3}, "test": {"a": 3}}


# Groups


def sites(seed: int, count: int = 12) -> list[Clip]:
    """Clips of several classes at several sites, not every class at every one."""
    chance = random.Random(seed)
    return [
        clip(f"s{site}/{label}{number}.wav", label, site=f"s{site}")
        for site in range(count)
        for label in "abcdef"
        if chance.random() < 0.5
        for number in range(chance.randint(1, 9))
    ]


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 126])
def test_groups_of_several_classes_never_straddle_and_every_class_is_everywhere(seed: int) -> None:
    clips = sites(seed)
    manifest = built(clips, group_by="site", seed=seed)
    groups, found = column(manifest, "group"), column(manifest, "split")
    parts: dict[str, set[str]] = {}
    for clip_id, group in groups.items():
        assert group == clip_id.split("/")[0]
        parts.setdefault(group, set()).add(found[clip_id])
    assert all(len(part) == 1 for part in parts.values())
    assert all(counts.keys() == set("abcdef") for counts in split_counts(manifest).values())


def test_clips_of_one_recording_stay_together() -> None:
    clips = [
        Clip(f"r{recording}@{start}", f"/data/r{recording}.wav", ("a",), float(start), 1.0)
        for recording in range(10)
        for start in range(7)
    ]
    manifest = built(clips)
    by_recording: dict[str, set[str]] = {}
    for row in manifest.to_pylist():
        by_recording.setdefault(row["uri"], set()).add(row["split"])
    assert all(len(found) == 1 for found in by_recording.values())
    assert Counter(manifest["split"].to_pylist()) == {"train": 42, "val": 14, "test": 14}


@pytest.mark.parametrize(
    ("pattern", "group"), [(r"regex:^\d-(\d+)", "17"), (r"regex:^\d-\d+", "1-17")]
)
def test_groups_are_cut_out_of_ids_by_a_pattern(pattern: str, group: str) -> None:
    clips = [clip(f"1-{number}-{take}.wav", "a") for number in range(15, 20) for take in "AB"]
    manifest = built(clips, group_by=pattern)
    assert column(manifest, "group")["1-17-A.wav"] == group


@pytest.mark.parametrize(
    ("group_by", "told"),
    [
        (r"regex:^\d", r"'regex:^\\d' matches nothing in the clip id 'a/0000.wav' (list.csv:a/"),
        ("regex:^(x)?", "'regex:^(x)?' gives clip 'a/0000.wav' an empty group (list.csv:a/0000"),
        ("site", "manifest.group_by: 'site' gives clip 'a/0000.wav' an empty group"),
        ("sight", "there is no column 'sight' at list.csv:a/0000.wav; columns: site; did you mean"),
    ],
)
def test_clips_without_a_group_are_told(group_by: str, told: str) -> None:
    clips = [clip(f"a/{number:04d}.wav", "a", site="") for number in range(5)]
    with pytest.raises(InputError, match=re.escape(told)):
        built(clips, group_by=group_by)


def test_a_reader_without_columns_is_told_so() -> None:
    with pytest.raises(InputError, match=r"no column 'site' .*columns: none \(this reader has no"):
        built(corpus({"a": 5}), group_by="site")


def test_a_class_with_too_few_recordings_is_told_with_one_of_them() -> None:
    with pytest.raises(
        InputError,
        match=r"data: every class needs a recording \(group\) in each of train, val, test, "
        r"but class 'rare' has 1 \(list\.csv:rare/0000\.wav\); add recordings, remove the class",
    ):
        built(corpus({"a": 5, "rare": 1}))


def test_groups_that_cannot_be_divided_are_told() -> None:
    # The groups of every class must be apart; with those of 'a' apart, the last two cannot be.
    clips = [
        clip(f"{site}{label}.wav", label, site=str(site))
        for site, labels in enumerate(["ab", "ac", "ad", "bcd", "bcd"])
        for label in labels
    ]
    with pytest.raises(
        InputError,
        match=r"data: with whole groups no division was found that has every class in each of "
        r"train, val, test: '[bcd]' is not in .*; choose another manifest\.group_by",
    ):
        built(clips, group_by="site")


# Published splits and folds

PUBLISHED = {"column": "set", "train": ["training", 1], "val": ["dev"], "test": ["eval"]}


def test_beside_a_column_val_may_be_a_share_of_the_train_clips() -> None:
    clips = [
        Clip(f"{label}{number}", f"/{label}{number}", (label,), columns={"set": part})
        for label in "ab"
        for part, numbers in (("learn", range(10)), ("eval", range(10, 13)))
        for number in numbers
    ]
    clips = [replace(clip, group=f"{clip.labels[0]}{int(clip.clip_id[1:]) // 2}") for clip in clips]
    given = {"column": "set", "train": ["learn"], "val": 0.2, "test": ["eval"]}
    found = built(clips, splits=given)
    counts = split_counts(found)
    assert counts == {
        "train": {"a": 8, "b": 8},
        "val": {"a": 2, "b": 2},
        "test": {"a": 3, "b": 3},
    }
    by_group = zip(found["group"].to_pylist(), found["split"].to_pylist(), strict=True)
    assert len({pair for pair in by_group if pair[1] != "test"}) == 10
    assert column(built(clips, splits=given, seed=1), "split") != column(found, "split")


def published(*sets: str) -> list[Clip]:
    return [clip(f"a/{number}.wav", "a", set=name) for number, name in enumerate(sets)]


def test_published_splits_are_taken_from_their_column() -> None:
    found = splits(published("training", "1", "dev", "eval"), splits=PUBLISHED)
    assert list(found.values()) == ["train", "train", "val", "test"]


def test_values_that_belong_to_no_split_are_told_all_at_once() -> None:
    with pytest.raises(
        InputError,
        match=r"the column 'set' has values that belong to no split: '' \(list\.csv:a/3\.wav\), "
        r"'extra' \(list\.csv:a/1\.wav\); given are 'training', '1', 'dev', 'eval'",
    ):
        built(published("training", "extra", "extra", ""), splits=PUBLISHED)


def test_published_splits_that_break_a_group_are_told() -> None:
    clips = [clip("a.wav", "a", set="training", site="s"), clip("b.wav", "a", set="dev", site="s")]
    with pytest.raises(
        InputError, match=r"group 's' stands in train \(list\.csv:a\.wav\) and in val \(list\.csv:b"
    ):
        built(clips, splits=PUBLISHED, group_by="site")


def test_a_class_that_is_never_trained_on_is_told() -> None:
    clips = [*published("training", "dev"), clip("z.wav", "unseen", set="eval")]
    with pytest.raises(InputError, match="no train clip has the class 'unseen', so no head could"):
        built(clips, splits=PUBLISHED)


def test_a_published_column_that_is_not_there_is_told() -> None:
    with pytest.raises(
        InputError, match=r"manifest\.splits\.column: there is no column 'set' at lis"
    ):
        built([clip("a.wav", "a", sett="dev")], splits=PUBLISHED)


def test_folds_are_even_for_every_class() -> None:
    manifest = built(corpus({"a": 20, "b": 10}), splits={"folds": 5})
    assert set(manifest["split"].to_pylist()) == {"cv"}
    assert split_counts(manifest) == {f"fold {number}": {"a": 4, "b": 2} for number in "12345"}


def test_published_folds_are_taken_from_their_column() -> None:
    clips = [clip(f"a{number}.wav", "a", fold=str(number % 3 + 1)) for number in range(9)]
    manifest = built(clips, splits={"folds": "fold"})
    assert manifest["fold"].to_pylist() == ["1", "2", "3"] * 3


def fold_clips(*folds: str) -> list[Clip]:
    return [clip(f"a{number}.wav", "a", fold=fold) for number, fold in enumerate(folds)]


@pytest.mark.parametrize(
    ("clips", "told"),
    [
        (
            lambda: fold_clips("1", "2", "2"),
            "the column 'fold' has the values 1, 2; 3 or more are needed: one to test, one to",
        ),
        (lambda: fold_clips("1", "2", ""), "fold is '' at list.csv:a2.wav; a fold needs a name"),
        (lambda: fold_clips("1", "2", "a/b"), "fold is 'a/b' at list.csv:a2.wav; a fold needs"),
        (
            lambda: [*fold_clips("1", "2", "3"), clip("z.wav", "rare", fold="3")],
            "every class needs clips in 3 folds or more, to be tested, selected on and learnt, but "
            "'rare' is in 3; remove the class or choose other folds",
        ),
        (lambda: [clip("a.wav", "a")], "manifest.splits.folds: there is no column 'fold'"),
    ],
)
def test_published_folds_that_cannot_be_used_are_told(
    clips: Callable[[], list[Clip]], told: str
) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        built(clips(), splits={"folds": "fold"})


def test_folds_keep_groups_together() -> None:
    manifest = built(sites(1, count=30), group_by="site", splits={"folds": 4})
    folds: dict[str, set[str]] = {}
    for row in manifest.to_pylist():
        folds.setdefault(row["group"], set()).add(row["fold"])
    assert all(len(found) == 1 for found in folds.values())

"""Further data sets in a manifest (`manifest.extra`): what is taken of them, and where it goes."""

from pathlib import Path
from typing import Any

import pytest

from audioflow.datasets.demo_corpus import MARKER
from audioflow.datasets.sources import Mixed, read_manifest
from audioflow.engine.manifest import make_manifest
from audioflow.engine.run import Run
from audioflow.errors import InputError
from audioflow.events import Event
from audioflow.manifest import manifest_fingerprint, split_counts
from audioflow.recipe import ManifestSection, Recipe
from audioflow.storage import Folder
from audioflow.tables import SCHEMA_VERSION
from audioflow.verify import verify

MAIN = {"dog": 10, "rain": 10}
OTHER = {"Bark": 6, "Rain": 4, "Engine": 5}


def put(root: Path, sizes: dict[str, int]) -> str:
    for label, size in sizes.items():
        (root / label).mkdir(parents=True)
        for number in range(size):
            (root / label / f"{number:02d}.wav").write_bytes(b"x" * (number + 1))
    return str(root)


@pytest.fixture
def main(tmp_path: Path) -> str:
    return put(tmp_path / "main", MAIN)


@pytest.fixture
def other(tmp_path: Path) -> str:
    return put(tmp_path / "other", OTHER)


def section(root: str, extra: dict[str, Any], **more: Any) -> ManifestSection:
    data = {"reader": "folder", "root": root, "extra": extra} | more
    return ManifestSection.model_validate(data)


def mixed(root: str, extra: dict[str, Any], **more: Any) -> Mixed:
    return read_manifest(section(root, extra, **more), Folder, Folder)


def rows_of(found: Mixed, source: str) -> list[dict[str, Any]]:
    return [row for row in found.manifest.to_pylist() if row["source"] == source]


def theirs(root: str, **more: Any) -> dict[str, Any]:
    rename = {"Bark": "dog", "Rain": "rain"}
    return {"reader": "folder", "root": root, "classes": {"drop": ["Engine"]}, "rename": rename} | (
        more
    )


def test_further_clips_are_for_training_under_our_names_and_leave_the_others_alone(
    main: str, other: str
) -> None:
    alone = mixed(main, {})
    found = mixed(main, {"street": theirs(other)})
    assert rows_of(found, "main") == alone.manifest.to_pylist()
    assert alone.stats == {}
    added = rows_of(found, "street")
    assert [
        (row["clip_id"], row["labels"]) for row in added if row["clip_id"].endswith("00.wav")
    ] == [
        ("street/Bark/00.wav", ["dog"]),
        ("street/Rain/00.wav", ["rain"]),
    ]
    assert {(row["split"], row["fold"]) for row in added} == {("train", None)}
    assert {row["group"] for row in added} == {f"street/{row['uri']}" for row in added}
    assert {row["size_bytes"] for row in added} == {1, 2, 3, 4, 5, 6}
    assert found.stats == {
        "main": {"clips": 20, "read": 20},
        "street": {"clips": 10, "read": 15, "no_label": 5, "over_limit": 0},
    }
    ids = found.manifest["clip_id"].to_pylist()
    assert ids == sorted(ids)


def test_with_folds_further_clips_are_in_none_and_always_learnt_from(main: str, other: str) -> None:
    found = mixed(main, {"street": theirs(other)}, splits={"folds": 5})
    counts = split_counts(found.manifest)
    assert counts["train"] == {"dog": 6, "rain": 4}
    assert [counts[f"fold {number}"] for number in range(1, 6)] == 5 * [{"dog": 2, "rain": 2}]
    assert {(row["split"], row["fold"]) for row in rows_of(found, "street")} == {("train", None)}


def test_a_further_data_set_may_be_the_test_and_main_all_that_is_learnt(
    main: str, other: str
) -> None:
    extra = {"street": theirs(other, split="test")}
    found = mixed(main, extra, splits={"train": 0.8, "val": 0.2})
    assert split_counts(found.manifest)["test"] == {"dog": 6, "rain": 4}
    assert {row["split"] for row in rows_of(found, "main")} == {"train", "val"}


def test_a_class_that_main_only_tests_can_be_learnt_from_another_data_set(
    tmp_path: Path, other: str
) -> None:
    lines = ["file,label,part"]
    lines += [
        f"{label}{number}.wav,{label},{part}"
        for label, part in (("dog", "a"), ("rain", "b"))
        for number in range(3)
    ]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    values = {
        "reader": "csv",
        "list": str(tmp_path / "list.csv"),
        "file_column": "file",
        "label_column": "label",
        "splits": {"column": "part", "train": ["a"], "test": ["b"]},
    }
    with pytest.raises(InputError, match="no train clip has the class 'rain'"):
        read_manifest(ManifestSection.model_validate(values), Folder, Folder)
    values["extra"] = {"street": theirs(other)}
    found = read_manifest(ManifestSection.model_validate(values), Folder, Folder)
    assert split_counts(found.manifest)["train"] == {"dog": 9, "rain": 4}


def test_keep_takes_what_it_names_and_several_of_theirs_can_be_one_of_ours(
    main: str, other: str
) -> None:
    extra = theirs(other, classes={"keep": ["Bark", "Engine"]})
    extra["rename"] = {"Bark": "dog", "Engine": "dog"}
    found = mixed(main, {"street": extra})
    assert split_counts(found.manifest)["train"]["dog"] == 6 + 11
    assert found.stats["street"] == {"clips": 11, "read": 15, "no_label": 4, "over_limit": 0}


def test_a_clip_with_several_labels_keeps_those_that_are_taken(tmp_path: Path, main: str) -> None:
    lines = ["file,label", "1.wav,Bark+Engine", "2.wav,Engine", "3.wav,Bark+Yelp"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    extra = {
        "reader": "csv",
        "list": str(tmp_path / "list.csv"),
        "file_column": "file",
        "label_column": "label",
        "label_separator": "+",
        "classes": {"drop": ["Engine"]},
        "rename": {"Bark": "dog", "Yelp": "dog"},
    }
    found = mixed(main, {"street": extra})
    assert {row["clip_id"]: row["labels"] for row in rows_of(found, "street")} == {
        "street/1.wav": ["dog"],
        "street/3.wav": ["dog"],
    }
    assert found.stats["street"]["no_label"] == 1


def test_clips_of_several_classes_that_are_taken_can_be_left_out(tmp_path: Path, main: str) -> None:
    lines = ["file,label", "1.wav,Bark+Engine", "2.wav,Bark+Rain", "3.wav,Bark+Yelp"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    extra = {
        "reader": "csv",
        "list": str(tmp_path / "list.csv"),
        "file_column": "file",
        "label_column": "label",
        "label_separator": "+",
        "one_label": True,
        "classes": {"keep": ["Bark", "Rain", "Yelp"]},
        "rename": {"Bark": "dog", "Yelp": "dog", "Rain": "rain"},
    }
    found = mixed(main, {"street": extra})
    assert {row["clip_id"]: row["labels"] for row in rows_of(found, "street")} == {
        "street/1.wav": ["dog"],
        "street/3.wav": ["dog"],
    }
    assert found.stats["street"]["several_labels"] == 1
    assert found.stats["street"]["no_label"] == 0
    (tmp_path / "list.csv").write_text("\n".join([lines[0], lines[2]]))
    extra["classes"], extra["rename"] = None, {"Bark": "dog", "Rain": "rain"}
    with pytest.raises(InputError, match=r"all 1 clips have several .* '2\.wav' for one"):
        mixed(main, {"street": extra})


def test_a_class_of_ours_can_be_dropped_where_they_happen_to_have_none(
    main: str, other: str
) -> None:
    extra = theirs(other, classes={"drop": ["Engine", "dog"]})
    assert {tuple(row["labels"]) for row in rows_of(mixed(main, {"street": extra}), "street")} == {
        ("dog",),
        ("rain",),
    }


def test_unknown_classes_are_refused_unless_they_are_welcome(main: str, other: str) -> None:
    extra = theirs(other, classes=None, rename={"Rain": "rain"})
    with pytest.raises(
        InputError,
        match=r"manifest\.extra\.street: the main data set has no class 'Bark' \(6 clips\), "
        r"'Engine' \(5 clips\); its classes are dog, rain: rename theirs to one of these, drop",
    ):
        mixed(main, {"street": extra})
    found = mixed(main, {"street": extra | {"new_classes": True}})
    assert split_counts(found.manifest)["train"] == {"Bark": 6, "Engine": 5, "dog": 6, "rain": 10}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"classes": {"drop": ["Engin"]}},
            r"classes names 'Engin', which is not among its classes "
            r"Bark, Engine, Rain; did you mean 'Engine'\?",
        ),
        ({"classes": {"keep": ["Meow"]}}, "classes names 'Meow', which is not among its classes"),
        ({"rename": {"bark": "dog"}}, r"rename names 'bark', .*; did you mean 'Bark'\?"),
        (
            {"classes": {"drop": ["Bark", "Engine", "Rain"]}, "rename": {}},
            "no clip has a class that is taken; its classes are Bark, Engine, Rain",
        ),
        ({"root": "/nowhere/at/all"}, "/nowhere/at/all does not exist"),
    ],
)
def test_what_cannot_be_taken_is_told_with_the_name_of_the_data_set(
    main: str, other: str, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=rf"manifest\.extra\.street: {told}"):
        mixed(main, {"street": theirs(other) | changes})


def test_a_limit_draws_clips_of_all_kinds_the_same_for_a_seed(main: str, tmp_path: Path) -> None:
    many = put(tmp_path / "many", {"dog": 60, "rain": 60})
    extra = {"street": {"reader": "folder", "root": many, "limit": 40}}

    def drawn(seed: int, **more: Any) -> set[str]:
        found = mixed(main, {"street": extra["street"] | more}, seed=seed)
        return {row["clip_id"] for row in rows_of(found, "street")}

    first = drawn(3)
    assert len(first) == 40
    assert 8 <= sum("/dog/" in clip for clip in first) <= 32
    assert drawn(3) == first
    assert len(drawn(4) - first) > 10
    assert first < drawn(3, limit=50), "a larger limit adds to what was drawn"
    found = mixed(main, extra)
    assert found.stats["street"] == {"clips": 40, "read": 120, "no_label": 0, "over_limit": 80}


def test_ids_and_groups_of_two_data_sets_are_never_the_same(tmp_path: Path) -> None:
    main = put(tmp_path / "main", {"dog": 5, "rain": 5})
    twin = put(tmp_path / "twin", {"dog": 5, "rain": 5})
    found = mixed(main, {"twin": {"reader": "folder", "root": twin}})
    assert len(set(found.manifest["clip_id"].to_pylist())) == 20
    assert len(set(found.manifest["group"].to_pylist())) == 20
    flat = tmp_path / "list.csv"
    flat.write_text("file,label\n00.wav,dog\n")
    columns = {"file_column": "file", "label_column": "label"}
    with pytest.raises(
        InputError,
        match=r"manifest\.extra\.dog: the clip id 'dog/00\.wav' .* is one of the main data set, "
        r"too; give 'dog' another name",
    ):
        mixed(main, {"dog": {"reader": "csv", "list": str(flat)} | columns})


def test_a_recording_that_is_learnt_from_in_one_and_tested_in_another_is_refused(main: str) -> None:
    with pytest.raises(
        InputError,
        match=r"manifest\.extra\.again: the recording '.*/main/\w+/\d\d\.wav' is in train here .* "
        r"and in (val|test) as '\w+/\d\d\.wav' of 'main'; take it out of one of them",
    ):
        mixed(main, {"again": {"reader": "folder", "root": main}})
    with pytest.raises(InputError, match=r"is in train here .*, and in fold \d as '\w+/\d\d\.w"):
        mixed(main, {"again": {"reader": "folder", "root": main}}, splits={"folds": 3})
    found = mixed(main, {"again": {"reader": "folder", "root": main}}, splits={"train": 1})
    assert found.manifest.num_rows == 40


def test_an_id_that_a_further_data_set_has_twice_is_told(tmp_path: Path, main: str) -> None:
    (tmp_path / "list.csv").write_text("file,label\nx.wav,dog\nx.wav,dog\n")
    columns = {"file_column": "file", "label_column": "label"}
    extra = {"reader": "csv", "list": str(tmp_path / "list.csv")} | columns
    with pytest.raises(InputError, match=r"a clip id occurs twice: 'x\.wav'"):
        mixed(main, {"street": extra})


def test_main_without_a_clip_is_told_as_ever(tmp_path: Path, other: str) -> None:
    (tmp_path / "list.csv").write_text("file,label\n")
    values = {
        "reader": "csv",
        "list": str(tmp_path / "list.csv"),
        "file_column": "file",
        "label_column": "label",
        "extra": {"street": theirs(other)},
    }
    with pytest.raises(InputError, match=r"list\.csv holds no clip; point manifest at the folder"):
        read_manifest(ManifestSection.model_validate(values), Folder, Folder)


def test_noise_is_made_where_the_run_writes_and_is_a_class_of_its_own(
    main: str, tmp_path: Path
) -> None:
    options = {"reader": "noise", "root": "noise", "count": 4, "duration_s": 0.1}
    extra = {"noise": options | {"label": "nothing", "new_classes": True}}
    made = Folder(str(tmp_path / "written"))
    found = read_manifest(section(main, extra), Folder, lambda path: made / path)
    added = rows_of(found, "noise")
    assert {tuple(row["labels"]) for row in added} == {("nothing",)}
    assert all(Path(row["uri"]).is_relative_to(tmp_path / "written") for row in added)
    assert len(added) == 4


def recipe(tmp_path: Path, manifest: dict[str, Any]) -> Recipe:
    return Recipe.model_validate({"run_dir": str(tmp_path / "run"), "manifest": manifest})


def test_the_job_tells_what_became_of_the_clips_and_verify_proves_the_table(
    main: str, other: str, tmp_path: Path
) -> None:
    extra = {"street": theirs(other, limit=8)}
    manifest = {"reader": "folder", "root": main, "extra": extra}
    notes: list[str] = []
    run = Run(
        recipe(tmp_path, manifest),
        lambda event: notes.append(event.data["text"]) if event.kind == "note" else None,
    )
    header = make_manifest(run)
    assert header.stats["sources"]["street"]["over_limit"] == 2
    assert notes == [
        "street: 8 of 15 clips are mixed in, 5 have no class that is taken, 2 are over the limit"
    ]
    assert verify(run.folder).ok
    again: list[str] = []
    unchanged = Run(run.recipe, lambda event: again.append(event.kind))
    assert make_manifest(unchanged) == header
    assert again == ["start", "skip"]


def test_a_manifest_without_the_column_source_is_made_again(main: str, tmp_path: Path) -> None:
    run = Run(recipe(tmp_path, {"reader": "folder", "root": main}))
    made = make_manifest(run)
    rows = run.manifest().read()
    old = rows.drop_columns(["source"])
    assert manifest_fingerprint(old) != manifest_fingerprint(rows)
    table = run.manifest()
    receipt = table.commit(made.shards[0].name, old)
    values = vars(made) | {"fingerprint": manifest_fingerprint(old), "shards": [receipt]}
    table.finish(type(made)(**values))
    assert {fault.kind for fault in verify(run.folder).faults} == {"schema"}
    make_manifest(run)
    assert set(run.manifest().read()["source"].to_pylist()) == {"main"}
    assert verify(run.folder).ok
    assert made.schema_version == SCHEMA_VERSION


def notes_of(tmp_path: Path, manifest: dict[str, Any]) -> list[str]:
    """What the job tells, the first time and when nothing changed."""
    heard: list[list[str]] = [[], []]
    for notes in heard:

        def listen(event: Event, notes: list[str] = notes) -> None:
            if event.kind == "note":
                notes.append(event.data["text"])

        make_manifest(Run(recipe(tmp_path, manifest), listen))
    assert heard[0] == heard[1]
    return heard[0]


@pytest.mark.parametrize("reader", ["folder", "glob"])
def test_the_job_tells_what_was_left_out_and_what_was_found_twice(
    main: str, tmp_path: Path, reader: str
) -> None:
    found = Path(main)
    (found / "dog" / "linked").symlink_to(found / "rain")
    (found / "rain" / "up").symlink_to(found)
    (found / ".cache" / "deep").mkdir(parents=True)
    (found / ".cache" / "deep" / "a.wav").write_bytes(b"x")
    (found / "rain" / ".hidden.wav").write_bytes(b"x")
    values: dict[str, Any] = {"reader": reader, "root": main}
    if reader == "glob":
        values |= {"pattern": "**/*.wav", "match": "(?P<label>[a-z]+)/.*"}
    # `.hidden.wav` and `up` stand in `rain`, and in the folder that is linked to it.
    assert notes_of(tmp_path, values) == [
        "left out: 2 hidden files or folders, '.cache' for one; "
        "1 link to a folder that it is in, 'rain/up' for one",
        "10 files are reached by another path, too, 'dog/linked/00.wav' for one",
    ]


def test_what_a_further_data_set_left_out_is_told_with_its_name(main: str, other: str) -> None:
    (Path(other) / ".git").mkdir()
    found = mixed(main, {"street": theirs(other)})
    assert found.notes == ("street: left out: 1 hidden file or folder, '.git' for one",)


def test_what_audioflow_itself_hides_in_a_data_set_is_not_told(main: str, tmp_path: Path) -> None:
    (Path(main) / MARKER).write_text("{}")
    assert notes_of(tmp_path, {"reader": "folder", "root": main}) == []

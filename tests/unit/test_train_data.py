"""What a system is trained on: clips of the manifest joined by id to their embeddings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.engine.train_data import check_splits, estimated_bytes, example_sets, membership
from audioflow.engine.train_task import TrainTask, classes_of, inputs_of
from audioflow.errors import InputError, RecipeError
from audioflow.recipe import SystemSection
from audioflow.schemas import MANIFEST_SCHEMA
from audioflow.storage import Folder
from audioflow.tables import Header, Table

LAYERS = {"pool5": 3, "conv6": 2}
CLIPS = {
    "a": {"labels": ["cat"], "split": "train"},
    "b": {"labels": ["dog"], "split": "train"},
    "c": {"labels": ["cat"], "split": "val"},
    "d": {"labels": ["dog"], "split": "test"},
    "e": {"labels": ["dog"], "split": "train", "source": "more"},
}
PATCHES = {"a": 2, "b": 1, "c": 3, "d": 1, "e": 2}
FOLDS = {
    name: {"labels": ["cat"], "split": "cv", "fold": str(place)}
    for place, name in enumerate("abcd", 1)
}


def header(kind: str, rows: int, receipts: list, settings: dict, classes: list[str]) -> Header:
    return Header(kind, "b", kind, {}, settings, rows, 0, receipts, classes=classes)


def task(
    folder: Folder,
    clips: dict[str, dict[str, Any]] = CLIPS,
    *,
    variants: int = 0,
    without: str = "",
    merge: dict[str, str] | None = None,
    tall: int = 1,
    **system: Any,
) -> TrainTask:
    """A task on tables that are written for it."""
    whole = {"head": "linear", "backbone": "b"} | system
    section = SystemSection.model_validate(whole)
    _manifest(folder, clips, merge or {})
    table = _embeddings(folder, [n for n in clips if n not in without], variants, tall)
    names = Table(folder / "manifest").complete_header().classes
    return TrainTask(
        "s",
        section,
        folder / "embeddings",
        folder / "manifest",
        inputs_of("s", section, table.complete_header(), table),
        classes_of(Table(folder / "manifest"), section, tuple(names), "s"),
    )


def _manifest(folder: Folder, clips: dict[str, dict[str, Any]], merge: dict[str, str]) -> None:
    rows = [
        {"clip_id": name, "uri": name, "group": name, "source": "main"}
        | {"fine_labels": clip["labels"]}
        | clip
        | {"labels": [merge.get(label, label) for label in clip["labels"]]}
        for name, clip in clips.items()
    ]
    table = Table(folder / "manifest")
    receipt = table.commit("m", pa.Table.from_pylist(rows, MANIFEST_SCHEMA))
    classes = sorted({label for row in rows for label in row["labels"]})
    table.finish(header("manifest", len(rows), [receipt], {"merge": merge}, classes))


def _embeddings(folder: Folder, names: list[str], variants: int, tall: int) -> Table:
    """In two shards; the first column of every vector is the place of its clip, the second its
    variant."""
    table, receipts = Table(folder / "embeddings"), []
    for part in (names[:2], names[2:]):
        made = [(name, variant) for name in part for variant in range(variants + 1)]
        embedded = [_clip(name, variant, tall) for name, variant in made]
        rows = embedding_rows([name for name, _ in made], embedded, LAYERS)
        receipts.append(table.commit(f"e-{len(receipts)}", rows))
    count = len(names) * (variants + 1)
    return _finished(table, header("embeddings", count, receipts, {"layers": LAYERS}, []))


def _finished(table: Table, told: Header) -> Table:
    table.finish(told)
    return table


def _clip(name: str, variant: int, tall: int) -> ClipEmbedding:
    count = PATCHES[name]
    layers = {}
    for layer, width in LAYERS.items():
        layers[layer] = np.zeros((count * tall, width), np.float32)
        layers[layer][:, 0], layers[layer][:, 1] = ord(name), variant
    return ClipEmbedding(layers, np.arange(count) * 0.5, float(count), 1.0, variant)


def names_in(examples: Any) -> list[str]:
    rows = examples.rows[0]
    firsts = rows[examples.offsets[:-1]]
    return [chr(int(first)) for first in firsts.reshape(len(firsts), -1)[:, 0]]


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(str(tmp_path))


# Parts


def test_clips_are_learned_from_and_selected_on_by_their_split(folder):
    sets = example_sets(task(folder))
    assert names_in(sets.train) == ["a", "b", "e"]
    assert sets.train.targets.tolist() == [0, 1, 1]
    assert names_in(sets.val) == ["c"]
    assert sets.clips == {"train": 3, "val": 1}


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("val_loss", {"a": "train", "b": "train", "c": "test", "d": "val"}),
        ("last", {"a": "train", "b": "train", "c": "test", "d": "train"}),
    ],
)
def test_of_the_folds_one_is_tested_and_one_selects_unless_the_last_epoch_is_kept(
    folder, select, expected
):
    one = task(folder, FOLDS, train={"select": select})
    assert membership(replace(one, fold="3")).parts == expected
    last = membership(replace(one, fold="4")).parts
    assert last == {
        "a": "val" if select == "val_loss" else "train",
        "b": "train",
        "c": "train",
        "d": "test",
    }


def test_scikit_learn_selects_nothing_and_a_fold_may_be_named_to_judge_on(folder):
    one = task(folder, FOLDS, head="sgd")
    assert list(membership(replace(one, fold="3")).parts.values()).count("train") == 3
    judged = membership(replace(one, fold="3", val_fold="1")).parts
    assert judged == {"a": "val", "b": "train", "c": "test", "d": "train"}


def test_variants_are_learned_from_and_not_selected_on(folder):
    sets = example_sets(task(folder, variants=2))
    assert names_in(sets.train) == ["a"] * 3 + ["b"] * 3 + ["e"] * 3
    assert sets.train.rows[0][:3, 1].tolist() == [0, 1, 2]
    assert names_in(sets.val) == ["c"]


def test_sources_that_are_dropped_teach_nothing(folder):
    sets = example_sets(task(folder, train={"drop_sources": ["more"]}))
    assert names_in(sets.train) == ["a", "b"]
    with pytest.raises(RecipeError, match=r"train\.drop_sources: 'mor' is not .*'more'\?"):
        example_sets(task(folder, train={"drop_sources": ["mor"]}))


def test_patches_learn_by_themselves_and_clips_are_selected_on(folder):
    sets = example_sets(task(folder, train={"unit": "patch"}))
    assert names_in(sets.train) == ["a", "a", "b", "e", "e"]
    assert sets.train.targets.tolist() == [0, 0, 1, 1, 1]
    assert (len(sets.val), len(sets.val.rows[0])) == (1, 3)
    assert sets.clips == {"train": 3, "val": 1}


# Classes


def test_a_clip_of_several_labels_or_none_makes_scores_independent(folder):
    for labels, expected in ((["cat", "dog"], [1, 1]), ([], [0, 0])):
        clips = CLIPS | {"b": {"labels": labels, "split": "train"}}
        one = task(folder, clips)
        assert one.classes.multi_label
        assert one.network.multi_label
        assert example_sets(one).train.targets.tolist() == [[1, 0], expected, [0, 1]]


def test_several_labels_where_one_is_asked_for_are_told(folder):
    clips = CLIPS | {"b": {"labels": ["cat", "dog"], "split": "train"}}
    with pytest.raises(
        InputError, match=r"task is single, but clip 'b' has the labels \['cat', 'dog'\]; set train"
    ):
        task(folder, clips, train={"task": "single"})


def test_single_labels_may_be_learned_as_several(folder):
    one = task(folder, train={"task": "multi"})
    assert example_sets(one).train.targets.tolist() == [[1, 0], [0, 1], [0, 1]]
    assert not task(folder).classes.multi_label


def test_fine_labels_are_learned_and_merged_ones_are_selected_on(folder):
    fine = {
        "a": {"labels": ["meow"], "split": "train"},
        "b": {"labels": ["bark"], "split": "train"},
        "c": {"labels": ["purr"], "split": "val"},
        "d": {"labels": ["howl"], "split": "train"},
    }
    merge = {"meow": "cat", "purr": "cat", "howl": "bark"}
    one = task(folder, fine, merge=merge, train={"fine": True})
    assert one.classes.names == ("bark", "cat")
    assert one.classes.head == ("bark", "howl", "meow", "purr")
    assert one.classes.merge == (0, 0, 1, 1)
    assert one.network.num_classes == 4
    sets = example_sets(one)
    assert sets.train.targets.tolist() == [2, 0, 1]
    assert sets.val.targets.tolist() == [1]
    coarse = example_sets(task(folder, fine, merge=merge))
    assert coarse.train.targets.tolist() == [1, 0, 0]


def test_fine_labels_where_nothing_is_merged_are_refused(folder):
    with pytest.raises(InputError, match=r"'s': train\.fine is true, but .* merges no class"):
        task(folder, train={"fine": True})


# What is not there


@pytest.mark.parametrize(("without", "split"), [("abe", "train"), ("c", "val")])
def test_a_split_without_embeddings_is_told_before_training(folder, without, split):
    one = task(folder, without=without)
    for look in (example_sets, lambda given: check_splits(given, [])):
        with pytest.raises(InputError, match=f"'s': no clip of the split {split} has an embedding"):
            look(one)


def test_where_nothing_is_selected_there_need_be_no_val(folder):
    sets = example_sets(task(folder, without="c", train={"select": "last"}))
    assert (len(sets.val), sets.val.rows[0].shape, sets.clips["val"]) == (0, (0, 3), 0)
    check_splits(task(folder, without="c", train={"select": "last"}), [])


def test_where_scores_are_calibrated_there_has_to_be_a_val(folder):
    train = {"select": "last"}
    with pytest.raises(InputError, match="no clip of the split val has an embedding"):
        check_splits(task(folder, without="c", train=train, calibration="platt"), [])
    check_splits(task(folder, without="c", train=train, calibration="none"), [])


def test_every_fold_needs_clips(folder):
    one = task(folder, FOLDS, without="b")
    check_splits(replace(one, fold=None), ["3", "4"])
    with pytest.raises(InputError, match="no clip of the split val has an embedding"):
        check_splits(one, ["1", "2", "3", "4"])


# Inputs


def test_a_layer_that_is_not_there_is_told_with_those_that_are(folder):
    with pytest.raises(
        RecipeError, match=r"systems\.s\.layer: 'pool' is not a layer of b; .*: pool5, conv6; did"
    ):
        task(folder, layer="pool")


@pytest.mark.parametrize(
    ("system", "layers", "shape"),
    [
        ({}, ("pool5",), (1, 3)),
        ({"layer": "conv6"}, ("conv6",), (1, 2)),
        ({"pooling": "mean_std"}, ("pool5",), (1, 6)),
        ({"head": "multi_layer"}, ("pool5", "conv6"), (1, 3)),
        ({"head": "multi_layer", "layers": ["conv6"]}, ("conv6",), (1, 2)),
        ({"head": "attention", "pooling": None}, ("pool5",), (3, 3)),
        ({"head": "resnet18"}, ("pool5",), (3, 4, 3)),
    ],
    ids=str,
)
def test_what_a_head_reads_follows_from_what_it_takes(folder, system, layers, shape):
    tall = 4 if system.get("head") == "resnet18" else 1
    one = task(folder, tall=tall, **system)
    assert one.inputs.layers == layers
    assert example_sets(one).val.rows[0].shape == shape


def test_inputs_are_normalised_where_the_head_wishes_so_unless_the_recipe_decides(folder):
    assert task(folder).network.normalised
    assert not task(folder, train={"normalise": False}).network.normalised
    assert not task(folder, head="resnet18", tall=2).network.normalised
    assert task(folder, head="resnet18", tall=2, train={"normalise": True}).network.normalised


def test_the_memory_that_examples_take_is_estimated(folder):
    one = task(folder)
    sets = example_sets(one)
    assert estimated_bytes(one) == pytest.approx(sets.train.nbytes + sets.val.nbytes, rel=0.5)


def test_clips_to_submit_without_a_label_leave_the_others_with_one_each(tmp_path: Path) -> None:
    clips = {
        name: {"labels": [kind], "split": "train"} for name, kind in zip("abc", "xyx", strict=True)
    }
    submitted = clips | {"d": {"labels": [], "split": "test"}}
    single = {"train": {"task": "single"}}
    for number, more in enumerate(({}, single)):
        assert not task(Folder(str(tmp_path / f"{number}")), submitted, **more).classes.multi_label
    for number, odd in enumerate(
        ({"labels": ["x", "y"], "split": "test"}, {"labels": [], "split": "val"})
    ):
        folder = Folder(str(tmp_path / f"odd{number}"))
        assert task(folder, clips | {"d": odd}).classes.multi_label
        with pytest.raises(
            InputError, match=r"train.task is single, but clip 'd' has the labels \["
        ):
            task(Folder(str(tmp_path / f"refused{number}")), clips | {"d": odd}, **single)

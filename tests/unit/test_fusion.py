"""A fusion as a whole: calibration, who is not there, folds, and what a header gives back."""

import json

import numpy as np
import pyarrow as pa
import pytest

from audioflow import calibration
from audioflow.backbones import BACKBONES
from audioflow.errors import TableError
from audioflow.fusion import (
    Block,
    FitClips,
    Fusion,
    QualityColumn,
    fit_order,
    fuse,
    labelled,
    missing_error,
    missing_reason,
    multi_label_of,
    no_fit_clips,
    quality_columns,
    quality_rows,
    summary_line,
)
from audioflow.fusion.folds import held_out, parts, sample
from audioflow.join import Joined
from audioflow.recipe_fuse import FuseSection, QualityChoice
from audioflow.tables import embeddings_schema
from tests.unit.fusion_clips import (
    accuracy,
    fit_clips,
    fusion,
    halves,
    log_loss,
    make_scores,
    make_several,
    softmax,
)

CLASSES = ("class0", "class1", "class2")


def overconfident(seed: int, num_clips: int = 600):
    """Scores of which audio's are four times too sure."""
    scores, targets = make_scores(seed, num_clips, skill=(1.0, 1.0))
    scores[0] = softmax(4 * np.log(scores[0]))
    return scores, targets


def without(clips: FitClips, system: int, rows) -> FitClips:
    """The clips where one system lacks some."""
    scores, available = clips.clips.scores.copy(), clips.clips.available.copy()
    scores[system, rows], available[system, rows] = np.nan, False
    return FitClips(Block(scores, available), clips.targets, clips.groups, clips.clip_ids)


# Calibration


def test_systems_are_calibrated_before_they_are_fused():
    learnt, held = halves(fit_clips(*overconfident(1)))
    losses = {}
    for method in ("none", "temperature", "auto"):
        made = fusion("product", calibrate=method)
        losses[method] = log_loss(made.apply(made.fit(learnt), held.clips), held.targets)
    assert losses["temperature"] < losses["none"] - 0.2
    assert losses["auto"] == losses["temperature"]


@pytest.mark.parametrize("method", ["temperature", "vector", "platt", "isotonic"])
def test_a_clip_without_sound_has_the_calibrated_scores_of_the_other_system(method):
    clips = without(fit_clips(*overconfident(2)), 1, np.arange(0, 600, 3))
    made = fusion(calibrate=method)
    params = json.loads(json.dumps(made.fit(clips)))
    fused = made.apply(params, clips.clips)
    complete = clips.at(np.flatnonzero(clips.clips.available[0]))
    own = calibration.fit(method, complete.clips.scores[0], complete.targets)
    expected = calibration.from_json(own.to_json()).apply(clips.clips.scores[0, ::3])
    np.testing.assert_array_equal(fused[::3], expected)
    assert log_loss(fused[::3], clips.targets[::3]) < log_loss(
        clips.clips.scores[0, ::3], clips.targets[::3]
    )


def test_without_clips_auto_calibrates_nothing_and_a_method_is_refused():
    scores, _ = overconfident(3)
    block = Block(scores, np.ones(scores.shape[:2], bool))
    made = fusion("max", calibrate="auto")
    assert made.takes_clips
    assert not made.needs_clips
    assert not fusion("max", calibrate="none").takes_clips
    most = scores.max(axis=0)
    fused = made.apply(made.fit(None), block)
    np.testing.assert_allclose(fused, most / most.sum(1, keepdims=True), atol=1e-6)
    assert fusion("max", calibrate="temperature").needs_clips
    with pytest.raises(ValueError, match="there is no clip, and this fusion is to be fitted"):
        fusion("max", calibrate="temperature").fit(None)


def test_a_system_is_calibrated_on_all_the_clips_it_has():
    clips = without(fit_clips(*overconfident(4)), 1, np.arange(500))
    data = fusion(calibrate="temperature").fit(clips)["calibrators"]["audio"]
    whole = calibration.fit("temperature", clips.clips.scores[0], clips.targets)
    assert data == whole.to_json()


# Who is not there


def test_a_clip_that_no_system_has_and_another_number_of_systems_are_refused():
    clips = fit_clips(*make_scores(5))
    params = fusion().fit(clips)
    nobody = without(without(clips, 0, [3]), 1, [3])
    with pytest.raises(ValueError, match="clip 3 has no scores of any system"):
        fusion().apply(params, nobody.clips)
    one = Block(clips.clips.scores[:1], clips.clips.available[:1])
    with pytest.raises(ValueError, match="scores have 1 systems, the fusion is of audio, video"):
        fusion().apply(params, one)


def test_the_fit_uses_clips_that_all_systems_have():
    clips = fit_clips(*make_scores(6))
    some = without(clips, 0, np.arange(30))
    params = fusion().fit(some)
    assert params["fused"]["clips"] == 170
    assert params["weights"] == fusion().fit(clips.at(np.arange(30, 200)))["weights"]
    assert fusion().lacking(some.clips.available).sum() == 30


def test_what_is_said_of_clips_that_lack_a_system():
    assert "no scores of audio and text;" in missing_reason("audio video text".split(), (0, 1, 0))
    first = [(f"clip{number}", ["audio"]) for number in range(9)]
    error = str(missing_error(first, 1200, 5000))
    assert error.startswith("1200 of 5000 clips have not been scored by all systems: 'clip0' (no ")
    assert "'clip4' (no audio) and 1195 more; fuse.missing: fallback lets" in error
    assert "clip5" not in error
    assert "and" not in str(missing_error(first[:1], 1, 9)).partition(";")[0]
    told = str(no_fit_clips("train", {"val": 100, "test": 20}))
    assert "no clip is in split 'train'" in told
    assert "there are test (20), val (100): score that split" in told


# Folds


def by_fold(num_folds: int = 4):
    """Clips in folds; in each fold the two systems change roles."""
    scores, targets = make_scores(7, num_clips=400, skill=(0.5, 2.0))
    fold = np.arange(400) % num_folds
    first = fold == 0
    scores[:, first] = scores[::-1, first]
    return fit_clips(scores, targets, folds=[f"fold{number}" for number in fold]), fold


def test_clips_of_a_fold_are_fused_by_what_was_fitted_on_the_others():
    clips, fold = by_fold()
    made = fusion("weighted", calibrate="temperature")
    params = json.loads(json.dumps(made.fit(clips, cross=True)))
    fused = made.apply(params, clips.clips)
    for number in range(4):
        others, own = clips.at(fold != number), clips.at(fold == number)
        alone = made.fit(others)
        plain = Block(own.clips.scores, own.clips.available)
        np.testing.assert_allclose(fused[fold == number], made.apply(alone, plain), atol=1e-6)
    part = params["cross_fit"]["part_of"]["fold0"]
    assert params["cross_fit"]["parts"][part]["weights"]["video"] > params["weights"]["video"]
    assert params["fit"] == {"clips": 400, "cross_fitted": True}
    assert params["fused"]["accuracy"] == pytest.approx(accuracy(fused, clips.targets))


def test_a_clip_of_no_fold_is_fused_by_what_was_fitted_on_all():
    clips, _ = by_fold()
    made = fusion()
    params = made.fit(clips, cross=True)
    block = Block(clips.clips.scores, clips.clips.available, folds=[None] * 400)
    plain = Block(clips.clips.scores, clips.clips.available)
    np.testing.assert_array_equal(made.apply(params, block), made.apply(made.fit(clips), plain))
    with pytest.raises(ValueError, match="fitted by fold; folds of the clips are needed"):
        made.apply(params, plain)


def test_labels_of_a_fold_do_not_touch_its_own_fusion():
    clips, fold = by_fold()
    made = fusion("stacked", C=[1.0])
    turned = clips.targets.copy()
    turned[fold == 2] = (turned[fold == 2] + 1) % 3
    other = FitClips(clips.clips, turned, clips.groups, clips.clip_ids)
    fused = [made.apply(made.fit(one, cross=True), clips.clips) for one in (clips, other)]
    np.testing.assert_array_equal(fused[0][fold == 2], fused[1][fold == 2])
    assert not np.array_equal(fused[0][fold == 1], fused[1][fold == 1])


def test_settings_of_a_rule_are_chosen_by_fold_where_there_are_enough():
    """In every fold all clips have the same scores, with a label that only the fold explains."""
    rng = np.random.default_rng(15)
    scores, targets = softmax(rng.normal(size=(2, 20, 5))), rng.integers(5, size=20)
    scores, targets = np.repeat(scores, 20, axis=1), np.repeat(targets, 20)
    chosen = {}
    for count in (3, 20):
        folds = [f"fold{row // 20 % count}" for row in range(400)]
        clips = fit_clips(scores, targets, folds=folds)
        chosen[count] = fusion("stacked", num_classes=5).fit(clips, cross=True)["C"]
    assert chosen[3] == 1.0
    assert chosen[20] < 1.0


def test_many_folds_are_put_together():
    scores, targets = make_scores(8, num_clips=300)
    clips = fit_clips(scores, targets, folds=[f"recording{row // 3}" for row in range(300)])
    cross = fusion().fit(clips, cross=True)["cross_fit"]
    assert len(cross["part_of"]) == 100
    assert len(cross["parts"]) == 10


def test_one_fold_is_told():
    scores, targets = make_scores(8)
    with pytest.raises(TableError, match=r"are in 1 fold\(s\), expected 2 or more"):
        fusion().fit(fit_clips(scores, targets, folds=["a"] * 200), cross=True)


# Parts for cross-validation


def test_groups_stay_whole_and_parts_are_even_whatever_the_order():
    groups = [f"group{number}" for number in np.random.default_rng(0).integers(30, size=500)]
    found = parts(groups)
    assert np.sum(found, axis=0).tolist() == [1] * 500
    assert max(map(np.sum, found)) - min(map(np.sum, found)) < 40
    for name in set(groups):
        own = np.array([group == name for group in groups])
        assert sum(bool((part & own).any()) for part in found) == 1
    order = np.random.default_rng(1).permutation(500)
    again = parts([groups[row] for row in order])
    for part, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(part[order], other)
    assert len(parts(["one"] * 9)) == 1


def test_a_sample_depends_on_ids_alone():
    clips = fit_clips(*make_scores(9, num_clips=1000))
    few = sample(clips, 600)
    assert len(few) == 100
    shuffled = clips.at(np.random.default_rng(0).permutation(1000))
    assert set(sample(shuffled, 600).clip_ids) == set(few.clip_ids)
    assert sample(clips, 10**9) is clips
    assert len(set(fit_order(clips.clip_ids).tolist())) == 1000
    assert list(held_out(fit_clips(*make_scores(9), groups=["one"] * 200))) == []


# Labels


def test_clips_without_one_label_that_is_a_class_are_left_out():
    labels = [["class1"], [], ["class0", "class1"], ["other"], ["class0"]]
    keep, targets = labelled(labels, CLASSES, multi_label=False)
    assert keep.tolist() == [True, False, False, False, True]
    assert targets.tolist() == [1, 0]
    with pytest.raises(TableError, match=r"none of 2 clips .* the first has \['other'\]"):
        labelled([["other"], []], CLASSES, multi_label=False)


def test_of_several_labels_those_that_are_classes_count():
    keep, targets = labelled([["class2", "class0"], [], ["other"]], CLASSES, multi_label=True)
    assert keep.all()
    assert targets.tolist() == [[True, False, True], [False] * 3, [False] * 3]


def test_whether_clips_have_several_labels_is_what_the_tables_say():
    assert multi_label_of({"audio": True, "video": None}, [["a"]])
    assert not multi_label_of({"audio": False}, [["a", "b"]])
    assert multi_label_of({"audio": None}, [["a"], ["a", "b"]])
    assert not multi_label_of({"audio": None}, [["a"], []])
    with pytest.raises(TableError, match="'video' scores several labels per clip and 'audio' one"):
        multi_label_of({"audio": False, "video": True}, [])


# Quality


def test_qualities_are_means_over_the_patches_of_a_clip_as_recorded():
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    lists = [[vectors[0], vectors[1]], [], [vectors[2]], [vectors[3]], [*vectors[4:]]]
    schema = embeddings_schema({"embedding": 2})
    rows = pa.Table.from_pydict(
        {
            "clip_id": ["a", "b", "c", "c", "d"],
            "variant": [0, 0, 0, 1, 0],
            "duration_s": [1.0, 2.0, 3.0, 3.0, 4.0],
            "coverage": [1.0, 0.5, 1.0, 1.0, 0.25],
            "patch_start_s": [[0.0, 1.0], [], [0.0], [0.0], [0.0, 1.0]],
            "embedding": [[vector.tolist() for vector in one] for one in lists],
        },
        schema=schema,
    )
    columns = [
        QualityColumn("level", "embedding", 1),
        QualityColumn("coverage", "coverage"),
        QualityColumn("duration_s", "duration_s"),
    ]
    for table in (rows, rows.slice(1), pa.concat_tables([rows.slice(0, 2), rows.slice(2)])):
        ids, found = quality_rows(table, columns)
        expected = {
            "a": [2, 1, 1],
            "b": [np.nan, 0.5, 2],
            "c": [5, 1, 3],
            "d": [10, 0.25, 4],
        }
        assert ids == [name for name in expected if name != "a" or table.num_rows == 5]
        np.testing.assert_array_equal(found, [expected[name] for name in ids])


def test_columns_of_quality_are_those_of_the_backbone():
    quality, acoustic = BACKBONES.load("quality"), BACKBONES.load("acoustic")
    names = [one.name for one in quality_columns(QualityChoice(table="q"), quality)]
    assert names == ["coverage", "level_db", "peak_db", "silent_share", "clipped_share"]
    choice = QualityChoice(table="a", columns=["mean of level (dB)", "duration_s"])
    assert quality_columns(choice, acoustic) == [
        QualityColumn("mean of level (dB)", "embedding", 42),
        QualityColumn("duration_s", "duration_s"),
    ]
    with pytest.raises(ValueError, match="'loudness' is not one of coverage, duration_s, level_"):
        quality_columns(QualityChoice(table="q", columns=["loudness"]), quality)
    plain = quality_columns(QualityChoice(table="c"), BACKBONES.load("color"))
    assert [one.name for one in plain] == ["coverage"]


# Together, and back from a header


def joined_of(clips: FitClips, splits) -> Joined:
    labels = [[CLASSES[target]] for target in clips.targets]
    block = clips.clips
    return Joined(
        list(clips.clip_ids),
        labels,
        list(splits),
        block.scores,
        block.available,
        ("audio", "video"),
        CLASSES,
    )


def test_clips_of_other_splits_do_not_touch_the_fit():
    clips = fit_clips(*make_scores(10))
    joined = joined_of(clips, ["val"] * 100 + ["test"] * 100)
    fused, params = fuse(joined, fusion(calibrate="auto"), "val")
    assert params["fit"]["split"] == "val"
    turned = joined_of(
        FitClips(
            Block(
                np.concatenate([joined.scores[:, :100], joined.scores[:, 100:][:, ::-1]], axis=1),
                joined.available,
            ),
            np.where(np.arange(200) < 100, clips.targets, 2),
            clips.groups,
            clips.clip_ids,
        ),
        joined.splits,
    )
    other, again = fuse(turned, fusion(calibrate="auto"), "val")
    assert again == params
    np.testing.assert_array_equal(other[:100], fused[:100])
    assert (
        fuse(joined, fusion(), "test")[1]["weights"] != fuse(joined, fusion(), "val")[1]["weights"]
    )
    with pytest.raises(TableError, match=r"split 'train'.* there are test \(100\), val \(100\)"):
        fuse(joined, fusion(), "train")


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("weighted", {"on": "logits", "per_class": True}),
        ("product", {}),
        ("stacked", {"features": "tied"}),
    ],
)
def test_a_fusion_comes_back_from_the_settings_of_its_table(rule, options, several):
    clips = fit_clips(*(make_several(11, num_classes=3) if several else make_scores(11)))
    made = fusion(rule, multi_label=several, calibrate="platt", **options)
    section = FuseSection(systems=["audio", "video"], rule=rule, calibrate="platt", **options)
    params = made.fit(clips)
    settings = section.model_dump(mode="json", exclude={"engine"})
    told = {"fused": True, "multi_label": several, "columns": [], "params": params}
    again = Fusion.restored(json.loads(json.dumps(settings | told)), CLASSES)
    np.testing.assert_array_equal(again.apply(params, clips.clips), made.apply(params, clips.clips))


def test_a_fusion_in_a_line():
    clips, _ = by_fold()
    settings = {"rule": "weighted", "fit_split": "val"}
    params = fusion(weights={"audio": 1, "video": 3}).fit(None)
    assert summary_line(settings, params) == "weighted: audio 0.25, video 0.75"
    params = fusion(per_class=True).fit(clips)
    assert summary_line(settings, params).endswith(" by class (fitted on val)")
    fixed = settings | {"weights": {"audio": 1, "video": 1}}
    params = {"weights": {"audio": 0.5, "video": 0.5}, "fit": {"clips": 9}}
    assert summary_line(fixed, params).endswith("audio 0.50, video 0.50 (given weights)")
    params["calibrators"] = {"audio": {}}
    assert summary_line(fixed, params).endswith(" (given weights, calibrated on val)")
    assert summary_line(fixed, params | {"fit": {"clips": 0}}).endswith(" (given weights)")
    params = fusion("product").fit(clips, cross=True)
    assert summary_line({**settings, "rule": "product"}, params) == "product (fitted by fold)"


@pytest.mark.parametrize("several", [False, True])
def test_how_good_the_parts_are_is_told_as_scikit_learn_finds_it(several):
    from sklearn.metrics import average_precision_score

    scores, targets = make_several(12) if several else make_scores(12)
    made = fusion(num_classes=4 if several else 3, multi_label=several)
    params = made.fit(fit_clips(scores, targets))
    assert params["better"] == "video"
    for index, name in enumerate(("audio", "video")):
        told = params["parts"][name]
        assert told["clips"] == len(targets)
        assert told["log_loss"] == pytest.approx(log_loss(scores[index], targets), abs=1e-5)
        if several:
            assert told["map"] == pytest.approx(average_precision_score(targets, scores[index]))
        else:
            assert told["accuracy"] == accuracy(scores[index], targets)

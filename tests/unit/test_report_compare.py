"""Fused systems against their parts in a report, from score tables and what their header says."""

from dataclasses import replace

import numpy as np
import pytest

from audioflow.fusion import Block, FitClips
from audioflow.recipe_fuse import FuseSection
from audioflow.report.clips import eval_clips
from audioflow.report.compare import availability, gains, missing_costs
from audioflow.report.data import SystemScores
from tests.unit.fusion_clips import accuracy, fusion, make_scores

CLASSES = ("class0", "class1", "class2")
COUNT = 600
LACKING = np.arange(0, COUNT, 4)
"""Clips without a sound track."""


@pytest.fixture(scope="module")
def scores():
    return make_scores(1, COUNT, skill=(1.5, 1.5))


def table(name: str, targets, scores_NC, rows, classes=CLASSES, **more) -> SystemScores:
    """A score table of some of the clips: the first half is `val`, the second `test`."""
    ids = [f"clip{row:04}" for row in rows]
    return SystemScores(
        name=name,
        kind="system",
        summary_line=name,
        classes=tuple(classes),
        clip_ids=tuple(ids),
        uris=tuple(ids),
        groups=tuple(f"group{row // 2}" for row in rows),
        splits=tuple("val" if row < COUNT // 2 else "test" for row in rows),
        labels=tuple(CLASSES[target] for target in targets[rows]),
        scores=scores_NC,
        **more,
    )


@pytest.fixture(scope="module", params=["weighted", "product", "gated"])
def run(request, scores):
    """Audio (which lacks some clips, and has another order of clips and classes), video, fused."""
    scores_SNC, targets = scores
    rows = np.arange(COUNT)
    heard = np.random.default_rng(0).permutation(np.setdiff1d(rows, LACKING))
    available = np.ones((2, COUNT), bool)
    available[0, LACKING] = False
    quality = np.ones((COUNT, 1)) if request.param == "gated" else None
    block = Block(np.where(available[..., None], scores_SNC, np.nan), available, quality)
    ids = [f"clip{row:04}" for row in rows]
    clips = FitClips(block, targets, ids, ids)
    options = {"quality": {"table": "t"}} if request.param == "gated" else {}
    made = fusion(request.param, qualities=["level"] if options else (), **options)
    params = made.fit(clips.at(rows < COUNT // 2))
    section = FuseSection(
        systems=["audio", "video"], rule=request.param, calibrate="none", **options
    )
    turned = scores_SNC[0][heard][:, ::-1]
    parts = [
        table("audio", targets, turned, heard, CLASSES[::-1]),
        table("video", targets, scores_SNC[1], rows),
    ]
    fused = replace(
        table("fused", targets, made.apply(params, block), rows),
        kind="fused",
        parts=("audio", "video"),
        available=tuple(("audio", "video") if one else ("video",) for one in available[0]),
        settings=section.model_dump(mode="json") | {"fused": True, "params": params},
        fusion=params,
    )
    return parts, fused, targets


def clips_of(*systems):
    return {system.name: eval_clips(system, "test") for system in systems}


def test_gains_are_of_the_clips_that_both_have_and_the_better_part_is_that_of_the_fit(run):
    parts, fused, targets = run
    turned = replace(fused, fusion=fused.fusion | {"better": "audio"})
    found = {}
    for one in (fused, turned):
        clips = clips_of(*parts, one)
        for gain in gains(one, parts, clips, {"audio": 0.1, "video": 0.9}, 200):
            found[gain.part] = gain
    audio, video = found["audio"], found["video"]
    assert (audio.num_clips, video.num_clips) == (225, 300)
    assert audio.is_better_part  # as the header says, though video is better here
    assert not video.is_better_part
    test = np.arange(COUNT // 2, COUNT)
    assert video.accuracy_part == accuracy(parts[1].scores[test], targets[test])
    assert video.accuracy_system == accuracy(fused.scores[test], targets[test])
    both = np.setdiff1d(test, LACKING)
    assert audio.accuracy_system == accuracy(fused.scores[both], targets[both])
    assert audio.gain.value == pytest.approx(audio.accuracy_system - audio.accuracy_part)
    assert {one.name for one in audio.classes} == set(CLASSES)
    assert video.classes == ()
    assert audio.test.only_b - audio.test.only_a == round(audio.gain.value * 225)


def test_what_missing_sound_costs_is_what_the_same_clips_lose_without_it(run):
    parts, fused, targets = run
    audio, video = missing_costs(fused, parts, eval_clips(fused, "test"), 200)
    test = np.arange(COUNT // 2, COUNT)
    both, silent = np.setdiff1d(test, LACKING), np.intersect1d(test, LACKING)
    assert (audio.part, audio.num_lacking, audio.num_complete) == ("audio", 75, 225)
    assert audio.lacking == accuracy(fused.scores[silent], targets[silent])
    assert audio.whole == accuracy(fused.scores[both], targets[both])
    assert audio.masked == accuracy(parts[1].scores[both], targets[both])
    assert audio.cost.value == pytest.approx(audio.whole - audio.masked)
    assert audio.cost.low < audio.cost.value < audio.cost.high
    assert (video.part, video.num_lacking) == ("video", 0)
    assert np.isnan(video.lacking)


def test_nothing_is_made_up_where_the_fusion_cannot_be_made_again(run):
    parts, fused, _ = run
    clips = eval_clips(fused, "test")
    assert missing_costs(fused, parts[:1], clips, 0) == []
    assert missing_costs(replace(fused, settings={}), parts, clips, 0) == []


def test_what_a_part_costs_a_fusion_by_fold_is_fused_with_the_weights_of_each_fold(scores):
    scores_SNC, targets = scores
    rows = np.arange(COUNT)
    folds = [f"fold{row % 3}" for row in rows]
    block = Block(scores_SNC, np.ones((2, COUNT), bool), folds=folds)
    ids = [f"clip{row:04}" for row in rows]
    made = fusion(systems=2, calibrate="temperature")
    params = made.fit(FitClips(block, targets, ids, ids), cross=True)
    section = FuseSection(systems=["audio", "video"], calibrate="temperature")
    parts = [table(name, targets, scores_SNC[at], rows) for at, name in enumerate(section.systems)]
    fused = replace(
        table("fused", targets, made.apply(params, block), rows),
        parts=("audio", "video"),
        settings=section.model_dump(mode="json") | {"fused": True, "params": params},
        fusion=params,
        columns={"fold": tuple(folds)},
    )
    audio, _ = missing_costs(fused, parts, eval_clips(fused, "test"), 100)
    lone = Block(scores_SNC, np.array([[False], [True]]) & np.ones((2, COUNT), bool), folds=folds)
    test = rows >= COUNT // 2
    assert audio.masked == accuracy(made.apply(params, lone)[test], targets[test])
    assert audio.whole == accuracy(fused.scores[test], targets[test])
    assert missing_costs(replace(fused, columns={}), parts, eval_clips(fused, "test"), 0) == []


def test_accuracy_by_what_a_clip_had(run):
    _, fused, targets = run
    found = availability(fused, eval_clips(fused, "test"), 200)
    assert [one.available for one in found] == [("audio", "video"), ("video",)]
    silent = np.intersect1d(np.arange(COUNT // 2, COUNT), LACKING)
    assert found[1].num_clips == 75
    assert found[1].accuracy.value == accuracy(fused.scores[silent], targets[silent])

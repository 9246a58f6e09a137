"""What every registered fusion rule promises."""

import json

import numpy as np
import pytest

from audioflow.fusion import FUSION_RULES, Block, FitClips, Fusion
from audioflow.recipe import FuseSection

CLASSES = ("ash", "birch", "cedar", "elm")
SYSTEMS = ("audio", "video", "text")
TASKS = ("one_label", "several_labels")


@pytest.fixture(params=TASKS)
def several(request: pytest.FixtureRequest) -> bool:
    return request.param == "several_labels"


@pytest.fixture(params=FUSION_RULES.names())
def fusion(request: pytest.FixtureRequest, several: bool) -> Fusion:
    quality = {"quality": {"table": "t"}} if FUSION_RULES.load(request.param).needs_quality else {}
    section = FuseSection(systems=list(SYSTEMS), rule=request.param, **quality)
    return Fusion.of(section, CLASSES, multi_label=several, quality=["level", "coverage"])


@pytest.fixture
def clips(several: bool) -> FitClips:
    """Three systems that are mostly right; the last one lacks some clips."""
    rng = np.random.default_rng(3)
    if several:
        targets = rng.random((60, len(CLASSES))) < 0.4
        logits = rng.normal(size=(3, 60, len(CLASSES))) + 2.0 * targets
        scores = 1 / (1 + np.exp(1 - logits))
    else:
        targets = rng.integers(len(CLASSES), size=60)
        logits = rng.normal(size=(3, 60, len(CLASSES))) + 2.0 * np.eye(len(CLASSES))[targets]
        scores = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    available = np.ones((3, 60), bool)
    available[2, ::7] = False
    scores = np.where(available[:, :, None], scores, np.nan).astype(np.float32)
    ids = [f"clip{row:03}" for row in rng.permutation(60)]
    groups = [f"group{row // 3}" for row in range(60)]
    return FitClips(Block(scores, available, rng.normal(size=(60, 2))), targets, groups, ids)


def test_there_are_rules() -> None:
    assert set(FUSION_RULES.names()) >= {"weighted", "product", "max", "rank", "stacked", "gated"}


def test_parameters_survive_json_and_scores_are_scores(fusion, clips, several) -> None:
    params = json.loads(json.dumps(fusion.fit(clips), allow_nan=False))
    fused_NC = fusion.apply(params, clips.clips)
    assert fused_NC.shape == (60, len(CLASSES))
    assert fused_NC.dtype == np.float32
    assert fused_NC.min() >= 0
    assert fused_NC.max() <= 1
    if not several:
        assert np.allclose(fused_NC.sum(axis=1), 1, atol=1e-5)


def test_fused_scores_are_better_than_chance(fusion, clips, several) -> None:
    fused = fusion.fit(clips)["fused"]
    assert fused["map" if several else "accuracy"] > 0.6


def test_a_clip_with_one_system_keeps_its_calibrated_scores_to_the_bit(fusion, clips) -> None:
    params = fusion.fit(clips)
    for alone in range(3):
        available = np.zeros((3, 60), bool)
        available[alone] = clips.clips.available[alone]
        there = np.flatnonzero(available[alone])
        block = Block(clips.clips.scores, available, clips.clips.quality).at(there)
        expected = fusion.calibrated(params, clips.clips.at(there)).scores[alone]
        np.testing.assert_array_equal(fusion.apply(params, block), expected)


def test_neither_the_order_of_clips_nor_how_they_are_cut_matters(fusion, clips) -> None:
    params = fusion.fit(clips)
    whole = fusion.apply(params, clips.clips)
    order = np.random.default_rng(5).permutation(60)
    shuffled = clips.at(order)
    assert fusion.fit(shuffled) == params
    np.testing.assert_array_equal(fusion.apply(params, shuffled.clips), whole[order])
    for rows in (np.arange(1), np.arange(1, 20), np.arange(20, 60)):
        np.testing.assert_array_equal(fusion.apply(params, clips.clips.at(rows)), whole[rows])


def test_what_a_system_that_is_not_there_would_say_does_not_matter(fusion, clips) -> None:
    params = fusion.fit(clips)
    other = clips.clips.scores.copy()
    other[~clips.clips.available] = 0.9
    changed = Block(other, clips.clips.available, clips.clips.quality)
    np.testing.assert_array_equal(fusion.apply(params, changed), fusion.apply(params, clips.clips))


def test_a_rule_without_a_fit_needs_no_clips(fusion, clips) -> None:
    if fusion.needs_clips:
        with pytest.raises(ValueError, match="there is no clip"):
            fusion.fit(None)
    else:
        fused_NC = fusion.apply(fusion.fit(None), clips.clips)
        assert np.isfinite(fused_NC).all()

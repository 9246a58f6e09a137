"""What every registered fusion rule promises."""

import json

import numpy as np
import pytest

from audioflow.fusion import FUSION_RULES

CLASSES = 4


@pytest.fixture(params=FUSION_RULES.names())
def rule(request: pytest.FixtureRequest):
    return FUSION_RULES.build(request.param, {})


@pytest.fixture
def scores_SNC() -> np.ndarray:
    return np.random.default_rng(3).dirichlet(np.ones(CLASSES), size=(3, 40)).astype(np.float32)


@pytest.fixture
def targets_N(scores_SNC) -> np.ndarray:
    return scores_SNC.mean(axis=0).argmax(axis=1)


def test_there_are_rules() -> None:
    assert FUSION_RULES.names()


def test_parameters_survive_json_and_scores_are_probabilities(rule, scores_SNC, targets_N) -> None:
    available_SN = np.ones(scores_SNC.shape[:2], bool)
    params = json.loads(json.dumps(rule.fit(scores_SNC, targets_N, available_SN), allow_nan=False))
    fused_NC = rule.apply(params, scores_SNC, available_SN)
    assert fused_NC.shape == scores_SNC.shape[1:]
    assert fused_NC.dtype == np.float32
    assert (fused_NC >= 0).all()
    assert np.allclose(fused_NC.sum(axis=1), 1, atol=1e-5)


def test_a_clip_with_one_system_gets_the_decision_of_that_system(
    rule, scores_SNC, targets_N
) -> None:
    complete_SN = np.ones(scores_SNC.shape[:2], bool)
    params = rule.fit(scores_SNC, targets_N, complete_SN)
    lone_SN = np.zeros_like(complete_SN)
    lone_SN[1] = True
    with_gaps = np.where(lone_SN[..., None], scores_SNC, np.nan)
    fused_NC = rule.apply(params, with_gaps, lone_SN)
    assert (fused_NC.argmax(axis=1) == scores_SNC[1].argmax(axis=1)).all()


def test_the_order_of_clips_does_not_matter(rule, scores_SNC, targets_N) -> None:
    available_SN = np.ones(scores_SNC.shape[:2], bool)
    order = np.random.default_rng(5).permutation(scores_SNC.shape[1])
    plain = rule.apply(rule.fit(scores_SNC, targets_N, available_SN), scores_SNC, available_SN)
    params = rule.fit(scores_SNC[:, order], targets_N[order], available_SN)
    mixed = rule.apply(params, scores_SNC[:, order], available_SN)
    assert np.allclose(mixed, plain[order], atol=1e-4)

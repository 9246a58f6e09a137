"""Heads that are trained together take the steps that each takes alone."""

import numpy as np
import pytest

from audioflow.events import EpochRecord
from audioflow.systems.examples import Examples
from audioflow.training import normalise
from audioflow.training.stacked import StackedHead, StackedSetting, fit_stacked, score_of
from tests.unit.small_training import blobs, clips, judge_of, network, run, section

pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN, VAL = blobs(50, seed=1, spread=1.0), blobs(40, seed=2, spread=1.0)
VARIED = (
    {},
    {"lr": 0.3},
    {"lr": 0.0},
    {"weight_decay": 0.5},
    {"label_smoothing": 0.3},
    {"class_weights": "balanced"},
    {"lr": 0.01, "weight_decay": 0.0, "label_smoothing": 0.1},
)
RARE = Examples(TRAIN.rows, TRAIN.offsets, np.where(TRAIN.targets == 2, 1, TRAIN.targets))
"""Classes of unequal size, and one without a clip."""


def together(
    made, common: dict, train=TRAIN, val=VAL, varied=VARIED, keeps=None
) -> list[StackedHead]:
    settings = [StackedSetting(section(**(common | one))) for one in varied]
    judge = judge_of(made, val, settings[0].section)
    return fit_stacked(made, train, val, judge, settings, keeps=keeps)


def agree(found: list[EpochRecord], expected: list[EpochRecord]) -> None:
    assert [one.epoch for one in found] == [one.epoch for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-3, abs=1e-5)
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-3, abs=1e-5)
        assert one.lr == pytest.approx(other.lr)
        assert one.metrics["val_accuracy"] == pytest.approx(other.metrics["val_accuracy"], abs=0.03)
        assert one.metrics["val_macro_f1"] == pytest.approx(other.metrics["val_macro_f1"], abs=0.03)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize(
    "head",
    [{"head": "linear"}, {"head": "mlp", "hidden": [8, 5], "dropout": 0.0}],
    ids=["linear", "mlp"],
)
def test_every_head_takes_the_steps_that_it_takes_alone(head, optimizer):
    common = {"optimizer": optimizer, "epochs": 6}
    found = together(network(**head), common, train=RARE)
    for one, varied in zip(found, VARIED, strict=True):
        alone = run(network(**head), section(**(common | varied)), train=RARE, val=VAL)
        agree(one.records, alone.records)
        assert one.best_epoch == alone.best_epoch
        assert one.best is one.records[one.best_epoch - 1]
    assert len({head.records[-1].val_loss for head in found}) == len(VARIED)


@pytest.mark.parametrize(
    "common",
    [
        {"schedule": {"name": "plateau", "patience": 0, "factor": 0.5}},
        {"schedule": {"name": "cosine", "warmup_epochs": 1.5}},
        {"clip_norm": 0.05},
        {"select": "val_macro_f1"},
        {"select": "val_auc"},
        {"select": "last"},
        {"patience": 2, "epochs": 25},
    ],
    ids=str,
)
def test_schedules_limits_and_selection_are_those_of_one_alone(common):
    common = {"epochs": 8} | common
    varied = VARIED[:2]
    found = together(network(), common, varied=varied)
    for one, other in zip(found, varied, strict=True):
        alone = run(network(), section(**(common | other)), train=TRAIN, val=VAL)
        agree(one.records, alone.records)
        assert one.best_epoch == alone.best_epoch
        assert not one.stopped
    if "patience" in common:
        assert len({len(one.records) for one in found}) == 2  # each ends when it ends


def test_inputs_are_normalised():
    scaled = Examples((TRAIN.rows[0] * 100 + 7,), TRAIN.offsets, TRAIN.targets)
    made = network(normalised=True)
    normalise(made, scaled.rows)
    alone = network(normalised=True)
    normalise(alone, scaled.rows)
    (found,) = together(made, {}, train=scaled, val=scaled, varied=({},))
    agree(found.records, run(alone, section(), train=scaled, val=scaled).records)


def test_dropout_is_of_every_head_by_itself_and_off_when_it_is_judged():
    made, told = network("mlp", hidden=[64], dropout=0.0), section(epochs=1, lr=0.0)
    settings = [StackedSetting(told, dropout) for dropout in (0.0, 0.9)]
    plain, dropping = fit_stacked(made, TRAIN, VAL, judge_of(made, VAL, told), settings)
    assert plain.records[0].val_loss == pytest.approx(dropping.records[0].val_loss)
    assert dropping.records[0].train_loss > plain.records[0].train_loss


def test_who_asks_leaves_heads_out_and_the_others_go_on_as_they_would():
    seen: list[tuple[int, int]] = []

    def keeps(scores, epoch):
        seen.append((epoch, len(scores)))
        kept = np.ones(len(scores), bool)
        if epoch == 2:
            kept[np.argsort(scores)[: len(scores) // 2]] = False
        return kept

    found = together(network(), {"epochs": 5}, keeps=keeps)
    assert seen == [(1, 7), (2, 7), (3, 4), (4, 4), (5, 4)]
    assert sorted(len(one.records) for one in found) == [2] * 3 + [5] * 4
    for one, varied in zip(found, VARIED, strict=True):
        assert one.stopped == (len(one.records) == 2)
        alone = run(network(), section(**varied), train=TRAIN, val=VAL)
        agree(one.records, alone.records[: len(one.records)])


def test_scores_are_the_metric_or_minus_the_loss():
    record = EpochRecord(1, 3.0, 2.0, {"val_accuracy": 0.5}, 0.1, 0.0)
    assert score_of(record, section(select="val_accuracy")) == 0.5
    assert score_of(record, section()) == -2.0
    assert score_of(EpochRecord(1, 3.0, None, {}, 0.1, 0.0), section()) == -3.0
    assert np.isnan(score_of(EpochRecord(1, 3.0, float("nan"), {}, 0.1, 0.0), section()))


def test_clips_of_several_patches_cannot_be_stacked():
    with pytest.raises(ValueError, match="stacked heads take one vector per example"):
        together(network(), {}, train=clips([2, 1]), varied=({},))

"""A training run that is taken up in the middle ends as if it had not been disturbed."""

import copy

import pytest
import torch

from audioflow.systems.inputs import Pool
from audioflow.training import FitState
from tests.unit.small_training import (
    blobs,
    clips,
    comparable,
    network,
    pictures,
    run,
    same,
    section,
)

pytestmark = pytest.mark.usefixtures("one_thread")

MEAN = Pool("mean", "logits", {})
NOISY = blobs(seed=9, spread=1.0)
PICTURES = pictures([1, 2] * 6, (6, 8))
SETTINGS = {
    "adamw": {},
    "adam": {"optimizer": "adam"},
    "sgd": {"optimizer": "sgd"},
    "plateau": {"schedule": {"name": "plateau", "patience": 0, "factor": 0.5}, "lr": 0.8},
    "step": {"schedule": {"name": "step", "every": 2}},
    "cosine": {"schedule": {"name": "cosine", "min_lr": 0.001}},
    "warm-up": {"schedule": {"name": "cosine", "warmup_epochs": 3.5}},
    "early stopping": {"patience": 3, "lr": 0.05, "epochs": 20, "select": "val_accuracy"},
    "mixup": {"mixup": 0.4},
    "balanced": {"sampling": "balanced", "class_weights": "balanced"},
    "focal": {"loss": "focal", "clip_norm": 0.1},
    "last": {"select": "last"},
}


def undisturbed(made, options, after: int, again, **data) -> None:
    """Run to the end; run, keep the state after an epoch, and go on from it in another network."""
    kept: list[FitState] = []

    def keep(record, state):
        if record.epoch == after:
            kept.append(copy.deepcopy(state))

    whole = run(made, options, listen=keep, **data)
    torch.manual_seed(999)
    taken_up = run(again, options, resume=kept[0], **data)
    assert same(taken_up.model, whole.model)
    assert same(taken_up.best, whole.best)
    assert taken_up.best_epoch == whole.best_epoch
    assert comparable(taken_up.records) == comparable(whole.records)


@pytest.mark.parametrize("after", [1, 3, 5])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_taken_up_in_the_middle_ends_as_if_undisturbed(name, after):
    options = section(**({"epochs": 6} | SETTINGS[name]))
    first, other = (network("mlp", dropout=0.3, norm="batch", seed=seed) for seed in (0, 77))
    undisturbed(first, options, after, other, val=NOISY)


def test_the_settings_above_do_what_they_are_for():
    """Or their resumption would show nothing: plateaus drop, and stopping comes early."""
    options = section(**({"epochs": 6} | SETTINGS["plateau"]))
    rates = [r.lr for r in run(network("mlp"), options, val=NOISY).records]
    assert len(set(rates)) > 2
    stopping = section(**SETTINGS["early stopping"])
    assert 5 < len(run(network("mlp", dropout=0.3, norm="batch"), stopping, val=NOISY).records) < 20


def test_masks_of_pictures_are_the_same_again():
    options = section(epochs=4, spec_augment={"time_share": 0.5})
    first, other = (
        network("resnet18", pool=MEAN, widths=(8,), vectors_per_patch=6, seed=seed)
        for seed in (0, 77)
    )
    undisturbed(first, options, 2, other, train=PICTURES, val=PICTURES)


@pytest.mark.parametrize("head", ["attention", "gated_attention"])
def test_sequences_with_dropout_are_the_same_again(head):
    examples = clips([1, 3, 2, 5] * 6)
    first, other = (network(head, dropout=0.5, seed=seed) for seed in (0, 77))
    undisturbed(first, section(), 2, other, train=examples, val=examples)


def test_a_run_that_had_ended_changes_nothing():
    whole = run(network(), section())
    before = copy.deepcopy(whole)
    again = run(network(seed=3), section(), resume=whole)
    assert same(again.best, before.best)
    assert comparable(again.records) == comparable(before.records)


def test_a_state_is_of_the_epoch_that_it_is_listened_to_after():
    """It is the one that trains on: who keeps it, copies it."""
    copies: list[FitState] = []
    lives: list[FitState] = []

    def listen(_record, state):
        copies.append(copy.deepcopy(state))
        lives.append(state)

    run(network(), section(epochs=3), listen=listen)
    moments = [state.optimizer["state"][0]["exp_avg"] for state in copies]
    assert not torch.equal(moments[0], moments[2])
    assert not same(copies[0].model, copies[2].model)
    assert [len(state.records) for state in copies] == [1, 2, 3]
    assert same(lives[0].model, copies[2].model)

"""The section `train` of a recipe: what it refuses, and in which words."""

import json
import math

import pytest
from pydantic import ValidationError

from audioflow.recipe_faults import faults_of
from audioflow.recipe_train import MAX_SEED, ScheduleSection, SpecAugmentSection, TrainSection

KEY = ("systems", "audio", "train")


def from_recipe(values: dict) -> TrainSection:
    """As the recipe is read: strictly, from JSON."""
    return TrainSection.model_validate_json(json.dumps(values), strict=True)


def faults(values: dict) -> list[str]:
    """What a person reads, without where the section stands."""
    with pytest.raises(ValidationError) as error:
        from_recipe(values)
    texts = [str(fault) for fault in faults_of(error.value, TrainSection, KEY)]
    assert all(text.startswith("systems.audio.train") for text in texts)
    return [text.removeprefix("systems.audio.train").removeprefix(".") for text in texts]


def test_the_defaults_are_those_of_a_plain_run():
    """As the README promises them: changing one is a decision."""
    told = from_recipe({})
    assert (told.unit, told.task, told.fine, told.drop_sources) == ("clip", "auto", False, [])
    assert (told.epochs, told.batch_size, told.optimizer, told.lr) == (30, 64, "adamw", 1e-3)
    assert (told.momentum, told.weight_decay, told.clip_norm) == (0.9, 1e-4, None)
    assert told.schedule == ScheduleSection(name="constant")
    assert (told.loss, told.label_smoothing, told.class_weights) == ("cross_entropy", 0, "none")
    assert (told.sampling, told.mixup, told.spec_augment) == ("shuffle", 0, None)
    assert (told.select, told.patience, told.temperature) == ("val_loss", None, "fit")
    assert (told.normalise, told.precision, told.seed) == (None, "float32", 0)
    assert (told.workers, told.cpus_per_worker, told.gpus_per_worker) == (1, 0.5, None)
    assert (told.ingest, told.memory_gb) == ("auto", 4)


@pytest.mark.parametrize(
    "values",
    [
        {"lr": 0},
        {"weight_decay": 0},
        {"label_smoothing": 0},
        {"mixup": 0},
        {"gpus_per_worker": 0},
        {"momentum": 0, "optimizer": "sgd"},
        {"focal_gamma": 0, "loss": "focal"},
        {"schedule": {"name": "cosine", "min_lr": 0, "warmup_epochs": 0}},
        {"schedule": {"name": "plateau", "patience": 0, "factor": 0}},
        {"spec_augment": {"time_share": 0, "mel_share": 0, "time_masks": 0, "mel_masks": 0}},
        {"seed": 0},
    ],
    ids=str,
)
def test_zero_is_a_legal_value_of_every_rate(values):
    told = from_recipe(values).model_dump()
    for key, value in values.items():
        given = told[key] if not isinstance(value, dict) else {k: told[key][k] for k in value}
        assert given == value


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"unit": "patches"}, "unit: 'patches' is not allowed; allowed: clip, patch; did you mean"),
        ({"task": "both"}, "task: 'both' is not allowed; allowed: auto, single, multi"),
        ({"epochs": 0}, "epochs: 0 is out of range; allowed: 1 to 100000"),
        ({"batch_size": 0}, "batch_size: 0 is out of range; allowed: 1 to 1000000"),
        ({"optimizer": "lion"}, "optimizer: 'lion' is not allowed; allowed: adamw, adam, sgd"),
        ({"lr": -0.1}, "lr: -0.1 is out of range; allowed: 0 or more"),
        ({"lr": "fast"}, "lr: 'fast' is a text; allowed: a number"),
        ({"momentum": 1.0}, "momentum: 1.0 is out of range; allowed: 0 or more and less than 1"),
        ({"weight_decay": -1}, "weight_decay: -1 is out of range; allowed: 0 or more"),
        ({"clip_norm": 0}, "clip_norm: 0 is out of range; allowed: more than 0"),
        ({"loss": "hinge"}, "loss: 'hinge' is not allowed; allowed: cross_entropy, focal"),
        ({"focal_gamma": -2}, "focal_gamma: -2 is out of range; allowed: 0 or more"),
        ({"label_smoothing": 1}, "label_smoothing: 1 is out of range; allowed: 0 or more and less"),
        (
            {"class_weights": "even"},
            "class_weights: 'even' is not allowed; allowed: none, balanced",
        ),
        ({"sampling": "even"}, "sampling: 'even' is not allowed; allowed: shuffle, balanced"),
        ({"mixup": -0.2}, "mixup: -0.2 is out of range; allowed: 0 or more"),
        (
            {"select": "val_aucs"},
            "select: 'val_aucs' is not allowed; allowed: val_loss, val_accuracy, val_macro_f1, "
            "val_map, val_auc, val_weighted_auc, last; did you mean 'val_auc'?",
        ),
        ({"patience": 0}, "patience: 0 is out of range; allowed: 1 or more"),
        ({"precision": "half"}, "precision: 'half' is not allowed; allowed: float32, bfloat16"),
        ({"workers": 0}, "workers: 0 is out of range; allowed: 1 or more"),
        ({"cpus_per_worker": 0}, "cpus_per_worker: 0 is out of range; allowed: 0.0001 or more"),
        ({"gpus_per_worker": -1}, "gpus_per_worker: -1 is out of range; allowed: 0 or more"),
        ({"ingest": "disk"}, "ingest: 'disk' is not allowed; allowed: auto, memory, stream"),
        ({"memory_gb": 0}, "memory_gb: 0 is out of range; allowed: more than 0"),
        ({"seed": MAX_SEED + 1}, "seed: 4294967296 is out of range; allowed: 0 to 4294967295"),
        ({"epoch": 3}, "epoch: unknown key, with the value 3; allowed: unit, task, "),
        ({"drop_sources": "noise"}, "drop_sources: 'noise' is a text; allowed: a list"),
        ({"normalise": "no"}, "normalise: 'no' is a text; allowed: true or false"),
    ],
)
def test_a_value_that_is_wrong_is_told_with_what_is_allowed(values, told):
    (found,) = faults(values)
    assert found.startswith(told)


@pytest.mark.parametrize("value", ["cold", 0, 0.0, -1.5, True, None, [1]])
def test_a_temperature_is_fitted_or_a_number_above_zero(value):
    (found,) = faults({"temperature": value})
    shown = {"cold": "'cold'", True: "true", None: "null"}.get(
        value if not isinstance(value, list) else "list", str(value)
    )
    assert found == f"temperature: {shown} is not allowed; allowed: fit, or a number above 0"


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_temperature_is_finite(value):
    with pytest.raises(ValidationError, match=f"{value} is not allowed; allowed: fit, or a number"):
        TrainSection(temperature=value)


@pytest.mark.parametrize("value", ["fit", 1, 0.5, 5.0])
def test_legal_temperatures(value):
    assert from_recipe({"temperature": value}).temperature == value


# Schedules


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (
            "steps",
            ".name: 'steps' is not allowed; allowed: constant, plateau, step, cosine; did you",
        ),
        ({"name": "step"}, ": step needs either every or milestones, got neither"),
        (
            {"name": "step", "every": 2, "milestones": [3]},
            ": step needs either every or milestones, got every (2) and milestones",
        ),
        ({"name": "step", "every": 0}, ".every: 0 is out of range; allowed: 1 or more"),
        ({"name": "step", "milestones": [3, 0]}, ".milestones.1: 0 is out of range; allowed: "),
        ({"name": "step", "milestones": 3}, ".milestones: 3 is a whole number; allowed: a list"),
        ({"name": "plateau", "patience": -1}, ".patience: -1 is out of range; allowed: 0 or more"),
        ({"name": "plateau", "factor": 1.5}, ".factor: 1.5 is out of range; allowed: 0 to 1"),
        ({"name": "cosine", "min_lr": -1}, ".min_lr: -1 is out of range; allowed: 0 or more"),
        (
            {"name": "cosine", "warmup_epochs": -1},
            ".warmup_epochs: -1 is out of range; allowed: 0 or more",
        ),
        (
            {"name": "constant", "factor": 0.5},
            ": factor (0.5) has no use with constant; allowed: warmup_epochs",
        ),
        (
            {"name": "cosine", "patience": 3, "every": 2},
            ": every (2), patience (3) has no use with cosine; allowed: min_lr, warmup_epochs",
        ),
        (
            {"name": "plateau", "milestones": [1]},
            ": milestones ([1]) has no use with plateau; allowed: factor, min_lr, patience, warmup",
        ),
        (
            {"name": "step", "every": 2, "min_lr": 0.1},
            ": min_lr (0.1) has no use with step; allowed: every, factor, milestones, warmup",
        ),
        (3, ": 3 is a whole number; allowed: a mapping"),
    ],
    ids=str,
)
def test_a_schedule_that_makes_no_sense_is_refused(schedule, told):
    (found,) = faults({"schedule": schedule})
    assert found.startswith(f"schedule{told}")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", {"name": "cosine"}),
        ({"name": "cosine", "min_lr": 1e-5}, {"min_lr": 1e-5}),
        ({"name": "step", "milestones": [3, 6, 9]}, {"milestones": (3, 6, 9), "every": None}),
        ({"name": "step", "milestones": []}, {"milestones": ()}),
        ({"name": "step", "every": 25, "factor": 0.1}, {"every": 25, "factor": 0.1}),
        ({"name": "plateau", "patience": 8, "factor": 0.75}, {"patience": 8, "factor": 0.75}),
        ({"name": "constant", "warmup_epochs": 2.5}, {"warmup_epochs": 2.5}),
    ],
    ids=str,
)
def test_schedules_of_a_recipe_are_read(schedule, expected):
    found = from_recipe({"schedule": schedule}).schedule.model_dump()
    assert expected.items() <= found.items()


# What does not go together


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"momentum": 0.5},
            "momentum (0.5) has no use with optimizer: adamw; leave it out, or set optimizer: sgd",
        ),
        (
            {"momentum": 0.9, "optimizer": "adam"},
            "momentum (0.9) has no use with optimizer: adam; leave",
        ),
        (
            {"focal_gamma": 1.0},
            "focal_gamma (1) has no use with loss: cross_entropy; leave it out, or set loss: focal",
        ),
        (
            {"patience": 3, "select": "last"},
            "patience (3) has no use with select: last, which ends after all epochs; leave it out",
        ),
        (
            {"ingest": "stream", "sampling": "balanced"},
            "sampling: balanced needs all clips in memory; use class_weights: balanced to stream, "
            "or ingest: memory",
        ),
    ],
    ids=str,
)
def test_what_would_be_ignored_is_refused(values, told):
    (found,) = faults(values)
    assert found.removeprefix(": ").startswith(told)


def test_all_that_does_not_go_together_is_told_at_once():
    found = faults({"patience": 3, "select": "last", "momentum": 0.5, "focal_gamma": 1})
    assert len(found) == 3


def test_wrong_values_of_several_keys_are_told_at_once():
    found = faults({"lr": -1, "epochs": 0, "schedule": {"name": "step"}, "epoch": 1})
    assert {text.partition(":")[0] for text in found} == {"lr", "epochs", "schedule", "epoch"}


# Masks


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"time_share": 1.5}, ".time_share: 1.5 is out of range; allowed: 0 to 1"),
        ({"mel_share": -0.1}, ".mel_share: -0.1 is out of range; allowed: 0 to 1"),
        ({"time_masks": 101}, ".time_masks: 101 is out of range; allowed: 0 to 100"),
        ({"mel_masks": 1.5}, ".mel_masks: 1.5 is a number with a point; allowed: a whole number"),
        ({"masks": 1}, ".masks: unknown key, with the value 1; allowed: time_masks, "),
        (True, ": true is a truth value; allowed: a mapping ({} for its defaults)"),
    ],
    ids=str,
)
def test_masks_out_of_range_are_refused(values, told):
    (found,) = faults({"spec_augment": values})
    assert found.startswith(f"spec_augment{told}")


def test_masks_have_defaults():
    assert from_recipe({"spec_augment": {}}).spec_augment == SpecAugmentSection()


def test_a_section_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        TrainSection().lr = 1.0

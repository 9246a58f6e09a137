"""Learning rates against torch's schedulers."""

import math

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from audioflow.events import EpochRecord
from audioflow.recipe_train import TrainSection
from audioflow.training.schedule import epoch_rate, learning_rate

EPOCHS = 40


def section(schedule, **options) -> TrainSection:
    return TrainSection(**({"epochs": EPOCHS, "lr": 0.1, "schedule": schedule} | options))


def record(epoch: int, loss: float | None, accuracy: float = 0.0) -> EpochRecord:
    metrics = {} if loss is None else {"val_accuracy": accuracy}
    return EpochRecord(epoch, 1.0, loss, metrics, 0.0, 0.0)


def ours(told: TrainSection, records: list[EpochRecord]) -> list[float]:
    """The rates of all epochs, each from the records of those before it alone."""
    return [learning_rate(told, epoch, records[: epoch - 1]) for epoch in range(1, EPOCHS + 1)]


def theirs(make, steps=None) -> list[float]:
    """The rates of all epochs of one of torch's schedulers, and what it is told after each."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, found = make(optimizer), []
    for epoch in range(EPOCHS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*(() if steps is None else (steps[epoch],)))
    return found


def test_a_constant_rate_is_that_of_the_recipe():
    assert set(ours(section("constant"), [])) == {0.1}


@pytest.mark.parametrize(("every", "factor"), [(1, 0.9), (7, 0.1), (25, 0.1), (100, 0.1), (3, 0.0)])
def test_steps_are_those_of_torch(every, factor):
    found = ours(section({"name": "step", "every": every, "factor": factor}), [])
    assert found == pytest.approx(theirs(lambda o: lr_scheduler.StepLR(o, every, factor)))


@pytest.mark.parametrize("milestones", [(3, 6, 9), (9, 3), (1,), (), (5, 5), (99,)])
def test_milestones_are_those_of_torch(milestones):
    found = ours(section({"name": "step", "milestones": milestones, "factor": 0.5}), [])
    assert found == pytest.approx(theirs(lambda o: lr_scheduler.MultiStepLR(o, milestones, 0.5)))


@pytest.mark.parametrize("min_lr", [0.0, 0.01])
def test_a_cosine_is_that_of_torch_and_the_last_epoch_still_learns(min_lr):
    found = ours(section({"name": "cosine", "min_lr": min_lr}), [])
    expected = theirs(lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS, eta_min=min_lr))
    assert found == pytest.approx(expected, abs=1e-9)
    assert found[0] == 0.1
    assert min_lr < found[-1] < found[-2]


def test_a_cosine_of_one_epoch_has_the_full_rate():
    assert learning_rate(section("cosine", epochs=1), 1, []) == 0.1


def walk(seed: int, scale: float = 1.0) -> np.ndarray:
    """Quality that gets better on the whole, with setbacks and changes too small to count."""
    generator = np.random.default_rng(seed)
    steps = generator.choice([0.0, 1e-5, -0.05, 0.03, 0.1], EPOCHS)
    return scale * (2.0 + np.cumsum(steps))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("patience", "factor"), [(0, 0.5), (2, 0.9), (5, 0.1)])
def test_plateaus_of_the_loss_are_those_of_torch(seed, patience, factor):
    losses = (10 - walk(seed)).tolist()
    told = {"name": "plateau", "patience": patience, "factor": factor, "min_lr": 0.001}
    found = ours(section(told), [record(n, loss) for n, loss in enumerate(losses, 1)])
    expected = theirs(
        lambda o: lr_scheduler.ReduceLROnPlateau(o, "min", factor, patience, min_lr=0.001, eps=0.0),
        losses,
    )
    assert found == pytest.approx(expected)
    assert patience or found[-1] < 0.1


@pytest.mark.parametrize("seed", range(8))
def test_plateaus_of_a_metric_are_those_of_torch(seed):
    accuracies = walk(seed, 0.1).tolist()
    told = section({"name": "plateau", "patience": 1, "factor": 0.75}, select="val_accuracy")
    records = [record(n, 1.0, accuracy) for n, accuracy in enumerate(accuracies, 1)]
    expected = theirs(
        lambda o: lr_scheduler.ReduceLROnPlateau(o, "max", 0.75, 1, eps=0.0), accuracies
    )
    assert ours(told, records) == pytest.approx(expected)


def test_where_the_last_epoch_is_kept_a_plateau_is_of_the_loss():
    losses = (10 - walk(3)).tolist()
    records = [record(n, loss) for n, loss in enumerate(losses, 1)]
    plateau = {"name": "plateau", "patience": 1}
    assert ours(section(plateau, select="last"), records) == ours(section(plateau), records)
    assert len(set(ours(section(plateau), records))) > 1


def test_without_val_clips_a_plateau_is_of_the_train_loss():
    told = section({"name": "plateau", "patience": 1}, select="val_accuracy")
    found = ours(told, [record(n, None) for n in range(1, EPOCHS + 1)])
    # All are 1.0: the first is the best, and after every two more the rate drops.
    assert found[:6] == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.001])


def test_an_epoch_of_nan_is_not_better_and_the_next_number_is():
    told = section({"name": "plateau", "patience": 0})
    losses = [math.nan, 1.0, math.nan, 0.5]
    found = ours(told, [record(n, loss) for n, loss in enumerate(losses, 1)])
    assert found[:5] == pytest.approx([0.1, 0.01, 0.01, 0.001, 0.001])


def test_a_plateau_never_lifts_a_rate_that_is_below_min_lr():
    told = section({"name": "plateau", "patience": 0, "min_lr": 0.5})
    records = [record(n, 1.0) for n in range(1, EPOCHS + 1)]
    assert set(ours(told, records)) == {0.1}


@pytest.mark.parametrize("warmup", [0.5, 2.0, 3.5])
@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_a_rate_rises_batch_by_batch_to_that_of_its_epoch(name, warmup):
    told, steps = section({"name": name, "warmup_epochs": warmup}), 10
    for epoch in range(1, 6):
        for step in range(1, steps + 1):
            found = learning_rate(told, epoch, [], step / steps)
            share = min(1.0, (epoch - 1 + step / steps) / warmup)
            assert found == pytest.approx(share * epoch_rate(told, epoch, []))
    first = learning_rate(told, 1, [], 1 / steps)
    assert 0 < first < 0.1


def test_no_warm_up_and_a_rate_of_zero_are_legal():
    assert learning_rate(section({"name": "constant", "warmup_epochs": 0}), 1, [], 0.1) == 0.1
    assert learning_rate(section("cosine", lr=0.0), 3, [], 0.5) == 0.0
    assert learning_rate(section({"name": "cosine", "min_lr": 1.0}), EPOCHS, []) == 0.1

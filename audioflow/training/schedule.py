"""The learning rate of every step, as a function of the epochs so far: nothing else to resume."""

import math
from collections.abc import Sequence

from audioflow.events import EpochRecord
from audioflow.recipe_train import TrainSection
from audioflow.training.judge import quality

_AS_GOOD = 1e-4
"""A change of quality by less than this share is none (as in torch's ReduceLROnPlateau)."""


def learning_rate(
    section: TrainSection, epoch: int, records: Sequence[EpochRecord], progress: float = 1.0
) -> float:
    """The rate in an epoch (from 1), of which this share is over; records of those before."""
    return warmed_up(epoch_rate(section, epoch, records), section, epoch, progress)


def epoch_rate(section: TrainSection, epoch: int, records: Sequence[EpochRecord]) -> float:
    """The rate in an epoch, but for warming up."""
    return _RATES[section.schedule.name](section, epoch, records)


def warmed_up(rate: float, section: TrainSection, epoch: int, progress: float) -> float:
    """The rate of an epoch as far as it has risen, while it warms up."""
    since_start, warmup = epoch - 1 + progress, section.schedule.warmup_epochs
    return rate * since_start / warmup if since_start < warmup else rate


def _constant(section: TrainSection, epoch: int, records: Sequence[EpochRecord]) -> float:
    return section.lr


def _step(section: TrainSection, epoch: int, records: Sequence[EpochRecord]) -> float:
    schedule = section.schedule
    if schedule.milestones is not None:
        drops = sum(epoch > milestone for milestone in schedule.milestones)
    else:
        assert schedule.every is not None
        drops = (epoch - 1) // schedule.every
    return float(section.lr * schedule.factor**drops)


def _cosine(section: TrainSection, epoch: int, records: Sequence[EpochRecord]) -> float:
    lowest = min(section.schedule.min_lr, section.lr)
    share = (epoch - 1) / section.epochs  # the last epoch still learns
    return lowest + (section.lr - lowest) * (1 + math.cos(math.pi * share)) / 2


def _plateau(section: TrainSection, epoch: int, records: Sequence[EpochRecord]) -> float:
    schedule, rate = section.schedule, section.lr
    best, waited = -math.inf, 0
    for record in records[: epoch - 1]:
        now = quality(record, section, last_is_loss=True)[0]
        if now > best + _AS_GOOD * abs(best) if math.isfinite(best) else now > best:
            best, waited = now, 0
        else:
            waited += 1
        if waited > schedule.patience:
            rate, waited = max(min(schedule.min_lr, rate), rate * schedule.factor), 0
    return rate


_RATES = {"constant": _constant, "step": _step, "cosine": _cosine, "plateau": _plateau}

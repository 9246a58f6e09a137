"""What jobs tell about themselves while they run. The command line shows it; no library prints."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["start", "progress", "epoch", "trial", "note", "skip", "done"]


@dataclass(frozen=True)
class Event:
    """One thing that happened in a job.

    `start`: total (clips, epochs or trials to do), done (already there); of `train` also folds,
    select (what the best epoch is best in) and fitted (in one go, without epochs), of `tune` also
    select and default (the settings as written, by dotted key). `progress`: done, total, failures,
    media_s (media time finished in this session). `epoch`: an epoch's record, with fold and best
    (whether it is the best so far). `trial`: number, values, score or None, best (number and score
    of the best so far, or None), state (`finished`, `stopped`, `failed`), seconds. `note`: text
    worth reading. `skip`, `done`: how the job ended, with rows, failures, seconds.
    """

    job: str
    kind: Kind
    name: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochRecord:
    """What one pass over the training split came to; losses are mean cross-entropies in nats.

    `metrics` are those on `val`, like `val_accuracy`; those of one layer of several have its name
    behind them: `val_accuracy[pool5]`. Without `val`, `val_loss` is None.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    metrics: dict[str, float]
    lr: float
    seconds: float


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener for those who want none."""

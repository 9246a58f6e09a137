"""What jobs tell about themselves while they run. The command line shows it; no library prints."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["start", "progress", "epoch", "note", "skip", "done"]


@dataclass(frozen=True)
class Event:
    """One thing that happened in a job.

    `start`: total (clips or epochs to do), done (already there). `progress`: done, total, failures,
    media_s (media time finished in this session). `epoch`: an epoch's record. `note`: text worth
    reading. `skip`, `done`: how the job ended, with rows, failures, seconds.
    """

    job: str
    kind: Kind
    name: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochRecord:
    """What one pass over the training split came to; losses are mean cross-entropies in nats.

    `metrics` are those on `val`: `val_accuracy`, `val_macro_f1`. Without `val`, `val_loss` is None.
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

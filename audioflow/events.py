"""What jobs tell about themselves while they run. The command line shows it; no library prints."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "begin",
    "start",
    "progress",
    "shard",
    "retry",
    "node",
    "epoch",
    "trial",
    "note",
    "verdict",
    "skip",
    "done",
    "failed",
    "end",
]


@dataclass(frozen=True)
class Event:
    """One thing that happened in a job; docs/observing.md has the fields of every kind.

    `begin`, `end`: of the command, with its exit code. `start`: what a job has before it. `shard`:
    one was committed. `progress`: how far it is. `retry`: a worker was lost, and others do what it
    was at. `node`: one has joined the cluster, or was lost. `epoch`, `trial`: one has ended.
    `note`: text worth reading. `verdict`: where the time went. `skip`, `done`: how a table ended.
    `failed`: so did this one, while others go on.
    """

    job: str
    kind: Kind
    name: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochRecord:
    """What one pass over the training split came to; losses are mean cross-entropies in nats.

    `metrics` are those on `val`, like `val_accuracy`; those of one layer of several have its name
    behind them: `val_accuracy[pool5]`. Without `val`, `val_loss` is None. Of its `seconds` the
    first worker waited `ingest_s` for its share of the examples, and judged on `val` for `judge_s`.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    metrics: dict[str, float]
    lr: float
    seconds: float
    examples: int = 0
    ingest_s: float = 0.0
    judge_s: float = 0.0


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener for those who want none."""

"""What workers say of the epochs they do: heard by the driver, which tells and logs it."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from audioflow.engine.loggers import Logged, Logger, loggers_of, scalars_of
from audioflow.engine.run import Run
from audioflow.engine.train_save import JOB
from audioflow.engine.train_tell import Begun, Inbox, Teller
from audioflow.recipe import SystemSection

_LOOK_EVERY_S = 0.3


@dataclass
class Counts:
    """How many epochs of a system are done, by fold, of so many in all; before: by an earlier
    command."""

    total: int
    done: dict[str | None, int] = field(default_factory=dict)
    before: dict[str | None, int] = field(default_factory=dict)

    def begun(self, fold: str | None, epochs: int) -> bool:
        """A worker begins after so many; whether that is other than what was known."""
        self.before.setdefault(fold, epochs)
        known, self.done[fold] = self.done.get(fold, 0), epochs
        return epochs != known

    def ended(self, fold: str | None, epoch: int) -> int:
        """An epoch has ended; the number of all that are done."""
        self.done[fold] = epoch
        return sum(self.done.values())


class Epochs:
    """Hears of the epochs of all systems of a job, whose workers may be at it side by side."""

    def __init__(self, run: Run) -> None:
        self._run = run
        node = ray.get_runtime_context().get_node_id()
        # Beside the driver: a node that is lost takes no epochs with it that others have ended.
        # Not softly: Ray then takes another node, where the driver's has no CPU to give.
        where = NodeAffinitySchedulingStrategy(node, soft=False)
        self._inbox: Any = ray.remote(num_cpus=0, scheduling_strategy=where)(Inbox).remote()
        self._loggers: dict[str, list[Logger]] = {}
        self._counts: dict[str, Counts] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def of(
        self, name: str, section: SystemSection, total: int, *, waits: bool = False
    ) -> Iterator[Teller]:
        """What the workers of a system tell by; at the end all that has arrived was told.

        total: epochs of all its heads.
        """
        logged = Logged(JOB, name, self._run.head(name).folder, section.model_dump(mode="json"))
        with loggers_of(self._run, logged) as loggers:
            self._loggers[name], self._counts[name] = loggers, Counts(total)
            try:
                yield Teller(self._inbox, name, waits=waits)
            finally:
                self._take()
                del self._loggers[name]

    def close(self) -> None:
        """Hear nothing more."""
        self._ended.set()
        self._thread.join()
        ray.kill(self._inbox)

    def _listen(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            self._take()

    def _take(self) -> None:
        """Tell what has arrived since."""
        with self._lock, contextlib.suppress(RayError):  # of a node in trouble the job will tell
            for name, said in ray.get(self._inbox.take.remote()):
                counts = self._counts[name]
                if isinstance(said, Begun):
                    self._begun(name, said, counts)
                else:
                    self._tell(name, said, counts)

    def _begun(self, name: str, said: Begun, counts: Counts) -> None:
        """Tell where a worker begins, unless that is at the beginning."""
        if counts.begun(said.fold, said.epochs):
            done, before = sum(counts.done.values()), sum(counts.before.values())
            self._run.tell(JOB, "progress", name, done=done, total=counts.total, before=before)
        if said.epochs:
            fold = "" if said.fold is None else f"fold {said.fold} "
            self._run.tell(JOB, "note", name, text=f"{fold}goes on after epoch {said.epochs}")

    def _tell(self, name: str, record: dict[str, Any], counts: Counts) -> None:
        fold = record.get("fold")
        done = counts.ended(fold, record["epoch"])
        self._run.tell(JOB, "epoch", name, **record, done=done, total=counts.total)
        for logger in self._loggers.get(name, ()):
            inner = "" if fold is None else f"fold-{fold}"
            logger.add(inner, record["epoch"], scalars_of(record))


@contextlib.contextmanager
def epochs_of(run: Run) -> Iterator[Epochs]:
    """Who hears of the epochs of a job, while it lasts; on a Ray that is connected."""
    epochs = Epochs(run)
    try:
        yield epochs
    finally:
        epochs.close()

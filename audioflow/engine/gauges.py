"""What gauges say of the tables that are being made, to be set again and again.

Ray's agent drops a gauge that was not set for two of its reports (20 s), and a shard, an epoch or a
trial may take longer.
"""

from collections.abc import Iterator, Mapping

from audioflow.events import Event

_ENDS = ("done", "skip", "failed")


class Gauges:
    """The values of a table as long as it is made, those of a job until another one goes on."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], bool] = {}
        self._values: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}

    @property
    def at_work(self) -> bool:
        """Whether any table is being made."""
        return any(self._tables.values())

    def table(self, event: Event) -> str | None:
        """The name that a table has in labels: where several are made together, that of all.

        They end with the first of them, as in the status file; None for the end of the others.
        """
        if event.kind == "start":
            self._tables[event.job, event.name] = True
        if event.kind not in _ENDS:
            return event.name
        for (job, names), active in self._tables.items():
            if job == event.job and event.name in names.split(", "):
                self._tables[job, names] = False
                return names if active else None
        return event.name

    def note(self, job: str, name: str, labels: Mapping[str, str], value: float) -> None:
        """A gauge was set."""
        self._values[job, name, tuple(labels.items())] = value

    def forget(self, event: Event, table: str) -> None:
        """Leave out what an event has ended: gauges of its table, and those of other jobs that have
        no table at work."""
        working = {job for job, _ in self._tables if self._works(job)} | {event.job}
        ended = (event.job, ("table", table)) if event.kind in _ENDS else None
        self._values = {
            (job, name, labels): value
            for (job, name, labels), value in self._values.items()
            if job in working and not (ended and job == ended[0] and ended[1] in labels)
        }

    def current(self) -> Iterator[tuple[str, str, dict[str, str], float]]:
        """Job, name, labels and value of each that is to be set again."""
        for (job, name, labels), value in self._values.items():
            yield job, name, dict(labels), value

    def _works(self, job: str) -> bool:
        return any(active for (one, _), active in self._tables.items() if one == job)

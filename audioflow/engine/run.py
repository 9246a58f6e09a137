"""One run of a recipe: where its tables lie, who listens, and the Ray session once it is needed."""

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from audioflow.engine.measures import Measures
from audioflow.engine.session import Session
from audioflow.errors import TableError
from audioflow.events import Event, Kind, Listener, ignore
from audioflow.places import input_url, output_url
from audioflow.recipe import Recipe
from audioflow.redaction import masked, masked_values
from audioflow.storage import Folder, StorageOptions
from audioflow.tables import Header, Table


def ignored(why: str) -> None:
    """For those whose process is not audioflow's."""


@dataclass
class Run:
    """What every job gets: the recipe, its folder, the session and the listener.

    `recipe_text` and `command` are what the user wrote, for the report. `retry_failed`: clips that
    failed before are tried again. `give_up`: ends the process, for a reason, where Ray itself is
    about to.
    """

    recipe: Recipe
    listener: Listener = ignore
    recipe_text: str = ""
    command: str = ""
    retry_failed: bool = False
    give_up: Callable[[str], None] = ignored
    folder: Folder = field(init=False)
    session: Session = field(init=False)
    measures: Measures = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.output(self.recipe.run_dir)
        self.session = Session(self.recipe.ray)
        self.measures = Measures(masked(self.folder.url.rstrip("/").rpartition("/")[2]))

    @property
    def storage(self) -> StorageOptions:
        """What the recipe says about object stores."""
        return self.recipe.storage_options

    def output(self, path: str) -> Folder:
        """The place behind a path of the recipe that is written to."""
        return Folder(output_url(path), self.storage)

    def input(self, path: str) -> Folder:
        """The place behind a path of the recipe that is read."""
        return Folder(input_url(path), self.storage)

    def manifest(self) -> Table:
        return Table(self.folder / "manifest")

    def embeddings(self, backbone: str) -> Table:
        return Table(self.folder / "embeddings" / backbone)

    def head(self, system: str) -> Table:
        return Table(self.folder / "heads" / system)

    def search(self, system: str) -> Table:
        return Table(self.folder / "tune" / system)

    def scores(self, system: str) -> Table:
        return Table(self.folder / "scores" / system)

    def report(self) -> Table:
        return Table(self.folder / "report")

    def tell(self, job: str, kind: Kind, name: str = "", **data: Any) -> None:
        """Send one event to the listener and to the measures."""
        event = Event(job, kind, name, masked_values(data, self.storage.secrets))
        self.listener(event)
        self.measures.hear(event)

    def unchanged(self, job: str, name: str, table: Table, fingerprint: str) -> Header | None:
        """The header of a table that is complete with this fingerprint (told), else None."""
        old = table.header()
        if old is None or old.fingerprint != fingerprint:
            return None
        self.tell(job, "skip", name, rows=old.good, failures=old.failures)
        return old

    def finished(self, job: str, name: str, header: Header) -> None:
        """Tell that a table was finished now."""
        self.tell(job, "done", name, rows=header.good, failures=header.failures, **header.stats)


def refuse_lost_shards(table: Table, names: Sequence[str], committed: Container[str]) -> None:
    """Make sure that what the workers committed is where the header will stand."""
    lost = sorted(name for name in names if name not in committed)
    if lost:
        raise TableError(
            f"{table.folder.url}: {len(lost)} of {len(names)} shards that workers wrote are not "
            f"there, {lost[0]} for one; run_dir has to be a place that all nodes see, such as "
            "s3:// or a shared file system"
        )


class Watch:
    """Wall time and what was done in it, as the `stats` of a header."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def stats(self, clips: int, media_s: float | None = None, **more: Any) -> dict[str, Any]:
        """Seconds, when they were over (Unix time), clips per second and, with `media_s`, times
        real time."""
        seconds = self.seconds
        found: dict[str, Any] = {"seconds": round(seconds, 3), "clips": clips}
        found["ended"] = round(time.time(), 3)
        found["clips_per_s"] = round(clips / seconds, 3) if seconds else 0.0
        if media_s is not None:
            found["media_s"] = round(media_s, 3)
            found["x_real_time"] = round(media_s / seconds, 3) if seconds else 0.0
        return found | more

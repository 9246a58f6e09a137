"""A clip as a reader of data sets finds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Clip:
    """One clip as a reader found it. `columns` are the reader's: for splits, folds and groups."""

    clip_id: str
    uri: str
    labels: tuple[str, ...]
    start_s: float | None = None
    duration_s: float | None = None
    size_bytes: int | None = None
    version: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    fine_labels: tuple[str, ...] | None = None
    """The labels before some were merged; None where none was."""
    place: str = ""
    """Where the clip was read, for messages: a file, or a line of a list."""
    group: str = ""
    """What the clip was cut from, where its reader knows of more than its file."""

    @property
    def origin(self) -> str:
        return self.place or self.uri

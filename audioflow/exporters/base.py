"""What every exporter offers, and what it is given."""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from audioflow.errors import InputError, StorageError
from audioflow.matching import KeySettings
from audioflow.registry import Settings, nearest
from audioflow.storage import Folder
from audioflow.tables import Header, Table
from audioflow.verify.places import subfolders


@dataclass(frozen=True)
class Source:
    """A system of a run, and the splits whose clips are exported; None: all that are scored."""

    run: Folder
    system: str
    splits: tuple[str, ...] | None = None

    @property
    def manifest(self) -> Table:
        return Table(self.run / "manifest")

    @property
    def head(self) -> Folder:
        return self.run / "heads" / self.system

    @property
    def scores(self) -> Table:
        return Table(self.run / "scores" / self.system)

    def header(self) -> Header:
        """The header of the score table.

        Raises `InputError` where there is no such system, `TableError` where its table is not
        complete.
        """
        there = subfolders(self.run / "scores")
        if self.system not in there:
            hint = nearest(self.system, there)
            raise InputError(
                f"{self.run.url} has no scores of a system {self.system!r}; there are "
                f"{', '.join(there) or 'none'}" + (f"; did you mean {hint!r}?" if hint else "")
            )
        return self.scores.complete_header()

    def shards(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """These columns of the wanted clips, shard by shard."""
        for _, rows in self.scores.shards([*dict.fromkeys(["split", *columns])]):
            chosen = rows
            if self.splits is not None:
                chosen = rows.filter(pc.is_in(rows["split"], pa.array(self.splits)))
            if chosen.num_rows:
                yield chosen

    def keys(self, key: KeySettings) -> dict[str, str]:
        """Clip id -> key, of every clip of the manifest that has one."""
        column = "clip_id" if key.of == "clip_id" else "uri"
        rows = self.manifest.read(["clip_id", column] if column == "uri" else ["clip_id"])
        pairs = zip(rows["clip_id"].to_pylist(), rows[column].to_pylist(), strict=True)
        found = ((clip_id, key.key(name)) for clip_id, name in pairs)
        return {clip_id: name for clip_id, name in found if name is not None}


@dataclass(frozen=True)
class Written:
    """What was written: how many clips (rows), into how many files, and what else to tell."""

    clips: int
    files: int
    notes: tuple[str, ...] = ()


class Exporter(Protocol):
    """A form of another program."""

    Settings: ClassVar[type[Settings]]

    def __init__(self, settings: Any) -> None: ...

    def write(self, source: Source, out: Path) -> Written:
        """Write the file, or the folder, `out`.

        Raises `InputError` for what the system has not, or cannot be in this form, and
        `StorageError` where `out` cannot be written.
        """
        ...


@contextlib.contextmanager
def written(out: Path) -> Iterator[Path]:
    """A path to write to, which becomes `out` at the end, or nothing where that fails."""
    temporary = out.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(out)
    except OSError as error:
        raise StorageError(f"--out {out} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # none where nothing could be written
            temporary.unlink(missing_ok=True)

"""The file that a competition gives: which ids to hand in, in which order, under which columns."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audioflow.downloads import LocalFile
from audioflow.errors import InputError
from audioflow.exporters.base import Source
from audioflow.matching import KeySettings

_SHOWN = 5


@dataclass(frozen=True)
class Template:
    """columns: as its header names them. ids: of its rows, in order, as they stand there."""

    columns: tuple[str, ...]
    ids: tuple[str, ...]
    path: str

    @classmethod
    def read(cls, path: str) -> "Template":
        """Raises `InputError` for a file that is no such list, and for ids that stand twice."""
        try:
            with open(path, encoding="utf-8-sig", newline="") as stream:  # noqa: PTH123
                header, *rows = [row for row in csv.reader(stream) if any(row)] or [[]]
        except OSError as error:
            raise InputError(f"--template {path} cannot be read: {error.strerror}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"--template {path} is no CSV in UTF-8: {error}") from error
        if len(header) < 2 or not rows:
            raise InputError(
                f"--template {path} has the columns {header} and {len(rows)} rows; expected a "
                "header of an id and more, and a row per clip"
            )
        ids = tuple(row[0].strip() for row in rows)
        counts = Counter(ids)
        odd = next((name for name, times in counts.items() if not name or times > 1), None)
        if odd is not None:
            raise InputError(f"--template {path}: the id {odd!r} is empty or stands twice")
        return cls(tuple(cell.strip() for cell in header), ids, path)

    def places(self, source: Source, key: KeySettings) -> dict[str, int]:
        """Clip id -> row of the template. Raises `InputError` where two clips, or two rows, have
        one key."""
        row_of: dict[str | None, int] = {}
        for row, name in enumerate(self.ids):
            other = row_of.setdefault(key.key(name), row)
            if other != row:
                raise InputError(
                    f"--template {self.path}: {self.ids[other]!r} and {name!r} have one key "
                    f"({key.key(name)!r}); give another --key"
                )
        found: dict[str, int] = {}
        taken: dict[int, str] = {}
        for clip_id, name_key in source.keys(key).items():
            place = row_of.get(name_key)
            if place is None:
                continue
            if (other_id := taken.setdefault(place, clip_id)) != clip_id:
                raise InputError(
                    f"the clips {other_id!r} and {clip_id!r} have one key ({name_key!r}), which "
                    f"--template {self.path} has once; give another --key"
                )
            found[clip_id] = place
        return found

    def refuse_missing(self, missing: Sequence[int], system: str) -> None:
        """Raise `InputError` where rows of the template got no scores."""
        if not missing:
            return
        named = ", ".join(repr(self.ids[row]) for row in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise InputError(
            f"{len(missing)} of the {len(self.ids)} ids of --template {self.path} have no scores "
            f"of {system}: {named}{more}; score their split, see `audioflow failures`, or give "
            "them a class by --fill"
        )


def local(path: str) -> LocalFile:
    """A file that the command line names; raises `InputError` where it is not there."""
    if not Path(path).is_file():
        raise InputError(f"{path} does not exist")
    return LocalFile(path, path)

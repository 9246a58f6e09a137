"""What is compared: the score table of one system of a run, and everything it was made with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from audioflow.errors import InputError, TableError
from audioflow.join import COLUMNS
from audioflow.redaction import masked, masked_values
from audioflow.storage import Folder
from audioflow.tables import Header, Table
from audioflow.verify.places import subfolders


@dataclass(frozen=True)
class Side:
    """The scores of a system of a run.

    settings: of the score table and of all tables it was made from, by dotted key, as
    `heads.train.lr`. groups: clip id -> what must not straddle splits; empty without a manifest.
    """

    url: str
    system: str
    header: Header
    rows: pa.Table
    settings: Mapping[str, Any]
    groups: Mapping[str, str]

    @property
    def multi_label(self) -> bool | None:
        """Whether clips may have several labels; None where its header does not say."""
        return self.header.settings.get("multi_label")


def systems_in(folder: Folder) -> list[str]:
    """The systems of a run that have a complete score table.

    Raises `InputError` where there is none.
    """
    names = subfolders(folder / "scores")
    found = [name for name in names if Table(folder / "scores" / name).header() is not None]
    if not found:
        raise InputError(f"{masked(folder.url)} holds no complete score table; run the job score")
    return found


def common_systems(a: Folder, b: Folder) -> list[tuple[str, str]]:
    """The systems that both runs have by the same name; raises `InputError` where there is none."""
    ours, theirs = systems_in(a), systems_in(b)
    common = [(name, name) for name in ours if name in theirs]
    if not common:
        raise InputError(
            f"no system of {masked(a.url)} ({', '.join(ours)}) has the name of one of "
            f"{masked(b.url)} ({', '.join(theirs)}): say which belong together, "
            f"as --system {ours[0]}={theirs[0]}"
        )
    return common


def read_side(folder: Folder, system: str) -> Side:
    """The scores of a system of a run; raises `InputError` where it has no complete table."""
    known = systems_in(folder)
    if system not in known:
        raise InputError(
            f"{masked(folder.url)} has no complete score table of {system!r}; "
            f"there are {', '.join(known)}"
        )
    table = Table(folder / "scores" / system)
    header = table.complete_header()
    rows = table.read()
    missing = [name for name in COLUMNS if name not in rows.column_names]
    if missing:
        raise TableError(f"{masked(table.folder.url)} has no column {', '.join(missing)}")
    rows = rows.select(list(COLUMNS))
    settings = dict(_settings(folder, header))
    return Side(masked(folder.url), system, header, rows, settings, _groups(folder))


def _groups(folder: Folder) -> dict[str, str]:
    manifest = Table(folder / "manifest")
    if manifest.header() is None:
        return {}
    rows = manifest.read().select(["clip_id", "group"])
    return dict(zip(rows["clip_id"].to_pylist(), rows["group"].to_pylist(), strict=True))


def _settings(folder: Folder, header: Header) -> Iterator[tuple[str, Any]]:
    """What the table and those it was made from say of themselves, by dotted key."""
    # A head says the same of its system, and more exactly; what was fitted is no setting.
    told = (
        {"params", "system"}
        if any(one.startswith("heads/") for one in header.parents)
        else {"params"}
    )
    own = {name: value for name, value in header.settings.items() if name not in told}
    yield from _flat("scores", masked_values(own))
    seen, waiting = set(), list(header.parents)
    while waiting:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        found = Table(folder / path).header()
        if found is None:  # removed since: its scores are still there to be compared
            continue
        waiting += found.parents
        kind, _, name = path.partition("/")
        several = sum(one.partition("/")[0] == kind for one in header.parents) > 1
        yield from _flat(f"{kind}.{name}" if several else kind, masked_values(found.settings))
    yield from _flat("versions", header.versions)


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flat(f"{key}.{name}", item)
    else:
        yield key, value

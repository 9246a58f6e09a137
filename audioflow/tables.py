"""Tables: a folder of Parquet shards, a receipt for each, and a header that is written last.

    manifest/                 embeddings/acoustic/
      _header.json              _header.json            written last: without it the table is incomplete
      00000-1f3a9c2e.parquet    00000-1f3a9c2e.parquet  rows; the name holds the shard's fingerprint
      _shards/...json           _shards/...json         receipts, written after the shard: its commit
                                failures/...parquet     clips that gave no row, where there are any

A shard's name is a pure function of the clips in it and the settings, so a retry overwrites the same
file, and what is committed can be told from a listing.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from audioflow.errors import TableError
from audioflow.storage import Folder

SCHEMA_VERSION = 1
HEADER = "_header.json"
RECEIPTS = "_shards"
FAILURES = "failures"

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("fold", pa.string()),
        pa.field("group", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("version", pa.string()),
    ]
)

FAILURES_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("node", pa.string()),
    ]
)


def embeddings_schema(layers: Mapping[str, int]) -> pa.Schema:
    """Schema of an embeddings table whose backbone has these layers (name -> width)."""
    columns = [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("variant", pa.int32(), nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("coverage", pa.float32(), nullable=False),
        pa.field("patch_start_s", pa.list_(pa.float64()), nullable=False),
    ]
    columns += [
        pa.field(name, pa.list_(pa.list_(pa.float32(), width))) for name, width in layers.items()
    ]
    return pa.schema(columns)


def scores_schema(num_classes: int, *, fused: bool = False) -> pa.Schema:
    """Schema of a score table; `scores` follows the class order of the header."""
    columns = [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("scores", pa.list_(pa.float32(), num_classes), nullable=False),
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
    if fused:
        columns.append(pa.field("available", pa.list_(pa.string()), nullable=False))
    return pa.schema(columns)


def fingerprint(*parts: Any) -> str:
    """A hash (32 hex digits) of JSON-like values that does not depend on the order of mapping keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Failure:
    """One clip that gave no result, as a row of a failures table."""

    clip_id: str
    uri: str | None
    stage: str
    error: str
    reason: str
    attempts: int = 1
    node: str | None = None


@dataclass(frozen=True)
class Receipt:
    """What was committed with one shard. `media_s` is the media time (seconds) its rows cover."""

    name: str
    rows: int
    failures: int
    sha256: str
    size_bytes: int
    media_s: float = 0.0
    failures_sha256: str = ""
    errors: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """Provenance of a complete table; the content of `_header.json`."""

    kind: str
    name: str
    fingerprint: str
    parents: dict[str, str]
    settings: dict[str, Any]
    rows: int
    failures: int
    shards: list[Receipt]
    classes: list[str] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def media_s(self) -> float:
        return sum(shard.media_s for shard in self.shards)


class Table:
    """A table in a folder: commit shards, finish with a header, read back."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.failures_folder = folder / FAILURES
        self._receipts = folder / RECEIPTS

    def header(self) -> Header | None:
        """The header, or None where the table is not complete."""
        try:
            data = json.loads(self.folder.read(HEADER))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise TableError(
                f"{self.folder.file(HEADER)} is not JSON ({error}); remove it and run again"
            ) from error
        known = {item.name for item in fields(Header)}
        if (
            not isinstance(data, dict)
            or data.get("schema_version") != SCHEMA_VERSION
            or set(data) - known
        ):
            found = data.get("schema_version") if isinstance(data, dict) else None
            raise TableError(
                f"{self.folder.file(HEADER)} has schema version {found}, this audioflow reads {SCHEMA_VERSION}; "
                "remove the table and run its job again"
            )
        shards = [Receipt(**shard) for shard in data.pop("shards")]
        return Header(shards=shards, **data)

    def complete_header(self) -> Header:
        """The header of a table that has to be complete; raises `TableError` where it is not."""
        header = self.header()
        if header is None:
            raise TableError(f"{self.folder.url} is not complete: run its job first")
        return header

    def committed(self) -> set[str]:
        """Names of the shards whose commit is on disk."""
        receipts = {name.removesuffix(".json") for name in self._receipts.names()}
        return receipts & {name.removesuffix(".parquet") for name in self.folder.names()}

    def receipt(self, name: str) -> Receipt:
        """The receipt of one committed shard."""
        return Receipt(**json.loads(self._receipts.read(f"{name}.json")))

    def commit(
        self, name: str, rows: pa.Table, failures: Sequence[Failure] = (), media_s: float = 0.0
    ) -> Receipt:
        """Write one shard: its failures, its rows, then its receipt. Doing it twice changes nothing."""
        failures_sha256 = ""
        if failures:
            data = parquet_bytes(failures_table(failures))
            failures_sha256 = hashlib.sha256(data).hexdigest()
            self.failures_folder.write(f"{name}.parquet", data)
        else:
            self.failures_folder.remove(f"{name}.parquet")
        data = parquet_bytes(rows)
        self.folder.write(f"{name}.parquet", data)
        errors: dict[str, int] = {}
        for failure in failures:
            errors[failure.error] = errors.get(failure.error, 0) + 1
        receipt = Receipt(
            name,
            rows.num_rows,
            len(failures),
            hashlib.sha256(data).hexdigest(),
            len(data),
            media_s,
            failures_sha256,
            errors,
        )
        self._receipts.write(f"{name}.json", json.dumps(asdict(receipt)).encode())
        return receipt

    def open_for(self, names: Iterable[str]) -> set[str]:
        """Make the table incomplete, drop shards that are not in `names`, return the committed ones."""
        wanted = set(names)
        self.folder.remove(HEADER)
        for folder, suffix in (
            (self._receipts, ".json"),
            (self.folder, ".parquet"),
            (self.failures_folder, ".parquet"),
        ):
            for file in folder.names():
                if file.endswith(suffix) and file.removesuffix(suffix) not in wanted:
                    folder.remove(file)
        return self.committed()

    def finish(self, header: Header) -> Header:
        """Write the header, which makes the table complete."""
        text = json.dumps(asdict(header), indent=1, ensure_ascii=False)
        self.folder.write(HEADER, text.encode())
        return header

    def shards(self, columns: Sequence[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """The rows of a complete table, shard by shard in name order."""
        for receipt in self.complete_header().shards:
            yield receipt.name, self.read_shard(receipt.name, columns)

    def read_shard(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one shard."""
        data = self.folder.read(f"{name}.parquet")
        return pq.read_table(
            io.BytesIO(data), columns=list(columns) if columns is not None else None
        )

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a complete table in memory."""
        tables = [rows for _, rows in self.shards(columns)]
        if not tables:
            raise TableError(f"{self.folder.url} has no shard")
        return pa.concat_tables(tables)

    def read_failures(self) -> pa.Table:
        """All failures of a complete table in memory."""
        found = [
            self.shard_failures(shard.name)
            for shard in self.complete_header().shards
            if shard.failures
        ]
        return pa.concat_tables([FAILURES_SCHEMA.empty_table(), *found])

    def shard_failures(self, name: str) -> pa.Table:
        """The failures of one shard; empty where it had none."""
        try:
            data = self.failures_folder.read(f"{name}.parquet")
        except FileNotFoundError:
            return FAILURES_SCHEMA.empty_table()
        return pq.read_table(io.BytesIO(data))


def failures_table(failures: Sequence[Failure]) -> pa.Table:
    """Failures as an Arrow table of `FAILURES_SCHEMA`."""
    return pa.Table.from_pylist([asdict(failure) for failure in failures], schema=FAILURES_SCHEMA)


def parquet_bytes(rows: pa.Table) -> bytes:
    """The rows as one Parquet file; equal rows give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


def package_versions() -> dict[str, str]:
    """Versions of what a table's content may depend on, for its header."""
    names = (
        "audioflow",
        "av",
        "decord",
        "numpy",
        "pyarrow",
        "ray",
        "torch",
        "torchaudio",
        "scikit-learn",
    )
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found

"""Tables: a folder of Parquet shards, a receipt for each, and a header that is written last.

    embeddings/acoustic/
      _header.json            written last: without it the table is incomplete
      0110-1f3a9c2e.parquet   rows; the name holds the shard's fingerprint
      _shards/...json         receipts, each written after its shard: its commit
      failures/...parquet     clips that gave no row, where there are any
      _parts/...parquet       while it is made: rows of shards too large to be made at once

A shard's name is a pure function of the clips in it and the settings, so a retry overwrites the
same file, and what is committed can be told from a listing.

Other programs read the rows with `*.parquet` of the folder:

    polars.read_parquet("embeddings/acoustic/*.parquet")
    pandas.read_parquet(sorted(pathlib.Path("embeddings/acoustic").glob("*.parquet")))
    SELECT * FROM 'embeddings/acoustic/*.parquet'

Not the folder as a whole: pandas and pyarrow would go down into `failures/` and add its clips as
rows without values, and polars stops at `_header.json`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from audioflow.errors import TableError
from audioflow.parquet import RECEIPTS, parquet_bytes, read_parquet
from audioflow.records import (  # noqa: F401  (who handles a table finds these here too)
    SCHEMA_VERSION,
    Failure,
    Header,
    Receipt,
    failures_table,
    fingerprint,
    package_versions,
)
from audioflow.schemas import (  # noqa: F401  (and its columns)
    FAILURES_SCHEMA,
    MANIFEST_SCHEMA,
    embeddings_schema,
    scores_schema,
)
from audioflow.storage import Folder
from audioflow.timing import NO_TIMES, Stint, Times

HEADER = "_header.json"
FAILURES = "failures"
PARTS = "_parts"

_RECEIPTS_AT_ONCE = 256
"""With the keys of 4096 clips, one takes 200 kB."""


@dataclass(frozen=True)
class Content:
    """What goes into one shard. `media_s` is the media time (seconds) that the rows cover.

    `clip_keys`, by clip id, say what each clip was made from; they are kept with the receipt, as
    are the times that `times` gives once all else is written.
    """

    rows: pa.Table
    failures: Sequence[Failure] = ()
    media_s: float = 0.0
    clip_keys: Mapping[str, str] = field(default_factory=dict)
    times: Callable[[], Times] = lambda: NO_TIMES


@dataclass(frozen=True)
class Listing:
    """The files of a table at one time, without suffix."""

    receipts: frozenset[str]
    rows: frozenset[str]
    failures: frozenset[str]
    parts: frozenset[str]

    @property
    def committed(self) -> set[str]:
        """Names of the shards whose commit is on disk."""
        return set(self.receipts & self.rows)


class Table:
    """A table in a folder: commit shards, finish with a header, read back."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.failures_folder = folder / FAILURES
        self._receipts = folder / RECEIPTS

    def header(self) -> Header | None:
        """The header, or None where the table is not complete; raises `TableError` on others."""
        try:
            text = self.folder.read(HEADER)
        except FileNotFoundError:
            return None
        where = self.folder.file(HEADER)
        try:
            data = json.loads(text)
            version = data["schema_version"]
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(where, error) from error
        if version != SCHEMA_VERSION:
            raise TableError(
                f"{where} has schema version {version}, this audioflow reads {SCHEMA_VERSION}; "
                "remove the table and run its job again"
            )
        try:
            return Header(**(data | {"shards": [Receipt(**shard) for shard in data["shards"]]}))
        except (TypeError, KeyError) as error:
            raise _damaged(where, error) from error

    def complete_header(self) -> Header:
        """The header of a table that has to be complete; raises `TableError` where it is not."""
        header = self.header()
        if header is None:
            raise TableError(f"{self.folder.url} is not complete: run its job first")
        return header

    def listing(self) -> Listing:
        """What is there now."""
        return Listing(
            _stems(self._receipts, ".json"),
            _stems(self.folder, ".parquet"),
            _stems(self.failures_folder, ".parquet"),
            _stems(self.folder / PARTS, ".parquet"),
        )

    def committed(self) -> set[str]:
        """Names of the shards whose commit is on disk."""
        return set(_stems(self._receipts, ".json") & _stems(self.folder, ".parquet"))

    def receipt(self, name: str) -> Receipt:
        """The receipt of one committed shard; raises `TableError` where it is not there."""
        return self.receipts([name])[name]

    def receipts(self, names: Sequence[str]) -> dict[str, Receipt]:
        """The receipts of committed shards, by name; raises `TableError` where one is not there."""
        return {name: _parsed(where, text) for name, where, text in self._receipt_files(names)}

    def keyed_receipts(self, names: Sequence[str]) -> Iterator[tuple[Receipt, dict[str, str]]]:
        """Receipts, each with what its clips (by id) were made from, as far as it says so."""
        for _, where, text in self._receipt_files(names):
            yield _parsed(where, text), json.loads(text).get("clip_keys", {})

    def clip_keys(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """By shard, what its clips (by id) were made from; nothing for one that does not say."""
        return {
            name: json.loads(text).get("clip_keys", {})
            for name, _, text in self._receipt_files(names)
        }

    def stints(self, names: Sequence[str]) -> dict[str, list[Stint]]:
        """By shard, who worked on it and when; nothing for one that does not say."""
        return {name: _stints(where, text) for name, where, text in self._receipt_files(names)}

    def _receipt_files(self, names: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
        for start in range(0, len(names), _RECEIPTS_AT_ONCE):
            some = names[start : start + _RECEIPTS_AT_ONCE]
            found = self._receipts.read_many([f"{name}.json" for name in some])
            for name in some:
                where = self._receipts.file(f"{name}.json")
                if f"{name}.json" not in found:
                    raise TableError(f"{where} is missing; run the table's job again")
                yield name, where, found[f"{name}.json"]

    def commit(
        self, name: str, rows: pa.Table, failures: Sequence[Failure] = (), media_s: float = 0.0
    ) -> Receipt:
        """As `commit_content`, without keys."""
        return self.commit_content(name, Content(rows, failures, media_s))

    def commit_content(self, name: str, content: Content) -> Receipt:
        """Write one shard: its failures, its rows, then its receipt. Twice changes nothing.

        Failures of a try before that was broken off stay until `finish`: to remove what is hardly
        ever there would be a request for every shard.
        """
        rows, failures = content.rows, content.failures
        failures_sha256 = ""
        if failures:
            data = parquet_bytes(failures_table(failures))
            failures_sha256 = hashlib.sha256(data).hexdigest()
            self.failures_folder.write(f"{name}.parquet", data)
        data = parquet_bytes(rows)
        self.folder.write(f"{name}.parquet", data)
        receipt = Receipt(
            name=name,
            rows=rows.num_rows,
            failures=len(failures),
            sha256=hashlib.sha256(data).hexdigest(),
            size_bytes=len(data),
            media_s=content.media_s,
            failures_sha256=failures_sha256,
            errors=dict(sorted(Counter(failure.error for failure in failures).items())),
            variants=_variants(rows),
        )
        stints = [stint.to_json() for stint in content.times().stints]
        more = {"clip_keys": dict(content.clip_keys), "stints": stints}
        text = json.dumps(asdict(receipt) | more)
        self._receipts.write(f"{name}.json", text.encode())
        return receipt

    def write_part(self, name: str, number: int, rows: pa.Table) -> None:
        """Keep rows of a shard that is made in parts, until it is committed."""
        (self.folder / PARTS).write(_part_file(name, number), parquet_bytes(rows))

    def read_parts(self, name: str, count: int) -> list[pa.Table]:
        """The parts of a shard, in order; raises `TableError` where one is missing or damaged."""
        folder = self.folder / PARTS
        return [
            read_parquet(folder, _part_file(name, number).removesuffix(".parquet"))
            for number in range(count)
        ]

    def remove_parts(self, name: str, count: int) -> None:
        """Remove the parts of a shard."""
        for number in range(count):
            (self.folder / PARTS).remove(_part_file(name, number))

    def take_back(self, names: Iterable[str]) -> None:
        """Make these shards uncommitted."""
        self._receipts.remove_many(f"{name}.json" for name in names)

    def reopen(self) -> None:
        """Make the table incomplete; its shards stay."""
        self.folder.remove(HEADER)

    def keep_only(self, names: Iterable[str], listing: Listing | None = None) -> None:
        """Remove everything that does not belong to the shards `names`: receipts first.

        listing: what is there, where that is known.
        """
        wanted, there = set(names), listing or self.listing()
        self._receipts.remove_many(f"{name}.json" for name in there.receipts - wanted)
        for folder, found in (
            (self.folder, there.rows),
            (self.failures_folder, there.failures),
            (self.folder / PARTS, there.parts),
        ):
            folder.remove_many(f"{name}.parquet" for name in found - wanted)

    def open_for(self, names: Iterable[str]) -> set[str]:
        """Make the table incomplete, drop shards not in `names`, return the committed ones."""
        self.reopen()
        there = self.listing()
        self.keep_only(names, there)
        return there.committed & set(names)

    def finish(self, header: Header) -> Header:
        """Write the header, which makes the table complete."""
        failing = {f"{receipt.name}.parquet" for receipt in header.shards if receipt.failures}
        self.failures_folder.remove_many(set(self.failures_folder.names()) - failing)
        self.folder.write(HEADER, header.to_json())
        return header

    def shards(self, columns: Sequence[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """The rows of a complete table, shard by shard in name order."""
        for receipt in self.complete_header().shards:
            yield receipt.name, self.read_shard(receipt.name, columns)

    def read_shard(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one shard; raises `TableError` where it is missing, damaged or lacks one."""
        return read_parquet(self.folder, name, columns)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a complete table in memory."""
        tables = [rows for _, rows in self.shards(columns)]
        if not tables:
            raise TableError(f"{self.folder.url} has no shard")
        return pa.concat_tables(tables)

    def read_failures(self) -> pa.Table:
        """All failures of a complete table in memory."""
        found = [
            read_parquet(self.failures_folder, shard.name)
            for shard in self.complete_header().shards
            if shard.failures
        ]
        return pa.concat_tables([FAILURES_SCHEMA.empty_table(), *found])

    def shard_failures(self, name: str) -> pa.Table:
        """The failures of one shard; empty where it had none."""
        if not self.failures_folder.exists(f"{name}.parquet"):
            return FAILURES_SCHEMA.empty_table()
        return read_parquet(self.failures_folder, name)


def _stems(folder: Folder, suffix: str) -> frozenset[str]:
    return frozenset(name.removesuffix(suffix) for name in folder.names() if name.endswith(suffix))


def _part_file(name: str, number: int) -> str:
    return f"{name}.{number:05d}.parquet"


def _variants(rows: pa.Table) -> int:
    if "variant" not in rows.column_names:
        return 0
    return int(pc.sum(pc.greater(rows["variant"], 0)).as_py() or 0)


def _parsed(where: str, text: bytes) -> Receipt:
    try:
        return Receipt.parse(text)
    except (ValueError, TypeError, KeyError) as error:
        raise TableError(
            f"{where} is damaged ({error}); remove it and run the table's job again"
        ) from error


def _stints(where: str, text: bytes) -> list[Stint]:
    try:
        return [Stint.parse(values) for values in json.loads(text).get("stints", [])]
    except (ValueError, TypeError) as error:
        raise TableError(
            f"{where} is damaged ({error}); remove it and run the table's job again"
        ) from error


def _damaged(where: str, error: Exception) -> TableError:
    return TableError(f"{where} is damaged ({error!r}); remove the table and run its job again")

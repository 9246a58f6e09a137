"""One shard of a table against its receipt: bytes, columns, counts, values. Runs in threads."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audioflow.errors import ERROR_CLASSES, AudioflowError
from audioflow.ids import id_column
from audioflow.schemas import FAILURES_SCHEMA
from audioflow.storage import Folder
from audioflow.tables import FAILURES, HEADER, RECEIPTS, Receipt
from audioflow.verify.faults import TableFault
from audioflow.verify.headers import receipt_problem

Problems = Callable[[pq.ParquetFile], Iterator[tuple[int, str]]]
"""(row, what is wrong with its values) of a file whose columns are as expected."""

_UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What Arrow raises for bytes that are no Parquet, or whose inside is damaged."""


@dataclass(frozen=True)
class ShardTask:
    """One shard to look at, and what its rows have to be.

    `more_columns`: others than those of `schema` may follow. `with_splits`: the content names them.
    `noun` and `key`: what a row is, and the column that says which.
    """

    table: str
    folder: Folder
    receipt: Receipt
    command: str
    schema: pa.Schema
    problems: Problems | None = None
    more_columns: bool = False
    with_splits: bool = False
    noun: str = "clip"
    key: str = "clip_id"


@dataclass
class ShardContent:
    """What was found in one shard: ids, variants and splits of its rows, ids of its failures.

    Ids and splits are large strings; the ids of what is no clip are its numbers as texts.

    `readable` is False where some of these ids are not known.
    """

    name: str
    ids: pa.Array = field(default_factory=lambda: id_column([]))
    variants: NDArray[np.int32] | None = None
    splits: pa.Array = field(default_factory=lambda: id_column([]))
    failed: pa.Array = field(default_factory=lambda: id_column([]))
    readable: bool = True
    faults: list[TableFault] = field(default_factory=list)


def check_shard(task: ShardTask) -> ShardContent:
    """Look at one shard, its receipt and its failures. Nothing about them makes this raise."""
    return _Check(task).done()


class _Check:
    def __init__(self, task: ShardTask) -> None:
        self._task = task
        self._name = task.receipt.name
        self._found = ShardContent(self._name)
        self._keyed: set[str] = set()

    def done(self) -> ShardContent:
        receipt = self._task.receipt
        self._check_receipt()
        self._check_file(
            self._task.folder, f"{self._name}.parquet", receipt.sha256, self._judge_rows
        )
        if receipt.failures:  # a file that should not be there is told with the listing
            self._check_file(
                self._task.folder / FAILURES,
                f"{FAILURES}/{self._name}.parquet",
                receipt.failures_sha256,
                self._judge_failures,
            )
        if self._keyed and self._found.readable:
            self._compare_keys()
        return self._found

    def _fault(self, kind: str, what: str, where: str) -> None:
        task = self._task
        receipt = f"{task.table}/{RECEIPTS}/{self._name}.json"
        redo = f"remove {task.table}/{HEADER} and {receipt}, and run `{task.command}` again"
        self._found.faults.append(TableFault(task.table, kind, what, where, redo))

    def _check_receipt(self) -> None:
        where = f"{RECEIPTS}/{self._name}.json"
        try:
            data = (self._task.folder / RECEIPTS).read(f"{self._name}.json")
            receipt = Receipt.parse(data)
            self._keyed = set(json.loads(data).get("clip_keys") or ())
        except FileNotFoundError:
            self._fault("receipt", "the receipt is missing", where)
            return
        except (ValueError, TypeError, KeyError, AttributeError, AudioflowError) as error:
            self._fault("receipt", f"the receipt cannot be read ({error})", where)
            return
        if problem := receipt_problem(receipt):
            self._fault("receipt", f"the receipt cannot be read ({problem})", where)
            return
        named = asdict(self._task.receipt)
        differs = [
            f"{name} {value!r}, in the header {named[name]!r}"
            for name, value in asdict(receipt).items()
            if value != named[name]
        ]
        if differs:
            self._fault("receipt", f"the receipt has {'; '.join(differs)}", where)

    def _compare_keys(self) -> None:
        """A receipt that keeps what its clips were made from keeps it of all of them."""
        there = {*self._found.ids.to_pylist(), *self._found.failed.to_pylist()}
        differs = sorted(self._keyed ^ there, key=str)
        if differs:
            what = f"the receipt has keys of other clips than the shard, {differs[0]!r} for one"
            self._fault("receipt", what, f"{RECEIPTS}/{self._name}.json")

    def _check_file(
        self,
        folder: Folder,
        where: str,
        sha256: str,
        judge: Callable[[pq.ParquetFile, str, bool], None],
    ) -> None:
        """Compare a file's bytes with the receipt, then `judge(file, where, as_written)`."""
        data = self._bytes(folder, where)
        if data is None:
            self._found.readable = False
            return
        as_written = hashlib.sha256(data).hexdigest() == sha256
        if not as_written:
            size = self._task.receipt.size_bytes
            sizes = f" ({len(data)} instead of {size} bytes)" if len(data) != size else ""
            told = sizes if folder == self._task.folder else ""
            self._fault("damaged_file", f"its bytes are not those of its receipt{told}", where)
        try:
            with pq.ParquetFile(io.BytesIO(data)) as file:
                judge(file, where, as_written)
        except _UNREADABLE as error:
            self._found.readable = False
            if as_written:
                why = " ".join(str(error).split())
                self._fault("damaged_file", f"it cannot be read ({why})", where)

    def _bytes(self, folder: Folder, where: str) -> bytes | None:
        """The bytes of a file; None, and a fault, where there are none to be had."""
        try:
            return folder.read(where.rpartition("/")[2])
        except FileNotFoundError:
            receipt = self._task.receipt
            rows = folder == self._task.folder
            lost = f"{receipt.rows} rows" if rows else f"{receipt.failures} failures"
            self._fault("missing_file", f"the file is gone, and with it {lost}", where)
        except AudioflowError as error:
            self._fault("damaged_file", str(error), where)
        return None

    def _judge_rows(self, file: pq.ParquetFile, where: str, as_written: bool) -> None:
        """Columns and counts; values and variants only of a file that can be trusted."""
        task, found = self._task, self._found
        self._compare_count(file, task.receipt.rows, "rows", where)
        wrong = schema_problem(file.schema_arrow, task.schema, more=task.more_columns)
        if wrong:
            self._fault("schema", wrong, where)
        found.ids = self._texts(file, task.key)
        if task.with_splits:
            found.splits = self._texts(file, "split")
            found.readable &= len(found.splits) == len(found.ids)
        if wrong or not len(found.ids):
            return
        if "variant" in file.schema_arrow.names:
            found.variants = self._variants(file, where)
        if as_written and task.problems is not None:
            for row, what in task.problems(file):
                key = found.ids[row].as_py()
                named = repr(key) if task.noun == "clip" else key
                self._fault("value", f"{task.noun} {named} {what}", where)

    def _variants(self, file: pq.ParquetFile, where: str) -> NDArray[np.int32]:
        variants: NDArray[np.int32] = file.read(columns=["variant"])["variant"].to_numpy()
        for row in np.flatnonzero(variants < 0):
            clip = self._found.ids[row].as_py()
            what = f"clip {clip!r} has the variant {variants[row]}, expected 0 up"
            self._fault("value", what, where)
        told, held = self._task.receipt.variants, int(np.count_nonzero(variants > 0))
        if told != held:
            what = f"it holds {held} rows of variants, its receipt says {told}"
            self._fault("counts", what, where)
        return np.maximum(variants, 0)

    def _judge_failures(self, file: pq.ParquetFile, where: str, as_written: bool) -> None:
        receipt = self._task.receipt
        self._compare_count(file, receipt.failures, "failures", where)
        if wrong := schema_problem(file.schema_arrow, FAILURES_SCHEMA):
            self._fault("schema", wrong, where)
        self._found.failed = self._texts(file, "clip_id")
        errors = Counter(self._texts(file, "error").to_pylist())
        if dict(errors) != receipt.errors and as_written:
            what = f"it holds {_counts(errors)}, its receipt says {_counts(receipt.errors)}"
            self._fault("counts", what, where)
        for error in sorted(set(errors) - set(ERROR_CLASSES)):
            what = f"{error!r} is not one of the error classes {', '.join(ERROR_CLASSES)}"
            self._fault("value", what, where)

    def _compare_count(self, file: pq.ParquetFile, told: int, noun: str, where: str) -> None:
        if file.metadata.num_rows != told:
            what = f"it holds {file.metadata.num_rows} {noun}, its receipt says {told}"
            self._fault("counts", what, where)

    def _texts(self, file: pq.ParquetFile, name: str) -> pa.Array:
        """A column of valid texts, or of whole numbers as texts, without gaps; empty, and not
        readable, where it is none."""
        schema = file.schema_arrow
        if name in schema.names and schema.field(name).type in (pa.string(), pa.int32()):
            column = file.read(columns=[name])[name]
            column.validate(full=True)
            if not column.null_count:
                return pa.concat_arrays([id_column([]), *column.cast(pa.large_string()).chunks])
        self._found.readable = False
        return id_column([])


def _counts(errors: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(errors.items())) or "none"


def schema_problem(found: pa.Schema, wanted: pa.Schema, *, more: bool = False) -> str:
    """How the columns differ from those wanted, or nothing. With `more`, others may be added."""
    for expected in wanted:
        position = found.get_field_index(expected.name)
        if position < 0:
            return f"it has no column {expected.name}; columns: {', '.join(found.names)}"
        there = found.field(position)
        if not there.equals(expected):
            return f"column {expected.name} is {_typed(there)}, expected {_typed(expected)}"
    extra = [name for name in found.names if name not in wanted.names]
    if extra and not more:
        return f"it has the column {extra[0]}, which does not belong to this kind of table"
    if found.names[: len(wanted.names)] != wanted.names:
        return f"its columns are {', '.join(found.names)}, expected {', '.join(wanted.names)}"
    return ""


def _typed(column: pa.Field) -> str:
    return f"{column.type}{'' if column.nullable else ' not null'}"

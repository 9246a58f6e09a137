"""Parquet files of tables: whole in memory, written so that equal rows give equal bytes."""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from audioflow.errors import TableError
from audioflow.storage import Folder

RECEIPTS = "_shards"

_LARGE = 32 * 2**20
"""Bytes of a file that Arrow's threads are worth. A process that ends soon after they began may be
aborted (`terminate called without an active exception`), and those who read many small files have
threads of their own."""


def parquet_bytes(rows: pa.Table) -> bytes:
    """The rows as one Parquet file; equal rows give equal bytes.

    Numbers are no words: as a dictionary, embeddings would be larger and slower to read.
    """
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd", use_dictionary=_words(rows.schema) or False)
    return sink.getvalue()


def _words(schema: pa.Schema) -> list[str]:
    """Where text lies in files of this schema, as Parquet calls its columns."""
    found = [field.name for field in schema if pa.types.is_string(field.type)]
    lists = [field for field in schema if pa.types.is_list(field.type)]
    texts = [field.name for field in lists if pa.types.is_string(field.type.value_type)]
    return found + [f"{name}.list.element" for name in texts]


def read_parquet(folder: Folder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The file `name` (without suffix); raises `TableError` where it is missing or damaged."""
    where = folder.file(f"{name}.parquet")
    state = "is missing"
    try:
        data = folder.read(f"{name}.parquet")
        state = "is damaged"
        with pq.ParquetFile(io.BytesIO(data)) as file:
            there = file.schema_arrow.names
            missing = [column for column in columns or () if column not in there]
            if not missing:
                wanted = list(columns) if columns is not None else None
                return file.read(columns=wanted, use_threads=len(data) >= _LARGE)
    except (FileNotFoundError, pa.ArrowException, OSError) as error:
        raise TableError(
            f"{where} {state} ({error}); remove _header.json and {RECEIPTS}/{name}.json of the "
            "table, and run its job again"
        ) from error
    raise TableError(f"{where} has no column {', '.join(missing)}; columns: {', '.join(there)}")

"""Tables of many rows in one piece, from which a few rows are taken in no time.

Taken from a column in pieces, all of it would be copied for every few rows.
"""

import pyarrow as pa

_TEXT_BYTES = 2**31 - 1
"""What an Arrow column of text can hold in one piece."""


def in_one_piece(rows: pa.Table) -> pa.Table:
    """The same rows, every column in one piece; text of more than 2 GiB with longer offsets."""
    if all(column.num_chunks == 1 for column in rows.columns):
        return rows
    columns = dict(zip(rows.column_names, rows.columns, strict=True))
    del rows
    for name in list(columns):  # one by one: what is done needs its pieces no more
        columns[name] = _joined(columns[name])
    return pa.table(columns)


def as_before(rows: pa.Table) -> pa.Table:
    """Rows taken from a table `in_one_piece`, with the types that they had."""
    types = [_of_text(field.type, pa.large_string(), pa.string()) for field in rows.schema]
    if types == rows.schema.types:
        return rows
    return rows.cast(pa.schema(list(zip(rows.column_names, types, strict=True))))


def _joined(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = _of_text(column.type, pa.string(), pa.large_string())
    if column.nbytes > _TEXT_BYTES and kind != column.type:
        column = column.cast(kind)
    return pa.chunked_array([column.combine_chunks()], column.type)


def _of_text(kind: pa.DataType, old: pa.DataType, new: pa.DataType) -> pa.DataType:
    """The type with text of another kind, or lists of it; others as they are."""
    if kind == old:
        return new
    if pa.types.is_list(kind) and kind.value_type == old:
        return pa.list_(kind.value_field.with_type(new))
    return kind

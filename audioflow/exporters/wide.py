"""Text files with a column of numbers per class, written block by block.

Shapes: B rows of a block, C classes.
"""

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

Block = Callable[[Sequence[pa.Array], NDArray[np.float32]], None]
"""Writes rows: their texts (an array per column) and their numbers (B, C)."""


@contextlib.contextmanager
def wide_file(path: Path, texts: Sequence[str], classes: Sequence[str]) -> Iterator[Block]:
    """A CSV file with columns of texts, then one of numbers per class. Numbers are as short as they
    can be without changing a float32."""
    names = [*texts, *classes]
    kinds = [pa.string()] * len(texts) + [pa.float32()] * len(classes)
    # By position: a class may be called as one of the other columns.
    schema = pa.schema([pa.field(name, kind) for name, kind in zip(names, kinds, strict=True)])
    options = arrow_csv.WriteOptions(include_header=False, quoting_style="needed")
    with path.open("w", encoding="utf-8", newline="") as head:
        csv.writer(head, lineterminator="\n").writerow(names)  # Arrow would quote every name
    with (
        path.open("ab") as stream,
        arrow_csv.CSVWriter(stream, schema, write_options=options) as writer,
    ):

        def write(columns: Sequence[pa.Array], values_BC: NDArray[np.float32]) -> None:
            numbers = [pa.array(column) for column in np.ascontiguousarray(values_BC.T)]
            writer.write_batch(pa.RecordBatch.from_arrays([*columns, *numbers], schema=schema))

        yield write

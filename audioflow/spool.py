"""Matrices that are made row by row on disk, so that no file has to fit in memory.

Shapes: N rows, K columns, B rows of a block.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audioflow.errors import StorageError

Floats = NDArray[np.float32]

_BLOCK = 2**22
"""Values that are written at a time."""


@contextlib.contextmanager
def spooled(blocks_BK: Iterable[Floats], width: int) -> Iterator[Floats]:
    """The rows of all blocks as one matrix (N, K) in a temporary file, removed afterwards."""
    with _temporary() as path:
        rows = 0
        with _told(), path.open("wb") as stream:
            for block_BK in blocks_BK:
                np.ascontiguousarray(block_BK, np.float32).tofile(stream)
                rows += len(block_BK)
        if not rows:
            yield np.zeros((0, width), np.float32)
            return
        yield np.memmap(path, np.float32, "r", shape=(rows, width))


@contextlib.contextmanager
def blank(rows: int, width: int) -> Iterator[Floats]:
    """A matrix (N, K) of NaN in a temporary file, to be filled in any order."""
    step = max(1, _BLOCK // width)
    nothing_BK = np.full((min(step, rows), width), np.nan, np.float32)
    with _temporary() as path:
        # Written, not mapped: a full disk is an error then, and not the end of the process.
        with _told(), path.open("wb") as stream:
            for start in range(0, rows, step):
                nothing_BK[: rows - start].tofile(stream)
        yield np.memmap(path, np.float32, "r+", shape=(rows, width))


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        with _told():
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="audioflow-scores-"))
        yield Path(name) / "values.f32"


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder = os.environ.get("TMPDIR", "the system's temporary folder")
        raise StorageError(
            f"the scores do not fit in {folder}: {error.strerror}; make room there, or set TMPDIR "
            "to a folder with 4 bytes for every clip and class"
        ) from error

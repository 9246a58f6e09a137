"""Columns of texts, of millions of rows, to be read like a list that is not there.

Shapes: N rows. As Python's objects texts take 60 bytes and more each; here a row takes the bytes of
its text and 4 to 8 more, or 4 where texts are few and repeat.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_AT_ONCE = 65_536
"""Rows that are texts at a time."""
_TEXT_BYTES = 2**31 - 1
"""What an Arrow array of plain strings can hold."""


class _Column(Sequence[str]):
    def take(self, rows: NDArray[np.integer]) -> list[str]:
        """The texts of these rows."""
        raise NotImplementedError

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return self.take(np.arange(*place.indices(len(self))))
        if not -len(self) <= place < len(self):
            raise IndexError(f"row {place} of {len(self)}")
        return self.take(np.array([place % len(self)]))[0]

    def __iter__(self) -> Iterator[str]:
        for low in range(0, len(self), _AT_ONCE):
            yield from self.take(np.arange(low, min(low + _AT_ONCE, len(self))))


class Texts(_Column):
    """Texts that mostly differ, as Arrow holds them.

    rows: (N,) which of the column's they are, in which order; all of them where it is None.
    shown: what is made of each when it is asked for.
    """

    def __init__(
        self,
        column: pa.Array,
        rows: NDArray[np.integer] | None = None,
        shown: Callable[[str], str] | None = None,
    ) -> None:
        self._column, self._rows, self._shown = column, rows, shown

    def __len__(self) -> int:
        return len(self._column) if self._rows is None else len(self._rows)

    def take(self, rows: NDArray[np.integer]) -> list[str]:
        own = rows if self._rows is None else self._rows[rows]
        found: list[str] = self._column.take(pa.array(own)).to_pylist()
        return found if self._shown is None else list(map(self._shown, found))

    def at(self, rows: NDArray[np.integer]) -> "Texts":
        """Some rows, in this order."""
        own = rows if self._rows is None else self._rows[rows]
        return Texts(self._column, own, self._shown)

    def column(self) -> pa.Array:
        """All of them as one Arrow array, as they are in the column."""
        return self._column if self._rows is None else self._column.take(pa.array(self._rows))


class Codes(_Column):
    """Texts that are few and repeat: `names`, and for every row which it is, `codes` int32 (N,)."""

    def __init__(self, names: Sequence[str], codes: NDArray[np.int32]) -> None:
        self.names, self.codes = list(names), codes

    @classmethod
    def of(cls, texts: Sequence[str] | pa.ChunkedArray) -> "Codes":
        """The codes of texts, of which none is null, numbered as they come."""
        if isinstance(texts, Codes):
            return texts
        if isinstance(texts, pa.ChunkedArray):
            return cls._of_arrow(texts)
        numbers: dict[str, int] = {}
        codes = (numbers.setdefault(text, len(numbers)) for text in texts)
        found = np.fromiter(codes, np.int32, len(texts))
        return cls(list(numbers), found)

    @classmethod
    def _of_arrow(cls, column: pa.ChunkedArray) -> "Codes":
        numbers: dict[str, int] = {}
        parts = [np.zeros(0, np.int32)]
        for chunk in column.chunks:
            encoded = pc.dictionary_encode(chunk)
            own = [numbers.setdefault(n, len(numbers)) for n in encoded.dictionary.to_pylist()]
            parts.append(np.array(own, np.int32)[encoded.indices.to_numpy()])
        return cls(list(numbers), np.concatenate(parts))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: NDArray[np.integer]) -> list[str]:
        return [self.names[code] for code in self.codes[rows].tolist()]

    def at(self, rows: NDArray[np.integer]) -> "Codes":
        """Some rows, in this order."""
        return Codes(self.names, self.codes[rows])

    def each(self, value: Callable[[str], object], dtype: type) -> NDArray[Any]:
        """(N,) what `value` makes of every row's text: it is called once per name."""
        return np.array([value(name) for name in self.names], dtype)[self.codes]


def taken(texts: Sequence[str], rows: NDArray[np.integer]) -> list[str]:
    """The texts of these rows, of a column or of a list."""
    return texts.take(rows) if isinstance(texts, _Column) else [texts[row] for row in rows.tolist()]


def some_of(texts: Sequence[str], rows: NDArray[np.integer]) -> Sequence[str]:
    """As `taken`, as a column where it is one."""
    return texts.at(rows) if isinstance(texts, Texts | Codes) else taken(texts, rows)


def as_arrow(texts: Sequence[str] | Sequence[str | None] | pa.ChunkedArray) -> pa.Array:
    """Texts, or None, as one Arrow array; copied only where they are in pieces."""
    if isinstance(texts, Texts):
        return texts.column()
    if isinstance(texts, pa.ChunkedArray):
        if texts.num_chunks == 1:
            return texts.chunk(0)
        if texts.nbytes > _TEXT_BYTES:
            texts = texts.cast(pa.large_string())
        return pa.concat_arrays([pa.array([], texts.type), *texts.chunks])
    return pa.array(texts, pa.large_string())

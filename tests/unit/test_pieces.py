"""Tables in one piece: the same rows, the same types, whatever their size."""

import pyarrow as pa
import pytest

from audioflow import pieces
from audioflow.pieces import as_before, in_one_piece

PART = pa.table(
    {
        "text": ["xxxxx", None, "ü"],
        "lists": [["a", None], [], None],
        "number": [1, 2, None],
    }
)
WHOLE = pa.concat_tables([PART] * 3)


@pytest.mark.parametrize("text_bytes", [2**31 - 1, 10])
def test_rows_are_what_they_were(monkeypatch: pytest.MonkeyPatch, text_bytes: int) -> None:
    monkeypatch.setattr(pieces, "_TEXT_BYTES", text_bytes)
    found = in_one_piece(WHOLE)
    assert [column.num_chunks for column in found.columns] == [1, 1, 1]
    assert (found["text"].type == pa.large_string()) == (text_bytes == 10)
    assert as_before(found).equals(WHOLE)
    assert as_before(found.take([8, 0])).equals(WHOLE.take([8, 0]))


def test_what_is_in_one_piece_is_not_copied() -> None:
    assert in_one_piece(PART) is PART
    assert as_before(PART) is PART

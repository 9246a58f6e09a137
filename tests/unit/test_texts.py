"""Columns of texts that read like lists."""

import numpy as np
import pyarrow as pa
import pytest

from audioflow.texts import Codes, Texts, as_arrow, some_of, taken

WORDS = ["b", "a", "", "b", "ä"]
ROWS = np.array([4, 0, 3])
COLUMNS = {
    "texts": Texts(pa.array(WORDS)),
    "rows of texts": Texts(pa.array(["x", *reversed(WORDS)]), np.array([5, 4, 3, 2, 1])),
    "codes": Codes.of(WORDS),
    "codes of chunks": Codes.of(pa.chunked_array([WORDS[:2], [], WORDS[2:]], pa.string())),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_reads_like_the_list_that_it_is_of(name: str) -> None:
    column = COLUMNS[name]
    assert list(column) == WORDS
    assert (len(column), column[1], column[-1], column[1:3]) == (5, "a", "ä", ["a", ""])
    assert column.take(ROWS) == list(column.at(ROWS)) == taken(column, ROWS) == ["ä", "b", "b"]
    assert list(some_of(column, ROWS)) == ["ä", "b", "b"]
    assert "ä" in column
    with pytest.raises(IndexError, match="row 5 of 5"):
        column[5]


def test_of_a_list_some_are_taken_alike() -> None:
    assert taken(WORDS, ROWS) == some_of(WORDS, ROWS) == ["ä", "b", "b"]


def test_texts_are_shown_as_they_are_asked_for_and_kept_as_they_are() -> None:
    column = Texts(pa.array(WORDS), shown=str.upper)
    assert list(column.at(ROWS)) == ["Ä", "B", "B"]
    assert as_arrow(column.at(ROWS)).to_pylist() == ["ä", "b", "b"]


def test_codes_count_texts_as_they_come_and_ask_once_for_each() -> None:
    codes = Codes.of(WORDS)
    assert (codes.names, codes.codes.tolist()) == (["b", "a", "", "ä"], [0, 1, 2, 0, 3])
    assert Codes.of(codes) is codes
    asked: list[str] = []
    flags = codes.each(lambda name: bool(asked.append(name)) or name == "b", np.bool_)
    assert flags.tolist() == [True, False, False, True, False]
    assert asked == codes.names
    assert Codes.of([]).each(len, np.int64).tolist() == []


def test_texts_of_any_kind_become_an_arrow_array() -> None:
    assert as_arrow(["a", None]).to_pylist() == ["a", None]
    assert as_arrow(pa.chunked_array([], pa.string())).to_pylist() == []
    assert as_arrow(pa.chunked_array([["a"], ["b"]])).to_pylist() == ["a", "b"]

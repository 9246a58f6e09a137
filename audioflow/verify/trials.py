"""Tables of trials: the rows of a search, the head that came of it, and which trials it is of."""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pyarrow.parquet as pq

from audioflow.tables import HEADER, Header
from audioflow.verify.faults import TableFault
from audioflow.verify.headers import Headers, made_by

STATES = ("finished", "stopped", "failed")


def trial_problems(file: pq.ParquetFile) -> Iterator[tuple[int, str]]:
    """(row, what is wrong) for every trial that cannot have ended so."""
    rows = file.read(columns=["number", "values", "score", "scores", "state"]).to_pylist()
    seen: set[int] = set()
    for place, row in enumerate(rows):
        if row["number"] in seen:
            yield place, "stands more than once"
        seen.add(row["number"])
        if not _is_mapping(row["values"]):
            yield place, f"has the values {row['values']!r}, expected a mapping as JSON"
        if row["state"] not in STATES:
            yield place, f"is {row['state']!r}, expected {', '.join(STATES)}"
        elif problem := _score_problem(row):
            yield place, problem


def _is_mapping(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _score_problem(row: Mapping[str, Any]) -> str:
    score, scores, failed = row["score"], row["scores"], row["state"] == "failed"
    judged = bool(scores) and all(one is not None and math.isfinite(one) for one in scores)
    if score is None:
        return f"has no score, but {scores} where it was judged" if judged and not failed else ""
    if failed:
        return f"failed, but has the score {score:g}"
    if not math.isfinite(score):
        return f"has the score {score:g}, expected a finite number"
    if not judged:
        return f"has the score {score:g}, but {scores} where it was judged"
    mean = math.fsum(scores) / len(scores)
    if not math.isclose(score, mean, rel_tol=1e-6, abs_tol=1e-9):
        return f"has the score {score:g}, but {mean:g} in the mean of where it was judged"
    return ""


def search_faults(
    table: str, header: Header, headers: Headers, numbers: Collection[str] | None
) -> Iterator[TableFault]:
    """A head that is not there or not of this search, and trials that it names but does not hold.

    numbers: of the trials in its rows; None where not all could be read.
    """
    again = f"run `{made_by(table, header)}` again"
    head = f"heads/{table.partition('/')[2]}"
    if head not in headers:
        what = f"its best head, {head}, is not there"
        yield TableFault(table, "missing_file", what, head, again)
    elif (there := headers[head]) is not None and there.fingerprint != header.fingerprint:
        what = f"{head} is not the head that this search chose"
        yield TableFault(table, "parent", what, head, again)
    named = list(dict.fromkeys(map(str, header.stats["chosen"].values())))
    for number in named if numbers is not None else ():
        if number not in (numbers or ()):
            what = f"the head is of trial {number}, which is not in the rows"
            redo = f"remove {table}/ and {again}"
            yield TableFault(table, "value", what, HEADER, redo)

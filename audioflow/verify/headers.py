"""Headers, as `verify` judges them: readable, of their table, made from the parents of today."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from audioflow.errors import AudioflowError
from audioflow.schemas import MORE_SCORES
from audioflow.storage import Folder
from audioflow.tables import HEADER, Header, Receipt, Table
from audioflow.verify.faults import TableFault
from audioflow.verify.places import command_for, is_table, job_for, kind_of

Headers = Mapping[str, Header | None]
"""Table -> its header; None where there is none that can be used."""

_OTHERS = {"scores": " (or fuse, for a fused table)", "heads": " (or tune, for a tuned head)"}
"""Folders in which not every table is made by the same job."""


def read_header(run: Folder, table: str) -> tuple[Header | None, list[TableFault]]:
    """The header of a table and what is wrong with it; None where it cannot be used."""
    try:
        header = Table(run / table).header()
    except AudioflowError as error:
        what, _, way_out = str(error).rpartition("; ")
        return None, [TableFault(table, "header", what, HEADER, way_out)]
    if header is None:
        begun = len(Table(run / table).committed())
        what = f"{table} is not complete: it has no {HEADER}" + (
            f", {begun} shards are committed" if begun else ""
        )
        other = _OTHERS.get(table.partition("/")[0], "")
        way_out = f"run `{command_for(table)}`{other} to its end"
        return None, [TableFault(table, "incomplete", what, HEADER, way_out)]
    wrong = next(_wrong_types(header), None)
    redo = f"remove {table}/{HEADER} and run `{made_by(table, None if wrong else header)}` again"
    wrong = wrong or next(_wrong_settings(table, header), None)
    if wrong:
        return None, [TableFault(table, "header", f"{table}: {wrong}", HEADER, redo)]
    return header, [
        TableFault(table, "header", f"{table}: {what}", HEADER, redo)
        for what in _other_table(table, header)
    ]


def is_fused(header: Header) -> bool:
    """Whether a score table was made by the job `fuse`."""
    return bool(header.settings.get("fused"))


def made_by(table: str, header: Header | None) -> str:
    """The command that makes a table; `header` is that of the table, where it has one."""
    if header is not None and is_fused(header):
        return command_for(table, "fuse")
    tuned = header is not None and kind_of(table) == "head" and header.stats.get("tuned")
    return command_for(table, "tune" if tuned else job_for(table))


def _wrong_types(header: Header) -> Iterator[str]:
    wanted: dict[str, type] = {
        "kind": str,
        "name": str,
        "fingerprint": str,
        "parents": dict,
        "settings": dict,
        "rows": int,
        "failures": int,
        "classes": list,
        "stats": dict,
        "versions": dict,
    }
    for name, kind in wanted.items():
        value = getattr(header, name)
        if not isinstance(value, kind):
            yield f"{name} is {value!r}, expected {kind.__name__}"
    for receipt in header.shards:
        if problem := receipt_problem(receipt):
            yield f"shard {receipt.name!r}: {problem}"


def receipt_problem(receipt: Receipt) -> str:
    """What is wrong with the types of a receipt, or nothing."""
    wanted: dict[str, type | tuple[type, ...]] = {
        "name": str,
        "rows": int,
        "failures": int,
        "sha256": str,
        "size_bytes": int,
        "media_s": (int, float),
        "failures_sha256": str,
        "errors": dict,
        "variants": int,
    }
    for name, kind in wanted.items():
        value = getattr(receipt, name)
        if not isinstance(value, kind):
            return f"{name} is {value!r}"
    if "/" in receipt.name or receipt.name.startswith("."):
        return "name is no file name"
    return ""


def _wrong_settings(table: str, header: Header) -> Iterator[str]:
    """The settings that the content of a table is judged by."""
    settings, kind = header.settings, kind_of(table)
    if kind == "embeddings" and not _is_layers(settings.get("layers")):
        yield f"settings.layers is {settings.get('layers')!r}, expected names and widths"
    if kind == "scores":
        key = "systems" if is_fused(header) else "splits"
        if not _is_texts(settings.get(key)):
            yield f"settings.{key} is {settings.get(key)!r}, expected a list of names"
        more = settings.get("columns", [])
        if not _is_texts(more) or not set(more) <= set(MORE_SCORES):
            yield f"settings.columns is {more!r}, expected some of {', '.join(MORE_SCORES)}"
        if not header.classes or not _is_texts(header.classes):
            yield f"classes is {header.classes!r}, expected names"
    if kind == "head" and not _is_texts(settings.get("folds")):
        yield f"settings.folds is {settings.get('folds')!r}, expected a list of names"
    chosen = header.stats.get("chosen")
    if kind == "tune" and not (
        isinstance(chosen, dict) and all(isinstance(number, int) for number in chosen.values())
    ):
        yield f"stats.chosen is {chosen!r}, expected the number of a trial for each fold"
    files = header.stats.get("files")
    if kind == "report" and not _is_texts(list(files) if isinstance(files, dict) else files):
        yield f"stats.files is {files!r}, expected the names of its files"


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_layers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(width, int) and width > 0 for width in value.values()
    )


def _other_table(table: str, header: Header) -> Iterator[str]:
    if header.kind != kind_of(table):
        yield f"the header is of kind {header.kind!r}, expected {kind_of(table)!r}"
    name = table.rpartition("/")[2]
    if header.name != name:
        yield f"the header is that of {header.name!r}, expected {name!r}"
    names = Counter(receipt.name for receipt in header.shards)
    for twice in sorted(name for name, count in names.items() if count > 1):
        yield f"the header names shard {twice!r} more than once"


def parent_faults(table: str, header: Header, headers: Headers) -> Iterator[TableFault]:
    """Every parent that is not the one the table was made from."""
    way_out = f"run `{made_by(table, header)}` again"
    for parent, fingerprint in header.parents.items():
        if parent not in headers:
            what = f"{table} was made from {parent}, which is not there"
            first = f"run `{_missing_parent(parent, headers)}`, then " if is_table(parent) else ""
            yield TableFault(table, "parent", what, HEADER, first + way_out)
            continue
        now = headers[parent]
        if now is not None and now.fingerprint != fingerprint:
            what = (
                f"{table} was made from another {parent}: that had the fingerprint "
                f"{fingerprint}, the one there has {now.fingerprint}"
            )
            yield TableFault(table, "parent", what, HEADER, way_out)
    yield from _other_calibration(table, header, headers)
    for needed in _needed_parents(table, header):
        if not any(parent.startswith(needed) for parent in header.parents):
            what = f"{table} names no parent {needed}"
            yield TableFault(table, "parent", what, HEADER, way_out)


def _other_calibration(table: str, header: Header, headers: Headers) -> Iterator[TableFault]:
    """Scores that were calibrated otherwise than the head's calibration of today would."""
    if kind_of(table) != "scores":
        return
    head = next((headers.get(one) for one in header.parents if one.startswith("heads/")), None)
    if head is None:
        return
    used, now = header.settings.get("calibration"), head.stats.get("calibration", {}).get("key")
    if used != now:
        what = (
            f"{table} was calibrated by {used or 'nothing'}, heads/{head.name} has the calibration "
            f"{now or 'none'}"
        )
        yield TableFault(table, "parent", what, HEADER, f"run `{made_by(table, header)}` again")


def _missing_parent(parent: str, headers: Headers) -> str:
    """The command that makes a table which is not there."""
    place, _, name = parent.partition("/")
    tuned = place == "heads" and f"tune/{name}" in headers
    return command_for(parent, "tune" if tuned else None)


def _needed_parents(table: str, header: Header) -> tuple[str, ...]:
    kind = kind_of(table)
    if kind == "scores":
        if is_fused(header):
            return ("scores/",)
        foreign = {"import", "bundle"} & header.settings.keys()  # made from what is no table here
        return ("manifest",) if foreign else ("heads/",)
    heads = ("embeddings/",)
    return {"embeddings": ("manifest",), "head": heads, "tune": heads}.get(kind, ())

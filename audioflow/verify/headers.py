"""Headers, as `verify` judges them: readable, of their table, made from the parents of today."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from audioflow.errors import AudioflowError
from audioflow.storage import Folder
from audioflow.tables import HEADER, Header, Receipt, Table
from audioflow.verify.faults import TableFault
from audioflow.verify.places import command_for, is_table, kind_of

Headers = Mapping[str, Header | None]
"""Table -> its header; None where there is none that can be used."""


def read_header(run: Folder, table: str) -> tuple[Header | None, list[TableFault]]:
    """The header of a table and what is wrong with it; None where it cannot be used."""
    redo = f"remove {table}/{HEADER} and run `{command_for(table)}` again"
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
        way_out = f"run `{command_for(table)}` (or fuse, for a fused table) to its end"
        if not table.startswith("scores/"):
            way_out = f"run `{command_for(table)}` to its end"
        return None, [TableFault(table, "incomplete", what, HEADER, way_out)]
    wrong = next(_wrong_types(header), None) or next(_wrong_settings(table, header), None)
    if wrong:
        return None, [TableFault(table, "header", f"{table}: {wrong}", HEADER, redo)]
    return header, [
        TableFault(table, "header", f"{table}: {what}", HEADER, redo)
        for what in _other_table(table, header)
    ]


def is_fused(header: Header) -> bool:
    """Whether a score table was made by the job `fuse`."""
    return bool(header.settings.get("fused"))


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
        if not header.classes or not _is_texts(header.classes):
            yield f"classes is {header.classes!r}, expected names"
    if kind == "head" and not _is_texts(settings.get("folds")):
        yield f"settings.folds is {settings.get('folds')!r}, expected a list of names"
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
    way_out = f"run `{command_for(table, fused=is_fused(header))}` again"
    for parent, fingerprint in header.parents.items():
        if parent not in headers:
            what = f"{table} was made from {parent}, which is not there"
            first = f"run `{command_for(parent)}`, then " if is_table(parent) else ""
            yield TableFault(table, "parent", what, HEADER, first + way_out)
            continue
        now = headers[parent]
        if now is not None and now.fingerprint != fingerprint:
            what = (
                f"{table} was made from another {parent}: that had the fingerprint "
                f"{fingerprint}, the one there has {now.fingerprint}"
            )
            yield TableFault(table, "parent", what, HEADER, way_out)
    for needed in _needed_parents(table, header):
        if not any(parent.startswith(needed) for parent in header.parents):
            what = f"{table} names no parent {needed}"
            yield TableFault(table, "parent", what, HEADER, way_out)


def _needed_parents(table: str, header: Header) -> tuple[str, ...]:
    kind = kind_of(table)
    if kind == "scores":
        return ("scores/",) if is_fused(header) else ("heads/",)
    return {"embeddings": ("manifest",), "head": ("embeddings/",)}.get(kind, ())

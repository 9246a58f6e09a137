"""Tables without shards: the bundles of heads and the files of the report, without torch."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from audioflow.errors import AudioflowError
from audioflow.storage import Folder
from audioflow.tables import HEADER, Header
from audioflow.verify.faults import TableFault
from audioflow.verify.headers import Headers
from audioflow.verify.places import command_for

WEIGHTS = "weights.safetensors"
HEAD = "head.json"
EPOCHS = "epochs.json"


def head_faults(run: Folder, table: str, header: Header, headers: Headers) -> Iterator[TableFault]:
    """What is wrong with the bundles of a trained system: one, or one per fold."""
    folds: Sequence[str] = header.settings["folds"]
    places = [f"fold-{fold}/" for fold in folds] or [""]
    way_out = f"remove {table}/{HEADER} and run `{command_for(table)}` again"
    if header.rows != len(places):
        what = f"the header counts {header.rows} heads, its settings make {len(places)}"
        yield TableFault(table, "counts", what, HEADER, way_out)
    vectors = _vectors(header, headers)
    hashes = _hashes(header)
    for path in (f"{place}{name}" for place in places for name in (HEAD, EPOCHS, WEIGHTS)):
        data = _bytes(run / table, path, hashes)
        if isinstance(data, _Problem):
            yield TableFault(table, data.kind, data.what, path, way_out)
        elif what := _bundle_problem(path.rpartition("/")[2], data, header, vectors):
            yield TableFault(table, "damaged_file", what, path, way_out)


@dataclass(frozen=True)
class _Problem:
    kind: str
    what: str


def _hashes(header: Header) -> Mapping[str, str]:
    """SHA-256 of the table's files by name, where `stats.files` has them and not names alone."""
    files = header.stats.get("files")
    return files if isinstance(files, dict) else {}


def _bytes(folder: Folder, path: str, hashes: Mapping[str, str]) -> bytes | _Problem:
    """A file of the table, or what is wrong with it."""
    place, _, name = path.rpartition("/")
    try:
        data = (folder / place if place else folder).read(name)
    except FileNotFoundError:
        return _Problem("missing_file", "the file is gone")
    except AudioflowError as error:
        return _Problem("damaged_file", str(error))
    if path in hashes and hashlib.sha256(data).hexdigest() != hashes[path]:
        return _Problem("damaged_file", "its bytes are not those that the header names")
    return data


def _vectors(header: Header, headers: Headers) -> str | None:
    """Fingerprint of what made the vectors that a head was trained on; None where not known."""
    for parent in header.parents:
        made_from = headers.get(parent)
        if parent.startswith("embeddings/") and made_from is not None:
            return made_from.settings.get("vectors")
    return None


def _bundle_problem(name: str, data: bytes, header: Header, vectors: str | None) -> str:
    """What is wrong with one file of a bundle, or nothing."""
    try:
        if name == WEIGHTS:
            return _weights_problem(data)
        return _json_problem(name, json.loads(data), header, vectors)
    except (ValueError, SafetensorError, KeyError) as error:
        return f"it cannot be read ({' '.join(str(error).split())})"


def _weights_problem(data: bytes) -> str:
    for name, values in load(data).items():
        if not np.isfinite(values).all():
            return f"{name} has values that are not finite"
    return ""


def _json_problem(name: str, data: Any, header: Header, vectors: str | None) -> str:
    if name == EPOCHS:
        return "" if isinstance(data, list) else "it holds no list of epochs"
    if not isinstance(data, dict):
        return "it holds no description of a head"
    if data.get("classes") != header.classes:
        return "its classes are not those of the header"
    if vectors is not None and data.get("embeddings") != vectors:
        return (
            f"it was trained on vectors of fingerprint {data.get('embeddings')}, the embeddings "
            f"there have {vectors}"
        )
    return ""


def report_faults(run: Folder, table: str, header: Header) -> Iterator[TableFault]:
    """Files of the report that are gone or, where the header has hashes, not as written."""
    way_out = f"remove {table}/{HEADER} and run `{command_for(table)}` again"
    for name in header.stats["files"]:
        data = _bytes(run / table, name, _hashes(header))
        if isinstance(data, _Problem):
            yield TableFault(table, data.kind, data.what, name, way_out)

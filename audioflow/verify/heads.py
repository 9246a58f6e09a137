"""Tables without shards: the bundles of heads and the files of the report, without torch."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from audioflow.calibration.system import CALIBRATION, SystemCalibration
from audioflow.errors import AudioflowError
from audioflow.storage import Folder
from audioflow.tables import HEADER, Header
from audioflow.verify.faults import TableFault
from audioflow.verify.headers import Headers, made_by
from audioflow.verify.places import command_for

WEIGHTS = "weights.safetensors"
ESTIMATOR = "estimator.skops"
HEAD = "head.json"
EPOCHS = "epochs.json"
BUNDLE_VERSION = 2

_UNREADABLE = (
    ValueError,
    KeyError,
    SafetensorError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
)
"""What reading a damaged bundle may raise; the last two come from the insides of a zip."""


def head_faults(run: Folder, table: str, header: Header, headers: Headers) -> Iterator[TableFault]:
    """What is wrong with the bundles of a trained system: one, or one per fold."""
    folds: list[str | None] = [*header.settings["folds"]] or [None]
    way_out = f"remove {table}/{HEADER} and run `{made_by(table, header)}` again"
    if header.rows != len(folds):
        what = f"the header counts {header.rows} heads, its settings make {len(folds)}"
        yield TableFault(table, "counts", what, HEADER, way_out)
    hashes, vectors = _hashes(header), _vectors(header, headers)
    for fold in folds:
        place = "" if fold is None else f"fold-{fold}/"
        bundle = _Bundle(header, fold, vectors)
        for name in (HEAD, EPOCHS, _numbers(run / table, place, hashes)):
            data = _bytes(run / table, f"{place}{name}", hashes)
            if isinstance(data, _Problem):
                yield TableFault(table, data.kind, data.what, f"{place}{name}", way_out)
            elif what := bundle.problem(name, data):
                yield TableFault(table, "damaged_file", what, f"{place}{name}", way_out)
    yield from _calibration_faults(run, table, header)


def _calibration_faults(run: Folder, table: str, header: Header) -> Iterator[TableFault]:
    """A calibration that is gone, not as it was written, or that the header does not name."""
    told, way_out = header.stats.get("calibration"), f"run `{made_by(table, header)}` again"
    if told is None:
        if (run / table).exists(CALIBRATION):
            what = f"{table}/{HEADER} does not name this file, and `score` would use it"
            yield TableFault(table, "extra_file", what, CALIBRATION, f"{way_out}, or remove it")
        return
    data = _bytes(run / table, CALIBRATION, {CALIBRATION: told.get("sha256", "")})
    if isinstance(data, _Problem):
        yield TableFault(table, data.kind, data.what, CALIBRATION, way_out)
        return
    try:
        found = SystemCalibration.parse(data)
    except ValueError as error:
        yield TableFault(table, "damaged_file", str(error), CALIBRATION, way_out)
        return
    if list(found.classes) != header.classes:
        what = "its classes are not those of the header"
        yield TableFault(table, "damaged_file", what, CALIBRATION, way_out)


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


def _numbers(folder: Folder, place: str, hashes: Mapping[str, str]) -> str:
    """Which of the two files a bundle keeps its numbers in."""
    if hashes:
        return ESTIMATOR if f"{place}{ESTIMATOR}" in hashes else WEIGHTS
    inner = folder / place.rstrip("/") if place else folder
    return ESTIMATOR if inner.exists(ESTIMATOR) else WEIGHTS


def _vectors(header: Header, headers: Headers) -> Mapping[str, Any]:
    """The settings of the embeddings that a head was trained on; empty where not known."""
    for parent in header.parents:
        made_from = headers.get(parent)
        if parent.startswith("embeddings/") and made_from is not None:
            return made_from.settings
    return {}


@dataclass(frozen=True)
class _Bundle:
    """What the files of one bundle have to agree with."""

    header: Header
    fold: str | None
    vectors: Mapping[str, Any]

    def problem(self, name: str, data: bytes) -> str:
        """What is wrong with one of its files, or nothing."""
        try:
            if name == WEIGHTS:
                return _weights_problem(data)
            if name == ESTIMATOR:
                return _estimator_problem(data)
            content = json.loads(data)
            if name == EPOCHS:
                return "" if isinstance(content, list) else "it holds no list of epochs"
            if not isinstance(content, dict):
                return "it holds no description of a head"
            return self._description_problem(content)
        except _UNREADABLE as error:
            return f"it cannot be read ({' '.join(str(error).split())})"

    def _description_problem(self, data: Mapping[str, Any]) -> str:
        version, fold, vectors = data.get("version"), data.get("fold"), self.vectors.get("vectors")
        if version != BUNDLE_VERSION:
            return f"it has version {version}, this audioflow reads {BUNDLE_VERSION}"
        if data.get("classes") != self.header.classes:
            return "its classes are not those of the header"
        if fold != self.fold:
            told = "of no fold" if fold is None else f"of fold {fold}"
            wanted = "none" if self.fold is None else self.fold
            return f"it is the head {told}, expected {wanted}"
        if vectors is not None and data.get("embeddings") != vectors:
            return (
                f"it was trained on vectors of fingerprint {data.get('embeddings')}, the "
                f"embeddings there have {vectors}"
            )
        return self._layer_problem(data.get("layers"))

    def _layer_problem(self, layers: Any) -> str:
        known: Mapping[str, int] | None = self.vectors.get("layers")
        if not isinstance(layers, dict) or not layers:
            return "it does not say which layers it reads"
        for name, width in layers.items():
            if known is not None and known.get(name) != width:
                there = f"width {known[name]}" if name in known else "no such layer"
                return f"it reads the layer {name!r} of width {width}, the embeddings have {there}"
        return ""


def _weights_problem(data: bytes) -> str:
    for name, values in load(data).items():
        if not np.isfinite(values).all():
            return f"{name} has values that are not finite"
    return ""


def _estimator_problem(data: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        if damaged := file.testzip():
            return f"{damaged}, a part of it, is damaged"
        json.loads(file.read("schema.json"))
    return ""


def report_faults(run: Folder, table: str, header: Header) -> Iterator[TableFault]:
    """Files of the report that are gone or, where the header has hashes, not as written."""
    way_out = f"remove {table}/{HEADER} and run `{command_for(table)}` again"
    for name in header.stats["files"]:
        data = _bytes(run / table, name, _hashes(header))
        if isinstance(data, _Problem):
            yield TableFault(table, data.kind, data.what, name, way_out)

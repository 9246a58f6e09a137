"""The systems of a run as the report wants them: scores, labels, and how each came about."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.calibration.system import SystemCalibration
from audioflow.engine.report_tables import Tables, shown_uri
from audioflow.engine.run import Run
from audioflow.errors import TableError
from audioflow.fusion import summary_line
from audioflow.ids import IdIndex
from audioflow.report import EpochRecord, SystemScores, Training, ValClass
from audioflow.scores import score_matrix
from audioflow.systems.bundle import EPOCHS, HEAD
from audioflow.tables import Header
from audioflow.texts import Codes, Texts, as_arrow

_READ = ("clip_id", "labels", "split", "scores")
_AT_ONCE = 65_536
"""Clips that are objects of Python at a time."""


def systems_of(run: Run, tables: Tables, manifest: pa.Table) -> Iterator[SystemScores]:
    """Every system that has a complete score table, fused ones last."""
    index = IdIndex(as_arrow(manifest["clip_id"]))
    uris, groups = as_arrow(manifest["uri"]), as_arrow(manifest["group"])
    compared = _compared(manifest)
    for path, (table, header) in tables.items():
        if not path.startswith("scores/"):
            continue
        fused = bool(header.settings.get("fused"))
        more = [name for name in header.settings.get("columns", []) if name == "raw_scores"]
        rows = table.read([*_READ, *(["available"] if fused else []), *more])
        ids = as_arrow(rows["clip_id"])
        places = _places(index, ids, path)
        labels, label_sets = _labels(rows["labels"], header.settings.get("multi_label"))
        yield SystemScores(
            name=header.name,
            kind="fused" if fused else "system",
            summary_line=_summary(run, header, tables),
            classes=tuple(header.classes),
            clip_ids=Texts(ids),
            uris=Texts(uris, places, shown_uri),
            groups=Texts(groups, places),
            splits=Codes.of(rows["split"]),
            labels=labels,
            scores=score_matrix(rows),
            available=_sets(rows["available"]) if fused else None,
            parts=tuple(header.settings["systems"]) if fused else (),
            training=() if fused else tuple(_training(tables, header.name)),
            settings=header.settings,
            fusion=_fusion(header) if fused else {},
            calibration={} if fused else _calibration(tables, header.name),
            raw_scores=score_matrix(rows, "raw_scores") if more else None,
            label_sets=label_sets,
            columns={name: values.at(places) for name, values in compared.items()},
        )


def _places(index: IdIndex, ids: pa.Array, path: str) -> NDArray[np.int64]:
    """Where in the manifest each clip is, a shard's worth at a time."""
    parts = [index.find(ids.slice(low, _AT_ONCE)) for low in range(0, len(ids), _AT_ONCE)]
    places = np.concatenate([np.zeros(0, np.int64), *parts])
    if (places < 0).any():
        clip = ids[int(places.argmin())].as_py()
        raise TableError(
            f"{path} has the clip {clip!r}, which the manifest lacks; run its job again"
        )
    return places.astype(np.int32) if len(index) < 1 << 31 else places


def _compared(manifest: pa.Table) -> dict[str, Codes]:
    """The columns beside `group` that results are compared by, where clips differ in them; "" for
    none."""
    columns = {name: Codes.of(pc.fill_null(manifest[name], "")) for name in ("source", "fold")}
    return {name: values for name, values in columns.items() if len(values.names) > 1}


def _labels(
    column: pa.ChunkedArray, several: bool | None
) -> tuple[Codes, tuple[tuple[str, ...], ...] | None]:
    """The labels of each clip as a person reads them; and as such, where clips may have several.

    several: what the table says of that; None where it does not, and any clip with two labels does.
    Where each has one, those of a clip that has not are "": metrics leave it out.
    """
    if several is None:
        several = bool(pc.any(pc.greater(pc.list_value_length(column), 1)).as_py())
    sets = _sets(column)
    told = {one: ", ".join(one) if several or len(one) == 1 else "" for one in dict.fromkeys(sets)}
    return Codes.of([told[one] for one in sets]), sets if several else None


def _sets(column: pa.ChunkedArray) -> tuple[tuple[str, ...], ...]:
    """Lists of texts of which most are the same: one object for each that there is."""
    kept: dict[tuple[str, ...], tuple[str, ...]] = {}
    found: list[tuple[str, ...]] = []
    for batch in column.chunks:
        for low in range(0, len(batch), _AT_ONCE):
            lists = map(tuple, batch.slice(low, _AT_ONCE).to_pylist())
            found += [kept.setdefault(one, one) for one in lists]
    return tuple(found)


def _summary(run: Run, header: Header, tables: Tables) -> str:
    """In a line, what a system is."""
    settings, name = header.settings, header.name
    if settings.get("fused"):
        return summary_line(settings, settings["params"])
    if "import" in settings:
        return f"scores of another program ({settings['import']['importer']})"
    if "bundle" in settings:
        bundle = settings["bundle"]
        return f"{_chain(bundle['spec'], bundle['spec']['backbone'])} (from {bundle['url']})"
    backbone = run.recipe.trained[name].backbone
    mark = " (untrained: random weights)" if _untrained(tables, backbone) else ""
    made = run.recipe.trained[name].model_dump(mode="json")
    if f"heads/{name}" in tables:  # a tuned system has other settings than the recipe
        made = tables[f"heads/{name}"][1].settings
    return _chain(made, f"{backbone}{mark}") + (" (tuned)" if name in run.recipe.tune else "")


def _chain(made: Mapping[str, Any], backbone: str) -> str:
    """Backbone, pooling and head in the order in which they come."""
    parts = [backbone, made["head"]["name"]]
    if (pooling := made["pooling"]) is not None:
        on = pooling.get("on") or "embeddings"
        parts.insert(1 if on == "embeddings" else 2, pooling["name"])
    return " -> ".join(parts)


def _untrained(tables: Tables, backbone: str) -> bool:
    """Whether the embeddings are those of random weights, which no reader should overlook."""
    if (found := tables.get(f"embeddings/{backbone}")) is None:
        return False
    return not all(used["trained"] for used in found[1].settings.get("weights", {}).values())


def _fusion(header: Header) -> dict[str, Any]:
    return dict(header.settings["params"]) | {"fit_split": header.settings["fit_split"]}


def _calibration(tables: Tables, name: str) -> Mapping[str, Any]:
    """What the head says of its calibration, and the threshold of each class; empty for none."""
    if f"heads/{name}" not in tables:
        return {}
    table, header = tables[f"heads/{name}"]
    told = header.stats.get("calibration")
    if not told:
        return {}
    found = SystemCalibration.load(table.folder)
    thresholds = found.thresholds() if found else {}
    return {**told, "classes": {key: asdict(one) for key, one in thresholds.items()}}


def _training(tables: Tables, name: str) -> Iterator[Training]:
    if f"heads/{name}" not in tables:
        return
    table, header = tables[f"heads/{name}"]
    for result in header.stats["results"]:
        fold = result["fold"]
        folder = table.folder if fold is None else table.folder / f"fold-{fold}"
        records = json.loads(folder.read(EPOCHS))
        learned = json.loads(folder.read(HEAD))["trained_on"]
        yield Training(
            epochs=tuple(EpochRecord(**record) for record in records),
            best_epoch=result["best_epoch"],
            best_metric=header.settings["train"]["select"],
            workers=int(header.stats["workers"]),
            seconds=float(result["seconds"]),
            num_parameters=result["num_parameters"],
            fold=fold or "",
            temperature=learned["temperature"],
            seed=learned["train"]["seed"],
            max_epochs=learned["train"]["epochs"],
            classes=tuple(ValClass(**result) for result in learned["classes"]),
        )

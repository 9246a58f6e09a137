"""The systems of a run as the report wants them: scores, labels, and how each came about."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from audioflow.calibration.system import SystemCalibration
from audioflow.engine.report_tables import Tables, shown_uri
from audioflow.engine.run import Run
from audioflow.fusion import multi_label_of, summary_line
from audioflow.report import EpochRecord, SystemScores, Training, ValClass
from audioflow.scores import score_matrix
from audioflow.systems.bundle import EPOCHS, HEAD
from audioflow.tables import Header


def systems_of(run: Run, tables: Tables, manifest: pa.Table) -> Iterator[SystemScores]:
    """Every system that has a complete score table, fused ones last."""
    places = {
        row["clip_id"]: (row["uri"], row["group"])
        for row in manifest.select(["clip_id", "uri", "group"]).to_pylist()
    }
    compared = _compared(manifest)
    for path, (table, header) in tables.items():
        if not path.startswith("scores/"):
            continue
        rows = table.read()
        columns = set(rows.column_names)
        ids = rows["clip_id"].to_pylist()
        fused = bool(header.settings.get("fused"))
        available = rows["available"].to_pylist() if fused else None
        labels = rows["labels"].to_pylist()
        several = multi_label_of({header.name: header.settings.get("multi_label")}, labels)
        yield SystemScores(
            name=header.name,
            kind="fused" if fused else "system",
            summary_line=_summary(run, header, tables),
            classes=tuple(header.classes),
            clip_ids=tuple(ids),
            uris=tuple(shown_uri(places[clip_id][0]) for clip_id in ids),
            groups=tuple(places[clip_id][1] for clip_id in ids),
            splits=tuple(rows["split"].to_pylist()),
            labels=tuple(map(", ".join, labels) if several else map(_only, labels)),
            scores=score_matrix(rows),
            available=tuple(map(tuple, available)) if available is not None else None,
            parts=tuple(header.settings["systems"]) if fused else (),
            training=() if fused else tuple(_training(tables, header.name)),
            settings=header.settings,
            fusion=_fusion(header) if fused else {},
            calibration={} if fused else _calibration(tables, header.name),
            raw_scores=score_matrix(rows, "raw_scores") if "raw_scores" in columns else None,
            label_sets=tuple(map(tuple, labels)) if several else None,
            columns={name: tuple(of[one] for one in ids) for name, of in compared.items()},
        )


def _compared(manifest: pa.Table) -> dict[str, dict[str, str]]:
    """The columns beside `group` that results are compared by, where clips differ in them: by clip
    id, "" for none."""
    ids = manifest["clip_id"].to_pylist()
    found = {}
    for name in ("source", "fold"):
        values = [value or "" for value in manifest[name].to_pylist()]
        if len(set(values)) > 1:
            found[name] = dict(zip(ids, values, strict=True))
    return found


def _only(labels: list[str]) -> str:
    """The label of a clip that has exactly one, "" of others: metrics leave those out."""
    return labels[0] if len(labels) == 1 else ""


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

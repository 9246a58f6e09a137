"""A table of the job `tune` as the report wants it: plain values."""

import json
import math
from collections.abc import Mapping
from typing import Any

from audioflow.report import Sweep, SweepParameter, SweepTrial
from audioflow.search.reading import read_space
from audioflow.search.space import Choice, Integer, LogUniform, Parameter
from audioflow.tables import Header, Table


def sweep_of(table: Table, header: Header) -> Sweep:
    """The search whose trials a complete table holds; raises `TableError` for a damaged shard."""
    settings, stats = header.settings, header.stats
    parameters = read_space(settings["space"]).parameters
    base = settings.get("base", {})
    best = stats.get("best") or {}
    return Sweep(
        name=header.name,
        system=settings["system"],
        search=settings["search"],
        metric=base.get("train", {}).get("select", ""),
        mode=str(stats.get("mode", "")),
        seconds=float(stats.get("seconds", 0.0)),
        parameters=tuple(map(_parameter, parameters)),
        trials=tuple(map(_trial, table.read().sort_by("number").to_pylist())),
        best=None if _score(best.get("score")) is None else (best["number"], best["score"]),
        default_score=_score(stats.get("default_score")),
        importance=tuple((key, share) for key, share in stats.get("importance", [])),
        written=_written(base, [parameter.key for parameter in parameters]),
        chosen=stats.get("chosen", {}),
    )


def _parameter(parameter: Parameter) -> SweepParameter:
    if isinstance(parameter, Choice):
        return SweepParameter(parameter.key, options=parameter.options)
    log = isinstance(parameter, LogUniform) or (isinstance(parameter, Integer) and parameter.log)
    return SweepParameter(parameter.key, low=parameter.low, high=parameter.high, log=log)


def _trial(row: Mapping[str, Any]) -> SweepTrial:
    return SweepTrial(
        number=row["number"],
        values=json.loads(row["values"] or "{}"),
        score=_score(row["score"]),
        epochs=row["epochs"],
        seconds=row["seconds"],
        state=row["state"],
        reason=row["reason"] or "",
        scores=tuple(row["scores"] or ()),
    )


def _score(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _written(settings: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    """The settings of these dotted keys that `settings` has."""
    found = {}
    for key in keys:
        value: Any = settings
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                break
            value = value[part]
        else:
            found[key] = value
    return found

"""The job `report`: read the tables of a run, build the page, write it beside them."""

import datetime
import hashlib
import json
import os
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from audioflow.engine.report_sweeps import sweep_of
from audioflow.engine.run import Run, Watch
from audioflow.manifest import split_counts
from audioflow.redaction import masked, masked_command, masked_recipe
from audioflow.report import (
    EpochRecord,
    FailureRow,
    ReportData,
    StageRow,
    SystemScores,
    Training,
    ValClass,
    build,
)
from audioflow.scores import score_matrix
from audioflow.systems.bundle import EPOCHS, HEAD
from audioflow.tables import Header, Table, fingerprint, package_versions

JOB = "report"
REVISION = 3
MOST_FAILURES = 1000


def make_report(run: Run) -> Header:
    """Write `report/index.html`, `report.json` and the plots, from whatever tables are complete."""
    section = run.recipe.report
    assert section is not None
    watch = Watch()
    tables = _tables(run)
    parents = {name: header.fingerprint for name, (_, header) in tables.items()}
    key = fingerprint("report", REVISION, parents, section.model_dump(mode="json"))
    target = run.report()
    if old := run.unchanged(JOB, JOB, target, key):
        return old
    run.tell(JOB, "start", JOB)
    data = _data(run, tables)
    files = build(data, eval_split=section.split, num_bootstrap=section.num_bootstrap)
    target.folder.remove_all()
    for name, content in files.items():
        target.folder.write(name, content)
    header = Header(
        kind="report",
        name=JOB,
        fingerprint=key,
        parents=parents,
        settings=section.model_dump(mode="json"),
        rows=len(data.systems),
        failures=0,
        shards=[],
        stats=watch.stats(len(data.systems)) | {"files": _hashes(files)},
        versions=package_versions(),
    )
    run.finished(JOB, JOB, target.finish(header))
    return header


def _hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


Tables = dict[str, tuple[Table, Header]]


def _tables(run: Run) -> Tables:
    """Every complete table of the recipe, by its path in the run folder."""
    recipe = run.recipe
    wanted: dict[str, Table] = {"manifest": run.manifest()}
    for name in recipe.embed.tables if recipe.embed else ():
        wanted[f"embeddings/{name}"] = run.embeddings(name)
    for name in recipe.trained:
        if name in recipe.tune:
            wanted[f"tune/{name}"] = run.search(name)
        wanted[f"heads/{name}"] = run.head(name)
    for name in [*recipe.trained, *recipe.fuse]:
        wanted[f"scores/{name}"] = run.scores(name)
    wanted["manifest"].complete_header()
    found: Tables = {}
    for path, table in wanted.items():
        header = table.header()
        if header is not None:
            found[path] = (table, header)
    return found


def _data(run: Run, tables: Tables) -> ReportData:
    recipe = run.recipe
    assert recipe.report is not None
    manifest = tables["manifest"][0].read()
    failures = list(_failures(tables))
    return ReportData(
        title=recipe.report.title or recipe.run_dir.rstrip("/").rsplit("/", 1)[-1],
        run_dir=masked(run.folder.url),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=masked_command(run.command),
        recipe_yaml=masked_recipe(run.recipe_text),
        splits=split_counts(manifest),
        stages=tuple(_stages(tables)),
        systems=tuple(_systems(run, tables, manifest)),
        failures=tuple(failures[:MOST_FAILURES]),
        num_failures=len(failures),
        failure_counts=_failure_counts(failures),
        versions=package_versions() | {"python": platform.python_version()},
        fingerprints={path: header.fingerprint for path, (_, header) in tables.items()},
        machine=_machine(),
        sweeps=tuple(
            sweep_of(table, header)
            for path, (table, header) in tables.items()
            if path.startswith("tune/")
        ),
    )


def _machine() -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": str(os.cpu_count()),
        "host": platform.node(),
    }


def _stages(tables: Tables) -> Iterator[StageRow]:
    jobs = {"embeddings": "embed", "heads": "train", "scores": "score"}
    for path, (_, header) in tables.items():
        stats, seconds = header.stats, float(header.stats.get("seconds", 0.0))
        fused, root = bool(header.settings.get("fused")), path.partition("/")[0]
        if stats.get("tuned"):  # the search it comes from has its time in a row of its own
            root, seconds = "tune", sum(result["seconds"] for result in stats["results"])
        yield StageRow(
            job="fuse" if fused else jobs.get(root, root),
            table=path,
            rows=header.good,
            failures=header.failures,
            seconds=seconds,
            clips_per_s=float(stats.get("clips_per_s", 0.0)),
            x_real_time=stats.get("x_real_time"),
            size_bytes=sum(shard.size_bytes for shard in header.shards),
            note=_note(header),
            resumed=int(stats.get("resumed", 0)),
            verdict=str(stats.get("verdict", "")),
            shares=stats.get("shares", {}),
        )


def _note(header: Header) -> str:
    if header.kind == "head":
        folds = len(header.settings["folds"])
        return f"{folds} folds" if folds else f"{header.stats['workers']} worker(s)"
    if header.kind == "tune":
        return f"{header.settings['search']} search"
    if header.kind == "embeddings":
        return _weights_note(header)
    return ""


def _weights_note(header: Header) -> str:
    """Which weights a network had, and what it computed in."""
    found = []
    for field, used in header.settings.get("weights", {}).items():
        name = "" if field == "weights" else f"{field} "
        if used["trained"]:
            found.append(f"{name}{masked(used['given'])} ({used['sha256'][:8]})")
        else:
            found.append(f"{name}untrained, random weights")
    precision = header.settings["settings"].get("precision")
    return ", ".join([*found, precision] if precision else found)


def _untrained(tables: Tables, backbone: str) -> bool:
    """Whether the embeddings are those of random weights, which no reader should overlook."""
    if (found := tables.get(f"embeddings/{backbone}")) is None:
        return False
    return not all(used["trained"] for used in found[1].settings.get("weights", {}).values())


def _failures(tables: Tables) -> Iterator[FailureRow]:
    """Failures by the table where they first arose: a clip without embedding is not told again."""
    for path, (table, header) in tables.items():
        kind = path.partition("/")[0]
        if not header.failures or kind not in ("embeddings", "scores"):
            continue
        for row in table.read_failures().to_pylist():
            if kind == "embeddings" or row["stage"] in ("score", "fuse"):
                values = {name: row[name] for name in ("clip_id", "stage", "error", "reason")}
                yield FailureRow(table=path, uri=_shown(row["uri"] or ""), **values)


def _failure_counts(failures: Sequence[FailureRow]) -> dict[str, dict[str, int]]:
    """Table -> error class -> clips."""
    found: dict[str, Counter[str]] = {}
    for failure in failures:
        found.setdefault(failure.table, Counter())[failure.error] += 1
    return {table: dict(sorted(counts.items())) for table, counts in found.items()}


def _systems(run: Run, tables: Tables, manifest: pa.Table) -> Iterator[SystemScores]:
    places = {
        row["clip_id"]: (row["uri"], row["group"])
        for row in manifest.select(["clip_id", "uri", "group"]).to_pylist()
    }
    for path, (table, header) in tables.items():
        if not path.startswith("scores/"):
            continue
        rows = table.read()
        ids = rows["clip_id"].to_pylist()
        fused = bool(header.settings.get("fused"))
        available = rows["available"].to_pylist() if fused else None
        yield SystemScores(
            name=header.name,
            kind="fused" if fused else "system",
            summary_line=_summary(run, header, tables),
            classes=tuple(header.classes),
            clip_ids=tuple(ids),
            uris=tuple(_shown(places[clip_id][0]) for clip_id in ids),
            groups=tuple(places[clip_id][1] for clip_id in ids),
            splits=tuple(rows["split"].to_pylist()),
            labels=tuple(map(_only, rows["labels"].to_pylist())),
            scores=score_matrix(rows),
            available=tuple(map(tuple, available)) if available is not None else None,
            parts=tuple(header.settings["systems"]) if fused else (),
            training=() if fused else tuple(_training(tables, header.name)),
            settings=header.settings,
            fusion=_fusion(header) if fused else {},
        )


def _only(labels: list[str]) -> str:
    """The label of a clip that has exactly one, "" of others: metrics leave those out."""
    return labels[0] if len(labels) == 1 else ""


def _shown(uri: str) -> str:
    return masked(uri) if "?" in uri or "@" in uri else uri  # few urls are signed, clips are many


def _summary(run: Run, header: Header, tables: Tables) -> str:
    if header.settings.get("fused"):
        params = header.settings["params"]
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in params["weights"].items())
        return f"{header.settings['rule']}: {weights} (fitted on {header.settings['fit_split']})"
    name, backbone = header.name, run.recipe.trained[header.name].backbone
    mark = " (untrained: random weights)" if _untrained(tables, backbone) else ""
    settings = run.recipe.trained[name].model_dump(mode="json")
    if f"heads/{name}" in tables:  # a tuned system has other settings than the recipe
        settings = tables[f"heads/{name}"][1].settings
    pooling = settings["pooling"]
    parts = [f"{backbone}{mark}", settings["head"]["name"]]
    if pooling is not None:
        on = pooling.get("on") or "embeddings"
        parts.insert(1 if on == "embeddings" else 2, pooling["name"])
    return " -> ".join(parts) + (" (tuned)" if name in run.recipe.tune else "")


def _fusion(header: Header) -> dict[str, Any]:
    params = header.settings["params"]
    found = {"weights": params["weights"], "fit_split": header.settings["fit_split"]}
    return found | ({"curve": params["curve"]} if "curve" in params else {})


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

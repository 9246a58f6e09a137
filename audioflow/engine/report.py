"""The job `report`: read the tables of a run, build the page, write it beside them."""

import datetime
import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pyarrow as pa

from audioflow.engine.report_checks import checked
from audioflow.engine.report_media import excerpts_of, picture_sets
from audioflow.engine.report_sweeps import sweep_of
from audioflow.engine.report_systems import systems_of
from audioflow.engine.report_tables import Tables, failed_clips, stage_rows
from audioflow.engine.report_timeline import timeline_of
from audioflow.engine.run import Run, Watch
from audioflow.manifest import split_counts
from audioflow.pieces import in_one_piece
from audioflow.redaction import masked, masked_command, masked_recipe
from audioflow.report import PictureSet, ReportData, build
from audioflow.tables import Header, Table, fingerprint, package_versions

JOB = "report"
REVISION = 6
_COLUMNS = (
    "clip_id uri start_s duration_s labels split fold group size_bytes version source"
).split()


def make_report(run: Run) -> Header:
    """Write `report/index.html`, `report.json` and the plots, from whatever tables are complete."""
    section = run.recipe.report
    assert section is not None
    watch = Watch()
    tables = _tables(run)
    parents = {name: header.fingerprint for name, (_, header) in tables.items()}
    pictures = picture_sets(run.folder)
    shown = [
        hashlib.sha256(picture.png).hexdigest() for one in pictures for picture in one.pictures
    ]
    key = fingerprint("report", REVISION, parents, section.model_dump(mode="json"), shown)
    target = run.report()
    if old := run.unchanged(JOB, JOB, target, key):
        return old
    run.tell(JOB, "start", JOB)
    manifest = in_one_piece(tables["manifest"][0].read(_COLUMNS))
    data = _data(run, tables, manifest, pictures)
    checks = checked(run, tables, manifest, data.systems)
    files = build(
        replace(data, clip_tables=checks.tables),
        eval_split=section.split,
        num_bootstrap=section.num_bootstrap,
        num_players=section.players,
        read_excerpts=partial(excerpts_of, run, manifest),
    )
    files |= checks.files
    target.folder.remove_all()
    for name, content in files.items():
        target.folder.write(name, content)
    header = Header(
        kind="report",
        name=JOB,
        fingerprint=key,
        parents=parents,
        settings=section.model_dump(mode="json"),
        rows=sum(path.startswith("scores/") for path in tables),
        failures=0,
        shards=[],
        stats=watch.stats(sum(path.startswith("scores/") for path in tables))
        | {"files": _hashes(files)},
        versions=package_versions(),
    )
    run.finished(JOB, JOB, target.finish(header))
    return header


def _hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


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
    for name in [*recipe.scored, *recipe.fuse]:
        wanted[f"scores/{name}"] = run.scores(name)
    wanted["manifest"].complete_header()
    found = {}
    for path, table in wanted.items():
        header = table.header()
        if header is not None:
            found[path] = (table, header)
    return found


def _data(
    run: Run, tables: Tables, manifest: pa.Table, pictures: tuple[PictureSet, ...]
) -> ReportData:
    recipe = run.recipe
    assert recipe.report is not None
    failed = failed_clips(tables)
    return ReportData(
        title=recipe.report.title or recipe.run_dir.rstrip("/").rsplit("/", 1)[-1],
        run_dir=masked(run.folder.url),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=masked_command(run.command),
        recipe_yaml=masked_recipe(run.recipe_text),
        splits=split_counts(manifest),
        stages=tuple(stage_rows(tables)),
        timeline=timeline_of(tables),
        systems=tuple(systems_of(run, tables, manifest)),
        failures=failed.rows,
        num_failures=failed.number,
        failure_counts=failed.counts,
        failure_groups=failed.groups,
        versions=package_versions() | {"python": platform.python_version()},
        fingerprints={path: header.fingerprint for path, (_, header) in tables.items()},
        machine=_machine(),
        sweeps=tuple(
            sweep_of(table, header)
            for path, (table, header) in tables.items()
            if path.startswith("tune/")
        ),
        pictures=pictures,
    )


def _machine() -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": str(os.cpu_count()),
        "host": platform.node(),
    }

"""The job `manifest`: read data sets in their own formats, check, divide, write one table."""

from collections.abc import Mapping

from audioflow.datasets.sources import read_manifest
from audioflow.engine.run import Run, Watch
from audioflow.manifest import classes_of, manifest_fingerprint
from audioflow.recipe_sources import MAIN
from audioflow.redaction import masked_values
from audioflow.tables import Header, package_versions

JOB = "manifest"


def make_manifest(run: Run) -> Header:
    """Write `manifest/`, unless it is there and nothing changed."""
    watch = Watch()
    section = run.recipe.manifest
    run.tell(JOB, "start", JOB)
    mixed = read_manifest(section, run.input, run.output)
    rows = mixed.manifest
    for text in mixed.notes:  # also where nothing changed: it is what was found this time
        run.tell(JOB, "note", JOB, text=text)
    key = manifest_fingerprint(rows)
    table = run.manifest()
    if old := run.unchanged(JOB, JOB, table, key):
        return old
    for name, counts in mixed.stats.items():
        if name != MAIN:
            run.tell(JOB, "note", JOB, text=_told(name, counts))
    name = f"00000-{key[:12]}"
    table.open_for([name])
    receipt = table.commit(name, rows)
    header = Header(
        kind="manifest",
        name=JOB,
        fingerprint=key,
        parents={},
        settings=masked_values(section.model_dump(mode="json")),
        rows=rows.num_rows,
        failures=0,
        shards=[receipt],
        classes=classes_of(rows),
        stats=watch.stats(rows.num_rows) | ({"sources": mixed.stats} if mixed.stats else {}),
        versions=package_versions(),
    )
    run.finished(JOB, JOB, table.finish(header))
    return header


def _told(name: str, counts: Mapping[str, int]) -> str:
    """What became of the clips of a further data set."""
    text = f"{name}: {counts['clips']} of {counts['read']} clips are mixed in"
    if counts["no_label"]:
        text += f", {counts['no_label']} have no class that is taken"
    if counts.get("several_labels"):
        text += f", {counts['several_labels']} have several"
    if counts["over_limit"]:
        text += f", {counts['over_limit']} are over the limit"
    return text

"""The job `manifest`: read the data set's own format, check it, divide it, write one table."""

from audioflow.datasets import READERS
from audioflow.engine.run import Run, Watch
from audioflow.manifest import build_manifest, classes_of, manifest_fingerprint
from audioflow.redaction import masked_values
from audioflow.tables import Header, package_versions

JOB = "manifest"


def make_manifest(run: Run) -> Header:
    """Write `manifest/`, unless it is there and nothing changed."""
    watch = Watch()
    section = run.recipe.manifest
    reader = READERS.build(section.reader, section.options)
    resolve = run.output if section.reader == "demo" else run.input
    run.tell(JOB, "start", JOB)
    rows = build_manifest(reader.read(resolve), section, reader.source)
    key = manifest_fingerprint(rows)
    table = run.manifest()
    if old := run.unchanged(JOB, JOB, table, key):
        return old
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
        stats=watch.stats(rows.num_rows),
        versions=package_versions(),
    )
    run.finished(JOB, JOB, table.finish(header))
    return header

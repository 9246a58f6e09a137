"""What the job `embed` will take, from a probe of a small sample: `audioflow plan`.

The clips are read as the job `manifest` reads them, a sample of their recordings is decoded and
embedded here, without Ray, and nothing is written to the run's folder.
"""

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch

from audioflow.datasets.sources import read_manifest
from audioflow.engine.embed_crew import AtWork, on_gpus
from audioflow.engine.embed_plan import (
    TablePlan,
    augmented_clips,
    embed_shards,
    table_plan,
)
from audioflow.engine.embed_todo import is_systemic
from audioflow.engine.plan_backbone import Backbone, OfTable
from audioflow.engine.plan_memory import resident_bytes
from audioflow.engine.plan_probe import OfRecording, Prober, Told, Tried, Way
from audioflow.engine.run import Run
from audioflow.media import DECODERS
from audioflow.media.packing import Sources
from audioflow.media.parts import Wanted
from audioflow.planning.estimate import Cluster, engine_actors, own_workers
from audioflow.planning.figures import Forecast, Measured, Price, Rules, TableMeasured, TableTodo
from audioflow.planning.forecast import Known, forecast
from audioflow.planning.machines import Machine, Machines
from audioflow.planning.sample import Floats, Recordings, draw, recordings_of
from audioflow.recipe import EmbedSection
from audioflow.shards import Shard, base_name, made_with, retry_number
from audioflow.storage import Folder
from audioflow.tables import Header

CLIPS_PER_RECORDING = 16
"""Clips that are tried of a recording that has more."""


@dataclass(frozen=True)
class Asked:
    """sample: recordings to probe. cpus, gpus: of the cluster; None for what is here."""

    sample: int = 40
    cpus: float | None = None
    gpus: float | None = None
    machines: int = 1
    price: Price | None = None


def plan(run: Run, asked: Asked, told: Told) -> Forecast:
    """Probe a sample and say what the backbones of `embed` will take; there must be one.

    Raises `InputError` where there is no clip, `TooManyFailures` where all of the sample fails for
    one reason that is not the clips' fault.
    """
    section = run.recipe.embed
    assert section is not None
    process_bytes = resident_bytes()
    manifest = read_manifest(run.recipe.manifest, run.input, run.output).manifest
    recordings = recordings_of(manifest)
    shards = embed_shards(manifest, section)
    plans = [
        table_plan(run, name, choice, _no_header(manifest), shards)
        for name, choice in section.backbones.items()
    ]
    cluster = _cluster(run, asked)
    plans = _on_gpus(run, plans, cluster)
    wishes = [(one.choice.actors, one.spec.num_gpus) for one in plans]
    own = own_workers(wishes, cluster)
    sample = draw(recordings, asked.sample)
    tried = _tried(recordings, sample.chosen.tolist())
    threads = torch.get_num_threads()
    try:
        with tempfile.TemporaryDirectory(prefix="audioflow-plan-") as folder:
            specs = [
                replace(one.spec, folder=Folder(f"{folder}/{number}", run.storage))
                for number, one in enumerate(plans)
            ]
            started = time.perf_counter()
            backbones = [Backbone.load(spec) for spec in specs]
            prober = Prober(manifest, _way(run, section, backbones, manifest), backbones)
            prober.probe(tried, told)
            probe_s = time.perf_counter() - started
    finally:
        torch.set_num_threads(threads)
    scales = recordings.clips[sample.chosen] / np.array([len(one.clips) for one in tried])
    measured = _measured(prober, backbones, scales, process_bytes)
    return forecast(
        Known(
            recordings,
            sample,
            replace(measured, clips_tried=sum(len(t.clips) for t in tried), probe_s=probe_s),
            [
                _todo(run, one, shards, recordings, own or engine_actors(wish, cluster, wishes))
                for one, wish in zip(plans, wishes, strict=True)
            ],
            Rules(section.decode_cpus, section.decode_memory_gb, section.max_failed_share, own),
            cluster,
            asked.price,
        )
    )


def _on_gpus(run: Run, plans: Sequence[TablePlan], cluster: Cluster) -> list[TablePlan]:
    """The plans, their backbones on GPUs as the engine would have them on this cluster."""
    machines = Machines((Machine({"GPU": cluster.gpus}, real_gpus=True),))
    at_work = [AtWork(one.spec, one.choice) for one in plans]
    found = on_gpus(at_work, run.recipe.ray.accelerator, machines)
    return [replace(plan, spec=one.spec) for plan, one in zip(plans, found, strict=True)]


def _no_header(manifest: pa.Table) -> Header:
    """The names of shards do not depend on the fingerprint of the manifest."""
    return Header("manifest", "manifest", "", {}, {}, manifest.num_rows, 0, [])


def _cluster(run: Run, asked: Asked) -> Cluster:
    here = run.recipe.ray.num_cpus or len(os.sched_getaffinity(0))
    gpus = torch.cuda.device_count() if asked.gpus is None else asked.gpus
    return Cluster(asked.cpus or here, gpus, asked.machines)


def _tried(recordings: Recordings, chosen: Sequence[int]) -> list[Tried]:
    """The clips to try of each chosen recording, spread evenly over those it has."""
    order = np.argsort(recordings.of_clip, kind="stable")
    ends = np.cumsum(recordings.clips)
    found = []
    for recording in chosen:
        mine = order[ends[recording] - recordings.clips[recording] : ends[recording]]
        count = min(len(mine), CLIPS_PER_RECORDING)
        steps = ((np.arange(count) + 0.5) * len(mine) / count).astype(np.int64)
        found.append(Tried(tuple(mine[steps].tolist())))
    return found


def _way(run: Run, section: EmbedSection, backbones: Sequence[Backbone], manifest: pa.Table) -> Way:
    """How the engine fetches and decodes."""
    sources = Sources.of([backbone.spec.input for backbone in backbones])
    wanted = Wanted(
        sample_rates_hz=tuple(sources.run_up),
        samplings=sources.samplings,
        max_duration_s=section.max_duration_s,
        sound_track=section.sound_track,
        video_track=section.video_track,
        decoder=DECODERS.entries[section.decoder],
    )
    return Way(
        run.storage,
        sources,
        wanted,
        section.decode_timeout_s,
        section.decode_memory_gb,
        section.clips_per_shard,
        augmented_clips(manifest, section),
    )


def _measured(
    prober: Prober, backbones: Sequence[Backbone], scales: Floats, process_bytes: int
) -> Measured:
    found = prober.found

    def scaled(values: Sequence[float]) -> Floats:
        return np.array(values, np.float64) * scales

    return Measured(
        media_s=scaled([one.media_s for one in found]),
        decode_s=scaled([one.decode_s for one in found]),
        fetch_s=np.array([one.fetch_s for one in found], np.float64),
        fetched_bytes=np.array([one.fetched_bytes for one in found], np.float64),
        tables=tuple(_of_table(one, found, scales, process_bytes) for one in backbones),
        clips_tried=0,
        child_bytes=prober.child_bytes,
        row_bytes=prober.row_bytes,
        probe_s=0.0,
    )


def _of_table(
    backbone: Backbone, found: Sequence[OfRecording], scales: Floats, process_bytes: int
) -> TableMeasured:
    spec, together = backbone.spec, backbone.found
    got = [one.tables[spec.table] for one in found]

    def scaled(name: str) -> Floats:
        return np.array([vars(one)[name] for one in got], np.float64) * scales

    return TableMeasured(
        table=spec.table,
        backbone=spec.backbone,
        device=backbone.device,
        **{name: scaled(name) for name in vars(OfTable())},
        patch_cost_s=backbone.seconds / together.patches if together.patches else 0.0,
        packed=backbone.output_bytes / together.raw_bytes if together.raw_bytes else 0.0,
        file_bytes=backbone.file_bytes,
        load_s=backbone.load_s,
        process_bytes=process_bytes + backbone.growth.total_bytes,
        hop_s=getattr(spec.ready.given, "hop_s", None),
        errors=backbone.errors,
    )


def _todo(
    run: Run,
    one: TablePlan,
    shards: Sequence[Shard],
    recordings: Recordings,
    actors: int,
) -> TableTodo:
    """What of a table is committed, as its names and receipts say; nothing is removed."""
    table = run.embeddings(one.spec.table)
    names = table.committed()
    newest = {base_name(name): name for name in sorted(names, key=retry_number)}
    receipts = table.receipts([newest[name] for name in one.names if name in newest])
    done = _done(one, newest, {name: not is_systemic(r) for name, r in receipts.items()})
    left = np.zeros(len(recordings), np.bool_)
    for shard, name in zip(shards, one.names, strict=True):
        if name not in done:
            left[recordings.of_clip[shard.indices]] = True
    older = set(newest) - set(one.names)
    return TableTodo(
        one.spec.table,
        len(shards),
        len(done),
        actors,
        one.spec.num_gpus > 0,
        left,
        any(made_with(name, one.settings_key) for name in older),
    )


def _done(one: TablePlan, newest: Mapping[str, str], counts: Mapping[str, bool]) -> set[str]:
    return {name for name in one.names if name in newest and counts[newest[name]]}

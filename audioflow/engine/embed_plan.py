"""The tables that the job `embed` makes, and their shards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.backbones.ready import made_ready
from audioflow.division import CROSS_VALIDATED
from audioflow.engine.embed_actor import BackboneSpec
from audioflow.engine.run import Run
from audioflow.media.augment import REVISION
from audioflow.media.patches import Patching
from audioflow.places import input_url
from audioflow.recipe_embed import BackboneChoice, EmbedSection
from audioflow.shards import Shard, base_name, plan_shards
from audioflow.tables import SCHEMA_VERSION, Header, Receipt, fingerprint
from audioflow.weights import WeightsError


def embed_shards(manifest: pa.Table, section: EmbedSection) -> list[Shard]:
    """The shards of every embeddings table."""
    return plan_shards(manifest, section.clips_per_shard, augmented_clips(manifest, section))


def augmented_clips(manifest: pa.Table, section: EmbedSection) -> NDArray[np.bool_]:
    """(N,) of which clips there are variants."""
    if not section.augment or not section.augment.variants:
        return np.zeros(manifest.num_rows, np.bool_)
    wanted: set[str] = {*section.augment.splits}
    wanted |= {CROSS_VALIDATED} if "train" in wanted else set()
    found: NDArray[np.bool_] = pc.is_in(manifest["split"], pa.array(sorted(wanted))).to_numpy()
    return found


@dataclass
class TablePlan:
    """One embeddings table to be made; beside what `embed_todo.Planned` says."""

    spec: BackboneSpec
    choice: BackboneChoice
    settings: dict[str, Any]
    settings_key: str
    names: tuple[str, ...]
    manifest: Header
    committed: dict[str, Receipt] = field(default_factory=dict)
    taken_over: int = 0
    old_stats: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parents(self) -> dict[str, str]:
        return {"manifest": self.manifest.fingerprint}

    def fingerprint(self, chosen: Mapping[str, str]) -> str:
        """The fingerprint of the table with these shards."""
        return fingerprint(
            self.settings_key, [chosen.get(name, name) for name in self.names], self.parents
        )


def table_plan(
    run: Run, name: str, choice: BackboneChoice, manifest: Header, shards: Sequence[Shard]
) -> TablePlan:
    """The plan of one table of the recipe."""
    spec, settings = backbone_spec(run, name, choice)
    key = fingerprint(settings)
    names = tuple(shard.name(key) for shard in shards)
    return TablePlan(spec, choice, settings, key, names, manifest)


def backbone_spec(
    run: Run, name: str, choice: BackboneChoice
) -> tuple[BackboneSpec, dict[str, Any]]:
    """A backbone of the recipe, and all settings that determine its vectors, whatever the clips."""
    section = run.recipe.embed
    assert section is not None
    spec = BackboneSpec(
        name,
        choice.name or name,
        choice.options,
        run.embeddings(name).folder,
        section.min_coverage,
        choice.num_gpus or 0.0,
        section.augment if section.augment and section.augment.variants else None,
    )
    spec = replace(spec, weights=spec.ready.hashes)
    return spec, _settings(spec, section)


def check_weights(run: Run) -> None:
    """Raise `WeightsError`, before anything is done, for all weights that are not to be had."""
    section = run.recipe.embed
    faults: list[WeightsError] = []
    for name, choice in section.backbones.items() if section else ():
        try:
            made_ready(choice.name or name, choice.options, run.storage, input_url)
        except WeightsError as error:
            faults.append(type(error)(f"embed.backbones.{name}.{error}"))
    if len(faults) == 1:
        raise faults[0]
    if faults:
        lines = "\n".join(f"  - {fault}" for fault in faults)
        raise WeightsError(f"{len(faults)} backbones lack their weights\n{lines}")


def _settings(spec: BackboneSpec, section: EmbedSection) -> dict[str, Any]:
    ready = spec.ready
    found: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "backbone": spec.backbone,
        "revision": ready.backbone.revision,
        "settings": ready.what_counts(),
        "min_coverage": section.min_coverage,
        "max_duration_s": section.max_duration_s,
    }
    if not isinstance(spec.input, Patching):
        return found | {"video_track": section.video_track}
    augment = section.augment
    drawn = None
    if augment and augment.variants:
        drawn = {"revision": REVISION} | augment.model_dump(mode="json", exclude={"splits"})
    return found | {
        "decoder": section.decoder,
        "sound_track": section.sound_track,
        "augment": drawn,
    }


def shards_of(header: Header) -> dict[str, str]:
    """The shards of a complete table: name as planned -> name of the file."""
    return {base_name(shard.name): shard.name for shard in header.shards}

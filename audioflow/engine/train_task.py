"""A head to train: where its inputs lie, how it is made, and what it is to tell apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from audioflow.errors import Fault, InputError, RecipeError
from audioflow.heads import HEADS
from audioflow.manifest import without_one_label
from audioflow.pooling import POOLINGS
from audioflow.recipe import SystemSection
from audioflow.recipe_systems import pooled_on, system_faults, usual_pooling
from audioflow.registry import nearest
from audioflow.storage import Folder, StorageOptions
from audioflow.systems.inputs import InputSpec, Pool, vectors_per_patch
from audioflow.systems.network import NetworkSpec
from audioflow.systems.readout import Readout
from audioflow.tables import Header, Table
from audioflow.weights import Identity, WeightsError, resolved


@dataclass(frozen=True)
class Classes:
    """What a head is to tell apart.

    names: of the manifest. head: what the head knows, the same but for `train.fine`; merge: the
    class (index) of each of those, None where they are the same.
    """

    names: tuple[str, ...]
    head: tuple[str, ...]
    merge: tuple[int, ...] | None
    multi_label: bool

    @property
    def readout(self) -> Readout:
        return Readout(len(self.names), self.multi_label, 1.0, self.merge)


@dataclass(frozen=True)
class TrainTask:
    """One head to train: where its inputs lie and how it is made.

    fold: the one held out; val_fold: the one to select on, by default that after it.
    """

    system: str
    section: SystemSection
    embeddings: Folder
    manifest: Folder
    inputs: InputSpec
    classes: Classes
    fold: str | None = None
    val_fold: str | None = None

    @property
    def network(self) -> NetworkSpec:
        """What its network is made of."""
        section = self.section
        head = HEADS.load(section.head.name)
        wanted = section.train.normalise
        normalised = getattr(head, "normalised", False) if wanted is None else wanted
        classes = self.classes
        return NetworkSpec(
            self.inputs, self._head(), len(classes.head), normalised, classes.multi_label
        )

    def _head(self) -> dict[str, Any]:
        return local_head(self.section, self.embeddings.options)


def local_head(section: SystemSection, storage: StorageOptions) -> dict[str, Any]:
    """Name and settings of a head, with local files in place of the names of weights.

    Raises `WeightsError` where a file is not on this machine (and says how to get it).
    """
    found = _resolved(section, storage)
    if found is None:
        return section.head.model_dump(mode="json")
    return {"name": section.head.name} | found[0].model_dump(mode="json")


def check_heads(systems: Mapping[str, SystemSection], storage: StorageOptions) -> None:
    """Raise `WeightsError`, which names the key, for weights of heads that are not to be had."""
    for name, section in systems.items():
        try:
            local_head(section, storage)
        except WeightsError as error:
            raise type(error)(f"systems.{name}.head.{error}") from error


def head_weights(section: SystemSection, storage: StorageOptions) -> dict[str, str]:
    """The hashes of the files that a head begins with, by setting; raises as `local_head`."""
    found = _resolved(section, storage)
    identities = found[1] if found else {}
    return {field: one.sha256 for field, one in identities.items() if one.trained}


def _resolved(
    section: SystemSection, storage: StorageOptions
) -> tuple[Any, dict[str, Identity]] | None:
    """None for a head that cannot begin with a file."""
    choice = section.head
    plugin = HEADS.load(choice.name)
    if not hasattr(plugin, "known"):
        return None
    settings = plugin.Settings.model_validate(choice.options)
    return resolved(settings, plugin.known, storage, plugin.weights_of)


def inputs_of(name: str, section: SystemSection, header: Header, table: Table) -> InputSpec:
    """What a system reads of its embeddings; raises `RecipeError` for layers that are not there,
    and for parts of the system that do not fit each other."""
    head = HEADS.load(section.head.name)
    pooling = POOLINGS.load(section.pooling.name) if section.pooling else None
    if faults := system_faults(name, section, head, pooling, varied=True):
        raise RecipeError("recipe", faults)
    widths: dict[str, int] = header.settings["layers"]
    layers = _layers(name, section, head, widths, header.name)
    choice = section.pooling or usual_pooling(head, section.train.unit)
    pool = None
    if choice is not None:
        on = pooled_on(choice, POOLINGS.load(choice.name), head, section.train.unit)
        pool = Pool(choice.name, on, choice.options)  # type: ignore[arg-type]
    vectors = _vectors_per_patch(table, header, layers[0]) if "picture" in head.takes else 1
    return InputSpec(layers, tuple(widths[layer] for layer in layers), head.takes, pool, vectors)


def _layers(
    name: str, section: SystemSection, head: Any, widths: Mapping[str, int], backbone: str
) -> tuple[str, ...]:
    given = section.layers or ((section.layer,) if section.layer is not None else None)
    chosen = given or (tuple(widths) if head.takes == "layers" else (next(iter(widths)),))
    for layer in chosen:
        if layer not in widths:
            key = "layers" if section.layers else "layer"
            problem = f"{layer!r} is not a layer of {backbone}"
            hint = nearest(layer, widths)
            fault = Fault(f"systems.{name}.{key}", problem, layer, ", ".join(widths), hint)
            raise RecipeError("recipe", [fault])
    return tuple(chosen)


def _vectors_per_patch(table: Table, header: Header, layer: str) -> int:
    for receipt in header.shards:
        if receipt.rows:
            rows = table.read_shard(receipt.name, ["patch_start_s", layer])
            return vectors_per_patch(rows, layer)
    return 1


def classes_of(
    manifest: Table, section: SystemSection, names: tuple[str, ...], system: str
) -> Classes:
    """What a head is to tell apart, by the labels in the manifest."""
    rows = manifest.read(["clip_id", "labels", "split"])
    odd_N = without_one_label(rows)
    several = bool(odd_N.any())
    task = section.train.task
    if task == "single" and several:
        place = int(odd_N.argmax())
        raise InputError(
            f"system {system!r}: train.task is single, but clip {rows['clip_id'][place].as_py()!r} "
            f"has the labels {rows['labels'][place].as_py()}; set train.task: multi, or auto"
        )
    multi = task == "multi" or several
    if not section.train.fine:
        return Classes(names, names, None, multi)
    return _fine_classes(manifest, names, system, multi=multi)


def _fine_classes(manifest: Table, names: tuple[str, ...], system: str, *, multi: bool) -> Classes:
    merge: dict[str, str] = manifest.complete_header().settings["merge"]
    labels = pc.unique(manifest.read(["fine_labels"])["fine_labels"].combine_chunks().flatten())
    head = tuple(sorted(labels.to_pylist()))
    if head == names:
        raise InputError(
            f"system {system!r}: train.fine is true, but manifest.merge merges no class"
        )
    to = (names.index(merge.get(name, name)) for name in head)
    return Classes(names, head, tuple(to), multi)

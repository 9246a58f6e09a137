"""Who works in the pipeline from media: how many, what each takes, and on which nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from audioflow.backbones.network import NetworkSettings
from audioflow.engine.embed_actor import BackboneSpec
from audioflow.media.packing import ROW_BYTES
from audioflow.planning.estimate import Cluster, Wish, engine_actors, gpu_shares
from audioflow.planning.machines import Labels, Machines, Need
from audioflow.planning.peaks import BASE_BYTES, DECODE_BYTES, peak_bytes
from audioflow.recipe import Accelerator
from audioflow.recipe_embed import BackboneChoice, EmbedSection

DECODE_TIER = {"audioflow/tier": "decode"}
"""The label of nodes that are there to decode; the files in cluster/ set it."""

_STORE_SHARE = 0.5
"""Of the object store, for what waits between decoders and backbones; the rest is for what is in
hand. More than that, and Ray writes it to disk."""


@dataclass(frozen=True)
class AtWork:
    """A backbone that is to be used, and what the recipe says of its actors. What is decided of its
    GPUs stands in `spec`."""

    spec: BackboneSpec
    choice: BackboneChoice


def on_gpus(
    backbones: Sequence[AtWork], accelerator: Accelerator, machines: Machines
) -> list[AtWork]:
    """The backbones, each with its share of a GPU. What the precision `auto` is does not change."""
    gpus = machines.gpus if accelerator == "gpu" else machines.real_gpus
    networks = [isinstance(one.spec.ready.given, NetworkSettings) for one in backbones]
    asked = [one.choice.num_gpus for one in backbones]
    shares = gpu_shares(asked, networks, accelerator, gpus)
    return [
        replace(one, spec=one.spec.on_gpu(share))
        for one, share in zip(backbones, shares, strict=True)
    ]


@dataclass(frozen=True)
class Crew:
    """Decoders and backbones on these machines.

    Where no backbone needs a GPU, each worker decodes and embeds by itself. Where one does, decode
    tasks pass media on to the actors of each backbone.
    """

    section: EmbedSection
    backbones: Sequence[AtWork]
    machines: Machines

    @property
    def alone(self) -> bool:
        """Whether workers decode and embed by themselves."""
        return not any(one.spec.num_gpus for one in self.backbones)

    @property
    def own_workers(self) -> int:
        """Those workers; 0 where decoding is a step of its own."""
        if not self.alone:
            return 0
        room = self.machines.room(self.worker)
        return max(1, min(self._chosen or room, room))

    @property
    def fixed(self) -> bool:
        """Whether the recipe says how many workers there are."""
        return self._chosen is not None

    @property
    def _chosen(self) -> int | None:
        found = [one.choice.actors for one in self.backbones if one.choice.actors]
        return max(found) if found else None

    @property
    def worker(self) -> Need:
        """What a worker takes that decodes and embeds by itself."""
        cpus, chosen = self.machines.total("CPU"), self._chosen
        share = min(1.0, cpus / (chosen or max(1, int(cpus)))) if cpus else 1.0
        takes = BASE_BYTES + DECODE_BYTES + sum(map(_memory, self.backbones))
        # It does both, so its node must be fit for both.
        placement = self.section.placement
        labels = {**placement.decode, **placement.embed}
        resources = {"CPU": share, "memory": self._memory(takes, {"CPU": share}, labels)}
        given = [name for name in ("decode", "embed") if getattr(placement, name)]
        of = f".placement.{given[0]}" if len(given) == 1 else ".placement" if given else ""
        return Need(f"embed{of}", "a worker", resources, labels)

    def _overruled(self) -> str:
        """Labels that nodes for decoding were to have otherwise than those for embedding."""
        decode, embed = self.section.placement.decode, self.section.placement.embed
        both = [key for key in embed if decode.get(key, embed[key]) != embed[key]]
        return ", ".join(f"{key}={embed[key]}" for key in both)

    @property
    def without_memory(self) -> int:
        """How many workers there would be if memory were no matter."""
        need = replace(self.worker, resources={"CPU": self.worker.resources["CPU"]})
        room = self.machines.room(need)
        return max(1, min(self._chosen or room, room))

    @property
    def decode_labels(self) -> Labels:
        """What a node must have for decode tasks: the labels of the recipe; else that of nodes for
        decoding, where there are any, so that the cores of nodes with GPUs are left to those.

        As a mere preference of Ray's, with other nodes as its fallback, they went there, too.
        """
        given = self.section.placement.decode
        return given or (DECODE_TIER if self.machines.labelled(DECODE_TIER) else {})

    @property
    def decode_cpus(self) -> float:
        """What a decode task takes, where decoding is a step of its own."""
        labels, asked = self.decode_labels, self.section.decode_cpus
        most = max(
            (one.resources.get("CPU", 0.0) for one in self.machines.nodes if one.has(labels)),
            default=0.0,
        )
        return min(asked, most) if most else asked

    @property
    def decoder(self) -> Need:
        """What a decode task takes."""
        cpus, labels = self.decode_cpus, self.decode_labels
        takes = self._memory(BASE_BYTES + DECODE_BYTES, {"CPU": cpus}, labels)
        return Need("embed.decode_cpus", "a decode task", {"CPU": cpus, "memory": takes}, labels)

    def decoders(self, items: int) -> int:
        """Decode tasks that run at once."""
        return max(1, min(items, self.machines.room(self.decoder)))

    def actor(self, one: AtWork) -> Need:
        """What an actor of a backbone takes, where each has its own."""
        gpus, labels = one.spec.num_gpus, self.section.placement.embed
        takes = self._memory(BASE_BYTES + _memory(one), {"GPU": gpus}, labels)
        decided = gpus and one.choice.num_gpus is None
        key = f"embed.backbones.{one.spec.table}{'.num_gpus' if gpus else ''}"
        return Need(
            "ray.accelerator" if decided else key,
            f"an actor of {one.spec.table}",
            {"GPU": gpus, "memory": takes} if gpus else {"memory": takes},
            labels,
        )

    def actors(self, one: AtWork) -> int:
        """Actors of one backbone that are there from the beginning."""
        wish = _wish(one)
        cluster = Cluster(self.machines.total("CPU") or 1.0, self.machines.total("GPU"))
        wanted = engine_actors(wish, cluster, [_wish(each) for each in self.backbones])
        return wanted if one.choice.actors else max(1, min(wanted, self._room(one)))

    def most_actors(self, one: AtWork, items: int) -> int:
        """So many there may be once more nodes have come."""
        if one.choice.actors or not one.spec.num_gpus:
            return min(items, self.actors(one))
        return items

    def _room(self, one: AtWork) -> int:
        return self.machines.room(self.actor(one))

    def needs(self, items: int) -> list[Need]:
        """What has to be there before it is of any use to begin."""
        if self.alone:
            return [self.worker]
        found = []
        for one in self.backbones:
            count = min(items, one.choice.actors or 1)
            found.append(replace(self.actor(one), count=count))
        return [self.decoder, *found]

    def store_bytes(self) -> int:
        """What may wait between decoders and backbones: two of the largest rows for every worker,
        and no more than half of what there is room for."""
        decoders = self.machines.room(self.decoder)
        actors = sum(self.actors(one) for one in self.backbones)
        store = self.machines.total("object_store_memory")
        wanted = 2 * ROW_BYTES * max(1, decoders + actors)
        return int(min(wanted, _STORE_SHARE * store)) if store else wanted

    def _memory(self, takes: float, resources: Mapping[str, float], labels: Labels) -> float:
        """Memory to ask for: what is taken, but not more than any node has that could do it, or any
        kind of node that may come: an autoscaler starts none that does not say that it has it.

        The other steps have to fit beside it on a node that is the only one.
        """
        need = Need("", "", resources, labels)
        fit = [one for one in self.machines.kinds if one.gives(need)]
        fit = fit or [one for one in self.machines.nodes if one.gives(need)]
        rooms = [one.resources.get("memory", 0.0) for one in fit]
        steps = 1 if self.alone else 1 + len(self.backbones)
        return min(takes, max(rooms, default=takes) / steps)

    def told(self) -> str:
        """What was chosen, where it is news: fewer workers than CPUs, a store that is too small."""
        found = []
        if self.alone and self.own_workers < self.without_memory:
            takes = self.worker.resources["memory"] / 2**30
            workers = "worker" if self.own_workers == 1 else "workers"
            found.append(
                f"{self.own_workers} {workers}, and not {self.without_memory}: each takes about "
                f"{takes:.1f} GB of memory, and the nodes have {self._memory_gb():.1f} GB for it "
                "(embed.backbones.NAME.memory_gb is what is taken for granted)"
            )
        if self.alone and (other := self._overruled()):
            found.append(
                "embed.placement: without a GPU each worker decodes and embeds, on nodes with "
                f"{other}, as `embed` says"
            )
        store = self.machines.total("object_store_memory")
        if not self.alone and store and self.store_bytes() < _needed_store(self):
            found.append(
                f"the object stores hold {store / 2**30:.2f} GB, less than two rows of "
                f"{ROW_BYTES / 2**20:g} MB for every worker: decoders wait for backbones more than "
                "they need to (ray start --object-store-memory)"
            )
        return "; ".join(found)

    def _memory_gb(self) -> float:
        """Of the nodes that it is asked of."""
        need = replace(self.worker, resources={"CPU": self.worker.resources["CPU"]})
        return sum(one.resources.get("memory", 0.0) for one in self.machines.fit(need)) / 2**30


def _needed_store(crew: Crew) -> float:
    actors = sum(crew.actors(one) for one in crew.backbones)
    return 2.0 * ROW_BYTES * max(1, crew.machines.room(crew.decoder) + actors)


def _memory(one: AtWork) -> float:
    given = one.choice.memory_gb
    return given * 2**30 if given is not None else peak_bytes(one.spec.backbone)


def _wish(one: AtWork) -> Wish:
    return one.choice.actors, one.spec.num_gpus

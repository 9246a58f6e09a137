"""What is to be served: a head, or several with their fusion, and the backbones that they read;
all from the headers that a run left beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from audioflow.engine.embed_actor import BackboneSpec
from audioflow.engine.listening import refuse_others
from audioflow.engine.score_target import Target
from audioflow.errors import InputError, TableError
from audioflow.media import DECODERS
from audioflow.media.packing import Sources
from audioflow.media.parts import Wanted
from audioflow.recipe_augment import AugmentSection
from audioflow.redaction import masked
from audioflow.registry import nearest
from audioflow.serving.answers import About
from audioflow.storage import Folder
from audioflow.stores import is_local, local_path
from audioflow.systems.bundle import HEAD
from audioflow.systems.ensemble import ENSEMBLE, Heads
from audioflow.tables import Header, Table
from audioflow.verify.places import subfolders

Variants = Literal["auto", "recorded", "mean"]
WEIGHTS = "weights"
"""The folder beside the tables in which `save` keeps weights, by the hash of their content."""


@dataclass(frozen=True)
class Part:
    """A trained head that is served, by itself or as a part of a fused system."""

    name: str
    table: str
    target: Target
    multi_label: bool


@dataclass(frozen=True)
class Served:
    """A system to be served, small enough to send anywhere.

    specs: the backbones, by table. parts: the heads, in the order of the fusion. fusion: the
    settings in the header of the fused table, None where there is one head alone.
    """

    about: About
    run: Folder
    specs: Mapping[str, BackboneSpec]
    parts: tuple[Part, ...]
    wanted: Wanted
    fusion: Mapping[str, Any] | None = None


def find_served(
    place: Folder, system: str | None, variants: Variants = "auto", *, num_gpus: float = 0.0
) -> Served:
    """The system in the folder of a head, or the one named in the folder of a run.

    variants: whether scores are the mean over the variants of a clip; `auto`: where those of the
    run's score table are. Raises `InputError` for what is not there or cannot be served,
    `TableError` for what is damaged, `WeightsError` for weights that are not to be had.
    """
    run, name = _found(place, system)
    there = subfolders(run / "heads")
    scored = Table(run / "scores" / name).header()
    if name in there:
        names, fusion, told = (name,), None, Table(run / "heads" / name).header()
    elif scored is not None and scored.settings.get("fused"):
        names, fusion, told = tuple(scored.settings["systems"]), scored, scored
        if lacking := [one for one in names if one not in there]:
            raise InputError(
                f"{name!r} is fused from {', '.join(names)}, and {', '.join(lacking)} has no head "
                f"in {masked(run.url)}/heads: scores of other programs cannot be served"
            )
    else:
        raise InputError(_unknown(run, name, there))
    found = _Finder(run, variants, num_gpus)
    parts = tuple(found.part(one) for one in names)
    classes = tuple(fusion.classes) if fusion else parts[0].target.classes
    settings = dict(fusion.settings) if fusion else None
    if settings and settings.get("quality"):
        found.spec(settings["quality"]["table"], None)
    multi_label = bool(settings["multi_label"]) if settings else parts[0].multi_label
    specs = found.specs
    augments = [spec.augment for spec in specs.values() if spec.augment]
    about = About(
        name,
        classes,
        multi_label,
        told.fingerprint if told else "",
        names,
        tuple(dict.fromkeys(spec.backbone for spec in specs.values())),
        max((1 + augment.variants for augment in augments), default=1),
        tuple(table for table, spec in specs.items() if not spec.ready.trained),
    )
    return Served(about, run, specs, parts, found.wanted(), settings)


def _found(place: Folder, system: str | None) -> tuple[Folder, str]:
    """The folder of the run, and the name of the system in it."""
    if place.exists(HEAD) or place.exists(ENSEMBLE):
        above, name = place.split()
        run, heads = above.split()
        if heads != "heads":
            raise InputError(
                f"{masked(place.url)} is a head, but it does not lie in the folder heads/ of a "
                "run, whose embeddings/NAME/_header.json tells the settings of its backbone; "
                "`audioflow serve RUN_DIR --system NAME --save FOLDER` copies all that is needed"
            )
        if system not in (None, name):
            raise InputError(
                f"{masked(place.url)} is the head {name!r}, and --system says {system!r}; "
                "leave one of them out"
            )
        return run, name
    if system is not None:
        return place, system
    there = subfolders(place / "heads")
    if not there:
        raise InputError(
            f"{masked(place.url)} is neither a head (there is no {HEAD} or {ENSEMBLE}) nor a run "
            "with heads/; give such as runs/x/heads/audio, or runs/x --system audio"
        )
    if len(there) > 1:
        raise InputError(
            f"{masked(place.url)} has {len(there)} heads: say which by --system, "
            f"{' or '.join(_servable(place, there))}"
        )
    return place, there[0]


def _servable(run: Folder, heads: Sequence[str]) -> list[str]:
    """The heads of a run, and what is fused from them."""
    return [*heads, *(name for name in subfolders(run / "scores") if name not in heads)]


def _unknown(run: Folder, name: str, there: Sequence[str]) -> str:
    known = _servable(run, there)
    hint = nearest(name, known)
    if name in known:
        return f"{name!r} has scores in {masked(run.url)}, but no head that could score anything"
    return f"{masked(run.url)} has no system {name!r}; there are: {', '.join(known) or 'none'}" + (
        f"; did you mean {hint!r}?" if hint else ""
    )


class _Finder:
    """Gathers the heads of a run and the backbones that they read."""

    def __init__(self, run: Folder, variants: Variants, num_gpus: float) -> None:
        self._run, self._variants, self._num_gpus = run, variants, num_gpus
        self._headers: dict[str, Header] = {}
        self.specs: dict[str, BackboneSpec] = {}

    def part(self, name: str) -> Part:
        """A head; its backbone is gathered, too."""
        folder = self._run / "heads" / name
        heads = Heads.load(folder)
        spec = heads.first.spec
        backbone = self.spec(spec.backbone, spec.embeddings)
        mean = self._mean(name, spec.backbone)
        if mean:
            augment = self._augment(spec.backbone)
            self.specs[spec.backbone] = replace(backbone, augment=augment)
        target = Target(
            name, folder, folder, tuple(spec.classes), by_fold=False, mean=mean, patches=False
        )
        return Part(name, spec.backbone, target, spec.multi_label)

    def spec(self, table: str, vectors: str | None) -> BackboneSpec:
        """A backbone as the header of its table says; vectors: the fingerprint that they must have.

        Settings of backbones whose weights `save` kept lead there.
        """
        header = self._header(table)
        if vectors is not None and header.settings.get("vectors") != vectors:
            raise TableError(
                f"the head reads vectors of fingerprint {vectors}, embeddings/{table} in "
                f"{masked(self._run.url)} has {header.settings.get('vectors')}; train it again"
            )
        if table not in self.specs:
            told = header.settings
            given = {
                key: self._kept(used["sha256"]) or used["given"]
                for key, used in told["weights"].items()
            }
            spec = BackboneSpec(
                table,
                told["backbone"],
                told["settings"] | given,
                self._run / "embeddings" / table,
                told.get("min_coverage", 0.0),
                self._num_gpus,
            )
            try:
                refuse_others(header, spec.ready)
            except ValidationError as error:
                first = error.errors()[0]
                raise InputError(
                    f"embeddings/{table} was made by {told['backbone']!r} with settings that this "
                    f"audioflow does not know: {'.'.join(map(str, first['loc']))}: {first['msg']}; "
                    "run the job embed again"
                ) from error
            self.specs[table] = replace(spec, weights=spec.ready.hashes)
        return self.specs[table]

    def _header(self, table: str) -> Header:
        if table not in self._headers:
            header = Table(self._run / "embeddings" / table).header()
            if header is None:
                raise InputError(
                    f"{masked(self._run.url)} has no embeddings/{table}/_header.json, which tells "
                    "the settings of the backbone; `audioflow serve RUN_DIR --system NAME --save "
                    "FOLDER` copies all that is needed"
                )
            if "backbone" not in header.settings:
                raise InputError(
                    f"embeddings/{table} was imported: there is no backbone that could hear what "
                    "is sent, so that a head on it cannot be served"
                )
            self._headers[table] = header
        return self._headers[table]

    def _kept(self, sha256: str) -> str:
        """The path of weights that lie beside the tables; "" where there are none of this hash."""
        if not sha256 or not is_local(self._run.url):
            return ""
        kept = [name for name in (self._run / WEIGHTS).names() if name.startswith(sha256)]
        return local_path((self._run / WEIGHTS).file(kept[0])) if kept else ""

    def _mean(self, name: str, table: str) -> bool:
        """Whether the scores of a head are the mean over the variants of a clip."""
        if self._variants != "auto":
            if self._variants == "mean" and not self._header(table).settings.get("augment"):
                raise InputError(
                    f"--variants mean: embeddings/{table} was made without embed.augment, so that "
                    "there are none"
                )
            return self._variants == "mean"
        scored = Table(self._run / "scores" / name).header()
        return scored is not None and scored.settings.get("variants") == "mean"

    def _augment(self, table: str) -> AugmentSection:
        told = self._header(table).settings["augment"]
        return AugmentSection.model_validate(
            {key: value for key, value in told.items() if key != "revision" and value is not None}
        )

    def wanted(self) -> Wanted:
        """What of the media all backbones need: what is sent is decoded once."""
        sources = Sources.of([spec.input for spec in self.specs.values()])
        told = [self._headers[table].settings for table in self.specs]
        return Wanted(
            tuple(sources.run_up),
            sources.samplings,
            min(one["max_duration_s"] for one in told),
            self._same("sound_track", told),
            self._same("video_track", told),
            DECODERS.entries[self._same("decoder", told) or "pyav"],
        )

    def _same(self, key: str, told: Iterable[Mapping[str, Any]]) -> Any:
        """A setting that all tables share which have it."""
        found = {one[key] for one in told if key in one}
        if len(found) > 1:
            raise InputError(
                f"the embeddings {', '.join(self.specs)} were made with several settings of "
                f"embed.{key} ({', '.join(map(str, found))}), and what is sent is decoded once; "
                "make them with one"
            )
        return found.pop() if found else None

"""Which heads are to be scored, what each reads, and what the identity of its score table is."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from audioflow.engine.run import Run
from audioflow.engine.score_misfit import Vectors, misfit
from audioflow.engine.score_target import Target
from audioflow.errors import InputError, TableError
from audioflow.recipe import ScoreSection
from audioflow.redaction import masked
from audioflow.storage import Folder
from audioflow.systems.bundle import HEAD
from audioflow.systems.ensemble import ENSEMBLE, Heads
from audioflow.tables import SCHEMA_VERSION, Table, fingerprint

REVISION = 1


@dataclass(frozen=True)
class System:
    """A trained head to be scored with: the table (or backbone) whose vectors it reads, what says
    which head it is, and what its score table says of it."""

    name: str
    table: str
    folder: Folder
    heads: Heads
    key: str
    parents: Mapping[str, str]
    about: Mapping[str, Any]

    @property
    def by_fold(self) -> bool:
        """Whether the manifest's folds are those that it was trained on."""
        return "system" in self.about

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.heads.first.spec.classes)

    @property
    def calibration(self) -> str | None:
        """The fingerprint of how its scores are calibrated; None where they are not."""
        return self.heads.calibration.key if self.heads.calibration else None

    def key_of(self, section: ScoreSection) -> str:
        """The fingerprint of all that determines scores, apart from the vectors of the clips."""
        how = {"variants": section.variants, "patches": section.patches}
        return fingerprint("scores", SCHEMA_VERSION, REVISION, self.key, self.calibration, how)

    def target(self, table: Table, section: ScoreSection) -> Target:
        """What a worker has to know of its score table."""
        return Target(
            self.name,
            table.folder,
            self.folder,
            self.classes,
            self.by_fold,
            section.variants == "mean",
            section.patches,
        )

    def settings(self, section: ScoreSection, vectors: Mapping[str, Any]) -> dict[str, Any]:
        """The settings in the header of its score table."""
        found = {
            "splits": list(section.splits),
            "source": section.source,
            "variants": section.variants,
            "multi_label": self.heads.first.spec.multi_label,
            "columns": self._columns(section),
            "calibration": self.calibration,
            **self.about,
        }
        if section.patches:
            known = vectors.get("settings", {})
            found |= {name: known.get(name) for name in ("patch_s", "hop_s")}
        return found

    def _columns(self, section: ScoreSection) -> list[str]:
        """The optional columns of its score table."""
        found = list(self.heads.calibration.columns) if self.heads.calibration else []
        return found + (["patch_start_s", "patch_scores"] if section.patches else [])


def trained_systems(run: Run, vectors: Vectors) -> list[System]:
    """The systems of the recipe, from the heads that the jobs train and tune have made.

    Raises `TableError` for a head that is not there, or was trained on other vectors.
    """
    return [_trained(run, name, vectors) for name in run.recipe.trained]


def _trained(run: Run, name: str, vectors: Vectors) -> System:
    section, table = run.recipe.trained[name], run.head(name)
    header = table.complete_header()
    heads = Heads.load(table.folder)
    there = vectors[section.backbone]["vectors"]
    if heads.first.spec.embeddings != there:
        raise TableError(
            f"head {name!r} was trained on vectors of fingerprint "
            f"{heads.first.spec.embeddings}, embeddings/{section.backbone} has "
            f"{there}; train the head again"
        )
    parents = {f"heads/{name}": header.fingerprint}
    about = {"system": section.model_dump(mode="json")}
    folder = table.folder
    return System(name, section.backbone, folder, heads, header.fingerprint, parents, about)


def foreign_systems(run: Run, vectors: Vectors) -> list[System]:
    """The heads of `score.heads`, which other runs trained.

    Raises `InputError` for one that reads vectors which the recipe does not make.
    """
    section = run.recipe.score
    return [_foreign(run, *one, vectors) for one in section.heads.items()] if section else []


def _foreign(run: Run, name: str, place: str, vectors: Vectors) -> System:
    folder = run.input(place)
    heads = Heads.load(folder)
    spec = heads.first.spec
    table = next((t for t, one in vectors.items() if one["vectors"] == spec.embeddings), None)
    if table is None:
        raise InputError(misfit(name, folder, heads, vectors))
    content = {path: _sha256(folder, path) for path in _files(folder, heads)}
    known = {key: value for key, value in asdict(spec).items() if key != "trained_on"}
    about = {"bundle": {"url": masked(folder.url), "sha256": content, "spec": known}}
    return System(name, table, folder, heads, fingerprint("bundle", content), {}, about)


def _files(folder: Folder, heads: Heads) -> list[str]:
    """The files of a bundle that scores depend on: those of its members, and which those are."""
    places = [""] if "" in heads.members else [f"fold-{fold}/" for fold in heads.members]
    inside = [(folder / place.rstrip("/") if place else folder, place) for place in places]
    found = [f"{place}{name}" for at, place in inside for name in at.names() if _counts(name)]
    return found if "" in heads.members else [ENSEMBLE, *found]


def _counts(name: str) -> bool:
    return name == HEAD or name.endswith((".safetensors", ".skops"))


def _sha256(folder: Folder, path: str) -> str:
    place, _, name = path.rpartition("/")
    data = (folder / place if place else folder).read(name)
    return hashlib.sha256(data).hexdigest()

"""The job `score`: heads on embeddings, or on media in one pass; and scores of other programs."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from audioflow.engine.run import Run
from audioflow.engine.score_systems import System, Vectors, foreign_systems, trained_systems
from audioflow.tables import Header, fingerprint

if TYPE_CHECKING:
    from audioflow.engine.embed_actor import BackboneSpec

JOB = "score"


def score(run: Run) -> list[Header]:
    """Write `scores/<name>/` for every system of the recipe, and for every entry of `score.heads`
    and `score.imports`."""
    section = run.recipe.score
    assert section is not None
    headers = _imported(run)
    if not (run.recipe.trained or section.heads):
        return headers
    return headers + (_from_media(run) if section.source == "media" else _from_embeddings(run))


def _imported(run: Run) -> list[Header]:
    section = run.recipe.score
    if section is None or not section.imports:
        return []
    from audioflow.engine.score_imports import import_scores

    return [import_scores(run, name, choice) for name, choice in section.imports.items()]


def _from_embeddings(run: Run) -> list[Header]:
    from audioflow.engine.score_stored import score_stored

    assert run.recipe.embed is not None
    manifest = run.manifest().complete_header()
    tables = _needed(run, run.recipe.embed.tables)
    vectors = {name: run.embeddings(name).complete_header().settings for name in tables}
    return score_stored(run, manifest, _systems(run, vectors))


def _from_media(run: Run) -> list[Header]:
    from audioflow.engine.embed_plan import backbone_spec
    from audioflow.engine.score_media import score_media

    assert run.recipe.embed is not None
    manifest = run.manifest().complete_header()
    specs: dict[str, BackboneSpec] = {}
    vectors: dict[str, Mapping[str, Any]] = {}
    for name in _needed(run, run.recipe.embed.backbones):
        specs[name], settings = backbone_spec(run, name, run.recipe.embed.backbones[name])
        vectors[name] = settings | {"vectors": fingerprint(settings)}
    return score_media(run, manifest, _systems(run, vectors), (specs, vectors))


def _needed(run: Run, tables: Iterable[str]) -> list[str]:
    """Those of the tables that a head reads; all, where only the heads can tell."""
    assert run.recipe.score is not None
    mine = {system.backbone for system in run.recipe.trained.values()}
    return [name for name in tables if name in mine or run.recipe.score.heads]


def _systems(run: Run, vectors: Vectors) -> list[System]:
    return [*trained_systems(run, vectors), *foreign_systems(run, vectors)]

"""Why a head from elsewhere cannot score the vectors of a recipe: which settings differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from audioflow.redaction import masked
from audioflow.storage import Folder
from audioflow.systems.ensemble import Heads
from audioflow.tables import Header, Table

Vectors = Mapping[str, Mapping[str, Any]]
"""By table, the settings that determine its vectors; `vectors` is their fingerprint."""


def misfit(name: str, folder: Folder, heads: Heads, vectors: Vectors) -> str:
    """Why a head cannot be used: what its vectors were made with, where that is known."""
    spec = heads.first.spec
    ours = ", ".join(f"{table} has {one['vectors']}" for table, one in vectors.items())
    told = (
        f"score.heads.{name}: the head in {masked(folder.url)} reads vectors of fingerprint "
        f"{spec.embeddings}, made by {spec.backbone!r}, and {ours}"
    )
    theirs = _their_vectors(folder, spec.backbone)
    differing = {
        table: _differences(theirs.settings, one) if theirs else []
        for table, one in vectors.items()
    }
    table = min(differing, key=lambda one: (len(differing[one]), one != spec.backbone))
    if differing[table]:
        lines = "; ".join(differing[table])
        return f"{told}. In embed.backbones.{table} differs: {lines}. Give it the settings of then"
    return (
        f"{told}; give embed.backbones the backbone, and embed the settings (decoder, coverage, "
        "augment), that the head was trained with"
    )


def _their_vectors(folder: Folder, backbone: str) -> Header | None:
    """The header of the embeddings that a head was trained on, where its run is still there."""
    heads, _ = folder.split()
    run, place = heads.split()
    if place != "heads":
        return None
    return Table(run / "embeddings" / backbone).header()


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Settings that differ, each as in `settings.hop_s: 0.96 there, 0.48 here`."""
    flat = [dict(_flat(one)) for one in (theirs, ours)]
    return [
        f"{key}: {flat[0].get(key)!r} there, {flat[1].get(key)!r} here"
        for key in sorted({*flat[0], *flat[1]})
        if flat[0].get(key) != flat[1].get(key)
    ]


def _flat(settings: Mapping[str, Any], above: str = "") -> Sequence[tuple[str, Any]]:
    """What determines vectors, by key with dots."""
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        if not above and key in ("vectors", "weights", "layers"):
            continue
        if isinstance(value, dict):
            found += _flat(value, f"{above}{key}.")
        else:
            found.append((f"{above}{key}", value))
    return found

"""Clips and manifests straight from a reader, for tests of readers."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from ruamel.yaml import YAML

from audioflow.clip import Clip
from audioflow.datasets import READERS
from audioflow.manifest import build_manifest
from audioflow.recipe import ManifestSection
from audioflow.storage import Folder


def read(name: str, **options: Any) -> Sequence[Clip]:
    return list(READERS.build(name, options).read(Folder))


def by_id(clips: Sequence[Clip]) -> dict[str, Clip]:
    return {clip.clip_id: clip for clip in clips}


def manifest(name: str, options: dict[str, Any], **changes: Any) -> pa.Table:
    """The manifest of the reader's own recipe, its options being those of a tree."""
    recipe = YAML(typ="safe").load(READERS.load(name).about.recipe)
    section = recipe["manifest"] | options | changes
    return build_manifest(read(name, **options), ManifestSection(**section), name)

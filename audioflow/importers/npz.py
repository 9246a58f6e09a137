"""`npz`: cached features, a row per patch (arrays X and IDS; see `audioflow.npz`).

The form in which sklearn-audio-transfer-learning keeps them:
`training_data_<set>_<features>.npz`, `evaluation_data_<set>_<features>.npz`.

Shapes: N patches of a file, P of a clip, D width of a vector.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from audioflow.embeddings import ClipEmbedding
from audioflow.errors import InputError
from audioflow.importers.base import (
    Imported,
    ImporterSettings,
    LayerName,
    LocalFile,
    Place,
    Resolve,
)
from audioflow.npz import IDS, VECTORS, ClipPatches, PatchFile


class NpzImporterSettings(ImporterSettings):
    """files: paths or urls. layer: what the vectors are called. hop_s: distance between the starts
    of patches."""

    files: list[str] = Field(min_length=1)
    layer: LayerName = "embedding"
    hop_s: float = Field(1.0, gt=0)


class NpzImporter:
    """Cached features as one layer; the patches of a clip follow each other every `hop_s`."""

    Settings = NpzImporterSettings
    revision: ClassVar[int] = 1

    def __init__(self, settings: NpzImporterSettings) -> None:
        self.settings = settings

    def files(self, resolve: Resolve) -> Sequence[Place]:
        return [Place(resolve(path)) for path in self.settings.files]

    @property
    def layers(self) -> Sequence[str]:
        return (self.settings.layer,)

    def what_counts(self) -> Mapping[str, Any]:
        return self.settings.model_dump(mode="json", exclude={"files"})

    @contextlib.contextmanager
    def opened(self, files: Sequence[LocalFile]) -> Iterator[Imported]:
        """Raises `InputError` also where files differ in width, or have a clip in common."""
        found = _Vectors(self.settings, {}, {}, 0)
        first = files[0].url
        for file in files:
            patches = PatchFile(file.path, file.url)
            if found.width and patches.width != found.width:
                raise InputError(
                    f"{file.url}: {VECTORS} has the width {patches.width}, in {first} it has "
                    f"{found.width}; import files of different features as tables of their own"
                )
            clips = patches.clips(with_targets=False)
            if both := next((one for one in clips if one in found.places), None):
                raise InputError(
                    f"clip {both!r} ({IDS}) stands in {found.places[both][0]} and in {file.url}; "
                    "keep its patches in one file"
                )
            found.places.update((clip_id, (file.url, runs)) for clip_id, runs in clips.items())
            found.vectors[file.url] = patches.vectors()
            found.width = patches.width
        yield found


@dataclass
class _Vectors:
    """The vectors (N, D) of every file, and where those of each clip stand: file and rows."""

    settings: NpzImporterSettings
    vectors: dict[str, NDArray[Any]]
    places: dict[str, tuple[str, ClipPatches]]
    width: int

    @property
    def layers(self) -> Mapping[str, int]:
        return {self.settings.layer: self.width}

    @property
    def clip_ids(self) -> Collection[str]:
        return self.places.keys()

    def embedding(self, clip_id: str) -> ClipEmbedding:
        url, clip = self.places[clip_id]
        matrix = self.vectors[url]
        vectors_PD = np.concatenate([matrix[run] for run in clip.runs]).astype(np.float32)
        starts_P = np.arange(len(vectors_PD), dtype=np.float64) * self.settings.hop_s
        duration_s = len(vectors_PD) * self.settings.hop_s
        return ClipEmbedding({self.settings.layer: vectors_PD}, starts_P, duration_s, 1.0)

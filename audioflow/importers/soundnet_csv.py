"""`soundnet_csv`: text files of numbers, one per clip and layer, with `;` between numbers.

    snf/                      <- folder
      pool5/<id>.csv          256 numbers, one per line: the mean over time
      conv6/<id>.csv          512
      conv7/<id>.csv          1024

The form in which `extract_soundnet_feats.py` of the course 11-775 writes features of SoundNet, and
openSMILE its frames (39 numbers with `;` in every line, a line per frame). A file with one number
per line, or one line, is one vector; any other has a vector per line.

A clip is there where it has a file of every layer. Shapes: P vectors of a clip, D width of a layer.
"""

import contextlib
import warnings
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
    files_below,
)

_ENDING = ".csv"


class SoundNetCsvSettings(ImporterSettings):
    """folder: that with a folder per layer. layers: which of them. hop_s: between two vectors.

    delimiter: what separates numbers.
    """

    folder: str = Field(min_length=1)
    layers: list[LayerName] = Field(["pool5", "conv6", "conv7"], min_length=1)
    delimiter: str = Field(";", min_length=1, max_length=1)
    hop_s: float = Field(1.0, gt=0)


class SoundNetCsvImporter:
    """Text files as layers."""

    Settings = SoundNetCsvSettings
    revision: ClassVar[int] = 1

    def __init__(self, settings: SoundNetCsvSettings) -> None:
        self.settings = settings

    @property
    def layers(self) -> Sequence[str]:
        return self.settings.layers

    def files(self, resolve: Resolve) -> Sequence[Place]:
        expected = f"<layer>/<id>{_ENDING} of the layers {', '.join(self.layers)}"
        found = files_below(resolve(self.settings.folder), _ENDING, expected=expected)
        return [place for place in found if place.name.partition("/")[0] in self.layers]

    def what_counts(self) -> Mapping[str, Any]:
        return self.settings.model_dump(mode="json", exclude={"folder"})

    @contextlib.contextmanager
    def opened(self, files: Sequence[LocalFile]) -> Iterator[Imported]:
        """Raises `InputError` also where a layer has no file."""
        found: dict[str, dict[str, LocalFile]] = {layer: {} for layer in self.layers}
        for file in files:
            layer, _, name = file.name.partition("/")
            found.setdefault(layer, {})[name.removesuffix(_ENDING)] = file
        absent = [layer for layer in self.layers if not found[layer]]
        if absent:
            told = files[0].url if files else self.settings.folder
            raise InputError(
                f"{told}: it cannot be read, nor is there any other file of the layer "
                f"{absent[0]!r}; expected {absent[0]}/<id>{_ENDING}"
            )
        firsts = {layer: min(found[layer].items())[1] for layer in self.layers}
        delimiter = self.settings.delimiter
        widths = {layer: _numbers(file, delimiter).shape[1] for layer, file in firsts.items()}
        whole = set.intersection(*(set(found[layer]) for layer in self.layers))
        yield _Vectors(self.settings, widths, found, whole)


def _numbers(file: LocalFile, delimiter: str) -> NDArray[np.float32]:
    """The numbers of a file (P, D)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a file without a number
            found_PD = np.loadtxt(file.path, np.float32, delimiter=delimiter, ndmin=2)
    except (ValueError, OSError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{file.url}: it cannot be read as numbers: {why:.200}") from error
    if not found_PD.size or not np.isfinite(found_PD).all():
        raise InputError(f"{file.url} holds no number, or one that is not finite")
    return found_PD.T if found_PD.shape[1] == 1 else found_PD


@dataclass
class _Vectors:
    """Files by layer and clip; only `whole` clips have one of each."""

    settings: SoundNetCsvSettings
    layers: Mapping[str, int]
    files: Mapping[str, Mapping[str, LocalFile]]
    whole: Collection[str]

    @property
    def clip_ids(self) -> Collection[str]:
        return self.whole

    def embedding(self, clip_id: str) -> ClipEmbedding:
        if clip_id not in self.whole:
            raise KeyError(clip_id)
        hop_s = self.settings.hop_s
        found, count = {}, None
        for layer, width in self.layers.items():
            file = self.files[layer][clip_id]
            vectors_PD = _numbers(file, self.settings.delimiter)
            count = len(vectors_PD) if count is None else count
            if vectors_PD.shape != (count, width):
                raise InputError(
                    f"{file.url} holds {vectors_PD.shape[0]} x {vectors_PD.shape[1]} numbers; "
                    f"expected {count} x {width}, as other files of the layer, or of the clip, have"
                )
            found[layer] = vectors_PD
        starts_P = np.arange(count or 0, dtype=np.float64) * hop_s
        return ClipEmbedding(found, starts_P, len(starts_P) * hop_s, 1.0)

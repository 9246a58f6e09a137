"""`mel_npy`: spectrograms of patches in `.npy` files, a folder per clip.

    k600/val/abseiling/v_0347ZoDXyP0_000095_000105.wav/     a folder, named as the sound was
      v_0347ZoDXyP0_000095_000105_0.npy                     (64, 96) float32: mel bands x time
      v_0347ZoDXyP0_000095_000105_1.npy                     the next 0.96 s

The form in which the Kinetics-600 sound tracks of SoundtrackClassification are kept. A clip is
called by its folder and the one above; `key` says how it is found in the manifest (by default by
the name of the file). Patches stand where their numbers say, also where some are missing.

Shapes: P patches, M mel bands, V frames of a patch.
"""

import contextlib
import re
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
from audioflow.matching import KeyChoice, KeySettings
from audioflow.npy_arrays import numbers

_NAME = re.compile(r"(?:.*/)?([^/]+/[^/]+)/[^/]*_(\d{1,9})\.npy")
_EXPECTED = "<class>/<sound>/<sound>_<number>.npy, a folder per clip"
_ARRAY = "an array of two dimensions, mel bands x time"


class MelNpySettings(ImporterSettings):
    """folder: anywhere above the folders of clips. layer: what the spectrograms are called.

    hop_s: distance between patches. bands_first: whether arrays are mel x time, else time x mel.
    """

    key: KeyChoice = KeySettings(of="stem")
    folder: str = Field(min_length=1)
    layer: LayerName = "spectrogram"
    hop_s: float = Field(0.96, gt=0)
    bands_first: bool = True


class MelNpyImporter:
    """Spectrograms as one layer, a vector of bands per frame, as the backbone `logmel` has them."""

    Settings = MelNpySettings
    revision: ClassVar[int] = 1

    def __init__(self, settings: MelNpySettings) -> None:
        self.settings = settings

    @property
    def layers(self) -> Sequence[str]:
        return (self.settings.layer,)

    def files(self, resolve: Resolve) -> Sequence[Place]:
        return files_below(resolve(self.settings.folder), ".npy", expected=_EXPECTED)

    def what_counts(self) -> Mapping[str, Any]:
        return self.settings.model_dump(mode="json", exclude={"folder"})

    @contextlib.contextmanager
    def opened(self, files: Sequence[LocalFile]) -> Iterator[Imported]:
        """Raises `InputError` also for names without a folder and a number."""
        clips: dict[str, dict[int, LocalFile]] = {}
        for file in files:
            found = _NAME.fullmatch(file.name)
            if found is None:
                raise InputError(f"{file.url}: it cannot be read whose it is; expected {_EXPECTED}")
            patches = clips.setdefault(found.group(1), {})
            other = patches.setdefault(int(found.group(2)), file)
            if other is not file:
                raise InputError(
                    f"{file.url} and {other.url} are the same patch of {found.group(1)!r}; keep "
                    "one of them"
                )
        first = min(min(clips.items())[1].items())[1]
        yield _Spectrograms(self.settings, _frames(first, self.settings).shape, clips)


def _frames(file: LocalFile, settings: MelNpySettings) -> NDArray[Any]:
    """The array of a file (V, M)."""
    found = numbers(file, _ARRAY)
    if found.ndim != 2 or not found.size:
        raise InputError(f"{file.url} holds {found.shape} {found.dtype}; expected {_ARRAY}")
    return found.T if settings.bands_first else found


@dataclass
class _Spectrograms:
    """Files by clip and number of the patch; every array is (V, M)."""

    settings: MelNpySettings
    shape: tuple[int, ...]
    clips: Mapping[str, Mapping[int, LocalFile]]

    @property
    def layers(self) -> Mapping[str, int]:
        return {self.settings.layer: self.shape[1]}

    @property
    def clip_ids(self) -> Collection[str]:
        return self.clips.keys()

    def embedding(self, clip_id: str) -> ClipEmbedding:
        patches = sorted(self.clips[clip_id].items())
        frames = []
        for _, file in patches:
            frames_VM = np.asarray(_frames(file, self.settings), np.float32)
            if frames_VM.shape != self.shape or not np.isfinite(frames_VM).all():
                raise InputError(
                    f"{file.url} holds {frames_VM.shape[0]} frames of {frames_VM.shape[1]} bands; "
                    f"expected {self.shape[0]} of {self.shape[1]} as in other files, all finite"
                )
            frames.append(frames_VM)
        hop_s = self.settings.hop_s
        starts_P = np.array([number for number, _ in patches], np.float64) * hop_s
        layers = {self.settings.layer: np.concatenate(frames)}
        return ClipEmbedding(layers, starts_P, float(starts_P[-1]) + hop_s, 1.0)

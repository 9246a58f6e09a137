"""What every backbone offers, and how a shard's media goes through one.

Shapes: P patches, T samples of a patch, F frames of a clip, H and W their size, D width of a layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioflow.embeddings import ClipEmbedding
from audioflow.errors import MediaError
from audioflow.media.packing import PicturesWindow
from audioflow.media.parts import FrameSampling
from audioflow.media.patches import Patching, Stretch, cut_patches
from audioflow.registry import Settings


class Backbone(Protocol):
    """A network or recipe: patches in, one vector per patch and layer out.

    `revision` goes up whenever the same input would give other vectors, so that tables made before
    are made again. `input` says which media it takes; `layers` names its outputs and their widths.
    """

    Settings: ClassVar[type[Settings]]
    revision: ClassVar[int]

    def __init__(self, settings: Any) -> None: ...

    @property
    def input(self) -> Patching | FrameSampling:
        """Sound cut in this way, or pictures sampled in this way."""
        ...

    @property
    def layers(self) -> Mapping[str, int]:
        """Layer name -> width D."""
        ...

    def to(self, device: torch.device) -> None:
        """Load weights, if any, and move to the device."""
        ...

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """Sound: int16 (P, T) -> (P, D) per layer. Pictures: uint8 (F, H, W, 3) -> (F, D)."""
        ...


@dataclass(frozen=True)
class Limits:
    """How much goes through a sound backbone at once.

    On a CPU small batches stay in its cache: `acoustic` is 1.7 times as fast with 32 as with 256.
    """

    patches_per_batch: int = 32
    samples_per_batch: int = 2**23

    def batch_size(self, patch_samples: int) -> int:
        """Patches of this length per batch."""
        return max(1, min(self.patches_per_batch, self.samples_per_batch // patch_samples))


@dataclass(frozen=True)
class Heard:
    """A stretch of sound to embed: of which clip (its position in the shard), in which variant."""

    clip: int
    stretch: Stretch
    variant: int = 0
    offset_s: float = 0.0
    """Added to the times of its patches: where the waveform begins in the clip."""


@dataclass(frozen=True)
class ClipPart:
    """What a backbone gave of a clip, or of a part of it, by its position in the shard.

    Length and coverage of the embedding are not set, except for the length of a variant.
    """

    clip: int
    embedding: ClipEmbedding


def embed_sound(
    backbone: Backbone, heard: Sequence[Heard], device: torch.device, limits: Limits
) -> list[ClipPart | tuple[int, MediaError]]:
    """Embed stretches of many clips, batched over all their patches.

    In the place of a clip that is too short for a patch stands its position and the error.
    """
    patching = backbone.input
    assert isinstance(patching, Patching)
    cut = [_cut(item, patching) for item in heard]
    windows = [part.windows_PT for part in cut if isinstance(part, _Patches)]
    layers = _in_batches(backbone, windows, device, limits.batch_size(patching.patch_samples))
    found: list[ClipPart | tuple[int, MediaError]] = []
    position = 0
    for part in cut:
        if isinstance(part, tuple):
            found.append(part)
            continue
        end = position + len(part.start_s)
        vectors = {name: matrix[position:end] for name, matrix in layers.items()}
        length_s = part.heard.stretch.samples.size / patching.sample_rate_hz
        variant = part.heard.variant
        embedding = ClipEmbedding(vectors, part.start_s, length_s if variant else 0.0, 0.0, variant)
        found.append(ClipPart(part.heard.clip, embedding))
        position = end
    return found


@dataclass(frozen=True)
class _Patches:
    """A stretch, its patches as a view (P, T), and where they begin (P,) in seconds."""

    heard: Heard
    windows_PT: NDArray[np.int16]
    start_s: NDArray[np.float64]


def _cut(heard: Heard, patching: Patching) -> _Patches | tuple[int, MediaError]:
    try:
        windows, starts = cut_patches(heard.stretch, patching)
    except MediaError as error:
        return heard.clip, error
    return _Patches(heard, windows, starts + heard.offset_s)


def embed_pictures(
    backbone: Backbone, windows: Sequence[PicturesWindow], device: torch.device
) -> list[ClipPart]:
    """Embed the sampled frames of many clips, clip by clip: their picture sizes differ."""
    found: list[ClipPart] = []
    for window in windows:
        if len(window.frames):
            with torch.inference_mode():
                layers = backbone.embed(torch.from_numpy(window.frames.copy()).to(device))
            vectors = {name: _array(matrix) for name, matrix in layers.items()}
            found.append(ClipPart(window.clip, ClipEmbedding(vectors, window.time_s, 0.0, 0.0)))
    return found


def _in_batches(
    backbone: Backbone, windows: Sequence[NDArray[np.int16]], device: torch.device, size: int
) -> dict[str, NDArray[np.float32]]:
    """Vectors (sum of P, D) of all patches of all clips; `size` patches at once."""
    outputs: dict[str, list[NDArray[np.float32]]] = {
        name: [np.zeros((0, width), np.float32)] for name, width in backbone.layers.items()
    }
    with torch.inference_mode():
        for batch in _batches(windows, size):
            for name, matrix in backbone.embed(torch.from_numpy(batch).to(device)).items():
                outputs[name].append(_array(matrix))
    return {name: np.concatenate(parts) for name, parts in outputs.items()}


def _batches(windows: Sequence[NDArray[np.int16]], size: int) -> Iterator[NDArray[np.int16]]:
    """Patches in order, `size` at a time. Only these are copied: patches overlap, so all of them
    together may be many times the waveforms."""
    parts: list[NDArray[np.int16]] = []
    count = 0
    for patches in windows:
        begin = 0
        while begin < len(patches):
            parts.append(patches[begin : begin + size - count])
            begin += len(parts[-1])
            count += len(parts[-1])
            if count == size:
                yield np.concatenate(parts)
                parts, count = [], 0
    if parts:
        yield np.concatenate(parts)


def _array(matrix: Tensor) -> NDArray[np.float32]:
    return matrix.to("cpu", torch.float32).numpy()

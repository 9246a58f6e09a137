"""What every backbone offers, and how a shard's media goes through one.

Shapes: P patches, T samples of a patch, F frames of a clip, H and W their size, D width of a layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioflow.embeddings import ClipEmbedding
from audioflow.errors import MediaError
from audioflow.media.packing import Waveform
from audioflow.media.patches import Patching, cut_patches
from audioflow.media.pictures import FrameSampling, Pictures
from audioflow.registry import Settings

Media = TypeVar("Media", Waveform, Pictures)


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
    """How much goes through a sound backbone at once, and what share of a clip must be decoded."""

    patches_per_batch: int = 256
    samples_per_batch: int = 2**23
    min_coverage: float = 0.9

    def batch_size(self, patch_samples: int) -> int:
        """Patches of this length per batch."""
        return max(1, min(self.patches_per_batch, self.samples_per_batch // patch_samples))


def embed_sound(
    backbone: Backbone, clips: Sequence[Waveform | MediaError], device: torch.device, limits: Limits
) -> list[ClipEmbedding | MediaError]:
    """Embed the waveforms of many clips, batched over all their patches."""
    patching = backbone.input
    assert isinstance(patching, Patching)
    cut = [_cut(clip, patching, limits) for clip in clips]
    windows = [part.windows_PT for part in cut if isinstance(part, _Patches)]
    layers = _in_batches(backbone, windows, device, limits.batch_size(patching.patch_samples))
    found: list[ClipEmbedding | MediaError] = []
    position = 0
    for part in cut:
        if isinstance(part, MediaError):
            found.append(part)
            continue
        end = position + len(part.start_s)
        vectors = {name: matrix[position:end] for name, matrix in layers.items()}
        clip = part.clip
        found.append(ClipEmbedding(vectors, part.start_s, clip.duration_s, clip.coverage))
        position = end
    return found


@dataclass(frozen=True)
class _Patches:
    """A clip, its patches as a view (P, T), and where they begin (P,) in seconds."""

    clip: Waveform
    windows_PT: NDArray[np.int16]
    start_s: NDArray[np.float64]


def _cut(clip: Waveform | MediaError, patching: Patching, limits: Limits) -> _Patches | MediaError:
    try:
        covered = _covered(clip, limits)
        return _Patches(covered, *cut_patches(covered.samples, patching))
    except MediaError as error:
        return error


def embed_pictures(
    backbone: Backbone, clips: Sequence[Pictures | MediaError], device: torch.device, limits: Limits
) -> list[ClipEmbedding | MediaError]:
    """Embed the sampled frames of many clips, clip by clip: their picture sizes differ."""
    found: list[ClipEmbedding | MediaError] = []
    for clip in clips:
        try:
            pictures = _covered(clip, limits)
        except MediaError as error:
            found.append(error)
            continue
        with torch.inference_mode():
            layers = backbone.embed(torch.from_numpy(pictures.frames.copy()).to(device))
        vectors = {name: _array(matrix) for name, matrix in layers.items()}
        found.append(
            ClipEmbedding(vectors, pictures.time_s, pictures.duration_s, pictures.coverage)
        )
    return found


def _covered(clip: Media | MediaError, limits: Limits) -> Media:
    if isinstance(clip, MediaError):
        raise clip
    if clip.coverage < limits.min_coverage - 1e-6:  # it was float32 on its way
        raise MediaError(
            "truncated",
            f"{clip.coverage:.1%} of it could be decoded ({clip.duration_s:.2f} s); "
            f"embed.min_coverage asks for {limits.min_coverage:.1%}",
        )
    return clip


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

"""What every backbone offers, and how a shard's media goes through one.

Shapes: P patches, T samples of a patch, F frames of a clip, H and W their size, D width of a layer.
"""

from collections.abc import Mapping, Sequence
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
    """How many patches go through a sound backbone at once, and what share must be decoded."""

    patches_per_batch: int = 256
    min_coverage: float = 0.9


def embed_sound(
    backbone: Backbone, clips: Sequence[Waveform | MediaError], device: torch.device, limits: Limits
) -> list[ClipEmbedding | MediaError]:
    """Embed the waveforms of many clips, batched over all their patches."""
    patching = backbone.input
    assert isinstance(patching, Patching)
    cut: list[tuple[NDArray[np.int16], NDArray[np.float64]] | MediaError] = []
    for clip in clips:
        try:
            cut.append(cut_patches(_covered(clip, limits).samples, patching))
        except MediaError as error:
            cut.append(error)
    layers = _in_batches(
        backbone, [c[0] for c in cut if not isinstance(c, MediaError)], device, limits
    )
    found: list[ClipEmbedding | MediaError] = []
    position = 0
    for clip, patches in zip(clips, cut, strict=True):
        if isinstance(patches, MediaError) or isinstance(clip, MediaError):
            found.append(patches if isinstance(patches, MediaError) else clip)  # type: ignore[arg-type]
            continue
        end = position + len(patches[0])
        vectors = {name: matrix[position:end] for name, matrix in layers.items()}
        found.append(ClipEmbedding(vectors, patches[1], clip.duration_s, clip.coverage))
        position = end
    return found


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
    if clip.coverage < limits.min_coverage:
        raise MediaError(
            "truncated",
            f"{clip.coverage:.0%} of it could be decoded ({clip.duration_s:.2f} s); "
            f"embed.min_coverage asks for {limits.min_coverage:.0%}",
        )
    return clip


def _in_batches(
    backbone: Backbone, patches: Sequence[NDArray[np.int16]], device: torch.device, limits: Limits
) -> dict[str, NDArray[np.float32]]:
    if not patches:
        return {name: np.zeros((0, width), np.float32) for name, width in backbone.layers.items()}
    joined = np.concatenate(patches)
    outputs: dict[str, list[NDArray[np.float32]]] = {name: [] for name in backbone.layers}
    with torch.inference_mode():
        for start in range(0, len(joined), limits.patches_per_batch):
            batch = torch.from_numpy(joined[start : start + limits.patches_per_batch]).to(device)
            for name, matrix in backbone.embed(batch).items():
                outputs[name].append(_array(matrix))
    return {name: np.concatenate(parts) for name, parts in outputs.items()}


def _array(matrix: Tensor) -> NDArray[np.float32]:
    return matrix.to("cpu", torch.float32).numpy()

"""How the media of many clips goes through a backbone, batched over all their patches.

Shapes: P patches, T samples of a patch, F frames of a clip, N frames of a patch, H and W their
size, D width of a layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioflow.backbones.base import Backbone
from audioflow.embeddings import ClipEmbedding
from audioflow.errors import AudioflowError, MediaError
from audioflow.media.packing import PicturesWindow
from audioflow.media.parts import FramePatching
from audioflow.media.patches import Patching, Stretch, cut_frames, cut_patches


@dataclass
class Fill:
    """How many patches went through, and how many would have in batches that were all full."""

    patches: int = 0
    slots: int = 0

    def add(self, patches: int, size: int) -> None:
        """Patches that go through `size` at a time."""
        self.patches += patches
        self.slots += -(-patches // size) * size


@dataclass(frozen=True)
class Limits:
    """How much goes through a backbone at once; fill: how much went through so far.

    On a CPU small batches stay in its cache: `acoustic` is 1.7 times as fast with 32 as with 256.
    """

    patches_per_batch: int = 32
    values_per_batch: int = 2**23
    fill: Fill = field(default_factory=Fill, compare=False)

    def batch_size(self, patch_values: int) -> int:
        """Patches of so many samples, or values of pixels, per batch."""
        return max(1, min(self.patches_per_batch, self.values_per_batch // max(1, patch_values)))


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
    vectors = iter(_in_batches(backbone, windows, device, limits))
    found: list[ClipPart | tuple[int, MediaError]] = []
    for part in cut:
        if isinstance(part, tuple):
            found.append(part)
            continue
        length_s = part.heard.stretch.samples.size / patching.sample_rate_hz
        variant = part.heard.variant
        length_s = length_s if variant else 0.0
        embedding = ClipEmbedding(next(vectors), part.start_s, length_s, 0.0, variant)
        found.append(ClipPart(part.heard.clip, embedding))
    return found


@dataclass(frozen=True)
class _Patches:
    """A stretch, its patches as a view (P, T), and where they begin (P,) in seconds."""

    heard: Heard
    windows_PT: NDArray[Any]
    start_s: NDArray[np.float64]


def _cut(heard: Heard, patching: Patching) -> _Patches | tuple[int, MediaError]:
    try:
        windows, starts = cut_patches(heard.stretch, patching)
    except MediaError as error:
        return heard.clip, error
    return _Patches(heard, windows, starts + heard.offset_s)


def embed_pictures(
    backbone: Backbone, windows: Sequence[PicturesWindow], device: torch.device, limits: Limits
) -> list[ClipPart]:
    """Embed the sampled frames of many clips, batched over those whose pictures have one size."""
    patching = backbone.input
    assert isinstance(patching, FramePatching)
    cut = [(window.clip, *cut_frames(window.stretch, patching)) for window in windows]
    cut = [part for part in cut if len(part[1])]
    vectors = _in_batches(backbone, [patches for _, patches, _ in cut], device, limits)
    return [
        ClipPart(clip, ClipEmbedding(layers, time_s, 0.0, 0.0))
        for (clip, _, time_s), layers in zip(cut, vectors, strict=True)
    ]


def _in_batches(
    backbone: Backbone, clips: Sequence[NDArray[Any]], device: torch.device, limits: Limits
) -> list[dict[str, NDArray[np.float32]]]:
    """Vectors (sum of all patches', D) per layer of every clip, given its patches (P, ...).

    Patches of one shape go together, whichever clips they are of.
    """
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, patches in enumerate(clips):
        by_shape.setdefault(patches.shape[1:], []).append(number)
    found: list[dict[str, NDArray[np.float32]]] = [{} for _ in clips]
    for shape, numbers in by_shape.items():
        size = limits.batch_size(int(np.prod(shape)))
        limits.fill.add(sum(len(clips[number]) for number in numbers), size)
        layers = _of_one_shape(backbone, [clips[number] for number in numbers], device, size)
        begin = 0
        for number in numbers:
            end = begin + len(clips[number])
            for name, vectors_PLD in layers.items():
                width = vectors_PLD.shape[-1]
                found[number][name] = vectors_PLD[begin:end].reshape(-1, width)
            begin = end
    return found


def _of_one_shape(
    backbone: Backbone, clips: Sequence[NDArray[Any]], device: torch.device, size: int
) -> dict[str, NDArray[np.float32]]:
    """Vectors (sum of P, L, D) per layer; `size` patches at once, fewer where memory runs out."""
    outputs: dict[str, list[Tensor]] = {name: [] for name in backbone.layers}
    with torch.inference_mode():
        for batch in _batches(clips, size):
            for part in _embedded(backbone, _sent(batch, device)):
                for name, vectors in part.items():
                    outputs[name].append(vectors if vectors.ndim == 3 else vectors[:, None])
        return {
            name: torch.cat(parts).to("cpu", torch.float32).numpy()
            if parts
            else np.zeros((0, 1, backbone.layers[name]), np.float32)
            for name, parts in outputs.items()
        }


def _sent(batch: NDArray[Any], device: torch.device) -> Tensor:
    """The batch on the device. To a GPU it is copied while the one before is being computed."""
    tensor = torch.from_numpy(batch)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _embedded(backbone: Backbone, batch: Tensor) -> list[Mapping[str, Tensor]]:
    """The layers of a batch, in parts where the whole does not fit the device's memory."""
    try:
        return [backbone.embed(batch)]
    except torch.OutOfMemoryError as error:
        if len(batch) == 1:
            shape = tuple(batch.shape[1:])
            raise AudioflowError(
                f"one patch of shape {shape} is too much for the memory of {batch.device}: {error}"
            ) from error
    torch.cuda.empty_cache()
    half = len(batch) // 2
    return _embedded(backbone, batch[:half]) + _embedded(backbone, batch[half:])


def _batches(clips: Sequence[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
    """Patches in order, `size` at a time. Only these are copied: patches overlap, so all of them
    together may be many times the waveforms."""
    parts: list[NDArray[Any]] = []
    count = 0
    for patches in clips:
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

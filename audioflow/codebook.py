"""Learning the codebook of `mfcc_bof`: k-means over a random share of the frames of many clips.

Shapes: N samples of a waveform, F frames, K clusters.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from audioflow.errors import InputError, StorageError
from audioflow.frontend.mfcc import WIDTH, WINDOW, mfcc_0_d_a

MOST_FRAMES = 1_000_000
"""Kept of all that are drawn: 156 MB, and many times what 50 centres need."""
_FEW = 200_000
"""Frames up to which k-means sees all of them in every step."""


@dataclass(frozen=True)
class Codebook:
    """Cluster centres (K, 39) float32, and from how many frames (of how many drawn) they are."""

    centres: NDArray[np.float32]
    num_frames: int
    num_drawn: int


def fit_codebook(
    waveforms: Iterable[NDArray[np.int16]], clusters: int = 50, share: float = 0.2, seed: int = 0
) -> Codebook:
    """Cluster `share` of the frames of waveforms (N,) at 16 kHz, drawn at random.

    The same for the same waveforms, in the same order, and seed. Waveforms shorter than a frame
    (25 ms) give none. Raises `InputError` where there are fewer frames than clusters.
    """
    drawn = _Drawn(seed)
    for samples in waveforms:
        if samples.size >= WINDOW:
            frames = mfcc_0_d_a(torch.from_numpy(np.array(samples)[None]))[0].float().numpy()
            drawn.add(frames, share)
    frames = drawn.frames()
    if len(np.unique(frames, axis=0)) < clusters:
        raise InputError(
            f"the clips give {len(frames)} frames to cluster (share {share:g}), and {clusters} "
            "clusters need as many that differ: give more clips, a larger share or fewer clusters"
        )
    return Codebook(_clustered(frames, clusters, seed), len(frames), drawn.count)


class _Drawn:
    """A random share of all frames, of bounded size whatever comes."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._parts: list[NDArray[np.float32]] = []
        self._tickets: list[NDArray[np.float64]] = []
        self._held = 0
        self.count = 0

    def add(self, frames_FC: NDArray[np.float32], share: float) -> None:
        chosen = self._random.random(len(frames_FC)) < share
        self._parts.append(frames_FC[chosen])
        self._tickets.append(self._random.random(int(chosen.sum())))
        self.count += int(chosen.sum())
        self._held += int(chosen.sum())
        if self._held > 2 * MOST_FRAMES:
            self._shrink()

    def frames(self) -> NDArray[np.float32]:
        """(F, 39)"""
        self._shrink()
        return self._parts[0]

    def _shrink(self) -> None:
        """Keep those with the lowest tickets: a fair draw from all that ever came."""
        frames = np.concatenate([np.zeros((0, WIDTH), np.float32), *self._parts])
        tickets = np.concatenate([np.zeros(0), *self._tickets])
        if len(frames) > MOST_FRAMES:
            kept = np.sort(np.argpartition(tickets, MOST_FRAMES)[:MOST_FRAMES])
            frames, tickets = frames[kept], tickets[kept]
        self._parts, self._tickets, self._held = [frames], [tickets], len(frames)


def _clustered(frames_FC: NDArray[np.float32], clusters: int, seed: int) -> NDArray[np.float32]:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if len(frames_FC) <= _FEW:
        means = KMeans(clusters, n_init=3, random_state=seed)
    else:
        means = MiniBatchKMeans(clusters, n_init=3, batch_size=8192, random_state=seed)
    centres: NDArray[np.float32] = means.fit(frames_FC).cluster_centers_.astype(np.float32)
    return centres


def save_codebook(codebook: Codebook, path: str) -> None:
    """Write a codebook as safetensors, for the setting `codebook` of `mfcc_bof`.

    Raises `StorageError` where the file cannot be written.
    """
    from safetensors.numpy import save

    told = {"frames": str(codebook.num_frames), "drawn": str(codebook.num_drawn)}
    try:
        Path(path).write_bytes(save({"centres": codebook.centres}, metadata=told))
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error

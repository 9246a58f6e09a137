"""Golden vectors of `acoustic`: its descriptors frame by frame, in NumPy and SciPy and float64.

Shapes: F frames, K frequency bins, M mel bands.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from audioflow.goldens import Case, batch

Array = NDArray[np.float64]

CASES = (Case("one_second", (3, 22_050)), Case("short", (2, 5_000), {"patch_s": 5_000 / 22_050}))
RATE_HZ = 22_050
N_FFT = 2048
HOP = 512
NUM_MELS = 128
BINS_HZ = np.arange(N_FFT // 2 + 1) * RATE_HZ / N_FFT
TINY = 1e-10


def reference(case: Case) -> dict[str, NDArray[Any]]:
    """(P, 108): means, spreads, and the spread of the MFCC's changes."""
    return {"embedding": np.stack([_described(patch / 32767.0) for patch in batch(case)])}


def _described(waveform: Array) -> Array:
    padded = np.pad(waveform, N_FFT // 2, mode="reflect")
    starts = range(0, len(padded) - N_FFT + 1, HOP)
    frames = [padded[start : start + N_FFT] for start in starts]
    window = signal.get_window("hann", N_FFT)
    powers = [np.abs(np.fft.rfft(frame * window)) ** 2 for frame in frames]
    mel_KM = _mel()
    mfcc = np.stack([fft.dct(_decibel(power @ mel_KM), norm="ortho")[:20] for power in powers])
    others = [
        [*_chroma(power), *_shape(power), *_contrast(power), *_level(frame)]
        for power, frame in zip(powers, frames, strict=True)
    ]
    every = np.concatenate([mfcc, np.array(others)], axis=1)
    return np.concatenate(
        [every.mean(axis=0), every.std(axis=0), np.diff(mfcc, axis=0).std(axis=0)]
    )


def _decibel(power: Any) -> Any:
    return 10 * np.log10(np.maximum(power, TINY))


def _mel() -> Array:
    """(K, M) triangles on Slaney's scale (linear to 1 kHz, then 27 steps per factor 6.4)."""
    top = 15 + 27 * np.log(RATE_HZ / 2 / 1000) / np.log(6.4)
    steps = np.linspace(0, top, NUM_MELS + 2)
    corners = [step * 200 / 3 if step < 15 else 1000 * 6.4 ** ((step - 15) / 27) for step in steps]
    filters = np.zeros((len(BINS_HZ), NUM_MELS))
    for band in range(NUM_MELS):
        low, middle, high = corners[band : band + 3]
        height = 2 / (high - low)
        filters[:, band] = np.interp(BINS_HZ, [low, middle, high], [0, height, 0])
    return filters


def _chroma(power: Array) -> Array:
    """Twelve pitch classes, C first: every bin from 55 Hz up, spread over those near it."""
    classes = np.zeros(12)
    for hz, strength in zip(BINS_HZ[1:], power[1:], strict=True):
        if hz < 55:
            continue
        pitch = 9 + 12 * np.log2(hz / 440)
        away = np.abs((pitch - np.arange(12) + 6) % 12 - 6)
        near = np.exp(-2 * away**2)
        classes += strength * near / near.sum()
    return classes / max(classes.max(), TINY)


def _shape(power: Array) -> list[float]:
    """Centroid in octaves from 1 kHz, bandwidth in kHz, roll-off in octaves from 1 kHz."""
    magnitude = np.sqrt(power)
    total = max(magnitude.sum(), TINY)
    centroid = (magnitude * BINS_HZ).sum() / total
    spread = np.sqrt((magnitude * (BINS_HZ - centroid) ** 2).sum() / total)
    reached = np.cumsum(magnitude)
    roll_off = BINS_HZ[np.flatnonzero(reached >= 0.85 * reached[-1])[0]]
    centroid, roll_off = max(centroid, 31.25), max(roll_off, 31.25)
    return [np.log2(centroid / 1000), spread / 1000, np.log2(roll_off / 1000)]


def _contrast(power: Array) -> list[float]:
    """dB between the strongest and the weakest 2 % of the bins, in seven bands."""
    edges_hz = [0, 200, 400, 800, 1600, 3200, 6400, 11_025]
    edges = [round(hz * (len(BINS_HZ) - 1) / (RATE_HZ / 2)) for hz in edges_hz]
    found = []
    for low, high in pairwise(edges):
        ordered = np.sort(power[low : high + 1])
        count = max(1, round(0.02 * len(ordered)))
        found.append(_decibel(ordered[-count:].mean()) - _decibel(ordered[:count].mean()))
    return found


def _level(frame: Array) -> list[float]:
    """RMS in dB, and the share of neighbours of different sign."""
    negative = frame < 0
    crossings = sum(one != other for one, other in pairwise(negative))
    return [_decibel((frame**2).mean()), crossings / (len(frame) - 1)]

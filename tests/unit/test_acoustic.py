"""`acoustic` and its frontend, against formulas in NumPy and SciPy and against known sounds.

Shapes: F frames, K frequency bins.
"""

import numpy as np
import pytest
import torch
import torchaudio
from scipy import fft, signal

from audioflow import frontend
from audioflow.backbones import BACKBONES
from audioflow.backbones import acoustic as module

RATE = module.SAMPLE_RATE_HZ
BINS_HZ = np.linspace(0, RATE / 2, module.N_FFT // 2 + 1)
NAMES = (
    [f"mfcc{i}" for i in range(20)]
    + [f"chroma{i}" for i in range(12)]
    + ["centroid", "bandwidth", "roll_off"]
    + [f"contrast{i}" for i in range(7)]
    + ["level", "crossings"]
)
A = 9  # pitch classes count from C


def sine(hz: float, peak: float = 0.5, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return np.rint(peak * 32767 * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def noise(seed: int = 0, seconds: float = 1.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0, 3000, round(seconds * RATE))
    return values.clip(-32767, 32767).astype(np.int16)


def embed(*waveforms: np.ndarray) -> np.ndarray:
    backbone = BACKBONES.build("acoustic", {"patch_s": len(waveforms[0]) / RATE})
    with torch.inference_mode():
        return backbone.embed(torch.from_numpy(np.stack(waveforms)))["embedding"].numpy()


def described(waveform: np.ndarray) -> dict[str, float]:
    """Means by name, standard deviations by name + `_std`."""
    vector = embed(waveform)[0]
    assert vector.shape == (2 * len(NAMES) + 20,)
    spread = {f"{name}_std": vector[len(NAMES) + i] for i, name in enumerate(NAMES)}
    change = {f"change{i}": vector[2 * len(NAMES) + i] for i in range(20)}
    return dict(zip(NAMES, vector, strict=False)) | spread | change


# The same by other means


def power_FK(waveform: np.ndarray) -> np.ndarray:
    """Power of a centred STFT with a periodic Hann window, by NumPy's FFT."""
    x = np.pad(waveform / 32767.0, module.N_FFT // 2, mode="reflect")
    window = signal.get_window("hann", module.N_FFT)
    starts = range(0, len(x) - module.N_FFT + 1, module.HOP)
    return np.stack([np.abs(np.fft.rfft(x[s : s + module.N_FFT] * window)) ** 2 for s in starts])


def slaney_mel_KM() -> np.ndarray:
    """Triangles on Slaney's scale: linear to 1 kHz, then 27 steps per factor 6.4; equal areas."""

    def hz(mel):
        return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))

    top = 15 + 27 * np.log(RATE / 2 / 1000) / np.log(6.4)
    points = hz(np.linspace(0, top, module.NUM_MELS + 2))
    rising = (BINS_HZ[:, None] - points[:-2]) / np.diff(points)[:-1]
    falling = (points[2:] - BINS_HZ[:, None]) / np.diff(points)[1:]
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (points[2:] - points[:-2])


def reference(waveform: np.ndarray) -> np.ndarray:
    """The 108 numbers of one patch."""
    power = power_FK(waveform)
    mel_db = 10 * np.log10(np.maximum(power @ slaney_mel_KM(), 1e-10))
    mfcc = fft.dct(mel_db, type=2, norm="ortho", axis=1)[:, :20]
    matrix = np.concatenate([mfcc, *others(power, waveform)], axis=1)
    change = np.diff(mfcc, axis=0).std(axis=0)
    return np.concatenate([matrix.mean(axis=0), matrix.std(axis=0), change])


def others(power: np.ndarray, waveform: np.ndarray):
    chroma = []
    for row in power:
        classes = np.zeros(12)
        for hz, strength in zip(BINS_HZ, row, strict=True):
            if hz >= 55:
                away = [
                    min(
                        (12 * np.log2(hz / 440) + 9 - k) % 12, (k - 12 * np.log2(hz / 440) - 9) % 12
                    )
                    for k in range(12)
                ]
                share = np.exp(-0.5 * (np.array(away) / 0.5) ** 2)
                classes += strength * share / share.sum()
        chroma.append(classes / classes.max())
    magnitude = np.sqrt(power)
    total = magnitude.sum(axis=1)
    centroid = magnitude @ BINS_HZ / total
    bandwidth = np.sqrt((magnitude * (BINS_HZ - centroid[:, None]) ** 2).sum(axis=1) / total)
    place = [np.argmax(np.cumsum(row) >= 0.85 * row.sum()) for row in magnitude]
    shape = np.stack(
        [np.log2(centroid / 1000), bandwidth / 1000, np.log2(BINS_HZ[place] / 1000)], axis=1
    )
    return chroma, shape, contrast(power), levels(waveform)


def contrast(power: np.ndarray) -> np.ndarray:
    edges = np.round(np.array([0, 200, 400, 800, 1600, 3200, 6400, 11_025]) / (RATE / 2) * 1024)
    bands = []
    for low, high in zip(edges[:-1].astype(int), edges[1:].astype(int), strict=True):
        ordered = np.sort(power[:, low : high + 1], axis=1)
        count = max(1, round(0.02 * ordered.shape[1]))
        peak, valley = ordered[:, -count:].mean(axis=1), ordered[:, :count].mean(axis=1)
        bands.append(10 * np.log10(np.maximum(peak, 1e-10) / np.maximum(valley, 1e-10)))
    return np.stack(bands, axis=1)


def levels(waveform: np.ndarray) -> np.ndarray:
    x = np.pad(waveform / 32767.0, module.N_FFT // 2, mode="reflect")
    found = []
    for start in range(0, len(x) - module.N_FFT + 1, module.HOP):
        frame = x[start : start + module.N_FFT]
        crossings = np.mean((frame[1:] < 0) != (frame[:-1] < 0))
        found.append([20 * np.log10(np.sqrt(np.mean(frame**2))), crossings])
    return np.array(found)


@pytest.mark.parametrize(
    ("waveform", "error"),
    [
        (noise(), 2e-2),
        (sine(440), 1e-1),  # beside a tone there is the rounding of the Fourier transform, no more
        (noise(1, 0.3), 2e-2),
        ((noise(2) * np.linspace(0, 1, RATE)).astype(np.int16), 2e-2),
    ],
    ids=["noise", "tone", "short", "swell"],
)
def test_every_number_is_that_of_an_independent_formula(waveform, error):
    expected, found = reference(waveform), embed(waveform)[0]
    assert found == pytest.approx(expected, rel=2e-3, abs=error)


def test_every_crossing_is_counted_once():
    found = described(noise())
    assert found["crossings"] == pytest.approx(levels(noise())[:, 1].mean(), abs=1e-6)


def test_mfcc_are_those_of_torchaudio():
    waveform = torch.from_numpy(noise()).float() / 32767.0
    transform = torchaudio.transforms.MFCC(
        RATE,
        20,
        melkwargs={
            "n_fft": module.N_FFT,
            "hop_length": module.HOP,
            "n_mels": module.NUM_MELS,
            "norm": "slaney",
            "mel_scale": "slaney",
        },
    )
    transform.amplitude_to_DB.top_db = None
    expected = transform(waveform).mean(dim=1).numpy()
    assert embed(noise())[0][:20] == pytest.approx(expected, abs=1e-3)


# Known sounds


@pytest.mark.parametrize(
    ("hz", "pitch_class"),
    [(440.0, A), (880.0, A), (220.0, A), (261.63, 0), (1046.5, 0), (622.25, 3)],
)
def test_a_pure_tone_peaks_in_its_pitch_class(hz, pitch_class):
    found = described(sine(hz))
    chroma = [found[f"chroma{i}"] for i in range(12)]
    assert int(np.argmax(chroma)) == pitch_class
    assert chroma[pitch_class] > 0.95
    assert sorted(chroma)[-2] < 0.75


@pytest.mark.parametrize("hz", [440.0, 1000.0, 5000.0])
def test_a_pure_tone_has_its_centroid_and_roll_off_at_its_frequency(hz):
    found = described(sine(hz))
    assert 1000 * 2 ** found["centroid"] == pytest.approx(hz, rel=0.05)
    assert 1000 * 2 ** found["roll_off"] == pytest.approx(hz, abs=40)
    assert found["crossings"] == pytest.approx(2 * hz / RATE, rel=0.02)


@pytest.mark.parametrize("peak", [1.0, 0.5, 0.01])
def test_the_level_is_rms_in_db(peak):
    found = described(sine(1000, peak))
    assert found["level"] == pytest.approx(20 * np.log10(peak) - 3.0103, abs=0.05)
    assert found["level_std"] < 0.05


def test_white_noise_has_its_centroid_in_the_middle_and_crosses_zero_every_other_sample():
    found = described(noise(seconds=3.0))
    assert 1000 * 2 ** found["centroid"] == pytest.approx(RATE / 4, rel=0.03)
    assert 1000 * 2 ** found["roll_off"] == pytest.approx(0.85 * RATE / 2, rel=0.02)
    assert found["bandwidth"] == pytest.approx(RATE / 2 / np.sqrt(12) / 1000, rel=0.03)
    assert found["crossings"] == pytest.approx(0.5, abs=0.01)


def test_contrast_is_high_in_the_band_of_a_tone_and_low_in_noise():
    tone, hiss = described(sine(1130)), described(noise())
    assert tone["contrast3"] > 60
    assert max(hiss[f"contrast{i}"] for i in range(7)) < 45
    assert tone["contrast3"] == max(tone[f"contrast{i}"] for i in range(7))


def test_silence_and_full_scale_are_finite():
    for waveform in (0 * sine(1), np.full(RATE, 32767, np.int16), np.full(RATE, -32768, np.int16)):
        assert np.isfinite(embed(waveform)).all()
    silence = described(0 * sine(1))
    assert (silence["level"], silence["crossings"], silence["centroid"]) == (-100.0, 0.0, -5.0)
    assert silence["level_std"] == pytest.approx(0.0, abs=1e-4)


def test_spread_and_change_grow_with_what_changes():
    steady, beating = described(noise()), described(noise() * (np.arange(RATE) // 2205 % 2))
    assert beating["level_std"] > 10 * steady["level_std"]
    assert beating["change0"] > 5 * steady["change0"]


def test_a_patch_of_the_shortest_allowed_length_is_described():
    assert np.isfinite(embed(noise(seconds=0.1))).all()


@pytest.mark.parametrize(
    "options", [{"patch_s": 0.05}, {"hop_s": 0}, {"short": "cut"}, {"patch": 1.0}, {"patch_s": "x"}]
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=str(next(iter(options)))):
        BACKBONES.build("acoustic", options)


# The frontend by itself


def test_int16_becomes_full_scale_one():
    values = frontend.to_float(torch.tensor([[32767, 0, -32767]], dtype=torch.int16))
    assert (values.tolist(), values.dtype) == ([[1.0, 0.0, -1.0]], torch.float32)


def test_the_power_spectrogram_is_that_of_numpy():
    waveform = noise(seconds=0.5)
    found = frontend.power_spectrogram(
        frontend.to_float(torch.from_numpy(waveform)[None]), module.N_FFT, module.HOP
    )
    expected = power_FK(waveform)
    assert found.shape == (1, 1 + len(waveform) // module.HOP, 1025)
    assert found[0].numpy() == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_mel_filters_are_slaneys():
    found = frontend.mel_filters(module.N_FFT, RATE, module.NUM_MELS, 0.0, RATE / 2)
    assert found.numpy() == pytest.approx(slaney_mel_KM(), abs=1e-6)


def test_every_bin_from_55_hz_up_counts_once_among_the_pitch_classes():
    filters = frontend.chroma_filters(module.N_FFT, RATE).numpy()
    assert filters.sum(axis=1) == pytest.approx((BINS_HZ >= 55).astype(float), abs=1e-5)


def test_decibels_have_a_floor():
    found = frontend.decibel(torch.tensor([1.0, 0.01, 0.0, 1e-12]))
    assert found.tolist() == pytest.approx([0.0, -20.0, -100.0, -100.0])

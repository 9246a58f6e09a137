"""The log-mel front end against what others have published and computed, and its mel filters.

Shapes: F frames, M mel bands.
"""

import wave

import numpy as np
import pytest
import torch
import torchaudio

from audioflow import goldens
from audioflow.frontend.logmel import VGGISH, YAMNET, Constants, log_mel
from audioflow.frontend.mel import mel_filters, to_hz, to_mel

RATE = 16_000


def of(samples: np.ndarray, constants: Constants = VGGISH) -> np.ndarray:
    """Samples in [-1, 1] (T,) -> (F, M)."""
    return log_mel(torch.from_numpy(samples)[None], constants)[0].numpy()


# VGGish and YAMNet


def test_a_unit_sine_gives_the_published_values():
    frames = of(np.sin(2 * np.pi * 1000 * np.arange(3 * RATE) / RATE))
    assert frames.shape == (298, 64)
    cut = frames[:288].reshape(3, 96, 64)
    found = [cut.mean(), cut.std(), cut.min(), cut.max()]
    assert found == pytest.approx([-3.42962, 2.12658, -4.60116, 4.81112], abs=2e-5)
    assert frames.mean(axis=0).argmax() == 19
    assert cut[0, 0, 20:23] == pytest.approx([4.77504, 2.26222, -0.58961], abs=2e-5)


@pytest.mark.parametrize(("constants", "value"), [(VGGISH, -4.60517), (YAMNET, -6.90776)])
def test_silence_is_the_logarithm_of_the_offset(constants, value):
    assert np.unique(of(np.zeros(RATE), constants)) == pytest.approx([value], abs=1e-5)


def test_patches_of_a_recording_are_those_of_torchvggish(shared_data):
    with np.load(shared_data / "parity" / "torchvggish_frontend.npz") as reference:
        expected = reference["audio_misc/torchvggish__test.wav"]
    with wave.open(str(shared_data / "parity" / "torchvggish_test.wav")) as stream:
        assert stream.getframerate() == RATE
        samples = np.frombuffer(stream.readframes(stream.getnframes()), np.int16) / 32768.0
    found = of(samples)[: len(expected) * 96].reshape(expected.shape)
    assert np.abs(found - expected).max() < 1e-5


def test_the_front_end_gives_googles_reference_spectra(shared_data):
    """YAMNet's reference was made of sound scaled to full scale, with VGGish's offset of 0.01."""
    folder = shared_data / "weights"
    sound = np.fromfile(folder / "yamnet_test_audio.bin", np.int16).astype(np.float32)
    spectra = np.fromfile(folder / "yamnet_test_spectra.bin", np.float32).reshape(96, 64)
    assert of(sound / np.abs(sound).max()) == pytest.approx(spectra, abs=1e-4)


def test_the_mel_matrix_is_the_published_one():
    filters = mel_filters(512, RATE, 64, 125.0, 7500.0, "htk", "none", "mel").numpy()
    assert filters.shape == (257, 64)
    assert filters.sum() == pytest.approx(230.9136, abs=1e-4)
    assert filters.max() == pytest.approx(0.99619, abs=1e-5)
    assert (filters > 0).sum() == 461
    assert (filters.sum(axis=0) > 0).all()
    assert not filters[0].any()


# Any constants


@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_centred_windows_shorter_than_the_fft_are_as_in_torchaudio(pad_mode):
    constants = Constants(
        RATE,
        1024,
        800,
        320,
        40,
        50.0,
        7000.0,
        scale="slaney",
        norm="slaney",
        log="db",
        center=True,
        pad_mode=pad_mode,
    )
    transform = torchaudio.transforms.MelSpectrogram(
        RATE,
        1024,
        800,
        320,
        50.0,
        7000.0,
        n_mels=40,
        norm="slaney",
        mel_scale="slaney",
        pad_mode=pad_mode,
    )
    waveform = torch.from_numpy(goldens.sound(2, 15_600) / 32767.0).float()
    expected = 10 * transform(waveform).clamp(min=1e-10).log10().transpose(1, 2)
    assert torch.allclose(log_mel(waveform, constants), expected, atol=1e-3)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(("n_fft", "window"), [(64, 64), (65, 65), (65, 40), (128, 33)])
def test_frames_are_as_many_as_those_of_an_stft(n_fft, window, center):
    constants = Constants(RATE, n_fft, window, 16, 4, 0.0, 8000.0, log="none", center=center)
    for samples in range(128, 161):
        waveform = torch.ones(1, samples)
        spare = 0 if center else n_fft - window  # so that it may begin and end with the samples
        stft = torch.stft(
            torch.nn.functional.pad(waveform, (0, spare)),
            n_fft,
            16,
            window,
            torch.ones(window),
            center=center,
            return_complex=True,
        )
        assert constants.frames_of(samples) == stft.shape[2], samples
        assert log_mel(waveform, constants).shape == (1, stft.shape[2], 4), samples
    assert constants.samples_of(7) == window + 6 * 16


def test_a_large_batch_is_computed_in_parts_that_show_nowhere():
    waveform = torch.from_numpy(goldens.sound(40, 15_600) / 32767.0)
    together = log_mel(waveform, VGGISH)
    apart = torch.cat([log_mel(patch[None], VGGISH) for patch in waveform])
    assert torch.allclose(together, apart, rtol=0, atol=1e-6)
    assert log_mel(waveform[:0], VGGISH).shape == (0, 96, 64)


# Filters


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("norm", [None, "slaney"])
def test_filters_are_those_of_torchaudio(scale, norm):
    expected = torchaudio.functional.melscale_fbanks(
        513, 50.0, 7000.0, 40, RATE, norm=norm, mel_scale=scale
    )
    found = mel_filters(1024, RATE, 40, 50.0, 7000.0, scale, norm)
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    assert torch.equal(mel_filters(1024, RATE, 40, 50.0, 7000.0, scale, norm or "none"), found)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mel_and_back_is_where_one_was(scale):
    hz = np.array([0.0, 60.0, 440.0, 999.9, 1000.0, 4000.0, 20_000.0])
    assert to_hz(to_mel(hz, scale), scale) == pytest.approx(hz, rel=1e-12)


def test_known_places_on_the_scales():
    places = np.array([700.0, 1000.0, 6400.0])
    assert to_mel(places, "htk")[0] == pytest.approx(1127 * np.log(2))
    assert to_mel(places, "slaney")[1:] == pytest.approx([15.0, 42.0])


def test_triangles_straight_in_mel_cover_every_bin_once_between_the_outer_centres():
    filters = mel_filters(512, RATE, 26, 0.0, 8000.0, "htk", None, "mel").numpy()
    inside = slice(int(filters[:, 0].argmax()) + 1, int(filters[:, -1].argmax()))
    assert filters[inside].sum(axis=1) == pytest.approx(np.ones(inside.stop - inside.start))

"""`logmel`: spectrograms of published systems, every switch, and what is refused.

Shapes: F frames, M mel bands.
"""

import warnings

import numpy as np
import pytest
import torch
import torchaudio

from audioflow import goldens
from audioflow.backbones import BACKBONES
from audioflow.backbones.logmel import LogMelSettings, patching
from audioflow.frontend.logmel import VGGISH, YAMNET, Constants, log_mel
from audioflow.frontend.logmel_settings import constants_of
from audioflow.frontend.mel import mel_filters


def logmel(samples: np.ndarray, **options) -> np.ndarray:
    """int16 (T,) -> (F, M)."""
    backbone = BACKBONES.build("logmel", options)
    with torch.inference_mode():
        found = backbone.embed(torch.from_numpy(samples[None]))["logmel"]
    assert found.dtype == torch.float32
    assert dict(backbone.layers) == {"logmel": found.shape[2]}
    return found[0].numpy()


def constants(**options) -> Constants:
    settings = LogMelSettings(**options)
    cut = patching(settings)
    return constants_of(settings, cut.sample_rate_hz, cut.patch_s)


def sound(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    return goldens.sound(1, round(seconds * rate), seed)[0]


# Presets


@pytest.mark.parametrize("rate", [48_000, 44_100, 32_000, 22_050, 16_000])
def test_a_patch_of_kinetics600_is_64_by_96_at_every_rate_at_which_it_was(rate):
    options = {"preset": "kinetics600", "sample_rate_hz": rate}
    found = logmel(sound(0.96, rate), **options)
    assert found.shape == (96, 64)
    assert found.max() == 0.0
    assert found.min() >= -80.0
    assert constants(**options).n_fft == int(0.025 * rate) + 1


def test_at_8_khz_a_patch_of_kinetics600_is_a_frame_shorter():
    rate = 8000
    assert logmel(sound(0.96, rate), preset="kinetics600", sample_rate_hz=rate).shape == (95, 64)


@pytest.mark.parametrize(("seconds", "frames"), [(29.1, 1254), (30.0, 1292)])
def test_a_patch_of_gtzan_has_as_many_frames_as_its_network_takes(seconds, frames):
    samples = sound(seconds, 22_050)
    assert logmel(samples, preset="gtzan", patch_s=seconds).shape == (frames, 128)


@pytest.mark.parametrize(("preset", "named"), [("vggish", VGGISH), ("yamnet", YAMNET)])
def test_the_presets_of_networks_are_their_front_ends(preset, named):
    assert constants(preset=preset) == named
    samples = sound(0.975, 16_000)
    expected = log_mel(torch.from_numpy(samples / 32767.0)[None], named)[0]
    found = logmel(samples, preset=preset)
    assert found.shape == (96, 64)
    assert found == pytest.approx(expected.numpy(), abs=1e-5)


def test_the_preset_of_gtzan_is_torchaudios():
    rate, samples = 22_050, sound(2.0, 22_050)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of its bands lie between two bins, as published
        mel = torchaudio.transforms.MelSpectrogram(rate, 1024, n_mels=128)
    expected = torchaudio.transforms.AmplitudeToDB("power")(
        mel(torch.from_numpy(samples.astype(np.float32) / np.float32(32767)))
    )
    found = logmel(samples, preset="gtzan", patch_s=2.0)
    assert found == pytest.approx(expected.T.numpy(), abs=0.02)


@pytest.mark.parametrize(
    ("options", "seconds", "hop_s"),
    [
        ({}, 0.975, 0.96),
        ({"preset": "yamnet"}, 0.975, 0.48),
        ({"preset": "kinetics600"}, 0.96, 0.96),
        ({"preset": "gtzan"}, 29.1, 29.1),
        ({"patch_s": 2.0}, 2.0, 2.0),
        ({"patch_s": 2.0, "hop_s": 0.5}, 2.0, 0.5),
        ({"hop_s": 0.5}, 0.975, 0.5),
    ],
)
def test_patches_are_as_long_and_as_far_apart_as_said(options, seconds, hop_s):
    patching = BACKBONES.build("logmel", options).input
    assert (patching.patch_s, patching.hop_s) == (seconds, hop_s)


def test_a_value_of_ones_own_stands_in_the_place_of_the_presets():
    found = constants(preset="gtzan", num_mels=64, n_fft=2048)
    assert (found.num_mels, found.n_fft, found.window_samples) == (64, 2048, 2048)
    assert (found.frame_hop_samples, found.scale, found.log) == (512, "htk", "db")
    assert constants(preset="gtzan").num_mels == 128
    assert constants(preset="gtzan", window_samples=800).n_fft == 1024


def test_with_another_logarithm_what_belongs_to_the_presets_is_void():
    assert constants(preset="vggish", log="natural").offset == 0.01
    assert constants(preset="vggish", log="db").offset == 0
    found = constants(preset="kinetics600", log="natural")
    assert (found.reference, found.top_db) == ("one", "none")


def test_lengths_in_milliseconds_follow_the_sample_rate():
    found = constants(preset="vggish", sample_rate_hz=32_000)
    assert (found.window_samples, found.frame_hop_samples, found.n_fft) == (800, 320, 1024)
    assert constants(preset="gtzan", sample_rate_hz=16_000).high_hz == 8000


def test_without_a_preset_everything_is_given():
    told = {"n_fft": 400, "frame_hop_samples": 100, "num_mels": 9, "low_hz": 0, "high_hz": 4000}
    found = constants(preset="none", sample_rate_hz=8000, patch_s=0.1, **told)
    assert found == Constants(8000, 400, 400, 100, 9, 0.0, 4000.0)
    cut = BACKBONES.build(
        "logmel", {"preset": "none", "sample_rate_hz": 8000, "patch_s": 0.1} | told
    ).input
    assert (cut.sample_rate_hz, cut.patch_s, cut.hop_s) == (8000, 0.1, 0.1)


# Switches, by NumPy


def bands(samples: np.ndarray, window: int, n_fft: int, hop: int, start: int) -> np.ndarray:
    """Power (F, K) of frames that begin at `start`, ..., zeros outside the samples."""
    x = np.pad(samples / 32767.0, (window, window))
    w = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    first = start + window
    starts = range(first, first + len(samples) - window - 2 * start + 1, hop)
    return np.stack([np.abs(np.fft.rfft(x[s : s + window] * w, n_fft)) ** 2 for s in starts])


PLAIN = {
    "preset": "gtzan",
    "sample_rate_hz": 16_000,
    "n_fft": 512,
    "frame_hop_samples": 200,
    "num_mels": 40,
    "patch_s": 0.5,
}


def plain_filters() -> np.ndarray:
    return mel_filters(512, 16_000, 40, 0.0, 8000.0, "htk", None).numpy()


def test_frames_inside_the_patch_begin_with_it():
    samples = sound(0.5, 16_000)
    found = logmel(samples, **PLAIN, log="none", center=False, window_samples=401)
    expected = bands(samples, 401, 512, 200, 0) @ plain_filters()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert len(found) == 1 + (8000 - 401) // 200


def test_centred_frames_reach_over_the_ends():
    samples = sound(0.5, 16_000)
    found = logmel(samples, **PLAIN, log="none", pad_mode="constant")
    expected = bands(samples, 512, 512, 200, -256) @ plain_filters()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert len(found) == 1 + 8000 // 200


def test_padding_shows_at_the_ends_only():
    samples = sound(0.5, 16_000)
    zeros, mirrored = (logmel(samples, **PLAIN, pad_mode=how) for how in ("constant", "reflect"))
    assert np.array_equal(zeros[2:-2], mirrored[2:-2])
    assert not np.allclose(zeros[0], mirrored[0], atol=0.1)


def test_magnitudes_are_the_roots_of_powers_before_the_bands_sum_them_up():
    samples = sound(0.5, 16_000)
    found = logmel(samples, **PLAIN, log="none", spectrum="magnitude", pad_mode="constant")
    expected = np.sqrt(bands(samples, 512, 512, 200, -256)) @ plain_filters()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "formula"),
    [
        ({"log": "natural", "offset": 1e-6}, lambda mel: np.log(mel + 1e-6)),
        ({"log": "natural"}, lambda mel: np.log(np.maximum(mel, 1e-10))),
        ({"log": "natural", "floor": 0.02}, lambda mel: np.log(np.maximum(mel, 0.02))),
        ({"log": "log10"}, lambda mel: np.log10(np.maximum(mel, 1e-10))),
        ({"log": "log10", "factor": 7.0, "offset": 1.0}, lambda mel: np.log10(1 + 7 * mel)),
        ({"log": "db"}, lambda mel: 10 * np.log10(np.maximum(mel, 1e-10))),
        (
            {"log": "db", "spectrum": "magnitude"},
            lambda mel: 20 * np.log10(np.maximum(mel, 1e-5)),
        ),
        (
            {"log": "power_db", "spectrum": "magnitude", "top_db": 20.0},
            lambda mel: 10 * np.log10(np.maximum(np.maximum(mel, 1e-10), mel.max() / 100)),
        ),
        ({"log": "power_db"}, lambda mel: 10 * np.log10(np.maximum(mel, 1e-10))),
        ({"log": "db", "floor": 0.02}, lambda mel: 10 * np.log10(np.maximum(mel, 0.02))),
        ({"log": "db", "offset": 0.5}, lambda mel: 10 * np.log10(mel + 0.5)),
        ({"log": "db", "reference": "max"}, lambda mel: 10 * np.log10(mel / mel.max())),
        (
            {"log": "db", "top_db": 30.0},
            lambda mel: 10 * np.log10(np.maximum(mel, mel.max() / 1000)),
        ),
    ],
)
def test_logarithms_are_what_their_names_say(options, formula):
    samples = sound(0.5, 16_000)
    spectrum = {"spectrum": options.get("spectrum", "power")}
    mel = logmel(samples, **PLAIN, log="none", **spectrum).astype(np.float64)
    assert logmel(samples, **PLAIN, **options) == pytest.approx(formula(mel), abs=1e-4)


def test_loudness_is_relative_to_the_patch_itself_not_to_the_batch():
    loud = sound(0.96, 44_100)
    backbone = BACKBONES.build("logmel", {"preset": "kinetics600"})
    both = np.stack([loud, loud // 16])
    found = backbone.embed(torch.from_numpy(both))["logmel"]
    assert found.amax(dim=(1, 2)).tolist() == [0.0, 0.0]
    assert found[1].numpy() == pytest.approx(logmel(both[1], preset="kinetics600"), abs=1e-4)


def test_the_cut_below_the_loudest_can_be_lifted_from_a_preset():
    tone = np.rint(20_000 * np.sin(np.arange(42_336) * 0.2)).astype(np.int16)
    assert logmel(tone, preset="kinetics600").min() == pytest.approx(-80.0)
    assert logmel(tone, preset="kinetics600", top_db="none").min() < -80.5


def test_only_the_first_frames_are_given_where_so_many_are_asked_for():
    samples = sound(0.5, 16_000)
    every = logmel(samples, **PLAIN, log="none")
    assert len(every) == 41
    assert logmel(samples, **PLAIN, log="none", num_frames=7) == pytest.approx(every[:7], rel=1e-5)


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "openl3"}, "preset"),
        ({"top_db": 80.0}, r"top_db \(80\.0\) belongs to log: db or power_db, but log is natural"),
        ({"reference": "max"}, r"reference \(max\) belongs to log: db"),
        (
            {"log": "none", "offset": 0.1},
            r"offset \(0\.1\) belongs to a logarithm, but log",
        ),
        ({"log": "none", "factor": 10.0}, r"factor \(10\.0\) belongs to a logarithm"),
        ({"floor": 0.01}, r"floor \(0\.01\) is not above offset \(0\.01\)"),
        ({"floor": 0, "offset": 0}, r"floor \(0\) and offset \(0\) leave the logarithm of silence"),
        (
            {"num_frames": 97},
            r"num_frames \(97\) is more than the 96 frames that a patch of",
        ),
        (
            {"preset": "none", "sample_rate_hz": 8000, "patch_s": 1, "n_fft": 512},
            "frame_hop_samples, num_mels, low_hz, high_hz missing",
        ),
        ({"preset": "none", "patch_s": 1}, r"sample_rate_hz \(None\) and patch_s \(1\.0\) have no"),
        ({"pad_mode": "reflect"}, r"pad_mode \(reflect\) belongs to center: true"),
        ({"window_samples": 600}, r"window_samples \(600\) is more than n_fft \(512\)"),
        ({"high_hz": 9000.0}, r"low_hz \(125\) and high_hz \(9000\).*\(8000\)"),
        ({"low_hz": 7500.0}, r"low_hz \(7500\) and high_hz \(7500\) must rise"),
        ({"patch_s": 0.02}, r"patch_s \(0\.02\) is 320 samples, one frame needs 400"),
        ({"preset": "gtzan", "patch_s": 0.02}, r"is 441 samples, one frame needs 513"),
        ({"preset": "gtzan", "top_db": -3.0}, r"top_db \(-3\) must be above 0"),
        ({"sample_rate_hz": 8000}, r"high_hz \(7500\).*\(4000\)"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BACKBONES.build("logmel", options)

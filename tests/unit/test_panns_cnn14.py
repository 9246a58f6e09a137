"""`panns_cnn14`: its front ends, its pooling over any length, and its weight files.

Shapes: P patches, T samples of a patch, F frames.
"""

import re

import numpy as np
import pytest
import torch
import torchaudio
from pydantic import ValidationError

from audioflow import goldens
from audioflow.backbones import BACKBONES, panns_cnn14
from audioflow.backbones.network import fill_random
from audioflow.media.patches import Stretch, cut_patches
from audioflow.weights import WeightsError

CPU = torch.device("cpu")
BOTH = ["embedding", "scores"]


def built(**options):
    made = BACKBONES.build("panns_cnn14", {"weights": "random"} | options)
    made.to(CPU)
    return made


def embed(backbone, batch: np.ndarray) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        found = backbone.embed(torch.from_numpy(batch))
    return {name: vectors.numpy() for name, vectors in found.items()}


@pytest.fixture(scope="module")
def backbone():
    """With the weights of one seed, on the CPU."""
    return built(layers=BOTH)


@pytest.mark.parametrize(
    ("rate_hz", "n_fft", "high_hz"), [(32_000, 1024, 14e3), (16_000, 512, 8e3), (8000, 256, 4e3)]
)
def test_the_front_end_is_that_of_the_paper(rate_hz, n_fft, high_hz):
    waveform = torch.from_numpy(goldens.sound(2, rate_hz)).float() / 32_767
    transform = torchaudio.transforms.MelSpectrogram(
        rate_hz,
        n_fft,
        hop_length=rate_hz // 100,
        f_min=50.0,
        f_max=high_hz,
        n_mels=64,
        norm="slaney",
        mel_scale="slaney",
    )
    expected = torchaudio.transforms.AmplitudeToDB("power")(transform(waveform)).transpose(1, 2)
    found = panns_cnn14.log_mel(waveform, rate_hz)
    assert found.shape == (2, 101, 64)
    assert torch.allclose(found, expected, atol=1e-3)


def test_silence_is_minus_100_db():
    assert panns_cnn14.log_mel(torch.zeros(1, 32_000), 32_000).unique().tolist() == [-100.0]


def test_the_parameters_are_as_many_as_published():
    """In the table of the paper."""
    count = sum(parameter.numel() for parameter in panns_cnn14.Cnn14().parameters())
    assert count == 80_753_615


@pytest.mark.parametrize("seconds", [0.32, 1.0, 2.5])
def test_any_length_gives_one_vector_per_patch(backbone, seconds):
    found = embed(backbone, goldens.sound(2, round(seconds * 32_000)))
    assert {name: vectors.shape for name, vectors in found.items()} == {
        "embedding": (2, 2048),
        "scores": (2, 527),
    }
    assert ((found["scores"] >= 0) & (found["scores"] <= 1)).all()
    assert (found["embedding"] >= 0).all()


@pytest.mark.parametrize(
    ("seconds", "options", "lengths"),
    [
        (5, {}, [10.0]),
        (25, {}, [10.0, 10.0, 10.0]),
        (5, {"patch_s": 1.0, "hop_s": 1.0}, [1.0] * 5),
        (5, {"patch_s": None}, [5.0]),
        (25, {"patch_s": None}, [25.0]),
        (0.1, {"patch_s": None}, [0.32]),
    ],
)
def test_clips_are_cut_or_taken_whole(seconds, options, lengths):
    patching = BACKBONES.build("panns_cnn14", options).input
    patches, _ = cut_patches(Stretch(np.ones(round(seconds * 32_000), np.int16)), patching)
    assert [patch.size / 32_000 for patch in patches] == lengths


def test_weights_and_sample_rate_say_each_other():
    plugin = BACKBONES.load("panns_cnn14")
    assert plugin.Settings(sample_rate_hz=8000).weights == "cnn14_8k"
    assert plugin.Settings(weights="cnn14_16k").sample_rate_hz == 16_000
    with pytest.raises(ValidationError, match=r"cnn14_16k.*16000 Hz.*32000"):
        plugin.Settings(weights="cnn14_16k", sample_rate_hz=32_000)


@pytest.mark.parametrize(
    "options",
    [
        {"sample_rate_hz": 44_100},
        {"layers": ["logits"]},
        {"layers": ["scores", "scores"]},
        {"patch_s": 0.1},
        {"hop_s": 0},
    ],
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        BACKBONES.build("panns_cnn14", options)


# Weight files


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """As published: the network under `model`, with its front end, beside other things."""
    net = panns_cnn14.Cnn14()
    fill_random(net, 0)
    front_end = {
        "spectrogram_extractor.stft.conv_real.weight": torch.zeros(513, 1, 1024),
        "spectrogram_extractor.stft.conv_imag.weight": torch.zeros(513, 1, 1024),
        "logmel_extractor.melW": torch.zeros(513, 64),
    }
    path = tmp_path_factory.mktemp("panns") / "Cnn14.pth"
    torch.save({"iteration": 3, "model": net.state_dict() | front_end}, path)
    return str(path)


def test_a_checkpoint_as_published_gives_its_network(checkpoint, backbone):
    batch = goldens.sound(1, 32_000)
    found, expected = embed(built(weights=checkpoint, layers=BOTH), batch), embed(backbone, batch)
    assert all(np.array_equal(found[name], expected[name]) for name in BOTH)


def test_a_checkpoint_for_another_sample_rate_is_refused(checkpoint):
    text = "513 frequency bins, but sample_rate_hz 16000 has 257: give sample_rate_hz 32000"
    with pytest.raises(WeightsError, match=re.escape(text)):
        built(weights=checkpoint, sample_rate_hz=16_000)

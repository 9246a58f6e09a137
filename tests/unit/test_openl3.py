"""`openl3`: against embeddings of openl3 0.4.2, its patches, and the weight files that circulate.

Shapes: P patches, T samples of a patch, M bands, F frames, D width.
"""

import re

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from audioflow import goldens
from audioflow.backbones import BACKBONES, openl3_frontend
from audioflow.backbones.l3 import renamed
from audioflow.backbones.network import random_tensor
from audioflow.media.parts import ExactSound, Wanted
from audioflow.media.patches import Stretch, cut_patches
from audioflow.media.resampling import int16
from audioflow.media.spans import Span
from audioflow.weights import WeightsError
from tests.decoders import decode_recording

CPU = torch.device("cpu")
RATE = 48_000
WIDTHS = (64, 64, 128, 128, 256, 256, 512, 512)


def built(**options):
    made = BACKBONES.build("openl3", {"weights": "random"} | options)
    made.to(CPU)
    return made


def embed(backbone, batch: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return backbone.embed(torch.from_numpy(batch.copy()))["embedding"].numpy()


# Against openl3 0.4.2


@pytest.fixture(scope="module")
def parity(shared_data):
    """Embeddings by openl3 0.4.2, and the random weights that it had."""
    with np.load(shared_data / "parity" / "openl3_random_mel128.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def weights(parity, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("openl3") / "mel128.npz"
    np.savez(path, **{name: values for name, values in parity.items() if name.startswith("w/")})
    return str(path)


def sound_of(path) -> np.ndarray:
    """As it comes from the decoder at 48 kHz: float32, since a mean of two channels lies between
    two integers, and the front end hears that far below a clean chirp."""
    source = ExactSound(RATE)
    (found,) = decode_recording(path, [Span()], Wanted((source,)))
    return found.sound.waveforms[source]


def worst(found: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Smallest cosine over patches, largest error as a share of the largest value."""
    assert found.shape == expected.shape
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = (found * expected).sum(axis=1) / lengths
    return float(cosine.min()), goldens.relative_error(found, expected)


@pytest.mark.parametrize("size", [512, 6144])
@pytest.mark.parametrize(("front_end", "name"), [("kapre_0_4", "kapre"), ("librosa", "librosa")])
def test_embeddings_are_those_of_openl3(parity, weights, shared_data, front_end, name, size):
    backbone = built(weights=weights, representation="mel128", front_end=front_end, size=size)
    samples = sound_of(shared_data / "parity" / "chirp_stereo.wav")
    patches, starts = cut_patches(Stretch(samples), backbone.input)
    found = embed(backbone, patches)
    cosine, error = worst(found, parity[f"chirp_stereo_{name}_{size}"])
    assert cosine > 0.99999
    assert error < 1e-3
    assert starts + 0.5 == pytest.approx(parity["chirp_stereo_ts"])


def test_another_resampler_changes_embeddings_little(parity, weights, shared_data):
    backbone = built(weights=weights, representation="mel128", size=512)
    samples = sound_of(shared_data / "parity" / "chirp_44k.wav")
    patches, _ = cut_patches(Stretch(samples), backbone.input)
    cosine, _ = worst(embed(backbone, patches), parity["chirp_44k_kapre_512"])
    assert cosine > 0.999


def test_rounding_to_16_bits_changes_embeddings_little(parity, weights, shared_data):
    backbone = built(weights=weights, representation="mel128", size=512)
    samples = sound_of(shared_data / "parity" / "chirp_stereo.wav")
    patches, _ = cut_patches(Stretch(int16(samples)), backbone.input)
    cosine, _ = worst(embed(backbone, patches), parity["chirp_stereo_kapre_512"])
    assert cosine > 0.998


def test_the_front_ends_differ(parity, weights, shared_data):
    samples = sound_of(shared_data / "parity" / "chirp_stereo.wav")
    old = built(weights=weights, representation="mel128", front_end="kapre_0_1", size=512)
    patches, _ = cut_patches(Stretch(samples), old.input)
    cosine, _ = worst(embed(old, patches), parity["chirp_stereo_kapre_512"])
    assert 0.9 < cosine < 0.998


# Patches and front ends


@pytest.mark.parametrize(
    ("seconds", "options", "count"),
    [
        (30, {"hop_s": 1.0}, 31),
        (10, {"hop_s": 1.0}, 11),
        (10, {"hop_s": 1.0, "centre": False}, 10),
        (2, {}, 16),
        (2, {"centre": False}, 11),
        (2.05, {"centre": False}, 12),
        (0.2, {}, 1),
        (0.6, {}, 2),
    ],
)
def test_patches_are_as_many_as_in_openl3(seconds, options, count):
    patching = BACKBONES.build("openl3", options).input
    samples = np.ones(round(seconds * RATE), np.int16)
    patches, starts = cut_patches(Stretch(samples), patching)
    assert patches.shape == (count, RATE)
    assert starts[0] == (0.0 if options.get("centre") is False else -0.5)


@pytest.mark.parametrize("front_end", ["kapre_0_4", "librosa", "kapre_0_1"])
@pytest.mark.parametrize(
    ("representation", "shape"),
    [("linear", (257, 197)), ("mel128", (128, 199)), ("mel256", (256, 199))],
)
def test_a_spectrogram_has_the_published_size_and_range(representation, shape, front_end):
    waveform = torch.from_numpy(goldens.sound(2, RATE)).float() / 32_767
    found = openl3_frontend.spectrogram(waveform, representation, front_end)
    assert found.shape == (2, *shape)
    assert found.amax(dim=(1, 2)).tolist() == [0.0, 0.0]
    assert found.min() >= -80


@pytest.mark.parametrize("front_end", ["kapre_0_4", "librosa", "kapre_0_1"])
def test_silence_is_as_loud_as_its_loudest(front_end):
    found = openl3_frontend.spectrogram(torch.zeros(1, RATE), "mel128", front_end)
    assert found.abs().max() == 0


def test_a_patch_half_as_loud_is_the_same_patch():
    waveform = torch.from_numpy(goldens.sound(1, RATE)).float() / 32_767
    loud, soft = (
        openl3_frontend.spectrogram(gain * waveform, "mel128", "kapre_0_1") for gain in (1.0, 0.5)
    )
    assert torch.allclose(loud, soft, atol=1e-3)


# Weight files


def shapes() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    given = 1
    for number, width in enumerate(WIDTHS, 1):
        name = "audio_embedding_layer" if number == 8 else f"conv2d_{number}"
        found |= {f"{name}.weight": (width, given, 3, 3), f"{name}.bias": (width,)}
        given = width
    for number, width in enumerate((1, *WIDTHS[:7]), 1):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            found[f"batch_normalization_{number}.{leaf}"] = (width,)
    return found


def as_in_torchopenl3(seed: int) -> dict[str, np.ndarray]:
    return {name: random_tensor(name, shape, seed) for name, shape in shapes().items()}


def as_in_keras(seed: int, first: int) -> dict[str, np.ndarray]:
    """Keras goes on numbering; its first layer of a kind has no number at all."""
    leaves = {"running_mean": "moving_mean", "running_var": "moving_variance"}
    found = {}
    for name, values in as_in_torchopenl3(seed).items():
        layer, leaf = name.rsplit(".", 1)
        kind, _, number = layer.rpartition("_")
        if kind in ("conv2d", "batch_normalization"):
            at = int(number) - 1 + first
            layer = f"{kind}_{at}" if at else kind
            own = {"weight": "kernel" if kind == "conv2d" else "gamma"}
            own["bias"] = "bias" if kind == "conv2d" else "beta"
        else:
            own = {"weight": "kernel", "bias": "bias"}
        turned = values.transpose(2, 3, 1, 0) if values.ndim == 4 else values
        found[f"{layer}/{(leaves | own)[leaf]}"] = turned
    return found


FILES = {
    "torchopenl3": as_in_torchopenl3(5)
    | {"speclayer.mel_basis": np.zeros((128, 1025)), "speclayer.dft_real_kernels": np.zeros(3)},
    "keras": as_in_keras(5, 1),
    "keras_first_in_session": as_in_keras(5, 0),
    "keras_later_in_session": as_in_keras(5, 8),
    "keras_with_kapre": as_in_keras(5, 1) | {"melspectrogram_1/Variable": np.zeros((1025, 128))},
}


@pytest.mark.parametrize("name", FILES)
def test_every_circulating_file_gives_the_same_network(name, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **FILES[name])
    batch = goldens.sound(1, RATE)
    from_file = built(weights=str(path), representation="mel128", size=512)
    drawn = built(representation="mel128", size=512, seed=5)
    assert np.array_equal(embed(from_file, batch), embed(drawn, batch))


def test_layers_go_by_their_number_and_not_by_their_spelling():
    found = renamed(as_in_keras(0, 8))
    assert np.array_equal(found["conv2d_2.weight"], as_in_torchopenl3(0)["conv2d_2.weight"])


def test_a_file_of_another_network_is_refused_by_name(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **{"conv1.weight": np.zeros((3, 3))})
    with pytest.raises(WeightsError, match=re.escape("another network: conv1.weight")):
        built(weights=str(path))


def test_a_file_whose_name_tells_another_representation_is_refused(tmp_path):
    path = tmp_path / "openl3_audio_mel128_music.h5"
    with pytest.raises(WeightsError, match=r"for the representation mel128.*is mel256"):
        built(weights=str(path))


def test_a_file_whose_filters_tell_another_representation_is_refused(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **FILES["torchopenl3"])
    with pytest.raises(WeightsError, match=r"of 128 bands, but representation mel256 has 256"):
        built(weights=str(path))


def test_representation_and_weights_say_each_other():
    plugin = BACKBONES.load("openl3")
    assert plugin.Settings(representation="linear").weights == "linear_music"
    assert plugin.Settings(weights="mel128_env").representation == "mel128"
    with pytest.raises(ValidationError, match=r"mel128_env.*not linear"):
        plugin.Settings(weights="mel128_env", representation="linear")
    names = {known.name for known in plugin.known}
    assert names == {f"{r}_{c}" for r in ("linear", "mel128", "mel256") for c in ("music", "env")}


@pytest.mark.parametrize(
    "options",
    [{"size": 1024}, {"representation": "mel64"}, {"front_end": "kapre"}, {"hop_s": 0.0}],
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        BACKBONES.build("openl3", options)

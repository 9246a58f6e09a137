"""`musicnn`: real weights on real music, both networks, and the files that circulate.

Shapes: P patches, T samples of a patch, F frames.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from pydantic import ValidationError

from audioflow import goldens
from audioflow.backbones import BACKBONES, musicnn
from audioflow.backbones.musicnn_networks import TensorFlowMusicnn, renamed_from_tensorflow
from audioflow.backbones.network import random_tensor
from audioflow.media.parts import ExactSound, Wanted
from audioflow.media.patches import Stretch, cut_patches
from audioflow.media.resampling import int16
from audioflow.media.spans import Span
from audioflow.weights import WeightsError
from tests.decoders import decode_recording

CPU = torch.device("cpu")
RATE = 16_000
ALL = ["scores", "penultimate", "max_pool", "mean_pool"]


def built(**options):
    made = BACKBONES.build("musicnn", {"weights": "random"} | options)
    made.to(CPU)
    return made


def embed(backbone, batch: np.ndarray) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        found = backbone.embed(torch.from_numpy(batch.copy()))
    return {name: vectors.numpy() for name, vectors in found.items()}


# Real weights, real music


@pytest.fixture(scope="module")
def weights(shared_data) -> str:
    return str(shared_data / "weights" / "mtat_musicnn.pth")


@pytest.fixture(scope="module")
def music(shared_data) -> np.ndarray:
    """As it comes from the decoder, in float32."""
    path: Path = shared_data / "parity" / "joram_solipsism_59_88.mp3"
    source = ExactSound(RATE)
    (found,) = decode_recording(path, [Span()], Wanted((source,)))
    return found.sound.waveforms[source]


def tags_of(weights: str, waveform: np.ndarray) -> dict[str, float]:
    backbone = built(weights=weights, layers=["scores"])
    patches, _ = cut_patches(Stretch(waveform), backbone.input)
    scores = embed(backbone, np.ascontiguousarray(patches))["scores"].mean(axis=0)
    return dict(zip(backbone.TAGS["mtat"], scores.tolist(), strict=True))


def test_tags_of_known_music_are_those_of_other_code(weights, music):
    found = tags_of(weights, music)
    expected = {"techno": 0.67, "electronic": 0.55, "synth": 0.37}
    assert {tag: round(found[tag], 2) for tag in expected} == expected
    assert sorted(found, key=found.get)[:-4:-1] == list(expected)


def test_rounding_to_16_bits_changes_tags_little(weights, music):
    """The silence above what an mp3 keeps is not as deep in 16 bits."""
    rounded = int16(music)
    exact, found = tags_of(weights, music), tags_of(weights, rounded)
    assert max(abs(found[tag] - exact[tag]) for tag in exact) < 0.02


def test_filters_that_died_in_training_give_zeros(weights, music):
    """Not numbers around 1e-38, which are slow to compute with and impossible to scale."""
    backbone = built(weights=weights, layers=["max_pool"])
    patches, _ = cut_patches(Stretch(music), backbone.input)
    largest = np.abs(embed(backbone, patches.copy())["max_pool"]).max(axis=0)
    assert (largest == 0).sum() >= 200
    assert largest[largest > 0].min() > 1e-4


def test_trained_weights_keep_their_direction_in_bfloat16(weights):
    batch = goldens.sound(4, 48_000)
    exact = embed(built(weights=weights, layers=ALL), batch)
    rough = embed(built(weights=weights, layers=ALL, precision="bfloat16"), batch)
    for name, vectors in exact.items():
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(rough[name], axis=1)
        assert ((vectors * rough[name]).sum(axis=1) / lengths).min() > 0.999, name


# Front ends


def test_the_spectrogram_of_the_torch_variant_is_that_of_torchaudio():
    waveform = torch.from_numpy(goldens.sound(2, 48_000)).float() / 32_767
    transform = torchaudio.transforms.MelSpectrogram(RATE, 512, f_min=0.0, f_max=8000.0, n_mels=96)
    expected = torchaudio.transforms.AmplitudeToDB()(transform(waveform)).transpose(1, 2)
    found = musicnn.mel_db(waveform)
    assert found.shape == (2, 188, 96)
    assert torch.allclose(found, expected, atol=5e-3)  # torchaudio's filters are made in float32


def test_patches_of_the_tensorflow_variant_are_cut_from_one_spectrogram():
    waveform = goldens.sound(1, 10 * RATE)[0]
    backbone = BACKBONES.build("musicnn", {"variant": "tensorflow", "weights": "random"})
    patches, starts = cut_patches(Stretch(waveform), backbone.input)
    framed = np.pad(waveform, (256, 256))[None].astype(np.float32) / 32_767
    whole = musicnn.log_mel(torch.from_numpy(framed))[0]
    assert whole.shape[0] == 1 + waveform.size // 256
    assert len(patches) == whole.shape[0] // 187 == 3
    found = musicnn.log_mel(torch.from_numpy(patches.astype(np.float32) / 32_767))
    for number, patch in enumerate(found):
        assert torch.allclose(patch, whole[number * 187 : (number + 1) * 187], atol=1e-4)
    assert starts + 0.016 == pytest.approx([0.0, 2.992, 5.984])


@pytest.mark.parametrize(
    ("options", "count"), [({}, 3), ({"hop_s": 1.0}, 8), ({"hop_s": 3.0, "short": "repeat"}, 3)]
)
def test_patches_are_three_seconds(options, count):
    patching = BACKBONES.build("musicnn", options).input
    patches, starts = cut_patches(Stretch(np.ones(10 * RATE, np.int16)), patching)
    assert patches.shape == (count, 48_000)
    assert starts[1] == options.get("hop_s", 3.0)


# Widths, tags, settings


@pytest.mark.parametrize(
    ("options", "pooled", "dense"),
    [({}, 753, 200), ({"variant": "tensorflow"}, 753, 200), ({"middle": 512}, 2097, 500)],
)
def test_layers_have_the_published_widths(options, pooled, dense):
    backbone = built(layers=ALL, **options)
    expected = {"scores": 50, "penultimate": dense, "max_pool": pooled, "mean_pool": pooled}
    assert dict(backbone.layers) == expected
    found = embed(backbone, goldens.sound(1, backbone.input.patch_samples))
    assert {name: vectors.shape for name, vectors in found.items()} == {
        name: (1, width) for name, width in expected.items()
    }


def test_only_the_wanted_layers_are_given():
    backbone = built(layers=["mean_pool", "scores"])
    found = embed(backbone, goldens.sound(1, 48_000))
    assert list(found) == list(backbone.layers) == ["mean_pool", "scores"]


def test_scores_are_probabilities_and_tags_are_fifty():
    scores = embed(built(layers=["scores"]), goldens.sound(2, 48_000))["scores"]
    assert ((scores >= 0) & (scores <= 1)).all()
    for tags in musicnn.Musicnn.TAGS.values():
        assert len(set(tags)) == len(tags) == 50


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weights": "mtat", "variant": "tensorflow"}, "for variant torch"),
        ({"weights": "mtat", "middle": 512}, "with middle 64"),
        ({"layers": ["scores", "scores"]}, "names one twice"),
        ({"layers": []}, "layers"),
        ({"layers": ["taggram"]}, "layers"),
        ({"hop_s": 0.0}, "hop_s"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options, text):
    with pytest.raises(ValidationError, match=text):
        BACKBONES.build("musicnn", options)


# Weight files


def as_in_checkpoint(seed: int) -> dict[str, np.ndarray]:
    """The variables of the package's checkpoints, with those of its optimiser."""
    leaves = {"running_mean": "moving_mean", "running_var": "moving_variance"}
    found = {"beta1_power": np.zeros(())}
    for name, tensor in TensorFlowMusicnn(64, 200).state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        values = random_tensor(name, tuple(tensor.shape), seed)
        layer, leaf = name.split(".")
        kind, _, number = layer.rpartition("_")
        scope = kind if number == "0" else layer
        own = {"weight": "gamma", "bias": "beta"} if kind.startswith("batch") else {}
        if kind == "dense" and leaf == "weight":
            own, values = {"weight": "kernel"}, values.T
        if kind == "conv2d" and leaf == "weight":
            # (frames, bands or channels, 1, filters)
            own = {"weight": "kernel"}
            bands = values[:, 0] if values.ndim == 4 else values
            values = bands.transpose(2, 1, 0)[:, :, None]
        full = f"{scope}/{(leaves | own).get(leaf, leaf)}"
        found |= {full: values, f"{full}/Adam": np.zeros_like(values), f"{full}/Adam_1": values}
    return found


def test_a_checkpoint_of_the_package_fits():
    checkpoint = as_in_checkpoint(3)
    assert checkpoint["conv2d/kernel"].shape == (7, 38, 1, 204)
    assert checkpoint["conv2d_5/kernel"].shape == (7, 561, 1, 64)
    assert checkpoint["dense/kernel"].shape == (1506, 200)
    found = renamed_from_tensorflow(checkpoint)
    for name, values in found.items():
        assert np.array_equal(values, random_tensor(name, values.shape, 3)), name


def test_a_checkpoint_gives_the_network_it_was_written_from(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **as_in_checkpoint(3))
    batch = goldens.sound(1, 48_128)
    from_file = embed(built(weights=str(path), variant="tensorflow", layers=ALL), batch)
    drawn = embed(built(variant="tensorflow", layers=ALL, seed=3), batch)
    assert all(np.array_equal(from_file[name], drawn[name]) for name in ALL)


def test_weights_of_the_other_variant_are_refused(weights):
    with pytest.raises(WeightsError, match=re.escape("another network: bn.bias")):
        built(weights=weights, variant="tensorflow")
    with pytest.raises(WeightsError, match=r"dense1.weight is \(200, 1506\), expected \(500, 4"):
        built(weights=weights, middle=512)

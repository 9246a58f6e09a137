"""`soundnet`: lengths in time, layers and switches, and every circulating weight file.

Shapes: P patches, T samples of a patch, L steps in time, D width.
"""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from audioflow import goldens
from audioflow.backbones import BACKBONES, soundnet
from audioflow.backbones.network import random_tensor
from audioflow.errors import MediaError
from audioflow.media.patches import Stretch, cut_patches
from audioflow.weights import WeightsError

CPU = torch.device("cpu")
RATE = 22_050
CONVS = {  # kernel, in, out
    "conv1": (64, 1, 16),
    "conv2": (32, 16, 32),
    "conv3": (16, 32, 64),
    "conv4": (8, 64, 128),
    "conv5": (4, 128, 256),
    "conv6": (4, 256, 512),
    "conv7": (4, 512, 1024),
    "conv8_objs": (8, 1024, 1000),
    "conv8_scns": (8, 1024, 401),
}
DEEP = ["pool5", "conv6", "conv7", "conv8_objs"]


def made(**options):
    return BACKBONES.build("soundnet", {"weights": "random"} | options)


def built(**options):
    backbone = made(**options)
    backbone.to(CPU)
    return backbone


def embed(backbone, batch: np.ndarray) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        found = backbone.embed(torch.from_numpy(batch))
    return {name: vectors.numpy() for name, vectors in found.items()}


def near(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal but for the rounding of float32 within the layer."""
    return found.shape == expected.shape and np.allclose(
        found, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )


# Lengths in time


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [
        (1, (3, 2, 2)),
        (5, (13, 7, 4)),
        (10, (27, 14, 8, 1)),
        (20, (54, 28, 15, 4)),
        (30, (81, 41, 21, 7)),
    ],
)
def test_lengths_in_time_are_the_measured_ones(seconds, steps):
    backbone = built(time="sequence", layers=DEEP[: len(steps)])
    found = embed(backbone, np.zeros((1, seconds * RATE), np.int16))
    assert tuple(layer.shape[1] for layer in found.values()) == steps


@pytest.mark.parametrize(("layer", "samples"), [("pool5", 4_574), ("conv8_scns", 209_374)])
def test_a_layer_needs_so_many_samples_and_no_fewer(layer, samples):
    backbone = built(time="sequence", layers=[layer])
    assert embed(backbone, np.zeros((1, samples), np.int16))[layer].shape[1] == 1
    with pytest.raises(RuntimeError, match="size"):
        embed(backbone, np.zeros((1, samples - 1), np.int16))
    assert backbone.input.patch_samples == samples


def test_every_layer_has_a_step_at_its_least_length():
    for layer in (*CONVS, "pool1", "pool2", "pool5"):
        backbone = built(time="sequence", layers=[layer])
        least = soundnet.least_samples(layer)
        assert embed(backbone, np.zeros((1, least), np.int16))[layer].shape[1] == 1, layer


# Whole clips and patches


def test_a_clip_is_repeated_to_20_seconds_and_taken_as_a_whole():
    samples = goldens.sound(1, 7 * RATE)[0]
    windows, starts = cut_patches(Stretch(samples), made().input)
    assert windows.shape == (1, 21 * RATE)
    assert np.array_equal(windows[0], np.tile(samples, 3))
    assert starts.tolist() == [0.0]
    long = np.zeros(25 * RATE, np.int16)
    assert cut_patches(Stretch(long), made().input)[0].shape == (1, 25 * RATE)


def test_a_clip_too_short_for_the_deepest_layer_is_a_matter_of_short():
    samples = np.ones(RATE, np.int16)
    patching = made(layers=["conv8_objs"], min_duration_s=0).input
    windows, _ = cut_patches(Stretch(samples), patching)
    assert windows.shape == (1, 209_374)
    assert windows.sum() == RATE
    patching = made(layers=["conv8_objs"], min_duration_s=0, short="fail").input
    with pytest.raises(MediaError, match=r"1\.000 s of sound, one patch needs 9\.49"):
        cut_patches(Stretch(samples), patching)
    assert cut_patches(Stretch(samples), made(min_duration_s=0, short="fail").input)[0].size == RATE


def test_patches_of_a_fixed_length_are_cut_where_it_is_given():
    patching = made(patch_s=2.0, hop_s=1.0, min_duration_s=0).input
    windows, starts = cut_patches(Stretch(np.zeros(5 * RATE, np.int16)), patching)
    assert windows.shape == (4, 2 * RATE)
    assert starts.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert made(patch_s=2.0).input.hop_s == 2.0


# Layers and switches


def test_the_defaults_are_those_of_the_course_solution():
    """pool5 after normalisation, ReLU and pooling; conv6 and conv7 straight from the convolution;
    means over time."""
    batch = goldens.sound(1, 2 * RATE)
    found = embed(built(), batch)
    assert {name: layer.shape for name, layer in found.items()} == {
        "pool5": (1, 256),
        "conv6": (1, 512),
        "conv7": (1, 1024),
    }
    pool5 = embed(built(layers=["pool5"], time="sequence"), batch)["pool5"][0].T
    assert (pool5 >= 0).all()
    assert near(found["pool5"][0], pool5.mean(axis=1))
    kernel = random_tensor("conv6.weight", (512, 256, 4), 0)
    padded = np.pad(pool5, ((0, 0), (2, 2)))
    starts = range(0, padded.shape[1] - 3, 2)
    steps = [np.tensordot(kernel, padded[:, start : start + 4], axes=2) for start in starts]
    conv6 = np.mean(steps, axis=0) + random_tensor("conv6.bias", (512,), 0)
    assert near(found["conv6"][0], conv6)


def test_after_the_activation_is_normalised_and_rectified_before_it():
    batch = goldens.sound(2, RATE)
    options = {"layers": ["conv5"], "time": "sequence"}
    before = embed(built(**options), batch)["conv5"]
    weight, bias, mean, variance = (
        random_tensor(f"batchnorm5.{name}", (256,), 0)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    expected = np.maximum((before - mean) / np.sqrt(variance + 1e-5) * weight + bias, 0)
    assert near(embed(built(activation="post", **options), batch)["conv5"], expected)


@pytest.mark.parametrize("layer", ["pool1", "pool2", "pool5", "conv8_objs", "conv8_scns"])
def test_pools_and_logits_know_no_activation(layer):
    batch = goldens.sound(1, 210_000)
    before, after = (
        embed(built(layers=[layer], activation=which), batch)[layer] for which in ("pre", "post")
    )
    assert np.array_equal(before, after)


def test_time_is_the_mean_or_the_largest_of_the_sequence():
    batch = goldens.sound(2, 5 * RATE)
    steps = embed(built(time="sequence"), batch)["conv7"]
    assert near(embed(built(time="mean"), batch)["conv7"], steps.mean(axis=1))
    assert near(embed(built(time="max"), batch)["conv7"], steps.max(axis=1))


def test_a_layer_is_the_same_whatever_else_is_wanted():
    batch = goldens.sound(1, 10 * RATE)
    alone = embed(built(layers=["conv3"]), batch)["conv3"]
    assert near(embed(built(layers=["conv8_scns", "conv3"]), batch)["conv3"], alone)
    assert list(built(layers=["conv8_scns", "conv3"]).layers) == ["conv8_scns", "conv3"]


def test_samples_are_scaled_to_256_and_no_further():
    """conv1 is linear: without its bias, 256 times the waveform gives 256 times the output."""
    bias = random_tensor("conv1.bias", (16,), 0)
    batch = np.array([[32767, -32768, 16384] * 1000], np.int16)
    options = {"layers": ["conv1"], "time": "sequence"}
    found = embed(built(**options), batch)["conv1"] - bias
    kernel = random_tensor("conv1.weight", (16, 1, 64), 0)[:, 0].astype(np.float64)
    scaled = np.clip(batch[0] / 32767 * 256, -256, 256)
    assert near(found[0, 100], kernel @ scaled[200 - 32 : 200 + 32])
    twice = embed(built(scale=512, **options), batch)["conv1"] - bias
    assert near(twice, 2 * found)


# Weights


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """Random weights by the names of the course solution, kernels (out, in, k, 1)."""
    found = {}
    for name, (kernel, given, width) in CONVS.items():
        found[f"{name}.weight"] = random_tensor(f"{name}.weight", (width, given, kernel, 1), 0)
        found[f"{name}.bias"] = random_tensor(f"{name}.bias", (width,), 0)
        if not name.startswith("conv8"):
            norm = name.replace("conv", "batchnorm")
            for kind in ("weight", "bias", "running_mean", "running_var"):
                found[f"{norm}.{kind}"] = random_tensor(f"{norm}.{kind}", (width,), 0)
            found[f"{norm}.num_batches_tracked"] = np.array(100)
    return found


def nested(tensors: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """As in `sound8.npy`: kernels (k, 1, in, out), statistics beside them."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in CONVS:
        key = {"conv8_objs": "conv8", "conv8_scns": "conv8_2"}.get(name, name)
        kernel = np.transpose(tensors[f"{name}.weight"], (2, 3, 1, 0))
        found[key] = {"weights": kernel, "biases": tensors[f"{name}.bias"]}
        if not name.startswith("conv8"):
            norm = name.replace("conv", "batchnorm")
            found[key] |= {
                "gamma": tensors[f"{norm}.weight"],
                "beta": tensors[f"{norm}.bias"],
                "mean": tensors[f"{norm}.running_mean"],
                "var": tensors[f"{norm}.running_var"],
            }
    return found


def of_sequences(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As in `sound8.pth`: convolution 0 and normalisation 1 of every layer."""
    heads = {"conv8_objs": "conv8", "conv8_scns": "conv8_2"}
    found = {}
    for name, values in tensors.items():
        layer, kind = name.split(".")
        place = 1 if layer.startswith("batchnorm") else 0
        layer = heads.get(layer, layer.replace("batchnorm", "conv"))
        found[f"{layer}.{place}.{kind}"] = values
    return found


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return embed(built(layers=["conv5", "conv8_objs", "conv8_scns"], activation="post"), SOUND)


SOUND = goldens.sound(1, 10 * RATE)


def write_npy(path, tensors):
    np.save(path, np.array(nested(tensors), dtype=object), allow_pickle=True)


def write_pth(path, tensors):
    torch.save({k: torch.from_numpy(np.array(v)) for k, v in of_sequences(tensors).items()}, path)


def write_class(path, tensors):
    torch.save({name: torch.from_numpy(np.array(v)) for name, v in tensors.items()}, path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("sound8.npy", write_npy), ("sound8.pth", write_pth), ("course.pth", write_class)],
)
def test_every_circulating_file_gives_the_same_network(tensors, expected, tmp_path, name, write):
    write(tmp_path / name, tensors)
    options = {"layers": ["conv5", "conv8_objs", "conv8_scns"], "activation": "post"}
    found = embed(built(weights=str(tmp_path / name), **options), SOUND)
    for layer, vectors in expected.items():
        assert np.array_equal(found[layer], vectors), layer


def test_the_network_has_the_published_size(tensors):
    assert sum(v.size for n, v in tensors.items() if not n.endswith("tracked")) == 14_356_777
    net = soundnet.Net(["pool5"], "pre")
    counters = [name for name in net.state_dict() if name.endswith("tracked")]
    assert sum(tensor.numel() for tensor in net.state_dict().values()) - len(counters) == 14_356_777


def test_a_file_of_another_network_is_refused(tensors, tmp_path):
    path = str(tmp_path / "other.safetensors")
    wrong = {name: values for name, values in tensors.items() if name != "conv7.bias"}
    save_file(wrong | {"conv1.weight": np.zeros((16, 1, 32, 1), np.float32)}, path)
    with pytest.raises(WeightsError, match=r"conv7\.bias.*conv1\.weight is \(16, 1, 32\)"):
        built(weights=path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["conv9"]}, "conv9|conv1"),
        ({"layers": ["pool5", "pool5"]}, r"layers \(pool5, pool5\) names one twice"),
        ({"hop_s": 1.0}, r"hop_s \(1\) without patch_s"),
        ({"patch_s": 0.2}, r"patch_s \(0\.2\) is too short for conv7, which needs 0\.2074 s"),
        ({"patch_s": 5.0, "layers": ["conv8_objs"]}, r"conv8_objs, which needs 9\.4954 s"),
        ({"scale": 0}, "scale"),
        ({"time": "median"}, "time"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BACKBONES.build("soundnet", options)

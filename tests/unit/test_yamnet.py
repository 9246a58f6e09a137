"""YAMNet: the published patches, every file variant, real sounds."""

import csv

import h5py
import numpy as np
import pytest
import torch

from audioflow.backbones import BACKBONES
from audioflow.backbones.network import random_tensor
from audioflow.backbones.yamnet_network import YAMNetNetwork, filled, renamed
from audioflow.frontend.logmel import YAMNET, log_mel
from audioflow.media.patches import Stretch, cut_patches
from audioflow.weights import WeightsError

CPU = torch.device("cpu")
LAYERS = ["embedding", "logits", "scores"]


def made(**options):
    backbone = BACKBONES.build("yamnet", {"layers": LAYERS} | options)
    backbone.to(CPU)
    return backbone


def embed(backbone, inputs) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        found = backbone.embed(torch.as_tensor(np.array(inputs)))
    return {layer: vectors.numpy() for layer, vectors in found.items()}


def batch(count: int = 2) -> np.ndarray:
    return np.random.default_rng(count).integers(-9_000, 9_000, (count, 15_600), np.int16)


# Patches, as `pad_waveform` of the published code gives them


@pytest.mark.parametrize(
    ("samples", "patches"),
    [(1, 1), (15_600, 1), (15_601, 2), (23_280, 2), (23_281, 3), (80_000, 10)],
)
def test_silence_is_added_until_every_sample_is_heard(samples, patches):
    patching = BACKBONES.build("yamnet", {}).input
    cut, start_s = cut_patches(Stretch(np.ones(samples, np.int16)), patching)
    assert cut.shape == (patches, 15_600)
    assert start_s == pytest.approx(0.48 * np.arange(patches))


# Files


def unfolded(seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors by the names of w-hc/torch_audioset, batch norms apart."""
    shapes = {name: tuple(t.shape) for name, t in YAMNetNetwork().state_dict().items()}
    found = {}
    for name, shape in shapes.items():
        layer, _, part = name.removesuffix(".weight").partition(".")
        if name.startswith("logits"):
            found[name.replace("logits", "classifier")] = random_tensor(name, shape, seed)
        elif name.endswith("weight"):
            place = f"{layer}.{'fused' if part == 'conv' else f'{part}_conv'}"
            found[f"{place}.conv.weight"] = random_tensor(name, shape, seed)
            for variable in ("weight", "bias", "running_mean", "running_var"):
                full = f"{place}.bn.{variable}"
                found[full] = random_tensor(full, shape[:1], seed)
            found[f"{place}.bn.weight"] = np.ones(shape[:1], np.float32)
            found[f"{place}.bn.num_batches_tracked"] = np.array(7)
    return found


def keras_file(path, tensors: dict[str, np.ndarray], *, last: str = "logits") -> None:
    """The same as `save_weights` of the published Keras code writes it."""
    norms = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in tensors.items():
        layer, part, *rest = name.split(".")
        if layer == "classifier":
            kernel = part == "weight"
            layers.setdefault(last, {})["kernel" if kernel else "bias"] = array.T
            continue
        place = f"{layer}/{part.replace('fused', 'conv')}"
        if rest[0] == "bn":
            if rest[1] in norms:
                layers.setdefault(f"{place}/bn", {})[norms[rest[1]]] = array
        elif part == "depthwise_conv":
            layers.setdefault(place, {})["depthwise_kernel"] = array.transpose(2, 3, 0, 1)
        else:
            layers.setdefault(place, {})["kernel"] = array.transpose(2, 3, 1, 0)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, weights in layers.items():
            group = file.create_group(layer)
            names = [f"{layer}/{variable}:0" for variable in weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, array in zip(names, weights.values(), strict=True):
                group[name] = array


def independent(tensors: dict[str, np.ndarray], patches_PFM: torch.Tensor) -> dict[str, np.ndarray]:
    """The network with its batch norms, from functions of torch alone."""
    t = {name: torch.as_tensor(np.array(array)) for name, array in tensors.items()}
    values = patches_PFM[:, None]
    strides = [2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    for number, stride in enumerate(strides, start=1):
        parts = ["fused"] if number == 1 else ["depthwise_conv", "pointwise_conv"]
        for part in parts:
            name = f"layer{number}.{part}"
            kernel = t[f"{name}.conv.weight"]
            groups = len(kernel) if part == "depthwise_conv" else 1
            step = 1 if part == "pointwise_conv" else stride
            around = (0, 1, 0, 1) if step == 2 else (kernel.shape[2] // 2,) * 4
            values = torch.nn.functional.conv2d(
                torch.nn.functional.pad(values, around), kernel, None, step, groups=groups
            )
            norm = [t[f"{name}.bn.{v}"] for v in ("running_mean", "running_var", "weight", "bias")]
            values = torch.nn.functional.batch_norm(values, *norm, eps=1e-4).relu()
    embedding = values.mean(dim=(2, 3))
    logits = embedding @ t["classifier.weight"].T + t["classifier.bias"]
    found = {"embedding": embedding, "logits": logits, "scores": logits.sigmoid()}
    return {layer: vectors.numpy() for layer, vectors in found.items()}


@pytest.mark.parametrize("variant", ["keras", "keras_dense", "port"])
def test_every_file_variant_gives_the_same_as_a_network_with_batch_norms(tmp_path, variant):
    tensors = unfolded()
    path = tmp_path / ("yamnet.pth" if variant == "port" else "yamnet.h5")
    if variant == "port":
        torch.save({name: torch.as_tensor(array) for name, array in tensors.items()}, path)
    else:
        keras_file(path, tensors, last="dense" if variant == "keras_dense" else "logits")
    patches = log_mel(torch.from_numpy(batch() / 32767.0).float(), YAMNET)
    expected = independent(tensors, patches)
    found = embed(made(weights=str(path)), batch())
    for layer in LAYERS:
        scale = np.abs(expected[layer]).max()
        assert np.abs(found[layer] - expected[layer]).max() < 1e-4 * scale, layer


def test_a_file_of_another_network_is_refused(tmp_path):
    tensors = unfolded()
    del tensors["layer7.pointwise_conv.conv.weight"]
    tensors["classifier.bias"] = np.zeros(10, np.float32)
    keras_file(tmp_path / "yamnet.h5", tensors)
    with pytest.raises(WeightsError, match=r"layer7\.pointwise.*logits\.bias is \(10,\)"):
        made(weights=str(tmp_path / "yamnet.h5"))


def test_tensors_by_the_networks_own_names_stay_as_they_are():
    own = {name: t.numpy() for name, t in YAMNetNetwork().state_dict().items()}
    assert renamed(own) is own


# Settings


def test_an_engine_for_tflite_takes_nothing_else(tmp_path):
    with pytest.raises(ValueError, match=r"engine litert needs a \.tflite file, weights is random"):
        made(weights="random", engine="litert")
    with pytest.raises(WeightsError, match=r"needs a \.tflite file, weights is .*yamnet\.h5: give"):
        made(weights=str(tmp_path / "yamnet.h5"), engine="litert")


def test_layers_are_those_asked_for():
    backbone = BACKBONES.build("yamnet", {"layers": ["scores", "embedding"]})
    assert dict(backbone.layers) == {"scores": 521, "embedding": 1024}
    assert BACKBONES.build("yamnet", {}).layers == {"embedding": 1024}
    with pytest.raises(ValueError, match="layers"):
        BACKBONES.build("yamnet", {"layers": ["pool"]})


# Real weights


@pytest.fixture(scope="module")
def real(shared_data):
    pytest.importorskip("ai_edge_litert")
    path = shared_data / "weights" / "yamnet_spectra_in.tflite"
    return str(path)


def test_the_weights_give_googles_reference_score(real, shared_data):
    spectra = np.fromfile(shared_data / "weights" / "yamnet_test_spectra.bin", np.float32)
    patches = torch.from_numpy(spectra.reshape(1, 1, 96, 64))
    with torch.inference_mode():
        _, logits = filled(real, 0)(patches)
    assert logits.argmax() == 0  # Speech
    assert logits.sigmoid().max() == pytest.approx(0.941, abs=0.01)
    from audioflow.backbones.tflite import TFLite

    found = TFLite(real, {"scores": 93}, "yamnet")(spectra.reshape(1, 96, 64))["scores"]
    assert found.max() == pytest.approx(0.94140625, abs=1e-6)


def test_both_engines_give_nearly_the_same(real, shared_data):
    """LiteRT computes with 8 bits per activation, torch with floats, from the same weights."""
    sound = np.fromfile(shared_data / "weights" / "yamnet_test_audio.bin", np.int16)
    inputs = np.stack([sound, sound // 8, np.roll(sound, 5000)])
    exact, whole = (
        embed(made(weights=real, engine=engine), inputs) for engine in ("torch", "litert")
    )
    assert np.abs(exact["scores"] - whole["scores"]).max() < 0.03
    a, b = exact["embedding"], whole["embedding"]
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.998


def test_real_sounds_are_recognised(real, shared_data):
    """The class map has AudioSet's names in the order of the scores."""
    av = pytest.importorskip("av")
    with (shared_data / "weights" / "yamnet_class_map.csv").open(newline="") as file:
        names = [row["display_name"] for row in csv.DictReader(file)]
    wanted = {"dog": "Dog", "rooster": "Chicken, rooster", "chainsaw": "Chainsaw"}
    backbone = made(weights=real, layers=["scores"])
    with (shared_data / "esc10" / "meta.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for category, name in wanted.items():
        row = next(row for row in rows if row["category"] == category)
        with av.open(str(shared_data / "esc10" / "audio" / row["filename"])) as container:
            resampler = av.AudioResampler("s16", "mono", 16_000)
            parts = [
                part.to_ndarray()[0]
                for frame in container.decode(audio=0)
                for part in resampler.resample(frame)
            ]
        patches, _ = cut_patches(Stretch(np.concatenate(parts)), backbone.input)
        best = embed(backbone, patches)["scores"].mean(axis=0).argsort()[-4:]
        assert name in {names[place] for place in best}, category

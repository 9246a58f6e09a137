"""`vggish`: its patches, its network from every circulating file, and its post-processing.

Shapes: P patches, T samples of a patch, F frames.
"""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from audioflow import goldens
from audioflow.backbones import BACKBONES, vggish
from audioflow.backbones.network import random_tensor
from audioflow.backbones.vggish_post import Post
from audioflow.frontend.logmel import VGGISH, log_mel
from audioflow.media.patches import Stretch, cut_patches
from audioflow.weights import WeightsError

CPU = torch.device("cpu")
RATE = 16_000

# Of the network, from the table of the paper's published code.
SHAPES = {
    "features.0": (64, 1, 3, 3),
    "features.3": (128, 64, 3, 3),
    "features.6": (256, 128, 3, 3),
    "features.8": (256, 256, 3, 3),
    "features.11": (512, 256, 3, 3),
    "features.13": (512, 512, 3, 3),
    "embeddings.0": (4096, 12_288),
    "embeddings.2": (4096, 4096),
    "embeddings.4": (128, 4096),
}
SCOPES = [
    *("conv1", "conv2", "conv3/conv3_1", "conv3/conv3_2", "conv4/conv4_1", "conv4/conv4_2"),
    *("fc1/fc1_1", "fc1/fc1_2", "fc2"),
]


def built(**options):
    made = BACKBONES.build("vggish", {"weights": "random"} | options)
    made.to(CPU)
    return made


def embed(backbone, batch: np.ndarray) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        found = backbone.embed(torch.from_numpy(batch))
    return {name: vectors.numpy() for name, vectors in found.items()}


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """Random weights by their torchvggish names."""
    found = {}
    for name, shape in SHAPES.items():
        found[f"{name}.weight"] = random_tensor(f"{name}.weight", shape, 0)
        found[f"{name}.bias"] = random_tensor(f"{name}.bias", shape[:1], 0)
    return found


# Patches


@pytest.mark.parametrize(
    ("seconds", "count"),
    [(0.975, 1), (1, 1), (3, 3), (4.2, 4), (4.8, 4), (5, 5), (10, 10), (29.1, 30), (30, 31)],
)
def test_a_clip_gives_as_many_patches_as_the_reference(seconds, count):
    samples = np.zeros(round(seconds * RATE), np.int16)
    windows, starts = cut_patches(Stretch(samples), built_cheaply().input)
    assert windows.shape == (count, 15_600)
    assert starts == pytest.approx(0.96 * np.arange(count))


def built_cheaply(**options):
    return BACKBONES.build("vggish", {"weights": "random"} | options)


@pytest.mark.parametrize("seconds", [0.96, 0.974])
def test_a_clip_of_less_than_96_frames_is_a_matter_of_short(seconds):
    samples = np.ones(round(seconds * RATE), np.int16)
    assert len(cut_patches(Stretch(samples), built_cheaply().input)[0]) == 1
    with pytest.raises(Exception, match=r"one patch needs 0\.975 s"):
        cut_patches(Stretch(samples), built_cheaply(short="fail").input)


def test_patches_are_as_far_apart_as_hop_s_says():
    samples = np.zeros(2 * RATE, np.int16)
    _, starts = cut_patches(Stretch(samples), built_cheaply(hop_s=0.5).input)
    assert starts.tolist() == [0.0, 0.5, 1.0]


def test_a_patch_by_itself_is_what_it_is_in_the_clip():
    samples = goldens.sound(1, 5 * RATE)
    windows, _ = cut_patches(Stretch(samples[0]), built_cheaply().input)
    apart = log_mel(torch.from_numpy(windows / 32767.0), VGGISH)
    whole = log_mel(torch.from_numpy(samples / 32767.0), VGGISH)[0, : 5 * 96]
    assert torch.allclose(apart, whole.reshape(5, 96, 64), rtol=0, atol=1e-6)


# Weights


def test_the_network_has_the_published_size():
    net = vggish.Net(final_relu=True)
    assert sum(tensor.numel() for tensor in net.state_dict().values()) == 72_141_184
    assert {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} == {
        **{f"{name}.weight": shape for name, shape in SHAPES.items()},
        **{f"{name}.bias": shape[:1] for name, shape in SHAPES.items()},
    }


def tensorflow_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kernels (kH, kW, in, out), matrices (in, out), below `vggish/`; and a step counter."""
    found = {"global_step": np.zeros((), np.int64)}
    for scope, name in zip(SCOPES, SHAPES, strict=True):
        weight = tensors[f"{name}.weight"]
        turned = np.moveaxis(weight, (2, 3, 1, 0), (0, 1, 2, 3)) if weight.ndim == 4 else weight.T
        found[f"vggish/{scope}/weights"] = turned
        found[f"vggish/{scope}/biases"] = tensors[f"{name}.bias"]
        found[f"vggish/{scope}/weights/Adam"] = np.zeros_like(turned)
    return found


def torchaudio_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.replace("features.", "features_network.").replace(
            "embeddings.", "embedding_network."
        ): values
        for name, values in tensors.items()
    }


def with_pca(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    pca = {"pproc.pca_eigen_vectors": np.eye(128), "pproc.pca_means": np.zeros((128, 1))}
    return tensors | pca


@pytest.mark.parametrize("names", [dict, tensorflow_names, torchaudio_names, with_pca])
def test_every_circulating_file_gives_the_same_network(tensors, names):
    found = vggish.renamed(names(tensors))
    assert found.keys() == tensors.keys()
    for name, values in tensors.items():
        assert np.array_equal(found[name], values), name


def test_a_file_of_torch_gives_the_vectors_of_its_weights(tensors, tmp_path):
    path = tmp_path / "vggish-10086976.pth"
    torch.save({name: torch.from_numpy(values) for name, values in tensors.items()}, path)
    batch = goldens.sound(2, 15_600)
    expected = embed(built(), batch)["embedding"]  # random weights are those of the file
    assert np.array_equal(embed(built(weights=str(path)), batch)["embedding"], expected)


def test_a_file_of_another_network_is_refused(tensors, tmp_path):
    path = str(tmp_path / "other.safetensors")
    short = {name: tensors[name] for name in tensors if name != "embeddings.4.bias"}
    save_file(short | {"embeddings.0.bias": np.zeros(7, np.float32)}, path)
    with pytest.raises(WeightsError, match=r"embeddings\.4\.bias.*embeddings\.0\.bias is \(7,\)"):
        built(weights=path)


def test_tensors_of_tensorflow_that_belong_elsewhere_are_told():
    tensors = {"vggish/conv1/weights": np.zeros((3, 3, 1, 64)), "vggish/conv9/weights": np.ones(1)}
    assert "vggish/conv9/weights" in vggish.renamed(tensors)


# Switches


def test_without_the_final_relu_the_same_numbers_may_be_negative():
    batch = goldens.sound(2, 15_600)
    bare = embed(built(final_relu=False), batch)["embedding"]
    assert (bare < 0).mean() > 0.2
    assert np.array_equal(embed(built(), batch)["embedding"], np.maximum(bare, 0))


def test_layers_come_out_as_named():
    backbone = built(layers=["fc1_2", "embedding"])
    assert dict(backbone.layers) == {"fc1_2": 4096, "embedding": 128}
    found = embed(backbone, goldens.sound(1, 15_600))
    assert {name: vectors.shape for name, vectors in found.items()} == {
        "fc1_2": (1, 4096),
        "embedding": (1, 128),
    }
    weight = random_tensor("embeddings.4.weight", (128, 4096), 0).astype(np.float64)
    last = weight @ found["fc1_2"][0] + random_tensor("embeddings.4.bias", (128,), 0)
    assert found["embedding"][0] == pytest.approx(np.maximum(last, 0), rel=1e-4, abs=1e-5)


@pytest.fixture(scope="module")
def pca_path(shared_data) -> str:
    return str(shared_data / "weights" / "vggish_pca_params.npz")


@pytest.fixture(scope="module")
def released(shared_data) -> tuple[np.ndarray, np.ndarray]:
    """Real embeddings of a video by torchvggish, raw and post-processed."""
    with np.load(shared_data / "parity" / "torchvggish_frontend.npz") as reference:
        return reference["v_GGSY1Qvo990_raw"], reference["v_GGSY1Qvo990_post"]


def processed(kind: str, path: str, raw: np.ndarray) -> np.ndarray:
    post = Post(kind)
    post.load(path, 0)
    return post(torch.from_numpy(raw)).numpy()


def test_rounded_post_processing_is_that_of_torchvggish_to_the_step(pca_path, released):
    raw, expected = released
    assert np.array_equal(processed("float", pca_path, raw), expected)


def test_googles_post_processing_cuts_off_what_torchvggish_rounds(pca_path, released):
    raw, rounded = released
    with np.load(pca_path) as pca:
        turned = (raw - pca["pca_means"].reshape(1, -1)) @ pca["pca_eigen_vectors"].T
    expected = ((np.clip(turned, -2, 2) + 2) * (255 / 4)).astype(np.uint8)
    found = processed("uint8", pca_path, raw)
    assert np.array_equal(found, expected)
    assert set(np.unique(rounded - found)) == {0.0, 1.0}


@pytest.mark.parametrize("means", [(128,), (128, 1)])
def test_pca_files_of_torch_are_read(pca_path, released, tmp_path, means):
    with np.load(pca_path) as pca:
        vectors, shifted = pca["pca_eigen_vectors"], pca["pca_means"].reshape(means)
    path = tmp_path / "vggish_pca_params-970ea276.pth"
    torch.save({"pca_eigen_vectors": vectors, "pca_means": shifted}, path)
    assert np.array_equal(processed("float", str(path), released[0]), released[1])


def test_embeddings_are_post_processed_where_it_is_asked_for(pca_path):
    batch = goldens.sound(2, 15_600)
    raw = embed(built(final_relu=False), batch)["embedding"]
    found = embed(built(final_relu=False, postprocess="uint8", pca=pca_path), batch)["embedding"]
    assert np.array_equal(found, processed("uint8", pca_path, raw))
    assert found.dtype == np.float32


def test_the_relu_puts_the_last_number_at_255(pca_path):
    """tensorflow/models#5000: dimension 65 is 0 after the ReLU, and weighs much in the last."""
    found = processed("uint8", pca_path, np.zeros((1, 128), np.float32))
    assert found[0, -1] == 255


def test_postprocess_takes_the_public_pca_unless_another_is_named():
    assert built_cheaply().Settings().pca is None
    assert vggish.VGGishSettings(postprocess="uint8").pca == "audioset-pca"
    assert vggish.VGGishSettings(postprocess="float", pca="other.npz").pca == "other.npz"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pca": "p.npz"}, r"pca \(p\.npz\) is for postprocess, which is none"),
        ({"layers": []}, "layers"),
        ({"layers": ["fc2"]}, "fc2|fc1_1"),
        ({"layers": ["fc1_1", "fc1_1"]}, r"layers \(fc1_1, fc1_1\) names one twice"),
        ({"layers": ["fc1_1"], "postprocess": "uint8"}, r"postprocess \(uint8\) works on"),
        ({"postprocess": "int8"}, "postprocess"),
        ({"hop_s": 0}, "hop_s"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BACKBONES.build("vggish", options)


# As a trunk


def test_the_trunk_gives_what_embed_gives_of_integers_and_of_floats():
    backbone = built()
    batch = goldens.sound(2, 15_600)
    expected = embed(backbone, batch)["embedding"]
    trunk = backbone.trunk().eval()
    near = pytest.approx(expected, abs=1e-5 * float(expected.max()))
    with torch.no_grad():
        assert trunk(torch.from_numpy(batch)).numpy() == near
        floats = torch.from_numpy(batch.astype(np.float32) / np.float32(32767))
        assert trunk(floats).numpy() == near


def test_a_few_steps_of_training_reach_the_first_convolution():
    backbone = built(final_relu=False)
    trunk = backbone.trunk().train()
    first = trunk.net.features[0].weight
    before, batch = first.detach().clone(), torch.from_numpy(goldens.sound(2, 15_600))
    steps = torch.optim.SGD(trunk.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        loss = (trunk(batch) - 1).square().mean()
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert not torch.equal(first, before)
    bare = embed(backbone, batch.numpy())["embedding"]  # the backbone itself has not moved
    assert not np.allclose(bare, trunk(batch).detach().numpy(), atol=1e-4)


def test_a_trunk_that_rounds_is_refused():
    backbone = built_cheaply(postprocess="uint8", pca="random")
    with pytest.raises(ValueError, match="postprocess uint8 rounds"):
        backbone.trunk()

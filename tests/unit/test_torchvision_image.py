"""`image` and its named forms, against torchvision's own networks and transforms.

Shapes: F frames, H and W their size.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torchvision import models

from audioflow.backbones import BACKBONES
from audioflow.backbones import torchvision_image as module
from audioflow.backbones.network import fill_random
from audioflow.backbones.torchvision_models import TwoLayers, _new_name
from audioflow.media.parts import FrameSampling
from audioflow.weights import WeightsError
from tests.unit.test_pictures import read

CPU = torch.device("cpu")
ALL = ["embedding", "logits", "scores"]
FAMILIES = (
    "resnet18 mobilenet_v3_small shufflenet_v2_x0_5 efficientnet_b0 convnext_tiny swin_t"
    " regnet_y_400mf mnasnet0_5"
).split()


def frames(count: int = 2, height: int = 256, width: int = 300, seed: int = 0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 1, -(-height // 16), -(-width // 16), 3), np.uint8)
    fine = coarse.repeat(16, axis=2).repeat(16, axis=3)[:, :, :height, :width]
    return torch.from_numpy(fine.copy())


def made(name: str, **options):
    backbone = BACKBONES.build(name, {"weights": "random", "layers": ALL} | options)
    backbone.to(CPU)
    return backbone


def embed(backbone, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return backbone.embed(batch)


def last_layer(network: nn.Module) -> nn.Linear:
    return [inner for inner in network.modules() if isinstance(inner, nn.Linear)][-1]


def as_torchvision_does_it(network: nn.Module, transforms, batch: torch.Tensor):
    """One picture after the other -> what the last layer was given, and what it gave."""
    given = []
    hook = last_layer(network).register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.inference_mode():
        pictures = [transforms(picture.permute(2, 0, 1)) for picture in batch[:, 0]]
        logits = torch.cat([network(picture[None]) for picture in pictures])
    hook.remove()
    return torch.cat(given), logits


@pytest.mark.parametrize("model", FAMILIES)
def test_every_family_gives_what_goes_into_its_last_layer_and_what_comes_out(model):
    network = models.get_model(model, weights=None).eval()
    fill_random(network, 5)
    batch = frames(2, 260, 300)
    transforms = models.get_model_weights(model).DEFAULT.transforms()
    embedding, logits = as_torchvision_does_it(network, transforms, batch)
    found = embed(made("image", model=model, seed=5), batch)
    scale = float(embedding.abs().max())
    assert embedding.shape == (2, module.WIDTHS[model])
    assert torch.allclose(found["embedding"], embedding, atol=1e-5 * scale)
    assert torch.allclose(found["logits"], logits, atol=1e-5 * float(logits.abs().max()))
    assert torch.allclose(found["scores"], logits.softmax(dim=1), atol=1e-3)
    assert not torch.allclose(embedding[0], embedding[1], atol=1e-3 * scale)


@pytest.mark.parametrize("size", [(120, 90), (90, 120), (480, 270), (224, 224), (270, 481)])
def test_frames_of_any_shape_are_resized_as_torchvision_does_it(size):
    network = models.resnet18().eval()
    fill_random(network, 0)
    batch = frames(2, *size)
    transforms = models.ResNet18_Weights.DEFAULT.transforms()
    expected, _ = as_torchvision_does_it(network, transforms, batch)
    found = embed(made("resnet18"), batch)["embedding"]
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_every_model_of_torchvision_is_there_or_left_out_on_purpose():
    every = set(models.list_models(module=models))
    left_out = {"googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1"}
    assert every - set(module.WIDTHS) == left_out
    assert set(module.WIDTHS) <= every


def test_widths_are_those_of_the_networks():
    # RegNets compute their shapes by tensors, so they cannot be laid out without memory.
    for model, width in module.WIDTHS.items():
        if model.startswith("regnet") and not model.endswith("00mf"):
            continue
        with torch.device("cpu" if model.startswith("regnet") else "meta"):
            assert last_layer(models.get_model(model)).in_features == width, model


# Weight files


def saved(model: str, path: Path, old_names: bool = False) -> Path:
    """A state dict as torchvision publishes it, with weights that differ from the random ones."""
    network = models.get_model(model, weights=None)
    fill_random(network, 77)
    state = network.state_dict()
    if old_names:
        state = {
            name.replace("norm1.", "norm.1.")
            .replace("norm2.", "norm.2.")
            .replace("conv1.", "conv.1.")
            .replace("conv2.", "conv.2.")
            if "denselayer" in name
            else name: tensor
            for name, tensor in state.items()
            if not name.endswith("num_batches_tracked")
        }
    torch.save(state, path)
    return path


@pytest.mark.parametrize(("model", "old"), [("mobilenet_v3_small", False), ("densenet121", True)])
def test_a_file_of_torchvision_is_read_under_its_present_and_former_names(tmp_path, model, old):
    path = saved(model, tmp_path / "weights.pth", old)
    found = embed(made("image", model=model, weights=str(path)), frames())
    expected = embed(made("image", model=model, seed=77), frames())
    assert torch.equal(found["embedding"], expected["embedding"])


def test_former_names_of_vision_transformers_are_known():
    old = "encoder.layers.encoder_layer_11.mlp.linear_2.weight"
    network = models.vit_b_16
    with torch.device("meta"):
        names = network().state_dict().keys()
    assert _new_name(old) == "encoder.layers.encoder_layer_11.mlp.3.weight"
    assert _new_name(old.replace("linear_2", "linear_1")) in names
    assert _new_name(old) in names
    assert all(_new_name(name) == name for name in names)


def test_a_file_of_another_network_is_refused_by_what_differs(tmp_path):
    path = saved("mobilenet_v3_small", tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"weights\.pth does not fit .* missing: bn1\.bias"):
        made("resnet18", weights=str(path))


# What is known of weights


def test_every_known_file_tells_its_hash_its_licence_and_whom_to_cite():
    known = {weights.name: weights for weights in module.Image.known}
    assert len(known) == len(module.Image.known) > 100
    resnet = known["ResNet18_Weights.IMAGENET1K_V1"]
    assert resnet.url == "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert resnet.sha256 == "f37072fd"
    assert resnet.citation.startswith("He et al. 2016")
    assert "BSD-3-Clause" in resnet.licence
    assert "CC-BY-NC" in known["ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1"].licence
    assert known["Wide_ResNet50_2_Weights.IMAGENET1K_V2"].citation.startswith("Zagoruyko")
    for weights in known.values():
        assert int(weights.sha256, 16) >= 0
        assert len(weights.sha256) >= 8
        assert weights.citation[:4] != "Tran", weights.name


@pytest.mark.parametrize(
    ("options", "weights", "side"),
    [
        ({}, "ResNet50_Weights.IMAGENET1K_V2", 232),
        ({"weights": "DEFAULT"}, "ResNet50_Weights.IMAGENET1K_V2", 232),
        ({"weights": "IMAGENET1K_V1"}, "ResNet50_Weights.IMAGENET1K_V1", 256),
        ({"weights": "ResNet50_Weights.IMAGENET1K_V1"}, "ResNet50_Weights.IMAGENET1K_V1", 256),
        ({"weights": "random"}, "random", 232),
        ({"weights": "random", "preset": "IMAGENET1K_V1"}, "random", 256),
        ({"weights": "some/where.pth"}, "some/where.pth", 232),
        ({"weights": "s3://b/resnet50-0676ba61.pth"}, "s3://b/resnet50-0676ba61.pth", 256),
        ({"short_side": 400}, "ResNet50_Weights.IMAGENET1K_V2", 400),
    ],
)
def test_frames_are_resized_as_the_weights_want_it(options, weights, side):
    settings = BACKBONES.load("resnet50").Settings.model_validate(options)
    assert settings.weights == weights
    sampling = BACKBONES.build("resnet50", options).input.sampling
    assert sampling == FrameSampling(8, side, None)


def test_the_preset_stays_when_a_path_takes_the_place_of_the_name():
    settings = BACKBONES.load("resnet50").Settings(weights="IMAGENET1K_V1")
    local = settings.model_copy(update={"weights": "cache/0676ba61"})
    assert BACKBONES.load("resnet50")(local).input.sampling.short_side == 256


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("image", {"model": "resnet5"}, r"'resnet5' .* did you mean 'resnet50'\?"),
        ("resnet18", {"model": "resnet50"}, "'resnet18'"),
        ("image", {"weights": "IMAGENET1K_V3"}, "'IMAGENET1K_V3' are no weights of resnet18"),
        ("resnet18", {"weights": "ResNet50_Weights.IMAGENET1K_V1"}, "are no weights of resnet18"),
        ("image", {"preset": "x"}, "preset: 'x' are no weights of resnet18"),
        ("image", {"num_frames": 3, "fps": 2.0}, r"num_frames \(3\) and fps \(2\) exclude"),
        ("image", {"layers": []}, "at least 1"),
        ("image", {"layers": ["pool"]}, "'embedding', 'logits' or 'scores'"),
        ("image", {"layers": ["logits", "logits"]}, "'logits' twice"),
    ],
)
def test_settings_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(ValidationError, match=message):
        BACKBONES.build(name, options)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "convnext_tiny", "vit_b_16"])
def test_a_named_backbone_is_the_image_backbone_with_that_model(name):
    plugin = BACKBONES.load(name)
    settings = plugin.Settings()
    assert settings.model == name
    assert settings.weights in [known.name for known in plugin.known]
    assert all(known.url.rpartition("/")[2].startswith(name) for known in plugin.known)
    general = BACKBONES.build("image", {"model": name})
    assert (plugin(settings).input, plugin(settings).layers) == (general.input, general.layers)


def test_layers_are_given_as_asked_for_in_their_own_order():
    assert dict(made("resnet18", layers=["scores"]).layers) == {"scores": 1000}
    backbone = made("resnet18", layers=["logits", "embedding"])
    assert dict(backbone.layers) == {"embedding": 512, "logits": 1000}
    assert list(embed(backbone, frames())) == ["embedding", "logits"]


def test_the_size_of_the_input_follows_the_weights_of_a_vision_transformer():
    settings = module.ImageSettings(
        model="vit_b_16", weights="random", preset="IMAGENET1K_SWAG_E2E_V1"
    )
    assert module.Image(settings).input.sampling.short_side == 384
    with torch.device("meta"):
        network = models.vit_b_16(image_size=settings.published.meta["min_size"][0])
    assert network.image_size == 384


def test_two_layers_keep_the_networks_own_last_layer():
    network = models.resnet18()
    last = network.fc
    assert TwoLayers(network).last is last


# Real frames


def test_real_frames_resized_by_the_decoder_give_nearly_what_torchvision_gives(shared_data):
    path = shared_data / "videos" / "moviepy__chaplin.mp4"
    backbone, sharper = made("resnet18", num_frames=4), made("resnet18", short_side=360)
    small = read(path, num_frames=4, short_side=backbone.input.sampling.short_side).frames
    full = read(path, num_frames=4, short_side=sharper.input.sampling.short_side).frames
    assert small.shape[1:3] == (256, 455)
    assert full.shape[1:3] == (360, 640)
    network = models.resnet18().eval()
    fill_random(network, 0)
    transforms = models.ResNet18_Weights.DEFAULT.transforms()
    expected, _ = as_torchvision_does_it(network, transforms, torch.from_numpy(full[:, None]))
    exact = embed(sharper, torch.from_numpy(full[:, None]))["embedding"]
    near = embed(backbone, torch.from_numpy(small[:, None]))["embedding"]
    assert torch.allclose(exact, expected, atol=1e-5 * float(expected.abs().max()))
    assert torch.cosine_similarity(near, expected).min() > 0.9999
    assert (near - expected).abs().max() < 0.01 * expected.abs().max()

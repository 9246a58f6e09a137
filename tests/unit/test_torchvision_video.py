"""`video` and its named forms, against torchvision's own networks and transforms.

Shapes: P patches, N frames of a patch, H and W their size.
"""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torchvision import models

from audioflow.backbones import BACKBONES
from audioflow.backbones import torchvision_video as module
from audioflow.backbones.network import fill_random
from audioflow.media.parts import FramePatching, FrameSampling
from audioflow.media.patches import FrameStretch, cut_frames
from tests.unit.test_pictures import read

CPU = torch.device("cpu")
ALL = ["embedding", "logits", "scores"]
NAMED = ["r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_t"]


def films(count: int, frames: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Coarse pictures that move to the right."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 1, -(-height // 16), -(-width // 16), 3), np.uint8)
    fine = coarse.repeat(16, axis=2).repeat(16, axis=3)[:, :, :height, :width]
    return torch.from_numpy(
        np.concatenate([np.roll(fine, 3 * n, axis=3) for n in range(frames)], axis=1)
    )


def made(name: str, **options):
    backbone = BACKBONES.build(name, {"weights": "random", "layers": ALL} | options)
    backbone.to(CPU)
    return backbone


def embed(backbone, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return backbone.embed(batch)


def scores_of_torchvision(model: str, batch: torch.Tensor) -> torch.Tensor:
    network = models.get_model(model, weights=None).eval()
    fill_random(network, 0)
    transforms = models.get_model_weights(model).DEFAULT.transforms()
    with torch.inference_mode():
        return torch.cat([network(transforms(film.permute(0, 3, 1, 2))[None]) for film in batch])


@pytest.mark.parametrize(
    ("model", "frames", "size"),
    [
        ("r2plus1d_18", 4, (128, 228)),
        ("r3d_18", 3, (227, 128)),
        ("mc3_18", 2, (100, 90)),
        ("s3d", 14, (256, 341)),
        ("mvit_v2_s", 16, (256, 300)),
        ("swin3d_t", 2, (300, 256)),
    ],
)
def test_logits_are_those_of_torchvision_whatever_shape_the_frames_have(model, frames, size):
    batch = films(1, frames, *size)
    expected = scores_of_torchvision(model, batch)
    found = embed(made("video", model=model, frames_per_patch=frames), batch)
    assert torch.allclose(found["logits"], expected, atol=1e-5 * float(expected.abs().max()))
    assert torch.allclose(found["scores"], expected.softmax(dim=1), atol=1e-3)
    assert found["embedding"].shape == (1, module.WIDTHS[model])


@pytest.mark.parametrize("model", ["r2plus1d_18", "s3d"])
def test_the_embedding_is_what_the_last_layer_makes_logits_of(model):
    network = models.get_model(model, weights=None)
    fill_random(network, 0)
    state = network.state_dict()
    last = "fc" if model == "r2plus1d_18" else "classifier.1"
    weight = state[f"{last}.weight"].flatten(1)
    frames = 4 if model == "r2plus1d_18" else 30  # 30: two steps in time before S3D's last layer
    found = embed(made(model, frames_per_patch=frames), films(1, frames, 128, 171))
    expected = found["embedding"] @ weight.T + state[f"{last}.bias"]
    assert torch.allclose(found["logits"], expected, atol=1e-5 * float(expected.abs().max()))


def test_two_steps_in_time_of_s3d_are_averaged_as_torchvision_averages_them():
    batch = films(1, 30, 128, 171)
    expected = scores_of_torchvision("s3d", batch)
    found = embed(made("s3d", frames_per_patch=30), batch)["logits"]
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_widths_are_those_of_the_networks():
    assert set(module.WIDTHS) == set(models.list_models(module=models.video))
    for model, width in module.WIDTHS.items():
        with torch.device("meta"):
            modules = list(models.get_model(model).modules())
        last = modules[-1]
        have = last.in_features if isinstance(last, nn.Linear) else last.in_channels
        assert have == width, model


@pytest.mark.parametrize(
    ("model", "patching"),
    [
        ("r2plus1d_18", FramePatching(FrameSampling(None, 128, 15.0), 16, 16)),
        ("r3d_18", FramePatching(FrameSampling(None, 128, 15.0), 16, 16)),
        ("s3d", FramePatching(FrameSampling(None, 256, 15.0), 128, 128)),
        ("mvit_v1_b", FramePatching(FrameSampling(None, 256, 7.5), 16, 16)),
        ("mvit_v2_s", FramePatching(FrameSampling(None, 256, 7.5), 16, 16)),
        ("swin3d_b", FramePatching(FrameSampling(None, 256, 15.0), 32, 32)),
    ],
)
def test_frames_are_taken_as_they_were_for_the_published_accuracy(model, patching):
    assert BACKBONES.build("video", {"model": model}).input == patching


def test_frames_are_taken_as_the_user_says():
    options = {"fps": 5, "frames_per_patch": 8, "hop_frames": 2, "short_side": 200}
    expected = FramePatching(FrameSampling(None, 200, 5.0), 8, 2)
    assert BACKBONES.build("video", options).input == expected


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("video", {"model": "s3e"}, r"'s3e' is not known; did you mean 's3d'\?"),
        ("s3d", {"frames_per_patch": 13}, "frames_per_patch: 13; s3d needs at least 14"),
        ("mvit_v2_s", {"frames_per_patch": 8}, "frames_per_patch: 8; mvit_v2_s takes 16"),
        ("video", {"model": "mvit_v1_b", "frames_per_patch": 32}, "mvit_v1_b takes 16"),
        ("swin3d_t", {"model": "swin3d_s"}, "'swin3d_t'"),
        ("video", {"num_frames": 4}, "num_frames"),
    ],
)
def test_settings_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(ValidationError, match=message):
        BACKBONES.build(name, options)


@pytest.mark.parametrize("name", NAMED)
def test_a_named_backbone_is_the_video_backbone_with_that_model(name):
    plugin = BACKBONES.load(name)
    assert plugin.Settings().weights in [known.name for known in plugin.known]
    assert all("Kinetics-400" in known.licence for known in plugin.known)
    general = BACKBONES.build("video", {"model": name})
    assert (plugin(plugin.Settings()).input, dict(plugin(plugin.Settings()).layers)) == (
        general.input,
        {"embedding": module.WIDTHS[name]},
    )


@pytest.mark.parametrize("name", ["r2plus1d_18", "s3d"])
def test_bfloat16_keeps_the_direction_that_a_film_has_beside_another(name):
    """What two films have in common is taken out: with random weights it is nearly everything."""
    options = {"frames_per_patch": {"s3d": 14}.get(name, 2)}
    batch = films(2, options["frames_per_patch"], 128, 171)
    exact = embed(made(name, precision="float32", **options), batch)["embedding"]
    short = embed(made(name, precision="bfloat16", **options), batch)["embedding"]
    assert torch.cosine_similarity(exact, short).min() > 0.999
    difference = torch.cosine_similarity(exact[0] - exact[1], short[0] - short[1], dim=0)
    assert difference > 0.97


def test_a_short_clip_shows_its_last_frame_on_and_moving_frames_matter(shared_data):
    path = shared_data / "videos" / "openl3__bento.mp4"
    backbone = made("r2plus1d_18", fps=10, frames_per_patch=4, hop_frames=2)
    source = backbone.input.sampling
    found = read(path, fps=source.fps, short_side=source.short_side)
    patches, time_s = cut_frames(FrameStretch(found.frames, found.time_s), backbone.input)
    assert len(patches) == 1 + (len(found.frames) - 4) // 2 > 2
    short, _ = cut_frames(FrameStretch(found.frames[:1], found.time_s[:1]), backbone.input)
    assert short.shape[:2] == (1, 4)
    batch = torch.from_numpy(np.concatenate([patches[:2], short]))
    vectors = embed(backbone, batch)["logits"]
    expected = scores_of_torchvision("r2plus1d_18", batch)
    assert torch.allclose(vectors, expected, atol=1e-5 * float(expected.abs().max()))
    assert time_s[:2] == pytest.approx([0.0, 0.2], abs=0.08)

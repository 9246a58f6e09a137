"""The heads that look at spectrograms: on patches by themselves, and VGGish on sequences of them.

Shapes: N patches, B clips, P patches of a clip, V frames, D mel bands, C classes.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18, resnet50, vgg

from audioflow import goldens
from audioflow.backbones import BACKBONES
from audioflow.heads.base import HeadShape
from audioflow.heads.resnet18 import ResNet18
from audioflow.heads.resnet50 import ResNet50
from audioflow.heads.short_chunk_cnn import ShortChunkCnn
from audioflow.heads.vgg16_bn import Vgg16Bn
from audioflow.heads.vggish_finetune import VggishFinetune
from audioflow.weights import UnknownWeights, WeightsError

C = 3
CASES: dict[str, tuple[Any, tuple[int, int]]] = {
    "short_chunk_cnn": (ShortChunkCnn, (720, 108)),
    "resnet18": (ResNet18, (24, 16)),
}
PLUGINS = [ShortChunkCnn, Vgg16Bn, ResNet18, ResNet50, VggishFinetune]


def shape_of(frames: int, bands: int) -> HeadShape:
    return HeadShape(("logmel",), (bands,), frames)


def made(
    plugin: Any, picture: tuple[int, int], classes: int = C, seed: int = 0, **options: Any
) -> Any:
    torch.manual_seed(seed)
    return plugin(plugin.Settings.model_validate(options)).build(shape_of(*picture), classes)


def built(name: str, seed: int = 0) -> Any:
    plugin, size = CASES[name]
    return made(plugin, size, seed=seed)


def pictures(name: str, count: int) -> torch.Tensor:
    torch.manual_seed(1)
    return 20 * torch.randn(count, *CASES[name][1]) - 40


def counted(plugin: Any, size: tuple[int, int], classes: int, **options: Any) -> int:
    with torch.device("meta"):
        module = made(plugin, size, classes, **options)
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


# What all of them promise


@pytest.mark.parametrize("training", [False, True])
def test_a_head_gives_a_logit_per_class(name, training):
    module = built(name).train(training)
    for count in (0, 1, 3):
        logits = module(pictures(name, count))
        assert (logits.shape, logits.dtype) == ((count, C), torch.float32)
        assert logits.isfinite().all()


def test_patches_do_not_influence_each_other(name):
    module = built(name).eval()
    given = pictures(name, 4)
    apart = torch.cat([module(one[None]) for one in given])
    assert torch.allclose(apart, module(given), atol=1e-4)


def test_an_empty_share_has_zero_gradients_and_changes_nothing_else(name):
    module = built(name).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    (0.0 * module(pictures(name, 0)).sum()).backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert not parameter.grad.any(), key
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_a_share_of_one_patch_has_finite_gradients(name):
    module = built(name).train()
    module(pictures(name, 1)).square().sum().backward()
    grads = [parameter.grad for parameter in module.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)


def test_every_build_is_fresh_and_a_seed_decides_the_first_parameters(name):
    one, same, other = built(name, 3), built(name, 3), built(name, 4)
    again = same.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in one.state_dict().items())
    with torch.no_grad():
        next(one.parameters()).fill_(7.0)
    assert not torch.equal(next(one.parameters()), next(same.parameters()))
    last = list(same.parameters())[-2]
    assert not torch.equal(last, list(other.parameters())[-2])


@pytest.mark.parametrize("plugin", PLUGINS)
def test_settings_are_frozen_and_strict(plugin):
    with pytest.raises(ValidationError, match="no_such_setting"):
        plugin.Settings.model_validate({"no_such_setting": 1})
    settings = plugin.Settings()
    assert plugin.Settings.model_validate_json(settings.model_dump_json(), strict=True) == settings
    for field in plugin.Settings.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, field, getattr(settings, field))


def test_modules_are_called_once_and_never_work_in_place(name):
    """As explanations need it, which hook into modules."""
    assert_hookable(built(name), pictures(name, 2))


def assert_hookable(module: nn.Module, *given: torch.Tensor) -> None:
    calls: list[nn.Module] = []
    hooks = [
        part.register_forward_hook(lambda part, *_: calls.append(part)) for part in module.modules()
    ]
    module.eval()(*given)
    for hook in hooks:
        hook.remove()
    assert calls
    assert len(calls) == len(set(calls))
    assert not any(getattr(part, "inplace", False) for part in module.modules())


def test_a_head_learns_which_half_of_the_bands_is_loud(name):
    module = built(name).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    frames, bands = CASES[name][1]
    targets = torch.arange(4) % 2
    losses = []
    for step in range(6):
        given = torch.randn(4, frames, bands, generator=torch.Generator().manual_seed(step))
        given[targets == 1, :, : bands // 2] += 3
        given[targets == 0, :, bands // 2 :] += 3
        loss = F.cross_entropy(module(given), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 < losses[0]


# short_chunk_cnn


def test_short_chunk_cnn_has_the_published_parameters_and_maps():
    size = (1254, 128)
    assert counted(ShortChunkCnn, size, 10) == 40_124
    module = made(ShortChunkCnn, size, 10).eval()
    shapes: list[tuple[int, ...]] = []
    for part in module.features:
        if isinstance(part, nn.MaxPool2d):
            part.register_forward_hook(lambda *called: shapes.append(tuple(called[2].shape[1:])))
    assert module(torch.randn(1, *size)).shape == (1, 10)
    assert shapes == [(16, 64, 418), (16, 21, 104), (32, 10, 20), (32, 3, 6), (64, 1, 1)]


def test_short_chunk_cnn_begins_by_normalising_its_input():
    module = built("short_chunk_cnn").train()
    given = pictures("short_chunk_cnn", 4)
    found = module.features[0](given[:, None]).detach()
    assert (float(found.mean()), float(found.std())) == pytest.approx((0, 1), abs=1e-3)


def test_of_a_longer_clip_the_largest_values_count():
    module = made(ShortChunkCnn, (1440, 108)).eval()
    given = pictures("short_chunk_cnn", 1)
    with torch.no_grad():
        map_NCHW = module.features(torch.cat([given, given], dim=1).transpose(1, 2)[:, None])
        assert map_NCHW.shape == (1, 64, 1, 2)
        expected = module.classifier(map_NCHW.amax(dim=(2, 3)))
        assert torch.equal(module(torch.cat([given, given], dim=1)), expected)


@pytest.mark.parametrize(
    ("size", "told"), [((171, 128), "V = 171, D = 128"), ((1254, 107), "V = 1254, D = 107")]
)
def test_short_chunk_cnn_refuses_what_it_would_pool_to_nothing(size, told):
    """171 frames are 3.96 s, of which the published network leaves a width of 0."""
    with pytest.raises(ValueError, match=rf"at least 720 frames .* 108 mel bands .* {told}"):
        made(ShortChunkCnn, size)
    made(ShortChunkCnn, (720, 108))


# vgg16_bn


def test_vgg16_bn_has_the_published_parameters():
    assert counted(Vgg16Bn, (171, 128), 10) == 134_308_812


def test_vgg16_bn_is_torchvisions_on_the_drawn_square():
    """All that is promised of it, on a network of 34 million parameters."""
    module = made(Vgg16Bn, (20, 10), size=40)
    given = 20 * torch.randn(2, 20, 10) - 40
    (0.0 * module.train()(given[:0]).sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())
    assert_hookable(module, given)
    reference = vgg.make_layers(vgg.cfgs["D"], batch_norm=True).eval()
    reference[0] = nn.Conv2d(1, 64, 3, padding=1)
    reference.load_state_dict(module.features.state_dict())
    with torch.no_grad():
        normed = (given / (1 + 1e-5) ** 0.5).transpose(1, 2)[:, None]
        square = F.interpolate(normed, (40, 40), mode="bilinear", align_corners=False)
        expected = module.classifier(reference(square).flatten(1))
        found = module.eval()(given)
    assert found.shape == (2, C)
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.allclose(module(given[:1]), found[:1], atol=1e-4)


@pytest.mark.parametrize("options", [{"size": 31}, {"size": 0}, {"dropout": 1}])
def test_vgg16_bn_refuses_settings_out_of_range(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        Vgg16Bn.Settings.model_validate(options)


# resnet18 and resnet50


def test_resnet50_has_the_published_parameters():
    assert counted(ResNet50, (96, 64), 600) == 24_731_160


@pytest.mark.parametrize(("plugin", "reference"), [(ResNet18, resnet18), (ResNet50, resnet50)])
def test_a_resnet_is_torchvisions_with_another_first_convolution(plugin, reference):
    module = made(plugin, (96, 64)).eval()
    other = reference(num_classes=C).eval()
    other.conv1 = nn.Conv2d(1, 64, 7, padding=3, bias=False)
    other.load_state_dict(module.state_dict())
    given = torch.randn(1, 96, 64)
    with torch.no_grad():
        assert torch.allclose(module(given), other(given.transpose(1, 2)[:, None]), atol=1e-4)


def test_the_whole_map_counts_and_not_its_first_two_thirds():
    module = made(ResNet50, (96, 64)).eval()
    maps: list[torch.Tensor] = []
    module.layer4.register_forward_hook(lambda *called: maps.append(called[2]))
    with torch.no_grad():
        found = module(torch.randn(2, 96, 64))
        assert maps[0].shape == (2, 2048, 4, 6)
        assert torch.allclose(found, module.fc(maps[0].mean(dim=(2, 3))), atol=1e-5)
        published = module.fc(maps[0][..., :4].mean(dim=(2, 3)))
    assert not torch.allclose(found, published, atol=1e-3)


def test_resnets_take_pictures_of_any_size():
    module = built("resnet18").train()
    for size in ((1, 1), (7, 3), (96, 64)):
        assert module(torch.randn(1, *size)).isfinite().all()


# vggish_finetune

PATCH = (96, 64)


@pytest.fixture(scope="module")
def fine() -> Any:
    return made(VggishFinetune, PATCH, 15, weights="random").eval()


def clips(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    torch.manual_seed(1)
    return torch.randn(len(lengths), max(lengths), *PATCH) - 2, mask


def test_vggish_finetune_has_the_published_parameters():
    with torch.device("meta"):
        module = made(VggishFinetune, PATCH, 15)
    parts = {"trunk": 0, "head": 0}
    for key, parameter in module.named_parameters():
        parts["trunk" if key.startswith("trunk.") else "head"] += parameter.numel()
    assert parts == {"trunk": 72_141_184, "head": 67_983}


def test_vggish_sees_only_patches_and_what_is_not_one_does_not_count(fine):
    frames, mask = clips([2, 1, 3])
    seen: list[int] = []
    hook = fine.trunk.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    with torch.inference_mode():
        expected = fine(frames, mask)
        blank = frames.masked_fill(~mask[..., None, None], float("nan"))
        assert torch.equal(fine(blank, mask), expected)
        longer = torch.cat([frames, frames], dim=1), torch.cat([mask, ~mask & mask], dim=1)
        assert torch.allclose(fine(*longer), expected, atol=1e-5)
        apart = [fine(frames[i : i + 1, :n], mask[i : i + 1, :n]) for i, n in enumerate([2, 1, 3])]
        assert torch.allclose(torch.cat(apart), expected, atol=1e-5)
        weights = fine.weights(frames, mask)
    hook.remove()
    assert seen == [6, 6, 6, 2, 1, 3, 6]
    assert torch.allclose(weights.sum(dim=1), torch.ones(3))
    assert not weights[~mask].any()


def test_vggish_finetune_takes_no_clips_and_trains_with_zero_gradients(fine):
    frames, mask = clips([2])
    assert fine(frames[:0], mask[:0]).shape == (0, 15)
    (0.0 * fine.train()(frames[:0], mask[:0]).sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in fine.parameters())
    fine(frames, mask).square().sum().backward()
    assert fine.trunk.features[0].weight.grad.any()
    fine.zero_grad()
    fine.eval()


def test_vggish_from_scratch_keeps_the_scale_of_what_flows_through(fine):
    frames, mask = clips([3])
    with torch.inference_mode():
        found = fine.trunk(frames[mask][:, None])["embedding"]
    assert 0.05 < float(found.std()) < 50
    assert_hookable(fine, frames, mask)


def test_vggish_starts_from_a_file_and_gives_what_the_backbone_gives(fine, tmp_path):
    path = str(tmp_path / "vggish.safetensors")
    save_file(fine.trunk.state_dict(), path)
    module = made(VggishFinetune, PATCH, C, weights=path, pool="mean", seed=5).eval()
    torch.manual_seed(5)
    assert torch.equal(module.classifier.weight, nn.Linear(128, C).weight)
    sound = torch.from_numpy(goldens.sound(3, 15_600))
    backbone = BACKBONES.build("vggish", {"weights": path})
    backbone.to(torch.device("cpu"))
    with torch.inference_mode():
        embeddings = backbone.embed(sound)["embedding"]
        frames = BACKBONES.build("logmel", {"preset": "vggish"}).embed(sound)["logmel"]
        mask = torch.ones(1, 3, dtype=torch.bool)
        expected = module.classifier(embeddings.mean(dim=0, keepdim=True))
        assert torch.allclose(module(frames[None], mask), expected, rtol=1e-4, atol=1e-5)
        assert torch.allclose(module.weights(frames[None], mask), torch.full((1, 3), 1 / 3))


def test_the_rate_of_the_trunk_is_told_and_may_be_zero():
    for rate in (0.0, 0.1, 1.0):
        with torch.device("meta"):
            module = made(VggishFinetune, PATCH, C, trunk_rate=rate)
        told = module.rates()
        assert told == {"trunk.": rate}
        named = [key for key, _ in module.named_parameters() if key.startswith("trunk.")]
        assert len(named) == 18
    with pytest.raises(ValidationError, match="trunk_rate"):
        VggishFinetune.Settings(trunk_rate=-1)


def test_without_the_final_relu_embeddings_may_be_negative(fine):
    frames, mask = clips([2])
    with torch.device("meta"):
        other = made(VggishFinetune, PATCH, 15, final_relu=False)
    other.load_state_dict(fine.state_dict(), assign=True)
    with torch.inference_mode():
        bare = other.trunk(frames[mask][:, None])["embedding"]
        assert (bare < 0).any()
        assert torch.equal(bare.relu(), fine.trunk(frames[mask][:, None])["embedding"])


@pytest.mark.parametrize("size", [(96, 128), (1254, 64)])
def test_vggish_finetune_refuses_other_patches(size):
    told = f"96 frames and 64 mel bands, got {size[0]} and {size[1]}"
    with pytest.raises(ValueError, match=told):
        made(VggishFinetune, size, weights="random")


def test_vggish_finetune_refuses_heads_that_cannot_share_its_width():
    with pytest.raises(ValueError, match=r"num_heads \(3\) does not divide the width 128"):
        made(VggishFinetune, PATCH, num_heads=3, weights="random")


def test_weights_that_are_not_here_or_do_not_fit_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOFLOW_WEIGHTS", str(tmp_path / "weights"))
    with pytest.raises(WeightsError, match="weights fetch vggish/torchvggish"):
        made(VggishFinetune, PATCH)
    with pytest.raises(
        UnknownWeights, match=r"'tensorflw' is neither .* did you mean 'tensorflow'"
    ):
        made(VggishFinetune, PATCH, weights="tensorflw")
    path = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(64, 1, 3, 3)}, path)
    with pytest.raises(WeightsError, match="17 of 18 tensors are missing"):
        made(VggishFinetune, PATCH, weights=str(path))

"""What every registered backbone promises, run over all of them."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from audioflow.backbones import BACKBONES
from audioflow.backbones.base import Heard, Limits, embed_pictures, embed_sound
from audioflow.media.packing import ClipEnd, PicturesWindow
from audioflow.media.parts import FrameSampling
from audioflow.media.patches import Patching, Stretch
from audioflow.registry import Settings

CPU = torch.device("cpu")


@pytest.fixture(params=BACKBONES.names())
def backbone(request):
    """Every registered backbone, made from its own defaults, on the CPU."""
    made = BACKBONES.build(request.param, {})
    made.to(CPU)
    return made


def batch(backbone, count: int, seed: int = 0) -> torch.Tensor:
    """Input of the kind that this backbone takes: `count` patches or frames."""
    generator = np.random.default_rng(seed)
    if isinstance(backbone.input, Patching):
        shape = (count, backbone.input.patch_samples)
        return torch.from_numpy(generator.integers(-20_000, 20_000, shape, np.int16))
    side = backbone.input.short_side
    frames = generator.integers(0, 256, (count, side, side * 4 // 3, 3), np.uint8)
    return torch.from_numpy(frames)


def embed(backbone, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return backbone.embed(inputs)


def extremes(backbone) -> dict[str, torch.Tensor]:
    """Inputs at the ends of the range."""
    one = batch(backbone, 1)
    top, bottom = (32_767, -32_768) if one.dtype == torch.int16 else (255, 0)
    impulse = torch.zeros_like(one)
    impulse.view(-1)[impulse.numel() // 2] = top
    alternating = torch.full_like(one, bottom)
    alternating.view(-1)[::2] = top
    return {
        "silence": torch.zeros_like(one),
        "top": torch.full_like(one, top),
        "bottom": torch.full_like(one, bottom),
        "impulse": impulse,
        "alternating": alternating,
    }


def clips(backbone, lengths: list[float]) -> list[Heard | PicturesWindow]:
    """Clips of these lengths in seconds, as they come from the decoder."""
    found: list[Heard | PicturesWindow] = []
    for place, seconds in enumerate(lengths):
        if isinstance(backbone.input, Patching):
            count = round(seconds * backbone.input.sample_rate_hz)
            samples = np.random.default_rng(place).integers(-9_000, 9_000, count, np.int16)
            found.append(Heard(place, Stretch(samples)))
        else:
            count = min(backbone.input.num_frames, max(1, round(seconds)))
            frames = batch(backbone, count, place).numpy()
            frames.flags.writeable = False  # as a view into a packed row is
            time_s = np.linspace(0, seconds, count)
            found.append(PicturesWindow(place, frames, time_s, ClipEnd(seconds, 1.0)))
    return found


def run(backbone, media, **limits):
    """Through the function of `base` that the engine uses."""
    if isinstance(backbone.input, Patching):
        return embed_sound(backbone, media, CPU, Limits(**limits))
    return embed_pictures(backbone, media, CPU)


def test_there_are_backbones_to_test():
    assert {"acoustic", "color"} <= set(BACKBONES.names())


def test_a_backbone_says_what_it_takes_and_gives(backbone):
    assert isinstance(backbone.input, Patching | FrameSampling)
    assert backbone.layers
    assert all(name.isidentifier() and width > 0 for name, width in backbone.layers.items())
    assert isinstance(type(backbone).revision, int)
    if isinstance(backbone.input, Patching):
        assert backbone.input.sample_rate_hz > 0
        assert backbone.input.patch_samples > 0


def test_vectors_are_finite_float32_of_the_stated_width(backbone):
    found = embed(backbone, batch(backbone, 3))
    assert found.keys() == backbone.layers.keys()
    for name, width in backbone.layers.items():
        assert (found[name].shape, found[name].dtype) == ((3, width), torch.float32)
        assert found[name].isfinite().all()
        assert found[name].std(dim=0).max() > 0, "the input has no effect"


@pytest.mark.parametrize("name", ["silence", "top", "bottom", "impulse", "alternating"])
def test_inputs_at_the_ends_of_the_range_give_finite_vectors(backbone, name):
    for matrix in embed(backbone, extremes(backbone)[name]).values():
        assert matrix.isfinite().all()


def test_one_by_one_equals_together(backbone):
    inputs = batch(backbone, 5)
    together = embed(backbone, inputs)
    for name, matrix in together.items():
        apart = torch.cat([embed(backbone, one[None])[name] for one in inputs])
        assert torch.allclose(apart, matrix, rtol=1e-5, atol=1e-5), name


def test_the_place_in_a_batch_does_not_matter(backbone):
    inputs = batch(backbone, 4)
    order = torch.tensor([2, 0, 3, 1])
    for name, matrix in embed(backbone, inputs[order]).items():
        assert torch.allclose(matrix, embed(backbone, inputs)[name][order], rtol=1e-5, atol=1e-5)


def test_the_same_input_gives_the_same_vectors(backbone):
    inputs = batch(backbone, 2)
    before = inputs.clone()
    first, second = embed(backbone, inputs), embed(backbone, inputs)
    other = BACKBONES.build(name_of(backbone), {})
    other.to(CPU)
    third = embed(other, inputs)
    for name in backbone.layers:
        assert torch.equal(first[name], second[name])
        assert torch.equal(first[name], third[name])
    assert torch.equal(inputs, before), "the input was changed"


def name_of(backbone) -> str:
    (name,) = [n for n in BACKBONES.names() if BACKBONES.load(n) is type(backbone)]
    return name


@pytest.mark.parametrize("name", BACKBONES.names())
def test_settings_are_frozen_and_strict(name):
    plugin = BACKBONES.load(name)
    assert issubclass(plugin.Settings, Settings)
    settings = plugin.Settings()
    with pytest.raises(ValidationError, match="no_such_setting"):
        BACKBONES.build(name, {"no_such_setting": 1})
    for field in plugin.Settings.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, field, getattr(settings, field))


@pytest.mark.parametrize("name", BACKBONES.names())
def test_options_of_plain_values_make_the_same_backbone(name):
    """A backbone is made anew from names and small settings wherever it runs, never sent."""
    options = BACKBONES.load(name).Settings().model_dump(mode="json")
    one, other = BACKBONES.build(name, {}), BACKBONES.build(name, options)
    assert (one.input, dict(one.layers)) == (other.input, dict(other.layers))


def test_clips_come_out_in_order(backbone):
    media = clips(backbone, [2.2, 1.0, 3.5])
    found = run(backbone, media)
    assert [part.clip for part in found] == [0, 1, 2]
    for clip, back in zip(media, found, strict=True):
        (alone,) = run(backbone, [clip])
        together, alone = back.embedding, alone.embedding
        assert np.array_equal(together.patch_start_s, alone.patch_start_s)
        for name, width in backbone.layers.items():
            assert together.layers[name].shape == (len(together.patch_start_s), width)
            assert together.layers[name].dtype == np.float32
            assert np.allclose(together.layers[name], alone.layers[name], rtol=1e-5, atol=1e-5)


def test_a_clip_too_short_for_a_patch_is_told_by_its_place():
    strict = BACKBONES.build("acoustic", {"short": "fail"})
    long, short = clips(strict, [1.5, 0.2])
    found = run(strict, [long, short])
    assert found[0].clip == 0
    assert found[1][0] == 1
    assert found[1][1].error == "too_short"


def test_a_variant_keeps_its_number_its_length_and_its_place(backbone):
    if not isinstance(backbone.input, Patching):
        pytest.skip("pictures have no variants")
    (clip,) = clips(backbone, [2.5])
    (found,) = run(backbone, [Heard(3, clip.stretch, variant=2, offset_s=600.0)])
    assert (found.clip, found.embedding.variant) == (3, 2)
    assert found.embedding.duration_s == pytest.approx(2.5, abs=1e-3)
    assert found.embedding.patch_start_s[0] == 600.0


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_the_size_of_a_batch_changes_nothing(backbone, size):
    media = clips(backbone, [2.2, 1.0, 3.5])
    for one, other in zip(
        run(backbone, media, patches_per_batch=size), run(backbone, media), strict=True
    ):
        for name in backbone.layers:
            these, those = one.embedding.layers[name], other.embedding.layers[name]
            assert np.allclose(these, those, rtol=1e-5, atol=1e-5)


def test_no_batch_of_patches_is_larger_than_the_limit():
    backbone = BACKBONES.build("acoustic", {})
    sizes: list[int] = []

    class Spy:
        input, layers = backbone.input, backbone.layers

        def embed(self, inputs):
            sizes.append(len(inputs))
            return backbone.embed(inputs)

    found = run(Spy(), clips(backbone, [2.2, 3.5, 1.0]), patches_per_batch=4)
    assert max(sizes) == 4
    assert sum(sizes) == sum(len(part.embedding.patch_start_s) for part in found)


def test_no_clip_is_no_part(backbone):
    assert run(backbone, []) == []


def test_batches_are_bounded_in_samples():
    limits = Limits(patches_per_batch=256, samples_per_batch=1_000_000)
    assert [limits.batch_size(n) for n in (1_000, 22_050, 400_000, 3_000_000)] == [256, 45, 2, 1]

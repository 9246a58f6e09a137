"""What every registered backbone promises, run over all of them."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from audioflow.backbones import BACKBONES
from audioflow.backbones.base import sees_spectrogram
from audioflow.backbones.running import Heard, Limits, embed_pictures, embed_sound
from audioflow.media.packing import ClipEnd, PicturesWindow
from audioflow.media.parts import FramePatching
from audioflow.media.patches import FrameStretch, Patching, Stretch
from audioflow.registry import Settings
from audioflow.weights import KnownWeights
from tests.contract.samples import options_for

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Options of a backbone by its name; files that it needs are made once."""
    made: dict[str, dict] = {}

    def of(name: str) -> dict:
        if name not in made:
            made[name] = options_for(name, tmp_path_factory.mktemp(name))
        return made[name]

    return of


SLOW = {"mvit_v2_s", "swin3d_t", "s3d", "vit_b_16", "convnext_tiny", "resnet50", "video"}
"""Large networks of whose code another name is tested in every run; all are by `make slow`."""

NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in BACKBONES.names()
]


@pytest.fixture(scope="module", params=NAMES)
def backbone(request, options):
    """Every registered backbone, from its own defaults, with random weights, on the CPU."""
    made = BACKBONES.build(request.param, options(request.param))
    made.to(CPU)
    return made


def batch(backbone, count: int, seed: int = 0) -> torch.Tensor:
    """Input of the kind that this backbone takes: `count` patches."""
    generator = np.random.default_rng(seed)
    if isinstance(backbone.input, Patching):
        samples = round(backbone.input.min_duration_s * backbone.input.sample_rate_hz)
        shape = (count, max(backbone.input.patch_samples, samples))
        samples = torch.from_numpy(generator.integers(-20_000, 20_000, shape, np.int16))
        return samples / 32_767 if backbone.input.exact else samples
    return torch.from_numpy(frames(backbone, count * backbone.input.frames_per_patch, seed)).view(
        count, backbone.input.frames_per_patch, *frame_shape(backbone)
    )


def frame_shape(backbone) -> tuple[int, int, int]:
    side = backbone.input.sampling.short_side
    return side, side * 4 // 3, 3


def frames(backbone, count: int, seed: int) -> np.ndarray:
    """Frames of noise under a ramp that differs from frame to frame."""
    generator = np.random.default_rng(seed)
    shape = (count, *frame_shape(backbone))
    bright = np.linspace(0, 1, shape[2])[None, None, :, None] * generator.uniform(
        60, 200, (count, 1, 1, 3)
    )
    return (bright + generator.integers(0, 50, shape)).astype(np.uint8)


def same(one, other) -> bool:
    """Whether vectors are equal but for the rounding of float32."""
    one, other = np.asarray(one), np.asarray(other)
    scale = max(1.0, float(np.abs(other).max(initial=0)))
    return one.shape == other.shape and bool(np.abs(one - other).max(initial=0) <= 1e-5 * scale)


def embed(backbone, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return backbone.embed(inputs)


def extremes(backbone) -> dict[str, torch.Tensor]:
    """Inputs at the ends of the range."""
    one = batch(backbone, 1)
    top, bottom = {torch.int16: (32_767, -32_768), torch.float32: (1, -1)}.get(one.dtype, (255, 0))
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
            samples = samples / np.float32(32_767) if backbone.input.exact else samples
            found.append(Heard(place, Stretch(samples)))
        else:
            count = min(backbone.input.sampling.num_frames or 30, max(1, round(4 * seconds)))
            shown = frames(backbone, count, place)
            shown.flags.writeable = False  # as a view into a packed row is
            stretch = FrameStretch(shown, np.linspace(0, seconds, count))
            found.append(PicturesWindow(place, stretch, ClipEnd(seconds, 1.0)))
    return found


def run(backbone, media, **limits):
    """Through the function of `base` that the engine uses."""
    if isinstance(backbone.input, Patching):
        return embed_sound(backbone, media, CPU, Limits(**limits))
    return embed_pictures(backbone, media, CPU, Limits(**limits))


def test_there_are_backbones_to_test():
    assert {"acoustic", "color"} <= set(BACKBONES.names())


def test_a_backbone_says_what_it_takes_and_gives(backbone):
    assert isinstance(backbone.input, Patching | FramePatching)
    assert all(isinstance(weights, KnownWeights) for weights in type(backbone).known)
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
        assert found[name].dtype == torch.float32
        assert found[name].ndim in (2, 3)
        assert (len(found[name]), found[name].shape[-1]) == (3, width)
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
        assert same(apart, matrix), name


def test_the_place_in_a_batch_does_not_matter(backbone):
    inputs = batch(backbone, 4)
    order = torch.tensor([2, 0, 3, 1])
    for name, matrix in embed(backbone, inputs[order]).items():
        assert same(matrix, embed(backbone, inputs)[name][order])


def test_the_same_input_gives_the_same_vectors(backbone, options):
    inputs = batch(backbone, 2)
    before = inputs.clone()
    first, second = embed(backbone, inputs), embed(backbone, inputs)
    other = BACKBONES.build(name_of(backbone), options(name_of(backbone)))
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
def test_settings_are_frozen_and_strict(name, options):
    plugin = BACKBONES.load(name)
    assert issubclass(plugin.Settings, Settings)
    settings = plugin.Settings(**options(name))
    with pytest.raises(ValidationError, match="no_such_setting"):
        BACKBONES.build(name, options(name) | {"no_such_setting": 1})
    for field in plugin.Settings.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, field, getattr(settings, field))


@pytest.mark.parametrize("name", BACKBONES.names())
def test_options_of_plain_values_make_the_same_backbone(name, options):
    """A backbone is made anew from names and small settings wherever it runs, never sent."""
    dumped = BACKBONES.load(name).Settings(**options(name)).model_dump(mode="json")
    one, other = BACKBONES.build(name, options(name)), BACKBONES.build(name, dumped)
    assert (one.input, dict(one.layers)) == (other.input, dict(other.layers))


@pytest.mark.parametrize("name", BACKBONES.names())
def test_options_are_accepted_as_a_recipe_gives_them(name, options):
    """Strictly, from JSON: a list for a tuple, and nothing that would have to be converted."""
    settings = BACKBONES.load(name).Settings
    given = settings(**options(name))
    dumped = json.dumps(given.model_dump(mode="json"))
    assert settings.model_validate_json(dumped, strict=True) == given


def test_clips_come_out_in_order(backbone):
    media = clips(backbone, [2.2, 1.0, 3.5])
    found = run(backbone, media)
    assert [part.clip for part in found] == [0, 1, 2]
    for clip, back in zip(media, found, strict=True):
        (alone,) = run(backbone, [clip])
        together, alone = back.embedding, alone.embedding
        assert np.array_equal(together.patch_start_s, alone.patch_start_s)
        for name, width in backbone.layers.items():
            count, found_width = together.layers[name].shape
            assert found_width == width
            assert count >= len(together.patch_start_s)
            assert count % len(together.patch_start_s) == 0
            assert together.layers[name].dtype == np.float32
            assert same(together.layers[name], alone.layers[name])


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
    assert found.embedding.patch_start_s[0] == 600.0 - backbone.input.lead_s


def test_the_size_of_a_batch_changes_nothing(backbone):
    media = clips(backbone, [2.2, 1.0, 3.5])
    usual = run(backbone, media)
    for size in (1, 2, 3, 1000):
        for one, other in zip(run(backbone, media, patches_per_batch=size), usual, strict=True):
            for name in backbone.layers:
                these, those = one.embedding.layers[name], other.embedding.layers[name]
                assert same(these, those), size


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


def test_batches_are_bounded_in_values():
    limits = Limits(patches_per_batch=256, values_per_batch=1_000_000)
    assert [limits.batch_size(n) for n in (1_000, 22_050, 400_000, 3_000_000)] == [256, 45, 2, 1]


# Spectrograms on the way


def burst(backbone, hz: float, begin_s: float) -> torch.Tensor:
    """A patch that is silent but for 60 ms of a tone."""
    rate_hz = backbone.input.sample_rate_hz
    patch = torch.zeros_like(batch(backbone, 1), dtype=torch.float32)
    times = torch.arange(round(0.06 * rate_hz)) / rate_hz
    begin = round(begin_s * rate_hz)
    patch[0, begin : begin + len(times)] = 0.5 * torch.sin(2 * torch.pi * hz * times)
    return patch if backbone.input.exact else (patch * 32_767).to(torch.int16)


@pytest.fixture
def spectral(backbone):
    if not sees_spectrogram(backbone):
        pytest.skip("no spectrogram is between its two steps")
    return backbone


def test_the_spectrogram_is_on_the_way_from_sound_to_vectors(spectral):
    inputs = batch(spectral, 2)
    with torch.no_grad():
        spectrograms = spectral.spectrogram(inputs)
        found = spectral.from_spectrogram(spectrograms)
    assert spectrograms.dtype == torch.float32
    assert spectrograms.shape[::2] == (2, len(spectral.spectrum.bands_hz))
    for name, matrix in embed(spectral, inputs).items():
        assert same(found[name], matrix)


def test_gradients_reach_the_spectrogram(spectral):
    with torch.no_grad():
        spectrograms = spectral.spectrogram(batch(spectral, 2))
    spectrograms.requires_grad_()
    for matrix in spectral.from_spectrogram(spectrograms).values():
        (gradient,) = torch.autograd.grad(matrix.sum(), spectrograms, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize(("hz", "share"), [(700.0, 0.25), (2500.0, 0.7)])
def test_the_axes_of_a_spectrogram_say_when_and_how_high(spectral, hz, share):
    axes = spectral.spectrum
    assert list(axes.bands_hz) == sorted(axes.bands_hz)
    begin_s = share * spectral.input.patch_s
    with torch.no_grad():
        (found_FM,) = spectral.spectrogram(burst(spectral, hz, begin_s))
    frame, band = np.unravel_index(int(found_FM.argmax()), found_FM.shape)
    assert axes.first_s + axes.frame_s * frame == pytest.approx(begin_s + 0.03, abs=0.035)
    assert axes.bands_hz[band] == pytest.approx(hz, rel=0.12)
    assert float(found_FM.min()) == pytest.approx(axes.quiet, abs=0.01)

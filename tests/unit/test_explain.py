"""Explanations against what they must be: weights of linear heads, planted sounds, sums."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from audioflow.backbones.logmel import LogMel, LogMelSettings
from audioflow.embeddings import LayerRows
from audioflow.errors import InputError
from audioflow.explain.concepts import dependences
from audioflow.explain.gradients import integrated_gradients
from audioflow.explain.grid import ClipGrid
from audioflow.explain.logits import ClassLogit, SpectrogramLogit, pooled
from audioflow.explain.occlusion import rectangles_occluded, silenced, spans_occluded
from audioflow.explain.tabular import column_names, refuse_untabular, shares
from audioflow.media.patches import Stretch, cut_patches
from audioflow.pooling import POOLINGS
from audioflow.systems.bundle import HeadBundle, HeadSpec
from audioflow.systems.inputs import Pool
from audioflow.systems.network import network_for

CLASSES = ["cat", "dog", "owl"]
RATE_HZ = 16_000


def bundle(
    layers: Mapping[str, int],
    head: Mapping[str, Any],
    pooling: Mapping[str, Any] | None,
    classes: Sequence[str] = CLASSES,
    **more: Any,
) -> HeadBundle:
    values: dict[str, Any] = {
        "system": "audio",
        "backbone": "sound",
        "embeddings": "f" * 32,
        "layers": dict(layers),
        "vectors_per_patch": 1,
        "pooling": dict(pooling) if pooling else None,
        "head": dict(head),
        "classes": list(classes),
        "head_classes": list(classes),
        "merge": None,
        "multi_label": False,
        "temperature": 1.0,
        "normalised": True,
        "trained_on": {},
    }
    spec = HeadSpec(**(values | more))
    network = network_for(spec.network, 1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) / 8)
    return HeadBundle(spec, network.state_dict())


@pytest.fixture(scope="module")
def backbone() -> LogMel:
    return LogMel(LogMelSettings(preset="vggish", hop_s=0.48))


@pytest.fixture(scope="module")
def linear(backbone: LogMel) -> ClassLogit:
    """A head that is linear in the mean frame."""
    mean = {"name": "mean", "on": "embeddings"}
    return ClassLogit([bundle(backbone.layers, {"name": "linear"}, mean)], "dog")


def sound(seconds: float, tone_s: float, hz: float) -> np.ndarray:
    """Faint noise with a tone burst of 0.2 s."""
    noise = np.random.default_rng(0).normal(size=round(seconds * RATE_HZ)) * 30
    times = np.arange(round(0.2 * RATE_HZ)) / RATE_HZ
    start = round(tone_s * RATE_HZ)
    noise[start : start + len(times)] += 12_000 * np.sin(2 * np.pi * hz * times)
    return noise.astype(np.int16)


def patches(backbone: LogMel, waveform: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    windows, starts = cut_patches(Stretch(waveform), backbone.input)
    return backbone.spectrogram(torch.from_numpy(np.array(windows))), starts


# Integrated gradients


def test_integrated_gradients_of_a_linear_head_are_weight_times_difference(backbone, linear):
    given, _ = patches(backbone, sound(1.5, 0.4, 1000))
    baseline = torch.full_like(given, backbone.spectrum.quiet)
    found = integrated_gradients(SpectrogramLogit(backbone, linear), given, baseline)
    weight_M = linear.heads[0].network.head.weight[1].detach()
    expected = weight_M * (given - baseline) / (given.shape[0] * given.shape[1])
    assert torch.allclose(found.values_PFM, expected, atol=1e-5)
    assert found.values_PFM.sum().item() == pytest.approx(
        found.logit - found.baseline_logit, abs=1e-3
    )
    assert abs(found.delta) < 1e-3


def test_gradients_of_a_network_that_is_not_linear_add_up(backbone):
    head = bundle(backbone.layers, {"name": "mlp", "hidden": [16]}, {"name": "max", "on": "logits"})
    given, _ = patches(backbone, sound(1.5, 0.4, 1000))
    baseline = torch.full_like(given, backbone.spectrum.quiet)
    model = SpectrogramLogit(backbone, ClassLogit([head, head], "owl"))
    found = integrated_gradients(model, given, baseline)
    assert float(found.values_PFM.sum()) == pytest.approx(
        found.logit - found.baseline_logit, rel=0.06
    )


def test_a_function_whose_gradients_say_nothing_of_it_is_an_error():
    class Stairs(torch.nn.Module):
        def forward(self, given):
            return (given.flatten(1).sum(dim=1) * 0) + given.detach().flatten(1).sum(dim=1).round()

    with pytest.raises(InputError, match=r"add up to 0\.000, but the logits differ by 6\.000"):
        integrated_gradients(Stairs(), torch.ones(1, 2, 3), torch.zeros(1, 2, 3))


def test_a_backbone_without_gradients_is_an_error():
    class Frozen(torch.nn.Module):
        def forward(self, given):
            return given.detach().flatten(1).sum(dim=1)

    with pytest.raises(InputError, match="no gradient comes through this backbone"):
        integrated_gradients(Frozen(), torch.ones(1, 2, 3), torch.zeros(1, 2, 3))


# Occlusion


@pytest.mark.parametrize(("tone_s", "hz"), [(0.35, 500.0), (1.55, 3000.0)])
def test_occlusion_finds_a_tone_where_and_as_high_as_it_is(backbone, tone_s, hz):
    """The head hears nothing but the loudest value of the band that the tone is in."""
    bands_hz = np.array(backbone.spectrum.bands_hz)
    head = bundle(backbone.layers, {"name": "linear"}, {"name": "max", "on": "embeddings"})
    with torch.no_grad():
        head.network.head.weight.zero_()
        head.network.head.weight[1, int(np.abs(bands_hz - hz).argmin())] = 1.0
    given, starts = patches(backbone, sound(2.4, tone_s, hz))
    grid = ClipGrid.of(starts, given.shape[1], backbone.spectrum)
    model = SpectrogramLogit(backbone, ClassLogit([head], "dog"))
    lost = rectangles_occluded(model, given, backbone.spectrum.quiet, grid.cells(30, 4))
    time, band = np.unravel_index(lost.argmax(), lost.shape)
    begin_s = grid.start_s + time * 30 * grid.hop_s
    assert begin_s <= tone_s < begin_s + 0.1
    assert bands_hz[band * 4] <= hz * 1.05
    assert bands_hz[min(band * 4 + 3, 63)] >= hz / 1.05
    assert lost.max() > 2


def test_occlusion_is_what_captum_finds(backbone):
    """All patches anew for every rectangle, as an independent program does it."""
    from captum.attr import FeatureAblation

    head = bundle(backbone.layers, {"name": "mlp", "hidden": [8]}, {"name": "max", "on": "scores"})
    given, starts = patches(backbone, sound(1.9, 0.7, 2000))
    grid = ClipGrid.of(starts, given.shape[1], backbone.spectrum)
    model = SpectrogramLogit(backbone, ClassLogit([head], "cat"))
    cells = grid.cells(25, 16)
    quiet = backbone.spectrum.quiet
    found = rectangles_occluded(model, given, quiet, cells)
    numbers = cells.times_PF[:, :, None] * cells.counts[1] + cells.bands_M
    with torch.no_grad():
        expected = FeatureAblation(model).attribute(
            given[None], torch.full_like(given, quiet)[None], feature_mask=numbers[None]
        )[0]
    for number in range(found.size):
        values = expected[numbers == number]
        assert found.flat[number] == pytest.approx(float(values[0]), abs=1e-4)


def test_spans_of_time_are_silenced_one_by_one():
    waveform = np.zeros(1000, np.float32)
    waveform[300:400] = 1.0

    def loudness(samples: np.ndarray) -> float:
        return float(np.abs(samples).sum())

    whole, lost = spans_occluded(loudness, waveform, rate_hz=1000, span_s=0.1)
    assert whole == 100
    assert lost.argmax() == 3
    assert lost[3] > 80
    assert lost[[0, 1, 5, 6, 7, 8, 9]].tolist() == [0] * 7
    with pytest.raises(InputError, match="5000 parts of the clip"):
        spans_occluded(loudness, np.zeros(5000, np.float32), 1000, 0.001)


def test_silence_fades_in_and_out_unless_the_clip_ends_there():
    waveform = np.full(4000, 10_000, np.int16)
    inside = silenced(waveform, 1000, 1000, 16_000)
    assert inside.dtype == np.int16
    assert np.abs(np.diff(inside.astype(int))).max() < 200
    assert not inside[1100:1900].any()
    assert (inside[:1000] == 10_000).all()
    first = silenced(waveform, 0, 1000, 16_000)
    assert first[0] == 0


# What is on the way from media to logits


def test_values_of_overlapping_patches_are_added_up_at_their_times(backbone):
    spectrum = backbone.spectrum
    grid = ClipGrid.of(np.array([0.0, 0.48]), 96, spectrum)
    assert grid.num_frames == 96 + 48
    assert grid.start_s == pytest.approx(0.0125)
    values = np.ones((2, 96, 64), np.float32)
    summed = grid.summed(values)
    assert summed.shape == (144, 64)
    assert summed[:, 0].tolist() == [1] * 48 + [2] * 48 + [1] * 48
    assert grid.averaged(values).tolist() == np.ones((144, 64)).tolist()


@pytest.mark.parametrize("name", POOLINGS.names())
def test_pooling_with_gradients_is_the_pooling_of_tables(name):
    if POOLINGS.load(name).learned or "embeddings" not in POOLINGS.load(name).on:
        pytest.skip("it is not applied as tables are read")
    vectors = np.random.default_rng(3).normal(size=(2, 5, 4)).astype(np.float32)
    rows = LayerRows(["a", "b"], vectors.reshape(10, 4), np.array([0, 5, 10]))
    given = torch.from_numpy(vectors).requires_grad_()
    found = pooled(Pool(name, "embeddings", {}), given)
    expected = POOLINGS.build(name, {}).pool(rows)
    assert found.detach().numpy() == pytest.approx(expected, abs=1e-6)
    found.sum().backward()
    assert given.grad.isfinite().all()
    assert given.grad.abs().sum() > 0
    alike = torch.ones(1, 3, 4, requires_grad=True)
    pooled(Pool(name, "embeddings", {}), alike).sum().backward()
    assert alike.grad.isfinite().all(), "patches that are all alike"


def test_the_logit_of_a_merged_class_is_that_of_all_that_became_it():
    fine = ["pug", "poodle", "owl"]
    merge = {"pug": "dog", "poodle": "dog", "owl": "owl"}
    head = bundle(
        {"pool": 4},
        {"name": "linear"},
        {"name": "mean", "on": "embeddings"},
        ["dog", "owl"],
        head_classes=fine,
        merge=merge,
    )
    layers = {"pool": torch.randn(3, 4)}
    plain = head.network.head(layers["pool"].mean(dim=0))
    found = ClassLogit([head], "dog").of_layers(layers)
    assert float(found) == pytest.approx(float(torch.logsumexp(plain[:2], 0)), abs=1e-5)
    with pytest.raises(InputError, match="has no class 'pug'; its classes are dog, owl"):
        ClassLogit([head], "pug")


# SHAP


@pytest.mark.parametrize("head", [{"name": "linear"}, {"name": "mlp", "hidden": [8]}])
def test_shap_values_add_up_to_the_logit(head):
    made = bundle({"pool": 7}, head, {"name": "mean", "on": "embeddings"})
    generator = np.random.default_rng(4)
    vectors = generator.normal(size=(3, 7)).astype(np.float32)
    background = generator.normal(size=(20, 7)).astype(np.float32)
    logit = ClassLogit([made], "cat")
    found = shares(logit, vectors, background)
    with torch.no_grad():
        logits = logit.of_vectors(torch.from_numpy(vectors)).numpy()
        mean = logit.of_vectors(torch.from_numpy(background)).mean().item()
    for one, mine in zip(found, logits, strict=True):
        assert one.logit == pytest.approx(float(mine), abs=1e-5)
        assert one.expected == pytest.approx(mean, abs=1e-4)
        assert one.values_W.sum() + one.expected == pytest.approx(one.logit, abs=1e-3)
    if head["name"] == "linear":
        weight = made.network.head.weight[0].detach().numpy()
        expected = weight * (vectors - background.mean(axis=0))
        assert np.stack([one.values_W for one in found]) == pytest.approx(expected, abs=1e-4)


def test_columns_have_names():
    head = bundle({"pool": 2}, {"name": "linear"}, {"name": "mean_std", "on": "embeddings"})
    assert column_names(head.inputs, {"pool": ["level", "pitch"]}) == [
        "level",
        "pitch",
        "level, deviation over patches",
        "pitch, deviation over patches",
    ]
    assert column_names(head.inputs, {})[1] == "pool 1"


def test_a_head_that_sees_patches_is_not_tabular():
    head = bundle({"pool": 2}, {"name": "linear"}, {"name": "mean", "on": "logits"})
    with pytest.raises(InputError, match=r"that of audio takes vectors and pools logits \(mean\)"):
        refuse_untabular(head.inputs, "audio")


# Concepts

WIDTH = 24


@pytest.fixture(scope="module")
def concept_results() -> dict[tuple[str, str], Any]:
    """The logit of `dog` rises with column 0, that of `owl` falls with it. `loud` are clips that
    are high there; `chance` are clips like all others."""
    generator = np.random.default_rng(5)
    scale = np.geomspace(0.1, 50, WIDTH)
    others = (generator.normal(size=(300, WIDTH)) * scale).astype(np.float32)
    loud = (generator.normal(size=(30, WIDTH)) * scale).astype(np.float32)
    loud[:, 0] += 3 * scale[0]
    chance = (generator.normal(size=(30, WIDTH)) * scale).astype(np.float32)
    slopes = generator.normal(size=(40, WIDTH)) * 0.05 / scale
    dog = slopes.copy()
    dog[:, 0] += 1 / scale[0]
    concepts = {"loud": loud, "chance": chance}
    found = dependences(concepts, others, {"dog": dog, "owl": -dog})
    return {(one.concept, one.label): one for one in found}


def test_a_planted_concept_is_found(concept_results):
    dog, owl = concept_results["loud", "dog"], concept_results["loud", "owl"]
    assert dog.meaningful
    assert dog.significant
    assert dog.accuracy > 0.85
    assert dog.score > 0.95
    assert owl.score < 0.05
    assert dog.effect > 0.3 > -0.3 > owl.effect
    assert (dog.examples, dog.runs) == (30, 30)


def test_a_set_of_clips_like_all_others_is_no_concept(concept_results):
    for label in ("dog", "owl"):
        found = concept_results["chance", label]
        assert not found.meaningful
        assert not found.significant
        assert 0.3 < found.accuracy < 0.7


def test_too_few_clips_make_no_concept():
    few, others = np.ones((3, 2), np.float32), np.ones((50, 2), np.float32)
    with pytest.raises(InputError, match="the concept loud has 3 clips"):
        dependences({"loud": few}, others, {"dog": np.ones((4, 2), np.float32)})
    many = np.ones((30, 2), np.float32)
    with pytest.raises(InputError, match="30 clips, and there are 50 others"):
        dependences({"loud": many}, others, {"dog": np.ones((4, 2), np.float32)})
    with pytest.raises(InputError, match="the logit of dog has no slope"):
        dependences({"loud": many[:10]}, others, {"dog": np.zeros((4, 2), np.float32)})

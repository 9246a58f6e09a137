"""Variants of a clip: what decides about them, and what every one of them is."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from audioflow.media.augment import augmented, describe, draw
from audioflow.recipe_augment import EFFECTS, AugmentSection

ROOT = Path(__file__).resolve().parents[2]
RATE = 16_000

# All that needs no stretching library; `test_augment_effects.py` tests that.
MANY = {
    "crop": {"duration_s": 2.0, "probability": 0.5},
    "shift": {"shift_s": [-0.5, 0.5]},
    "polarity": {"probability": 0.5},
    "noise": {"colors": ["white", "pink", "brown"], "snr_db": [15, 35], "probability": 0.6},
    "gain": {"gain_db": [-4, 4], "probability": 0.4},
    "filter": {
        "kinds": ["high_pass", "low_pass", "band_pass"],
        "high_pass_hz": [50, 1000],
        "low_pass_hz": [2000, 8000],
        "probability": 0.5,
    },
    "delay": {"probability": 0.3},
}
ALWAYS = {name: options | {"probability": 1.0} for name, options in MANY.items()}


def section(variants: int = 4, seed: int = 0, **effects: object) -> AugmentSection:
    return AugmentSection.model_validate({"variants": variants, "seed": seed, **effects})


def noise(num_samples: int = 2 * RATE, rms: float = 3000, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0, rms, num_samples)
    return np.clip(np.rint(values), -32768, 32767).astype(np.int16)


# What decides


def test_the_same_clip_and_number_give_the_same_samples() -> None:
    samples, settings = noise(), section(**ALWAYS)
    first = augmented(samples, RATE, settings, "a", 2)
    augmented(samples, RATE, settings, "b", 1)
    again = augmented(samples.copy(), RATE, section(**ALWAYS), "a", 2)
    assert first.dtype == np.int16
    np.testing.assert_array_equal(first, again)


def test_exact_samples_get_the_same_variants_without_their_rounding() -> None:
    samples, settings = noise(), section(**ALWAYS)
    exact = samples.astype(np.float32) / np.float32(32_767)
    for variant in range(1, 5):
        found = augmented(exact, RATE, settings, "a", variant)
        steps = augmented(samples, RATE, settings, "a", variant)
        assert found.dtype == np.float32
        assert np.abs(found).max() <= 1
        assert np.abs(found * 32_767 - steps).max() < 0.6, "half a step, and float32"
        assert np.abs(found * 32_767 - steps).max() > 0.1, "they are not rounded"
    assert np.array_equal(augmented(exact, RATE, settings, "a", 0), exact)


def test_other_processes_give_the_same_samples() -> None:
    code = (
        "import hashlib, sys\n"
        "from tests.unit.test_augment import ALWAYS, RATE, augmented, noise, section\n"
        "for variant in (3, 1, 2):\n"
        "    found = augmented(noise(), RATE, section(**ALWAYS), 'é/1', variant)\n"
        "    print(variant, hashlib.sha256(found.tobytes()).hexdigest())\n"
    )
    told = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        told.add(done.stdout)
    assert len(told) == 1
    assert len(set(told.pop().split())) == 6


def test_draws_are_those_of_this_revision() -> None:
    """Where this fails, tables made before no longer fit: raise `augment.REVISION`."""
    settings = section(shift={}, noise={"colors": ["white", "pink", "brown"]}, gain={})
    assert describe(settings, "clip-1", 1) == {
        "shift": {"shift_s": pytest.approx(0.4706814619765002), "wrap": False},
        "noise": {
            "color": "pink",
            "snr_db": pytest.approx(20.171752640114484),
            "seed": 5110823670774341672,
        },
        "gain": {"gain_db": pytest.approx(2.251221093416432)},
    }
    turned = section(variants=12, polarity={"probability": 0.5})
    found = ["x" if describe(turned, "clip-1", variant) else "-" for variant in range(1, 13)]
    assert "".join(found) == "xx---x-x-x-x"


def test_seed_clip_and_number_each_give_other_draws() -> None:
    settings = section(gain={}, shift={})
    found = [
        describe(settings, "a", 1),
        describe(settings, "a", 2),
        describe(settings, "b", 1),
        describe(section(seed=1, gain={}, shift={}), "a", 1),
    ]
    gains = {each["gain"]["gain_db"] for each in found}
    shifts = {each["shift"]["shift_s"] for each in found}
    assert len(gains) == len(shifts) == 4


@pytest.mark.parametrize(("one", "other"), [(("a", 11), ("a1", 1)), (("1", 2), ("12", 1))])
def test_ids_that_run_into_numbers_are_kept_apart(
    one: tuple[str, int], other: tuple[str, int]
) -> None:
    settings = section(variants=20, gain={})
    assert describe(settings, *one) != describe(settings, *other)


def test_any_text_can_be_an_id() -> None:
    settings = section(gain={})
    ids = ["", "é", "e\u0301", "\udce9", 'a"b', "a\nb", "\x00", 5000 * "x"]
    assert len({json.dumps(describe(settings, clip_id, 1)) for clip_id in ids}) == len(ids)


def test_an_effect_more_changes_nothing_about_the_others() -> None:
    few, more = section(gain={}, noise={}), section(**ALWAYS | {"gain": {}, "noise": {}})
    for variant in range(1, 5):
        wider = describe(more, "a", variant)
        for name, drawn in describe(few, "a", variant).items():
            assert wider[name] == drawn


def test_effects_happen_as_often_as_their_probabilities_say() -> None:
    count = 2000
    settings = section(variants=count, **MANY)
    found = [describe(settings, "a", variant) for variant in range(1, count + 1)]
    for name, options in MANY.items():
        probability = float(options.get("probability", 1.0))  # type: ignore[arg-type]
        share = sum(name in each for each in found) / count
        assert abs(share - probability) <= 4 * np.sqrt(probability * (1 - probability) / count)
    together = sum("noise" in each and "gain" in each for each in found) / count
    assert together == pytest.approx(0.6 * 0.4, abs=4 * np.sqrt(0.24 * 0.76 / count))


def test_strengths_are_drawn_evenly_over_their_ranges() -> None:
    count = 2000
    settings = section(variants=count, **ALWAYS)
    found = [describe(settings, "a", variant) for variant in range(1, count + 1)]
    ranges = {
        ("shift", "shift_s"): (-0.5, 0.5),
        ("noise", "snr_db"): (15, 35),
        ("gain", "gain_db"): (-4, 4),
        ("delay", "delay_s"): (0.05, 0.2),
        ("delay", "feedback"): (0.1, 0.4),
        ("delay", "mix"): (0.2, 0.5),
        ("crop", "place"): (0, 1),
    }
    for (name, key), (low, high) in ranges.items():
        assert_even(np.array([each[name][key] for each in found]), low, high)
    for key, low, high in (("high_pass_hz", 50, 1000), ("low_pass_hz", 2000, 8000)):
        drawn = [each["filter"][key] for each in found if each["filter"][key] is not None]
        assert len(drawn) / count == pytest.approx(2 / 3, abs=0.05)
        assert_even(np.log2(drawn), np.log2(low), np.log2(high))
    colors = [each["noise"]["color"] for each in found]
    assert [colors.count(color) / count for color in ("white", "pink", "brown")] == [
        pytest.approx(1 / 3, abs=0.05)
    ] * 3


def assert_even(values: np.ndarray, low: float, high: float) -> None:
    """Kolmogorov and Smirnov: the distribution is off by more than this once in 10,000 times."""
    ranks = (np.sort(values) - low) / (high - low)
    assert ranks[0] >= 0
    assert ranks[-1] <= 1
    steps = np.arange(values.size + 1) / values.size
    off = max(np.max(steps[1:] - ranks), np.max(ranks - steps[:-1]))
    assert off < 2.23 / np.sqrt(values.size)


def test_a_clip_is_treated_alike_at_every_sample_rate() -> None:
    settings = section(gain={}, shift={"shift_s": [0.1, 0.4]})
    drawn = describe(settings, "a", 1)
    for rate in (8000, 16_000, 44_100):
        samples = np.full(2 * rate, 1000, np.int16)
        found = augmented(samples, rate, settings, "a", 1)
        first = int(np.flatnonzero(found)[0])
        assert abs(first / rate - drawn["shift"]["shift_s"]) <= 0.5 / rate
        assert found[-1] == round(1000 * 10 ** (drawn["gain"]["gain_db"] / 20))


def test_effects_are_applied_in_one_order_whatever_the_recipe_s() -> None:
    backwards = dict(reversed(ALWAYS.items()))
    assert list(draw(section(**ALWAYS), "a", 1)) == [name for name in EFFECTS if name in ALWAYS]
    np.testing.assert_array_equal(
        augmented(noise(), RATE, section(**backwards), "a", 1),
        augmented(noise(), RATE, section(**ALWAYS), "a", 1),
    )


def test_a_description_can_be_written_as_json() -> None:
    told = describe(section(**ALWAYS, offsets_s=[0.1, 0.2, 0.3, 0.4]), "a", 3)
    assert json.loads(json.dumps(told)) == told
    assert told["offset"] == {"offset_s": 0.3}
    assert told["polarity"] == {}


def test_settings_travel_to_workers() -> None:
    settings = section(**ALWAYS)
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert hash(settings) == hash(section(**ALWAYS))


# What every variant is


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_without_an_effect_the_samples_stay_as_they_are(variant: int) -> None:
    samples = noise()
    settings = section(variants=2, noise={"probability": 0.0})
    assert augmented(samples, RATE, settings, "a", variant) is samples


def test_variant_0_is_the_clip_as_recorded_and_there_is_no_other_where_variants_is_0() -> None:
    samples = noise()
    assert augmented(samples, RATE, section(**ALWAYS), "a", 0) is samples
    assert augmented(samples, RATE, AugmentSection(), "a", 0) is samples


def test_the_samples_given_are_not_changed() -> None:
    samples = noise()
    samples.flags.writeable = False
    for variant in range(1, 5):
        augmented(samples, RATE, section(**ALWAYS), "a", variant)
    np.testing.assert_array_equal(samples, noise())


def test_what_is_too_loud_is_clipped_and_does_not_wrap_round() -> None:
    samples = np.array([-32768, -20000, -1, 0, 1, 20000, 32767], np.int16)
    settings = section(gain={"gain_db": [12, 12]})
    found = augmented(samples, RATE, settings, "a", 1)
    np.testing.assert_array_equal(found, [-32768, -32768, -4, 0, 4, 32767, 32767])
    turned = augmented(samples, RATE, section(polarity={"probability": 1}), "a", 1)
    np.testing.assert_array_equal(turned, [32767, 20000, 1, 0, -1, -20000, -32767])


@pytest.mark.parametrize("length", [1, 100, RATE])
def test_silence_stays_silence(length: int) -> None:
    settings = section(variants=20, **ALWAYS)
    for variant in range(1, 21):
        assert not augmented(np.zeros(length, np.int16), RATE, settings, "a", variant).any()


def test_clips_of_any_length_at_any_rate_become_clips() -> None:
    generator = np.random.default_rng(1)
    lengths = [1, 2, 3, 100, *generator.integers(1, 20_000, 60)]
    settings = section(variants=len(lengths), **ALWAYS)
    for variant, length in enumerate(map(int, lengths), 1):
        rate = int(generator.choice([100, 4000, 8000, 16_000, 22_050, 48_000]))
        samples = noise(length, seed=variant)
        found = augmented(samples, rate, settings, "a", variant)
        most = min(length, max(1, 2 * rate))
        assert (found.dtype, found.shape) == (np.int16, (most,))
        assert found.flags.c_contiguous


def test_a_clip_without_samples_stays_one() -> None:
    samples = np.zeros(0, np.int16)
    assert augmented(samples, RATE, section(**ALWAYS), "a", 1).size == 0


@pytest.mark.parametrize("variant", [-1, 5])
def test_a_variant_that_does_not_exist_is_refused(variant: int) -> None:
    told = rf"variant {variant} of clip 'a' does not exist; allowed: 0 \(as recorded\) to 4"
    with pytest.raises(ValueError, match=told):
        augmented(noise(), RATE, section(**ALWAYS), "a", variant)
    with pytest.raises(ValueError, match=told):
        describe(section(**ALWAYS), "a", variant)


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (
            np.zeros(9, np.float64),
            r"samples are float64 of shape \(9,\); allowed: int16 or float32",
        ),
        (np.zeros((2, 9), np.int16), r"samples are int16 of shape \(2, 9\); allowed: int16"),
    ],
)
def test_samples_that_are_no_waveform_are_refused(samples: np.ndarray, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        augmented(samples, RATE, section(**ALWAYS), "a", 1)


def test_libraries_are_not_imported_before_an_effect_needs_them() -> None:
    code = (
        "import sys, audioflow.media.augment\n"
        "print([name for name in ('scipy', 'python_stretch', 'torch') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"

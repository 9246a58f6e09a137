"""Each effect of augmentation, measured on what comes out."""

import numpy as np
import pytest
from scipy import signal

from audioflow.media.augment import augmented, describe
from audioflow.media.augment.noise import LOWEST_HZ, colored_noise
from audioflow.recipe_augment import AugmentSection

RATE = 16_000
SECONDS = 5


def altered(samples: np.ndarray, rate: int = RATE, /, **effect: object) -> np.ndarray:
    settings = AugmentSection.model_validate({"variants": 1, **effect})
    return augmented(samples, rate, settings, "a", 1)


def sine(hz: float, rate: int = RATE, peak: float = 8000, seconds: float = SECONDS) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return np.rint(peak * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def noise(num_samples: int = SECONDS * RATE, rms: float = 3000) -> np.ndarray:
    values = np.random.default_rng(0).normal(0, rms, num_samples)
    return np.clip(np.rint(values), -32768, 32767).astype(np.int16)


def impulse(at: int, num_samples: int = RATE) -> np.ndarray:
    samples = np.zeros(num_samples, np.int16)
    samples[at] = 30_000
    return samples


def power_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2)))


def loudest_hz(samples: np.ndarray, rate: int = RATE) -> float:
    """The strongest frequency, to a fraction of a bin: a parabola through the peak's logarithm."""
    power = np.log(np.abs(np.fft.rfft(samples * np.blackman(len(samples)))) + 1e-9)
    top = int(np.argmax(power))
    before, at, after = power[top - 1 : top + 2]
    bins = top + (before - after) / (before - 2 * at + after) / 2
    return float(bins * rate / len(samples))


# Offset, crop, shift


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000])
def test_variant_k_begins_at_the_kth_offset(rate: int) -> None:
    offsets = [0.2, 0.4, 0.6, 0.8]
    settings = AugmentSection.model_validate({"variants": 4, "offsets_s": offsets})
    samples = noise(5 * rate)
    for variant, offset_s in enumerate(offsets, 1):
        found = augmented(samples, rate, settings, "any", variant)
        np.testing.assert_array_equal(found, samples[round(offset_s * rate) :])


def test_an_offset_leaves_half_of_a_clip_that_is_too_short_for_it() -> None:
    samples = noise(101)
    np.testing.assert_array_equal(altered(samples, offsets_s=[0.8]), samples[50:])
    np.testing.assert_array_equal(altered(samples[:1], offsets_s=[0.8]), samples[:1])


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("count", [0, 1, 8000, -1, -8000, 39_999])
def test_a_shift_is_exact_to_the_sample(count: int, wrap: bool) -> None:
    samples, shift_s = noise(), count / RATE
    found = altered(samples, shift={"shift_s": [shift_s, shift_s], "wrap": wrap})
    expected = np.roll(samples, count)
    if not wrap and count > 0:
        expected[:count] = 0
    elif not wrap and count < 0:
        expected[count:] = 0
    np.testing.assert_array_equal(found, expected)


def test_a_shift_moves_at_most_half_of_the_clip_out() -> None:
    samples = noise(1001)
    later = altered(samples, shift={"shift_s": [5, 5]})
    np.testing.assert_array_equal(later, np.concatenate([np.zeros(500), samples[:501]]))
    earlier = altered(samples, shift={"shift_s": [-5, -5]})
    np.testing.assert_array_equal(earlier, np.concatenate([samples[500:], np.zeros(500)]))


def test_a_crop_is_a_window_of_the_clip_that_may_lie_anywhere() -> None:
    samples = np.arange(1000, dtype=np.int16)
    settings = AugmentSection.model_validate({"variants": 300, "crop": {"duration_s": 0.99}})
    starts = set()
    for variant in range(1, 301):
        found = augmented(samples, 1000, settings, "a", variant)
        np.testing.assert_array_equal(found, found[0] + np.arange(990))
        starts.add(int(found[0]))
    assert starts == set(range(11))
    assert altered(samples, 1000, crop={"duration_s": 1e-6}).size == 1
    whole = augmented(samples[:980], 1000, settings, "a", 1)
    np.testing.assert_array_equal(whole, samples[:980])


# Gain, noise


@pytest.mark.parametrize("gain_db", [-40, -4, 0, 2.5, 6])
def test_a_gain_is_so_many_decibels(gain_db: float) -> None:
    found = altered(noise(), gain={"gain_db": [gain_db, gain_db]})
    assert power_db(found) - power_db(noise()) == pytest.approx(gain_db, abs=0.01)


@pytest.mark.parametrize("color", ["white", "pink", "brown"])
@pytest.mark.parametrize("snr_db", [-5, 15, 35])
@pytest.mark.parametrize("num_samples", [200, SECONDS * RATE])
def test_noise_is_so_much_weaker_than_the_clip(color: str, snr_db: float, num_samples: int) -> None:
    samples = noise(num_samples)
    found = altered(samples, noise={"colors": [color], "snr_db": [snr_db, snr_db]})
    added = found.astype(np.float64) - samples
    assert power_db(samples) - power_db(added) == pytest.approx(snr_db, abs=0.1)


def test_the_ratio_is_to_the_clip_as_recorded_not_as_shifted() -> None:
    samples = np.zeros(SECONDS * RATE, np.int16)
    samples[-2 * RATE :] = noise(2 * RATE)  # which the shift moves out, all but half a second
    found = altered(samples, shift={"shift_s": [1.5, 1.5]}, noise={"snr_db": [20, 20]})
    added = found[: 4 * RATE].astype(np.float64)
    assert power_db(samples) - power_db(added) == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize(("color", "slope"), [("white", 0), ("pink", -10), ("brown", -20)])
@pytest.mark.parametrize("rate", [8000, 44_100])
def test_noise_falls_so_many_decibels_per_decade(color: str, slope: float, rate: int) -> None:
    generator = np.random.default_rng(0)
    found = colored_noise(60 * rate, rate, color, generator)  # type: ignore[arg-type]
    hz, power = signal.welch(found, rate, nperseg=rate, detrend=False)
    heard = (hz >= 2 * LOWEST_HZ) & (hz <= 0.45 * rate)
    decades = np.log10(hz[heard])
    (fitted, _), (bend, _, _) = (
        np.polyfit(decades, 10 * np.log10(power[heard]), degree) for degree in (1, 2)
    )
    assert fitted == pytest.approx(slope, abs=0.3)
    assert bend == pytest.approx(0, abs=0.5)
    if color != "white":
        assert power[hz <= LOWEST_HZ / 2].max() < 1e-3 * power[heard].max()


@pytest.mark.parametrize("color", ["white", "pink", "brown"])
def test_noise_is_gaussian_and_no_two_pieces_are_alike(color: str) -> None:
    generator = np.random.default_rng(0)
    one, other = (
        colored_noise(10 * RATE, RATE, color, generator)  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert np.sqrt(np.mean(one**2)) == pytest.approx(1, abs=1e-5)
    assert np.mean(np.abs(one)) == pytest.approx(np.sqrt(2 / np.pi), rel=0.03)
    assert abs(np.mean(one * other)) < 0.05


@pytest.mark.parametrize("color", ["white", "pink", "brown"])
def test_the_shortest_clip_gets_noise_too(color: str) -> None:
    found = colored_noise(1, RATE, color, np.random.default_rng(0))  # type: ignore[arg-type]
    assert np.abs(found) == pytest.approx([1])


def test_variants_get_noise_of_their_own() -> None:
    settings = AugmentSection.model_validate({"variants": 2, "noise": {"snr_db": [0, 0]}})
    one, other = (
        augmented(noise(), RATE, settings, "a", variant).astype(float) - noise()
        for variant in (1, 2)
    )
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02


# Filters, echoes


def through(hz: float, rate: int = RATE, **filter_settings: object) -> float:
    """What a filter does to a tone, in decibels, once it has settled."""
    samples = sine(hz, rate, peak=30_000)
    settled = slice(rate, None)
    found = altered(samples, rate, filter=filter_settings)
    return power_db(found[settled]) - power_db(samples[settled])


@pytest.mark.parametrize("cut_off_hz", [60.0, 440.0, 3000.0])
def test_a_filter_takes_3_db_at_its_cut_off(cut_off_hz: float) -> None:
    high = {"kinds": ["high_pass"], "high_pass_hz": [cut_off_hz, cut_off_hz]}
    low = {"kinds": ["low_pass"], "low_pass_hz": [cut_off_hz, cut_off_hz]}
    for settings in (high, low):
        assert through(cut_off_hz, **settings) == pytest.approx(-3.01, abs=0.05)


@pytest.mark.parametrize("octaves", [-2, -1, 0.5, 1])
def test_filters_have_the_response_of_butterworth_s_order_4(octaves: float) -> None:
    ratio = 2.0**octaves
    high = through(250 * ratio, kinds=["high_pass"], high_pass_hz=[250, 250])
    low = through(250 * ratio, kinds=["low_pass"], low_pass_hz=[250, 250])
    assert high == pytest.approx(-10 * np.log10(1 + ratio**-8), abs=0.2)
    assert low == pytest.approx(-10 * np.log10(1 + ratio**8), abs=0.2)


def test_a_band_pass_lets_its_band_pass_and_nothing_else() -> None:
    band = {"kinds": ["band_pass"], "high_pass_hz": [300, 300], "low_pass_hz": [3000, 3000]}
    assert through(950, **band) == pytest.approx(0, abs=0.01)
    assert through(300, **band) == pytest.approx(-3.01, abs=0.05)
    assert through(3000, **band) == pytest.approx(-3.01, abs=0.05)
    assert through(75, **band) < -45
    assert through(7000, **band) < -30


def test_a_cut_off_too_high_for_the_sample_rate_is_limited() -> None:
    low = {"kinds": ["low_pass"], "low_pass_hz": [6000, 6000]}
    assert through(3000, 8000, **low) == pytest.approx(0, abs=0.01)
    assert through(3800, 8000, **low) == pytest.approx(-3.01, abs=0.05)
    high = {"kinds": ["high_pass"], "high_pass_hz": [4000, 4000]}
    assert through(3800, 8000, **high) == pytest.approx(-3.01, abs=0.05)


def test_echoes_come_at_multiples_of_the_delay_each_weaker() -> None:
    samples = impulse(10)
    settings = {"delay_s": [0.1, 0.1], "feedback": [0.4, 0.4], "mix": [0.5, 0.5]}
    found = altered(samples, delay=settings)
    expected = np.zeros_like(samples)
    expected[10] = 15_000
    for echo in range(1, 10):
        expected[10 + 1600 * echo] = round(30_000 * 0.5 * 0.4 ** (echo - 1))
    np.testing.assert_array_equal(found, expected)


def test_echoes_are_those_of_the_recursion_sample_by_sample() -> None:
    samples, delay, feedback, mix = noise(5000), 160, 0.3, 0.2
    numerator, denominator = np.zeros(delay + 1), np.zeros(delay + 1)
    denominator[[0, delay]] = 1, -feedback
    numerator[delay] = 1
    echoes = signal.lfilter(numerator, denominator, samples)
    found = altered(samples, delay={"delay_s": [0.01] * 2, "feedback": [0.3] * 2, "mix": [0.2] * 2})
    np.testing.assert_array_equal(found, np.rint((1 - mix) * samples + mix * echoes))


# Speed and pitch


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.1, 1.25, 2.0])
@pytest.mark.parametrize("rate", [8000, 22_050])
def test_a_stretch_keeps_the_pitch_and_changes_the_duration(speed: float, rate: int) -> None:
    found = altered(sine(440, rate), rate, stretch={"speed": [speed, speed]})
    assert len(found) == pytest.approx(SECONDS * rate / speed, abs=1)
    assert loudest_hz(found, rate) == pytest.approx(440, rel=0.001)
    assert power_db(found) == pytest.approx(power_db(sine(440, rate)), abs=0.3)


@pytest.mark.parametrize("peak", [30, 1000, 30_000])
def test_a_stretch_keeps_the_level_of_loud_and_of_soft_clips(peak: float) -> None:
    for rate in (8000, 22_050, 44_100):
        for hz in (110, 440, 3000):
            samples = sine(hz, rate, peak, seconds=2)
            found = altered(samples, rate, stretch={}, pitch={})
            assert power_db(found) == pytest.approx(power_db(samples), abs=0.7)


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.25])
def test_a_stretch_leaves_every_moment_where_it_belongs(speed: float) -> None:
    for at in (RATE // 2, 2 * RATE, 4 * RATE):
        found = altered(impulse(at, SECONDS * RATE), stretch={"speed": [speed, speed]})
        assert np.argmax(np.abs(found)) / RATE == pytest.approx(at / RATE / speed, abs=0.002)


@pytest.mark.parametrize("semitones", [-12, -1, 0.5, 3, 12])
def test_a_pitch_changes_the_frequency_and_keeps_the_duration(semitones: float) -> None:
    found = altered(sine(440), pitch={"semitones": [semitones, semitones]})
    assert len(found) == SECONDS * RATE
    assert loudest_hz(found) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.005)


@pytest.mark.parametrize("length", [1, 2, 7, 100, 2000, 12_345])
def test_clips_of_any_length_can_be_stretched(length: int) -> None:
    generator = np.random.default_rng(length)
    samples = noise(length)
    for speed in (0.5, 2.0, *generator.uniform(0.5, 2, 5)):
        found = altered(samples, stretch={"speed": [speed, speed]}, pitch={})
        assert found.dtype == np.int16
        assert found.size > 0
        assert found.size == pytest.approx(max(1, length / speed), abs=1)


def test_a_stretch_gives_the_same_twice() -> None:
    settings = AugmentSection.model_validate({"variants": 9, "stretch": {}, "pitch": {}})
    for variant in range(1, 4):
        assert describe(settings, "a", variant)["stretch"]["speed"] != 1
        np.testing.assert_array_equal(
            augmented(noise(), RATE, settings, "a", variant),
            augmented(noise(), RATE, settings, "a", variant),
        )


def test_silence_that_is_stretched_is_longer_silence() -> None:
    found = altered(np.zeros(1000, np.int16), stretch={"speed": [0.8, 0.8]}, pitch={})
    np.testing.assert_array_equal(found, np.zeros(1250, np.int16))
    assert altered(np.zeros(0, np.int16), stretch={}).size == 0


def test_a_stretch_by_nothing_changes_nothing() -> None:
    found = altered(noise(), stretch={"speed": [1, 1]}, pitch={"semitones": [0, 0]})
    np.testing.assert_array_equal(found, noise())

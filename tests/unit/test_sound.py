"""Sound: level, frequency, spans, coverage, and what is said of files that give nothing."""

import numpy as np
import pytest

from audioflow.errors import MediaError
from audioflow.media.container import open_media
from audioflow.media.parts import SoundPart, Wanted
from audioflow.media.pyav import PyAV
from audioflow.media.sound import read_sound
from audioflow.media.spans import Span, claimed_coverage
from audioflow.registry import Settings
from tests.decoders import Sound, collect, decode_recording
from tests.media_files import (
    RATE,
    WAV_KINDS,
    peak_hz,
    ramp,
    rms_db,
    tone,
    wav_bytes,
    write_media,
    write_wav,
)

LOSSY = [
    ("a.m4a", "aac", RATE, 1),
    ("a.m4a", "aac", RATE, 2),
    ("a.mp3", "libmp3lame", RATE, 1),
    ("a.mp3", "libmp3lame", RATE, 2),
    ("a.opus", "libopus", 48_000, 1),
    ("a.opus", "libopus", 48_000, 2),
    ("a.opus", "libopus", 48_000, 8),
    ("a.ogg", "vorbis", RATE, 2),
    ("a.mp2", "mp2", RATE, 1),
]
WHOLE = Span()


def decode(path, *spans, rates=(RATE,), limit_s=600.0):
    found = decode_recording(str(path), spans or [WHOLE], Wanted(rates, (), limit_s))
    assert all(clip.pictures == {} for clip in found)
    sounds = [clip.sound for clip in found]
    return sounds if spans else sounds[0]


def whole(path, rate=RATE) -> np.ndarray:
    sound = decode(path, rates=(rate,))
    assert isinstance(sound, Sound), sound
    return sound.waveforms[rate]


def fails_with(sound, error: str, text: str = "") -> None:
    assert isinstance(sound, MediaError), sound
    assert (sound.error, text in sound.reason) == (error, True), sound


# What is in the samples


@pytest.mark.parametrize("kind", WAV_KINDS)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_minus_6_dbfs_sine_keeps_its_level_in_every_sample_format(tmp_path, kind, channels):
    sine = np.repeat(tone(peak=0.5012), channels, axis=0)
    samples = whole(write_wav(tmp_path / "a.wav", sine, kind=kind))
    assert rms_db(samples) == pytest.approx(-6.0 - 3.0103, abs=0.05)
    assert peak_hz(samples, RATE) == pytest.approx(440, abs=0.1)


@pytest.mark.parametrize("kind", ["s16", "s24", "s32", "f32", "f64"])
def test_samples_come_out_as_they_went_in(tmp_path, kind):
    noise = ramp(0.5)
    samples = whole(write_wav(tmp_path / "a.wav", noise, kind=kind))
    assert np.abs(samples - noise[0] * 32767).max() <= 1.0


def test_full_scale_in_both_directions_does_not_wrap(tmp_path):
    square = np.sign(tone(100))
    samples = whole(write_wav(tmp_path / "a.wav", square, kind="f32"))
    assert (samples.min(), samples.max()) == (-32767, 32767)
    loud = whole(write_wav(tmp_path / "b.wav", 3 * square, kind="f32"))
    assert (loud.min(), loud.max()) == (-32767, 32767)


@pytest.mark.parametrize(("name", "codec", "rate", "channels"), LOSSY)
def test_lossy_codecs_keep_level_and_frequency(tmp_path, name, codec, rate, channels):
    sine = np.repeat(tone(1000, 2.0, rate, 0.5012), channels, axis=0)
    path = write_media(tmp_path / name, sound_CN=sine, audio=codec, rate=rate)
    samples = whole(path, rate)
    middle = samples[rate // 2 : -rate // 2]
    assert rms_db(middle) == pytest.approx(-9.01, abs=0.5)
    assert peak_hz(middle, rate) == pytest.approx(1000, abs=0.5)
    assert len(samples) / rate == pytest.approx(2.0, abs=0.06)


@pytest.mark.parametrize("codec", ["flac", "pcm_s16le"])
def test_lossless_codecs_are_lossless(tmp_path, codec):
    noise = np.concatenate([ramp(1.0), ramp(1.0)[:, ::-1]])
    path = write_media(tmp_path / "a.mka", sound_CN=noise, audio=codec)
    assert np.abs(whole(path) - noise.mean(axis=0) * 32767).max() <= 1.0


def test_channels_are_mixed_by_their_mean(tmp_path):
    one = np.stack([tone()[0], 0 * tone()[0]])
    assert rms_db(whole(write_wav(tmp_path / "one.wav", one))) == pytest.approx(-15.05, abs=0.05)
    against = np.stack([tone()[0], -tone()[0]])
    assert not whole(write_wav(tmp_path / "anti.wav", against)).any()


@pytest.mark.parametrize("wanted", [8_000, 16_000, 22_050, 32_000, 48_000])
@pytest.mark.parametrize("source", [11_025, 44_100, 96_000])
def test_resampling_keeps_length_frequency_and_level(tmp_path, source, wanted):
    path = write_wav(tmp_path / "a.wav", tone(1000, 1.0, source), source)
    samples = whole(path, wanted)
    assert len(samples) == pytest.approx(wanted, abs=1)
    inner = samples[wanted // 10 : -wanted // 10]
    assert peak_hz(inner, wanted) == pytest.approx(1000, abs=0.2)
    assert rms_db(inner) == pytest.approx(-9.03, abs=0.03)


def test_resampling_lets_nothing_fold_back(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(15_000, 1.0, peak=0.9))
    assert rms_db(whole(path, 16_000)[1000:-1000]) < -80


def test_every_wanted_rate_comes_from_one_decode(tmp_path):
    sound = decode(write_wav(tmp_path / "a.wav", tone()), rates=(8_000, 16_000))
    assert {rate: len(samples) for rate, samples in sound.waveforms.items()} == {
        8_000: 8_000,
        16_000: 16_000,
    }
    assert all(samples.dtype == np.int16 for samples in sound.waveforms.values())


# Samples that are no samples


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1600.0])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_cannot_be_are_zero_and_lower_the_coverage(tmp_path, bad, channels):
    sine = np.repeat(tone(), channels, axis=0)
    sine[0, 11_025:22_050] = bad
    sound = decode(write_wav(tmp_path / "a.wav", sine, kind="f64"))
    assert sound.coverage == pytest.approx(0.75, abs=1e-3)
    assert not sound.waveforms[RATE][11_025:22_050].any()
    assert rms_db(sound.waveforms[RATE][22_050:]) == pytest.approx(-9.03, abs=0.05)


def test_a_recording_of_nothing_but_nan_has_no_coverage(tmp_path):
    sound = decode(write_wav(tmp_path / "a.wav", np.full((1, 4410), np.nan), kind="f32"))
    assert (sound.coverage, sound.waveforms[RATE].any()) == (0.0, False)


def test_one_sample_is_a_sound(tmp_path):
    sound = decode(write_wav(tmp_path / "a.wav", np.array([[0.5]])))
    assert (sound.waveforms[RATE].tolist(), sound.coverage) == ([16384], 1.0)


# Spans


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize("start_s", [0.0, 0.31, 1.2345678, 25.0, 27.77777])
def test_a_span_is_cut_at_the_sample(tmp_path, name, start_s):
    """Starts beyond 20 s are reached by a jump, which must land on the same samples."""
    noise = ramp(28.5, 16_000)
    path = tmp_path / name
    if name == "a.wav":
        write_wav(path, noise, 16_000)
    else:
        write_media(path, sound_CN=noise, audio="flac", rate=16_000)
    full = whole(path, 16_000)
    (sound,) = decode(path, Span(start_s, 0.5), rates=(16_000,))
    first = round(start_s * 16_000)
    assert np.array_equal(sound.waveforms[16_000], full[first : first + 8_000])
    assert (sound.duration_s, sound.coverage) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("name", "codec", "start_s"),
    [
        ("a.m4a", "aac", 0.5),
        ("a.m4a", "aac", 21.2),
        ("a.mka", "libmp3lame", 21.2),
        ("a.mp3", "libmp3lame", 0.5),
    ],
)
def test_a_span_of_a_lossy_file_is_about_the_same_as_of_its_full_decode(
    tmp_path, name, codec, start_s
):
    path = write_media(tmp_path / name, sound_CN=ramp(start_s + 2), audio=codec)
    full = whole(path).astype(float)
    (sound,) = decode(path, Span(start_s, 1.0))
    part = sound.waveforms[RATE].astype(float)
    first = round(start_s * RATE)
    shifts = range(-80, 81)
    likeness = [np.corrcoef(part, full[first + s : first + s + RATE])[0, 1] for s in shifts]
    assert max(likeness) > 0.99
    assert abs(shifts[int(np.argmax(likeness))]) <= 1.5e-3 * RATE  # mka counts milliseconds


def test_many_spans_of_one_recording_come_in_their_order(tmp_path):
    path = write_wav(tmp_path / "a.wav", ramp(4.0, 16_000), 16_000)
    full = whole(path, 16_000)
    spans = [Span(3.0, 0.5), Span(0.5, 1.0), Span(None, 0.25), Span(2.0, None), Span()]
    found = [s.waveforms[16_000] for s in decode(path, *spans, rates=(16_000,))]
    expected = [full[48_000:56_000], full[8_000:24_000], full[:4_000], full[32_000:], full]
    assert all(np.array_equal(got, want) for got, want in zip(found, expected, strict=True))


def test_spans_of_equal_length_give_equal_numbers_of_samples(tmp_path):
    path = write_wav(tmp_path / "a.wav", ramp(3.0))
    spans = [Span(start_s, 0.3333) for start_s in np.linspace(0, 2.5, 37)]
    assert {len(sound.waveforms[RATE]) for sound in decode(path, *spans)} == {14_699}


def test_a_span_past_the_end_fails_and_its_neighbours_do_not(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(seconds=2.0))
    good, late, half = decode(path, Span(0.5, 1.0), Span(2.5, 1.0), Span(1.5, 1.0))
    assert good.coverage == 1.0
    fails_with(late, "truncated", "the clip starts at 2.5 s, the sound ends at 2.000 s")
    assert (half.coverage, half.duration_s) == (0.5, 0.5)


def test_a_far_span_past_the_end_is_told_the_true_end(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(seconds=25.0, rate=8_000), 8_000)
    (late,) = decode(path, Span(60.0, 1.0), rates=(8_000,))
    fails_with(late, "truncated", "the sound ends at 25.000 s")


@pytest.mark.parametrize("length_s", [0.0, -1.0])
def test_a_span_without_length_fails(tmp_path, length_s):
    path = write_wav(tmp_path / "a.wav", tone())
    (sound,) = decode(path, Span(0.2, length_s))
    fails_with(sound, "too_short", f"the clip is {length_s:g} s long")


def test_a_span_counts_from_the_start_of_the_recording_where_the_sound_begins_late(tmp_path):
    path = write_media(
        tmp_path / "a.mkv",
        sound_CN=ramp(3.0),
        audio="pcm_s16le",
        sound_from_s=2.0,
        frames=np.zeros((50, 32, 32, 3), np.uint8),
    )
    full = whole(path)
    assert len(full) == 3 * RATE
    inside, across, before = decode(path, Span(2.5, 1.0), Span(1.5, 1.0), Span(0.0, 1.5))
    assert np.array_equal(inside.waveforms[RATE], full[RATE // 2 : RATE * 3 // 2])
    assert across.coverage == pytest.approx(0.5, abs=1e-4)
    assert not across.waveforms[RATE][: RATE // 2].any()
    assert np.array_equal(across.waveforms[RATE][RATE // 2 :], full[: RATE // 2])
    fails_with(before, "truncated", "the clip ends at 1.5 s, the sound begins at 2.000 s")
    parts = PyAV(Settings()).decode(str(path), [Span(), Span(1.5, 1.0)], Wanted((RATE,)))
    begins_s = {part.clip: part.begins_s for part in parts if isinstance(part, SoundPart)}
    assert begins_s == {0: pytest.approx(2.0, abs=1e-3), 1: 0.0}


# Length


def test_a_recording_longer_than_the_limit_fails_and_spans_of_it_do_not(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(seconds=30.0, rate=8_000), 8_000)
    everything, rest, part, long = decode(
        path, Span(), Span(5.0), Span(28.0, 1.0), Span(2.0, 11.0), rates=(8_000,), limit_s=10.0
    )
    for sound in (everything, rest, long):
        fails_with(sound, "too_long", "more than 10 s of sound (embed.max_duration_s)")
    assert len(part.waveforms[8_000]) == 8_000


@pytest.mark.parametrize(
    ("have_s", "claim_s", "share"),
    [
        (10.0, 10.0, 1.0),
        (10.0, None, 1.0),
        (10.0, 5.0, 1.0),
        (9.6, 10.0, 1.0),
        (0.05, 0.1, 1.0),
        (6.0, 10.0, 0.6),
        (0.01, 0.1, 0.1),
    ],
)
def test_a_small_gap_to_what_a_file_claims_is_no_damage(have_s, claim_s, share):
    assert claimed_coverage(have_s, claim_s) == pytest.approx(share)


@pytest.mark.parametrize("name", ["a.mp4", "a.mka", "a.flac", "a.wav", "a.mp3"])
def test_a_file_cut_short_says_so_by_its_coverage(tmp_path, name):
    codec = {"flac": "flac", "wav": "pcm_s16le", "mp3": "libmp3lame"}.get(name[2:], "aac")
    options = {"movflags": "faststart"} if name == "a.mp4" else None
    path = write_media(tmp_path / name, sound_CN=ramp(10.0), audio=codec, options=options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    sound = decode(path)
    assert sound.coverage == pytest.approx(0.6, abs=0.03)
    assert len(sound.waveforms[RATE]) / RATE == pytest.approx(6.0, abs=0.3)


@pytest.mark.parametrize("claim", [0, 0x7FFFFFFF - 36, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 36])
def test_a_wav_whose_writer_did_not_know_its_length_is_whole(tmp_path, claim):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(tone(seconds=20.0), claim=claim))
    sound = decode(path)
    assert (len(sound.waveforms[RATE]), sound.coverage) == (20 * RATE, 1.0)


@pytest.mark.parametrize("name", ["a.mp3", "a.aac"])
def test_a_duration_guessed_from_the_bit_rate_of_a_quiet_start_is_not_believed(tmp_path, name):
    sound = ramp(10.0)
    sound[:, : 5 * RATE] = 0
    path = write_media(
        tmp_path / name,
        sound_CN=sound,
        audio="libmp3lame" if name == "a.mp3" else "aac",
        container="mp3" if name == "a.mp3" else "adts",
        options={"write_xing": "0"} if name == "a.mp3" else None,
        audio_options={"abr": "1", "b": "200k"} if name == "a.mp3" else None,
    )
    assert decode(path).coverage == 1.0


def test_a_file_that_claims_four_days_is_not_believed(tmp_path):
    path = write_media(tmp_path / "a.mka", sound_CN=tone(seconds=2.0), audio="aac")
    data = path.read_bytes()
    begin = data.index(b"00:00:02.")
    path.write_bytes(data[:begin] + b"99:59:59." + data[begin + 9 :])
    assert decode(path).coverage == 1.0
    path.write_bytes(data[:begin] + b"00:00:08." + data[begin + 9 :])
    assert decode(path).coverage == pytest.approx(0.25, abs=0.01)


class Overshooting:
    """A container whose jumps land behind their target, as with a wrong index."""

    def __init__(self, container):
        self._container = container
        self.jumps = 0

    def __getattr__(self, name):
        return getattr(self._container, name)

    def seek(self, target, *, stream):
        self.jumps += 1
        self._container.seek(target + 100_000 if target else 0, stream=stream)


def test_a_jump_that_lands_behind_its_target_is_taken_back(tmp_path):
    path = write_wav(tmp_path / "a.wav", ramp(40.0, 8_000), 8_000)
    full = whole(path, 8_000)
    wanted = Wanted((8_000,))
    with open_media(str(path)) as container:
        jumping = Overshooting(container)
        parts = read_sound(str(path), jumping, [Span(25.0, 1.0)], wanted)
        sound = collect(parts, 1, wanted)[0].sound
    assert jumping.jumps == 1
    assert np.array_equal(sound.waveforms[8_000], full[200_000:208_000])


# Files that give nothing


def test_a_video_without_sound_and_cover_art_without_video_are_told_apart(tmp_path):
    path = write_media(tmp_path / "a.mp4", frames=np.zeros((5, 32, 32, 3), np.uint8))
    fails_with(decode(path), "no_audio", "the recording has no sound track")


def test_a_wav_without_a_sample_has_no_audio(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.zeros((1, 0)))
    fails_with(decode(path), "no_audio", "a sound track is there, but it has no sample")


@pytest.mark.parametrize("kept_bytes", [0, 1])
def test_a_file_that_ends_before_its_first_sample_is_not_called_damaged(tmp_path, kept_bytes):
    data = wav_bytes(tone(seconds=60.0))
    start = data.index(b"data") + 8
    about = b"LIST" + (20_000).to_bytes(4, "little") + bytes(20_000)
    head = data[: start - 8] + about + data[start - 8 : start]
    path = tmp_path / "a.wav"
    path.write_bytes(head + data[start : start + kept_bytes])
    fails_with(decode(path), "truncated", "ends before its first sample; by its header it has 60 s")
    short = head[:-4] + (100).to_bytes(4, "little")
    path.write_bytes(short + data[start : start + kept_bytes])
    fails_with(decode(path), "no_audio", "a sound track is there, but it has no sample")


def test_damaged_packets_lower_the_coverage_and_the_rest_is_kept(tmp_path):
    path = write_media(tmp_path / "a.mka", sound_CN=ramp(10.0), audio="flac")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 5] = bytes(len(data) // 5)
    path.write_bytes(data)
    sound = decode(path)
    assert 0.3 < sound.coverage < 0.9


def test_silence_is_silence(tmp_path):
    for kind in WAV_KINDS:
        assert not whole(write_wav(tmp_path / f"{kind}.wav", np.zeros((2, 999)), kind=kind)).any()

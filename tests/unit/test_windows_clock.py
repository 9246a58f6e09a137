"""The media clock: sound and pictures of a moment carry the same time, whatever is missing."""

from fractions import Fraction

import av
import numpy as np
import pytest

from audioflow.media.clock import NotExactError, Stamp, TrackClock
from audioflow.media.parts import FrameSampling, Wanted
from audioflow.media.spans import Span
from tests.decoders import Sound, decode_recording
from tests.media_files import RATE, ramp, wav_bytes, write_media

FPS = 25
SAMPLING = FrameSampling(None, 32, float(FPS))
BOTH = Wanted((RATE,), (SAMPLING,))

# Clicks at flashes

FLASHES = tuple(range(15, 60 * FPS, 35))


def flashes_and_clicks(path, *, sound_from_s=0.0, from_s=0.0, **more):
    """A minute of darkness and silence, but for clicks where there are flashes."""
    frames = np.zeros((60 * FPS, 32, 48, 3), np.uint8)
    frames[list(FLASHES)] = 255
    sound = np.zeros((1, 60 * RATE))
    generator = np.random.default_rng(0)
    for number in FLASHES:
        first = number * RATE // FPS
        sound[0, first : first + 200] = generator.uniform(-0.9, 0.9, 200)
    sound = sound[:, round(sound_from_s * RATE) :]
    return write_media(
        path,
        frames=frames,
        fps=FPS,
        sound_CN=sound,
        sound_from_s=from_s + sound_from_s,
        frames_from_s=from_s,
        **more,
    )


@pytest.fixture(
    scope="module", params=["edit_list.mp4", "late.mkv", "opus.mkv", "start.ts", "plain.avi"]
)
def flashing(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("flashes") / request.param
    if request.param == "late.mkv":
        return flashes_and_clicks(path, sound_from_s=2.0)
    if request.param == "opus.mkv":
        return flashes_and_clicks(path, audio="flac")
    if request.param == "start.ts":
        return flashes_and_clicks(path, from_s=5.0, video="mpeg2video", container="mpegts")
    if request.param == "plain.avi":
        return flashes_and_clicks(path, video="mpeg4", audio="libmp3lame")
    return flashes_and_clicks(path)


@pytest.mark.parametrize("span", [Span(0.0, 6.0), Span(2.31, 4.0), Span(41.27, 5.0)])
def test_a_click_has_the_time_of_its_flash(flashing, span):
    (clip,) = decode_recording(flashing, [span], BOTH)
    pictures = clip.pictures[SAMPLING]
    flashes_s = pictures.time_s[pictures.frames.mean(axis=(1, 2, 3)) > 100]
    clicks_s = clicks(clip.sound.waveforms[RATE])
    late = "late" in flashing.name and span.start_s == 0.0
    expected_s = [number / FPS - span.start_s for number in FLASHES]
    expected_s = [moment_s for moment_s in expected_s if 0.05 < moment_s < span.duration_s - 0.05]
    flashes_s = [moment_s for moment_s in flashes_s if 0.05 < moment_s < span.duration_s - 0.05]
    assert len(flashes_s) == len(expected_s) >= 2
    assert flashes_s == pytest.approx(expected_s, abs=0.002)
    assert len(clicks_s) == len(expected_s) - (1 if late else 0)
    delay_s = 0.026 if flashing.suffix == ".avi" else 0.0  # an AVI does not tell of it
    assert clicks_s == pytest.approx(expected_s[-len(clicks_s) :], abs=0.002 + delay_s)


def clicks(samples) -> list[float]:
    """When clicks begin, seconds."""
    loud = np.flatnonzero(np.abs(samples.astype(float)) > 6_000)
    begins = loud[np.diff(loud, prepend=-RATE) > RATE // 10]
    return [float(begin) / RATE for begin in begins if 0.05 * RATE < begin < len(samples) - 2_500]


# What is missing


def decode(path, *spans) -> Sound:
    (clip,) = decode_recording(path, spans or [Span()], Wanted((RATE,)))
    assert isinstance(clip.sound, Sound), clip.sound
    return clip.sound


DAMAGED = {
    "a.wav": ("pcm_s16le", {}, {}),
    "cbr.mp3": ("libmp3lame", {}, {"b": "96k"}),
    "vbr.mp3": ("libmp3lame", {}, {"compression_level": "7", "q": "5"}),
    "plain.mp3": ("libmp3lame", {"write_xing": "0"}, {"b": "128k"}),
    "a.m4a": ("aac", {}, {"aac_pns": "0"}),
    "a.ogg": ("vorbis", {}, {}),
    "a.mka": ("flac", {}, {}),
    "a.flac": ("flac", {}, {}),
    "a.ts": ("aac", {}, {"aac_pns": "0"}),
}


@pytest.mark.parametrize("filler", ["zeros", "noise"])
@pytest.mark.parametrize("name", DAMAGED)
def test_what_lies_before_and_after_damage_keeps_its_time(tmp_path, name, filler):
    codec, options, quality = DAMAGED[name]
    channels = 2 if codec == "vorbis" else 1
    path = write_media(
        tmp_path / name,
        sound_CN=np.repeat(smooth(20.0), channels, axis=0),
        audio=codec,
        options=options,
        audio_options=quality,
        container="mpegts" if name == "a.ts" else None,
    )
    whole = decode(path).waveforms[RATE].astype(float)
    data = bytearray(path.read_bytes())
    begin, count = len(data) * 2 // 5, len(data) // 10
    noise = np.random.default_rng(2).integers(0, 256, count, np.uint8).tobytes()
    data[begin : begin + count] = bytes(count) if filler == "zeros" else noise
    path.write_bytes(data)
    sound = decode(path)
    samples = sound.waveforms[RATE].astype(float)
    assert len(samples) == pytest.approx(len(whole), abs=0.05 * RATE)
    for begin_s, end_s in ((0.5, 6.5), (15.5, 19.0)):
        part = slice(round(begin_s * RATE), round(end_s * RATE))
        assert np.corrcoef(samples[part], whole[part])[0, 1] > 0.99
    if name == "a.wav":
        assert sound.coverage == 1.0  # any bytes are samples
    else:
        lost = 0.3 if name == "a.mka" else 0.1  # Matroska goes on with its next cluster
        assert sound.coverage == pytest.approx(1 - lost, abs=0.07)
        assert not samples[round(9 * RATE) : round(9.5 * RATE)].any()


def smooth(seconds: float) -> np.ndarray:
    """Noise (1, N) that codecs keep, of which no two stretches are alike."""
    noise = np.random.default_rng(5).normal(0, 1, round(seconds * RATE))
    kernel = np.hanning(40)
    return 0.8 * (shaped := np.convolve(noise, kernel, "same"))[None] / np.abs(shaped).max()


def test_nan_in_the_middle_counts_as_missing_and_keeps_the_rest_in_place(tmp_path):
    sine = ramp(4.0)
    damaged = sine.copy()
    damaged[0, RATE : 2 * RATE] = np.nan
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(damaged, kind="f32"))
    sound = decode(path)
    assert sound.coverage == pytest.approx(0.75, abs=1e-4)
    assert np.abs(sound.waveforms[RATE][2 * RATE :] - sine[0, 2 * RATE :] * 32767).max() <= 1
    assert not sound.waveforms[RATE][RATE : 2 * RATE].any()
    assert decode(path, Span(2.0, 1.0)).coverage == 1.0
    assert decode(path, Span(1.5, 1.0)).coverage == pytest.approx(0.5, abs=1e-4)


def write_stretches(path, stretches, container=None):
    """Stretches of sound, each a time (seconds) and samples (1, N), as PCM packets."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for at_s, samples in stretches:
            for first in range(0, samples.shape[1], 1024):
                data = np.rint(samples[:, first : first + 1024] * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
                frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = round(at_s * RATE) + first
                out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_a_gap_in_the_time_stamps_is_silence_that_was_not_decoded(tmp_path):
    sound = smooth(3.0)
    path = write_stretches(
        tmp_path / "a.mka", [(0.0, sound[:, :RATE]), (1.5, sound[:, RATE : 2 * RATE])]
    )
    found = decode(path)
    assert found.duration_s == pytest.approx(2.5, abs=0.001)
    assert found.coverage == pytest.approx(0.8, abs=0.005)
    samples = found.waveforms[RATE]
    assert not samples[RATE + 50 : round(1.499 * RATE)].any()
    assert decode(path, Span(1.6, 0.5)).coverage == 1.0
    assert decode(path, Span(0.75, 0.5)).coverage == pytest.approx(0.5, abs=0.01)
    (inside,) = decode_recording(path, [Span(1.1, 0.2)], Wanted((RATE,)))
    assert inside.sound.error == "truncated"
    assert "nothing of the clip from 1.1 s on could be decoded" in inside.sound.reason


def test_every_rate_keeps_its_time_after_a_gap(tmp_path):
    sound = smooth(2.0)
    path = write_stretches(tmp_path / "a.mka", [(0.0, sound[:, :RATE]), (4.0, sound[:, RATE:])])
    (clip,) = decode_recording(path, [Span()], Wanted((8_000, 16_000)))
    for rate, samples in clip.sound.waveforms.items():
        assert len(samples) == pytest.approx(5 * rate, abs=rate * 0.002)
        assert not samples[round(1.01 * rate) : round(3.99 * rate)].any()
        assert samples[4 * rate :].any()


# The clock by itself


def clock(**more) -> TrackClock:
    return TrackClock(**{"tick_s": 1e-3, "longest_hole_s": 10.0, "end_s": 1e6} | more)


def places(one: TrackClock, *times_s: float | None) -> list[int]:
    """Where frames of 1000 samples at 10 kHz are placed that carry these times."""
    return [one.place(Stamp(at_s, 10_000, 1_000)) for at_s in times_s]


def test_rounded_and_jittering_time_stamps_are_contiguous():
    assert places(clock(), 0.0, 0.099, 0.203, 0.29, 0.45) == [0, 1000, 2000, 3000, 4000]


def test_a_hole_moves_all_that_follows():
    assert places(clock(), 0.0, 0.1, 0.8, 0.9) == [0, 1000, 8000, 9000]


@pytest.mark.parametrize("jump_s", [-5.0, 500.0])
def test_a_clock_that_is_set_anew_does_not_move_anything(jump_s):
    late = clock()
    assert places(late, 0.0, 0.1, 0.2 + jump_s, 0.3 + jump_s, 0.9 + jump_s) == [
        *(0, 1000, 2000, 3000),
        9000,
    ]


def test_a_hole_beyond_what_the_file_can_hold_is_none():
    assert places(clock(end_s=3.0, longest_hole_s=1e9), 0.0, 2.0, 8.0) == [0, 20_000, 21_000]


def test_frames_without_time_stamps_follow_on_each_other():
    assert places(clock(), None, None, 0.2, None) == [0, 1000, 2000, 3000]


def test_a_track_that_begins_a_little_late_begins_at_its_first_sample():
    assert places(clock(), 0.05, 0.15) == [0, 1000]
    assert places(clock(), 0.5, 0.6) == [5000, 6000]


def test_what_an_encoder_put_before_the_first_sample_lies_before_the_track():
    assert places(clock(), -0.023, 0.077) == [-230, 770]
    assert places(clock(), -0.001, 0.099) == [0, 1000]


def test_a_change_of_rate_keeps_the_time():
    one = clock()
    assert places(one, 0.0, 0.1) == [0, 1000]
    assert one.place(Stamp(0.2, 20_000, 500)) == 4000


def test_after_a_jump_frames_are_on_the_grid_of_those_before():
    one = clock()
    places(one, *(round(0.1 * number + 0.0004, 3) for number in range(12)))
    stamps = [Stamp(50.0 + 0.1 * number + 0.0006, 10_000, 1_000) for number in range(9)]
    one.land(stamps, by_s=60.0)
    assert one.place(stamps[0]) == 500_000


@pytest.mark.parametrize(
    "times_s", [(50.03, 50.13), (50.0, 50.15), (50.0, None), (0.5, 0.6)], ids=str
)
def test_a_jump_to_an_uncertain_place_is_not_taken(times_s):
    one = clock()
    places(one, *(0.1 * number for number in range(12)))
    with pytest.raises(NotExactError):
        one.land([Stamp(at_s, 10_000, 1_000) for at_s in times_s], by_s=60.0)


def test_a_jump_beyond_its_target_is_not_taken():
    one = clock()
    places(one, *(0.1 * number for number in range(12)))
    with pytest.raises(NotExactError):
        one.land([Stamp(50.0, 10_000, 1_000)], by_s=49.0)

"""Whole recordings, real and broken ones among them: every one is media or a reason."""

import csv
import random
from itertools import chain

import numpy as np
import pytest

from audioflow.errors import ERROR_CLASSES, MediaError
from audioflow.media.child import DecoderChild
from audioflow.media.parts import FrameSampling, Wanted
from audioflow.media.pictures import Pictures
from audioflow.media.spans import Span
from tests.decoders import Sound, collect, decode_recording
from tests.media_files import numbered_frames, rms_db, tone, write_media

SAMPLING = FrameSampling(4, 64)
BOTH = Wanted((16_000,), (SAMPLING,))

WRONG = {
    # What must come of these; all others have sound and pictures exactly where ffprobe saw a track.
    "derived__zero_bytes.wav": ("empty", "empty"),
    "ESC10-CoreML__1-32318-A.wav": ("not_media", "not_media"),
    "derived__html_error_page.mp4": ("not_media", "not_media"),
    "exo__1024_incrementing_bytes.mp3": ("not_media", "not_media"),
    "exo__continued_packet_at_start": ("not_media", "not_media"),
    "exo__play-trimmed.mp3": ("not_media", "not_media"),
    "exo__sample_fragmented_clearkey.mp4": ("truncated", "truncated"),
    "exo__sample_ac4.mp4": ("unsupported", "no_video"),
    "exo__sample_ac4_protected.mp4": ("unsupported", "no_video"),
    "exo__sample_mpegh_mhm1.mp4": ("unsupported", "no_video"),
    "exo__sample_with_sdt.ts": ("", "truncated"),
    "exo__invalid-bitstream.webm": ("no_audio", "truncated"),
    "exo__subsample_encrypted_altref.webm": ("no_audio", "truncated"),
    "opensoundscape__empty_2c.wav": ("no_audio", "no_video"),
    "derived__one_sample.wav": ("too_short", "no_video"),  # less than one at 16 kHz
    "derived__.hidden.mp4": ("", ""),
    "derived__quote'\"`$(x);%20#?&.mp4": ("", ""),
}
PARTLY = {
    # Less than the whole is there, and the coverage says so.
    "derived__truncated_60pct.mp4": (0.61, 0.60),
    "derived__chained.ogg": (0.59, None),  # FFmpeg 8 ends where the second stream begins
    "exo__sample_with_junk": (0.33, 0.6),
    "decord__corrupted.mp4": (None, 0.98),
}

HOLES = {
    # Packets are missing, by the time stamps; ffmpeg joins what is there.
    "ExoPlayer__bbb_2500ms.ts",
    "ExoPlayer__sample_partially_fragmented.mp4",
}


def described(shared_data) -> list[tuple[str, dict[str, str]]]:
    rows = []
    for folder in ("odd", "videos"):
        with (shared_data / f"{folder}.csv").open(newline="") as stream:
            rows += [
                (str(shared_data / folder / row["file"]), row) for row in csv.DictReader(stream)
            ]
    assert len(rows) > 90
    return rows


@pytest.fixture(scope="module")
def real(shared_data):
    """Every real file, decoded in one child: path, its line of the csv, what came."""
    child = DecoderChild(timeout_s=60, memory_gb=2)
    child.warm()
    process = child._running
    clips = [(path, row, through(child, path)) for path, row in described(shared_data)]
    assert child._running is process, "the child died on the way"
    child.close()
    return clips


def through(child, path):
    parts = chain.from_iterable(child.decode(str(path), [Span()], BOTH))
    return collect(parts, 1, BOTH)[0]


def error(part) -> str:
    return part.error if isinstance(part, MediaError) else ""


def test_every_real_file_gives_media_or_the_right_reason(real):
    found = {}
    for path, row, clip in real:
        name = row["file"]
        has_sound, has_pictures = row.get("n_audio", "1") != "0", bool(row["vcodec"])
        expected = WRONG.get(
            name, ("" if has_sound else "no_audio", "" if has_pictures else "no_video")
        )
        got = (error(clip.sound), error(clip.pictures[SAMPLING]))
        if got != expected:
            found[path] = (got, expected)
    assert found == {}


def test_real_sound_is_as_long_and_as_loud_as_ffmpeg_found_it(real):
    compared = 0
    for _, row, clip in real:
        if not isinstance(clip.sound, Sound) or row["file"] in PARTLY:
            continue
        if float(row["decoded_audio_s"] or 0) < 0.2:
            continue
        if row["file"] in HOLES:
            continue
        compared += 1
        assert clip.sound.duration_s == pytest.approx(float(row["decoded_audio_s"]), abs=0.05), row
        assert clip.sound.coverage > 0.9, row
        if row["channels"] == "1" and float(row["rms_dbfs"]) > -50:
            level, whole = rms_db(clip.sound.waveforms[16_000]), float(row["rms_dbfs"])
            assert level < whole + 0.5, row
            if int(row["sample_rate"]) <= 16_000:  # nothing of it was filtered away
                assert level == pytest.approx(whole, abs=0.3), row
    assert compared > 50


def test_real_recordings_that_are_not_whole_say_how_much_there_is(real):
    seen = 0
    for _, row, clip in real:
        parts = (clip.sound, clip.pictures[SAMPLING])
        for part, share in zip(parts, PARTLY.get(row["file"], (None, None)), strict=True):
            if share is not None:
                seen += 1
                assert part.coverage == pytest.approx(share, abs=0.03), row["file"]
    assert seen == 6


def test_real_pictures_have_sensible_times(real):
    for _, row, clip in real:
        pictures = clip.pictures[SAMPLING]
        if not isinstance(pictures, Pictures):
            continue
        assert 0 < pictures.duration_s < 60, row
        assert 1 <= len(pictures.frames) <= 4, row
        assert min(pictures.frames.shape[1:3]) == 64, row
        assert np.all(np.diff(pictures.time_s) > 0), row
        assert np.all((pictures.time_s >= 0) & (pictures.time_s <= pictures.duration_s)), row
        if row["duration"] and row["file"] not in PARTLY and row["file"] != "exo__sample_with_junk":
            assert pictures.duration_s <= float(row["duration"]) + 0.25, row


def test_antiphase_stereo_is_silence_and_not_a_failure(real):
    (sound,) = [clip.sound for _, row, clip in real if row["file"].endswith("antiphase.wav")]
    assert not sound.waveforms[16_000].any()


# Files broken at random


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ogg", "a.mp3", "a.wav", "a.flac"])
def test_flipped_bits_never_end_in_anything_but_media_or_a_reason(tmp_path, name):
    codec = {"ogg": "vorbis", "mp3": "libmp3lame", "wav": "pcm_s16le", "flac": "flac"}
    sound = np.repeat(tone(seconds=2.0), 2, axis=0)
    pictures = numbered_frames(10) if name in ("a.mp4", "a.mkv") else None
    whole = write_media(
        tmp_path / name, sound_CN=sound, frames=pictures, audio=codec.get(name[2:], "aac")
    ).read_bytes()
    generator = random.Random(5)
    broken = tmp_path / f"broken_{name}"
    child = DecoderChild(timeout_s=20, memory_gb=2)
    for _ in range(12):
        data = bytearray(whole)
        for _ in range(generator.choice((1, 20, 200))):
            data[generator.randrange(len(data))] = generator.randrange(256)
        broken.write_bytes(data[: generator.choice((len(data), generator.randrange(len(data))))])
        clip = through(child, broken)
        for part in (clip.sound, clip.pictures[SAMPLING]):
            if isinstance(part, MediaError):
                assert part.error in set(ERROR_CLASSES) - {"internal"}
            else:
                assert 0 <= part.coverage <= 1
                assert 0 < part.duration_s < 1000
    child.close()


# What is wanted


def test_the_sources_are_all_rates_and_all_samplings():
    assert Wanted((8_000, 16_000), (SAMPLING,)).sources == (8_000, 16_000, SAMPLING)


def test_sound_and_pictures_fail_apart(tmp_path):
    path = write_media(tmp_path / "a.mp4", frames=numbered_frames(10))
    first, second = decode_recording(str(path), [Span(), Span(9.0)], BOTH)
    assert (error(first.sound), error(second.sound)) == ("no_audio", "no_audio")
    assert isinstance(first.pictures[SAMPLING], Pictures)
    assert error(second.pictures[SAMPLING]) == "truncated"

"""Every real file of the shared data, and what must come of it.

The outcome was decided from what each file is (`odd.csv` and `videos.csv` say), not from what the
decoder does. A file that is added must be listed here.
"""

from itertools import chain

import pytest

from audioflow.errors import ERROR_CLASSES, MediaError
from audioflow.media.child import DecoderChild
from audioflow.media.parts import FrameSampling, Wanted
from audioflow.media.spans import Span
from tests.decoders import collect

SAMPLING = FrameSampling(3, 64)
BOTH = Wanted((16_000,), (SAMPLING,))

Outcome = tuple[float, float] | str
"""Duration in seconds (to 0.1) and coverage, or an error class."""

NO_VIDEO = "no_video"
NO_AUDIO = "no_audio"

VIDEOS: dict[str, tuple[Outcome, Outcome]] = {
    "Daft__sample_video.mp4": ((9.85, 1), (9.67, 1)),
    # Between the second and the third packet 83 ms are missing, of the pictures too.
    "ExoPlayer__bbb_2500ms.ts": ((2.51, 0.97), (2.5, 1)),
    "ExoPlayer__h265_with_metadata_track.mp4": ((0.06, 1), (0.1, 1)),
    "ExoPlayer__midroll-5s.mp4": ((5.02, 1), (5.0, 1)),
    "ExoPlayer__postroll-5s.mp4": ((5.02, 1), (5.0, 1)),
    "ExoPlayer__sample.avi": ((4.08, 1), (4.09, 1)),
    "ExoPlayer__sample.mkv": ((1.01, 1), (1.0, 1)),
    "ExoPlayer__sample_av1.mp4": ((1.04, 1), (1.0, 1)),
    "ExoPlayer__sample_fragmented_large_bitrates.mp4": ((1.07, 1), (1.0, 1)),
    "ExoPlayer__sample_h262_mpeg_audio.ps": ((0.1, 1), (0.12, 1)),
    "ExoPlayer__sample_h264_mpeg_audio.ts": ((0.1, 1), (0.1, 1)),
    # Its first sample lasts 134 ms by the index and 23 ms by its content.
    "ExoPlayer__sample_partially_fragmented.mp4": ((1.16, 0.9), (1.0, 1)),
    "ExoPlayer__sample_sef_slow_motion.mp4": ((2.13, 1), (2.1, 1)),
    "ExoPlayer__sample_with_colr_mdcv_and_clli.mp4": ((1.02, 1), (1.0, 1)),
    "ExoPlayer__sample_with_increasing_timestamps_320w_240h.mp4": ((15.55, 1), (15.53, 1)),
    "ExoPlayer__sample_with_srt.mkv": ((1.01, 1), (0.97, 1)),
    "ExoPlayer__testvid_1022ms.mp4": ((1.02, 1), (1.0, 1)),
    "ExoPlayer__video_2.mp4": ((1.11, 1), (0.83, 1)),
    "ExoPlayer__video_big_buck_bunny.mp4": ((9.89, 1), (10.0, 1)),
    "ExoPlayer__video_not_seekable.ts": ((0.1, 1), (0.1, 1)),
    "lhotse__big_buck_bunny_small.mp4": ((5.31, 1), (5.28, 1)),
    "moviepy__big_buck_bunny_0_30.webm": ((30.02, 1), (30.0, 1)),
    "moviepy__big_buck_bunny_432_433.webm": ((1.0, 1), (1.0, 1)),
    "moviepy__chaplin.mp4": ((9.61, 1), (9.64, 1)),
    "moviepy__example2.mp4": ((2.01, 1), (2.0, 1)),
    "moviepy__example3.mp4": ((2.01, 1), (2.0, 1)),
    "moviepy__no_duration.webm": ((4.86, 1), (4.93, 1)),
    "moviepy__transparent.webm": ((4.94, 1), (5.0, 1)),
    "moviepy__video_with_failing_audio.mp4": ((11.23, 1), (11.2, 1)),
    "openl3__bento.mp4": ((1.0, 1), (1.1, 1)),
    "torchcodec__nasa_13013.mp4": ((13.06, 1), (13.0, 1)),
}

ODD: dict[str, tuple[Outcome, Outcome]] = {
    "ESC10-CoreML__1-32318-A.wav": ("not_media", "not_media"),
    "audiomentations__bus.opus": ((0.76, 1), NO_VIDEO),
    "audiomentations__mono_float64.wav": ((0.0, 1), NO_VIDEO),
    "audiomentations__ms_adpcm.wav": ((81.27, 1), NO_VIDEO),
    "audiomentations__stereo_24bit.WAV": ((1.11, 1), NO_VIDEO),
    # One of fifty pictures is damaged.
    "decord__corrupted.mp4": (NO_AUDIO, (5.0, 0.98)),
    "decord__video_90.mov": (NO_AUDIO, (0.1, 1)),
    "derived__.hidden.mp4": ((1.0, 1), (1.1, 1)),
    "derived__5.1.m4a": ((5.02, 1), NO_VIDEO),
    "derived__8k_mono.wav": ((5.0, 1), NO_VIDEO),
    "derived__audio_1s_video_18s.mp4": ((1.02, 1), (18.04, 1)),
    # A clip without a start begins with its track.
    "derived__audio_starts_late.mkv": ((15.0, 1), (18.09, 1)),
    # Of 10 s, FFmpeg reads the first of two streams.
    "derived__chained.ogg": ((5.0, 0.59), NO_VIDEO),
    "derived__html_error_page.mp4": ("not_media", "not_media"),
    "derived__no_audio.mp4": (NO_AUDIO, (18.04, 1)),
    # Less than a sample at 16 kHz.
    "derived__one_sample.wav": ("too_short", NO_VIDEO),
    "derived__quote'\"`$(x);%20#?&.mp4": ((1.0, 1), (1.1, 1)),
    "derived__rate_change.mp3": ((10.07, 1), NO_VIDEO),
    "derived__stereo_antiphase.wav": ((5.0, 1), NO_VIDEO),
    "derived__truncated_60pct.mp4": ((11.08, 0.61), (10.75, 0.6)),
    "derived__wrong_suffix_flac.mp3": ((5.0, 1), NO_VIDEO),
    "derived__zero_bytes.wav": ("empty", "empty"),
    "exo__1024_incrementing_bytes.mp3": ("not_media", "not_media"),
    "exo__bear-cbr-variable-frame-size-no-seek-table.mp3": ((2.82, 1), NO_VIDEO),
    "exo__bear-id3.mp3": ((2.81, 1), NO_VIDEO),  # the picture in its tag is no video
    "exo__bear-vbr-no-seek-table.mp3": ((2.81, 1), NO_VIDEO),
    "exo__bear-vp9-odd-dimensions.webm": (NO_AUDIO, (1.0, 1)),
    "exo__bear_flac.ogg": ((2.74, 1), NO_VIDEO),
    "exo__bear_no_seek_table_no_num_samples.flac": ((2.74, 1), NO_VIDEO),
    "exo__bear_vorbis_gap.ogg": ((2.74, 1), NO_VIDEO),
    "exo__bear_with_id3.flac": ((2.74, 1), NO_VIDEO),
    "exo__continued_packet_at_start": ("not_media", "not_media"),
    "exo__invalid-bitstream.webm": (NO_AUDIO, "truncated"),
    "exo__play-trimmed.mp3": ("not_media", "not_media"),
    "exo__sample.ac3": ((0.29, 1), NO_VIDEO),
    "exo__sample.adts": ((3.32, 1), NO_VIDEO),
    "exo__sample.text.mp4": (NO_AUDIO, NO_VIDEO),
    "exo__sample_18byte_nclx_colr.mp4": (NO_AUDIO, (1.0, 1)),
    "exo__sample_ac3.ts": ((0.29, 1), NO_VIDEO),
    "exo__sample_ac4.mp4": ("unsupported", NO_VIDEO),
    "exo__sample_ac4_protected.mp4": ("unsupported", NO_VIDEO),
    "exo__sample_android_slow_motion.mp4": (NO_AUDIO, (0.53, 1)),
    "exo__sample_dthd.mp4": ((0.42, 1), NO_VIDEO),
    "exo__sample_eac3joc.mp4": ((2.05, 1), NO_VIDEO),
    "exo__sample_fragmented_clearkey.mp4": ("truncated", "truncated"),  # only fragments, no index
    "exo__sample_h264_no_access_unit_delimiters.ts": (NO_AUDIO, (0.1, 1)),
    "exo__sample_ima_adpcm.wav": ((1.02, 1), NO_VIDEO),
    "exo__sample_mdat_too_long.mp4": ((1.02, 1), (1.0, 1)),
    "exo__sample_mpegh_mhm1.mp4": ("unsupported", NO_VIDEO),
    "exo__sample_opus.mp4": ((1.0, 1), NO_VIDEO),
    "exo__sample_wb.amr": ((3.38, 1), NO_VIDEO),
    # One of three packets of sound can be decoded, and three of five pictures.
    "exo__sample_with_junk": ((0.03, 0.33), (0.17, 0.6)),
    "exo__sample_with_sdt.ts": ((0.06, 1), "truncated"),
    "exo__subsample_encrypted_altref.webm": (NO_AUDIO, "truncated"),
    "io__ZASFX_ADSR_no_sustain.s24.flac": ((0.33, 1), NO_VIDEO),
    "io__gs-16b-2c-44100hz.mp4": ((15.84, 1), NO_VIDEO),
    "lhotse__real_8ch.wav": ((0.1, 1), NO_VIDEO),
    "lhotse__stereo.sph": ((1.0, 1), NO_VIDEO),
    "mmaction2__part_0.mp4": (NO_AUDIO, (1.07, 1)),
    "moviepy__no_duration.webm": ((4.86, 1), (4.93, 1)),
    "moviepy__video_with_failing_audio.mp4": ((11.23, 1), (11.2, 1)),
    # The header promises 1.3 ms, and one byte is there: less than a sample.
    "opensoundscape__empty_2c.wav": (NO_AUDIO, NO_VIDEO),
    "opensoundscape__stereo.wav": ((0.0, 1), NO_VIDEO),
    "torchcodec__av1_video.mkv": (NO_AUDIO, (5.0, 1)),
    "torchcodec__sine_mono_s32_8000.wav": ((4.0, 1), NO_VIDEO),
}


@pytest.mark.parametrize(("folder", "expected"), [("videos", VIDEOS), ("odd", ODD)])
def test_every_file_has_its_outcome(shared_data, folder, expected):
    files = {path.name: path for path in (shared_data / folder).iterdir() if path.suffix != ".csv"}
    assert set(files) == set(expected)
    child = DecoderChild(timeout_s=60, memory_gb=2)
    child.warm()
    process = child._running
    wrong = {}
    for name, path in sorted(files.items()):
        parts = chain.from_iterable(child.decode(str(path), [Span()], BOTH))
        (clip,) = collect(parts, 1, BOTH)
        found = (outcome(clip.sound), outcome(clip.pictures[SAMPLING]))
        if not all(map(agrees, found, expected[name])):
            wrong[name] = found, expected[name]
    assert child._running is process, "the child died on the way"
    child.close()
    assert wrong == {}


def outcome(media) -> Outcome:
    if isinstance(media, MediaError):
        return media.error
    return media.duration_s, media.coverage


def agrees(found: Outcome, expected: Outcome) -> bool:
    if isinstance(found, str) or isinstance(expected, str):
        assert not isinstance(expected, str) or expected in ERROR_CLASSES
        return found == expected
    (duration_s, coverage), (expected_s, share) = found, expected
    return abs(duration_s - expected_s) <= 0.1 and abs(coverage - share) <= 0.02

"""A shard's media as one Arrow row, and waveforms cut into patches."""

import numpy as np
import pyarrow as pa
import pytest

from audioflow.errors import MediaError
from audioflow.media.decode import ClipMedia
from audioflow.media.packing import (
    Waveform,
    input_column,
    pack,
    pictures_column,
    sound_column,
    unpack_pictures,
    unpack_sound,
)
from audioflow.media.patches import Patching, cut_patches
from audioflow.media.pictures import FrameSampling, Pictures
from audioflow.media.sound import Sound

RATES = (8_000, 16_000)
WIDE, TALL = FrameSampling(2, 16), FrameSampling(3, 8)
GENERATOR = np.random.default_rng(0)


def sound(seconds: float, coverage: float = 1.0) -> Sound:
    waves = {
        rate: GENERATOR.integers(-32768, 32767, round(seconds * rate), np.int16) for rate in RATES
    }
    return Sound(waves, seconds, coverage)


def pictures(count: int, height: int, width: int) -> Pictures:
    frames = GENERATOR.integers(0, 255, (count, height, width, 3), np.uint8)
    return Pictures(frames, np.arange(count) * 0.1, 1.5, 0.75)


def travelled(clips: list[ClipMedia]) -> dict[str, pa.Array]:
    """The packed row after a trip through an Arrow stream, as between two processes."""
    sink = pa.BufferOutputStream()
    table = pa.table(pack(clips, RATES, (WIDE, TALL)))
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    back = pa.ipc.open_stream(sink.getvalue()).read_all()
    assert back.num_rows == 1
    return {name: back[name].combine_chunks() for name in back.column_names}


def test_media_and_failures_come_back_as_they_went_in():
    lost = MediaError("truncated", "the rest is missing: 'ü'\n")
    clips = [
        ClipMedia(sound(0.5), {WIDE: pictures(2, 16, 20), TALL: lost}),
        ClipMedia(lost, {WIDE: lost, TALL: pictures(3, 9, 8)}),
        ClipMedia(sound(0.123, 0.25), {WIDE: pictures(1, 17, 16), TALL: pictures(2, 8, 8)}),
    ]
    row = travelled(clips)
    for rate in RATES:
        for clip, back in zip(clips, unpack_sound(row, rate), strict=True):
            if isinstance(clip.sound, MediaError):
                assert (back.error, back.reason) == (clip.sound.error, clip.sound.reason)
                continue
            assert np.array_equal(back.samples, clip.sound.waveforms[rate])
            assert back.samples.dtype == np.int16
            assert back.duration_s == clip.sound.duration_s
            assert back.coverage == pytest.approx(clip.sound.coverage)
    for sampling in (WIDE, TALL):
        for clip, back in zip(clips, unpack_pictures(row, sampling), strict=True):
            part = clip.pictures[sampling]
            if isinstance(part, MediaError):
                assert (back.error, back.reason) == (part.error, part.reason)
                continue
            assert np.array_equal(back.frames, part.frames)
            assert np.array_equal(back.time_s, part.time_s)
            assert (back.duration_s, back.coverage) == (1.5, 0.75)


def test_a_shard_of_failures_only_is_packed_too():
    gone = MediaError("not_found", "the file does not exist")
    row = travelled([ClipMedia(gone, {WIDE: gone, TALL: gone})] * 2)
    assert [part.error for part in unpack_sound(row, 8_000)] == ["not_found"] * 2
    assert [part.error for part in unpack_pictures(row, WIDE)] == ["not_found"] * 2


def test_what_was_not_decoded_is_a_failure_and_not_silence():
    row = travelled([ClipMedia(None, {})])
    for part in (*unpack_sound(row, 16_000), *unpack_pictures(row, TALL)):
        assert (part.error, part.reason) == (
            "internal",
            "the decoder returned nothing for this clip",
        )


def test_unpacked_waveforms_are_views_into_the_row():
    row = travelled([ClipMedia(sound(0.5), {})])
    (part,) = unpack_sound(row, 8_000)
    assert isinstance(part, Waveform)
    assert not part.samples.flags.owndata


def test_columns_are_named_by_what_is_in_them():
    assert sound_column(16_000) == input_column(Patching(16_000, 1.0, 1.0)) == "sound_16000"
    assert pictures_column(WIDE) == input_column(WIDE) == "pictures_2x16"


# Patches


def cut(samples: int, patch_s: float = 1.0, hop_s: float = 0.5, short: str = "pad", rate=100):
    waveform = np.arange(1, samples + 1, dtype=np.int16)
    return cut_patches(waveform, Patching(rate, patch_s, hop_s, short))


@pytest.mark.parametrize(
    ("samples", "starts"),
    [(100, [0.0]), (149, [0.0]), (150, [0.0, 0.5]), (199, [0.0, 0.5]), (200, [0.0, 0.5, 1.0])],
)
def test_patches_lie_whole_inside_the_waveform(samples, starts):
    patches, start_s = cut(samples)
    assert start_s.tolist() == starts
    assert patches.shape == (len(starts), 100)
    for patch, start in zip(patches, starts, strict=True):
        first = round(start * 100)
        assert patch.tolist() == list(range(first + 1, first + 101))


def test_patch_starts_do_not_drift_where_the_hop_is_no_whole_number_of_samples():
    patching = Patching(22_050, 0.96, 0.00003)
    assert (patching.patch_samples, patching.hop_samples) == (21_168, 1)
    _, start_s = cut_patches(np.zeros(22_050, np.int16), patching)
    assert start_s[-1] == pytest.approx((22_050 - 21_168) / 22_050)


def test_a_hop_longer_than_a_patch_leaves_gaps():
    patches, start_s = cut(500, patch_s=1.0, hop_s=2.0)
    assert start_s.tolist() == [0.0, 2.0, 4.0]
    assert patches[:, 0].tolist() == [1, 201, 401]


def test_a_short_clip_is_padded_repeated_or_refused():
    assert cut(3, 0.08, short="pad")[0].tolist() == [[1, 2, 3, 0, 0, 0, 0, 0]]
    assert cut(3, 0.08, short="repeat")[0].tolist() == [[1, 2, 3, 1, 2, 3, 1, 2]]
    with pytest.raises(MediaError, match=r"too_short: 0\.030 s of sound, one patch needs 0\.08 s"):
        cut(3, 0.08, short="fail")
    assert cut(8, 0.08, short="fail")[0].shape == (1, 8)


@pytest.mark.parametrize("short", ["pad", "repeat", "fail"])
def test_no_sample_is_no_patch(short):
    with pytest.raises(MediaError, match="too_short: the clip has no sample"):
        cut(0, short=short)


def test_patches_are_views_and_not_copies():
    waveform = np.zeros(100_000, np.int16)
    patches, _ = cut_patches(waveform, Patching(100, 1.0, 0.01))
    assert np.shares_memory(patches, waveform)
    assert patches.nbytes > 90 * waveform.nbytes

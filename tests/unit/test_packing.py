"""A shard's media as Arrow rows, and waveforms cut into patches."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from audioflow.errors import MediaError
from audioflow.media import packing
from audioflow.media.packing import (
    ClipEnd,
    Packer,
    Sources,
    input_column,
    pictures_column,
    sound_column,
    unpack_pictures,
    unpack_sound,
)
from audioflow.media.parts import (
    End,
    FramePatching,
    FrameSampling,
    Part,
    PicturesPart,
    SoundPart,
)
from audioflow.media.patches import (
    FrameStretch,
    Patching,
    Stretch,
    cut_frames,
    cut_patches,
)

RATE = 8_000
WIDE, TALL = FrameSampling(2, 16), FrameSampling(None, 8, fps=2.0)
INPUTS = (
    Patching(RATE, 0.5, 0.2),
    Patching(16_000, 1.0, 1.0),
    FramePatching(WIDE),
    FramePatching(TALL),
)
GENERATOR = np.random.default_rng(0)

Row = dict[str, pa.Array]


def noise(count: int) -> np.ndarray:
    return GENERATOR.integers(-32768, 32767, count, np.int16)


def frames(count: int, height: int, width: int) -> np.ndarray:
    return GENERATOR.integers(0, 255, (count, height, width, 3), np.uint8)


def travelled(columns: Row) -> Row:
    """The packed row after a trip through an Arrow stream, as between two processes."""
    sink = pa.BufferOutputStream()
    table = pa.table(columns)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    back = pa.ipc.open_stream(sink.getvalue()).read_all()
    assert back.num_rows == 1
    return {name: back[name].combine_chunks() for name in back.column_names}


def packed(parts: list[Part], inputs: tuple = INPUTS) -> list[Row]:
    """The rows that a packer makes of these parts."""
    packer, rows = Packer(Sources.of(inputs)), []
    for part in parts:
        packer.add(part)
        if packer.full:
            rows.append(travelled(packer.columns()))
    return [*rows, travelled(packer.columns())]


def test_media_and_failures_come_back_as_they_went_in():
    lost = MediaError("truncated", "the rest is missing: 'ü'\n", attempts=3)
    samples, shown = noise(4000), frames(2, 16, 20)
    (row,) = packed(
        [
            SoundPart(0, RATE, samples[:1500]),
            SoundPart(1, RATE, noise(10)),
            SoundPart(0, RATE, samples[1500:]),
            End(0, RATE, 0.5, 0.25),
            End(1, RATE, error=lost),
            PicturesPart(0, WIDE, shown[:1], np.array([0.25])),
            PicturesPart(0, WIDE, shown[1:], np.array([0.75])),
            End(0, WIDE, 1.0, 1.0),
            End(1, WIDE, error=lost),
        ]
    )
    first, second = unpack_sound(row, RATE)
    assert np.array_equal(first.stretch.samples, samples)
    assert (first.clip, first.stretch.first, first.stretch.whole) == (0, 0, True)
    assert first.end == ClipEnd(0.5, 0.25)
    assert second.end == ClipEnd(0.0, 0.0, "truncated", lost.reason, 3, "decode")
    assert unpack_sound(row, 16_000) == []
    first, second = unpack_pictures(row, WIDE)
    assert np.array_equal(first.stretch.frames, shown)
    assert first.stretch.time_s.tolist() == [0.25, 0.75]
    assert (first.end, second.end.error) == (ClipEnd(1.0, 1.0), "truncated")
    assert len(second.stretch.frames) == 0


def test_an_error_says_at_which_stage_it_happened():
    packer = Packer(Sources.of(INPUTS))
    packer.add(End(0, RATE, error=MediaError("network", "no answer")), "fetch")
    (window,) = unpack_sound(travelled(packer.columns()), RATE)
    assert (window.end.error, window.end.stage) == ("network", "fetch")


def test_a_late_start_stays_known_in_every_window(monkeypatch):
    monkeypatch.setattr(packing, "WINDOW_S", 2)
    parts = [SoundPart(0, RATE, noise(RATE), begins_s=0.75) for _ in range(5)]
    (row,) = packed([*parts, End(0, RATE, 5.0, 1.0)])
    assert [window.begins_s for window in unpack_sound(row, RATE)] == [0.75] * 3


def test_unpacked_waveforms_are_views_into_the_row():
    (row,) = packed([SoundPart(0, RATE, noise(4000)), End(0, RATE, 0.5, 1.0)])
    (window,) = unpack_sound(row, RATE)
    assert not window.stretch.samples.flags.owndata


def test_columns_are_named_by_what_is_in_them():
    assert sound_column(16_000) == input_column(INPUTS[1]) == "sound_16000"
    assert pictures_column(WIDE) == input_column(FramePatching(WIDE)) == "pictures_2_16"
    assert pictures_column(TALL) == input_column(FramePatching(TALL)) == "pictures_2fps_8"


def test_a_row_has_a_column_for_every_input_whatever_was_decoded():
    (row,) = packed([])
    assert [unpack_sound(row, rate) for rate in (RATE, 16_000)] == [[], []]
    assert [unpack_pictures(row, way) for way in (WIDE, TALL)] == [[], []]


def pieces(samples: np.ndarray, clip: int = 0) -> Iterator[SoundPart]:
    """The samples in parts of random sizes."""
    while samples.size:
        size = int(GENERATOR.integers(1, 4000))
        yield SoundPart(clip, RATE, samples[:size])
        samples = samples[size:]


@pytest.mark.parametrize("seconds", [0.001, 0.3, 2.0, 2.001, 3.9, 4.0, 7.13, 10.0])
@pytest.mark.parametrize("short", ["pad", "repeat"])
@pytest.mark.parametrize("least_s", [0.0, 1.3])
def test_a_clip_in_windows_gives_the_patches_of_the_whole(monkeypatch, seconds, short, least_s):
    monkeypatch.setattr(packing, "WINDOW_S", 2)
    monkeypatch.setattr(packing, "ROW_BYTES", 20_000)
    ways = [
        Patching(RATE, patch_s, hop_s, short, least_s)
        for patch_s, hop_s in ((0.5, 0.2), (1.0, 1.0), (1.0, 0.3), (0.3, 0.7), (0.25, 0.0001))
    ]
    samples = noise(round(seconds * RATE))
    rows = packed([*pieces(samples), End(0, RATE, seconds, 1.0)], tuple(ways))
    windows = [window for row in rows for window in unpack_sound(row, RATE)]
    assert [window.end is not None for window in windows] == [False] * (len(windows) - 1) + [True]
    assert len(windows) >= seconds // 2
    for way in ways:
        whole, starts = cut_patches(Stretch(samples), way)
        parts = [cut_patches(window.stretch, way) for window in windows]
        assert np.concatenate([part[1] for part in parts]).tolist() == starts.tolist()
        assert np.array_equal(np.concatenate([part[0] for part in parts]), whole)


def test_much_media_is_several_rows_of_bounded_size(monkeypatch):
    monkeypatch.setattr(packing, "WINDOW_S", 2)
    monkeypatch.setattr(packing, "ROW_BYTES", 100_000)
    clips = {clip: noise(clip * 9_000) for clip in range(1, 9)}
    parts: list[Part] = []
    for clip, samples in clips.items():
        parts += [*pieces(samples, clip), End(clip, RATE, 1.0, 1.0)]
    rows = packed(parts, (Patching(RATE, 0.5, 0.2),))
    assert len(rows) > 5
    assert max(len(row["sound_8000"][0].as_buffer()) for row in rows) < 150_000
    windows = [window for row in rows for window in unpack_sound(row, RATE)]
    for clip, samples in clips.items():
        mine = [window for window in windows if window.clip == clip]
        assert sum(window.end is not None for window in mine) == 1
        last = mine[-1].stretch
        assert last.first + last.samples.size == samples.size


def test_many_frames_are_several_rows(monkeypatch):
    monkeypatch.setattr(packing, "ROW_BYTES", 10_000)
    shown = frames(100, 8, 8)
    parts: list[Part] = [
        PicturesPart(0, TALL, shown[k : k + 7], np.arange(k, k + len(shown[k : k + 7])) / 2)
        for k in range(0, 100, 7)
    ]
    rows = packed([*parts, End(0, TALL, 50.0, 1.0)])
    assert len(rows) > 1
    windows = [window for row in rows for window in unpack_pictures(row, TALL)]
    assert np.array_equal(np.concatenate([window.stretch.frames for window in windows]), shown)
    assert np.concatenate([w.stretch.time_s for w in windows]).tolist() == [
        k / 2 for k in range(100)
    ]
    assert [window.end is not None for window in windows].count(True) == 1


@pytest.mark.parametrize("hop", [1, 3, 8, 11])
@pytest.mark.parametrize("count", [3, 8, 9, 100])
def test_patches_of_frames_that_came_in_windows_are_those_of_the_whole(monkeypatch, hop, count):
    patching = FramePatching(TALL, frames_per_patch=8, hop_frames=hop)
    shown = frames(count, 8, 8)
    time_s = np.arange(count) / 2
    whole_PNHW3, whole_s = cut_frames(FrameStretch(shown, time_s), patching)
    assert len(whole_s) == 1 + max(0, count - 8) // hop
    for number, start in enumerate(whole_s[: 0 if count < 8 else None]):
        assert np.array_equal(whole_PNHW3[number], shown[number * hop : number * hop + 8])
        assert start == number * hop / 2
    monkeypatch.setattr(packing, "ROW_BYTES", 4_000)
    parts: list[Part] = [
        PicturesPart(0, TALL, shown[k : k + 7], time_s[k : k + 7]) for k in range(0, count, 7)
    ]
    rows = packed([*parts, End(0, TALL, count / 2, 1.0)], inputs=(patching,))
    assert len(rows) > 1 or count < 20
    cut_up = [
        cut_frames(window.stretch, patching)
        for row in rows
        for window in unpack_pictures(row, TALL)
    ]
    assert np.array_equal(np.concatenate([patches for patches, _ in cut_up]), whole_PNHW3)
    assert np.concatenate([starts for _, starts in cut_up]).tolist() == whole_s.tolist()


def test_of_a_clip_with_fewer_frames_than_a_patch_the_last_one_is_repeated():
    shown = frames(3, 8, 8)
    stretch = FrameStretch(shown, np.array([0.0, 0.5, 1.0]))
    patches, starts = cut_frames(stretch, FramePatching(TALL, frames_per_patch=5))
    assert np.array_equal(patches[0], shown[[0, 1, 2, 2, 2]])
    assert starts.tolist() == [0.0]
    none = FrameStretch(shown[:0], np.zeros(0))
    assert len(cut_frames(none, FramePatching(TALL, frames_per_patch=5))[0]) == 0


# Patches


@pytest.mark.parametrize("lead_s", [0.0, 0.5])
@pytest.mark.parametrize("samples", [1, 40, 99, 100, 101, 150, 151, 249, 1000])
def test_a_padded_tail_covers_every_sample_once_more_than_none(samples, lead_s):
    """As OpenL3 cuts: 1 + ceil((N' - window) / hop) windows of the waveform with its lead."""
    patching = Patching(100, 1.0, 0.3, lead_s=lead_s, tail="pad")
    waveform = np.arange(1, samples + 1, dtype=np.int16)
    patches, starts = cut_patches(Stretch(waveform), patching)
    led = samples + round(lead_s * 100)
    assert len(patches) == 1 + max(0, -(-(led - 100) // 30))
    assert starts == pytest.approx(np.arange(len(patches)) * 0.3 - lead_s)
    padded = np.zeros(30 * (len(patches) - 1) + 100, np.int16)
    padded[led - samples : led] = waveform
    for number, patch in enumerate(patches):
        assert np.array_equal(patch, padded[30 * number : 30 * number + 100])


@pytest.mark.parametrize("hop_s", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("samples", [7, 640, 1000, 1263])
@pytest.mark.parametrize("lead_s", [0.0, 0.5, 1.5])
def test_stretches_give_the_patches_of_the_whole_also_with_lead_and_tail(hop_s, samples, lead_s):
    patching = Patching(100, 1.0, hop_s, lead_s=lead_s, tail="pad")
    waveform = np.arange(1, samples + 1, dtype=np.int16)
    whole, starts = cut_patches(Stretch(waveform), patching)
    for window in (110, 200, 333):
        found, found_s = [], []
        for done_to in range(0, samples, window):
            end, first = min(samples, done_to + window), max(0, done_to - 100)
            stretch = Stretch(waveform[first:end], first, done_to, whole=end == samples)
            patches, at_s = cut_patches(stretch, patching)
            found.append(patches)
            found_s += at_s.tolist()
        assert np.array_equal(np.concatenate(found), whole)
        assert found_s == pytest.approx(starts.tolist())


def test_a_whole_clip_is_one_patch():
    patching = Patching(100, 1.0, 1.0, min_duration_s=3.0, whole=True)
    waveform = np.arange(1, 451, dtype=np.int16)
    patches, starts = cut_patches(Stretch(waveform), patching)
    assert (patches[0].tolist(), starts.tolist()) == (waveform.tolist(), [0.0])
    repeated, _ = cut_patches(Stretch(waveform[:200]), patching)
    assert repeated[0].tolist() == [*range(1, 201), *range(1, 201)]
    short, _ = cut_patches(Stretch(waveform[:40]), Patching(100, 1.0, 1.0, whole=True))
    assert short[0].tolist() == [*range(1, 41), *[0] * 60]
    strict = Patching(100, 1.0, 1.0, "fail", whole=True)
    with pytest.raises(MediaError, match=r"too_short: 0\.400 s of sound, one patch needs 1 s"):
        cut_patches(Stretch(waveform[:40]), strict)


def test_a_long_clip_as_a_whole_is_a_patch_per_stretch_none_too_short():
    patching = Patching(100, 1.0, 1.0, whole=True)
    waveform = np.arange(1, 1331, dtype=np.int16)
    first = cut_patches(Stretch(waveform[:600], whole=False), patching)
    second = cut_patches(Stretch(waveform[500:1200], 500, 600, whole=False), patching)
    last = cut_patches(Stretch(waveform[1100:], 1100, 1200), patching)
    nothing = cut_patches(Stretch(waveform[1230:], 1230, 1330), patching)
    assert [(p[0][0], p[0][-1]) for p, _ in (first, second)] == [(1, 600), (601, 1200)]
    assert last[0][0].tolist() == waveform[1200:].tolist()
    assert [s.tolist() for _, s in (first, second, last)] == [[0.0], [6.0], [12.0]]
    assert len(nothing[0]) == 0
    rest = cut_patches(Stretch(waveform[1100:1230], 1100, 1200), patching)
    assert rest[0][0].tolist() == waveform[1130:1230].tolist(), "a rest too short reaches back"


def cut(samples: int, patch_s: float = 1.0, hop_s: float = 0.5, short: str = "pad", rate=100):
    waveform = np.arange(1, samples + 1, dtype=np.int16)
    return cut_patches(Stretch(waveform), Patching(rate, patch_s, hop_s, short))


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
    _, start_s = cut_patches(Stretch(np.zeros(22_050, np.int16)), patching)
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
    patches, _ = cut_patches(Stretch(waveform), Patching(100, 1.0, 0.01))
    assert np.shares_memory(patches, waveform)
    assert patches.nbytes > 90 * waveform.nbytes


@pytest.mark.parametrize(("samples", "length"), [(3, 12), (4, 12), (9, 18), (10, 10), (25, 25)])
def test_a_clip_is_repeated_whole_until_it_is_long_enough(samples, length):
    waveform = np.arange(1, samples + 1, dtype=np.int16)
    patching = Patching(100, 0.02, 0.01, min_duration_s=0.1)
    patches, start_s = cut_patches(Stretch(waveform), patching)
    assert len(start_s) == length - 1
    assert patches[:, 0].tolist() == [1 + k % samples for k in range(length - 1)]

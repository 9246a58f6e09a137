"""Frames: which ones, when, how large, and the same from decord and from PyAV."""

import numpy as np
import pytest

from audioflow.errors import MediaError
from audioflow.media import choosing, frames
from audioflow.media import pictures as module
from audioflow.media.container import open_media
from audioflow.media.parts import FrameSampling, PicturesPart, Wanted
from audioflow.media.pictures import Pictures, read_pictures
from audioflow.media.spans import Span
from tests.decoders import collect
from tests.media_files import frame_numbers, numbered_frames, tone, write_media

FPS = 10


def parts(path, *spans, num_frames=5, short_side=64, fps=None, **more):
    sampling = FrameSampling(None if fps else num_frames, short_side, fps)
    wanted = Wanted((), (sampling,), **more)
    with open_media(str(path)) as container:
        yield from read_pictures(str(path), container, spans or [Span()], sampling, wanted)


def read(path, *spans, **more):
    """Pictures of the spans, or of the whole recording."""
    found = list(parts(path, *spans, **more))
    wanted = Wanted((), (found[0].source,))
    clips = collect(found, len(spans) or 1, wanted)
    pictures = [clip.pictures[found[0].source] for clip in clips]
    return pictures if spans else pictures[0]


@pytest.fixture
def only_pyav(monkeypatch):
    monkeypatch.setattr(module, "_DECORD_FORMATS", frozenset())


@pytest.fixture
def only_decord(monkeypatch):
    monkeypatch.setattr(module, "_with_pyav", None)


@pytest.fixture(params=["decord", "pyav"])
def decoder(request):
    """Both ways to the frames; a test that takes it runs once with each."""
    request.getfixturevalue(f"only_{request.param}")
    return request.param


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two seconds of numbered frames at 10 a second."""
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    return write_media(path, frames=numbered_frames(20), fps=FPS)


# Which frames


@pytest.mark.parametrize(
    ("num_frames", "numbers"),
    [(1, [10]), (2, [5, 15]), (4, [2, 7, 12, 17]), (5, [2, 6, 10, 14, 18]), (20, list(range(20)))],
)
def test_frames_are_those_in_the_middles_of_equal_parts(decoder, video, num_frames, numbers):
    found = read(video, num_frames=num_frames)
    assert frame_numbers(found.frames) == numbers
    assert found.time_s == pytest.approx(np.array(numbers) / FPS, abs=1e-3)
    assert (found.duration_s, found.coverage) == (pytest.approx(2.0, abs=0.01), 1.0)
    assert (found.frames.dtype, found.frames.shape[1:]) == (np.uint8, (64, 96, 3))


def test_a_span_is_sampled_within_itself(decoder, video):
    (found,) = read(video, Span(0.5, 1.0), num_frames=5)
    assert frame_numbers(found.frames) == [6, 8, 10, 12, 14]
    assert found.time_s == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9], abs=1e-3)


def test_many_spans_come_in_their_order(decoder, video):
    found = read(video, Span(1.5, 0.4), Span(0.0, 0.4), Span(1.0), num_frames=2)
    assert [frame_numbers(pictures.frames) for pictures in found] == [[16, 18], [1, 3], [12, 17]]


def test_more_frames_than_there_are_gives_each_once(decoder, video):
    (found,) = read(video, Span(0.5, 0.3), num_frames=64)
    assert frame_numbers(found.frames) == [5, 6, 7]
    assert len(found.time_s) == 3


def test_a_span_that_begins_inside_a_frame_shows_that_frame_at_zero(decoder, video):
    (found,) = read(video, Span(0.55, 0.1), num_frames=2)
    assert frame_numbers(found.frames) == [5, 6]
    assert found.time_s == pytest.approx([0.0, 0.05], abs=1e-3)


def test_frames_at_uneven_distances_are_chosen_by_their_times(tmp_path, decoder):
    pts_ms = [index * 50 for index in range(10)] + [500 + index * 300 for index in range(10)]
    path = write_media(tmp_path / "a.mp4", frames=numbered_frames(20), frame_pts=pts_ms)
    (found,) = read(path, Span(0.0, 3.0), num_frames=6)
    middles_ms = [250, 750, 1250, 1750, 2250, 2750]
    expected = [max(i for i, ms in enumerate(pts_ms) if ms <= middle) for middle in middles_ms]
    assert frame_numbers(found.frames) == expected
    assert found.time_s == pytest.approx([pts_ms[i] / 1000 for i in expected], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "libx264"), ("a.mov", "libx264"), ("a.webm", "libvpx")]
)
def test_other_containers_give_the_same_frames(tmp_path, decoder, name, codec):
    path = write_media(tmp_path / name, frames=numbered_frames(20), video=codec)
    assert frame_numbers(read(path).frames) == [2, 6, 10, 14, 18]


def test_a_transport_stream_gives_the_right_frames(tmp_path):
    path = write_media(tmp_path / "a.ts", frames=numbered_frames(20), video="mpeg2video", fps=25)
    assert frame_numbers(read(path).frames) == [2, 6, 10, 14, 18]


def test_a_video_of_one_frame_gives_that_frame(tmp_path, decoder):
    path = write_media(tmp_path / "a.mp4", frames=numbered_frames(1))
    found = read(path, num_frames=8)
    assert (frame_numbers(found.frames), found.time_s.tolist()) == ([0], [0.0])
    assert found.duration_s > 0


# Spans that do not fit


def test_a_span_past_the_end_fails_and_its_neighbours_do_not(decoder, video):
    good, late, half = read(video, Span(0.5, 1.0), Span(2.5, 1.0), Span(1.5, 1.0))
    assert good.coverage == pytest.approx(1.0)
    assert isinstance(late, MediaError)
    reason = "the clip is from 2.5 s to 3.5 s, the pictures are from 0.000 s to 2.000 s"
    assert (late.error, late.reason) == ("truncated", reason)
    assert (half.coverage, half.duration_s) == (pytest.approx(0.5, abs=1e-3), pytest.approx(0.5))


def test_a_span_without_length_fails(decoder, video):
    (found,) = read(video, Span(0.5, 0.0))
    assert (found.error, found.reason) == ("too_short", "the clip is 0 s long")


def test_a_span_counts_from_the_start_of_the_recording_where_pictures_begin_late(tmp_path, decoder):
    path = write_media(
        tmp_path / "a.mkv",
        frames=numbered_frames(20),
        frames_from_s=2.0,
        sound_CN=tone(seconds=4.0),
        audio="pcm_s16le",
    )
    everything, inside, across, before = read(
        path, Span(), Span(2.5, 1.0), Span(1.0, 2.0), Span(0.5, 1.0)
    )
    assert frame_numbers(everything.frames) == [2, 6, 10, 14, 18]
    assert everything.time_s[0] == pytest.approx(2.2, abs=0.01), "on the clock of the recording"
    assert frame_numbers(inside.frames) == [6, 8, 10, 12, 14]
    assert across.coverage == pytest.approx(0.5, abs=0.01)
    assert across.time_s[0] == pytest.approx(1.1, abs=0.01)
    assert before.error == "truncated"


# Sizes


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (96, 64, (40, 60)),
        (64, 96, (60, 40)),
        (160, 90, (40, 71)),
        (34, 18, (40, 76)),
        (64, 64, (40, 40)),
    ],
)
def test_the_short_side_is_resized_and_the_shape_kept(tmp_path, decoder, width, height, size):
    path = write_media(tmp_path / "a.mp4", frames=numbered_frames(4, width, height))
    assert read(path, short_side=40).frames.shape[1:3] == size


def test_odd_sizes_are_read(tmp_path, decoder):
    path = write_media(tmp_path / "a.webm", frames=numbered_frames(8, 97, 65), video="libvpx")
    found = read(path, short_side=65)
    assert found.frames.shape[1:3] == (65, 97)
    assert frame_numbers(found.frames) == [0, 2, 4, 5, 7]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_video_comes_upright_and_unsquashed(tmp_path, decoder, rotation):
    frames = numbered_frames(8, 96, 64)
    path = write_media(tmp_path / "a.mp4", frames=frames, rotation=rotation)
    found = read(path, short_side=64, num_frames=2)
    upright = np.rot90(frames[2], rotation // 90)  # display rotation is counter-clockwise
    assert found.frames.shape[1:3] == upright.shape[:2]
    assert np.abs(found.frames[0].astype(int) - upright).mean() < 3


def test_colours_come_as_rgb(tmp_path, decoder):
    frames = np.zeros((4, 64, 96, 3), np.uint8)
    frames[..., 0], frames[..., 2] = 200, 30
    path = write_media(tmp_path / "a.mp4", frames=frames)
    mean = read(path).frames.mean(axis=(0, 1, 2))
    assert mean == pytest.approx([200, 0, 30], abs=6)


def test_pictures_too_large_for_memory_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = write_media(tmp_path / "a.mp4", frames=numbered_frames(2, 96, 64))
    monkeypatch.setattr("audioflow.media.frames._LARGEST_PIXELS", 96 * 64 - 1)
    with pytest.raises(MediaError, match="refused: pictures of 96x64 are larger than any real"):
        read(path)


# What is no video, and what is damaged


@pytest.mark.parametrize(
    ("name", "codec", "container"), [("a.mp3", "libmp3lame", "mp3"), ("a.m4a", "aac", "mp4")]
)
def test_cover_art_is_no_video(tmp_path, name, codec, container):
    path = write_media(
        tmp_path / name, sound_CN=tone(), audio=codec, cover=True, container=container
    )
    with pytest.raises(MediaError, match="no_video: the recording has no video track"):
        read(path)


def test_a_video_with_cover_art_shows_the_video(tmp_path, decoder):
    path = write_media(tmp_path / "a.mp4", frames=numbered_frames(20), cover=True)
    assert frame_numbers(read(path).frames) == [2, 6, 10, 14, 18]


def test_a_video_cut_short_says_so_by_its_coverage(tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (40, 64, 96, 3), np.uint8)
    path = write_media(tmp_path / "a.mp4", frames=noise, options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found = read(path)
    assert found.coverage == pytest.approx(0.5, abs=0.06)
    assert found.time_s.max() < 2.2


def test_frames_that_cannot_be_decoded_lower_the_coverage(tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (40, 64, 96, 3), np.uint8)
    path = write_media(tmp_path / "a.mp4", frames=noise)
    data = bytearray(path.read_bytes())
    begin, count = len(data) // 2, len(data) // 5
    data[begin : begin + count] = b"\xff" * count
    path.write_bytes(data)
    found = read(path)
    assert 0.6 < found.coverage < 0.95
    assert found.duration_s == pytest.approx(4.0, abs=0.2)


def test_a_video_without_one_good_frame_is_truncated(tmp_path):
    path = write_media(tmp_path / "a.webm", frames=numbered_frames(8), video="libvpx")
    data = bytearray(path.read_bytes())
    begin = data.index(b"\x1f\x43\xb6\x75") + 16  # the first cluster
    data[begin:] = bytes(len(data) - begin)
    path.write_bytes(data)
    with pytest.raises(MediaError, match="truncated: a video track is there, but no picture of it"):
        read(path)


@pytest.mark.parametrize(
    "stamps",
    [
        [[-1e14, -1e14 + 1], [0.0, 0.1], [0.1, 0.2]],
        [[0.0, 0.1], [np.nan, 0.2], [0.2, 0.3]],
        [[0.0, 0.1], [0.2, 0.3], [0.1, 0.2]],
        [[0.0, 0.1], [0.0, 0.1]],
        [],
    ],
    ids=["far", "nan", "backwards", "standing", "none"],
)
def test_time_stamps_that_cannot_be_are_not_used(stamps):
    assert not choosing.is_clock(np.array(stamps), longest_s=1000.0)


def test_nonsense_time_stamps_give_way_to_the_frame_rate(tmp_path, only_pyav, monkeypatch):
    path = write_media(tmp_path / "a.mp4", frames=numbered_frames(20))
    monkeypatch.setattr(module, "longest_s", lambda _container: 1.0)  # so that 2 s are nonsense
    found = read(path)
    assert frame_numbers(found.frames) == [2, 6, 10, 14, 18]
    assert found.duration_s == pytest.approx(2.0, abs=0.02)


def test_a_video_that_claims_a_frame_in_half_a_day_is_not_believed(tmp_path):
    path = write_media(tmp_path / "a.mp4", frames=numbered_frames(2), frame_pts=[0, 40_000_000])
    found = read(path)
    assert frame_numbers(found.frames) == [0, 1]
    assert found.duration_s < 1


# So many frames a second


@pytest.mark.parametrize(
    ("span", "fps", "numbers"),
    [
        (Span(), 2.0, [2, 7, 12, 17]),
        (Span(), 1.0, [5, 15]),
        (Span(), 10.0, list(range(20))),
        (Span(0.5, 1.0), 4.0, [6, 8, 11, 13]),
        (Span(1.5, 1.0), 4.0, [16, 18]),
        (Span(0.5, 0.3), 1.0, [6]),
        (Span(0.5, 0.3), 100.0, [5, 6, 7]),
    ],
)
def test_frames_are_on_show_in_the_middle_of_each_step(decoder, video, span, fps, numbers):
    (found,) = read(video, span, fps=fps)
    assert frame_numbers(found.frames) == numbers
    times_s = np.maximum(0, np.array(numbers) / FPS - (span.start_s or 0))
    assert found.time_s == pytest.approx(times_s, abs=1e-3)


def test_the_steps_count_from_the_start_of_the_clip_where_the_pictures_begin_late(tmp_path):
    path = write_media(
        tmp_path / "a.mkv", frames=numbered_frames(20), frames_from_s=2.0, sound_CN=tone(seconds=4)
    )
    (found,) = read(path, Span(1.0, 2.0), fps=2.0)
    assert frame_numbers(found.frames) == [2, 7]
    assert found.time_s == pytest.approx([1.2, 1.7], abs=0.01)


# Long videos


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """Three minutes of numbered frames, a digit of the number in each third of the picture."""
    count = 180 * FPS
    frames = np.empty((count, 32, 48, 3), np.uint8)
    numbers = np.arange(count)
    for third, worth in enumerate((169, 13, 1)):
        digits = numbers // worth % 13
        frames[:, :, 16 * third : 16 * third + 16] = (16 + 16 * digits)[:, None, None, None]
    path = tmp_path_factory.mktemp("long") / "a.mp4"
    return write_media(path, frames=frames, fps=FPS)


def long_numbers(frames) -> list[int]:
    thirds = [frames[:, 16:48, 32 * third + 8 : 32 * third + 24] for third in range(3)]
    digits = [np.rint((third.mean(axis=(1, 2, 3)) - 16) / 16) for third in thirds]
    return (169 * digits[0] + 13 * digits[1] + digits[2]).astype(int).tolist()


def test_frames_come_in_parts_of_bounded_size(long_video, decoder, monkeypatch):
    monkeypatch.setattr(module, "_PART_BYTES", 200_000)
    found = list(parts(long_video, Span(), fps=5.0, short_side=64))
    assert all(part.nbytes <= 200_000 for part in found)
    sizes = [len(part.frames) for part in found if isinstance(part, PicturesPart)]
    assert (len(sizes), sum(sizes)) == (900 // 10, 900)
    times_s = np.concatenate([part.time_s for part in found if isinstance(part, PicturesPart)])
    assert times_s == pytest.approx(np.arange(900) / 5 + 0.1, abs=1e-3)


def test_far_spans_show_their_frames(long_video, decoder):
    spans = [Span(150.0, 2.0), Span(0.0, 2.0), Span(90.0, 2.0)]
    for span, found in zip(
        spans, read(long_video, *spans, num_frames=4, short_side=64), strict=True
    ):
        expected = [round(span.start_s * FPS) + number for number in (2, 7, 12, 17)]
        assert long_numbers(found.frames) == expected
        assert found.coverage == pytest.approx(1.0)


def test_what_lies_between_far_spans_is_not_decoded(long_video, only_pyav, monkeypatch):
    decoded = []
    usual = frames._decoded

    def counted(*args):
        for frame in usual(*args):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(frames, "_decoded", counted)
    read(long_video, Span(150.0, 2.0), Span(20.0, 1.0), short_side=64)
    assert len(decoded) < 120


def test_a_clip_longer_than_the_limit_fails_and_a_span_of_it_does_not(long_video, decoder):
    everything, part = read(long_video, Span(), Span(100.0, 2.0), max_duration_s=60.0)
    assert everything.error == "too_long"
    assert "more than 60 s of pictures (embed.max_duration_s)" in everything.reason
    assert part.coverage == pytest.approx(1.0)


# decord against PyAV


def test_both_decoders_agree_on_moving_pictures(tmp_path, monkeypatch):
    generator = np.random.default_rng(3)
    base = generator.integers(0, 255, (8, 12, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    frames = np.stack([np.roll(base, 3 * shift, axis=1) for shift in range(40)])
    path = write_media(tmp_path / "a.mp4", frames=frames, fps=25)
    by_decord = read(path, Span(0.2, 1.0), Span(), num_frames=7)
    monkeypatch.setattr(module, "_DECORD_FORMATS", frozenset())
    by_pyav = read(path, Span(0.2, 1.0), Span(), num_frames=7)
    for one, other in zip(by_decord, by_pyav, strict=True):
        assert one.time_s == pytest.approx(other.time_s, abs=1e-3)
        assert np.abs(one.frames.astype(int) - other.frames).mean() < 4
        assert np.abs(one.frames.astype(int) - np.roll(other.frames, 1, axis=0)).mean() > 12
        assert (one.duration_s, one.coverage) == (pytest.approx(other.duration_s), other.coverage)


@pytest.mark.parametrize("error", [RuntimeError, IndexError, AssertionError])
def test_what_decord_cannot_read_is_read_by_pyav(video, monkeypatch, error):
    import decord

    def fail(*_args, **_more):
        raise error("no")

    monkeypatch.setattr(decord, "VideoReader", fail)
    assert frame_numbers(read(video).frames) == [2, 6, 10, 14, 18]


def test_real_videos_look_the_same_to_both_decoders(shared_data, monkeypatch):
    compared = 0
    for path in sorted((shared_data / "videos").iterdir()):
        monkeypatch.undo()
        one = read(path, num_frames=3, short_side=48)
        monkeypatch.setattr(module, "_DECORD_FORMATS", frozenset())
        other = read(path, num_frames=3, short_side=48)
        compared += 1
        assert isinstance(one, Pictures)
        # The end of the last frame is not in every file: moments may fall to the next frame.
        same = np.abs(one.time_s - other.time_s) < 2e-3
        assert np.abs(one.time_s - other.time_s).max() < 0.04, path.name
        assert same.all() or path.name == "ExoPlayer__sample_sef_slow_motion.mp4"
        difference = np.abs(one.frames[same].astype(int) - other.frames[same])
        assert difference.mean() < 3, path.name
        assert one.duration_s == pytest.approx(other.duration_s, abs=0.1), path.name
    assert compared > 25

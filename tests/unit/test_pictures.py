"""Frames: which ones, when, how large, and the same from decord and from PyAV."""

import numpy as np
import pytest

from audioflow.errors import MediaError
from audioflow.media import pictures as module
from audioflow.media.container import open_media
from audioflow.media.pictures import FrameSampling, Pictures, read_pictures
from audioflow.media.spans import Span
from tests.media_files import frame_numbers, numbered_frames, tone, write_media

FPS = 10


def read(path, *spans, num_frames=5, short_side=64):
    """Pictures of the spans; an error of the whole recording stands for each of them."""
    sampling = FrameSampling(num_frames, short_side)
    with open_media(str(path)) as container:
        found = read_pictures(str(path), container, spans or [Span()], sampling)
    return found if spans else found[0]


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
    assert everything.time_s[0] == pytest.approx(0.2, abs=0.01)
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
    assert not module._is_clock(np.array(stamps), longest_s=1000.0)


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
    names = ["Daft__sample_video.mp4", "moviepy__big_buck_bunny_432_433.webm", "openl3__bento.mp4"]
    names += ["ExoPlayer__sample.avi", "ExoPlayer__video_2.mp4", "ExoPlayer__sample.mkv"]
    for name in names:
        path = shared_data / "videos" / name
        monkeypatch.undo()
        one = read(path)
        monkeypatch.setattr(module, "_DECORD_FORMATS", frozenset())
        other = read(path)
        assert isinstance(one, Pictures)
        assert one.time_s == pytest.approx(other.time_s, abs=1e-3), name
        assert np.abs(one.frames.astype(int) - other.frames).mean() < 2, name

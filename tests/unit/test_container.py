"""Opening files: what is refused, that nothing else is touched, and paths of every shape."""

import os
import socket
import subprocess
import threading
import time
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from audioflow.errors import MediaError
from audioflow.media.container import open_media
from audioflow.media.parts import FrameSampling, Wanted
from audioflow.media.pictures import Pictures
from audioflow.media.spans import Span
from tests.decoders import Sound, decode_recording
from tests.media_files import frame_numbers, numbered_frames, tone, write_media, write_wav

SAMPLING = FrameSampling(4, 64)
BOTH = Wanted((16_000,), (SAMPLING,))


def decode(path):
    return decode_recording(str(path), [Span()], BOTH)[0]


def parts(path) -> list:
    clip = decode(path)
    return [clip.sound, clip.pictures[SAMPLING]]


@pytest.fixture
def listener():
    """A loopback server that counts connections, and its port."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.02)
        ended, connections = threading.Event(), []

        def serve():
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                connections.append(connection)
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], connections
        finally:
            ended.set()
            thread.join()


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    """Two sounds in another folder, which a playlist points at."""
    folder = tmp_path_factory.mktemp("elsewhere")
    write_media(folder / "secret.ts", sound_CN=tone(seconds=2.0), audio="aac", container="mpegts")
    write_wav(folder / "secret.wav", tone(seconds=2.0))
    return folder


def hls(target: str) -> str:
    return (
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n"
        f"#EXTINF:2.0,\n{target}\n#EXT-X-ENDLIST\n"
    )


def dash(target: str) -> str:
    return (
        '<?xml version="1.0"?>\n<!-- made by hand -->\n'
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT2S">'
        f'<Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="1">'
        f"<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )


def sdp(port: int) -> str:
    return f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n"


@pytest.mark.parametrize("name", ["list.m3u8", "clip.mp4", "clip"])
@pytest.mark.parametrize("before", ["", " \r\n\t", "\ufeff"], ids=["plain", "space", "bom"])
@pytest.mark.parametrize("kind", ["hls", "concat", "dash", "sdp", "pls", "vobsub"])
def test_a_file_that_points_at_others_is_refused(tmp_path, secret, listener, name, before, kind):
    port, connections = listener
    texts = {
        "hls": hls(str(secret / "secret.ts")) + hls(f"http://127.0.0.1:{port}/a.ts"),
        "concat": f"ffconcat version 1.0\nfile {secret}/secret.wav\n",
        "dash": dash(f"http://127.0.0.1:{port}/a.mp4"),
        "sdp": sdp(port),
        "pls": f"[playlist]\nNumberOfEntries=1\nFile1={secret}/secret.wav\n",
        "vobsub": "# VobSub index file, v7 (do not modify this line!)\n",
    }
    path = tmp_path / name
    path.write_text(before + texts[kind], encoding="utf-8")
    for part in parts(path):
        assert isinstance(part, MediaError), part
        assert part.error == "refused"
        assert part.reason == "it is a playlist or manifest that points at other files"
    assert connections == []


@pytest.mark.parametrize("filler", ["\x01", "no playlist\n", "<html>", ";"])
@pytest.mark.parametrize("kind", ["hls", "concat", "dash", "sdp"])
def test_a_playlist_that_does_not_look_like_one_is_no_media_either(
    tmp_path, secret, listener, filler, kind
):
    """Whatever the first bytes are, FFmpeg is not allowed to know these formats."""
    port, connections = listener
    texts = {
        "hls": hls(str(secret / "secret.ts")),
        "concat": f"ffconcat version 1.0\nfile {secret}/secret.wav\n",
        "dash": dash(f"http://127.0.0.1:{port}/a.mp4"),
        "sdp": sdp(port),
    }
    path = tmp_path / "clip.mp4"
    path.write_text(filler + texts[kind])
    assert {part.error for part in parts(path)} == {"not_media"}
    assert connections == []


def test_the_guard_does_not_hang_on_the_look_of_the_first_bytes_alone(
    tmp_path, secret, monkeypatch
):
    """With the look-out for playlists blinded, the list of formats still keeps them out."""
    import re

    monkeypatch.setattr("audioflow.media.container._PLAYLIST", re.compile(rb"(?!)"))
    for name, text in (
        ("a.m3u8", hls(str(secret / "secret.ts"))),
        ("b.ffconcat", f"ffconcat version 1.0\nfile {secret}/secret.wav\n"),
        ("c.sdp", sdp(9)),
    ):
        (tmp_path / name).write_text(text)
        assert {part.error for part in parts(tmp_path / name)} == {"not_media"}, name


def test_decord_is_not_asked_about_files_without_a_signature(tmp_path, monkeypatch):
    """Its own FFmpeg knows playlists, and a stream may be found behind a lot of other text."""
    import decord

    def refuse(*_args, **_more):
        raise AssertionError("decord was given the file")

    path = write_media(tmp_path / "a.ts", frames=numbered_frames(10), video="mpeg2video", fps=25)
    monkeypatch.setattr(decord, "VideoReader", refuse)
    assert isinstance(parts(path)[1], Pictures)


# Files that are none


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        (b"", "empty", "the file has 0 bytes"),
        (b"<html>404 Not Found</html>", "not_media", "FFmpeg does not recognise it: "),
        (b"version https://git-lfs.github.com/spec/v1\n", "not_media", "does not recognise"),
        (bytes(range(256)) * 4, "not_media", "FFmpeg does not recognise it: "),
    ],
    ids=["empty", "html", "lfs", "bytes"],
)
def test_a_file_that_is_no_media_says_why(tmp_path, content, error, reason):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    for part in parts(path):
        assert (part.error, reason in part.reason) == (error, True), part
        assert str(tmp_path) not in part.reason


def test_an_mp4_without_its_index_is_truncated(tmp_path):
    path = write_media(tmp_path / "a.mp4", frames=numbered_frames(10), sound_CN=tone())
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    for part in parts(path):
        assert part.error == "truncated"
        assert part.reason == "the index of the mp4/mov file (moov) is missing or damaged"


def test_a_missing_file_a_folder_and_a_pipe_are_told_apart(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    assert [parts(tmp_path / "nothing")[0].error, parts(tmp_path / "file" / "x")[0].error] == [
        "not_found"
    ] * 2
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "pipe", "a device, pipe or socket")):
        (first, *_) = parts(path)
        assert first.error == "refused"
        assert f"it is {kind}, not a regular file" in first.reason
    with pytest.raises(MediaError, match="not_found"), open_media("a\0b"):
        pass


def test_a_file_this_user_may_not_read_is_a_matter_of_permission(tmp_path, monkeypatch):
    path = write_wav(tmp_path / "a.wav", tone())

    def deny(*_args, **_more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)  # root, as in containers, may read everything
    assert parts(path)[0].reason == "this user may not read the file"


def test_a_codec_without_a_decoder_is_unsupported(tmp_path):
    path = write_media(tmp_path / "a.mkv", sound_CN=tone(), audio="ac3")
    path.write_bytes(path.read_bytes().replace(b"A_AC3", b"A_XY3"))
    assert (parts(path)[0].error, parts(path)[1].error) == ("unsupported", "no_video")


# Paths

NAMES = [
    "with spaces .mp4",
    "quotes'\"`$(x);&.mp4",
    "new\nline.mp4",
    "-i.mp4",
    "%d.mp4",
    "frame%03d.mp4",
    "*.mp4",
    "?[ab]{x}.mp4",
    "concat:x.mp4",
    "subfile,,start,0,end,9,,:x.mp4",
    "file:x.mp4",
    "pipe:0",
    "ünïcode-日本.mp4",
    "#x?y=1%20.mp4",
    "\\back\\slash.mp4",
    os.fsdecode(b"\xff\xfenot-utf8.mp4"),
    "no_suffix",
    "UPPER.MP4",
    "x" * 250,
]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_media(
        tmp_path_factory.mktemp("video") / "a.mp4", frames=numbered_frames(12), sound_CN=tone()
    )


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_path_is_taken_as_it_is(tmp_path, monkeypatch, video, name, relative):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("audioflow.media.pictures._with_pyav", None)  # decord has to manage
    (tmp_path / name).write_bytes(video.read_bytes())
    sound, pictures = parts(name if relative else tmp_path / name)
    assert isinstance(sound, Sound), sound
    assert isinstance(pictures, Pictures), pictures
    assert frame_numbers(pictures.frames) == [1, 4, 7, 10]


def test_a_folder_named_like_a_protocol_is_a_folder(tmp_path, monkeypatch, video):
    monkeypatch.chdir(tmp_path)
    for name in ("http:/x.mp4", "http:/127.0.0.1:9/x.mp4", "concat:/a|b.mp4"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(video.read_bytes())
        sound, pictures = parts(name)
        assert isinstance(sound, Sound), sound
        assert isinstance(pictures, Pictures), pictures


def test_pyav_takes_every_path_too(tmp_path, monkeypatch, video):
    monkeypatch.setattr("audioflow.media.pictures._DECORD_FORMATS", frozenset())
    for name in NAMES:
        (tmp_path / name).write_bytes(video.read_bytes())
        assert frame_numbers(parts(tmp_path / name)[1].frames) == [1, 4, 7, 10]


def test_a_pattern_reads_the_file_of_that_name_only(tmp_path, video):
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_bytes(video.read_bytes())
    for name in ("%d.mp4", "*.mp4", "[0-2].mp4"):
        assert parts(tmp_path / name)[0].error == "not_found"


def test_decoding_opens_no_handle_that_it_leaves_open(tmp_path, video):
    name = tmp_path / os.fsdecode(b"\xff.mp4")
    name.write_bytes(video.read_bytes())
    parts(name)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        parts(name)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_picture_is_no_sound(tmp_path):
    path = write_media(tmp_path / "a.mkv", frames=np.zeros((3, 32, 32, 3), np.uint8))
    assert parts(path)[0].error == "no_audio"


@pytest.fixture(scope="module")
def dts(tmp_path_factory) -> bytes:
    """Three seconds of DTS as it stands on a compact disc."""
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    path = tmp_path_factory.mktemp("dts") / "a.dts"
    source = ["-f", "lavfi", "-i", "anoisesrc=d=3:r=44100"]
    coding = ["-ac", "2", "-c:a", "dca", "-strict", "-2", "-b:a", "1411200"]
    subprocess.run([program, "-loglevel", "error", *source, *coding, str(path)], check=True)
    return path.read_bytes()


@pytest.mark.parametrize("silence_bytes", [0, 4096, 200_000])
def test_dts_in_a_wav_file_is_not_taken_for_samples(tmp_path, dts, silence_bytes):
    content = bytes(silence_bytes) + dts
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes(content[: len(content) // 4 * 4])
    with open_media(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "dca"


def test_a_wav_file_is_opened_without_putting_every_format_to_its_samples(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 5 * 44_100))
    path = write_wav(tmp_path / "a.wav", noise, 44_100)

    def seconds(opened) -> float:
        began = time.perf_counter()
        for _ in range(8):
            with opened(str(path)):
                pass
        return time.perf_counter() - began

    assert seconds(open_media) < 0.5 * seconds(av.open)  # a sixth to an eighth

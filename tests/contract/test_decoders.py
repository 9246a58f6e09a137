"""What every decoder must do: the same sound, in parts that end, from this one file alone."""

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

import av
import numpy as np
import pytest

from audioflow.errors import MediaError
from audioflow.media import DECODERS
from audioflow.media.child import DecoderChild
from audioflow.media.parts import End, FrameSampling, SoundPart, Wanted
from audioflow.media.spans import Span
from audioflow.registry import UnknownPlugin
from tests.decoders import ClipMedia, Sound, collect, decode_recording
from tests.media_files import RATE, numbered_frames, tone, write_media, write_wav

SAMPLING = FrameSampling(4, 64)
BOTH = Wanted((16_000,), (SAMPLING,))

FORMATS = {
    # name: codec, sample rate, channels
    "a.wav": ("pcm_s16le", 44_100, 2),
    "a.flac": ("flac", 22_050, 1),
    "a.mp3": ("libmp3lame", 44_100, 2),
    "a.m4a": ("aac", 48_000, 1),
    "a.mp4": ("aac", 44_100, 6),
    "opus.webm": ("libopus", 48_000, 2),
    "vorbis.webm": ("vorbis", 44_100, 2),
    "vorbis.ogg": ("vorbis", 44_100, 2),
    "opus.ogg": ("libopus", 48_000, 1),
    "mp2.ts": ("mp2", 44_100, 1),
    "aac.ts": ("aac", 44_100, 2),
    "a.avi": ("libmp3lame", 44_100, 1),
    "flac.mka": ("flac", 44_100, 1),
}


@pytest.fixture(params=DECODERS.names())
def decoder(request):
    """The class of every registered decoder that this machine can run."""
    plugin = DECODERS.load(request.param)
    try:
        plugin(plugin.Settings())
    except UnknownPlugin as error:
        pytest.skip(str(error))
    return plugin


def decode(decoder, path, *spans, wanted=BOTH) -> ClipMedia:
    return decode_recording(path, spans or [Span()], wanted, decoder)[0]


def media(decoder, path) -> list:
    clip = decode(decoder, path)
    return [clip.sound, clip.pictures[SAMPLING]]


def noise(seconds: float, rate: int, channels: int) -> np.ndarray:
    generator = np.random.default_rng(1)
    rough = generator.normal(0, 1, round(seconds * rate) + 80)
    smooth = np.convolve(rough, np.hanning(40), "same")[40:-40]
    return np.repeat(0.7 * smooth[None] / np.abs(smooth).max(), channels, axis=0)


@pytest.mark.parametrize("name", FORMATS)
def test_decoders_agree_on_every_format(tmp_path, decoder, name):
    codec, rate, channels = FORMATS[name]
    path = write_media(
        tmp_path / name,
        sound_CN=noise(5.0, rate, channels),
        audio=codec,
        rate=rate,
        container="mpegts" if name.endswith("ts") else None,
    )
    wanted = Wanted((rate, 16_000))
    usual = decode(DECODERS.load("pyav"), path, Span(), Span(1.5, 2.0), wanted=wanted).sound
    found = decode(decoder, path, Span(), Span(1.5, 2.0), wanted=wanted).sound
    assert isinstance(found, Sound)
    assert found.duration_s == pytest.approx(5.0, abs=0.06)
    assert found.coverage == usual.coverage == 1.0
    for wanted_rate in wanted.sample_rates_hz:
        one, other = usual.waveforms[wanted_rate], found.waveforms[wanted_rate]
        # What fills up the last AAC frame of an mp4 is left out by FFmpeg 9, and by none before.
        filling = 1024 * wanted_rate / rate if codec == "aac" else 0
        assert len(one) == pytest.approx(len(other), abs=max(0.01 * wanted_rate, filling))
        both = min(len(one), len(other))
        assert np.corrcoef(one[:both], other[:both])[0, 1] > 0.999


def test_a_span_is_a_cut_of_the_whole(tmp_path, decoder):
    path = write_media(tmp_path / "a.m4a", sound_CN=noise(30.0, RATE, 1), audio="aac")
    wanted = Wanted((RATE,))
    whole = decode(decoder, path, wanted=wanted).sound.waveforms[RATE]
    part = decode(decoder, path, Span(25.2, 1.0), wanted=wanted).sound.waveforms[RATE]
    first = round(25.2 * RATE)
    assert np.corrcoef(part, whole[first : first + RATE])[0, 1] > 0.9999


def test_a_gap_in_the_time_stamps_is_kept(tmp_path, decoder):
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("flac", rate=RATE, layout="mono")
        for number in range(40):
            frame = av.AudioFrame.from_ndarray(
                np.full((1, 4608), 9_000, np.int16), format="s16", layout="mono"
            )
            frame.sample_rate = RATE
            frame.pts = 4608 * number + (2 * RATE if number >= 20 else 0)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    sound = decode(decoder, path, wanted=Wanted((RATE,))).sound
    assert sound.duration_s == pytest.approx(2 + 40 * 4608 / RATE, abs=0.005)
    assert sound.coverage == pytest.approx(1 - 2 / sound.duration_s, abs=0.01)
    gap = sound.waveforms[RATE][20 * 4608 + 60 : 20 * 4608 + 2 * RATE - 60]
    assert not gap.any()


def test_sound_and_pictures_and_failures_come_apart(tmp_path, decoder):
    path = write_media(tmp_path / "a.mp4", frames=numbered_frames(10), sound_CN=tone())
    good, late = decode_recording(path, [Span(0.0, 0.5), Span(9.0, 1.0)], BOTH, decoder)
    assert isinstance(good.sound, Sound)
    assert len(good.pictures[SAMPLING].frames) == 4
    assert (late.sound.error, late.pictures[SAMPLING].error) == ("truncated", "truncated")
    silent = write_media(tmp_path / "b.mp4", frames=numbered_frames(10))
    assert media(decoder, silent)[0].error == "no_audio"
    assert media(decoder, write_wav(tmp_path / "c.wav", tone()))[1].error == "no_video"


def test_damage_is_no_exception(tmp_path, decoder):
    whole = write_media(tmp_path / "a.mp3", sound_CN=tone(seconds=2.0), audio="libmp3lame")
    data = bytearray(whole.read_bytes())
    data[6_000:9_000] = bytes(3_000)
    whole.write_bytes(data)
    sound = decode(decoder, whole).sound
    assert isinstance(sound, Sound)
    empty = tmp_path / "b.mp3"
    empty.write_bytes(b"")
    assert media(decoder, empty)[0].error == "empty"


# Choice of track


@pytest.fixture(scope="module")
def two_tracks(tmp_path_factory):
    """Sound at 500 Hz and 2 kHz, pictures dark and bright."""
    path = tmp_path_factory.mktemp("tracks") / "a.mkv"
    with av.open(str(path), "w") as out:
        sounds = [out.add_stream("flac", rate=16_000, layout="mono") for _ in range(2)]
        pictures = [out.add_stream("libx264", rate=10) for _ in range(2)]
        for stream in pictures:
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
        for stream, hz in zip(sounds, (500, 2_000), strict=True):
            data = np.rint(tone(hz, 1.0, 16_000) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 0
            out.mux([*stream.encode(frame), *stream.encode(None)])
        for stream, gray in zip(pictures, (50, 200), strict=True):
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), gray, np.uint8))
                frame.pts = number
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("number", "hz", "gray"), [(0, 500, 50), (1, 2_000, 200)])
def test_a_track_is_chosen_by_its_number(two_tracks, decoder, number, hz, gray):
    wanted = replace(BOTH, sound_track=number, video_track=number)
    clip = decode(decoder, two_tracks, wanted=wanted)
    spectrum = np.abs(np.fft.rfft(clip.sound.waveforms[16_000]))
    assert spectrum.argmax() == pytest.approx(hz, abs=1)
    assert clip.pictures[SAMPLING].frames.mean() == pytest.approx(gray, abs=4)


def test_a_track_that_is_not_there_is_named_with_the_count(two_tracks, decoder):
    clip = decode(decoder, two_tracks, wanted=replace(BOTH, sound_track=2, video_track=5))
    assert (clip.sound.error, clip.pictures[SAMPLING].error) == ("no_audio", "no_video")
    assert "sound track 2 was asked for (counted from 0)" in clip.sound.reason
    assert "the recording has 2 sound tracks" in clip.sound.reason
    assert "the recording has 2 video tracks" in clip.pictures[SAMPLING].reason


# Limits


def test_hours_of_silence_in_a_small_file_are_cut_off(tmp_path, decoder):
    path = tmp_path / "bomb.flac"
    block = np.zeros((1, 16_000 * 60), np.int16)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("flac", rate=16_000, layout="mono")
        for _ in range(120):
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate = 16_000
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert path.stat().st_size < 2_000_000
    wanted = Wanted((16_000,), max_duration_s=600.0)
    parts = list(decoder(decoder.Settings()).decode(str(path), [Span()], wanted))
    assert parts[-1].error.error == "too_long"
    assert "more than 600 s of sound (embed.max_duration_s)" in parts[-1].error.reason
    given = sum(part.samples.size for part in parts if isinstance(part, SoundPart))
    assert given < 700 * 16_000
    assert max(part.nbytes for part in parts) < 4 * 2**20


def test_what_is_not_wanted_any_more_is_not_decoded_on(tmp_path, decoder):
    path = write_media(tmp_path / "a.flac", sound_CN=noise(60.0, RATE, 1), audio="flac")
    parts = decoder(decoder.Settings()).decode(str(path), [Span()], Wanted((RATE,)))
    before = children()
    assert isinstance(next(parts), SoundPart)
    assert len(children() - before) == (1 if decoder.__name__ == "FFmpegProgram" else 0)
    parts.close()
    assert children() == before


def children() -> set[str]:
    """Programs that this process has started and that run."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.add(status.parent.name)
    return found


# Nothing but the file


@pytest.fixture
def listener():
    """A loopback server that is never to be asked, and its port."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    """A loud sound in another folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    write_media(folder / "secret.ts", sound_CN=tone(seconds=2.0), container="mpegts")
    write_media(folder / "secret.mov", sound_CN=tone(seconds=2.0), audio="pcm_s16le")
    return write_wav(folder / "secret.wav", tone(seconds=2.0))


@pytest.mark.parametrize("name", ["list.m3u8", "clip.mp4"])
@pytest.mark.parametrize("kind", ["hls file", "hls host", "concat", "dash", "sdp", "smil"])
def test_a_file_that_points_at_others_opens_none_of_them(
    tmp_path, secret, listener, decoder, name, kind
):
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.0,\n{}\n#EXT-X-ENDLIST\n"
    texts = {
        "hls file": hls.format(secret.with_name("secret.ts")),
        "hls host": hls.format(f"http://127.0.0.1:{listener}/a.ts"),
        "concat": f"ffconcat version 1.0\nfile {secret}\n",
        "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        f'<Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="1">'
        f"<BaseURL>http://127.0.0.1:{listener}/a.mp4</BaseURL></Representation>"
        "</AdaptationSet></Period></MPD>",
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio {listener} RTP/AVP 0\n",
        "smil": f'<smil><body><audio src="http://127.0.0.1:{listener}/a.wav"/></body></smil>',
    }
    path = tmp_path / name
    path.write_text(texts[kind])
    assert {one.error for one in media(decoder, path)} == {"refused"}


def pointing_elsewhere(source: Path, target: str) -> bytes:
    """A mov whose sound lies in another file, by an alias in its data reference."""
    alias = bytearray(150)
    alias[10:11] = bytes([5])
    alias[11:16] = b"drive"
    name = Path(target).name.encode()[:63]
    alias[50] = len(name)
    alias[51 : 51 + len(name)] = name
    alias[130:134] = bytes([0, 1, 0, 1])
    path = target.encode()
    path += b"\0" * (len(path) % 2)
    alias += b"\0\2" + len(target).to_bytes(2, "big") + path + b"\xff\xff\0\0"
    entry = (len(alias) + 12).to_bytes(4, "big") + b"alis" + bytes(4) + bytes(alias)
    data = source.read_bytes()
    found = data.index(b"url \0\0\0\1") - 4
    old = int.from_bytes(data[found : found + 4], "big")
    data = bytearray(data[:found] + entry + data[found + old :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = data.index(box) - 4
        size = int.from_bytes(data[place : place + 4], "big") + len(entry) - old
        data[place : place + 4] = size.to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("host", [False, True], ids=["file", "host"])
def test_a_mov_whose_data_lie_elsewhere_gives_nothing_of_them(
    tmp_path, secret, listener, decoder, host
):
    target = (
        f"http://127.0.0.1:{listener}/secret.mov" if host else str(secret.with_name("secret.mov"))
    )
    path = tmp_path / "clip.mov"
    path.write_bytes(pointing_elsewhere(secret.with_name("secret.mov"), target))
    sound = media(decoder, path)[0]
    assert isinstance(sound, MediaError), sound
    assert sound.error == "refused"
    assert "alis" in sound.reason


NAMES = [
    "with spaces .mp4",
    "quotes'\"`$(x);&.mp4",
    "new\nline.mp4",
    "-i.mp4",
    "-y",
    "frame%03d.mp4",
    "*.mp4",
    "concat:x.mp4",
    "subfile,,start,0,end,9,,:x.mp4",
    "file:x.mp4",
    "pipe:0",
    "ünïcode-日本.mp4",
    "#x?y=1%20.mp4",
    "\\back\\slash.mp4",
    os.fsdecode(b"\xff\xfenot-utf8.mp4"),
]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    return write_media(path, frames=numbered_frames(12), sound_CN=tone())


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_path_is_taken_as_it_is(tmp_path, monkeypatch, decoder, video, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(video.read_bytes())
    for path in (tmp_path / name, name):
        sound, pictures = media(decoder, path)
        assert isinstance(sound, Sound), sound
        assert sound.duration_s == pytest.approx(1.0, abs=0.03)
        assert len(pictures.frames) == 4


# In the child


@pytest.mark.parametrize("name", DECODERS.names())
def test_the_child_runs_the_decoder_that_is_wanted(tmp_path, name):
    path = write_wav(tmp_path / "a.wav", tone())
    wanted = replace(BOTH, decoder=DECODERS.entries[name])
    child = DecoderChild(timeout_s=30, memory_gb=1.0)
    try:
        parts = list(chain.from_iterable(child.decode(str(path), [Span()], wanted)))
    except UnknownPlugin as error:
        pytest.skip(str(error))
    finally:
        child.close()
    assert collect(parts, 1, wanted)[0].sound.duration_s == 1.0
    assert sum(isinstance(part, End) for part in parts) == 2


# The program ffmpeg


def test_without_the_program_its_decoder_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UnknownPlugin, match=r"apt-get install ffmpeg.*pip install imageio-ffmpeg"):
        DECODERS.build("ffmpeg", {})


def test_the_program_dies_with_the_child(tmp_path, monkeypatch):
    """A program that hangs is not left behind when its decoder is ended."""
    pid_file = tmp_path / "pid"
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho $$ > {pid_file}\nexec sleep 3600\n")
    program.chmod(0o755)
    path = write_wav(tmp_path / "a.wav", tone())
    script = (
        "import os; from audioflow.media.ffmpeg import FFmpegProgram as F\n"
        "from audioflow.media.parts import Wanted; from audioflow.media.spans import Span\n"
        f"list(F(F.Settings()).decode({str(path)!r}, [Span()], Wanted((16000,))))"
    )
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        assert wait_until(lambda: pid_file.exists() and pid_file.read_text().strip())
        parent.kill()
    assert wait_until(lambda: not Path(f"/proc/{pid_file.read_text().strip()}").exists())


def wait_until(condition, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_the_names_of_decoders_are_known_without_loading_them():
    script = (
        "import sys, audioflow.media, audioflow.media.parts\n"
        "assert not {'av', 'decord', 'soxr', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

"""Spans reached by jumps: the same samples as in a decode of everything, for far less work."""

from functools import cache
from time import process_time

import numpy as np
import pytest

from audioflow.media import sound as module
from audioflow.media.container import open_media
from audioflow.media.parts import Wanted
from audioflow.media.reader import DECODE, JUMP, SKIP, SoundReader
from audioflow.media.spans import Span
from tests.decoders import Sound, decode_recording
from tests.media_files import write_media

SECONDS = 90
ENDS_S = 88.0

FILES = {
    # name: codec, sample rate, channels, settings, way that a far span is reached
    "a.wav": ("pcm_s16le", 44_100, 1, {}, JUMP),
    "a.aiff": ("pcm_s16be", 44_100, 1, {}, JUMP),
    "a.flac": ("flac", 44_100, 1, {}, JUMP),
    "xing_cbr.mp3": ("libmp3lame", 44_100, 1, {"b": "96k"}, SKIP),
    "xing_vbr.mp3": ("libmp3lame", 44_100, 1, {"compression_level": "7", "q": "4"}, SKIP),
    "plain_cbr.mp3": ("libmp3lame", 44_100, 2, {"b": "128k"}, SKIP),
    "plain_vbr.mp3": ("libmp3lame", 44_100, 1, {"abr": "1", "b": "96k"}, SKIP),
    "low.mp3": ("libmp3lame", 22_050, 1, {"b": "24k"}, SKIP),
    "a.aac": ("aac", 44_100, 1, {"aac_pns": "0"}, SKIP),
    "a.m4a": ("aac", 44_100, 1, {"aac_pns": "0"}, JUMP),
    "a.mka": ("aac", 44_100, 1, {"aac_pns": "0"}, JUMP),
    "opus.webm": ("libopus", 48_000, 1, {}, JUMP),
    "vorbis.webm": ("vorbis", 44_100, 2, {}, JUMP),
    "vorbis.ogg": ("vorbis", 44_100, 2, {}, SKIP),
    "opus.ogg": ("libopus", 48_000, 1, {}, SKIP),
    "flac.ogg": ("flac", 44_100, 1, {}, SKIP),
    "mp2.ts": ("mp2", 44_100, 1, {}, SKIP),
    "mp3.ts": ("libmp3lame", 44_100, 1, {}, SKIP),
    "aac.ts": ("aac", 44_100, 1, {"aac_pns": "0"}, SKIP),
    "ac3.ts": ("ac3", 48_000, 2, {}, SKIP),
}
INEXACT = {
    # Its decoder fills what was not coded with noise that depends on all that came before.
    "ac3.ts": 0.999
}
CONTAINERS = {"aac": "adts", "ts": "mpegts"}


def music(seconds: float, rate: int, channels: int) -> np.ndarray:
    """A sweep, noise and clicks (C, N): no two stretches alike, and coded without strain."""
    generator = np.random.default_rng(3)
    time_s = np.arange(round(seconds * rate)) / rate
    sweep = 0.3 * np.sin(2 * np.pi * (200 + 100 * np.sin(0.7 * time_s)) * time_s)
    sound = sweep + generator.normal(0, 0.05, time_s.size)
    sound[generator.integers(0, time_s.size, round(2 * seconds))] += 0.5
    return np.repeat(sound.clip(-0.9, 0.9)[None], channels, axis=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("spans")


@pytest.fixture(scope="module")
def written(folder):
    @cache
    def write(name: str):
        codec, rate, channels, options, _ = FILES[name]
        path = write_media(
            folder / name,
            sound_CN=music(SECONDS, rate, channels),
            audio=codec,
            rate=rate,
            audio_options=options,
            options={"write_xing": "0"} if name.startswith("plain") else None,
            container=CONTAINERS.get(name.rpartition(".")[2]),
        )
        return path, sound(path, Span())

    return write


@pytest.fixture
def readers(monkeypatch) -> list[SoundReader]:
    """Every reader that is made, to ask it which ways it took."""
    made: list[SoundReader] = []

    class Spied(SoundReader):
        def __init__(self, *args) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(module, "SoundReader", Spied)
    return made


def sounds(path, *spans: Span, rate: int | None = None) -> list[np.ndarray]:
    rate = rate or (FILES[path.name][1] if path.name in FILES else 16_000)
    found = []
    for clip in decode_recording(path, spans, Wanted((rate,))):
        assert isinstance(clip.sound, Sound), clip.sound
        found.append(clip.sound.waveforms[rate])
    return found


def sound(path, span: Span, rate: int | None = None) -> np.ndarray:
    return sounds(path, span, rate=rate)[0]


def assert_same(part, whole, start_s: float, rate: int, name: str) -> None:
    first = round(start_s * rate)
    expected = whole[first : first + len(part)].astype(int)
    if name in INEXACT:
        assert np.corrcoef(part, expected)[0, 1] > INEXACT[name]
    else:
        assert np.abs(part - expected).max() <= 1


@pytest.mark.parametrize("name", FILES)
def test_a_far_span_is_that_part_of_the_whole(written, readers, name):
    path, whole = written(name)
    rate, way = FILES[name][1], FILES[name][4]
    for start_s in (21.5, 47.1234567, ENDS_S - 1.0):
        readers.clear()
        part = sound(path, Span(start_s, 1.5))
        assert len(part) == round(1.5 * rate)
        assert_same(part, whole, start_s, rate, name)
        assert [reader.ways for reader in readers] == [[way]]


@pytest.mark.parametrize("name", ["a.wav", "xing_vbr.mp3", "a.m4a", "vorbis.webm", "aac.ts"])
def test_spans_far_apart_are_each_reached_by_a_jump(written, monkeypatch, name):
    path, whole = written(name)
    decoded = []
    usual = SoundReader.pieces

    def counted(self, needs_s):
        for piece in usual(self, needs_s):
            decoded.append(piece.samples.size / piece.rate)
            yield piece

    monkeypatch.setattr(SoundReader, "pieces", counted)
    starts_s = [70.0, 2.0, 35.5, 36.0]
    found = sounds(path, *(Span(start_s, 1.0) for start_s in starts_s))
    for start_s, part in zip(starts_s, found, strict=True):
        assert_same(part, whole, start_s, FILES[name][1], name)
    assert sum(decoded) < 20


@pytest.mark.parametrize("name", ["a.flac", "plain_vbr.mp3", "a.m4a", "opus.webm", "mp2.ts"])
def test_a_span_at_the_end_costs_far_less_than_everything(written, name):
    path, _ = written(name)

    def cost(span: Span) -> float:
        costs = []
        for _ in range(3):
            begun = process_time()
            sound(path, span)
            costs.append(process_time() - begun)
        return min(costs)

    assert cost(Span(ENDS_S - 1, 1.0)) < cost(Span(0.0, ENDS_S)) / 2.5


@pytest.mark.parametrize("name", ["a.wav", "a.m4a", "opus.webm", "vorbis.ogg", "plain_cbr.mp3"])
def test_a_far_span_past_the_end_is_told_where_that_is(written, name):
    path, whole = written(name)
    rate = FILES[name][1]
    (clip,) = decode_recording(path, [Span(200.0, 1.0)], Wanted((rate,)))
    assert clip.sound.error == "truncated"
    assert f"the sound ends at {len(whole) / rate:.2f}" in clip.sound.reason


def test_a_hole_before_the_span_is_read_through_without_a_jump(written, readers, folder):
    """Packets are missing that no time stamp tells of, so the place is certain only by decoding."""
    path, whole = written("plain_cbr.mp3")
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 6000] = bytes(6000)
    damaged = folder / "hole.mp3"
    damaged.write_bytes(data)
    readers.clear()
    part = sound(damaged, Span(60.0, 1.0), 44_100)
    assert readers[0].ways == [SKIP, DECODE]
    assert_same(part, whole, 60.0, 44_100, "plain_cbr.mp3")


def test_real_recordings_give_the_same_samples_by_a_jump(shared_data, readers):
    names = ["videos/moviepy__big_buck_bunny_0_30.webm", "odd/audiomentations__ms_adpcm.wav"]
    names += sorted(f"audio/{path.name}" for path in (shared_data / "audio").iterdir())
    jumped = 0
    for name in names:
        path = shared_data / name
        (clip,) = decode_recording(path, [Span()], Wanted((16_000,)))
        if not isinstance(clip.sound, Sound) or clip.sound.duration_s < 26:
            continue
        jumped += 1
        with open_media(str(path)) as container:
            rate = container.streams.audio[0].sample_rate
        whole = sound(path, Span(), rate)
        start_s = clip.sound.duration_s - 3
        part = sound(path, Span(start_s, 1.0), rate)
        first = round(start_s * rate)
        likeness = np.corrcoef(part, whole[first : first + rate])[0, 1]
        assert likeness > 0.9999, (name, readers[-1].ways)
    assert jumped >= 3

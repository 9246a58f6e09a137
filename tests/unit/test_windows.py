"""Streaming: parts of bounded size, in bounded memory, equal to what comes of the whole at once."""

from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import pytest
import soxr

from audioflow.media.child import DecoderChild
from audioflow.media.parts import End, SoundPart, Wanted
from audioflow.media.pyav import PyAV
from audioflow.media.resampling import Resampler, int16
from audioflow.media.spans import Span
from audioflow.media.windows import Piece, Window
from tests.decoders import Sound, collect, decode_recording
from tests.media_files import ramp, rms_db, tone, write_wav

# Resampling in blocks


@pytest.mark.parametrize("rates", [(44_100, 16_000), (8_000, 44_100), (48_000, 48_000)], ids=str)
@pytest.mark.parametrize("block", [1_000, 44_100, 1_000_000])
def test_blocks_give_what_the_whole_gives(rates, block):
    rate, wanted = rates
    samples = ramp(7.3, rate)[0].astype(np.float32)
    resampler = Resampler(rate, wanted)
    blocks = []
    for first in range(0, samples.size, block):
        last = first + block >= samples.size
        blocks.append(resampler.push(samples[first : first + block], last=last))
    found = int16(np.concatenate(blocks)).astype(int)
    expected = int16(soxr.resample(samples, rate, wanted, "HQ")).astype(int)
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() <= 1


def through(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    resampler = Resampler(rate, wanted)
    half = samples.size // 2
    return np.concatenate(
        [resampler.push(samples[:half], last=False), resampler.push(samples[half:], last=True)]
    )


@pytest.mark.parametrize("rates", [(44_100, 16_000), (48_000, 16_000), (96_000, 22_050)], ids=str)
def test_a_tone_that_the_new_rate_cannot_hold_is_gone(rates):
    """The stop band of soxr HQ: aliases are more than 90 dB below the tone."""
    rate, wanted = rates
    for share in (1.1, 1.3, 1.7):
        sine = tone(share * wanted / 2, 2.0, rate, 0.9)[0].astype(np.float32)
        alias = through(sine, rate, wanted)[wanted // 4 : -wanted // 4]
        assert 20 * np.log10(np.sqrt(np.mean(alias**2)) / (0.9 / np.sqrt(2))) < -90


@pytest.mark.parametrize("rates", [(44_100, 16_000), (16_000, 44_100), (48_000, 44_100)], ids=str)
def test_a_tone_that_the_new_rate_can_hold_is_kept(rates):
    """The pass band of soxr HQ: up to 0.9 of the lower Nyquist frequency, to 0.01 dB."""
    rate, wanted = rates
    for share in (0.01, 0.3, 0.7, 0.9):
        hz = share * min(rates) / 2
        sine = tone(hz, 2.0, rate, 0.5)[0].astype(np.float32)
        found = through(sine, rate, wanted)
        time_s = np.arange(len(found)) / wanted
        error = (found - 0.5 * np.sin(2 * np.pi * hz * time_s))[wanted // 4 : -wanted // 4]
        assert 20 * np.log10(np.sqrt(np.mean(error**2)) / (0.5 / np.sqrt(2))) < -60


# Windows by themselves


def add(window: Window, pieces) -> list:
    parts = [part for piece in pieces for part in window.add(piece)]
    return [*parts, *window.finish(pieces[-1].end_s, None)]


def pieces_of(samples: np.ndarray, rate: int, *, first: int = 0, size: int = 1_000) -> list[Piece]:
    return [
        Piece(first + begin, rate, samples[begin : begin + size].astype(np.float32))
        for begin in range(0, samples.size, size)
    ]


def joined(parts) -> np.ndarray:
    return np.concatenate([part.samples for part in parts if isinstance(part, SoundPart)])


def test_pieces_that_come_again_are_taken_once():
    noise = ramp(1.0, 10_000)[0]
    pieces = pieces_of(noise, 10_000)
    window = Window(0, Span(), 0.0, Wanted((10_000,)))
    parts = add(window, [*pieces[:6], *pieces[2:]])
    assert np.abs(joined(parts) - noise * 32767).max() <= 1
    assert parts[-1].coverage == 1.0


def test_a_long_hole_is_filled_in_blocks():
    window = Window(0, Span(), 0.0, Wanted((10_000,)))
    one = pieces_of(ramp(0.1, 10_000)[0], 10_000)
    parts = add(window, [*one, Piece(10_000 * 3_600, 10_000, one[0].samples)])
    assert max(part.nbytes for part in parts) <= 2 * 2**20
    assert parts[-1].duration_s == pytest.approx(3_600.1)
    assert parts[-1].coverage == pytest.approx(0.2 / 3_600.1, rel=0.01)


def test_the_end_of_a_clip_comes_as_soon_as_it_is_there():
    window = Window(3, Span(0.0, 0.5), 0.0, Wanted((10_000, 5_000)))
    seen = []
    for piece in pieces_of(ramp(1.0, 10_000)[0], 10_000):
        seen.extend(window.add(piece))
        if not window.open:
            break
    assert piece.end_s == 0.5
    ends = [part for part in seen if isinstance(part, End)]
    assert [(end.clip, end.source, end.duration_s, end.coverage) for end in ends] == [
        (3, 10_000, 0.5, 1.0),
        (3, 5_000, 0.5, 1.0),
    ]


def test_a_change_of_rate_is_brought_to_the_first_rate():
    low, high = tone(300, 1.0, 16_000)[0], tone(300, 1.0, 48_000)[0]
    window = Window(0, Span(), 0.0, Wanted((16_000,)))
    parts = add(window, [*pieces_of(low, 16_000), *pieces_of(high, 48_000, first=48_000)])
    samples = joined(parts)
    assert len(samples) == pytest.approx(32_000, abs=2)
    assert parts[-1].coverage == pytest.approx(1.0, abs=1e-3)
    for part in (samples[1_000:15_000], samples[17_000:31_000]):
        assert rms_db(part) == pytest.approx(-9.03, abs=0.02)


# Long recordings


def write_long(path: Path, codec: str, seconds: int, rate: int = 16_000) -> Path:
    """Noise and a tone, ten seconds over and over."""
    generator = np.random.default_rng(0)
    block = tone(440, 10.0, rate, 0.3) + generator.normal(0, 0.02, (1, 10 * rate))
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        for number in range(seconds // 10):
            data, kind = block.astype(np.float32), "fltp"
            if codec in ("flac", "pcm_s16le"):
                data, kind = np.rint(block * 32767).astype(np.int16), "s16"
            frame = av.AudioFrame.from_ndarray(data, format=kind, layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = number * 10 * rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def peak_mb(pid: int) -> int:
    """The most memory that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    raise AssertionError(f"no VmHWM of process {pid}")


def stream_through(path: Path, seconds: int, rates=(16_000, 44_100)) -> int:
    """Decode all of it in a child; the most memory (MB) that it took."""
    child = DecoderChild(timeout_s=60, memory_gb=2)
    child.warm()
    counts = dict.fromkeys(rates, 0)
    ends = []
    for parts in child.decode(str(path), [Span()], Wanted(rates)):
        assert sum(part.nbytes for part in parts) < 12 * 2**20
        for part in parts:
            if isinstance(part, End):
                ends.append((part.error, part.coverage))
            else:
                counts[part.source] += part.samples.size
    used = peak_mb(child._running.process.pid)
    child.close()
    assert ends == [(None, 1.0)] * len(rates)
    for rate, count in counts.items():
        assert count / rate == pytest.approx(seconds, abs=0.2)
    return used


@pytest.mark.parametrize(("name", "codec"), [("a.wav", "pcm_s16le"), ("a.flac", "flac")])
def test_memory_does_not_grow_with_the_recording(tmp_path, name, codec):
    """An hour is 230 MB as float, and 430 MB of int16 at both rates."""
    assert stream_through(write_long(tmp_path / name, codec, 3_600), 3_600) < 250


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.wav", "pcm_s16le"), ("a.mp3", "libmp3lame"), ("a.flac", "flac"), ("a.m4a", "aac")],
)
def test_three_hours_go_through_in_400_mb(tmp_path, name, codec):
    path = write_long(tmp_path / name, codec, 10_800, 44_100)
    assert stream_through(path, 10_800) < 400


def test_parts_are_of_bounded_size_and_add_up(tmp_path):
    noise = ramp(60.0, 44_100)
    path = write_wav(tmp_path / "a.wav", noise)
    wanted = Wanted((44_100, 16_000))
    parts = list(PyAV(PyAV.Settings()).decode(str(path), [Span()], wanted))
    assert max(part.nbytes for part in parts) < 2 * 2**20
    assert len(parts) > 8
    (clip,) = collect(parts, 1, wanted)
    assert np.abs(clip.sound.waveforms[44_100] - noise[0] * 32767).max() <= 1
    whole = soxr.resample(noise[0].astype(np.float32), 44_100, 16_000, "HQ")
    assert np.abs(clip.sound.waveforms[16_000] - int16(whole).astype(int)).max() <= 1


def test_many_clips_of_one_recording_are_each_whole(tmp_path):
    noise = ramp(40.0, 8_000)
    path = write_wav(tmp_path / "a.wav", noise, 8_000)
    spans = [Span(float(start_s), 10.0) for start_s in range(0, 35, 3)]
    for span, clip in zip(spans, decode_recording(path, spans, Wanted((8_000,))), strict=True):
        assert isinstance(clip.sound, Sound)
        first = round(span.start_s * 8_000)
        expected = noise[0, first : first + 80_000] * 32767
        assert np.abs(clip.sound.waveforms[8_000] - expected).max() <= 1


def test_messages_of_a_long_recording_come_while_it_is_decoded(tmp_path):
    path = write_long(tmp_path / "a.wav", "pcm_s16le", 600, 44_100)
    child = DecoderChild(timeout_s=30, memory_gb=1)
    messages = list(child.decode(str(path), [Span()], Wanted((44_100,))))
    child.close()
    assert len(messages) > 4
    assert [part for part in chain(*messages) if isinstance(part, End)] == [messages[-1][-1]]

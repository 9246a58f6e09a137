"""Small media for tests. WAV files are written by hand, so that FFmpeg does not check itself.

Shapes: C channels, N samples (float, full scale 1); F frames, H x W, RGB.
"""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

WAV_KINDS = ("u8", "s16", "s24", "s32", "f32", "f64")
RATE = 44_100


def tone(
    hz: float = 440.0, seconds: float = 1.0, rate: int = RATE, peak: float = 0.5
) -> NDArray[np.float64]:
    """A sine (1, N) that begins at zero."""
    return peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)[None]


def ramp(seconds: float, rate: int = RATE) -> NDArray[np.float64]:
    """Noise (1, N) of which no two stretches are alike, to tell where a cut was made."""
    noise = np.random.default_rng(7).uniform(-0.7, 0.7, (1, round(seconds * rate)))
    return np.round(noise * 32767) / 32768  # what s16 holds exactly


def wav_bytes(
    samples_CN: NDArray[np.float64], rate: int = RATE, kind: str = "s16", *, claim: int = -1
) -> bytes:
    """A WAV file; `claim` is what its header says of the data's size, instead of the truth."""
    flat = samples_CN.T.reshape(-1)
    if kind[0] == "f":
        width, data = int(kind[1:]) // 8, flat.astype(f"<f{int(kind[1:]) // 8}").tobytes()
    elif kind == "u8":
        width, data = 1, np.clip(np.rint(flat * 128 + 128), 0, 255).astype(np.uint8).tobytes()
    else:
        width, top = int(kind[1:]) // 8, 2.0 ** (int(kind[1:]) - 1)
        whole = np.clip(np.rint(flat * top), -top, top - 1).astype("<i8")
        data = whole.view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    channels = len(samples_CN)
    form = struct.pack(
        "<HHIIHH",
        3 if kind[0] == "f" else 1,
        channels,
        rate,
        rate * channels * width,
        channels * width,
        8 * width,
    )
    size = len(data) if claim < 0 else claim
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", (len(head) + size) % 2**32) + head + data


def write_wav(path: Path, samples_CN: NDArray[np.float64], rate: int = RATE, kind="s16") -> Path:
    path.write_bytes(wav_bytes(samples_CN, rate, kind))
    return path


def numbered_frames(
    count: int, width: int = 96, height: int = 64, step: int = 8
) -> NDArray[np.uint8]:
    """Frames (F, H, W, 3) whose gray level is 16 + step * index, with a white left upper corner."""
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:] = (16 + step * np.arange(count))[:, None, None, None].clip(0, 235)
    frames[:, : height // 4, : width // 4] = 255
    return frames


def frame_numbers(pictures: NDArray[np.uint8], step: int = 8) -> list[int]:
    """Which of `numbered_frames` these are, read off their lower right quarter."""
    height, width = pictures.shape[1:3]
    gray = pictures[:, height // 2 :, width // 2 :].mean(axis=(1, 2, 3))
    return [round((level - 16) / step) for level in gray]


def write_media(
    path: Path,
    *,
    sound_CN: NDArray[np.float64] | None = None,
    frames: NDArray[np.uint8] | None = None,
    audio: str = "aac",
    video: str = "libx264",
    rate: int = RATE,
    fps: int = 10,
    sound_from_s: float = 0.0,
    frames_from_s: float = 0.0,
    frame_pts: Sequence[int] | None = None,
    rotation: int = 0,
    cover: bool = False,
    container: str | None = None,
    options: dict[str, str] | None = None,
    audio_options: dict[str, str] | None = None,
) -> Path:
    """A media file with a sound track, a video track, cover art, or several of them."""
    with av.open(str(path), "w", format=container, options=options or {}) as out:
        tracks = []
        if frames is not None:
            tracks.append(_video_track(out, frames, video, fps, frames_from_s, frame_pts))
            if rotation:
                tracks[0][0].set_display_rotation(rotation)
        if sound_CN is not None:
            tracks.append(_sound_track(out, sound_CN, audio, rate, sound_from_s, audio_options))
        if cover:
            picture = out.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            tracks.append((picture, [av.VideoFrame.from_ndarray(numbered_frames(1, 64, 64)[0])]))
        for stream, pieces in tracks:
            for piece in [*pieces, None]:
                out.mux(stream.encode(piece))
    return path


def _video_track(out, frames, codec, fps, from_s, frame_pts):
    quality = {
        "libx264": {"crf": "12", "g": "8", "preset": "veryfast"},
        "libvpx": {"crf": "10", "b": "2M"},
    }
    stream = out.add_stream(codec, rate=fps, options=quality.get(codec, {}))
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    tick = Fraction(1, fps) if codec.startswith("mpeg") else Fraction(1, 1000)
    stream.codec_context.time_base = tick
    pieces = []
    for index, frame in enumerate(frames):
        piece = av.VideoFrame.from_ndarray(frame, format="rgb24")
        ms = frame_pts[index] if frame_pts is not None else index * 1000 // fps
        piece.pts = round(Fraction(ms + round(from_s * 1000), 1000) / tick)
        piece.time_base = tick
        pieces.append(piece)
    return stream, pieces


def _sound_track(out, sound_CN, codec, rate, from_s, options):
    planar = {"pcm_s16le": "s16", "flac": "s16", "libopus": "flt", "wavpack": "fltp"}
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[len(sound_CN)]
    stream = out.add_stream(codec, rate=rate, layout=layout, options=options or {})
    if codec == "vorbis":
        stream.codec_context.options = {"strict": "experimental"}
    kind = planar.get(codec, "fltp")
    data = sound_CN.astype(np.float32)
    if kind == "s16":
        data = np.rint(data * 32768).clip(-32768, 32767).astype(np.int16)
    if kind in ("s16", "flt"):
        data = np.ascontiguousarray(data.T).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(data, format=kind, layout=layout)
    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
    frame.pts = round(from_s * rate)
    return stream, [frame]


def rms_db(samples: NDArray[np.int16]) -> float:
    """Level of int16 samples, dB relative to full scale (a full-scale sine is at -3.01)."""
    return float(10 * np.log10(np.mean((samples / 32767.0) ** 2) + 1e-12))


def peak_hz(samples: NDArray[np.int16], rate: int) -> float:
    """The strongest frequency, to within a small part of a bin."""
    size = len(samples)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(size)))
    top = int(spectrum[1:-1].argmax()) + 1
    left, mid, right = np.log(spectrum[top - 1 : top + 2] + 1e-12)
    return (top + 0.5 * (left - right) / (left - 2 * mid + right)) * rate / size

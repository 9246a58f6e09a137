"""Media files for the benchmarks: a few real encodings of each kind, hard-linked to many.

Kinds: `mp4_5s` and `mp4_10s` (H.264 340x256 at 25 fps and stereo AAC at 44.1 kHz, as Kinetics clips
are), `wav_5s` (16-bit mono at 44.1 kHz), `wav_1h` and `mp4_1h` (recordings of an hour, the latter
sound only). Nothing in them is silent or still, so no coder and no decoder has an easy time.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, FRAME_RATE_HZ, SAMPLE_RATE_HZ = 340, 256, 25, 44_100
UNIQUE = 24
"""Different files of a kind; the disk cache holds them all, as it should where the disk is not
what is measured."""
_SECONDS = {"mp4_5s": 5, "mp4_10s": 10, "wav_5s": 5, "wav_1h": 3600, "mp4_1h": 3600}
_REVISION = 1


def duration_s(kind: str) -> int:
    """Length of a recording of this kind."""
    return _SECONDS[kind]


def unique_files(kind: str, cache: Path) -> list[Path]:
    """The different files of a kind; made where they are not there yet."""
    folder = cache / f"{kind}_{_REVISION}"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(1 if kind.endswith("1h") else UNIQUE):
        path = folder / f"{number:02d}.{kind[:3].strip('_')}"
        if not path.exists():
            part = path.with_name(f"part_{path.name}")
            _write(part, kind, number)
            part.replace(path)
        found.append(path)
    return found


def make_root(kind: str, count: int, cache: Path, root: Path, *, corrupt: int = 0) -> list[Path]:
    """`count` recordings in one class folder under `root`; every `corrupt`-th cut in half."""
    unique = unique_files(kind, cache)
    place = root / kind
    place.mkdir(parents=True)
    found = []
    for number in range(count):
        source = unique[number % len(unique)]
        path = place / f"{number:06d}{source.suffix}"
        if corrupt and number % corrupt == corrupt // 2:
            data = source.read_bytes()
            path.write_bytes(data[: len(data) // 2])
        else:
            os.link(source, path)
        found.append(path)
    return found


def _write(path: Path, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    container_format = "wav" if kind.startswith("wav") else "mp4"
    with av.open(str(path), "w", format=container_format) as container:
        pictures = None
        if kind in ("mp4_5s", "mp4_10s"):
            pictures = container.add_stream("libx264", rate=FRAME_RATE_HZ, options={"crf": "28"})
            pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        mono = kind.startswith("wav")
        layout = "mono" if mono else "stereo"
        codec = "pcm_s16le" if mono else "aac"
        sound = container.add_stream(codec, rate=SAMPLE_RATE_HZ, layout=layout)
        if pictures is not None:
            for picture in _pictures(_SECONDS[kind], rng):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
        for second in range(_SECONDS[kind]):
            samples = _second(second, 1 if mono else 2, rng)
            if mono:
                samples = (samples * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples), format="s16" if mono else "fltp", layout=layout
            )
            frame.sample_rate = SAMPLE_RATE_HZ
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def _second(second: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """One second of gliding tones and noise: (channels, samples) float32."""
    time_s = second + np.arange(SAMPLE_RATE_HZ, dtype=np.float32) / SAMPLE_RATE_HZ
    pitch_hz = rng.uniform(120, 4000, 4)[:, None]
    tones = np.sin(2 * np.pi * pitch_hz * time_s * (1 + 0.05 * np.sin(3 * time_s))).sum(axis=0)
    noise = rng.standard_normal((channels, SAMPLE_RATE_HZ), np.float32)
    return (0.1 * tones[None] + 0.05 * noise).astype(np.float32)


def _pictures(seconds: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) of drifting textures."""
    texture = rng.integers(0, 256, (HEIGHT // 4 + 80, WIDTH // 4 + 80, 3), np.uint8)
    texture = texture.repeat(4, axis=0).repeat(4, axis=1)
    step_y, step_x = rng.integers(1, 4, 2)
    for number in range(seconds * FRAME_RATE_HZ):
        top, left = (number * step_y) % 300, (number * step_x) % 300
        yield texture[top : top + HEIGHT, left : left + WIDTH].copy()

"""A small corpus of real media files to try audioflow on: synthesised, the same for a seed.

    root/<class>/<class>_<number>[_<flaw>].<ext>

Most recordings are videos, in four containers and with four audio codecs; some are sound only, some
videos have no sound track, one is cut off and one is no media at all.
"""

import json
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np

from audioflow.datasets.demo_synthesis import (
    CLASSES,
    FRAME_RATE_HZ,
    HEIGHT,
    WIDTH,
    Floats,
    Pictures,
    make_pictures,
    make_waveform,
)
from audioflow.errors import InputError
from audioflow.storage import is_local, local_path

MARKER = ".audioflow-demo.json"
VERSION = 1
"""Raise it whenever a seed gives other files than before."""
MIN_CLIPS = 24
"""Below this not every container and every flaw would be there beside a good clip per class."""

Flaw = Literal["", "no_sound", "cut_off", "not_media"]


@dataclass(frozen=True)
class Format:
    """A container by its file extension, and FFmpeg's names of its encoders ("" for no stream)."""

    extension: str
    video: str
    audio: str
    sample_rates_hz: tuple[int, ...]


MP4 = Format("mp4", "libx264", "aac", (44_100, 48_000))
# Seven for six classes: no common divisor, so no format belongs to a class. Few are at 16 kHz: what
# is missing above 8 kHz changes every descriptor of a sound more than what made it.
VIDEO_FORMATS = (
    MP4,
    Format("webm", "libvpx-vp9", "libopus", (48_000,)),
    Format("mkv", "libx264", "aac", (22_050, 44_100)),
    Format("mov", "libx264", "aac", (44_100, 48_000)),
    Format("mkv", "libx264", "libopus", (48_000,)),
    MP4,
    Format("mkv", "libx264", "libmp3lame", (44_100, 48_000)),
)
SOUND_FORMATS = (
    Format("wav", "", "pcm_s16le", (16_000, 22_050)),
    Format("flac", "", "flac", (44_100, 48_000)),
    Format("mp3", "", "libmp3lame", (44_100, 48_000)),
    Format("m4a", "", "aac", (16_000, 22_050)),
)
# x264's macroblock tree makes other bytes of the same pictures from one run to the next.
ENCODER_OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "27", "threads": "1", "x264-params": "mbtree=0"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "5", "crf": "36", "b": "0", "threads": "1"},
}


@dataclass(frozen=True)
class PlannedRecording:
    """One file to write. `seed` gives its content independently of all others."""

    label: str
    number: int
    format: Format
    flaw: Flaw
    seed: tuple[int, int]

    @property
    def relative_path(self) -> str:
        """The path below the root, flaw named: a person should find the culprit at a glance."""
        suffix = f"_{self.flaw}" if self.flaw else ""
        return f"{self.label}/{self.label}_{self.number:03d}{suffix}.{self.format.extension}"


def make_corpus(root: str | Path, *, clips: int = 120, seed: int = 0) -> Path:
    """Write the corpus of `clips` recordings below the local folder `root`, which it returns.

    A corpus that is there already, made with the same settings, is left as it is. Raises
    `InputError` when `root` holds anything else or cannot be made, `ValueError` for too few clips.
    """
    if clips < MIN_CLIPS or seed < 0:
        raise ValueError(
            f"clips={clips}, seed={seed}: clips must be at least {MIN_CLIPS}, seed not negative"
        )
    if not is_local(str(root)):
        raise InputError(f"{root}: the demo corpus is written to a local folder only")
    folder = Path(local_path(str(root)))
    settings = {"clips": clips, "seed": seed, "version": VERSION}
    if _is_made(folder, settings):
        return folder
    # Beside the folder itself, also where `root` is a link: a rename stays within one disk.
    target = folder.resolve()
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise _cannot_make(folder, error) from error
    try:
        _write_all(temporary, plan_corpus(clips, seed))
        (temporary / MARKER).write_text(json.dumps(settings))
        _move(temporary, folder, settings)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def plan_corpus(clips: int, seed: int) -> list[PlannedRecording]:
    """What is written, in order: the odd recordings first, dealt out over the classes in turn."""
    return [
        PlannedRecording(CLASSES[number % len(CLASSES)], number, *kind, (seed, number))
        for number, kind in zip(range(clips), _kinds(clips), strict=False)
    ]


def _kinds(clips: int) -> Iterator[tuple[Format, Flaw]]:
    for _ in range(max(2, round(0.05 * clips))):
        yield MP4, "no_sound"
    for number in range(max(len(SOUND_FORMATS), round(0.06 * clips))):
        yield SOUND_FORMATS[number % len(SOUND_FORMATS)], ""
    yield MP4, "cut_off"
    yield MP4, "not_media"
    for number in range(clips):
        yield VIDEO_FORMATS[number % len(VIDEO_FORMATS)], ""


def _is_made(folder: Path, settings: dict[str, int]) -> bool:
    """Whether the corpus is there; raises `InputError` where something else is in its place."""
    if not folder.exists() and not folder.is_symlink():
        return False
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name another folder for the demo corpus")
    try:
        found = json.loads((folder / MARKER).read_text())
    except FileNotFoundError:
        found = None
    except (OSError, ValueError):
        found = "an unreadable marker"
    if found == settings:
        return True
    if found is None and not any(folder.iterdir()):
        return False
    wanted = ", ".join(f"{key} {value}" for key, value in settings.items())
    there = (
        "files that are not a demo corpus" if found is None else f"a demo corpus made with {found}"
    )
    raise InputError(
        f"{folder} holds {there}, wanted was one with {wanted}; "
        "name another folder, or remove this one yourself if nothing in it is needed"
    )


def _move(temporary: Path, folder: Path, settings: dict[str, int]) -> None:
    """Put the finished corpus in place; fine where another process has just done the same."""
    try:
        temporary.replace(folder.resolve())
    except OSError as error:
        if not _is_made(folder, settings):
            raise _cannot_make(folder, error) from error


def _cannot_make(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"{folder} cannot be made: {error.strerror}; name a folder that can be written"
    )


def _write_all(folder: Path, plan: list[PlannedRecording]) -> None:
    for label in CLASSES:
        (folder / label).mkdir()
    # Two threads, not processes: encoders and most of numpy run outside the interpreter lock, and a
    # fork beside another library's threads may hang.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for _ in pool.map(lambda recording: _write(folder, recording), plan):
            pass


def _write(folder: Path, recording: PlannedRecording) -> None:
    path = folder / recording.relative_path
    if recording.flaw == "not_media":
        path.write_text("Notes on the recordings, saved under the wrong name.\n" * 20)
        return
    general, for_sound, for_pictures = (
        np.random.default_rng([*recording.seed, stream]) for stream in range(3)
    )
    # The one to be cut off is longer: half of it should still hold something to listen to.
    duration_s = 3.0 if recording.flaw == "cut_off" else float(general.uniform(1.8, 2.4))
    sample_rate_hz = int(general.choice(recording.format.sample_rates_hz))
    channels = int(general.integers(1, 3))
    pictures = sound = None
    if recording.format.video:
        pictures = make_pictures(recording.label, duration_s, for_pictures)
    if recording.flaw != "no_sound":
        waveform = make_waveform(recording.label, duration_s, sample_rate_hz, for_sound)
        sound = _spread(waveform, channels, for_sound)
    _encode(path, recording.format, pictures, sound, sample_rate_hz)
    if recording.flaw == "cut_off":
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])


def _spread(waveform: Floats, channels: int, rng: np.random.Generator) -> Floats:
    """The waveform (samples,) as (channels, samples), a second one a little weaker."""
    # No delay between the two: mixed down, it would be a comb filter that drowns all differences.
    gains = np.array([1.0, rng.uniform(0.6, 0.9)], np.float32)[:channels]
    return gains[:, None] * waveform


def _encode(
    path: Path, kind: Format, pictures: Pictures | None, sound: Floats | None, sample_rate_hz: int
) -> None:
    """Write pictures (frames, H, W, 3) and sound (channels, samples) into one container."""
    # bitexact: no random identifiers and no date; faststart: a file that is cut off can be opened.
    options = {"fflags": "+bitexact"}
    if kind.extension in ("mp4", "mov"):
        options["movflags"] = "faststart"
    with av.open(str(path), "w", options=options) as container:
        # Every stream is there before the first packet: the header is written with that.
        streams: list[tuple[Any, list[Any]]] = []
        if pictures is not None:
            streams.append((_add_video(container, kind.video), _video_frames(pictures)))
        if sound is not None:
            frame = _audio_frame(sound, sample_rate_hz)
            stream = container.add_stream(kind.audio, rate=sample_rate_hz, layout=frame.layout)
            streams.append((stream, [frame]))
        for stream, frames in streams:
            for frame in [*frames, None]:
                container.mux(stream.encode(frame))


def _add_video(container: Any, encoder: str) -> Any:
    stream = container.add_stream(encoder, rate=FRAME_RATE_HZ, options=ENCODER_OPTIONS[encoder])
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    return stream


def _video_frames(pictures: Pictures) -> list[Any]:
    return [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures]


def _audio_frame(sound: Floats, sample_rate_hz: int) -> Any:
    layout = "mono" if len(sound) == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout=layout)
    frame.sample_rate = sample_rate_hz
    return frame

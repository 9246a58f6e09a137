"""Small data sets in the layouts of their publishers, with real media: for tests of the recipes.

Unlike `tests/trees.py`, whose files hold a byte or two, these can be decoded, and every class has a
sound of its own, so that what is learnt from them can be told from what is not.

Shapes: C channels, N samples (float, full scale 1).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.media_files import numbered_frames, write_media, write_wav

GENRES = (
    *("blues", "classical", "country", "disco", "hiphop"),
    *("jazz", "metal", "pop", "reggae", "rock"),
)
"""The classes of GTZAN, in the order of their numbers."""
EVENTS = (
    *("blowing_out_candles", "dribbling_basketball", "flipping_pancake", "getting_a_haircut"),
    *("hitting_baseball", "home_roasting_coffee", "motorcycling", "mowing_lawn", "playing_drums"),
    *("playing_guitar", "playing_piano", "shoveling_snow", "singing", "tapping_pen", "tickling"),
)
"""The classes of the course 11-775, in the order of their numbers."""
_STATISTICS = (
    *("chroma_stft", "rms", "spectral_centroid", "spectral_bandwidth", "rolloff"),
    *("zero_crossing_rate", "harmony", "perceptr"),
)
KAGGLE_COLUMNS = (
    "length",
    *(f"{name}_{kind}" for name in _STATISTICS for kind in ("mean", "var")),
    "tempo",
    *(f"mfcc{number}_{kind}" for number in range(1, 21) for kind in ("mean", "var")),
)
"""The 58 columns of numbers of `features_30_sec.csv`, between `filename` and `label`."""
_CODECS = {".mp3": "libmp3lame", ".m4a": "aac", ".flac": "flac", ".ogg": "libopus"}


def class_sound(label_number: int, seconds: float, rate: int, take: int = 0) -> NDArray[np.float64]:
    """A sound (1, N) of a class: a tone with a pitch and a beat of its own, and hiss behind it.

    Takes of a class differ in pitch by up to a semitone, in phase, level and hiss.
    """
    rng = np.random.default_rng([label_number, take])
    t_s = np.arange(round(seconds * rate)) / rate
    pitch_hz = 130 * 2 ** (label_number / 3 + rng.uniform(-1, 1) / 12)
    partials = 1 + label_number % 3
    tone = sum(np.sin(2 * np.pi * n * pitch_hz * t_s + rng.uniform(0, 6)) for n in (1, partials))
    beat_hz = 1 + label_number % 5
    beat = 0.55 + 0.45 * np.sin(2 * np.pi * beat_hz * t_s + rng.uniform(0, 6))
    mixture = rng.uniform(0.1, 0.25) * beat * tone + 0.02 * rng.standard_normal(len(t_s))
    return np.clip(mixture, -1, 1)[None]


def write_sound(
    path: Path, label_number: int, seconds: float = 2.0, rate: int = 22_050, take: int = 0
) -> Path:
    """A recording of a class, in the form that the path's ending names; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sound_CN = class_sound(label_number, seconds, rate, take)
    if path.suffix == ".wav":
        return write_wav(path, sound_CN, rate)
    return write_media(path, sound_CN=sound_CN, audio=_CODECS[path.suffix], rate=rate)


def write_video(
    path: Path,
    label_number: int,
    seconds: float = 2.0,
    rate: int = 22_050,
    take: int = 0,
    *,
    silent: bool = False,
) -> Path:
    """A video of a class; a silent one has no sound track at all. Folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sound_CN = None if silent else class_sound(label_number, seconds, rate, take)
    frames = numbered_frames(max(1, round(5 * seconds)))
    return write_media(path, sound_CN=sound_CN, frames=frames, rate=rate, fps=5)


def write_lines(path: Path, *rows: str) -> Path:
    """A text file of these lines; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def gtzan(
    root: Path,
    *,
    genres: Sequence[str] = GENRES,
    counts: tuple[int, int, int] = (2, 1, 1),
    seconds: float = 2.0,
    corrupt: str | None = None,
) -> Path:
    """`genres/<genre>/<genre>.NNNNN.wav` and the three filtered lists, with `counts` clips of each
    genre for train, valid and test.

    corrupt: a further clip of a genre, such as `jazz.00054`, for train, whose file is no sound.
    """
    listed: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    parts = [part for part, count in zip(listed, counts, strict=True) for _ in range(count)]
    for genre in genres:
        for take, part in enumerate(parts):
            name = f"{genre}/{genre}.{take:05d}.wav"
            write_sound(root / "genres" / name, GENRES.index(genre), seconds, take=take)
            listed[part].append(name)
    if corrupt:
        name = f"{corrupt.partition('.')[0]}/{corrupt}.wav"
        (root / "genres" / name).write_bytes(np.random.default_rng(54).bytes(100_000))
        listed["train"].append(name)
    for part, names in listed.items():
        write_lines(root / f"{part}_filtered.txt", *names)
    return root


def kaggle_features(path: Path, clips: Sequence[str]) -> NDArray[np.float64]:
    """The table of Kaggle for clips such as `blues/blues.00000`, as it is downloaded: with a
    byte-order mark, `;`, names of files, labels last. The numbers (clips x 58) are drawn."""
    shape = (len(clips), len(KAGGLE_COLUMNS))
    rows = np.random.default_rng(0).normal(scale=100, size=shape).round(6)
    lines = [";".join(["filename", *KAGGLE_COLUMNS, "label"])]
    for clip, row in zip(clips, rows, strict=True):
        genre, name = clip.split("/")
        lines.append(";".join([f"{name}.wav", *map(str, row.tolist()), genre]))
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")
    return rows


def cmu11775(
    root: Path,
    *,
    classes: int = 3,
    learnt: int = 4,
    tested: int = 3,
    seconds: float = 2.0,
    silent: int = 0,
) -> Path:
    """`videos/<id>.mp4` and the three lists of the course; test ids are not in order.

    learnt: labelled videos of each class. silent: how many further test videos have no sound track.
    """
    write_lines(
        root / "labels" / "cls_map.csv",
        "Label,Category",
        *(f"{name},{number}" for number, name in enumerate(EVENTS)),
    )
    rows = ["Id,Category"]
    for take in range(learnt):
        for number in range(classes):
            name = f"LOD{take}{number:02d}MTk="
            write_video(root / "videos" / f"{name}.mp4", number, seconds, take=take)
            rows.append(f"{name},{number}")
    write_lines(root / "labels" / "train_val.csv", *rows)
    rows = ["Id,Category"]
    for take in reversed(range(tested + silent)):
        name = f"HW0{take:03d}NzY="
        video = root / "videos" / f"{name}.mp4"
        write_video(video, take % classes, seconds, take=100 + take, silent=take >= tested)
        rows.append(f"{name},")
    write_lines(root / "labels" / "test_for_students.csv", *rows)
    return root

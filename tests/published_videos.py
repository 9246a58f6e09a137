"""Kinetics in the layout of its publisher with real videos, and scores of a video network."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.published import write_lines, write_video

ACTIONS = (
    *("abseiling", "acting in play", "juggling balls", "person's head", "playing chess"),
    "playing harp",
)
"""Some classes of Kinetics-600 (one shortened), with a blank and an apostrophe among them."""
_IDS = ("-0{:03d}abcdefg", "_{:03d}ABCDEFG", "0{:03d}WZT-miF_")
"""How ids on YouTube look; some begin with what a command line takes for an option."""


@dataclass(frozen=True)
class Kinetics:
    """root: with train/ and val/. scores, ids, classes: of the video network; a row of `scores`
    stands in the order of `ids`, which is not that of the folders."""

    root: Path
    scores: Path
    ids: Path
    classes: Path
    silent: tuple[str, ...]


def kinetics(
    root: Path, *, learnt: int = 3, validated: int = 4, silent: int = 2, seconds: float = 2.0
) -> Kinetics:
    """`{train,val}/<class>/v_<id>_<start>_<end>.mp4`; of each class so many videos.

    silent: how many videos of val/ have no sound track.
    """
    mute, rows = [], []
    for split, count in (("train", learnt), ("val", validated)):
        for number, (label, name, take) in enumerate(_videos(split, count)):
            path = root / split / ACTIONS[label] / f"{name}.mp4"
            quiet = split == "val" and number < silent
            write_video(path, label, seconds, take=take, silent=quiet)
            if split == "val":
                rows.append((name, label))
                mute += [name] if quiet else []
    return Kinetics(root, *_scored(root, rows), tuple(mute))


def _videos(split: str, count: int) -> Iterator[tuple[int, str, int]]:
    """Class, name and number of every video of a split."""
    first = 0 if split == "train" else 500
    for take in range(count):
        for label in range(len(ACTIONS)):
            number = first + take * len(ACTIONS) + label
            video = _IDS[number % len(_IDS)].format(number)
            yield label, f"v_{video}_000003_000013", first + take


def _scored(root: Path, rows: list[tuple[str, int]]) -> tuple[Path, Path, Path]:
    """Logits (N, 1, C) of a network that is mostly right, its list with paths of Windows, and the
    list of classes with `_` for blanks."""
    rng = np.random.default_rng(600)
    order = rng.permutation(len(rows))
    labels = np.array([rows[place][1] for place in order])
    logits_NC = rng.normal(0, 1.5, (len(rows), len(ACTIONS)))
    logits_NC[np.arange(len(rows)), labels] += 2.0
    scores = root / "video_output.npy"
    np.save(scores, logits_NC[:, None].astype(np.float32))
    listed = (
        f"E:\\K600\\val\\{ACTIONS[rows[place][1]].replace(' ', '_')}\\{rows[place][0]}.mp4"
        for place in order
    )
    ids = write_lines(root / "K600_video_file.txt", *listed)
    names = (f"{number}\t{name.replace(' ', '_')}" for number, name in enumerate(ACTIONS))
    return scores, ids, write_lines(root / "kinetics_600_label_list.txt", *names)

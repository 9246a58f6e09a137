"""A report in a real headless Chromium: where it is found, what is shown, what must not happen."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audioflow.report import ClipRow, ClipTable, FailureRow
from audioflow.report.excerpts import SAMPLE_RATE_HZ, Excerpt, encoded_picture, encoded_sound
from audioflow.report.figures import compute
from audioflow.report.players import clips_to_play
from tests.unit.report_pages import (
    build_text,
    fuse,
    load,
    make_data,
    make_system,
    make_training,
    val_class,
)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
QUIET = [
    "--no-sandbox",  # Chromium refuses to start as root with it
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CLASSES = tuple(f"class {letter}{number}" for letter in "abcde" for number in range(8))
WIDE, PHONE = (1280, 900), (390, 844)


@dataclass(frozen=True)
class Built:
    """A report on disk, and the content of its report.json."""

    url: str
    json: dict[str, Any]
    played: list[str]


def failures() -> tuple[FailureRow, ...]:
    kinds = (("truncated", "it ends early"), ("no_audio", "there is no sound"))
    return tuple(
        FailureRow(
            "embeddings/acoustic", f"bad{i}", f"/media/{i}.wav", "decode", *kinds[i % 3 == 0]
        )
        for i in range(30)
    )


def excerpt(number: int) -> Excerpt:
    times = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    sound, kind = encoded_sound((9000 * np.sin(2500 * (number + 1) * times)).astype(np.int16))
    picture = encoded_picture(np.full((96, 128, 3), 20 * number, np.uint8))
    return Excerpt(sound, kind, 1.0, picture)


def build_report(folder: Path) -> Built:
    """Three systems of forty classes: more than fit a matrix with a number in every cell."""
    classes = tuple(val_class(name, 3, n / 40) for n, name in enumerate(CLASSES))
    training = replace(make_training(), classes=classes)
    audio = make_system("audio", classes=CLASSES, num_clips=400, strength=2.0, training=(training,))
    video = make_system("video", classes=CLASSES, num_clips=400, strength=2.5, seed=1)
    row = ClipRow({"clip00000": "/media/0.wav", "clip00001": "/media/1.wav"}, ("same file", 0.5))
    table = ClipTable("leaks", "Leaks", "", ("why", "distance"), (row,), 1, frozenset({"distance"}))
    data = make_data(
        audio,
        video,
        fuse(audio, video),
        failures=failures(),
        num_failures=30,
        failure_counts={"embeddings/acoustic": {"truncated": 20, "no_audio": 10}},
        clip_tables=(table,),
    )
    played = clips_to_play(data, compute(data, "test", 2), 8)
    excerpts = {clip_id: excerpt(number) for number, clip_id in enumerate(played)}
    files = build_text(data, num_bootstrap=20, excerpts=excerpts)
    place = folder / "index.html"
    place.write_bytes(files["index.html"])
    return Built(place.as_uri(), load(files), played)


@contextmanager
def shown(browser: Any, url: str, size: tuple[int, int], **more: Any) -> Iterator[Any]:
    """The report in a window of a size; at the end nothing may have gone wrong in it."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **more)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    yield page
    context.close()
    assert said == []
    assert {asked_url for asked_url in asked if not asked_url.startswith("data:")} == {url}


def canvas_colours(page: Any) -> int:
    """How many different colours the map has."""
    script = """() => {
        const canvas = document.querySelector("canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(data.buffer)).size;
    }"""
    return int(page.evaluate(script))


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG defines it."""
    parts = np.array([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]])
    linear = np.where(parts <= 10, parts / 255 / 12.92, ((parts / 255 + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))

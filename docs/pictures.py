"""The pictures of the README and of the pages, from a run of the demo and what explains it.

    audioflow explain runs/demo --system audio --method shap --worst 5 --split test
    .venv/bin/python -m docs.pictures runs/demo

It needs Chromium and Playwright (a development tool). Where the report names files of the machine
it was made on, their names are kept and their folders left out.
"""

import io
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

IMAGES = Path(__file__).with_name("images")
EXPLAINED = Path("explanations") / "audio-shap" / "summary.png"
WIDTH = 1100
"""Of the page in pixels: three panels side by side, and readable as narrow as GitHub shows it."""

_CLEAN = """
    nav { display: none !important }
    body { padding: 0 !important }
    section { content-visibility: visible !important }
    td small, .clip-name small { display: none }
    .num small { display: block !important }
"""
"""No menu over the parts, everything laid out at once, and no folders of this machine."""


@dataclass(frozen=True)
class Picture:
    """A part of the page: from the top of `first` to the bottom of `last`, both CSS selectors.

    margin: how far below it the picture goes, in pixels.
    """

    name: str
    first: str
    last: str
    margin: int = 16


PICTURES = (
    Picture("summary", "header > :first-child", ".tiles"),
    Picture("fusion", "#fusion h2", "#fusion .panels figure:nth-child(2)"),
    Picture("clips", "#clips h2", "#clips table.clips tbody tr:nth-child(4)", margin=0),
    Picture("confusion", "#confusion h2", "#confusion .panel"),
    Picture("curves", "#curves h2", "#curves .panels figure:nth-child(4)"),
    Picture("run", "#stages h2", "#stages .timeline"),
)


def main() -> None:
    """Write every picture anew."""
    (run_dir,) = sys.argv[1:]
    run = Path(run_dir).resolve()
    pictures = taken(run / "report" / "index.html") | {"explain": (run / EXPLAINED).read_bytes()}
    IMAGES.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        (IMAGES / f"{name}.png").write_bytes(small(picture))


def taken(report: Path) -> dict[str, bytes]:
    """Name -> PNG of every picture."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto(report.as_uri())
        page.add_style_tag(content=_CLEAN)
        page.wait_for_timeout(500)
        found = {picture.name: _taken(page, picture) for picture in PICTURES}
        browser.close()
    return found


def _taken(page: Any, picture: Picture) -> bytes:
    first = page.locator(picture.first).first.bounding_box()
    ends = page.locator(picture.last)
    if not ends.count():  # a report without this part: all that the heading stands over
        ends = page.locator(picture.first).locator("xpath=..")
    last = ends.first.bounding_box()
    top = page.evaluate("window.scrollY")
    begin = max(0, first["y"] + top - 16)
    height = last["y"] + top + last["height"] + picture.margin - begin
    clip = {"x": 0, "y": begin, "width": WIDTH, "height": height}
    shot: bytes = page.screenshot(full_page=True, clip=clip)
    return shot


def small(png: bytes) -> bytes:
    """The same picture in 256 colours, chosen so that rare ones, as of small marks, are kept."""
    written = io.BytesIO()
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    image.save(written, "PNG", optimize=True)
    return written.getvalue()


if __name__ == "__main__":
    main()

"""The pictures of the pages can be taken anew: docs/pictures.py finds its parts of a report.

Skipped where there is no Chromium (`apt-get install chromium`) or no Playwright.
"""

import io
from pathlib import Path

import pytest
from PIL import Image

from docs.pictures import IMAGES, PICTURES, WIDTH, small, taken
from tests.unit.report_browser import CHROMIUM, build_report

pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


def test_every_picture_is_taken_of_a_report_and_stays_small(tmp_path: Path) -> None:
    built = build_report(tmp_path)
    found = taken(Path(built.url.removeprefix("file://")))
    assert list(found) == [picture.name for picture in PICTURES]
    assert {f"{name}.png" for name in found} < {path.name for path in IMAGES.iterdir()}
    for name, png in found.items():
        width, height = Image.open(io.BytesIO(png)).size
        assert width == WIDTH, name
        assert height > 100, name
        assert len(small(png)) < len(png), name

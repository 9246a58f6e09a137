"""The driver plans and resumes in few bytes per clip, read in processes of their own."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 150
"""Per clip, beside the manifest. It is 110; with all clip keys as text 175, with all work made at
once 230."""
MOST_OF_ALL = 400
"""Per clip, of a whole job, its manifest included, and of `verify`."""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def test_clips_are_planned_and_resumed_in_few_bytes_each() -> None:
    command = [sys.executable, "-m", "tests.unit.planned_memory", "300000"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    found = json.loads(done.stdout)
    assert 0 < found["fresh"] < MOST_BYTES
    assert 0 < found["resumed"] < MOST_BYTES


@pytest.mark.slow
def test_ten_million_clips_are_embedded_resumed_and_verified_in_bounded_memory() -> None:
    command = [sys.executable, "benchmarks/scale.py", "--clips", "10000000", "--kill"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    rows = re.findall(r"^\| ([a-z ]+) \|.* ([\d,]+) \| ([\d,]+) \|$", done.stdout, re.MULTILINE)
    per_clip = {name: int(found.replace(",", "")) for name, found, _ in rows if name != "manifest"}
    assert set(per_clip) == {"embed", "resume", "nothing left", "verify"}
    assert max(per_clip.values()) < MOST_OF_ALL

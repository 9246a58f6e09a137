"""Freed memory is kept for the next batch: counted in page faults, which no other load changes."""

import subprocess
import sys

import pytest

CHURN = """
import resource, sys
import torch
from audioflow.media.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for size in [10_000_000, 40_000_000] + 8 * [20_000_000]:
    torch.ones(size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(20_000_000)  # 80 MB: more than the C library ever keeps by itself
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", CHURN, way], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of the GNU C library")
def test_a_block_that_was_freed_is_used_again_without_asking_the_system():
    assert faults("keep") < 50_000 < 150_000 < faults("leave")

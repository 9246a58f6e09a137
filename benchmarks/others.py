"""Cases of their own: many clips, damaged files, scoring and searching embeddings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import corpus
import pipeline

CACHE = pipeline.ROOT / "data" / "bench" / "media"
_ACOUSTIC = {"backbones": {"acoustic": {}}}


def scale(folder: Path) -> dict[str, Any]:
    """Ten times the clips: the steady rate and the memory stay."""
    found = {}
    for count in (1000, 10_000):
        place = folder / str(count)
        corpus.make_root("mp4_5s", count, CACHE, place / "media")
        manifest = {"reader": "folder", "root": str(place / "media")}
        found[count] = pipeline.embed(place, manifest, _ACOUSTIC, 2)
    few, many = found.values()
    lines = [
        (f"{count} clips", f"{one.steady:.0f}x real time, {one.peak_gb:.2f} GB at most")
        for count, one in found.items()
    ]
    return {
        "lines": [*lines, ("rate of many / of few", f"{many.steady / few.steady:.3f}")],
        "rate_ratio": round(many.steady / few.steady, 3),
        "memory_ratio": round(many.peak_gb / few.peak_gb, 3),
    }


def corrupt(folder: Path) -> dict[str, Any]:
    """One file in a hundred cut in half, three pairs of runs in turn."""
    rates: dict[str, list[float]] = {"clean": [], "1 % cut in half": []}
    failures = 0
    for name, every in (("clean", 0), ("1 % cut in half", 100)):
        corpus.make_root("mp4_5s", 2000, CACHE, folder / name / "media", corrupt=every)
    for turn in range(3):
        for name, found in rates.items():
            place = folder / name
            manifest = {"reader": "folder", "root": str(place / "media")}
            outcome = pipeline.embed(place, manifest, _ACOUSTIC, 2, fresh=True)
            found.append(outcome.media_s / outcome.seconds)
            failures = outcome.failures
            print(f"  {turn} {name}: {found[-1]:.0f}x", flush=True)
    medians = {name: sorted(found)[1] for name, found in rates.items()}
    share = medians["1 % cut in half"] / (0.99 * medians["clean"])
    lines = [(name, f"{rate:.0f}x real time") for name, rate in medians.items()]
    return {
        "lines": [
            *lines,
            ("failures", str(failures)),
            ("rate of good media / of the clean run", f"{share:.3f}"),
        ],
        "share": round(share, 3),
    }


def score(folder: Path) -> dict[str, Any]:
    """Clips per second and core, a linear head on tables of 10 x 128."""
    import scoring

    return scoring.measure(folder)


def search(folder: Path) -> dict[str, Any]:
    """Seconds of one search among a million clips of 128 numbers."""
    from search import measure

    return measure(folder)


MEASURES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "scale": scale,
    "corrupt": corrupt,
    "score": score,
    "search": search,
}

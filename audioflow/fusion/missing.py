"""Clips that some of the systems did not score: what is said of them."""

from collections.abc import Mapping, Sequence

from audioflow.errors import TableError

SHOWN = 5


def missing_reason(systems: Sequence[str], available: Sequence[bool]) -> str:
    """Why the policy `drop` drops a clip."""
    lacking = [name for name, there in zip(systems, available, strict=True) if not there]
    return f"no scores of {' and '.join(lacking)}; fuse.missing: drop leaves such clips out"


def missing_error(first: Sequence[tuple[str, Sequence[str]]], count: int, total: int) -> TableError:
    """What the policy `fail` raises. first: some of the clips, with the systems that lack them."""
    shown = [f"{clip_id!r} (no {', '.join(lacking)})" for clip_id, lacking in first[:SHOWN]]
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return TableError(
        f"{count} of {total} clips have not been scored by all systems: {', '.join(shown)}{more}; "
        "fuse.missing: fallback lets the other systems decide, drop leaves such clips out"
    )


def no_fit_clips(fit_split: str, splits: Mapping[str, int]) -> TableError:
    """What is raised where nothing is there to fit on. splits: how many clips each split has."""
    counts = ", ".join(f"{split} ({count})" for split, count in sorted(splits.items()))
    return TableError(
        f"no clip is in split {fit_split!r}, on which the fusion is fitted; there are "
        f"{counts or 'no clip'}: score that split (score.splits), fit on another (fit_split), or "
        "give weights with calibrate: none"
    )

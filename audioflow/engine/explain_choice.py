"""Which clips are explained: named ones, or the best and the worst of a score table."""

import heapq
from collections.abc import Iterator

import numpy as np

from audioflow.engine.explain_system import ClipRow, SystemOfRun
from audioflow.errors import InputError
from audioflow.scores import score_matrix
from audioflow.tables import Table

WITHOUT_NUMBER = 5
"""Clips of a class that are explained where no number is given."""


def chosen(
    system: SystemOfRun,
    clips: list[str],
    best: int,
    worst: int,
    label: str | None,
    split: str | None,
) -> list[ClipRow]:
    """The clips that were named, or the `best` or `worst` scored ones (of a class).

    The best clips are those whose label has the highest score, the worst those whose label has the
    lowest. Raises `InputError` where it is not said which, or there is none.
    """
    given = {"--clip": bool(clips), "--best": bool(best), "--worst": bool(worst)}
    named = [name for name, there in given.items() if there]
    if len(named) > 1:
        raise InputError(f"give one of --clip, --best and --worst; got {', '.join(named)}")
    if clips:
        return system.clips(list(dict.fromkeys(clips)))
    if not named and label is None:
        raise InputError("say which clips to explain: --clip, --best, --worst or --class")
    count = best or worst or WITHOUT_NUMBER
    sign = -1.0 if worst else 1.0
    scored = ((sign * score, clip_id) for clip_id, score in _scored(system, label, split))
    ids = [clip_id for _, clip_id in heapq.nlargest(count, scored)]
    if not ids:
        of = f" of the class {label!r}" if label else " with a label"
        raise InputError(
            f"scores/{system.name} has no clip{of}{f' in the split {split!r}' if split else ''}"
        )
    return system.clips(ids)


def _scored(
    system: SystemOfRun, label: str | None, split: str | None
) -> Iterator[tuple[str, float]]:
    """Clips, and the score of their label (the highest of several); with `label` its clips."""
    table = Table(system.folder / "scores" / system.name)
    place = {name: number for number, name in enumerate(table.complete_header().classes)}
    if label is not None and label not in place:
        raise InputError(f"scores/{system.name} has no class {label!r}; it has {', '.join(place)}")
    for _, rows in table.shards(["clip_id", "labels", "split", "scores"]):
        scores_NC = score_matrix(rows)
        columns = zip(
            rows["clip_id"].to_pylist(),
            rows["labels"].to_pylist(),
            rows["split"].to_pylist(),
            scores_NC,
            strict=True,
        )
        for clip_id, labels, mine, scores_C in columns:
            known = [place[one] for one in labels if one in place]
            if not known or (split is not None and mine != split):
                continue
            if label is None:
                yield clip_id, float(np.max(scores_C[known]))
            elif label in labels:
                yield clip_id, float(scores_C[place[label]])

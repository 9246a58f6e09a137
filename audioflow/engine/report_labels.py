"""Probable label errors as the report lists them: a table of the page, and cells of a CSV file."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from audioflow.checks import Heard, Suspect, Suspects
from audioflow.engine.report_tables import shown_uri
from audioflow.report import ClipRow, ClipTable, SystemScores
from audioflow.report.formats import join_words, percent_sign, plural
from audioflow.texts import Codes, some_of

LABELS = "label_suspects.csv"
COLUMNS = "clip_id uri split label more_likely margin systems doubted judged decision".split()
MOST_SHOWN = 200
"""Rows of a table of the page; the CSV file beside it has all."""


def heard_by(systems: Sequence[SystemScores]) -> list[Heard]:
    """The scores of clips that systems had not learnt; fused ones only where there are no others,
    as they say again what their parts say."""
    own = [one for one in systems if one.kind != "fused"] or systems
    return [heard for one in own if (heard := _of_system(one, ("val", "test"))) is not None]


def heard_tested(systems: Sequence[SystemScores]) -> list[Heard]:
    found = (_of_system(one, ("test",)) for one in systems if one.label_sets is None)
    return [heard for heard in found if heard is not None]


def _of_system(system: SystemScores, splits: Sequence[str]) -> Heard | None:
    index = {name: place for place, name in enumerate(system.classes)}
    held_out = Codes.of(system.splits).each(lambda split: split in splits, np.bool_)
    if system.label_sets is None:
        targets = Codes.of(system.labels).each(lambda label: index.get(label, -1), np.intp)
        keep = np.flatnonzero(held_out & (targets >= 0))
    else:
        targets = np.zeros((len(system.labels), len(index)), np.bool_)
        for row, labels in enumerate(system.label_sets):
            targets[row, [index[name] for name in labels if name in index]] = True
        keep = np.flatnonzero(held_out)
    if not len(keep):
        return None
    if len(keep) == len(targets):
        return Heard(system.name, system.clip_ids, system.classes, system.scores, targets)
    ids = some_of(system.clip_ids, keep)
    return Heard(system.name, ids, system.classes, system.scores[keep], targets[keep])


def label_table(doubted: Suspects, uris: Mapping[str, str]) -> ClipTable:
    rows = [
        ClipRow(
            {one.clip_id: shown_uri(uris[one.clip_id])},
            (one.label, one.better, one.margin, _doubted_by(one)),
        )
        for one in doubted.rows[:MOST_SHOWN]
    ]
    lead = (
        "Labels that the scores of clips which were not learnt speak against (confident learning): "
        "listen, and mend the label or let it stand. A label comes first where more systems doubt "
        f"it, then where they are surer. All of them are in {LABELS}."
    )
    if not np.isnan(doubted.share):
        lead += (
            f" By these scores up to {percent_sign(doubted.share)} of the labels of "
            f"{plural(doubted.num_clips, 'clip')} are wrong."
        )
    return ClipTable(
        id="labels",
        title="Labels to check",
        lead=lead,
        columns=("label", "more likely", "margin", "doubted by"),
        rows=tuple(rows),
        num_rows=len(doubted.rows),
        numeric=frozenset({"margin"}),
    )


def _doubted_by(one: Suspect) -> str:
    return f"{len(one.systems)} of {one.judged}: {join_words(list(one.systems))}"


def label_cells(
    doubted: Suspects, uris: Mapping[str, str], splits: Mapping[str, str]
) -> Iterator[Sequence[object]]:
    for one in doubted.rows:
        place = (one.clip_id, shown_uri(uris[one.clip_id]), splits[one.clip_id])
        said = (one.label or "", one.better or "", f"{one.margin:.4f}", " ".join(one.systems))
        yield [*place, *said, len(one.systems), one.judged, ""]

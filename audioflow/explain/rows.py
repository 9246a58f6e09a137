"""The tables of explanations: what is in `explanations/<system>-<method>/`.

Shapes: T frames of a clip, M bands, W columns of a clip's vector.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.explain.concepts import ConceptResult

KIND = "explanations"
INDEX = "index.json"

CLIP_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("class", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("fold", pa.string()),
        pa.field("logit", pa.float64(), nullable=False),
        pa.field("baseline_logit", pa.float64()),
        pa.field("delta", pa.float64()),
        pa.field("steps", pa.int32()),
        pa.field("attributions", pa.list_(pa.float32()), nullable=False),
        pa.field("shape", pa.list_(pa.int32()), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("hop_s", pa.float64()),
        pa.field("bands_hz", pa.list_(pa.float64()), nullable=False),
        pa.field("columns", pa.list_(pa.string()), nullable=False),
        pa.field("values", pa.list_(pa.float32()), nullable=False),
    ]
)
"""One row per clip and class; see `ClipExplanation`."""

CONCEPT_SCHEMA = pa.schema(
    [
        pa.field("concept", pa.string(), nullable=False),
        pa.field("class", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("score_random", pa.float64(), nullable=False),
        pa.field("p_value", pa.float64(), nullable=False),
        pa.field("effect", pa.float64(), nullable=False),
        pa.field("accuracy", pa.float64(), nullable=False),
        pa.field("accuracy_random", pa.float64(), nullable=False),
        pa.field("accuracy_p", pa.float64(), nullable=False),
        pa.field("meaningful", pa.bool_(), nullable=False),
        pa.field("significant", pa.bool_(), nullable=False),
        pa.field("examples", pa.int32(), nullable=False),
        pa.field("runs", pa.int32(), nullable=False),
    ]
)
"""One row per concept and class; see `ConceptResult`."""


@dataclass(frozen=True)
class ClipExplanation:
    """Where the logit of a class comes from in one clip.

    attributions: float32, (T, M), (T,) of time alone, or (W,) of columns. fold: whose head it is
    about; None for the only one, or the mean of all. baseline_logit: of silence, or of the mean of
    the background. delta: by how much the attributions miss the difference of the two logits; None
    where they need not add up to it. start_s, hop_s: the middle of the first frame (or the begin of
    the first span) and their distance, seconds from the start of the clip. bands_hz: (M,).
    columns, values: (W,) names of the columns and what the clip has there.
    """

    clip_id: str
    label: str
    method: str
    labels: Sequence[str]
    fold: str | None
    logit: float
    attributions: NDArray[np.float32]
    baseline_logit: float | None = None
    delta: float | None = None
    steps: int | None = None
    start_s: float | None = None
    hop_s: float | None = None
    bands_hz: Sequence[float] = ()
    columns: Sequence[str] = ()
    values: Sequence[float] = ()


def clip_rows(found: Sequence[ClipExplanation]) -> pa.Table:
    """Rows of `CLIP_SCHEMA`; attributions are flattened row by row, `shape` says of what."""
    rows = []
    for one in found:
        row = vars(one) | {"class": one.label, "shape": list(one.attributions.shape)}
        row["attributions"] = one.attributions.ravel()
        rows.append({name: row[name] for name in CLIP_SCHEMA.names})
    return pa.Table.from_pylist(rows, schema=CLIP_SCHEMA)


def concept_rows(found: Sequence[ConceptResult]) -> pa.Table:
    """Rows of `CONCEPT_SCHEMA`."""
    rows = [asdict(one) | {"class": one.label} for one in found]
    return pa.Table.from_pylist(rows, schema=CONCEPT_SCHEMA)


@dataclass(frozen=True)
class Picture:
    """A PNG beside the table, and what it shows."""

    file: str
    caption: str
    data: bytes = field(repr=False)
    clip_id: str | None = None
    label: str | None = None

    def entry(self) -> dict[str, str]:
        """As it stands in `index.json`."""
        found = {"file": self.file, "caption": self.caption}
        found |= {"clip_id": self.clip_id} if self.clip_id is not None else {}
        return found | ({"class": self.label} if self.label is not None else {})

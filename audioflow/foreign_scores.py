"""What other programs call scores -> ours: kinds of values recognised, classes matched by name.

Shapes: N rows, B rows of a block, K columns of the file, C classes of the score table.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audioflow.errors import InputError
from audioflow.registry import nearest

Kind = Literal["logits", "probabilities", "log_probabilities"]
Wanted = Literal["auto", "logits", "probabilities", "log_probabilities"]

BLOCK_BYTES = 32 * 2**20
"""Values (as float32) that are looked at, or turned into scores, at a time."""

_SUM_TOLERANCE = 0.02
"""How far from 1 a row of rounded probabilities may add up to."""
_RANGE_TOLERANCE = 1e-3
_SHOWN = 5

NO_VALUES = "it holds NaN, infinity or nothing"
ZEROS = "it holds zeros alone, as rows do that were never filled (see zero_rows)"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Survey:
    """What the usable rows of a matrix hold: the least and largest value, the same of the rows'
    sums, and of the sums of their exponentials where no value is above 0."""

    rows: int
    low: float
    high: float
    sums: tuple[float, float]
    exp_sums: tuple[float, float]

    @property
    def is_probabilities(self) -> bool:
        """Whether no value is outside of 0 to 1."""
        return self.low >= -_RANGE_TOLERANCE and self.high <= 1 + _RANGE_TOLERANCE

    @property
    def is_log(self) -> bool:
        """Whether no value is above 0."""
        return self.high <= _RANGE_TOLERANCE


def survey(values_NK: NDArray[Any]) -> Survey:
    """Look at every value once, in bounded memory; rows of zeros and of no numbers are left out."""
    low, high, rows = np.inf, -np.inf, 0
    sums, exp_sums = (np.inf, -np.inf), (np.inf, -np.inf)
    for part_BK in blocks(values_NK):
        block_BK = part_BK[(~_no_values(part_BK)) & part_BK.any(axis=1)]
        if not len(block_BK):
            continue
        rows += len(block_BK)
        low, high = min(low, float(block_BK.min())), max(high, float(block_BK.max()))
        sums = _widened(sums, block_BK)
        if high <= _RANGE_TOLERANCE:
            exp_sums = _widened(exp_sums, np.exp(block_BK))
    return Survey(rows, low, high, sums, exp_sums)


def blocks(values_NK: NDArray[Any]) -> Iterator[Floats]:
    """The rows of a matrix, as float32, a bounded number at a time."""
    step = rows_at_once(values_NK.shape[1])
    for start in range(0, len(values_NK), step):
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and told so
            yield np.asarray(values_NK[start : start + step], np.float32, order="C")


def rows_at_once(width: int) -> int:
    """How many rows of this many float32 make a block."""
    return max(1, BLOCK_BYTES // (4 * max(1, width)))


def _widened(range_: tuple[float, float], block_BK: Floats) -> tuple[float, float]:
    sums_B = block_BK.sum(axis=1)
    return min(range_[0], float(sums_B.min())), max(range_[1], float(sums_B.max()))


def kind_of(found: Survey, wanted: Wanted, source: str, *, multi: bool) -> Kind:
    """What the values are; wanted: a kind, or `auto`.

    Raises `InputError` where values cannot be what is wanted, and for `auto` where they may be
    several kinds.
    """
    if not found.rows:
        raise InputError(f"{source}: no row holds finite values other than 0")
    held = f"{found.low:.4g} to {found.high:.4g}"
    if wanted == "probabilities" and not found.is_probabilities:
        raise InputError(f"{source}: values are {held}, no probabilities; give values: logits")
    if wanted == "log_probabilities" and not found.is_log:
        raise InputError(
            f"{source}: values are {held}, no logarithms of probabilities; give values: logits"
        )
    if wanted == "auto":
        return _recognised(found, held, source, multi=multi)
    return wanted


def _recognised(found: Survey, held: str, source: str, *, multi: bool) -> Kind:
    if found.low < -_RANGE_TOLERANCE and not found.is_log:
        return "logits"
    if not found.is_probabilities and not found.is_log:
        return "logits"
    kind: Kind = "probabilities" if found.is_probabilities else "log_probabilities"
    sums = found.sums if kind == "probabilities" else found.exp_sums
    if multi and kind == "probabilities":
        return kind
    if not multi and max(abs(total - 1) for total in sums) <= _SUM_TOLERANCE:
        return kind
    why = (
        "clips have several labels, so they may be logits, too"
        if multi
        else f"rows of {kind} add up to {sums[0]:.4g} to {sums[1]:.4g}, not to 1"
    )
    raise InputError(
        f"{source}: values are {held}, and {why}; give values: logits, probabilities or "
        "log_probabilities (and task: multi where every class has a score of its own)"
    )


@dataclass(frozen=True)
class Reading:
    """From rows of values to scores.

    to: (K,) the class of every column, -1 for one that is left out. multi: every class has a score
    of its own, else those of a clip add up to 1. zeros_fail: a row of zeros alone is none.
    """

    kind: Kind
    multi: bool
    to: NDArray[np.int64]
    num_classes: int
    zeros_fail: bool

    def scores(self, values_BK: Floats) -> tuple[Floats, list[str]]:
        """Scores (B, C), and of every row what is wrong with it, "" where nothing is."""
        why = np.full(len(values_BK), "", object)
        if self.zeros_fail or (self.kind == "probabilities" and not self.multi):
            why[~values_BK.any(axis=1)] = ZEROS
        why[_no_values(values_BK)] = NO_VALUES
        values_BK = np.where((why != "")[:, None], np.float32(0), values_BK)
        scores_BC = self._merged(self._as_scores(values_BK))
        if not self.multi:
            totals_B = scores_BC.sum(axis=1, keepdims=True)
            why[(totals_B[:, 0] <= 0) & (why == "")] = "the classes that are kept have no score"
            totals_B[totals_B <= 0] = 1
            scores_BC = scores_BC / totals_B
        return np.clip(scores_BC, 0, 1), why.tolist()

    def _as_scores(self, values_BK: Floats) -> Floats:
        """Scores by column; those of a single label still have to be divided by their sum."""
        if self.kind == "probabilities":
            return np.clip(values_BK, 0, 1)
        if self.kind == "log_probabilities" and self.multi:
            return np.exp(np.minimum(values_BK, 0))
        if self.multi:
            half_BK = np.exp(-np.abs(values_BK))
            return np.where(values_BK >= 0, 1 / (1 + half_BK), half_BK / (1 + half_BK))
        most_B1 = values_BK[:, self.to >= 0].max(axis=1, keepdims=True)
        with np.errstate(over="ignore"):  # only of columns that are left out
            return np.exp(values_BK - np.where(np.isfinite(most_B1), most_B1, 0))

    def _merged(self, scores_BK: Floats) -> Floats:
        if np.array_equal(self.to, np.arange(self.num_classes)):
            return scores_BK
        found_BC = np.zeros((len(scores_BK), self.num_classes), np.float32)
        add = np.maximum if self.multi else np.add
        for column, place in enumerate(self.to.tolist()):
            if place >= 0:
                add(found_BC[:, place], scores_BK[:, column], out=found_BC[:, place])
        return found_BC


def _no_values(block_BK: Floats) -> NDArray[np.bool_]:
    """(B,) rows with NaN or +infinity, or with nothing finite: minus infinity is a score of 0."""
    bad_BK = np.isnan(block_BK) | (block_BK == np.inf)
    found: NDArray[np.bool_] = bad_BK.any(axis=1) | ~np.isfinite(block_BK).any(axis=1)
    return found


@dataclass(frozen=True)
class ClassChoice:
    """How columns become classes.

    rename: the file's name -> ours; several that become one are merged. loose: names that differ in
    case, blanks, '_' and '-' alone are the same. keep_others: whether columns stay that no clip of
    the manifest has as a label.
    """

    rename: Mapping[str, str]
    loose: bool
    keep_others: bool


def class_columns(
    columns: Sequence[str], labels: Sequence[str], choice: ClassChoice, source: str
) -> tuple[list[str], NDArray[np.int64]]:
    """The classes of the score table, and (K,) which of them each column is of, -1 for none.

    labels: what clips of the manifest are called; none where they have no labels. Raises
    `InputError` for labels that no column has, telling the nearest spelling, for names in `rename`
    that are no columns, and for columns of one name.
    """
    for name in choice.rename:
        if name not in columns:
            hint = nearest(name, columns)
            raise InputError(
                f"{source}: rename names {name!r}, which is no class of it"
                + (f"; did you mean {hint!r}?" if hint else "")
            )
    known = {_loose(label): label for label in labels} if choice.loose else {}
    names = [choice.rename.get(name) or known.get(_loose(name), name) for name in columns]
    _refuse_twice(columns, names, choice, source)
    _refuse_missing(names, labels, source)
    kept = dict.fromkeys(name for name in names if choice.keep_others or name in set(labels))
    places = {name: place for place, name in enumerate(kept)}
    return list(kept), np.array([places.get(name, -1) for name in names], np.int64)


def _loose(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _refuse_twice(
    columns: Sequence[str], names: Sequence[str], choice: ClassChoice, source: str
) -> None:
    seen: dict[str, str] = {}
    for column, name in zip(columns, names, strict=True):
        other = seen.setdefault(name, column)
        if (other != column or columns.count(column) > 1) and column not in choice.rename:
            raise InputError(
                f"{source}: the classes {other!r} and {column!r} would both be {name!r}; rename "
                "says which are merged"
            )


def _refuse_missing(names: Sequence[str], labels: Sequence[str], source: str) -> None:
    missing = sorted(set(labels) - set(names))
    if not missing:
        return
    told = []
    for label in missing[:_SHOWN]:
        hint = nearest(label, names)
        told.append(f"{label!r}" + (f" (did you mean its {hint!r}?)" if hint else ""))
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    raise InputError(
        f"{source} has no scores of {len(missing)} classes of the manifest: "
        f"{', '.join(told)}{more}; name its classes as the manifest does by rename: "
        "{theirs: ours}, or with spelling: loose where only blanks, case, '_' and '-' differ"
    )

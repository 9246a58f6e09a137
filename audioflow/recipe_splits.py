"""The part of a recipe that says how clips are divided into splits or folds."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import model_validator

from audioflow.errors import shown
from audioflow.registry import Settings

SPLITS = ("train", "val", "test")
MAX_FOLDS = 1000

Split = Literal["train", "val", "test"]


class SplitsSection(Settings):
    """How clips are divided: by fractions, by a published column, or into folds.

    train, val and test: shares of the clips that add up to 1; beside `column`, lists of its values.
    Beside `folds`, `test` may be a share of the clips (or, of a column of folds, a list of its
    values) that is in none of them; beside `column`, `val` may be a share of the train clips, where
    none is published. column: published splits, a column of the list. folds: how
    many, 3 or more; or a column with published ones.
    """

    train: Any = None
    val: Any = None
    test: Any = None
    column: str | None = None
    folds: Any = None

    @model_validator(mode="after")
    def _one_way(self) -> "SplitsSection":
        given = {name: getattr(self, name) for name in SPLITS if getattr(self, name) is not None}
        if self.folds is not None:
            others = [name for name in given if name != "test"]
            others += ["column"] if self.column is not None else []
            problems = _fold_problems(self.folds, others) + _held_out_problems(self)
        elif self.column is not None:
            problems = _column_problems(given)
        else:
            problems = _share_problems(given)
        if problems:
            raise ValueError("\n".join(problems))  # one fault each
        return self

    @property
    def fractions(self) -> dict[str, float]:
        """Share of clips per split, in the order train, val, test."""
        return {name: float(getattr(self, name) or 0.0) for name in SPLITS}

    @property
    def values(self) -> dict[str, str]:
        """Value of `column` -> split."""
        lists = {name: getattr(self, name) for name in SPLITS}
        told = {name: values for name, values in lists.items() if isinstance(values, list)}
        return {str(value): name for name, values in told.items() for value in values}

    @property
    def val_share(self) -> float | None:
        """The share of the train clips of `column` that is val, where none is published."""
        by_share = self.column is not None and isinstance(self.val, float)
        return float(self.val) if by_share else None

    @property
    def filled(self) -> tuple[str, ...]:
        """The splits that get clips. Those in folds are scored, out of fold, as `test`, or as `val`
        where a test split was held out."""
        if self.folds is not None:
            return ("test",) if self.test is None else ("val", "test")
        return tuple(name for name in SPLITS if getattr(self, name))


def _fold_problems(folds: Any, others: Sequence[str]) -> list[str]:
    problems = []
    if others:
        beside = ", ".join(others)
        problems.append(f"folds cannot stand beside {beside}: with folds every clip is tested once")
    if isinstance(folds, bool) or not isinstance(folds, int | str) or folds == "":
        problems.append(
            f"folds is {shown(folds)}; allowed: a number of folds, or the name of a column"
        )
    elif isinstance(folds, int) and not 3 <= folds <= MAX_FOLDS:
        problems.append(
            f"folds is {folds}; allowed: 3 to {MAX_FOLDS} (one to test, one to select, the rest to "
            "train)"
        )
    return problems


def _held_out_problems(splits: SplitsSection) -> list[str]:
    test = splits.test
    if test is None:
        return []
    if isinstance(splits.folds, str):
        return _value_problems({"test": test})
    if isinstance(test, bool) or not isinstance(test, int | float) or not 0 < test < 1:
        return [
            f"test is {shown(test)}; beside a number of folds, allowed: a share between 0 and 1"
        ]
    return []


def _column_problems(given: Mapping[str, Any]) -> list[str]:
    val = given.get("val")
    if not isinstance(val, float):
        return _value_problems(given)
    problems = _value_problems({name: value for name, value in given.items() if name != "val"})
    if not 0 < val < 1:
        problems.append(
            f"val is {shown(val)}; beside column, allowed: a list of its values, or a share of the "
            "train clips between 0 and 1"
        )
    if given.get("train") is None:
        problems.append("val is a share of train, which has no values of column; give it some")
    return problems


def _value_problems(given: Mapping[str, Any]) -> list[str]:
    if not given:
        return ["column needs train, val and test beside it: lists of that column's values"]
    problems = []
    seen: dict[str, str] = {}
    for split, values in given.items():
        if not isinstance(values, list) or not values:
            problems.append(
                f"{split} is {shown(values)}; beside column, allowed: a list of its values"
            )
            continue
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | str):
                problems.append(
                    f"{split} has the value {shown(value)}; allowed: texts and whole numbers "
                    "(put others in quotes, as the column has them)"
                )
            elif str(value) in seen:
                problems.append(
                    f"value {str(value)!r} stands in both {seen[str(value)]} and {split}"
                    if seen[str(value)] != split
                    else f"value {str(value)!r} stands twice in {split}"
                )
            seen[str(value)] = split
    return problems


def _share_problems(given: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{split} is {shown(share)}; allowed: a share from 0 to 1"
        for split, share in given.items()
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1
    ]
    if not problems and abs(sum(given.values()) - 1) > 1e-6:
        shares = ", ".join(f"{split} {share:g}" for split, share in given.items()) or "no split"
        problems.append(f"the shares add up to {sum(given.values()):g}, not to 1: {shares}")
    return problems

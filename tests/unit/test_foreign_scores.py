"""Values of other programs: what they are, and the scores they become."""

from typing import Any

import numpy as np
import pytest

from audioflow.errors import InputError
from audioflow.foreign_scores import (
    NO_VALUES,
    ZEROS,
    ClassChoice,
    Reading,
    class_columns,
    kind_of,
    survey,
)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (40, 5)).astype(np.float32)


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values.astype(np.float64))
    return raised / raised.sum(axis=1, keepdims=True)


SHARES = softmax(LOGITS)


def reading(kind: Any, *, multi: bool = False, to: Any = None, zeros: bool = True) -> Reading:
    places = np.arange(5) if to is None else np.array(to)
    return Reading(kind, multi, places, int(places.max()) + 1, zeros)


@pytest.mark.parametrize(
    ("values", "multi", "kind"),
    [
        (LOGITS, False, "logits"),
        (LOGITS, True, "logits"),
        (np.abs(LOGITS) + 2, False, "logits"),
        (SHARES, False, "probabilities"),
        (np.round(SHARES, 3), False, "probabilities"),
        (RNG.random((9, 5)), True, "probabilities"),
        (np.log(SHARES), False, "log_probabilities"),
    ],
)
def test_the_kind_of_values_is_told_by_all_of_them(values: Any, multi: bool, kind: str) -> None:
    assert kind_of(survey(values), "auto", "x", multi=multi) == kind


@pytest.mark.parametrize(
    ("values", "multi", "why"),
    [
        (RNG.random((9, 5)), False, "rows of probabilities add up to .*, not to 1"),
        (-np.abs(LOGITS), False, "rows of log_probabilities add up to .*, not to 1"),
        (np.log(SHARES), True, "clips have several labels, so they may be logits, too"),
    ],
)
def test_what_may_be_several_kinds_has_to_be_said(values: Any, multi: bool, why: str) -> None:
    with pytest.raises(InputError, match=f"x: values are .*{why}; give values"):
        kind_of(survey(values), "auto", "x", multi=multi)


def test_one_row_far_down_decides_and_rows_without_numbers_do_not() -> None:
    values = np.concatenate([SHARES, np.zeros((1, 5)), np.full((1, 5), np.nan), SHARES])
    assert kind_of(survey(values), "auto", "x", multi=False) == "probabilities"
    values[-1, 0] = 7
    assert kind_of(survey(values), "auto", "x", multi=False) == "logits"
    with pytest.raises(InputError, match="no row holds finite values other than 0"):
        kind_of(survey(np.zeros((3, 5))), "auto", "x", multi=False)


def test_a_kind_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match=r"values are -.*, no probabilities; give values: logits"):
        kind_of(survey(LOGITS), "probabilities", "x", multi=False)
    with pytest.raises(InputError, match="no logarithms of probabilities"):
        kind_of(survey(LOGITS), "log_probabilities", "x", multi=False)


@pytest.mark.parametrize(
    ("kind", "values"),
    [("logits", LOGITS), ("probabilities", SHARES * 0.99), ("log_probabilities", np.log(SHARES))],
)
def test_scores_of_single_labels_add_up_to_1(kind: str, values: np.ndarray) -> None:
    found, why = reading(kind).scores(values.astype(np.float32))
    np.testing.assert_allclose(found, SHARES, atol=1e-6)
    assert found.dtype == np.float32
    assert why == [""] * 40


def test_scores_of_several_labels_are_independent() -> None:
    found, _ = reading("logits", multi=True).scores(np.array([[0, 90, -90, 2, -2]], np.float32))
    expected = [0.5, 1, 0, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))]
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    chances = RNG.random((6, 5)).astype(np.float32)
    found, _ = reading("probabilities", multi=True).scores(chances)
    np.testing.assert_array_equal(found, chances)


def test_rows_without_a_score_are_told_and_never_made_up() -> None:
    values = LOGITS[:6].copy()
    values[1, 2], values[2], values[4, 0], values[5, 3] = np.nan, 0, np.inf, -np.inf
    found, why = reading("logits").scores(values)
    assert why == ["", NO_VALUES, ZEROS, "", NO_VALUES, ""]
    assert found[5, 3] == 0
    assert np.isfinite(found).all()
    _, why = reading("logits", zeros=False).scores(values)
    assert why[2] == ""


def test_merged_classes_add_up_and_dropped_ones_are_as_if_unknown() -> None:
    found, _ = reading("logits", to=[0, 1, 1, -1, 2]).scores(LOGITS)
    kept = softmax(LOGITS[:, [0, 1, 2, 4]])
    expected = np.stack([kept[:, 0], kept[:, 1] + kept[:, 2], kept[:, 3]], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    several, _ = reading("probabilities", multi=True, to=[0, 1, 1, -1, 2]).scores(
        SHARES.astype(np.float32)
    )
    np.testing.assert_allclose(several[:, 1], SHARES[:, 1:3].max(axis=1), atol=1e-6)


def test_a_dropped_class_that_had_everything_leaves_no_score() -> None:
    values = np.array([[0, 0, 0, 1, 0], [1, 0, 0, 0, 0]], np.float32)
    _, why = reading("probabilities", to=[0, 1, 2, -1, 3]).scores(values)
    assert why == ["the classes that are kept have no score", ""]


# Classes


def choice(rename: Any = None, *, loose: bool = False, keep: bool = True) -> ClassChoice:
    return ClassChoice(rename or {}, loose, keep)


def test_classes_keep_the_order_of_the_file() -> None:
    names, to = class_columns(["dog", "cat", "owl"], ["cat", "dog"], choice(), "x")
    assert (names, to.tolist()) == (["dog", "cat", "owl"], [0, 1, 2])
    names, to = class_columns(["dog", "cat", "owl"], ["cat"], choice(keep=False), "x")
    assert (names, to.tolist()) == (["cat"], [-1, 0, -1])


def test_a_class_that_is_not_there_is_told_with_the_nearest_spelling() -> None:
    with pytest.raises(InputError, match=r"1 classes .*: 'Dogs' \(did you mean its 'dog'\?\)"):
        class_columns(["dog", "cat"], ["Dogs", "cat"], choice(), "x")


def test_names_are_made_ours_by_rename_or_by_loose_spelling() -> None:
    columns = ["playing_chess", "5Cat", "5Other"]
    labels = ["Playing chess", "Other"]
    told = choice({"5Cat": "Other", "5Other": "Other"}, loose=True)
    names, to = class_columns(columns, labels, told, "x")
    assert (names, to.tolist()) == (["Playing chess", "Other"], [0, 1, 1])


def test_a_rename_of_nothing_and_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match=r"rename names 'dgo', .*did you mean 'dog'"):
        class_columns(["dog"], [], choice({"dgo": "cat"}), "x")
    with pytest.raises(InputError, match="'a b' and 'a_b' would both be 'A b'; rename says"):
        class_columns(["a b", "a_b"], ["A b"], choice(loose=True), "x")

"""Metrics of an epoch against scikit-learn's, with one label and with several."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from audioflow.systems.readout import Readout
from audioflow.training import Judge
from audioflow.training.judge import macro_f1

N, C = 120, 5
EXACT = {"abs": 1e-6}


def logits(readouts: int = 1, classes: int = C, seed: int = 0, count: int = N) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(readouts, count, classes, generator=generator)


@pytest.fixture
def targets_N() -> np.ndarray:
    """Classes of unequal size, right more often than by chance."""
    generator = np.random.default_rng(0)
    drawn = generator.choice(C, N, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    return np.where(generator.random(N) < 0.5, logits()[0].argmax(dim=1).numpy(), drawn)


@pytest.fixture
def targets_NC() -> np.ndarray:
    """Clips without a label, with one and with several."""
    generator = np.random.default_rng(0)
    guess = torch.sigmoid(logits()[0]).numpy() > 0.5
    found = np.where(generator.random((N, C)) < 0.6, guess, generator.random((N, C)) < 0.2)
    assert {0, 1, 2} <= set(found.sum(axis=1).tolist())
    return found.astype(np.float32)


def test_metrics_of_one_label_are_those_of_scikit_learn(targets_N):
    scores = torch.softmax(logits()[0], dim=1).numpy()
    loss, found = Judge(Readout(C), targets_N)(logits())
    said, positive = scores.argmax(axis=1), np.eye(C)[targets_N]
    assert loss == pytest.approx(sk.log_loss(targets_N, scores, labels=range(C)), **EXACT)
    assert found == pytest.approx(
        {
            "val_accuracy": sk.accuracy_score(targets_N, said),
            "val_macro_f1": sk.f1_score(targets_N, said, average="macro"),
            "val_map": sk.average_precision_score(positive, scores, average="macro"),
            "val_auc": sk.roc_auc_score(targets_N, scores, multi_class="ovr"),
            "val_weighted_auc": sk.roc_auc_score(
                targets_N, scores, multi_class="ovr", average="weighted"
            ),
        },
        **EXACT,
    )
    assert len({round(value, 6) for value in found.values()}) == 5


def test_metrics_of_several_labels_are_those_of_scikit_learn(targets_NC):
    scores = torch.sigmoid(logits()[0]).numpy()
    loss, found = Judge(Readout(C, multi_label=True), targets_NC)(logits())
    said, true = scores >= 0.5, targets_NC > 0.5
    each = [sk.log_loss(true[:, place], scores[:, place]) for place in range(C)]
    assert loss == pytest.approx(np.mean(each), **EXACT)
    assert found == pytest.approx(
        {
            "val_accuracy": sk.accuracy_score(true, said),
            "val_macro_f1": sk.f1_score(true, said, average="macro"),
            "val_map": sk.average_precision_score(true, scores, average="macro"),
            "val_auc": sk.roc_auc_score(true, scores, average="macro"),
            "val_weighted_auc": sk.roc_auc_score(true, scores, average="weighted"),
        },
        **EXACT,
    )
    assert len({round(value, 6) for value in found.values()}) == 5


def test_classes_that_no_clip_has_are_left_out_of_the_means(targets_N):
    scores = torch.softmax(logits(classes=7)[0], dim=1).numpy()
    _, found = Judge(Readout(7), targets_N)(logits(classes=7))
    binary = [(targets_N == place, scores[:, place]) for place in range(C)]
    assert found["val_map"] == pytest.approx(
        np.mean([sk.average_precision_score(*each) for each in binary]), **EXACT
    )
    assert found["val_auc"] == pytest.approx(
        np.mean([sk.roc_auc_score(*each) for each in binary]), **EXACT
    )
    support = np.bincount(targets_N)
    weighted = np.average([sk.roc_auc_score(*each) for each in binary], weights=support)
    assert found["val_weighted_auc"] == pytest.approx(weighted, **EXACT)


def test_labels_that_no_clip_or_every_clip_has_are_left_out_of_rankings(targets_NC):
    targets_NC[:, 1], targets_NC[:, 3] = 0, 1
    scores = torch.sigmoid(logits()[0]).numpy()
    _, found = Judge(Readout(C, multi_label=True), targets_NC)(logits())
    some = [0, 2, 4]
    assert found["val_auc"] == pytest.approx(
        sk.roc_auc_score(targets_NC[:, some], scores[:, some]), **EXACT
    )
    assert found["val_macro_f1"] == pytest.approx(
        sk.f1_score(targets_NC > 0.5, scores >= 0.5, average="macro", zero_division=0), **EXACT
    )


def test_a_label_that_neither_occurs_nor_is_said_is_left_out_of_f1(targets_NC):
    targets_NC[:, 1] = 0
    given = logits()
    given[:, :, 1] = -9
    _, found = Judge(Readout(C, multi_label=True), targets_NC)(given)
    others = [0, 2, 3, 4]
    said = torch.sigmoid(given[0]).numpy()[:, others] >= 0.5
    expected = sk.f1_score(targets_NC[:, others] > 0.5, said, average="macro")
    assert found["val_macro_f1"] == pytest.approx(expected, **EXACT)


def test_metrics_of_nothing_to_rank_are_nan():
    _, found = Judge(Readout(3), np.zeros(4, np.int64))(logits(classes=3, count=4))
    assert math.isnan(found["val_auc"])
    assert math.isnan(found["val_map"])
    assert math.isnan(found["val_weighted_auc"])
    assert 0 <= found["val_accuracy"] <= 1


def test_macro_f1_weighs_classes_alike():
    """9 of 10 clips are of class 0 and all are called 0: accuracy 0.9, F1 (18/19 + 0) / 2."""
    targets, said = np.array([0] * 9 + [1], np.int64), np.zeros(10, np.int64)
    assert macro_f1(said, targets) == pytest.approx(18 / 19 / 2)


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_is_that_of_scikit_learn_whatever_occurs(seed):
    generator = np.random.default_rng(seed)
    said, targets = generator.integers(0, 9, 12), generator.integers(0, 7, 12)
    assert macro_f1(said, targets) == pytest.approx(sk.f1_score(targets, said, average="macro"))


# Several readouts


def test_several_readouts_are_judged_together_and_each_by_itself(targets_N):
    three = logits(readouts=3)
    names = ("pool5", "conv6", "conv7")
    loss, found = Judge(Readout(C), targets_N, readouts=names)(three)
    plain_loss, plain = Judge(Readout(C), targets_N)(three.mean(dim=0, keepdim=True))
    assert loss == pytest.approx(plain_loss)
    assert {key: found[key] for key in plain} == pytest.approx(plain)
    for place, name in enumerate(names):
        _, alone = Judge(Readout(C), targets_N)(three[place : place + 1])
        for key in ("val_accuracy", "val_macro_f1"):
            assert found[f"{key}[{name}]"] == pytest.approx(alone[key])
    assert len(found) == len(plain) + 2 * 3


def test_a_readout_without_a_name_is_an_error(targets_N):
    with pytest.raises(ValueError, match="zip"):
        Judge(Readout(C), targets_N, readouts=("one",))(logits(readouts=2))


# Merged classes


def test_val_is_judged_on_merged_classes():
    """Two fine classes of the first class: right together, though each alone loses."""
    readout = Readout(2, merge=(0, 0, 1))
    scores = torch.tensor([[0.3, 0.3, 0.4], [0.1, 0.2, 0.7]])
    loss, found = Judge(readout, np.array([0, 1]))(scores.log()[None])
    assert found["val_accuracy"] == 1.0
    assert loss == pytest.approx(-(math.log(0.6) + math.log(0.7)) / 2)
    assert found["val_auc"] == 1.0


def test_merged_classes_of_several_labels_have_the_largest_score():
    readout = Readout(2, multi_label=True, merge=(0, 0, 1))
    scores = torch.tensor([[0.6, 0.3, 0.4], [0.1, 0.2, 0.7]])
    loss, found = Judge(readout, np.array([[1, 0], [0, 1]], np.float32))(torch.logit(scores)[None])
    assert found["val_accuracy"] == 1.0
    each = [math.log(0.6), math.log(0.6), math.log(0.8), math.log(0.7)]
    assert loss == pytest.approx(-np.mean(each), rel=1e-5)


# When rankings are counted


def test_rankings_of_much_are_only_counted_where_they_select():
    """A large `val` would take longer to rank than to learn from."""
    few = torch.zeros(1, 6_000, 1_000)
    targets = np.arange(6_000) % 2
    _, found = Judge(Readout(1_000), targets)(few)
    assert set(found) == {"val_accuracy", "val_macro_f1"}
    _, found = Judge(Readout(1_000), targets, select="val_auc")(few)
    assert found["val_auc"] == 0.5


# Results of every class


def test_results_of_every_class_are_those_of_scikit_learn(targets_N):
    scores = torch.softmax(logits(classes=6)[0], dim=1).numpy()
    names = [f"class {place}" for place in range(6)]
    found = Judge(Readout(6), targets_N).by_class(scores, names)
    expected = sk.precision_recall_fscore_support(
        targets_N, scores.argmax(axis=1), labels=range(6), zero_division=0
    )
    for place, row in enumerate(found):
        precision, recall, f1, support = (column[place] for column in expected)
        assert row == pytest.approx(
            {
                "name": names[place],
                "support": support,
                "precision": precision,
                "recall": recall,
                "f1": f1,
            }
        )
    assert found[5]["support"] == 0


def test_results_of_every_label_are_those_of_scikit_learn(targets_NC):
    scores = torch.sigmoid(logits()[0]).numpy()
    targets_NC[:, 2] = 0
    names = list("abcde")
    found = Judge(Readout(C, multi_label=True), targets_NC).by_class(scores, names)
    expected = sk.precision_recall_fscore_support(targets_NC > 0.5, scores >= 0.5, zero_division=0)
    for key, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[key] for row in found] == pytest.approx(list(column))


def test_logits_of_nan_are_judged_as_nan(targets_N, targets_NC):
    given = torch.full((1, N, C), math.nan)
    for judge in (Judge(Readout(C), targets_N), Judge(Readout(C, multi_label=True), targets_NC)):
        loss, _ = judge(given)
        assert math.isnan(loss)

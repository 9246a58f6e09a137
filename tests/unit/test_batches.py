"""Which examples every step takes: orders, shares of workers, weights and balanced sampling."""

import numpy as np
import pytest
import torch

from audioflow.systems.examples import Examples
from audioflow.training import MemorySource, class_weights, epoch_order
from audioflow.training.batches import loss_weights, sampling_odds
from tests.unit.small_training import blobs, clips, of_several_labels, section

RARE = np.array([0] * 60 + [1] * 30 + [2] * 9 + [4], np.int64)
"""Of class 3 there is no clip."""


def source(
    examples: Examples, num_classes: int = 3, rank: int = 0, count: int = 1, **options
) -> MemorySource:
    return MemorySource(examples, section(**options), num_classes, rank, count)


def marked(count: int) -> Examples:
    """Clips of one row that is their number."""
    numbers = np.arange(count, dtype=np.float32)[:, None]
    return Examples((numbers,), np.arange(count + 1), np.arange(count) % 3)


# Orders


def test_every_epoch_has_its_own_order_and_every_clip_once():
    orders = [epoch_order(20, 1, epoch).tolist() for epoch in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(20))
    assert epoch_order(20, 2, 1).tolist() != orders[0]


def test_with_odds_examples_are_drawn_by_those_and_again_and_again():
    odds = np.array([0.0, 1.0, 3.0])
    drawn = np.concatenate([epoch_order(3, 0, epoch, odds) for epoch in range(1, 2001)])
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    assert shares == pytest.approx([0, 0.25, 0.75], abs=0.02)
    assert np.array_equal(epoch_order(3, 0, 1, odds), epoch_order(3, 0, 1, odds))


# Batches and shares


@pytest.mark.parametrize(("count", "sizes"), [(40, [16, 16, 8]), (32, [16, 16]), (3, [3])])
def test_batches_are_full_but_for_the_last(count, sizes):
    made = source(marked(count))
    shares = list(made.epoch(1))
    assert [share.whole for share in shares] == sizes
    assert (made.steps, made.num_examples) == (len(sizes), count)
    rows = np.concatenate([share.examples.rows[0] for share in shares]).ravel()
    assert np.array_equal(rows, epoch_order(count, 0, 1))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
def test_workers_share_every_batch_without_gap_or_overlap(count, sampling):
    examples = marked(37)
    alone = list(source(examples, sampling=sampling).epoch(2))
    workers = [source(examples, rank=rank, count=count, sampling=sampling) for rank in range(count)]
    for whole, *parts in zip(alone, *(one.epoch(2) for one in workers), strict=True):
        there = sorted(np.concatenate([part.examples.rows[0] for part in parts]).ravel())
        assert there == sorted(whole.examples.rows[0].ravel())
        assert {part.whole for part in parts} == {whole.whole}
        assert {part.weight for part in parts} == {whole.weight}
        sizes = [len(part.examples) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_an_example_comes_with_its_rows_and_its_target():
    examples = clips([2, 1, 3, 1], seed=1)
    for share in source(examples, batch_size=3).epoch(1):
        for place in range(len(share.examples)):
            rows = share.examples.rows[0][slice(*share.examples.offsets[place : place + 2])]
            found = [
                index
                for index in range(4)
                if np.array_equal(
                    rows, examples.rows[0][slice(*examples.offsets[index : index + 2])]
                )
            ]
            assert len(found) == 1
            assert share.examples.targets[place] == examples.targets[found[0]]


def test_a_batch_weighs_what_its_clips_weigh_together():
    examples = Examples((np.zeros((100, 1), np.float32),), np.arange(101), RARE)
    made = source(examples, num_classes=5, class_weights="balanced")
    weights = class_weights(RARE, "balanced", 5)
    assert made.weights.equal(weights)
    for share in made.epoch(1):
        assert share.weight == pytest.approx(weights[share.examples.targets].sum().item())
    plain = source(examples, num_classes=5)
    assert [share.weight for share in plain.epoch(1)] == [16.0] * 6 + [4.0]


def test_of_several_labels_every_clip_weighs_one():
    examples = of_several_labels(blobs(20))
    made = source(examples, class_weights="balanced")
    assert [share.weight for share in made.epoch(1)] == [16.0, 4.0]
    assert loss_weights(made.weights, examples.targets).tolist() == [1.0] * 20


# Weights


def test_balanced_weights_are_inverse_to_frequency_with_mean_one_over_clips():
    weights = class_weights(RARE, "balanced", 5)
    assert weights[[0, 1, 2, 4]].tolist() == pytest.approx(
        [100 / (4 * 60), 100 / (4 * 30), 100 / (4 * 9), 100 / 4]
    )
    assert weights[RARE].mean() == pytest.approx(1.0)
    assert weights[3].isfinite()  # no clip, no matter
    assert class_weights(RARE, "none", 4).tolist() == [1.0] * 4


def test_balanced_weights_of_several_labels_are_negatives_over_positives():
    targets = np.zeros((10, 5), np.float32)
    targets[:2, 0] = targets[:5, 1] = targets[:8, 2] = targets[:, 3] = 1
    weights = class_weights(targets, "balanced", 5)
    assert weights[:3].tolist() == pytest.approx([8 / 2, 5 / 5, 2 / 8])
    assert 0 < weights[3] <= 0.1  # every clip: a little, or it would not be learned at all
    assert weights[4].isfinite()  # no clip
    assert weights.dtype == torch.float32


@pytest.mark.parametrize("targets", [np.zeros(0, np.int64), np.zeros((0, 3), np.float32)])
def test_weights_of_no_clip_are_finite(targets):
    assert class_weights(targets, "balanced", 3).isfinite().all()


# Balanced sampling


def test_all_classes_that_have_a_clip_are_drawn_equally_often():
    odds = sampling_odds(RARE, 5)
    drawn = np.concatenate([epoch_order(100, 0, epoch, odds) for epoch in range(1, 201)])
    shares = np.bincount(RARE[drawn], minlength=5) / len(drawn)
    assert shares == pytest.approx([0.25, 0.25, 0.25, 0, 0.25], abs=0.01)
    within = np.bincount(drawn[RARE[drawn] == 0], minlength=60)[:60]
    assert within.min() > 0.5 * within.mean()


def test_of_several_labels_one_each_is_sampled_like_single_labels():
    single = sampling_odds(RARE, 5)
    several = sampling_odds(np.eye(5, dtype=np.float32)[RARE], 5)
    assert several / several.sum() == pytest.approx(single / single.sum())


def test_clips_of_several_labels_or_none_are_drawn_as_often_as_their_classes_on_average():
    """Also those whose only label every clip has."""
    targets = np.zeros((8, 3), np.float32)
    targets[:, 0] = 1  # all
    targets[:2, 1] = 1
    targets[0, 2] = 1
    targets[7] = 0  # none
    odds = sampling_odds(targets, 3)
    mean = [(1 / 7 + 1 / 2 + 1) / 3, (1 / 7 + 1 / 2) / 2, *[1 / 7] * 5]
    assert odds[:7] == pytest.approx(mean)
    assert odds[7] == pytest.approx(np.mean(mean))


def test_clips_that_all_have_no_label_are_drawn_alike():
    assert sampling_odds(np.zeros((4, 3), np.float32), 3).tolist() == [1.0] * 4
    assert len(set(sampling_odds(np.ones((4, 3), np.float32), 3).tolist())) == 1


def test_a_source_draws_by_those_odds():
    examples = Examples((np.zeros((100, 1), np.float32),), np.arange(101), RARE)
    made = source(examples, num_classes=5, sampling="balanced")
    drawn = np.concatenate(
        [share.examples.targets for epoch in range(1, 101) for share in made.epoch(epoch)]
    )
    assert np.bincount(drawn) / len(drawn) == pytest.approx([0.25, 0.25, 0.25, 0, 0.25], abs=0.02)

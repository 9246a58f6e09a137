"""What a fusion brings, against figures worked out by hand or by scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from audioflow.fusion.results import Judged, class_gains, masked_loss, part_gain
from audioflow.metrics import mcnemar
from tests.unit.fusion_clips import accuracy, fit_clips, fusion, make_scores, make_several

CLASSES = ("class0", "class1", "class2")


def fused_of(scores, targets, **options):
    made = fusion(**options)
    clips = fit_clips(scores, targets)
    return made.apply(made.fit(clips), clips.clips)


def test_the_gain_over_a_part_with_its_interval_and_test():
    scores, targets = make_scores(1, num_clips=2000)
    fused = fused_of(scores, targets)
    found = part_gain(Judged(targets, CLASSES), scores[0], fused)
    assert found.metric == "accuracy"
    assert found.part == accuracy(scores[0], targets)
    assert found.fused == accuracy(fused, targets)
    assert found.gain.value == pytest.approx(found.fused - found.part)
    assert 0 < found.gain.low < found.gain.value < found.gain.high
    right = [one.argmax(1) == targets for one in (scores[0], fused)]
    assert found.test == mcnemar(*right)
    assert found.test.only_b - found.test.only_a == round(found.gain.value * 2000)
    assert found.test.p_value < 1e-6


def test_intervals_are_of_groups():
    scores, targets = make_scores(2, num_clips=60)
    scores, targets = np.repeat(scores, 20, axis=1), np.repeat(targets, 20)
    groups = [f"group{row // 20}" for row in range(1200)]
    widths = []
    for own in (None, groups):
        gain = part_gain(Judged(targets, CLASSES, own), scores[0], scores[1]).gain
        widths.append(gain.high - gain.low)
    assert widths[1] > 2 * widths[0]


def test_the_gain_of_each_class_is_that_of_its_recall():
    scores, targets = make_scores(3, num_clips=900)
    targets[targets == 2] = 1
    found = class_gains(Judged(targets, CLASSES), scores[0], scores[1])
    assert {one.name for one in found} == {"class0", "class1"}  # no clip is of class2
    assert [one.gain.value for one in found] == sorted(one.gain.value for one in found)[::-1]
    for one in found:
        own = targets == CLASSES.index(one.name)
        assert one.num_clips == own.sum()
        assert one.part == pytest.approx(accuracy(scores[0, own], targets[own]))
        assert one.fused == pytest.approx(accuracy(scores[1, own], targets[own]))
        assert one.gain.value == pytest.approx(one.fused - one.part)
        assert one.gain.low < one.gain.value < one.gain.high
    total = sum(one.gain.value * one.num_clips for one in found) / 900
    assert total == pytest.approx(accuracy(scores[1], targets) - accuracy(scores[0], targets))


def test_with_several_labels_it_is_average_precision():
    scores, truth = make_several(4, num_clips=500, num_classes=3)
    fused = fused_of(scores, truth, multi_label=True)
    judged = Judged(truth, CLASSES, num_bootstrap=200)
    found = part_gain(judged, scores[0], fused)
    assert found.metric == "map"
    assert found.part == pytest.approx(average_precision_score(truth, scores[0]))
    assert found.gain.value == pytest.approx(found.fused - found.part)
    assert found.gain.low < found.gain.value < found.gain.high
    for one in class_gains(judged, scores[0], fused):
        column = CLASSES.index(one.name)
        expected = average_precision_score(truth[:, column], fused[:, column])
        assert one.fused == pytest.approx(expected)
        assert np.isnan(one.gain.low)


def test_what_leaving_a_system_out_costs_is_on_the_same_clips():
    scores, targets = make_scores(5, num_clips=1500, skill=(1.5, 1.5))
    fused = fused_of(scores, targets)
    lost = masked_loss(Judged(targets, CLASSES), fused, scores[1])
    assert lost.num_clips == 1500
    assert lost.whole == accuracy(fused, targets)
    assert lost.masked == accuracy(scores[1], targets)
    assert lost.cost.value == pytest.approx(lost.whole - lost.masked)
    assert 0 < lost.cost.low < lost.cost.high

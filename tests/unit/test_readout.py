"""From logits to scores: mean over readouts, temperature, softmax or sigmoid, merging."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from audioflow.systems.readout import Readout

B, F_CLASSES = 30, 15
FINE = (
    "0Barking 1Howling 2Crying 3CO_Smoke 4GlassBreaking 5Blender 5Cat 5Dishes 5Electrics 5Other "
    "5Vacuum 6Doorbell 7Bird 8Music_Instrument 9Laugh_Shout_Scream"
).split()
TO_TEN = (0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 6, 7, 8, 9)
"""The dog sounds of Splend1d/Tomofun-Challenge-Audio-Classificaiton: 15 fine classes of 10."""


def logits(readouts: int = 1, classes: int = F_CLASSES) -> torch.Tensor:
    return 3 * torch.randn(readouts, B, classes, generator=torch.Generator().manual_seed(0))


def test_scores_are_the_softmax_of_the_mean_logits():
    three = logits(3)
    found = Readout(F_CLASSES).scores(three)
    assert torch.allclose(found, torch.softmax(three.mean(dim=0), dim=1), atol=1e-6)
    assert not torch.allclose(found, torch.softmax(three, dim=2).mean(dim=0), atol=1e-2)
    assert found.sum(dim=1).numpy() == pytest.approx(np.ones(B), abs=1e-5)


def test_scores_of_several_labels_are_sigmoids():
    found = Readout(F_CLASSES, multi_label=True).scores(logits(2))
    assert torch.allclose(found, torch.sigmoid(logits(2).mean(dim=0)))


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 5.0, 20.0])
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_temperature_divides_logits(temperature, multi_label):
    found = Readout(F_CLASSES, multi_label, temperature).scores(logits())
    cooled = logits()[0] / temperature
    expected = torch.sigmoid(cooled) if multi_label else torch.softmax(cooled, dim=1)
    assert torch.allclose(found, expected, atol=1e-6)
    ranked = found.gather(1, logits()[0].argsort(dim=1))
    assert (ranked.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_cannot_divide_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature {temperature} cannot divide"):
        Readout(3, temperature=temperature)


# Merging


def test_scores_of_fine_classes_add_up():
    """Six of the fifteen are one of the ten."""
    found = Readout(10, merge=TO_TEN).scores(logits())
    fine = torch.softmax(logits()[0], dim=1)
    assert found.shape == (B, 10)
    assert torch.allclose(found[:, :5], fine[:, :5])
    assert torch.allclose(found[:, 5], fine[:, 5:11].sum(dim=1))
    assert torch.allclose(found[:, 6:], fine[:, 11:])
    assert found.sum(dim=1).numpy() == pytest.approx(np.ones(B), abs=1e-5)
    assert [FINE.index(name) for name in FINE if name.startswith("5")] == list(range(5, 11))


def test_a_temperature_comes_before_merging_and_changes_which_class_is_best():
    """Which is why it changes rankings of merged classes, and not of others."""
    given = torch.tensor([[[2.0, 1.5, 1.5]]])
    merged = [Readout(2, merge=(0, 1, 1), temperature=t).scores(given) for t in (0.1, 1.0)]
    assert [found.argmax().item() for found in merged] == [0, 1]


def test_scores_of_fine_labels_have_their_largest():
    found = Readout(10, multi_label=True, merge=TO_TEN).scores(logits())
    fine = torch.sigmoid(logits()[0])
    assert torch.allclose(found[:, 5], fine[:, 5:11].max(dim=1).values)
    assert torch.allclose(found[:, 9], fine[:, 14])


def test_a_class_without_a_fine_one_scores_zero():
    found = Readout(3, merge=(0, 2)).scores(torch.zeros(1, 4, 2))
    assert found.tolist() == [[0.5, 0.0, 0.5]] * 4


def test_fine_classes_in_any_order_are_merged():
    given, order = logits(), torch.randperm(F_CLASSES, generator=torch.Generator().manual_seed(1))
    shuffled = Readout(10, merge=tuple(TO_TEN[place] for place in order)).scores(given[..., order])
    assert torch.allclose(shuffled, Readout(10, merge=TO_TEN).scores(given), atol=1e-6)


# Logarithms and loss


def test_logarithms_of_scores_are_exact_where_nothing_is_merged():
    far = torch.tensor([[[0.0, 500.0]]])
    assert Readout(2).log_scores(far).tolist() == [[-500.0, 0.0]]
    found = Readout(F_CLASSES, temperature=2.0).log_scores(logits(2))
    assert torch.allclose(found, torch.log_softmax(logits(2).mean(dim=0) / 2, dim=1))


def test_logarithms_of_merged_scores_are_finite():
    far = torch.tensor([[[0.0, 500.0, 500.0]]])
    found = Readout(2, merge=(0, 1, 1)).log_scores(far)
    assert found[0].tolist() == pytest.approx([math.log(1e-12), 0.0])
    plain = Readout(10, merge=TO_TEN)
    assert torch.allclose(plain.log_scores(logits()).exp(), plain.scores(logits()), atol=1e-6)


def test_the_loss_of_one_label_is_cross_entropy():
    targets = torch.arange(B) % F_CLASSES
    found = Readout(F_CLASSES, temperature=3.0).loss(logits(2), targets)
    assert found == pytest.approx(F.cross_entropy(logits(2).mean(dim=0) / 3, targets).item())


def test_the_loss_of_several_labels_is_the_mean_binary_one():
    targets = (torch.rand(B, F_CLASSES) < 0.3).float()
    found = Readout(F_CLASSES, multi_label=True, temperature=3.0).loss(logits(2), targets)
    expected = F.binary_cross_entropy_with_logits(logits(2).mean(dim=0) / 3, targets)
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_the_loss_of_what_is_certain_and_wrong_is_finite():
    given = torch.tensor([[[900.0, -900.0]]])
    assert Readout(2, multi_label=True).loss(given, torch.tensor([[0.0, 1.0]])) == pytest.approx(
        -math.log(1e-7), rel=1e-3
    )
    assert Readout(2).loss(given, torch.tensor([1])) == 1800.0


def test_no_clip_has_no_scores():
    for readout in (Readout(10, merge=TO_TEN), Readout(10, True, 1.0, TO_TEN)):
        assert readout.scores(torch.zeros(2, 0, F_CLASSES)).shape == (0, 10)

"""Fitted temperatures: known ones are found again, and no loss gets worse."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audioflow.systems.readout import Readout
from audioflow.training import Judge
from audioflow.training.temperature import LEAST, MOST, fitted_temperature

N, C = 4000, 5


def calibrated(classes: int = C, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Logits (1, N, C), and classes drawn by the scores that they are of."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(N, classes))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (generator.random((N, 1)) > scores.cumsum(axis=1)).sum(axis=1)
    return torch.from_numpy(logits).float()[None], targets.clip(max=classes - 1)


def labelled(seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """The same of independent labels."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(N, C))
    targets = generator.random((N, C)) < 1 / (1 + np.exp(-logits))
    return torch.from_numpy(logits).float()[None], targets.astype(np.float32)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0, 10.0])
def test_the_temperature_of_scaled_logits_is_the_scale(scale):
    logits, targets = calibrated()
    assert fitted_temperature(scale * logits, targets, Readout(C)) == pytest.approx(scale, rel=0.06)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_of_several_labels_too(scale):
    logits, targets = labelled()
    readout = Readout(C, multi_label=True)
    assert fitted_temperature(scale * logits, targets, readout) == pytest.approx(scale, rel=0.06)


def test_of_merged_classes_too():
    logits, fine = calibrated(15)
    to = np.array([0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 6, 7, 8, 9])
    readout = Readout(10, merge=tuple(to.tolist()))
    assert fitted_temperature(3 * logits, to[fine], readout) == pytest.approx(3.0, rel=0.08)


def test_of_several_readouts_it_is_that_of_their_mean():
    logits, targets = calibrated()
    apart = torch.randn(1, N, C)
    three = torch.cat([logits + apart, logits - apart, logits]) * 3
    found = fitted_temperature(three, targets, Readout(C))
    assert found == pytest.approx(fitted_temperature(3 * logits, targets, Readout(C)), rel=1e-3)


def test_the_temperature_is_the_one_of_the_least_loss():
    logits, targets = calibrated()
    found = fitted_temperature(3 * logits, targets, Readout(C))

    def loss(temperature: float) -> float:
        return Judge(Readout(C, temperature=temperature), targets)(3 * logits)[0]

    assert loss(found) <= min(loss(t) for t in np.geomspace(LEAST, MOST, 200)) + 1e-7


@pytest.mark.parametrize("seed", range(20))
def test_the_loss_on_these_clips_never_gets_worse(seed):
    """Few clips, any logits, with one and with several labels, merged or not."""
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 12))
    logits = torch.from_numpy(generator.normal(size=(1, count, 4)) * 4).float()
    for readout in (Readout(4), Readout(4, multi_label=True), Readout(2, merge=(0, 1, 1, 0))):
        if readout.multi_label:
            targets = (generator.random((count, 4)) < 0.4).astype(np.float32)
        else:
            targets = generator.integers(0, readout.num_classes, count)
        found = fitted_temperature(logits, targets, readout)
        assert LEAST <= found <= MOST
        before, _ = Judge(readout, targets)(logits)
        after, _ = Judge(replace(readout, temperature=found), targets)(logits)
        assert after <= before


def test_of_clips_that_are_all_right_it_is_cold_and_of_all_wrong_ones_the_hottest():
    logits = 2 * torch.eye(3)[None]
    assert fitted_temperature(logits, np.arange(3), Readout(3)) == pytest.approx(LEAST, rel=0.01)
    wrong = np.array([1, 2, 0])
    assert fitted_temperature(logits, wrong, Readout(3)) == pytest.approx(MOST, rel=0.01)


def test_without_clips_nothing_is_divided():
    assert fitted_temperature(torch.zeros(1, 0, 3), np.zeros(0, np.int64), Readout(3)) == 1.0
    none = np.zeros((0, 3), np.float32)
    assert fitted_temperature(torch.zeros(1, 0, 3), none, Readout(3, multi_label=True)) == 1.0


@pytest.mark.parametrize("multi_label", [False, True])
def test_of_logits_that_tell_nothing_it_stays_one(multi_label):
    targets = np.eye(3, dtype=np.float32) if multi_label else np.arange(3)
    readout = Readout(3, multi_label=multi_label)
    for value in (0.0, float("nan")):
        assert fitted_temperature(torch.full((1, 3, 3), value), targets, readout) == 1.0

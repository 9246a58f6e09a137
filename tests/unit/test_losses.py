"""Losses of single examples against formulas; mixing and masking of examples."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from audioflow.recipe_train import SpecAugmentSection, TrainSection
from audioflow.training.losses import Loss, masked, mixed

B, C, R = 40, 5, 3


@pytest.fixture
def logits_RBC() -> torch.Tensor:
    return 2 * torch.randn(R, B, C, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def targets_B() -> torch.Tensor:
    return torch.arange(B) % C


@pytest.fixture
def targets_BC() -> torch.Tensor:
    """Of clips with no, one and several labels."""
    found = (torch.rand(B, C, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    assert {0, 1, 2} <= set(found.sum(dim=1).int().tolist())
    return found


def loss(**options) -> Loss:
    weights = options.pop("weights", torch.ones(C))
    return Loss(TrainSection(**options), weights)


def softmax64(logits: torch.Tensor) -> np.ndarray:
    shifted = logits.double().numpy() - logits.double().numpy().max(axis=-1, keepdims=True)
    return np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)


def sigmoid64(logits: torch.Tensor) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.double().numpy()))


# One label


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_the_loss_of_one_label_is_smoothed_cross_entropy(logits_RBC, targets_B, smoothing):
    found = loss(label_smoothing=smoothing)(logits_RBC[:1], targets_B)
    wanted = np.eye(C)[targets_B] * (1 - smoothing) + smoothing / C
    expected = -(wanted * np.log(softmax64(logits_RBC[0]))).sum(axis=1)
    assert found.shape == (B,)
    assert found.numpy() == pytest.approx(expected, rel=1e-5)


def test_of_several_readouts_it_is_the_mean_of_their_losses(logits_RBC, targets_B):
    found = loss()(logits_RBC, targets_B)
    each = [F.cross_entropy(one, targets_B, reduction="none") for one in logits_RBC]
    assert torch.allclose(found, (each[0] + each[1] + each[2]) / 3)
    mean_of_logits = F.cross_entropy(logits_RBC.mean(dim=0), targets_B, reduction="none")
    assert not torch.allclose(found, mean_of_logits)


def test_a_focal_loss_of_gamma_zero_is_cross_entropy(logits_RBC, targets_B):
    focal = loss(loss="focal", focal_gamma=0.0, label_smoothing=0.1)(logits_RBC, targets_B)
    assert focal.equal(loss(label_smoothing=0.1)(logits_RBC, targets_B))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_a_focal_loss_is_that_of_the_paper(logits_RBC, targets_B, gamma):
    """Lin et al., Focal Loss for Dense Object Detection, ICCV 2017: -(1 - p)^gamma log p."""
    own = softmax64(logits_RBC[0])[np.arange(B), targets_B]
    found = loss(loss="focal", focal_gamma=gamma)(logits_RBC[:1], targets_B).numpy()
    assert found == pytest.approx(-((1 - own) ** gamma) * np.log(own), rel=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("several", [False, True])
def test_a_focal_loss_of_what_is_certain_has_a_gradient(gamma, several):
    logits = torch.tensor([[[50.0, -50.0, -50.0], [-50.0, 50.0, -50.0]]], requires_grad=True)
    targets = torch.tensor([0, 0])
    given = F.one_hot(targets, 3).float() if several else targets
    section = TrainSection(loss="focal", focal_gamma=gamma)
    Loss(section, torch.ones(3))(logits, given).sum().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 1].abs().max() > 0.1  # of the wrong one


# Several labels


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_several_labels_is_the_mean_binary_one(logits_RBC, targets_BC, smoothing):
    found = loss(label_smoothing=smoothing)(logits_RBC[:1], targets_BC)
    score = sigmoid64(logits_RBC[0])
    wanted = targets_BC.numpy() * (1 - smoothing) + smoothing / 2
    expected = -(wanted * np.log(score) + (1 - wanted) * np.log(1 - score)).mean(axis=1)
    assert found.shape == (B,)
    assert found.numpy() == pytest.approx(expected, rel=1e-4)


def test_weights_of_several_labels_are_those_of_positives(logits_RBC, targets_BC):
    weights = torch.tensor([1.0, 2.0, 0.5, 7.0, 3.0])
    found = loss(weights=weights)(logits_RBC[:1], targets_BC).numpy()
    score, wanted = sigmoid64(logits_RBC[0]), targets_BC.numpy()
    each = -(weights.numpy() * wanted * np.log(score) + (1 - wanted) * np.log(1 - score))
    assert found == pytest.approx(each.mean(axis=1), rel=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_a_focal_loss_of_several_labels_follows_how_right_each_is(logits_RBC, targets_BC, gamma):
    found = loss(loss="focal", focal_gamma=gamma)(logits_RBC[:1], targets_BC).numpy()
    score, wanted = sigmoid64(logits_RBC[0]), targets_BC.numpy()
    right = np.where(wanted > 0.5, score, 1 - score)
    assert found == pytest.approx((-((1 - right) ** gamma) * np.log(right)).mean(axis=1), rel=1e-4)


def test_no_example_has_no_loss():
    assert loss()(torch.zeros(1, 0, C), torch.zeros(0, dtype=torch.int64)).shape == (0,)
    assert loss()(torch.zeros(1, 0, C), torch.zeros(0, C)).shape == (0,)


# Mixing


def test_mixed_rows_are_of_themselves_and_of_their_partner():
    torch.manual_seed(0)
    layers = (torch.randn(B, 4), torch.randn(B, 3, 2))
    found = mixed(layers, 0.4)
    assert sorted(found.partners.tolist()) == list(range(B))
    assert 0 <= found.share <= 1
    for layer, mix in zip(layers, found.rows, strict=True):
        expected = found.share * layer + (1 - found.share) * layer[found.partners]
        assert torch.allclose(mix, expected)
    own, other = torch.tensor([1.0]), torch.tensor([3.0])
    assert found.blend(own, other).item() == pytest.approx(3 - 2 * found.share)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_are_of_the_beta_distribution_of_alpha(alpha):
    torch.manual_seed(0)
    shares = np.array([mixed((torch.zeros(2, 1),), alpha).share for _ in range(4000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_torchs_seed_decides_how_examples_are_mixed():
    def shares(seed: int) -> tuple:
        torch.manual_seed(seed)
        found = mixed((torch.zeros(9, 1),), 0.4)
        return found.share, found.partners.tolist()

    assert shares(1) == shares(1) != shares(2)


def test_one_example_is_its_own_partner():
    one = torch.randn(1, 4)
    assert torch.allclose(mixed((one,), 0.4).rows[0], one)


# Masking


def stripes(**options) -> SpecAugmentSection:
    return SpecAugmentSection(**({"time_masks": 0, "mel_masks": 0} | options))


def hidden(pictures: torch.Tensor, section: SpecAugmentSection, seed: int = 0) -> np.ndarray:
    """Where (N, V, D) a picture was masked."""
    torch.manual_seed(seed)
    return (masked(pictures, section) != pictures).numpy()


PICTURES = torch.randn(2000, 20, 10, generator=torch.Generator().manual_seed(2)) + 5


@pytest.mark.parametrize(("axis", "key"), [(1, "time"), (2, "mel")])
def test_a_stripe_goes_through_the_whole_picture_and_is_in_one_piece(axis, key):
    found = hidden(PICTURES, stripes(**{f"{key}_masks": 1, f"{key}_share": 0.5}))
    across = found.any(axis=3 - axis)
    assert np.array_equal(found, np.broadcast_to(np.expand_dims(across, 3 - axis), found.shape))
    edges = np.abs(np.diff(np.pad(across.astype(int), ((0, 0), (1, 1))), axis=1)).sum(axis=1)
    assert set(edges.tolist()) == {0, 2}  # none, or one that begins and ends


@pytest.mark.parametrize(("share", "most"), [(0.5, 10), (0.1, 2), (0.05, 1), (0.04, 0), (1.0, 20)])
def test_a_stripe_is_up_to_its_share_of_the_side_and_every_width_is_as_likely(share, most):
    found = hidden(PICTURES, stripes(time_masks=1, time_share=share))
    widths = found.any(axis=2).sum(axis=1)
    counts = np.bincount(widths, minlength=most + 1)
    assert len(counts) == most + 1
    assert counts == pytest.approx(np.full(most + 1, 2000 / (most + 1)), rel=0.35)


def test_a_stripe_may_be_anywhere():
    found = hidden(PICTURES, stripes(mel_masks=1, mel_share=0.3))
    assert (found.any(axis=1).mean(axis=0) > 0.05).all()


@pytest.mark.parametrize(
    "options",
    [{}, {"time_masks": 3, "time_share": 0.0, "mel_masks": 3, "mel_share": 0.0}],
    ids=["no stripe", "share 0"],
)
def test_no_stripe_and_share_zero_change_nothing(options):
    assert not hidden(PICTURES, stripes(**options)).any()


def test_what_is_hidden_is_the_mean_of_the_picture():
    torch.manual_seed(0)
    section = stripes(time_masks=2, time_share=0.5, mel_masks=1, mel_share=0.5)
    found = masked(PICTURES, section)
    where = found != PICTURES
    means = PICTURES.mean(dim=(1, 2), keepdim=True).expand_as(PICTURES)
    assert where.float().mean() > 0.2
    assert torch.equal(found[where], means[where])


def test_every_picture_has_stripes_of_its_own():
    section = stripes(time_masks=1, time_share=0.5)
    found = hidden(PICTURES[:50], section).any(axis=2)
    assert len({tuple(row) for row in found.tolist()}) > 20
    assert not np.array_equal(found, hidden(PICTURES[:50], section, seed=1).any(axis=2))


def test_more_stripes_hide_more():
    shares = [
        hidden(PICTURES, stripes(time_masks=count, time_share=0.3)).mean() for count in (1, 2, 5)
    ]
    assert shares[0] < shares[1] < shares[2]
    assert shares[0] == pytest.approx(3 / 20, rel=0.1)  # 0 to 6 of 20, on average 3


def test_no_picture_is_masked_to_none():
    assert masked(PICTURES[:0], SpecAugmentSection()).shape == (0, 20, 10)

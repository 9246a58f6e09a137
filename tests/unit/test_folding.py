"""What is done to a network before it is used: nothing that its outputs show."""

import numpy as np
import torch
from torch import nn

from audioflow.backbones.folding import fold, taken_out
from audioflow.backbones.network import fill_random, flush


def network() -> nn.Sequential:
    made = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5, 1e-3), nn.ReLU()
    )
    fill_random(made, 0)
    return made.eval()


def pictures() -> torch.Tensor:
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.standard_normal((2, 3, 8, 8), np.float32))


def test_a_folded_normalisation_changes_nothing():
    plain, folded = network(), network()
    fold(folded, [("1", "2")])
    assert isinstance(folded[2], nn.Identity)
    with torch.inference_mode():
        assert torch.allclose(folded(pictures()), plain(pictures()), atol=1e-5)


def test_a_part_that_was_taken_out_is_what_is_missing():
    plain, rest = network(), network()
    first = taken_out(rest, "0")
    with torch.inference_mode():
        assert torch.equal(rest(first(pictures())), plain(pictures()))
        assert not torch.allclose(rest(pictures()), plain(pictures()))


def test_only_what_is_too_small_to_matter_becomes_zero():
    layer = nn.Linear(4, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1e-39, -1e-35, 2e-29, -1.0]]))
    flush(layer)
    assert layer.weight.tolist() == [[0.0, 0.0, float(np.float32(2e-29)), -1.0]]

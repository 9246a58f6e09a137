"""Every backbone gives its golden vectors, which an independent formulation computed."""

import importlib

import numpy as np
import pytest
import torch

from audioflow import goldens
from audioflow.backbones import BACKBONES

CASES = [(name, golden) for name in goldens.names() for golden in goldens.load(name)]
IDS = [f"{name}-{golden.case.name}" for name, golden in CASES]
FLOAT32 = 1e-4


def embedded(name: str, golden: goldens.Golden, **options) -> dict[str, np.ndarray]:
    backbone = BACKBONES.build(name, dict(golden.case.options) | options)
    backbone.to(torch.device("cpu"))
    with torch.inference_mode():
        found = backbone.embed(torch.from_numpy(goldens.batch(golden.case)))
    return {layer: vectors.numpy() for layer, vectors in found.items()}


def test_there_are_golden_vectors():
    assert CASES


@pytest.mark.parametrize(("name", "golden"), CASES, ids=IDS)
def test_a_backbone_gives_its_golden_vectors(name, golden):
    found = embedded(name, golden)
    for layer, expected in golden.layers.items():
        assert goldens.relative_error(found[layer], expected) < FLOAT32, layer


@pytest.mark.parametrize(("name", "golden"), CASES, ids=IDS)
def test_in_bfloat16_vectors_keep_their_direction(name, golden):
    if "precision" not in BACKBONES.load(name).Settings.model_fields:
        pytest.skip(f"{name} is no network")
    found = embedded(name, golden, precision="bfloat16")
    for layer, expected in golden.layers.items():
        width = expected.shape[-1]
        a, b = found[layer].reshape(-1, width), expected.reshape(-1, width)
        cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
        assert cosine.min() >= 0.999, layer


@pytest.mark.slow
@pytest.mark.parametrize(("name", "golden"), CASES, ids=IDS)
def test_golden_vectors_are_those_of_their_script(name, golden):
    script = importlib.import_module(f"audioflow.goldens.{name}")
    (case,) = [case for case in script.CASES if case.name == golden.case.name]
    assert case == golden.case
    for layer, expected in script.reference(case).items():
        assert goldens.relative_error(expected, golden.layers[layer]) < 1e-6, layer

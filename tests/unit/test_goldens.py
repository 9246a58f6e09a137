"""Every backbone gives its golden vectors, which an independent formulation computed."""

import importlib

import numpy as np
import pytest
import torch

from audioflow import goldens
from audioflow.doctor.vectors import checks, measure

ON = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
CHECKS = [check for check in checks([], ON) if check.golden is not None]
CASES = [(name, golden) for name in goldens.names() for golden in goldens.load(name)]


def test_there_are_golden_vectors_for_all_that_are_not_somebody_elses_code() -> None:
    own = "acoustic color edgel3 logmel mfcc_bof musicnn openl3 panns_cnn14 soundnet vggish yamnet"
    assert {*own.split(), "resnet18", "r2plus1d_18"} <= set(goldens.names())


@pytest.mark.parametrize(
    "check",
    CHECKS,
    ids=lambda check: f"{check.backbone}-{check.case}-{check.precision}-{check.device}",
)
def test_a_backbone_gives_its_golden_vectors(check) -> None:
    """In float32 to 1e-4 of the largest value, in bfloat16 in direction, to a cosine of 0.999."""
    found = measure(check)
    assert found.verdict == "ok", found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "golden"), CASES, ids=[f"{name}-{golden.case.name}" for name, golden in CASES]
)
def test_golden_vectors_are_those_of_their_script(name, golden) -> None:
    script = importlib.import_module(f"audioflow.goldens.{name}")
    (case,) = [case for case in script.CASES if case.name == golden.case.name]
    assert (case.shape, case.seed) == (golden.case.shape, golden.case.seed)
    for layer, expected in script.reference(case).items():
        assert goldens.relative_error(expected, golden.layers[layer]) < 1e-6, layer


def test_inputs_of_golden_vectors_are_the_same_on_every_machine() -> None:
    sound = goldens.sound(2, 16_000)
    assert sound.dtype == np.int16
    assert [int(value) for value in sound[1, :6]] == [-11372, -6968, -9636, -7414, -6016, -9866]
    assert int(sound.astype(np.int64).sum()) == -556138

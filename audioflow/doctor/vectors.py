"""Golden vectors of the backbones, measured on this machine.

Shapes: P patches, D width of a layer, L vectors per patch.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from audioflow import goldens
from audioflow.backbones import BACKBONES
from audioflow.errors import AudioflowError
from audioflow.goldens import BFLOAT16_COSINE, FLOAT32_ERROR, Golden
from audioflow.registry import UnknownPlugin, nearest

Verdict = Literal["ok", "FAIL", "skipped"]


@dataclass(frozen=True)
class Check:
    """One case of a backbone, to be run on a device in a precision; None where there is no case."""

    backbone: str
    golden: Golden | None
    device: str
    precision: str

    @property
    def case(self) -> str:
        return self.golden.case.name if self.golden else "-"


@dataclass(frozen=True)
class Measured:
    """What a check gave. error: largest relative error. cosine: smallest of any vector."""

    backbone: str
    case: str
    device: str
    precision: str
    verdict: Verdict
    error: float | None = None
    cosine: float | None = None
    seconds: float = 0.0
    reason: str = ""


def devices(asked: str) -> list[str]:
    """`all` stands for the CPU and, where there is one, a GPU.

    Raises `AudioflowError` where a GPU is asked for that is not there.
    """
    there = torch.cuda.is_available()
    if asked == "all":
        return ["cpu", "cuda"] if there else ["cpu"]
    if asked == "cuda" and not there:
        built = torch.version.cuda
        why = f"built for CUDA {built}, sees no device" if built else "was built without CUDA"
        raise AudioflowError(
            f"--device cuda: torch {torch.__version__} {why}; look at the driver (nvidia-smi) and "
            "at CUDA_VISIBLE_DEVICES, or leave --device out"
        )
    return [asked]


def checks(names: Sequence[str], on: Sequence[str]) -> list[Check]:
    """All cases of these backbones (of all, if none is named), per device and precision.

    Raises `UnknownPlugin` for a name that no backbone has.
    """
    for name in names:
        if name not in BACKBONES.names():
            hint = nearest(name, BACKBONES.names())
            raise UnknownPlugin(
                f"--backbone {name!r} does not exist; there are {', '.join(BACKBONES.names())}"
                + (f"; did you mean {hint!r}?" if hint else "")
            )
    with_golden = set(goldens.names())
    found = []
    for name in names or sorted(with_golden & set(BACKBONES.names())):
        cases: Sequence[Golden | None] = goldens.load(name) if name in with_golden else [None]
        for golden in cases:
            for device in on:
                found += [Check(name, golden, device, each) for each in _precisions(name, golden)]
    return found


def without_golden() -> list[str]:
    """Backbones that there are no golden vectors for."""
    return sorted(set(BACKBONES.names()) - set(goldens.names()))


def _precisions(name: str, golden: Golden | None) -> list[str]:
    try:
        network = "precision" in BACKBONES.load(name).Settings.model_fields
    except UnknownPlugin:
        network = False  # told by the one check that is tried
    return ["float32", "bfloat16"] if network and golden else ["float32"]


def measure(check: Check) -> Measured:
    """Run one check. What a backbone raises is its reason to fail, never an exception."""
    begun = time.perf_counter()

    def told(verdict: Verdict, reason: str = "", *figures: float) -> Measured:
        known = (check.backbone, check.case, check.device, check.precision)
        error, cosine = figures or (None, None)
        return Measured(*known, verdict, error, cosine, time.perf_counter() - begun, reason)

    if check.golden is None:
        return told("skipped", "there are no golden vectors for it")
    try:
        found = _embedded(check, check.golden)
    except UnknownPlugin as missing:
        return told("skipped", str(missing))
    except (AudioflowError, RuntimeError, ValueError, ImportError) as raised:
        return told("FAIL", f"{type(raised).__name__}: {raised}")
    expected = check.golden.layers
    if found.keys() != expected.keys():
        return told("FAIL", f"gives the layers {', '.join(found)}, not {', '.join(expected)}")
    error = max(goldens.relative_error(found[name], expected[name]) for name in expected)
    cosine = min(_cosine(found[name], expected[name]) for name in expected)
    if check.precision == "bfloat16":
        good, limit = cosine >= BFLOAT16_COSINE, f"the cosine is below {BFLOAT16_COSINE}"
    else:
        good, limit = error <= FLOAT32_ERROR, f"the error is above {FLOAT32_ERROR:g}"
    return told("ok", "", error, cosine) if good else told("FAIL", limit, error, cosine)


def _embedded(check: Check, golden: Golden) -> Mapping[str, NDArray[np.float32]]:
    options: dict[str, Any] = dict(golden.case.options)
    if "precision" in BACKBONES.load(check.backbone).Settings.model_fields:
        options["precision"] = check.precision
    backbone = BACKBONES.build(check.backbone, options)
    device = torch.device(check.device)
    with torch.inference_mode(), exact_float32():
        backbone.to(device)
        found = backbone.embed(torch.from_numpy(goldens.batch(golden.case)).to(device))
    return {name: vectors.cpu().numpy() for name, vectors in found.items()}


@contextmanager
def exact_float32() -> Iterator[None]:
    """Without TF32, in which cuDNN convolves float32 with 10 bits of mantissa unless it is told."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _cosine(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The smallest of any vector; two vectors of zeros point the same way."""
    if found.shape != expected.shape:
        return float("nan")
    width = expected.shape[-1]
    one, other = (each.reshape(-1, width).astype(np.float64) for each in (found, expected))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    both_zero = (np.abs(one).max(axis=1, initial=0) == 0) & (
        np.abs(other).max(axis=1, initial=0) == 0
    )
    cosines = (one * other).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)
    return float(np.where(both_zero, 1.0, cosines).min(initial=1.0))

"""What `audioflow doctor` finds out about vectors, packages and the machine, and in which words."""

import importlib.util
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from audioflow.backbones import BACKBONES
from audioflow.backbones.network import NetworkSettings
from audioflow.doctor import vectors
from audioflow.doctor.kept import kept_weights
from audioflow.doctor.machine import Gpu, Machine, machine
from audioflow.doctor.packages import EXTRAS, Packages, packages
from audioflow.doctor.reach import Place, Reached
from audioflow.doctor.text import (
    golden_section,
    local_ray_text,
    machine_section,
    package_section,
    plain_lines,
    size,
    store_section,
    weights_section,
)
from audioflow.doctor.vectors import Check, Measured, checks, devices, exact_float32, measure
from audioflow.errors import AudioflowError
from audioflow.goldens import Case, Golden, batch
from audioflow.registry import UnknownPlugin
from audioflow.weights import store
from tests.conftest import ROOT

GIB = 2**30


class Loudness:
    """A backbone whose vectors anyone can work out: a patch's first four samples, and their sum."""

    class Settings(NetworkSettings):
        gain: float = 1.0

    revision = 1
    known = ()
    layers: ClassVar = {"embedding": 4}

    def __init__(self, settings) -> None:
        if settings.gain > 100:
            raise RuntimeError("this gain is too much")
        self._settings = settings

    def to(self, device) -> None:
        self._tf32 = torch.backends.cudnn.allow_tf32

    def embed(self, patches):
        assert not self._tf32, "TF32 is on while weights are made ready"
        dtype = torch.bfloat16 if self._settings.precision == "bfloat16" else torch.float32
        return {"embedding": (patches[:, :4].to(dtype) * self._settings.gain).float()}


@pytest.fixture
def registered() -> Iterator[None]:
    """Two backbones more: one that can be worked out, one whose package is missing."""
    before = BACKBONES.entries
    more = {"loudness": f"{__name__}:Loudness", "lacking": "no_such_package.module:Lacking"}
    object.__setattr__(BACKBONES, "entries", {**before, **more})
    yield
    object.__setattr__(BACKBONES, "entries", before)


def golden(change: float = 0.0, layer: str = "embedding", **options) -> Golden:
    """What `Loudness` has to give, one number of it off by this share of the largest."""
    case = Case("plain", (3, 50), options)
    values = batch(case)[:, :4].astype(np.float32)
    values[1, 2] += change * np.abs(values).max()
    return Golden(case, {layer: values})


def measured(precision: str = "float32", **more) -> Measured:
    return measure(Check("loudness", golden(**more), "cpu", precision))


# Vectors


@pytest.mark.parametrize(
    ("precision", "change", "verdict"),
    [
        ("float32", 0.0, "ok"),
        ("float32", 0.9e-4, "ok"),
        ("float32", 1.2e-4, "FAIL"),
        ("bfloat16", 0.0, "ok"),
        ("bfloat16", 1.0, "FAIL"),
    ],
)
def test_a_verdict_is_by_the_error_in_float32_and_by_the_cosine_in_bfloat16(
    registered, precision, change, verdict
):
    found = measured(precision, change=change)
    assert (found.verdict, found.precision) == (verdict, precision)
    limit = "the cosine is below 0.999" if precision == "bfloat16" else "the error is above 0.0001"
    assert found.reason == ("" if verdict == "ok" else limit)
    if precision == "float32":
        assert found.error == pytest.approx(change / (1 + change), rel=0.01, abs=1e-7)


def test_the_cosine_is_that_of_the_worst_vector(registered):
    found = measured("float32", change=0.5)
    one = golden().layers["embedding"].astype(np.float64)
    other = golden(change=0.5).layers["embedding"].astype(np.float64)
    cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(one, other, strict=True)]
    assert found.cosine == pytest.approx(min(cosines), abs=1e-9)
    assert cosines[0] == pytest.approx(1.0)


def test_vectors_that_are_no_numbers_fail(registered):
    values = golden()
    broken = Golden(values.case, {"embedding": values.layers["embedding"] * np.nan})
    for precision in ("float32", "bfloat16"):
        assert measure(Check("loudness", broken, "cpu", precision)).verdict == "FAIL"


def test_other_layers_or_shapes_fail(registered):
    found = measured(layer="pool")
    assert (found.verdict, found.reason) == ("FAIL", "gives the layers embedding, not pool")
    values = golden()
    wider = Golden(values.case, {"embedding": np.ones((3, 5), np.float32)})
    for precision in ("float32", "bfloat16"):
        assert measure(Check("loudness", wider, "cpu", precision)).verdict == "FAIL"


def test_what_a_backbone_raises_is_its_reason_to_fail(registered):
    found = measured(gain=200.0)
    assert (found.verdict, found.reason) == ("FAIL", "RuntimeError: this gain is too much")
    wrong = measured(no_such=1)
    assert wrong.verdict == "FAIL"
    assert "no_such" in wrong.reason


def test_a_missing_package_skips_a_backbone_and_says_which(registered):
    found = measure(Check("lacking", golden(), "cpu", "float32"))
    assert found.verdict == "skipped"
    assert "needs the package 'no_such_package', which is not installed" in found.reason


def test_vectors_of_zeros_are_equal_and_differ_from_others():
    zeros, ones = np.zeros((1, 3)), np.ones((1, 3))
    assert vectors._cosine(zeros, zeros) == 1.0
    assert vectors._cosine(zeros, ones) == 0.0


def test_all_cases_are_run_per_device_and_precision():
    found = checks(["resnet18", "s3d"], ["cpu", "cuda"])
    told = [(c.backbone, c.case, c.device, c.precision) for c in found]
    assert told == [
        ("resnet18", "wide", "cpu", "float32"),
        ("resnet18", "wide", "cpu", "bfloat16"),
        ("resnet18", "wide", "cuda", "float32"),
        ("resnet18", "wide", "cuda", "bfloat16"),
        ("s3d", "-", "cpu", "float32"),
        ("s3d", "-", "cuda", "float32"),
    ]
    assert measure(found[-1]).verdict == "skipped"
    assert measure(found[-1]).reason == "there are no golden vectors for it"


def test_without_names_every_backbone_with_golden_vectors_is_run():
    found = {check.backbone for check in checks([], ["cpu"])}
    assert "resnet18" in found
    assert found.isdisjoint(vectors.without_golden())
    assert found | set(vectors.without_golden()) >= set(BACKBONES.names())


def test_an_unknown_backbone_is_refused_with_the_nearest():
    with pytest.raises(UnknownPlugin, match=r"'resnet1' does not exist; .*did you mean 'resnet18'"):
        checks(["resnet1"], ["cpu"])


def test_a_gpu_that_is_not_there_is_refused():
    assert devices("cpu") == ["cpu"]
    if torch.cuda.is_available():
        assert devices("all") == ["cpu", "cuda"]
        return
    assert devices("all") == ["cpu"]
    with pytest.raises(AudioflowError, match=rf"--device cuda: torch {torch.__version__[:4]}"):
        devices("cuda")


def test_tf32_is_off_for_the_measurement_only():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with exact_float32():
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


# Packages and machine


def test_the_extras_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = {name: tuple(n) for name, n in project["optional-dependencies"].items() if name != "dev"}
    serve = [
        line for line in requires("ray") or [] if re.search(r"""extra == ['"]serve['"]""", line)
    ]
    told["serve"] += tuple(serve)
    for name, needed in told.items():
        known = [package for line in needed for package in EXTRAS[name] if line.startswith(package)]
        assert known == list(EXTRAS[name])
    assert told.keys() == EXTRAS.keys()


def test_every_package_here_loads_and_has_a_version():
    found = packages()
    assert found.broken == {}
    assert found.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert all(found.versions.values())
    assert found.details["av"].startswith("FFmpeg ")


def test_a_package_that_is_missing_or_broken_is_told():
    broken = {"ray": "ray is not installed", "av": "av 18 does not load: libx.so"}
    details = {"ffmpeg program": "-"}
    shown = Packages({"ray": "", "av": "18"}, details, {"onnx": False, "litert": True}, broken)
    lines = plain_lines(package_section(shown))
    assert "  ray             missing  ray is not installed" in lines
    assert "  av              18       av 18 does not load: libx.so" in lines
    assert "  extras installed: litert" in lines
    assert "  others: pip install 'audioflow[onnx]'" in lines


@pytest.mark.parametrize(("kept", "there"), [(False, False), (False, True), (True, False)])
def test_bytecode_that_is_not_kept_is_told_where_there_is_none(
    kept: bool, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec("ray")
    assert found is not None
    found.cached = str(tmp_path / "ray.pyc")
    if there:
        Path(found.cached).touch()
    monkeypatch.setattr(sys, "dont_write_bytecode", not kept)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    shown = packages()
    assert shown.compiled == (kept or there)
    notes = "\n".join(package_section(shown).notes)
    assert ("PYTHONDONTWRITEBYTECODE is set" in notes) != shown.compiled


def test_the_machine_is_this_one():
    found = machine()
    assert found.cores == os.cpu_count()
    assert 0 < found.usable_cores <= found.cores
    assert 0 < found.available_bytes <= found.memory_bytes
    assert all(free >= 0 for free in found.disks.values())
    assert len(found.gpus) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert found.processor


HERE = Machine(
    "Linux", "Fast 9", ("avx2",), 8, 3.5, 16 * GIB, 10 * GIB, {"/dev/shm": 2 * GIB},
    (Gpu("H200", 140 * GIB, "9.0"),), "580.1",
)  # fmt: skip


def test_a_machine_is_told_in_lines():
    assert plain_lines(machine_section(HERE)) == [
        "machine",
        "  system            Linux",
        "  processor         Fast 9 (avx2)",
        "  cores             8, 3.5 of them for this process",
        "  memory            16.0 GiB, 10.0 GiB available",
        "  free in /dev/shm  2.0 GiB",
        "  GPU 0             H200, 140.0 GiB, capability 9.0",
        "  driver            580.1",
    ]
    assert local_ray_text(HERE) == "3.5 CPU, 1 GPU, about 2.0 GiB for objects"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * GIB, "5.0 GiB"), (2**50, "1024.0 TiB")],
)
def test_sizes_are_told_in_the_unit_that_fits(count, text):
    assert size(count) == text


# Words


def test_vectors_are_told_in_aligned_lines():
    rows = [
        Measured("vggish", "a", "cpu", "float32", "ok", 1.3e-6, 1.0, 2.04),
        Measured("x", "long", "cuda", "bfloat16", "FAIL", 0.5, 0.4, 0.1, "the cosine is low"),
        Measured("onnx", "-", "cpu", "float32", "skipped", reason="no package"),
    ]
    lines = plain_lines(golden_section(rows, ["s3d"]))
    assert lines[1:5] == [
        "  backbone  case  device  precision  error    cosine    s    verdict",
        "  vggish    a     cpu     float32    1.3e-06  1.000000  2.0  ok",
        "  x         long  cuda    bfloat16   5.0e-01  0.400000  0.1  FAIL: the cosine is low",
        "  onnx      -     cpu     float32    -        -         0.0  skipped: no package",
    ]
    assert lines[-1] == "  no golden vectors: s3d"


def test_stores_are_told_with_their_times_and_without_secrets():
    reached = [
        Reached(Place("run_dir", "s3://b/run", "write"), {"list": 3.2, "write": 10.0}),
        Reached(Place("--url", "s3://me:secret@b/x", "read"), {}, "no bucket"),
    ]
    assert plain_lines(store_section(reached))[2:] == [
        "  run_dir  write  s3://b/run    list 3 ms, write 10 ms  ok",
        "  --url    read   s3://***@b/x  -                       FAIL: no bucket",
    ]


def test_weights_that_were_fetched_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv(store.ENVIRONMENT, str(tmp_path))
    assert kept_weights() == (str(tmp_path), [])
    (resnet,) = BACKBONES.load("resnet18").known
    path = store.place(resnet)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"12345")
    folder, (found,) = kept_weights()
    assert (found.name, found.size_bytes) == ("ResNet18_Weights.IMAGENET1K_V1", 5)
    assert found.backbones == ("image", "resnet18")
    lines = plain_lines(weights_section(folder, [found]))
    assert lines[1] == "  ResNet18_Weights.IMAGENET1K_V1  5 B  image, resnet18"
    assert plain_lines(weights_section(folder, []))[1] == "  none fetched yet"

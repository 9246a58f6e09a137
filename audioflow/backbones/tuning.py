"""How many patches go through a network at once; on a GPU measured, and remembered for later.

What counts is the throughput, not how much fits into memory: beyond some size nothing is gained.
Shapes: P patches.
"""

import contextlib
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audioflow.backbones.base import Backbone
from audioflow.backbones.ready import Ready
from audioflow.backbones.running import Limits
from audioflow.media.patches import Patching
from audioflow.media.resampling import FULL_SCALE

ENOUGH = 0.95
"""Share of the best throughput with which the smallest batch is taken."""
WORSE = 0.8
"""Share of the best throughput below which larger batches are not tried any more."""
LARGEST = {"cpu": 64, "cuda": 1024}
SECONDS = {"cpu": 6.0, "cuda": 20.0}
"""Most time that measuring takes."""
_VALUES = {"cpu": 2**23, "cuda": 2**27}
_WHOLE_S = 10.0


def limits_for(ready: Ready, device: torch.device) -> Limits:
    """The limits of a backbone that is on this device.

    Of a network: its setting `batch_size`. On a CPU `auto` is `patches_on_cpu` of the backbone, or
    32: measured on an idle machine with all cores at work (benchmarks/README.md), for measuring
    beside all else that starts gives wrong answers. On a GPU it is what was measured, now or before
    on a machine like this. Recipes without weights have limits that were measured once and for all.
    """
    values = _VALUES[device.type]
    chosen = getattr(ready.given, "batch_size", None)
    if chosen not in (None, "auto"):
        return Limits(int(chosen), max(values, int(chosen) * _patch_values(ready.backbone)))
    if device.type == "cpu":
        return Limits(getattr(ready.backbone, "patches_on_cpu", 32), values)
    return Limits(256 if chosen is None else batch_size(ready, device), values)


def batch_size(ready: Ready, device: torch.device) -> int:
    """Patches at once with which this backbone is fast here; measured where it is not known yet."""
    store = _store() / f"{_key(ready, device)}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        return int(json.loads(store.read_text())["batch_size"])
    curve = throughputs(ready.backbone, device)
    best = chosen_size(curve)
    told = {"batch_size": best, "patches_per_s": curve, "device": device_name(device)}
    with contextlib.suppress(OSError):  # it is measured again next time
        _write(store, json.dumps(told, indent=1))
    return best


def throughputs(backbone: Backbone, device: torch.device) -> dict[int, float]:
    """Patches per second by batch size, from 1 in powers of two, until it gets worse."""
    generator = np.random.default_rng(0)
    least, largest = 0.1, LARGEST[device.type]
    values, until = _patch_values(backbone), time.perf_counter() + SECONDS[device.type]
    found: dict[int, float] = {}
    size = 1
    while size <= largest and (size == 1 or size * values <= _VALUES[device.type]):
        batch = torch.from_numpy(_patches(backbone, size, generator)).to(device)
        try:
            found[size] = size / _seconds(lambda: backbone.embed(batch), device, least)  # noqa: B023
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        slower = found[size] < WORSE * max(found.values())
        if slower or time.perf_counter() + 2 * size / found[size] > until:
            break
        size *= 2
    return found or {1: 0.0}


def chosen_size(curve: dict[int, float]) -> int:
    """The smallest batch that is nearly as fast as the fastest."""
    best = max(curve.values())
    return min(size for size, rate in curve.items() if rate >= ENOUGH * best)


def _seconds(call: Callable[[], Any], device: torch.device, least: float) -> float:
    """The time of one call: the best of several after a first one, together `least` or more."""
    with torch.inference_mode():
        call()
        times: list[float] = []
        while sum(times) < least:
            _wait(device)
            began = time.perf_counter()
            call()
            _wait(device)
            times.append(time.perf_counter() - began)
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _patch_shape(backbone: Backbone) -> tuple[int, ...]:
    source = backbone.input
    if isinstance(source, Patching):
        if not source.whole:
            return (source.patch_samples,)
        typical = round(max(_WHOLE_S, source.min_duration_s) * source.sample_rate_hz)
        return (max(source.patch_samples, typical),)
    side = source.sampling.short_side
    return (source.frames_per_patch, side, side * 4 // 3, 3)


def _patch_values(backbone: Backbone) -> int:
    return int(np.prod(_patch_shape(backbone)))


def _patches(backbone: Backbone, count: int, generator: np.random.Generator) -> Any:
    shape = (count, *_patch_shape(backbone))
    if isinstance(backbone.input, Patching):
        samples = generator.integers(-9000, 9000, shape, np.int16)
        return samples.astype(np.float32) / FULL_SCALE if backbone.input.exact else samples
    return generator.integers(0, 256, shape, np.uint8)


@dataclass(frozen=True)
class _Machine:
    """What the fastest size depends on, beside the backbone."""

    device: str
    threads: int
    torch: str


def device_name(device: torch.device) -> str:
    """The model of a GPU or of this machine's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def has_fast_bfloat16() -> bool:
    """Whether this machine's processor has instructions for bfloat16."""
    flags = next((line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("flags")), "")
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags.split())


def _lines(path: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from path.read_text().splitlines()


def _key(ready: Ready, device: torch.device) -> str:
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    machine = _Machine(device_name(device), threads, torch.__version__)
    settings = ready.given.model_dump(mode="json", exclude=set(ready.weights))
    parts = [type(ready.backbone).__qualname__, ready.backbone.revision, settings, vars(machine)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _store() -> Path:
    above = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(above).expanduser() / "audioflow" / "batch-sizes"


def _write(path: Path, text: str) -> None:
    """Several actors may write at once: each its own file, put in place whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as stream:
        stream.write(text)
    Path(stream.name).replace(path)

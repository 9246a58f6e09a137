"""What decoding, front ends and networks reach alone, on all cores at once, and what follows.

Every measurement runs in as many processes as there are cores (or in one with as many threads),
which begin together, so that what cores take from one another counts. Rates are seconds of media
per second ("x real time"), of all cores together.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

SECONDS = 3.0
CURVE_SECONDS = 0.7
BATCHES = (1, 2, 4, 8, 16, 32, 64)
GPU_BATCHES = (16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Choice:
    """A backbone with its settings."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Network:
    """A backbone alone, in the best of the ways that were tried.

    frontend: what its front end alone reaches; None where there is none, or nothing else.
    """

    rate: float
    processes: int
    threads: int
    batch: int
    frontend: float | None


def decoding(files: Sequence[Path], choices: Sequence[Choice], clip_s: float, cores: int) -> float:
    """The decoder in as many processes as cores, for all these backbones at once."""
    return sum(_together(partial(_decode, files, choices, clip_s), cores, 1))


def network(
    choice: Choice, clip_s: float, cores: int, device: str = "cpu", most: int = 2**16
) -> Network:
    """A backbone on patches in memory: one-thread processes against one with all threads.

    On a GPU one process, with patches that lie there. most: patches at once.
    """
    ways = [(1, 1)] if cores == 1 or device != "cpu" else [(cores, 1), (1, cores)]
    best: tuple[float, int, int, int] = (0.0, 1, 1, 1)
    for processes, threads in ways:
        curves = _together(partial(_curve, choice, clip_s, device, most), processes, threads)
        shared = set.intersection(*(set(curve) for curve in curves))
        batch = max(shared, key=lambda size: sum(curve[size] for curve in curves))
        rate = sum(curve[batch] for curve in curves)
        best = max(best, (rate, processes, threads, batch))
    _, processes, threads, batch = best
    return again(Network(0.0, processes, threads, batch, None), choice, clip_s, device)


def again(known: Network, choice: Choice, clip_s: float, device: str = "cpu") -> Network:
    """The same backbone in the same way once more: how fast it is now."""
    work = partial(_network, choice, clip_s, device, known.batch)
    found = _together(work, known.processes, known.threads)
    rate = sum(one for one, _ in found)
    share = sum(one * share for one, share in found) / rate
    return replace(known, rate=rate, frontend=rate / share if share > 0 else None)


def ideal(rates: Sequence[float]) -> float:
    """What stages of these rates, each on all cores, reach one after the other on the same."""
    return 1 / sum(1 / rate for rate in rates)


def _together(work: Callable[[Any], Any], processes: int, threads: int) -> list[Any]:
    """What `work` gives in each of several processes; it gets a barrier to wait at."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_worker, args=(work, threads, barrier, queue))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [queue.get() for _ in workers]
    for worker in workers:
        worker.join()
    failed = [one for one in found if isinstance(one, BaseException)]
    if failed:
        raise failed[0]
    return found


def _worker(work: Callable[[Any], Any], threads: int, barrier: Any, queue: Any) -> None:
    try:
        import torch

        from audioflow.media.memory import keep_freed_memory

        keep_freed_memory()
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        queue.put(work(barrier))
    except BaseException as error:
        barrier.abort()
        queue.put(RuntimeError(repr(error)))
        raise


def _decode(files: Sequence[Path], choices: Sequence[Choice], clip_s: float, barrier: Any) -> float:
    from audioflow.backbones.ready import made_ready
    from audioflow.media.packing import Sources
    from audioflow.media.parts import Wanted
    from audioflow.media.pyav import PyAV
    from audioflow.media.spans import Span

    inputs = [made_ready(choice.name, choice.options).backbone.input for choice in choices]
    sources = Sources.of(inputs)
    wanted = Wanted(tuple(sources.run_up), sources.samplings)
    decoder = PyAV(PyAV.Settings())

    def one(path: Path) -> None:
        for _ in decoder.decode(str(path), [Span()], wanted):
            pass

    one(files[0])
    barrier.wait()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS or count == 0:
        one(files[count % len(files)])
        count += 1
    return count * clip_s / (time.perf_counter() - began)


def _curve(choice: Choice, clip_s: float, device: str, most: int, barrier: Any) -> dict[int, float]:
    backbone, call = _loaded(choice, device)
    found: dict[int, float] = {}
    for size, batch in _batches(backbone, clip_s, device):
        if size > most:
            break
        call(batch)
        barrier.wait()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < CURVE_SECONDS or count == 0:
            call(batch)
            count += 1
        found[size] = count * size * media_s(backbone, clip_s) / (time.perf_counter() - began)
    return found


def _network(
    choice: Choice, clip_s: float, device: str, size: int, barrier: Any
) -> tuple[float, float]:
    """The rate, and the share of the time that the front end takes (0 where all is one)."""
    from audioflow.backbones.network import Network as Called

    backbone, call = _loaded(choice, device)
    batch = next(batch for number, batch in _batches(backbone, clip_s, device) if number == size)
    inside = 0.0
    original = Called.__call__

    def timed(self: Any, *inputs: Any) -> Any:
        nonlocal inside
        began = time.perf_counter()
        found = original(self, *inputs)
        inside += time.perf_counter() - began
        return found

    Called.__call__ = timed  # type: ignore[method-assign]
    call(batch)
    barrier.wait()
    inside, began, count = 0.0, time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS or count == 0:
        call(batch)
        count += 1
    took = time.perf_counter() - began
    share = 1 - inside / took if inside else 0.0
    return count * size * media_s(backbone, clip_s) / took, share


def _loaded(choice: Choice, device: str) -> tuple[Any, Callable[[Any], Any]]:
    import torch

    from audioflow.backbones.ready import made_ready

    on_gpu = device != "cpu"
    backbone = made_ready(choice.name, choice.options, on_gpu=on_gpu).backbone
    backbone.to(torch.device(device))

    def call(batch: Any) -> Any:
        with torch.inference_mode():
            found = backbone.embed(batch)
            if on_gpu:
                torch.cuda.synchronize()
            return found

    return backbone, call


def _batches(backbone: Any, clip_s: float, device: str) -> Iterator[tuple[int, Any]]:
    import numpy as np
    import torch

    from audioflow.media.patches import Patching
    from audioflow.media.resampling import FULL_SCALE

    rng = np.random.default_rng(0)
    source = backbone.input
    for size in BATCHES if device == "cpu" else GPU_BATCHES:
        if isinstance(source, Patching):
            samples = _cut(source, clip_s).shape[1]  # a clip that is taken whole may be repeated
            values = rng.integers(-9000, 9000, (size, samples), np.int16)
            given = values.astype(np.float32) / FULL_SCALE if source.exact else values
        else:
            side = source.sampling.short_side
            shape = (size, source.frames_per_patch, side, side * 4 // 3, 3)
            given = rng.integers(0, 256, shape, np.uint8)
        if size > 1 and given.size > (2**24 if device == "cpu" else 2**27):
            return
        yield size, torch.from_numpy(given).to(device)


def media_s(backbone: Any, clip_s: float) -> float:
    """Seconds of media that one patch stands for, in clips of this length."""
    from audioflow.media.patches import Patching

    source = backbone.input
    if isinstance(source, Patching):
        return clip_s / len(_cut(source, clip_s))
    count = source.sampling.num_frames or round(clip_s * (source.sampling.fps or 0))
    patches = 1 + max(0, count - source.frames_per_patch) // source.hop_frames
    return clip_s / patches


def _cut(source: Any, clip_s: float) -> Any:
    """The patches (P, T) of a clip of this length."""
    import numpy as np

    from audioflow.media.patches import Stretch, cut_patches

    samples = np.zeros(round(clip_s * source.sample_rate_hz), np.int16)
    return cut_patches(Stretch(samples), source)[0]

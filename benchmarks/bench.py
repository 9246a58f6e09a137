"""`make bench [CASE=name]`: how close `embed` comes to what its cores can do, side by side.

    python benchmarks/bench.py [CASE]... [--list]

Each case measures, in one run, on the same files and cores: decoding alone, the front end alone,
the backbone alone at its best batch and threads, the ideal that follows for the pipeline, the job
`embed` (steady, and whole with its start), a plain Ray Data script, and the way file by file.
Rates are seconds of media per second of the clock. Prints tables, writes `results/latest.json` and
the tables of README.md; of the cases that were not asked for, the last figures stay.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import alone
import corpus
import others
import pipeline
import tables
from cases import CASES, Case
from store import bucket

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / "data" / "bench"
LATEST = HERE / "results" / "latest.json"
README = HERE / "README.md"


def main() -> None:
    measures: dict[str, Callable[[Path], dict[str, Any]]] = {
        case.name: partial(measure, case) for case in CASES
    } | others.MEASURES
    wanted = [name for name in sys.argv[1:] if not name.startswith("-")] or list(measures)
    unknown = [name for name in wanted if name not in measures]
    if unknown or "--list" in sys.argv:
        print(*(f"no such case: {name}" for name in unknown), *measures, sep="\n")
        sys.exit(2 if unknown else 0)
    found = _latest()
    for name in wanted:
        print(f"{name} ...", flush=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        # Beside the cache, so that files can be linked.
        with tempfile.TemporaryDirectory(prefix="run-", dir=CACHE) as folder:
            result = measures[name](Path(folder))
        print(*(f"  {key}: {value}" for key, value in result.items()), sep="\n", flush=True)
        found[name] = {"case": name, "machine": machine(), "date": _today()} | result
        _write(found, list(measures))
    print(tables.markdown([found[name] for name in wanted]))


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """All figures of a case."""
    if case.num_gpus and not _has_gpu():
        return {"skipped": "no CUDA device on this machine"}
    device = "cuda" if case.num_gpus else "cpu"
    cpus = (os.cpu_count() or 1) if case.num_gpus else case.cpus
    os.sched_setaffinity(0, range(cpus))
    clip_s = corpus.duration_s(case.kind)
    files = corpus.make_root(case.kind, case.count, CACHE / "media", folder / "media")
    unique = corpus.unique_files(case.kind, CACHE / "media")
    decode = alone.decoding(unique, case.choices, clip_s, cpus)
    before = [alone.network(one, clip_s, cpus, device, case.most) for one in case.choices]
    gpus = {"num_gpus": case.num_gpus} if case.num_gpus else {}
    section: dict[str, Any] = {"backbones": {c.name: dict(c.options) | gpus for c in case.choices}}
    if case.shard:
        section["clips_per_shard"] = case.shard
    with bucket(case.store, files, folder) as (root, fetch):
        manifest = {"reader": "folder", "root": root}
        outcome = pipeline.embed(folder, manifest, section, cpus)
    # Shared machines change their speed by the minute: what is compared is read on both sides.
    after = [
        alone.again(one, choice, clip_s, device)
        for one, choice in zip(before, case.choices, strict=True)
    ]
    decodes = [decode, alone.decoding(unique, case.choices, clip_s, cpus)]
    decode = mean(decodes)
    networks = {
        choice.name: replace(first, rate=mean([first.rate, last.rate]))
        for choice, first, last in zip(case.choices, before, after, strict=True)
    }
    stages = [decode, *(one.rate for one in networks.values()), *([fetch] if fetch else [])]
    # On a GPU decoding goes on beside it; on cores one takes turns with the other.
    ideal = min(stages) if case.num_gpus else alone.ideal(stages)
    rates = {
        "decode": decode,
        "fetch": fetch,
        "frontend": _slowest(networks, "frontend"),
        "backbone": _together(networks.values()),
        "ideal": ideal,
        "steady": outcome.steady,
        "whole": outcome.whole,
        "plain_ray": _plain_ray(case, folder) if case.beside else None,
        "per_file": _per_file(case, folder) if case.files else None,
    }
    found: dict[str, Any] = {
        "clips": case.count,
        "cpus": cpus,
        "rates": {name: round(rate, 1) for name, rate in rates.items() if rate},
        "share_of_ideal": round(outcome.steady / ideal, 3) if outcome.steady else None,
        "drift": {
            "decode": round(decodes[1] / decodes[0], 2),
            "backbone": round(_together(after) / _together(before), 2),
        },
        "networks": {name: asdict(one) for name, one in networks.items()},
        "first_shard_s": round(outcome.first_shard_s, 2),
        "seconds": round(outcome.seconds, 1),
        "failures": outcome.failures,
        "peak_gb": round(outcome.peak_gb, 2),
        "verdict": outcome.verdict,
    }
    for other, key in (("per_file", "times_per_file_way"), ("plain_ray", "times_plain_ray")):
        if rate := rates[other]:
            found[key] = round(outcome.whole / rate, 2)
    return found


def _together(networks: Iterable[alone.Network]) -> float:
    """What several reach one after the other."""
    return alone.ideal([one.rate for one in networks])


def _slowest(networks: Mapping[str, alone.Network], what: str) -> float | None:
    found = [value for one in networks.values() if (value := getattr(one, what))]
    return min(found) if found else None


def _plain_ray(case: Case, folder: Path) -> float:
    """x real time of the plain script over its own files, with its start."""
    (choice,) = case.choices
    root = folder / "beside"
    corpus.make_root(case.kind, case.beside, CACHE / "media", root)
    arguments = [str(root), str(folder / "plain"), choice.name, json.dumps(choice.options)]
    seconds = _timed("plain_ray.py", [*arguments, str(case.cpus)], case.cpus)[0]
    return case.beside * corpus.duration_s(case.kind) / seconds


def _per_file(case: Case, folder: Path) -> float:
    """x real time file by file, without the start."""
    (choice,) = case.choices
    arguments = [str(folder / "media"), choice.name, json.dumps(choice.options), str(case.files)]
    told = _timed("per_file.py", arguments, case.cpus)[1]
    return case.files * corpus.duration_s(case.kind) / float(told.split()[-1])


def _timed(script: str, arguments: list[str], cpus: int) -> tuple[float, str]:
    import time

    pinned = ["taskset", "-c", ",".join(map(str, range(cpus)))]
    began = time.perf_counter()
    done = subprocess.run(
        [*pinned, sys.executable, str(HERE / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return time.perf_counter() - began, done.stdout


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def machine() -> str:
    """What the figures were read on."""
    import torch

    from audioflow.backbones.tuning import device_name

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    cpu = device_name(torch.device("cpu"))
    return (
        f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GiB{gpu}; Python "
        f"{platform.python_version()}, torch {torch.__version__.partition('+')[0]}"
    )


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _latest() -> dict[str, Any]:
    if not LATEST.exists():
        return {}
    return {one["case"]: one for one in json.loads(LATEST.read_text())["cases"]}


def _write(found: Mapping[str, Any], order: list[str]) -> None:
    """The figures and the page; in the order of the cases."""
    cases = [found[name] for name in order if name in found]
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text(json.dumps({"machine": machine(), "cases": cases}, indent=1) + "\n")
    README.write_text(tables.replaced(README.read_text(), tables.markdown(cases)))


if __name__ == "__main__":
    main()

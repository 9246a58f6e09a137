"""How close `embed` comes to what decoding and the backbones alone allow, in one run.

    python benchmarks/embed_rate.py [COPIES]

Takes the demo corpus (made first if need be), hard-links it COPIES times (default 10), and prints
the rate of one decoder child, of each backbone on one thread, and of the whole job with and without
its start. Rates are media seconds per second ("x real time").
"""

import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from audioflow.backbones import BACKBONES
from audioflow.backbones.running import Heard, Limits, embed_pictures, embed_sound
from audioflow.cli import Command, run_command
from audioflow.datasets.demo_corpus import make_corpus
from audioflow.media.child import DecoderChild
from audioflow.media.packing import Packer, Sources, unpack_pictures, unpack_sound
from audioflow.media.parts import Part, Wanted
from audioflow.media.spans import Span

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")


def main() -> None:
    copies = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    torch.set_num_threads(1)
    corpus = make_corpus(ROOT / "data" / "demo", clips=120, seed=0)
    files = sorted(str(path) for path in corpus.rglob("*.*") if not path.name.startswith("."))
    acoustic, color = BACKBONES.build("acoustic", {}), BACKBONES.build("color", {})
    sources = Sources.of([acoustic.input, color.input])
    parts, decode_s = decoded(files, Wanted(tuple(sources.run_up), sources.samplings))
    packer = Packer(sources)
    for part in parts:
        packer.add(part)
    columns = packer.columns()
    windows = unpack_sound(columns, acoustic.input.sample_rate_hz)
    heard = [Heard(w.clip, w.stretch) for w in windows if w.end and w.end.error is None]
    media_s = sum(w.end.duration_s for w in windows if w.end)
    started = time.perf_counter()
    embed_sound(acoustic, heard, CPU, Limits())
    acoustic_s = time.perf_counter() - started
    started = time.perf_counter()
    embed_pictures(color, unpack_pictures(columns, color.input.sampling), CPU, Limits())
    color_s = time.perf_counter() - started
    ideal = os.cpu_count() * media_s / (decode_s + acoustic_s + color_s)
    whole, steady = pipeline(corpus, copies)
    rows = {
        "decoding, one child": media_s / decode_s,
        "acoustic, one thread": media_s / acoustic_s,
        "color, one thread": media_s / color_s,
        f"all three on {os.cpu_count()} cores, at best": ideal,
        "embed, from its first shard on": steady,
        "embed, with its start": whole,
    }
    for name, rate in rows.items():
        print(f"{name:40s} {rate:8.0f} x real time")
    print(f"share of the best, from the first shard on: {steady / ideal:.2f}")


def decoded(files: list[str], wanted: Wanted) -> tuple[list[Part], float]:
    child = DecoderChild(60, 4)
    list(child.decode(files[0], [Span()], wanted))
    started = time.perf_counter()
    found = [
        replace(part, clip=clip)
        for clip, path in enumerate(files)
        for parts in child.decode(path, [Span()], wanted)
        for part in parts
    ]
    seconds = time.perf_counter() - started
    child.close()
    return found, seconds


def pipeline(corpus: Path, copies: int) -> tuple[float, float]:
    """Rates of the job over all its time, and from its first shard to its last."""
    with tempfile.TemporaryDirectory() as folder:
        for path in corpus.rglob("*.*"):
            for copy in range(copies):
                target = Path(folder, "media", path.parent.name, f"{copy}_{path.name}")
                target.parent.mkdir(parents=True, exist_ok=True)
                if not path.name.startswith("."):
                    os.link(path, target)
        events = Path(folder, "events.ndjson")
        recipe = str(ROOT / "configs" / "demo.yaml")
        settings = [
            f"run_dir={folder}/run",
            f"manifest={{reader: folder, root: {folder}/media}}",
            "embed.max_failed_share=1",
            "ray.address=local",
        ]
        for job in ("manifest", "embed"):
            assert run_command(Command(job, recipe, settings, str(events))) == 0
        told = [json.loads(line) for line in events.read_text().splitlines()]
    told = [event for event in told if event["job"] == "embed"]
    clock = [_seconds(event["time"]) for event in told]
    shards = [
        (at, event) for at, event in zip(clock, told, strict=True) if event["kind"] == "progress"
    ]
    media_s = shards[-1][1]["media_s"]
    steady = (media_s - shards[0][1]["media_s"]) / (shards[-1][0] - shards[0][0])
    return media_s / (shards[-1][0] - clock[0]), steady


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


if __name__ == "__main__":
    main()

"""A small run on real sound files: tones of two heights, embedded by two backbones, with heads."""

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from audioflow.backbones.ready import made_ready
from audioflow.embeddings import embedding_rows
from audioflow.engine.listening import Listening
from audioflow.media.spans import Span
from audioflow.scores import ScoredClips, score_rows
from audioflow.storage import Folder
from audioflow.systems.bundle import HeadBundle, HeadSpec
from audioflow.systems.network import network_for
from audioflow.tables import MANIFEST_SCHEMA, Header, Receipt, Table, fingerprint

RATE_HZ = 16_000
CLASSES = ["high", "low"]
CLIPS = [f"clip{number:02d}" for number in range(24)]
SYSTEMS = {"tiles": "logmel", "rows": "acoustic"}


def tone(hz: float, seconds: float, seed: int) -> np.ndarray:
    """A tone from the middle of the clip on, in faint noise."""
    noise = np.random.default_rng(seed).normal(size=round(seconds * RATE_HZ)) * 40
    times = np.arange(len(noise)) / RATE_HZ
    heard = np.where(times > seconds / 2, 9000 * np.sin(2 * np.pi * hz * times), 0)
    return (noise + heard).astype(np.int16)


def write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())


def finish(
    table: Table, kind: str, receipts: Sequence[Receipt], settings: dict[str, Any], **more: Any
) -> None:
    rows = sum(receipt.rows for receipt in receipts)
    key = fingerprint(kind, settings, [receipt.sha256 for receipt in receipts])
    name = table.folder.url.rsplit("/", 1)[-1]
    values: dict[str, Any] = {"parents": {}} | more
    table.finish(
        Header(kind, name, key, values.pop("parents"), settings, rows, 0, [*receipts], **values)
    )


def make_heard_run(root: Path) -> Folder:
    """Clips 0, 2, 4 ... are low, the others high; the last six are of the split test."""
    run, media = Folder(str(root / "run")), root / "media"
    media.mkdir(parents=True)
    rows = []
    for number, clip_id in enumerate(CLIPS):
        samples = tone([400, 3000][number % 2] + 10 * number, 1.2 + 0.05 * number, number)
        write_wav(media / f"{clip_id}.wav", samples)
        rows.append(
            {
                "clip_id": clip_id,
                "uri": str(media / f"{clip_id}.wav"),
                "labels": [CLASSES[1 - number % 2]],
                "fine_labels": [],
                "split": "train" if number < 18 else "test",
                "group": clip_id,
                "source": "main",
            }
        )
    manifest = Table(run / "manifest")
    data = pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)
    finish(manifest, "manifest", [manifest.commit("all-m-m", data)], {}, classes=CLASSES)
    for name, options in {"logmel": {"hop_s": 0.48}, "acoustic": {}}.items():
        _embed(run, name, options, [row["uri"] for row in rows])
    for system, backbone in SYSTEMS.items():
        _head(run, system, backbone)
    return run


def _embed(run: Folder, name: str, options: dict[str, Any], uris: Sequence[str]) -> None:
    ready = made_ready(name, options)
    layers = dict(ready.backbone.layers)
    settings = {
        "backbone": name,
        "revision": ready.backbone.revision,
        "settings": ready.what_counts(),
        "max_duration_s": 100.0,
        "decoder": "pyav",
        "sound_track": None,
        "layers": layers,
        "vectors": fingerprint(name),
        "weights": {},
    }
    listening = Listening(Header("embeddings", name, "", {}, settings, 0, 0, []), run.options)
    clips = [listening.embedding(uri, Span()) for uri in uris]
    table = Table(run / "embeddings" / name)
    receipts = [table.commit("all-e-0", embedding_rows(CLIPS, clips, layers))]
    finish(table, "embeddings", receipts, settings)


def _head(run: Folder, system: str, backbone: str) -> None:
    """A linear head on the mean vector: one step of gradient descent from zero, which is enough."""
    rows = Table(run / "embeddings" / backbone).read()
    layers = Table(run / "embeddings" / backbone).complete_header().settings["layers"]
    spec = HeadSpec(
        system=system,
        backbone=backbone,
        embeddings=fingerprint(backbone),
        layers=layers,
        vectors_per_patch=1,
        pooling={"name": "mean", "on": "embeddings"},
        head={"name": "linear"},
        classes=CLASSES,
        head_classes=CLASSES,
        merge=None,
        multi_label=False,
        temperature=1.0,
        normalised=True,
        trained_on={},
    )
    network = network_for(spec.network, 0)
    (vectors,) = spec.inputs.read(rows).rows
    given = torch.from_numpy(vectors)
    # Bands keep their scale, so that it is the loud ones that the head goes by.
    scale = torch.ones(given.shape[1]) if backbone == "logmel" else given.std(0).clamp(min=1e-3)
    network.set_normalisation([given.mean(0)], [scale])
    targets = torch.tensor([1 - number % 2 for number in range(len(CLIPS))])
    optimiser = torch.optim.SGD(network.parameters(), 0.05)
    for _ in range(20):
        optimiser.zero_grad()
        logits = network.head(network.normalise[0](given))
        torch.nn.functional.cross_entropy(logits, targets).backward()
        optimiser.step()
    bundle = HeadBundle(spec, network.state_dict())
    bundle.save(run / "heads" / system, [])
    finish(Table(run / "heads" / system), "head", [], {"folds": []}, classes=CLASSES)
    labels = [[CLASSES[int(target)]] for target in targets]
    scored = ScoredClips(CLIPS, labels, ["train"] * 18 + ["test"] * 6)
    table = Table(run / "scores" / system)
    made = score_rows(scored, bundle.scores(spec.inputs.read(rows)), CLASSES)
    finish(table, "scores", [table.commit("s", made)], {}, classes=CLASSES)

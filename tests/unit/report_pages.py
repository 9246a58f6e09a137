"""Report data made up for tests, and a reader that insists on well-formed pages."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np

from audioflow.report import (
    EpochRecord,
    ReportData,
    StageRow,
    SystemScores,
    Training,
    ValClass,
    words,
)
from audioflow.report.document import document, to_bytes
from audioflow.report.excerpts import Excerpts
from audioflow.report.figures import compute
from audioflow.report.page import render

CLASSES = ("siren", "horn", "violin", "rain")
VOID = {"meta", "link", "br", "input", "hr", "img"}


def scores_like(targets: np.ndarray, num_classes: int, strength: float, seed: int) -> np.ndarray:
    """Softmax scores whose right class is raised by `strength`."""
    logits = np.random.default_rng(seed).normal(size=(len(targets), num_classes))
    logits[np.arange(len(targets)), targets] += strength
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def make_system(
    name: str,
    *,
    classes: tuple[str, ...] = CLASSES,
    num_clips: int = 60,
    strength: float = 1.5,
    seed: int = 0,
    split: str = "test",
    **more: Any,
) -> SystemScores:
    targets = np.arange(num_clips) % len(classes)
    return SystemScores(
        name=name,
        kind=more.pop("kind", "system"),
        summary_line=more.pop("summary_line", "acoustic -> mean -> mlp"),
        classes=classes,
        clip_ids=tuple(f"clip{i:05d}" for i in range(num_clips)),
        uris=tuple(f"s3://bucket/{i}.mp4" for i in range(num_clips)),
        groups=tuple(f"rec{i // 2}" for i in range(num_clips)),
        splits=(split,) * num_clips,
        labels=tuple(classes[t] for t in targets),
        scores=scores_like(targets, len(classes), strength, seed),
        **more,
    )


def only(system: SystemScores, keep: list[int]) -> SystemScores:
    """The system as if it had scored only these clips."""

    def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(values[i] for i in keep)

    return replace(
        system,
        clip_ids=pick(system.clip_ids),
        uris=pick(system.uris),
        groups=pick(system.groups),
        splits=pick(system.splits),
        labels=pick(system.labels),
        scores=system.scores[keep],
    )


def certain(name: str, right: int, **more: Any) -> SystemScores:
    """A system that gets the first `right` of 100 clips right, each clip its own recording."""
    system = make_system(name, num_clips=100, **more)
    target = np.arange(100) % 4
    shown = np.where(np.arange(100) < right, target, (target + 1) % 4)
    groups = tuple(f"rec{i}" for i in range(100))
    return replace(system, groups=groups, scores=np.eye(4, dtype=np.float32)[shown])


def make_training(fold: str = "", epochs: int = 4) -> Training:
    records = tuple(
        EpochRecord(e, 1 / e, 1.2 / e, {"val_accuracy": 0.5 + 0.1 * e}, 1e-3, 0.1)
        for e in range(1, epochs + 1)
    )
    return Training(records, epochs, "val_accuracy", 2, 0.4, 1234, fold)


def val_class(name: str, support: int, f1: float) -> ValClass:
    return ValClass(name, support, f1 / 2, f1 / 4, f1)


def fuse(first: SystemScores, second: SystemScores) -> SystemScores:
    """The mean of two systems; clips that the second lacks come from the first alone."""
    places = {clip: i for i, clip in enumerate(second.clip_ids)}
    rows, available = [], []
    for clip, own in zip(first.clip_ids, first.scores, strict=True):
        both = clip in places
        rows.append((own + second.scores[places[clip]]) / 2 if both else own)
        available.append((first.name, second.name) if both else (first.name,))
    curve = [{"weight": w / 4, "accuracy": 0.5 + w / 20, "log_loss": 1 - w / 9} for w in range(5)]
    return replace(
        first,
        name="fused",
        kind="fused",
        summary_line="weighted: audio 0.50, video 0.50 (fitted on val)",
        scores=np.stack(rows),
        available=tuple(available),
        parts=(first.name, second.name),
        training=(),
        fusion={"weights": {"audio": 0.5, "video": 0.5}, "fit_split": "val", "curve": curve},
    )


def make_data(*systems: SystemScores, **more: Any) -> ReportData:
    classes = systems[0].classes if systems else CLASSES
    values: dict[str, Any] = {
        "title": "demo",
        "run_dir": "runs/demo",
        "created": "2026-11-20T20:25:07+00:00",
        "command": "audioflow run configs/demo.yaml",
        "recipe_yaml": "run_dir: runs/demo\n",
        "splits": {split: dict.fromkeys(classes, 15) for split in ("train", "val", "test")},
        "stages": (
            StageRow("embed", "embeddings/acoustic", 60, 0, 4.5, 13.3, 21.5, 812_331, "", 2),
            StageRow("score", "scores/audio", 60, 0, 0.3, 200.0, None, 2_331),
        ),
        "systems": systems,
        "failures": (),
        "num_failures": 0,
        "failure_counts": {},
        "versions": {"audioflow": "0.1.0"},
        "fingerprints": {"manifest": "00ff"},
        "machine": {"machine": "2 cores"},
    }
    return ReportData(**(values | more))


def two_and_fused() -> tuple[SystemScores, SystemScores, SystemScores]:
    audio = make_system("audio", training=(make_training(),))
    whole = make_system("video", strength=1.2, seed=1)
    video = only(whole, [i for i in range(60) if i % 5])
    return audio, video, fuse(audio, video)


def build_text(
    data: ReportData,
    *,
    eval_split: str = "test",
    num_bootstrap: int = 1000,
    excerpts: Excerpts | None = None,
) -> dict[str, bytes]:
    """What `build` gives but for the plots, which take most of its time."""
    figures = compute(data, eval_split, num_bootstrap)
    verdict = words.verdict(data, figures)
    return {
        "index.html": render(data, figures, verdict, excerpts).encode(),
        "report.json": to_bytes(document(data, figures, verdict)),
    }


def load(files: dict[str, bytes]) -> dict[str, Any]:
    """report.json, refusing the constants that strict JSON does not have."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"report.json holds {constant}")

    content: dict[str, Any] = json.loads(files["report.json"], parse_constant=refuse)
    return content


class Page(HTMLParser):
    """Reads a page and insists that tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"attribute twice in <{tag} {attrs}>"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()} closes another element"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def ids(self) -> list[str]:
        return [attrs["id"] or "" for _, attrs in self.tags if "id" in attrs]


def page_of(files: dict[str, bytes]) -> Page:
    return Page(files["index.html"].decode())

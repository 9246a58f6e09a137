"""Scores of made-up systems whose skill is known, and fusions of them."""

from collections.abc import Sequence

import numpy as np

from audioflow.fusion import Block, FitClips, Fusion
from audioflow.recipe import FuseSection

SYSTEMS = ("audio", "video", "text")


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (shares / shares.sum(axis=-1, keepdims=True)).astype(np.float32)


def make_scores(seed, num_clips=200, skill=(1.0, 1.5), num_classes=3):
    """Softmax scores (S, N, C) of systems of some skill, with class indices (N,)."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(num_classes, size=num_clips)
    logits = rng.normal(size=(len(skill), num_clips, num_classes)) * 1.5
    for system, strength in enumerate(skill):
        logits[system, np.arange(num_clips), targets] += strength
    return softmax(logits), targets


def make_several(seed, num_clips=300, skill=(1.0, 1.5), num_classes=4):
    """Sigmoid scores (S, N, C), with which of the classes each clip has, bool (N, C)."""
    rng = np.random.default_rng(seed)
    truth = rng.random((num_clips, num_classes)) < 0.3
    logits = rng.normal(size=(len(skill), num_clips, num_classes))
    logits += np.array(skill)[:, None, None] * (2 * truth - 1)
    return (1 / (1 + np.exp(-logits))).astype(np.float32), truth


def fit_clips(scores, targets, *, available=None, quality=None, groups=None, folds=None):
    """Labelled clips; each is a group by itself unless said otherwise."""
    if available is None:
        available = np.ones(scores.shape[:2], bool)
    ids = [f"clip{row:05}" for row in range(scores.shape[1])]
    return FitClips(Block(scores, available, quality, folds), targets, groups or ids, ids)


def fusion(
    rule: str = "weighted",
    *,
    systems: int = 2,
    num_classes: int = 3,
    multi_label: bool = False,
    qualities: Sequence[str] = (),
    calibrate: str = "none",
    **options,
) -> Fusion:
    """A fusion by name; not calibrated unless asked for."""
    section = FuseSection(
        systems=list(SYSTEMS[:systems]), rule=rule, calibrate=calibrate, **options
    )
    classes = [f"class{index}" for index in range(num_classes)]
    return Fusion.of(section, classes, multi_label=multi_label, quality=qualities)


def halves(clips: FitClips) -> tuple[FitClips, FitClips]:
    """The first half of the clips, and the second."""
    middle = len(clips) // 2
    return clips.at(np.arange(middle)), clips.at(np.arange(middle, len(clips)))


def accuracy(scores, targets) -> float:
    return float((scores.argmax(axis=1) == targets).mean())


def log_loss(scores, targets) -> float:
    """Mean of -log of what the right class got; of each score, with several labels."""
    scores = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    if targets.ndim == 2:
        return float(-np.log(np.where(targets, scores, 1 - scores)).mean())
    return float(-np.log(scores[np.arange(len(targets)), targets]).mean())

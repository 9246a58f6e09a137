"""`audioflow export onnx`: the graph gives the scores of the bundle, for any number of patches.

Shapes: B clips, P patches, V vectors of a patch, D width of a vector, C classes.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audioflow import calibration
from audioflow.calibration.system import CALIBRATION, Part, SystemCalibration
from audioflow.errors import InputError
from audioflow.exporters.base import Source
from audioflow.exporters.onnx import OPSET, Onnx, OnnxSettings
from audioflow.exporters.onnx_graph import ScoreGraph
from audioflow.storage import Folder
from audioflow.systems.bundle import HeadBundle, HeadSpec
from audioflow.systems.ensemble import Heads, save_ensemble
from audioflow.systems.inputs import ClipRows
from audioflow.systems.network import network_for

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

D = 6
CLASSES = ["cat", "dog", "owl"]


def bundle(seed: int = 0, **changes: Any) -> HeadBundle:
    values: dict[str, Any] = {
        "system": "audio",
        "backbone": "acoustic",
        "embeddings": "f" * 32,
        "layers": {"embedding": D},
        "vectors_per_patch": 1,
        "pooling": {"name": "mean", "on": "embeddings"},
        "head": {"name": "mlp", "hidden": [5], "dropout": 0.0},
        "classes": CLASSES,
        "head_classes": changes.get("classes", CLASSES),
        "merge": None,
        "multi_label": False,
        "temperature": 1.7,
        "normalised": True,
        "trained_on": {"clips": 10},
    }
    spec = HeadSpec(**(values | changes))
    state = network_for(spec.network, seed).state_dict()
    drawn = torch.Generator().manual_seed(seed)
    for name in [one for one in state if one.endswith((".mean", ".std"))]:
        state[name] = torch.rand(state[name].shape, generator=drawn) + 0.5
    return HeadBundle(spec, state)


def patches(bundle: HeadBundle, clips: int, count: int) -> list[np.ndarray]:
    rng, spec = np.random.default_rng(clips), bundle.inputs
    tall = (spec.vectors_per_patch,) if "picture" in spec.takes else ()
    shapes = [(clips, count, *tall, width) for width in spec.widths]
    return [rng.normal(1, 2, shape).astype(np.float32) for shape in shapes]


def scored(heads: Heads, layers: list[np.ndarray]) -> np.ndarray:
    """(B, C) as the job score makes them, one clip by itself after the other."""
    found = []
    for clip in zip(*layers, strict=True):
        members = []
        for member in heads.members.values():
            pool, rows, count = member.inputs.pool, tuple(clip), len(clip[0])
            if pool is not None and pool.while_reading:
                rows = tuple(_pooled(pool, layer) for layer in clip)
                count = 1
            members.append(member.scores(ClipRows(["a"], rows, np.array([0, count]))))
        found.append(np.mean(members, axis=0)[0])
    return np.stack(found)


def _pooled(pool: Any, layer: np.ndarray) -> np.ndarray:
    from audioflow.embeddings import LayerRows

    return pool.built().pool(LayerRows(["a"], layer, np.array([0, len(layer)])))


def exported(folder: Path) -> Any:
    out = folder / "head.onnx"
    written = Onnx(OnnxSettings()).write(Source(Folder(str(folder)), "audio"), out)
    assert f"opset {OPSET}" in written.notes[0]
    return onnxruntime.InferenceSession(str(out))


def save(folder: Path, *members: HeadBundle) -> Heads:
    place = Folder(str(folder / "heads" / "audio"))
    if len(members) == 1:
        members[0].save(place, [])
    else:
        for number, member in enumerate(members):
            member.save(place / f"fold-{number}", [])
        save_ensemble(place, [str(number) for number in range(len(members))])
    return Heads.load(place)


def calibrate(folder: Path, method: str, multi_label: bool = False) -> Any:
    rng = np.random.default_rng(1)
    chances = rng.dirichlet(np.ones(3), 300)
    targets: Any = np.array([rng.choice(3, p=row) for row in chances])
    if multi_label:
        targets = rng.random(chances.shape) < chances
    fitted = calibration.fit(method, chances.astype(np.float32), targets, multi_label=multi_label)
    told = SystemCalibration(
        "k", method, multi_label, True, tuple(CLASSES), "", (Part(fitted, None),), {}, {}
    )
    Folder(str(folder / "heads" / "audio")).write(CALIBRATION, told.to_bytes())
    return fitted


HEADS = {
    "pooled": {"pooling": {"name": "mean_std", "on": "embeddings"}},
    "of patches, merged": {
        "pooling": {"name": "top_k", "k": 2, "on": "logits"},
        "head": {"name": "linear"},
        "head_classes": ["cat", "tom", "dog", "owl"],
        "merge": {"cat": "cat", "tom": "cat", "dog": "dog", "owl": "owl"},
    },
    "several labels": {
        "pooling": {"name": "attention", "on": "scores"},
        "head": {"name": "linear"},
        "multi_label": True,
    },
    "attention": {
        "pooling": None,
        "head": {"name": "attention", "num_heads": 2, "dropout": 0.0, "position": "sinusoidal"},
    },
    "layers": {
        "layers": {"one": D, "two": 4},
        "head": {"name": "multi_layer", "hidden": [8, 5], "dropout": 0.0},
        "pooling": {"name": "mean_max", "on": "embeddings"},
    },
    "pictures": {
        "layers": {"embedding": 108},
        "vectors_per_patch": 720,
        "pooling": {"name": "mean", "on": "logits"},
        "head": {"name": "short_chunk_cnn"},
        "normalised": False,
    },
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind in ("pooled", "attention") else pytest.mark.slow)
        for kind in HEADS
    ],
)
def test_the_graph_gives_the_scores_of_the_bundle(kind: str, tmp_path: Path) -> None:
    heads = save(tmp_path, bundle(**HEADS[kind]))
    session = exported(tmp_path)
    names = [one.name for one in session.get_inputs()]
    assert names == list(heads.first.inputs.layers)
    for clips, count in ((4, 5), (1, 1)):
        layers = patches(heads.first, clips, count)
        (found,) = session.run(["scores"], dict(zip(names, layers, strict=True)))
        np.testing.assert_allclose(found, scored(heads, layers), atol=1e-5)


def test_folds_and_a_calibration_are_part_of_it_and_metadata_names_the_classes(
    tmp_path: Path,
) -> None:
    heads = save(tmp_path, bundle(0), bundle(1), bundle(2))
    fitted = calibrate(tmp_path, "platt")
    session = exported(tmp_path)
    layers = patches(heads.first, 5, 4)
    (found,) = session.run(None, {"embedding": layers[0]})
    np.testing.assert_allclose(found, fitted.apply(scored(heads, layers)), atol=1e-5)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == CLASSES
    assert (told["calibration"], told["embeddings"]) == ("platt", "f" * 32)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("method", ["temperature", "vector", "platt", "none"])
def test_every_calibration_that_can_be_a_graph_is_the_calibrator(
    method: str, multi_label: bool, tmp_path: Path
) -> None:
    heads = save(tmp_path, bundle(multi_label=multi_label))
    fitted = calibrate(tmp_path, method, multi_label)
    graph = ScoreGraph(list(heads.members.values()), fitted).eval()
    layers = patches(heads.first, 7, 3)
    with torch.no_grad():
        found = graph(*map(torch.from_numpy, layers)).numpy()
    np.testing.assert_allclose(found, fitted.apply(scored(heads, layers)), atol=1e-5)


def test_what_cannot_be_a_graph_is_refused_with_a_way_out(tmp_path: Path) -> None:
    save(tmp_path, bundle())
    calibrate(tmp_path, "isotonic")
    with pytest.raises(InputError, match=r"isotonic cannot be .* temperature, vector and platt"):
        exported(tmp_path)
    save(tmp_path, bundle(pooling={"name": "top_k", "k": 2, "on": "embeddings"}))
    (tmp_path / "heads" / "audio" / CALIBRATION).unlink()
    with pytest.raises(InputError, match="top_k of embeddings cannot be written"):
        exported(tmp_path)

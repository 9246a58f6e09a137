"""`onnx`: the trained head of a system as one file that ONNX Runtime and others run.

Inputs are the layers that the head reads, float32 (clips, patches, width), of pictures (clips,
patches, vectors, width); both counts are free, and all clips of a batch have as many patches.
Output is `scores` (clips, classes): pooling, normalisation, the mean over folds, temperature,
merging and calibration are part of the graph. Classes and layers stand in its metadata.
"""

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from audioflow.calibration.system import SystemCalibration
from audioflow.errors import InputError
from audioflow.exporters.base import Source, Written, written
from audioflow.exporters.onnx_graph import ScoreGraph
from audioflow.registry import Settings
from audioflow.systems.bundle import ESTIMATOR, HeadBundle
from audioflow.systems.ensemble import Heads

OPSET = 18
_EXAMPLE_CLIPS, _EXAMPLE_PATCHES = 2, 3


class OnnxSettings(Settings):
    """Nothing to set."""


class Onnx:
    """Heads that torch trained, with all that stands between embeddings and scores."""

    Settings: ClassVar[type[Settings]] = OnnxSettings

    def __init__(self, settings: OnnxSettings) -> None:
        pass

    def write(self, source: Source, out: Path) -> Written:
        if source.splits is not None:
            raise InputError("--split has no use with onnx, which is of the head and of no clip")
        heads = Heads.load(source.head)
        for bundle in heads.members.values():
            if isinstance(bundle.weights, bytes):
                raise InputError(
                    f"the head of {source.system} is {bundle.spec.head['name']}, which "
                    f"scikit-learn fitted ({ESTIMATOR}); ONNX is for heads that torch trained: "
                    "train a system with the head linear or mlp on the same table"
                )
        calibration = SystemCalibration.load(source.head)
        calibrator = None if calibration is None else calibration.parts[0].calibrator
        graph = ScoreGraph(list(heads.members.values()), calibrator).eval()
        told = _metadata(heads.first, calibration)
        with written(out) as path:
            _export(graph, heads.first, path, told)
        shapes = ", ".join(f"{name} {shape}" for name, shape in _inputs(heads.first).items())
        return Written(0, 1, (f"inputs {shapes}; output scores; opset {OPSET}",))


def _inputs(bundle: HeadBundle) -> dict[str, str]:
    """Names and shapes of the inputs, in words."""
    spec = bundle.inputs
    tall = f", {spec.vectors_per_patch}" if "picture" in spec.takes else ""
    return {
        name: f"(clips, patches{tall}, {width})"
        for name, width in zip(spec.layers, spec.widths, strict=True)
    }


def _example(bundle: HeadBundle) -> tuple[Tensor, ...]:
    spec = bundle.inputs
    tall = (spec.vectors_per_patch,) if "picture" in spec.takes else ()
    count = (_EXAMPLE_CLIPS, _EXAMPLE_PATCHES)
    return tuple(torch.zeros(*count, *tall, width) for width in spec.widths)


def _export(graph: ScoreGraph, bundle: HeadBundle, path: Path, told: Mapping[str, str]) -> None:
    layers = list(bundle.inputs.layers)
    free = {0: torch.export.Dim("clips"), 1: torch.export.Dim("patches", max=graph.most_patches)}
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                _example(bundle),
                dynamo=True,
                input_names=layers,
                output_names=["scores"],
                dynamic_shapes=((free,) * len(layers),),
                opset_version=OPSET,
                verbose=False,
            )
    except ModuleNotFoundError as error:
        raise InputError(
            f"ONNX needs the package {error.name!r}, which is not installed; pip install "
            "'audioflow[onnx]'"
        ) from error
    except torch.onnx.OnnxExporterError as error:
        why = " ".join(str(error).split())
        raise InputError(
            f"the head {bundle.spec.head['name']} of {bundle.spec.system} cannot be written as "
            f"ONNX: {why:.300}"
        ) from error
    assert program is not None
    model = program.model_proto
    for name, text in told.items():
        model.metadata_props.add(key=name, value=text)
    path.write_bytes(model.SerializeToString())


def _metadata(bundle: HeadBundle, calibration: SystemCalibration | None) -> dict[str, str]:
    spec = bundle.spec
    values: dict[str, Any] = {
        "system": spec.system,
        "backbone": spec.backbone,
        "embeddings": spec.embeddings,
        "layers": list(spec.layers),
        "classes": spec.classes,
        "multi_label": spec.multi_label,
        "calibration": None if calibration is None else calibration.method,
    }
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch tells its own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

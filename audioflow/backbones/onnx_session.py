"""ONNX files through onnxruntime, on one CPU thread or on a CUDA device.

Shapes: P patches; what follows is the model's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audioflow.backbones.declared import CallShape
from audioflow.backbones.optional import needed
from audioflow.errors import AudioflowError
from audioflow.weights import WeightsError

_NAME = "onnx"
_MOST_NAMED = 40
_FLOATS = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
_INTEGERS = {"tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool"}


class ONNXSession:
    """An ONNX file, loaded: float32 patches in, arrays by layer name out.

    outputs: layer -> name of a tensor of the file; inner ones need the package onnx. constants: for
    every input that is not the sound, the value it is filled with. one_by_one: patches go singly.
    Raises `WeightsError` for a file that is no model, or whose inputs or tensors are others.
    """

    def __init__(
        self,
        path: str,
        outputs: Mapping[str, str],
        constants: Mapping[str, float],
        device: torch.device,
        *,
        one_by_one: bool = False,
    ) -> None:
        self._path = path
        self._constants = constants
        self._one_by_one = one_by_one
        self._session = _session(path, outputs, device)
        inputs = {one.name: one for one in self._session.get_inputs()}
        self._input = _sound_input(inputs, constants, path)
        self._others = [inputs[name] for name in constants]
        names = [one.name for one in self._session.get_outputs()]
        own = ["embedding"] if len(names) == 1 else [f"output_{n}" for n in range(len(names))]
        self._layers = dict(outputs) or dict(zip(own, names, strict=True))
        self._call_shape: CallShape | None = None

    def __call__(self, features: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """(P, ...) -> (P, ...) per layer."""
        if self._call_shape is None:
            shape = tuple(n if isinstance(n, int) else None for n in self._input.shape)
            self._call_shape = CallShape(
                shape, features.shape[1:], self._path, one_by_one=self._one_by_one
            )
        return self._call_shape.called(self._run, features)

    def _run(self, values: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        given = {self._input.name: values.astype(_FLOATS[self._input.type], copy=False)}
        for other in self._others:
            dtype = (_FLOATS | _INTEGERS)[other.type]
            # A free length of another input is that of the batch.
            shape = [n if isinstance(n, int) else len(values) for n in other.shape]
            given[other.name] = np.full(shape, self._constants[other.name], dtype)
        try:
            found = self._session.run(list(self._layers.values()), given)
        except _errors() as error:
            raise AudioflowError(
                f"{self._path}: onnxruntime refuses a batch of shape {values.shape}: {error}; "
                "where the model takes one patch at a time, set one_by_one"
            ) from error
        return dict(zip(self._layers, found, strict=True))


def _session(path: str, outputs: Mapping[str, str], device: torch.device) -> Any:
    runtime = needed("onnxruntime", _NAME, "onnx")
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such file; weights of {_NAME} is a .onnx file")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.use_deterministic_compute = True
    providers = _providers(runtime, device)
    try:
        session = runtime.InferenceSession(path, options, providers=providers)
        own = {one.name for one in session.get_outputs()}
        if inner := {layer: name for layer, name in outputs.items() if name not in own}:
            changed = _with_outputs(path, inner, sorted(own))
            session = runtime.InferenceSession(changed, options, providers=providers)
    except _errors() as error:
        raise WeightsError(f"{path} cannot be read as an ONNX model: {error}") from error
    return session


def _errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: classes of its own that share no base but Exception."""
    state = needed("onnxruntime.capi.onnxruntime_pybind11_state", _NAME, "onnx")
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "RuntimeException")
    more = ("NotImplemented", "ModelRequiresCompilation", "EPFail", "NoModel", "NoSuchFile")
    return tuple(getattr(state, name) for name in names + more if hasattr(state, name))


def _providers(runtime: Any, device: torch.device) -> list[Any]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    wanted = "CUDAExecutionProvider"
    there = runtime.get_available_providers()
    if device.type != "cuda" or wanted not in there:
        raise AudioflowError(
            f"backbone {_NAME!r} was given the device {device}; the installed onnxruntime has "
            f"{', '.join(there)}: install onnxruntime-gpu, or give this backbone no GPU"
        )
    return [(wanted, {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _sound_input(inputs: Mapping[str, Any], constants: Mapping[str, float], path: str) -> Any:
    """The one input that no constant is given for."""
    shown = ", ".join(f"{one.name} {one.shape} {one.type}" for one in inputs.values())
    if unknown := sorted(constants.keys() - inputs.keys()):
        raise WeightsError(f"{path} has no input {unknown[0]!r}; its inputs are {shown}")
    left = [one for name, one in inputs.items() if name not in constants]
    if len(left) != 1:
        raise WeightsError(
            f"{path} takes {shown}: one of them is the sound; give `constants` for the others, "
            "such as {sr: 16000, state: 0}"
        )
    if left[0].type not in _FLOATS:
        raise WeightsError(f"{path}: the input {left[0].name} is {left[0].type}, sound is a float")
    return left[0]


def _with_outputs(path: str, inner: Mapping[str, str], own: list[str]) -> bytes:
    """The model with inner tensors among its outputs."""
    onnx = needed("onnx", _NAME, "onnx", also="onnx")
    model = onnx.load(path)
    names = [name for node in model.graph.node for name in node.output if name]
    for layer, name in inner.items():
        if name not in names:
            raise WeightsError(
                f"{path}: output {name!r} of layer {layer} does not exist; its outputs are "
                f"{', '.join(own)}; inner tensors, the last ones first: "
                f"{', '.join(names[: -_MOST_NAMED - 1 : -1])}"
            )
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    return bytes(model.SerializeToString())

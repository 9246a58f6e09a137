"""TFLite files through LiteRT's interpreter, on one CPU thread.

Shapes: P patches; what follows is the model's.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.backbones.declared import CallShape
from audioflow.backbones.optional import needed
from audioflow.errors import AudioflowError
from audioflow.weights import WeightsError

_MOST_NAMED = 40


class TFLite:
    """A TFLite file, loaded: float32 patches in, float32 arrays by layer name out.

    outputs: layer -> name or index of a tensor of the file, an inner one too; none for the model's
    own outputs. Quantised tensors are converted by their scale and zero point. one_by_one: patches
    go singly. Raises `WeightsError` for a file that is no model, takes more than sound, or lacks
    such a tensor.
    """

    def __init__(
        self,
        path: str,
        outputs: Mapping[str, str | int],
        backbone: str,
        *,
        one_by_one: bool = False,
    ) -> None:
        self._path = path
        self._one_by_one = one_by_one
        plain = interpreter(path, backbone)
        self._layers = _chosen(plain, outputs, path)
        own = {output["index"] for output in plain.get_output_details()}
        inner = any(tensor["index"] not in own for tensor in self._layers.values())
        self._model = interpreter(path, backbone, keep_inner=True) if inner else plain
        inputs = self._model.get_input_details()
        if len(inputs) != 1:
            names = ", ".join(f"{one['name']} {list(one['shape'])}" for one in inputs)
            raise WeightsError(f"{path} takes {len(inputs)} inputs, not one of sound: {names}")
        self._input = inputs[0]
        signature = self._input.get("shape_signature")
        shape = self._input["shape"] if signature is None or not len(signature) else signature
        self._shape = tuple(None if length < 0 else int(length) for length in shape)
        self._allocated: tuple[int, ...] | None = None
        self._call_shape: CallShape | None = None

    def __call__(self, features: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """(P, ...) -> float32 (P, ...) per layer."""
        patch = features.shape[1:]
        if self._call_shape is None:
            self._call_shape = CallShape(
                self._shape, patch, self._path, one_by_one=self._one_by_one
            )
        return self._call_shape.called(self._invoked, features)

    def _invoked(self, values: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        index = self._input["index"]
        if self._allocated != values.shape:
            self._allocate(values.shape)
        self._model.set_tensor(index, quantised(values, self._input))
        self._model.invoke()
        return {
            layer: dequantised(self._model.get_tensor(tensor["index"]), tensor)
            for layer, tensor in self._layers.items()
        }

    def _allocate(self, shape: tuple[int, ...]) -> None:
        """Make room for an input of this shape."""
        try:
            if tuple(self._input["shape"]) != shape or self._allocated:
                self._model.resize_tensor_input(self._input["index"], shape)
            self._model.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise AudioflowError(
                f"{self._path}: LiteRT refuses a batch of shape {shape}: {error}; where the model "
                "takes one patch at a time, set one_by_one"
            ) from error
        self._allocated = shape


def interpreter(path: str, backbone: str, *, keep_inner: bool = False) -> Any:
    """LiteRT's interpreter of a file. keep_inner: inner tensors can be read after a call."""
    module = needed("ai_edge_litert.interpreter", backbone, "litert")
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such file; weights of {backbone} is a .tflite file")
    with _quiet():
        try:
            return module.Interpreter(
                path, num_threads=1, experimental_preserve_all_tensors=keep_inner
            )
        except (ValueError, RuntimeError) as error:
            raise WeightsError(f"{path} cannot be read as a TFLite model: {error}") from error


def constants(path: str, backbone: str) -> dict[str, NDArray[np.float32]]:
    """What a file holds besides its graph, by name: weights and biases, without quantisation.

    Tensors of one name are told apart by their rank: `name`, `name#1` for a vector.
    """
    model = interpreter(path, backbone)
    model.allocate_tensors()
    written = {output["index"] for output in model.get_output_details()}
    found: dict[str, NDArray[np.float32]] = {}
    for tensor in model.get_tensor_details():
        scales = tensor["quantization_parameters"]["scales"]
        if tensor["index"] in written or not len(scales) or not tensor["name"]:
            continue
        with contextlib.suppress(ValueError):
            values = dequantised(model.get_tensor(tensor["index"]), tensor)
            found[f"{tensor['name']}#1" if values.ndim == 1 else tensor["name"]] = values
    return found


def quantised(values: NDArray[np.float32], tensor: Mapping[str, Any]) -> NDArray[Any]:
    """Real values as a tensor of the model holds them: rounded to its steps, within its range."""
    dtype = np.dtype(tensor["dtype"])
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    scale, zero_point = tensor["quantization"]
    if not scale:
        raise WeightsError(f"input {tensor['name']} is {dtype} and has no scale: it is no sound")
    limits = np.iinfo(dtype)
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(dtype)


def dequantised(values: NDArray[Any], tensor: Mapping[str, Any]) -> NDArray[np.float32]:
    """What a tensor of the model stands for, as real values."""
    parameters = tensor["quantization_parameters"]
    scales, zero_points = parameters["scales"], parameters["zero_points"]
    if values.dtype.kind == "f" or not len(scales):
        return values.astype(np.float32)
    if len(scales) > 1:
        along = [1] * values.ndim
        along[parameters["quantized_dimension"]] = -1
        scales, zero_points = scales.reshape(along), zero_points.reshape(along)
    return ((values.astype(np.float32) - zero_points) * scales).astype(np.float32)


def _chosen(
    model: Any, outputs: Mapping[str, str | int], path: str
) -> dict[str, Mapping[str, Any]]:
    """The tensor of every layer."""
    own = sorted(model.get_output_details(), key=lambda tensor: str(tensor["name"]))
    if not outputs:
        names = ["embedding"] if len(own) == 1 else [f"output_{n}" for n in range(len(own))]
        return dict(zip(names, own, strict=True))
    tensors = [tensor for tensor in model.get_tensor_details() if tensor["name"]]
    found = {}
    for layer, wanted in outputs.items():
        key = "index" if isinstance(wanted, int) else "name"
        matching = [tensor for tensor in tensors if tensor[key] == wanted]
        if len(matching) != 1:
            raise WeightsError(
                f"{path}: output {wanted!r} of layer {layer} "
                + (f"is the name of {len(matching)} tensors" if matching else "does not exist")
                + f"; there are {_listed(matching or [*own, *reversed(tensors)])}"
            )
        found[layer] = matching[0]
    return found


def _listed(tensors: list[Mapping[str, Any]]) -> str:
    """Tensors as a message shows them, each once: index, name and shape."""
    shown = {
        tensor["index"]: f"{tensor['index']} {tensor['name']!r} {list(map(int, tensor['shape']))}"
        for tensor in tensors
    }
    lines = list(shown.values())
    more = f" and {len(lines) - _MOST_NAMED} more" if len(lines) > _MOST_NAMED else ""
    return ", ".join(lines[:_MOST_NAMED]) + more


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that reading inner tensors takes memory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="ai_edge_litert")
        yield

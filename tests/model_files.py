"""Small model files made here: two dense layers, as TFLite (floats or 8-bit integers), as ONNX."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

INNER = "inner/Relu"
OUTER = "outer/Dense"
STEP = 1 / 128
"""Scale of the quantised input: full scale is 127 steps."""


@dataclass(frozen=True)
class Dense:
    """x (P, T) -> relu(x @ inner.T) (P, 6) -> that @ outer.T (P, 3)."""

    inner: np.ndarray
    outer: np.ndarray

    def __call__(self, waveform_PT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hidden = np.maximum(waveform_PT @ self.inner.T, 0)
        return hidden, hidden @ self.outer.T


def dense(samples: int, seed: int = 0) -> Dense:
    """Its weights, on a grid of 1/64 so that 8 bits hold them."""
    generator = np.random.default_rng(seed)
    inner = np.round(generator.uniform(-0.3, 0.3, (6, samples)) * 64) / 64
    outer = np.round(generator.uniform(-1, 1, (3, 6)) * 64) / 64
    return Dense(inner.astype(np.float32), outer.astype(np.float32))


def onnx_model(path: Path, model: Dense, *, batch: int | None = None, extra: bool = False) -> Path:
    """extra: with two more inputs, `gain` (a number) and `state` (batch, 2), added to the output.

    batch: how many patches it takes, None for any number.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    length = model.inner.shape[1]
    inputs = [helper.make_tensor_value_info("sound", TensorProto.FLOAT, [batch or "n", length])]
    nodes = [
        helper.make_node("MatMul", ["sound", "inner_T"], ["before"]),
        helper.make_node("Relu", ["before"], [INNER]),
        helper.make_node("MatMul", [INNER, "outer_T"], ["plain" if extra else OUTER]),
    ]
    if extra:
        inputs += [
            helper.make_tensor_value_info("gain", TensorProto.INT64, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["n", 3]),
        ]
        nodes += [
            helper.make_node("Cast", ["gain"], ["factor"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["plain", "factor"], ["scaled"]),
            helper.make_node("Add", ["scaled", "state"], [OUTER]),
        ]
    weights = [
        numpy_helper.from_array(model.inner.T.copy(), "inner_T"),
        numpy_helper.from_array(model.outer.T.copy(), "outer_T"),
    ]
    outputs = [helper.make_tensor_value_info(OUTER, TensorProto.FLOAT, [batch or "n", 3])]
    graph = helper.make_graph(nodes, "dense", inputs, outputs, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(made, str(path))
    return path


def tflite_model(
    path: Path, model: Dense, *, batch: int | None = None, quantised: bool = False
) -> Path:
    """quantised: input, weights, inner and outer tensors are 8-bit integers.

    batch: how many patches it takes, None for any number.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    length, made = model.inner.shape[1], schema.ModelT()
    made.version, made.description = 3, "dense"
    codes = schema.OperatorCodeT()
    codes.builtinCode = codes.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    codes.version = 4 if quantised else 1
    made.operatorCodes = [codes]
    graph = _Graph(schema, batch, quantised)
    graph.add("sound", (length,), STEP)
    graph.add("inner/weights", model.inner.shape, 1 / 64, model.inner)
    graph.add(INNER, (6,), 1 / 16)
    graph.add("outer/weights", model.outer.shape, 1 / 64, model.outer)
    graph.add(OUTER, (3,), 1 / 8)
    part = schema.SubGraphT()
    part.tensors, part.inputs, part.outputs = graph.tensors, [0], [4]
    relu, plain = (
        schema.ActivationFunctionType.RELU,
        schema.ActivationFunctionType.NONE,
    )
    part.operators = [graph.dense(0, 1, 2, relu), graph.dense(2, 3, 4, plain)]
    made.subgraphs, made.buffers = [part], graph.buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(made.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


class _Graph:
    """Tensors and buffers of a TFLite graph in the making."""

    def __init__(self, schema, batch, quantised) -> None:
        self.schema, self.batch, self.quantised = schema, batch, quantised
        self.tensors, self.buffers = [], [schema.BufferT()]

    def add(self, name, shape, scale, values=None) -> None:
        tensor = self.schema.TensorT()
        tensor.name = name
        if values is None:
            tensor.shape = [self.batch or 1, *shape]
            tensor.shapeSignature = [self.batch or -1, *shape]
        else:
            tensor.shape = list(shape)
        tensor.type = self.schema.TensorType.FLOAT32
        if self.quantised:
            tensor.type = self.schema.TensorType.INT8
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale = [scale]
            tensor.quantization.zeroPoint = [0 if values is not None else 5]
        if values is not None:
            stored = np.round(values / scale).astype(np.int8) if self.quantised else values
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(stored).tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(tensor)

    def dense(self, given, weights, found, activation):
        node = self.schema.OperatorT()
        node.opcodeIndex, node.inputs, node.outputs = 0, [given, weights, -1], [found]
        node.builtinOptionsType = self.schema.BuiltinOptions.FullyConnectedOptions
        node.builtinOptions = self.schema.FullyConnectedOptionsT()
        node.builtinOptions.fusedActivationFunction = activation
        return node

"""A small builder of TFLite files: quantized tensors and operators, written with the schema that LiteRT brings along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {"int8": schema.TensorType.INT8, "uint8": schema.TensorType.UINT8, "int32": schema.TensorType.INT32}


def options(name: str, **fields: Any) -> object:
    """The options of an operator: `Conv2D` with its fields, as the schema names them."""
    result = getattr(schema, f"{name}OptionsT")()
    for field, value in fields.items():
        assert hasattr(result, field), field
        setattr(result, field, value)
    return result


class Network:
    """A model of activations of one type, `int8` or `uint8`, with random values. Zero points are given as those of `int8`."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.random = np.random.default_rng(0)
        self.arrays: list[np.ndarray] = []
        """Values for the inputs."""
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators, self._graph.inputs, self._graph.outputs = [], [], [], []
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.subgraphs, self._model.operatorCodes, self._model.buffers = [self._graph], [], [schema.BufferT()]

    def integers(self, shape: Sequence[int]) -> np.ndarray:
        """Values from the whole range of the activations' type."""
        limits = np.iinfo(self.dtype)
        return self.random.integers(limits.min, limits.max + 1, shape).astype(self.dtype)

    def input(self, shape: Sequence[int], scale: float, zero: int) -> int:
        self.arrays.append(self.integers(shape))
        self._graph.inputs.append(self._activations(shape, scale, zero))
        return self._graph.inputs[-1]

    def output(self, shape: Sequence[int], scale: float, zero: int) -> int:
        self._graph.outputs.append(self._activations(shape, scale, zero))
        return self._graph.outputs[-1]

    def constant(self, values: np.ndarray, scale: Any = None, zero: int = 0, axis: int = 0) -> int:
        """A constant; scales are one, or one for each index of `axis`. Its zero point is not shifted."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return self._tensor(values.shape, values.dtype.name, scale, zero, axis, len(self._model.buffers) - 1)

    def weights(self, shape: Sequence[int], scale: Any, axis: int) -> int:
        """Random weights of the activations' type: symmetric in `int8`, around 120 in `uint8`."""
        symmetric = self.dtype == "int8"
        values = np.maximum(self.integers(shape), -127) if symmetric else self.integers(shape)
        return self.constant(values, scale, 0 if symmetric else 120, axis)

    def operator(
        self, code: str, inputs: Sequence[int], output: int, options: object = None, version: int = 1
    ) -> None:
        kind = schema.OperatorCodeT()
        kind.builtinCode = getattr(schema.BuiltinOperator, code)
        kind.deprecatedBuiltinCode = min(kind.builtinCode, 127)
        kind.version = version
        self._model.operatorCodes.append(kind)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), [output]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._graph.operators.append(operator)

    def file(self) -> bytes:
        """What a `.tflite` file of the model holds."""
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _activations(self, shape: Sequence[int], scale: float, zero: int) -> int:
        return self._tensor(shape, self.dtype, scale, zero + (128 if self.dtype == "uint8" else 0))

    def _tensor(
        self, shape: Sequence[int], dtype: str, scale: Any, zero: int, axis: int = 0, buffer: int = 0
    ) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(shape), TYPES[dtype], buffer
        tensor.name = f"tensor_{len(self._graph.tensors)}".encode()
        if scale is not None:
            scheme = schema.QuantizationParametersT()
            scheme.scale = np.atleast_1d(scale).astype(np.float32).tolist()
            scheme.zeroPoint = [zero] * len(scheme.scale)
            scheme.quantizedDimension = axis
            tensor.quantization = scheme
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

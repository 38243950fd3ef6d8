"""Multiply-adds of a model, counted from its operators and their shapes, and what this machine can do of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from optimium.runtime import OpInfo, TensorInfo

from .engines import Arrays


@dataclass(frozen=True)
class Work:
    """Operations of one inference; a multiply-add is two."""

    floats: float
    """In floating point."""
    integers: float
    """In 8-bit integers."""
    quantized: bool
    """Whether the model holds quantized operators."""

    def limit(self, machine: dict[str, float], threads: int) -> float:
        """Milliseconds that the multiply-adds alone take on this machine."""
        return (self.floats / machine["f32"] + self.integers / machine["int8"]) / threads * 1e3


def probe() -> dict[str, float]:
    """What one core of this machine reaches now: operations and bytes in a second."""
    from optimium.runtime import _native

    return _native.probe_machine()


def count(path: Path, inputs: Arrays) -> Work:
    """The work of the model in `path` on inputs of these shapes, whatever algorithm does it."""
    import optimium.runtime as rt

    model = rt.load_model(path, threads=1)
    given = {name: rt.TensorShape(*array.shape) for name, array in inputs.items()}
    tensors = {info.name: info for info in model.tensors}

    def shape(name: str) -> list[int]:
        info = tensors.get(name)
        if info is None or info.shape.dynamic:
            return [int(n) for n in model.infer_shape(name, given)]
        return [int(n) for n in info.shape]

    floats = integers = 0.0
    quantized = False
    for operation in model.operations:
        operations = 2.0 * _multiply_adds(operation, shape)
        eight_bits = _in_integers(operation, tensors)
        quantized |= eight_bits or "Quantize" in operation.operator
        integers += operations * eight_bits
        floats += operations * (not eight_bits)
    return Work(floats, integers, quantized)


def _in_integers(operation: OpInfo, tensors: dict[str, TensorInfo]) -> bool:
    if "Integer" in operation.operator or "DynamicQuantized" in operation.operator:
        return True
    first = tensors.get(operation.inputs[0]) if operation.inputs else None
    return first is not None and first.scheme is not None


def _multiply_adds(operation: OpInfo, shape: Callable[[str], list[int]]) -> float:
    """Multiply-adds of one operator; those of elementwise operators do not count."""
    match operation.operator:
        case "Conv" | "ConvInteger":
            # Weights are [outputs, inputs of a group, kernel…].
            return math.prod(shape(operation.outputs[0])) * math.prod(shape(operation.inputs[1])[1:])
        case "ConvTranspose":
            return math.prod(shape(operation.inputs[0])) * math.prod(shape(operation.inputs[1])[1:])
        case "MatMul" | "Gemm" | "MatMulInteger" | "DynamicQuantizedMatMul":
            return math.prod(shape(operation.outputs[0])) * shape(operation.inputs[0])[-1]
        case "LSTM" | "GRU" | "RNN":
            steps, batch = shape(operation.inputs[0])[:2]
            weights = math.prod(shape(operation.inputs[1])) + math.prod(shape(operation.inputs[2]))
            return steps * batch * weights
        case "Attention":
            queries, result = math.prod(shape(operation.inputs[0])), math.prod(shape(operation.outputs[0]))
            # Past keys and new ones are the second output, where there is a cache.
            keys = shape(operation.outputs[1] if len(operation.outputs) > 2 else operation.inputs[1])[-2]
            return (queries + result) * keys
        case _:
            return 0.0

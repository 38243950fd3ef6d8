"""What the attacks share: models made of a few nodes, and processes of their own."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import processes
import pytest
from conftest import MODELS
from inference import infer

import optimium.runtime as rt

pytest.importorskip("onnx")

from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
HUGE = 2**40
TERABYTES = 2**42

node = helper.make_node


def value(name: str, shape: list | None, element_type: int = F32) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element_type, shape)


def model_of(
    nodes: list, inputs: list, outputs: list, constants: dict[str, Any] | None = None, opset: int = 17
) -> bytes:
    initializers = [
        item if isinstance(item, TensorProto) else numpy_helper.from_array(np.asarray(item), name)
        for name, item in (constants or {}).items()
    ]
    graph = helper.make_graph(nodes, "hostile", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def unary(op: str = "Relu", shape: list | None = None, opset: int = 17, **attributes: Any) -> bytes:
    shape = [2] if shape is None else shape
    nodes = [node(op, ["x"], ["y"], name="n", **attributes)]
    return model_of(nodes, [value("x", shape)], [value("y", None)], None, opset)


def saved(folder: Path, model: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model)
    return path


def loaded(folder: Path, model: bytes) -> rt.Model:
    return rt.load_model(saved(folder, model), threads=1)


def run(model: rt.Model, *arrays: Any) -> dict[str, np.ndarray]:
    """The outputs of one inference by name, of inputs in the model's order."""
    return infer(model, {name: np.asarray(array) for name, array in zip(model.input_names, arrays, strict=True)})


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def longs(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def tensor_proto(dims: list[int], element_type: int = F32, raw: bytes | None = b"", **fields: list) -> TensorProto:
    result = TensorProto(name="w", dims=dims, data_type=element_type)
    if raw is not None:
        result.raw_data = raw
    for name, values in fields.items():
        getattr(result, name).extend(values)
    return result


PREAMBLE = f"""
import gc, os, signal, sys, threading, time
import numpy as np
import optimium.runtime as rt
MODELS = {str(MODELS)!r}
def zeros(*shape): return np.zeros(shape, np.float32)
def load(name, **options): return rt.load_model(MODELS + "/" + name + ".onnx", **options)
"""


def in_new_process(code: str, *arguments: Any, timeout: float = 20, **environment: str) -> CompletedProcess[str]:
    """Runs `code` after the preamble; the test fails where it does not end in time."""
    return processes.run(PREAMBLE + code, *arguments, timeout=timeout, **environment)


def assert_clean(done: CompletedProcess[str]) -> str:
    """The output of a process that ended well and without the text of a panic."""
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    assert "panicked" not in done.stderr and "internal error" not in done.stdout, (done.stdout, done.stderr)
    return done.stdout


def attempted(code: str) -> str:
    """`code`, and the name of the exception that it raises."""
    return f"try:\n    {code}\nexcept BaseException as error: print(type(error).__name__, error)\n"


LOAD_AND_RUN = """
from inference import infer
try:
    model = rt.load_model(sys.argv[1], threads=1)
    shapes = {name: model.get_tensor(name).shape for name in model.input_names}
    inputs = {name: zeros(*[dim if isinstance(dim, int) else 4 for dim in shape]) + 1 for name, shape in shapes.items()}
    print("ran", *(array.ravel().tolist() for array in infer(model, inputs).values()))
except rt.RuntimeException as error:
    print(type(error).__name__, error)
"""


def run_alone(path: Path) -> str:
    """What a process of its own says of the model in `path`: `ran` and the outputs for inputs of ones, or the error."""
    return assert_clean(in_new_process(LOAD_AND_RUN, path, timeout=8))

"""Hostile models, files, tensors and callers: each is answered with an exception of the runtime, never with a crash.

Whatever may kill or stop a process runs in a process of its own.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MODELS, path_of

import optimium.runtime as rt

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper

F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
HUGE = 2**40
TERABYTES = 2**42

node = helper.make_node


def value(name: str, shape: list | None, element_type: int = F32) -> onnx.ValueInfoProto:
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


def loaded(folder: Path, model: bytes, **options: Any) -> rt.Model:
    path = folder / "model.onnx"
    path.write_bytes(model)
    return rt.load_model(path, threads=1, **options)


def infer(model: rt.Model, *arrays: Any) -> dict[str, np.ndarray]:
    inputs = {name: np.asarray(array) for name, array in zip(model.input_names, arrays, strict=True)}
    shapes = {name: rt.TensorShape(*array.shape) for name, array in inputs.items()}
    outputs = {}
    for name in model.output_names:
        shape = model.infer_shape(name, shapes)
        outputs[name] = rt.tensor(shape=shape, dtype=model.get_tensor(name).type)
    request = model.create_request()
    request.infer(inputs, outputs)
    request.wait()
    return {name: tensor.to_numpy() for name, tensor in outputs.items()}


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def longs(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


PREAMBLE = f"""
import gc, os, signal, sys, threading, time
import numpy as np
import optimium.runtime as rt
MODELS = {str(MODELS)!r}
def zeros(*shape): return np.zeros(shape, np.float32)
def load(name, **options): return rt.load_model(MODELS + "/" + name + ".onnx", **options)
"""


def in_new_process(code: str, *arguments: Any, timeout: float = 20, **environment: str) -> tuple[int, str, str]:
    """Exit status, output and errors of Python that runs `code`; the test fails where it does not end in time."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-c", PREAMBLE + code, *map(str, arguments)]
    settings = {**os.environ, "PYTHONPATH": path, **environment}
    # The group is ended together, so that a forked child that hangs does not outlive the test.
    process = subprocess.Popen(
        command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, error = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, error = process.communicate()
        pytest.fail(f"hangs; so far: {out}{error}")
    return process.returncode, out, error


def assert_clean(result: tuple[int, str, str]) -> str:
    """The output of a process that ended well and without the text of a panic."""
    status, out, error = result
    assert status == 0, (status, out, error)
    assert "panicked" not in error and "internal error" not in out, (out, error)
    return out


def subgraph(operator: str) -> onnx.GraphProto:
    return helper.make_graph([node(operator, ["x"], ["r"])], "body", [], [value("r", [2])])


def tensor_proto(dims: list[int], element_type: int = F32, raw: bytes | None = b"", **fields: list) -> TensorProto:
    result = TensorProto(name="w", dims=dims, data_type=element_type)
    if raw is not None:
        result.raw_data = raw
    for name, values in fields.items():
        getattr(result, name).extend(values)
    return result


def constant_model(constant: TensorProto) -> bytes:
    return model_of([node("Identity", ["w"], ["y"])], [], [value("y", None)], {"w": constant})


WRONG_MODELS = {
    "cycle": (
        model_of(
            [node("Add", ["x", "b"], ["a"], name="n1"), node("Relu", ["a"], ["b"])],
            [value("x", [2])],
            [value("b", [2])],
        ),
        rt.ModelError,
        "cycle.*n1",
    ),
    "self loop": (
        model_of([node("Add", ["x", "b"], ["b"], name="n1")], [value("x", [2])], [value("b", [2])]),
        rt.ModelError,
        "cycle.*n1",
    ),
    "computed twice": (
        model_of([node("Relu", ["x"], ["b"]), node("Neg", ["x"], ["b"])], [value("x", [2])], [value("b", [2])]),
        rt.ModelError,
        '"b" is computed twice',
    ),
    "computed input": (model_of([node("Relu", ["x"], ["x"])], [value("x", [2])], [value("x", [2])]), rt.ModelError, '"x"'),
    "two inputs of a name": (
        model_of([node("Relu", ["x"], ["y"])], [value("x", [2])] * 2, [value("y", [2])]),
        rt.ModelError,
        'name "x"',
    ),
    "dangling input": (
        model_of([node("Add", ["x", "nope"], ["y"], name="n1")], [value("x", [2])], [value("y", [2])]),
        rt.ModelError,
        'n1.*"nope"',
    ),
    "output of nothing": (
        model_of([node("Relu", ["x"], ["a"])], [value("x", [2])], [value("b", [2])]),
        rt.ModelError,
        '"b"',
    ),
    "input without a name": (unary().replace(b"\x0a\x01x", b"\x0a\x01\xff"), rt.ModelError, "UTF-8"),
    "unknown attribute": (unary(surprise=1), rt.NotImplementedError, "Relu .attribute surprise.: 1"),
    "attribute of a wrong type": (unary("Softmax", axis="text"), rt.ModelError, "axis"),
    "opset 0": (unary(opset=0), rt.NotImplementedError, "version 0"),
    "opset 999": (unary(opset=999), rt.NotImplementedError, "version 999"),
    "opset -5": (unary(opset=-5), rt.NotImplementedError, "version -5"),
    "rank 10 000": (unary(shape=[1] * 10_000), rt.ModelError, "n"),
    "no shape": (
        model_of([node("Relu", ["x"], ["y"])], [value("x", None)], [value("y", None)]),
        rt.NotImplementedError,
        '"x"',
    ),
    "wrong declared shape": (
        model_of([node("Relu", ["x"], ["y"])], [value("x", [2])], [value("y", [3])]),
        rt.ModelError,
        '"y"',
    ),
    "missing input": (
        model_of([node("Add", ["x"], ["y"], name="n")], [value("x", [2])], [value("y", [2])]),
        rt.ModelError,
        "input 1",
    ),
    "surplus inputs": (
        model_of([node("Relu", ["x"] * 3, ["y"], name="n")], [value("x", [2])], [value("y", [2])]),
        rt.ModelError,
        "3 inputs",
    ),
    "types that disagree": (
        model_of([node("Add", ["x", "z"], ["y"], name="n")], [value("x", [2]), value("z", [2], I64)], [value("y", None)]),
        rt.ModelError,
        "I64",
    ),
    "short data": (constant_model(tensor_proto([4], raw=b"123")), rt.ModelError, "16 bytes"),
    "long data": (constant_model(tensor_proto([1], raw=b"12345678")), rt.ModelError, "4 bytes"),
    "huge constant": (constant_model(tensor_proto([HUGE, HUGE])), rt.ModelError, "larger than memory"),
    "constant whose size wraps": (constant_model(tensor_proto([2**32, 2**32])), rt.ModelError, "larger than memory"),
    "constant of terabytes": (constant_model(tensor_proto([HUGE], raw=None)), rt.ModelError, str(HUGE)),
    "negative constant": (constant_model(tensor_proto([-1])), rt.ModelError, "negative"),
    "constant of no type": (constant_model(tensor_proto([1], 999, b"1234")), rt.ModelError, "999"),
    "too few values": (constant_model(tensor_proto([3], raw=None, float_data=[1.0])), rt.ModelError, "3 values"),
    "empty file": (b"", rt.ModelError, "no graph"),
    "deep protobuf": (b"\x0b" * 200_000, rt.ModelError, "not an ONNX model"),
    "If": (
        model_of(
            [node("If", ["c"], ["y"], name="branch", then_branch=subgraph("Relu"), else_branch=subgraph("Neg"))],
            [value("c", [], BOOL), value("x", [2])],
            [value("y", [2])],
        ),
        rt.NotImplementedError,
        "If.*branch",
    ),
}


@pytest.mark.parametrize(("model", "error", "message"), WRONG_MODELS.values(), ids=WRONG_MODELS)
def test_wrong_models(tmp_path: Path, model: bytes, error: type, message: str) -> None:
    with pytest.raises(error, match=f"(?s)model.onnx.*{message}"):
        loaded(tmp_path, model)


def test_all_that_is_not_supported_is_told_at_once(tmp_path: Path) -> None:
    nodes = [node("Foo", ["x"], ["a"], name="n1"), node("Foo", ["a"], ["b"], name="n2"), node("Bar", ["b"], ["c"], name="n3")]
    with pytest.raises(rt.NotImplementedError) as caught:
        loaded(tmp_path, model_of(nodes, [value("x", [2])], [value("c", [2])]))
    for text in ('Foo: 2 ("n1", "n2")', 'Bar: 1 ("n3")'):
        assert text in str(caught.value)


X, WEIGHT = [1, 2, 5, 5], floats(2, 2, 3, 3)


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [0, 1]},
        {"strides": [-1, 1]},
        {"strides": [2**62, 2**62]},
        {"strides": [1, 1, 1]},
        {"dilations": [0, 1]},
        {"dilations": [2**31, 2**62]},
        {"kernel_shape": [0, 0]},
        {"kernel_shape": [-1, 3]},
        {"kernel_shape": [HUGE, HUGE]},
        {"pads": [2**62] * 4},
        {"pads": [2**20] * 4},
        {"pads": [-9] * 4},
        {"pads": [1]},
        {"auto_pad": "NONSENSE"},
    ],
    ids=str,
)
def test_wrong_windows(tmp_path: Path, operator: str, attributes: dict) -> None:
    weights = {"w": WEIGHT} if operator.startswith("Conv") else {}
    given = {"kernel_shape": [3, 3], **attributes}
    nodes = [node(operator, ["x", *weights], ["y"], name="window", **given)]
    with pytest.raises((rt.ModelError, rt.NotImplementedError, rt.OutOfResourceError)):
        infer(loaded(tmp_path, model_of(nodes, [value("x", X)], [value("y", None)], weights)), floats(*X))


@pytest.mark.parametrize("groups", [0, -1, 3, 2**62])
def test_wrong_groups(tmp_path: Path, groups: int) -> None:
    nodes = [node("Conv", ["x", "w"], ["y"], name="window", group=groups)]
    with pytest.raises(rt.ModelError, match="window"):
        loaded(tmp_path, model_of(nodes, [value("x", X)], [value("y", None)], {"w": WEIGHT}))


def with_sum(operator: str, constant: np.ndarray, **attributes: Any) -> bytes:
    """A model whose intermediate result can be large, though its output is small."""
    nodes = [node(operator, ["x", "c"], ["a"], **attributes), node("ReduceSum", ["a"], ["y"])]
    return model_of(nodes, [value("x", [2, 1])], [value("y", [1, 1])], {"c": constant})


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(with_sum("Expand", longs(1, TERABYTES)), id="Expand"),
        pytest.param(with_sum("Tile", longs(1, TERABYTES)), id="Tile"),
        pytest.param(with_sum("Pad", longs(0, TERABYTES, 0, TERABYTES)), id="Pad"),
    ],
)
def test_terabytes_between_layers(tmp_path: Path, model: bytes) -> None:
    with pytest.raises(rt.OutOfResourceError, match="cannot allocate"):
        infer(loaded(tmp_path, model), floats(2, 1))


@pytest.mark.parametrize("shape", [(TERABYTES,), (TERABYTES, 2), (2**62,)])
def test_tensors_of_terabytes(shape: tuple) -> None:
    with pytest.raises((rt.OutOfResourceError, rt.ShapeError)):
        rt.tensor(shape=shape, dtype=rt.float32)


@pytest.mark.parametrize("wanted", [[3], [-1, -1], [-1, 3], [-2, 4], [2**62, 2**62], [0, 0, 0]], ids=str)
def test_impossible_reshapes(tmp_path: Path, wanted: list) -> None:
    nodes = [node("Reshape", ["x", "s"], ["y"], name="reshape")]
    with pytest.raises(rt.ModelError, match="reshape"):
        loaded(tmp_path, model_of(nodes, [value("x", [2, 4])], [value("y", None)], {"s": longs(*wanted)}))


@pytest.mark.parametrize("index", [2, -3, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize(
    ("operator", "shape", "rest"),
    [
        ("Gather", (1,), []),
        ("GatherND", (1, 1), []),
        ("GatherElements", (1, 1), []),
        ("ScatterElements", (1, 1), [floats(1, 1)]),
        ("ScatterND", (1, 1), [floats(1, 4)]),
    ],
)
def test_indices_out_of_range(tmp_path: Path, operator: str, shape: tuple, rest: list, index: int) -> None:
    updates = [value("u", list(array.shape)) for array in rest]
    nodes = [node(operator, ["t", "i", *["u"] * len(rest)], ["y"], name="pick")]
    inputs = [value("t", [2, 4]), value("i", list(shape), I64), *updates]
    model = loaded(tmp_path, model_of(nodes, inputs, [value("y", None)]))
    with pytest.raises(rt.InferError, match=f"pick.*{index}"):
        infer(model, floats(2, 4), np.full(shape, index, np.int64), *rest)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64])
@pytest.mark.parametrize("operator", ["Div", "Mod"])
def test_integer_divisions_by_zero_and_overflows(tmp_path: Path, operator: str, dtype: type) -> None:
    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = [value(name, [2], element_type) for name in "aby"]
    model = loaded(tmp_path, model_of([node(operator, ["a", "b"], ["y"])], ends[:2], ends[2:]))
    smallest = np.iinfo(dtype).min
    for divisors in (np.array([0, 3], dtype), np.array([-1 if smallest else 1, 3], dtype)):
        result = infer(model, np.array([smallest, 7], dtype), divisors)["y"]
        assert result[1] == (2 if operator == "Div" else 1)


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    x = np.array([[np.nan, np.inf, -np.inf, 1.0]], np.float32)
    expected = {"Relu": [np.nan, np.inf, 0, 1], "Exp": [np.nan, np.inf, 0, np.e], "Tanh": [np.nan, 1, -1, np.tanh(1)]}
    for operator, wanted in expected.items():
        result = infer(loaded(tmp_path, unary(operator, [1, 4])), x)["y"]
        np.testing.assert_allclose(result, np.array([wanted]), rtol=1e-5, err_msg=operator)


def external(location: str, **entries: object) -> bytes:
    constant = tensor_proto([2], raw=None)
    constant.data_location = TensorProto.EXTERNAL
    for key, item in {"location": location, **entries}.items():
        constant.external_data.add(key=key, value=str(item))
    return model_of([node("Add", ["x", "w"], ["y"])], [value("x", [2])], [value("y", [2])], {"w": constant})


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(external("../secret.bin"), id="parent"),
        pytest.param(external("sub/../../secret.bin"), id="parent of a folder"),
        pytest.param(external("/etc/hostname"), id="absolute"),
        pytest.param(external("/dev/zero"), id="device"),
        pytest.param(external("link.bin"), id="link"),
        pytest.param(external("link/secret.bin"), id="linked folder"),
        pytest.param(external("sub"), id="folder"),
        pytest.param(external("missing.bin"), id="missing"),
        pytest.param(external(""), id="empty"),
        pytest.param(external("data.bin\0x"), id="NUL"),
        pytest.param(external("a" * 5000), id="long name"),
        pytest.param(external("data.bin", offset=4), id="past the end"),
        pytest.param(external("data.bin", offset=-4), id="negative offset"),
        pytest.param(external("data.bin", offset=2**64 - 4, length=8), id="offset that wraps"),
        pytest.param(external("data.bin", offset="text"), id="offset of text"),
        pytest.param(external("data.bin", length=4), id="wrong length"),
    ],
)
def test_data_outside_of_the_folder(tmp_path: Path, model: bytes) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(b"12345678")
    (folder / "data.bin").write_bytes(b"12345678")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises((rt.ModelError, rt.IOError), match='"w"'):
        loaded(folder, model)


class TestUnusualGraphs:
    """Models that are strange, but right."""

    @pytest.mark.parametrize("operator", ["Neg", "Relu", "Identity"])
    def test_deep(self, tmp_path: Path, operator: str) -> None:
        depth = 20_000
        nodes = [node(operator, [f"v{i}"], [f"v{i + 1}"]) for i in range(depth)]
        model = loaded(tmp_path, model_of(nodes, [value("v0", [4])], [value(f"v{depth}", [4])]))
        assert (infer(model, floats(4))[f"v{depth}"] == 1).all()

    def test_wide(self, tmp_path: Path) -> None:
        names = [f"x{i}" for i in range(2000)]
        model = model_of([node("Sum", names, ["y"])], [value(name, [2]) for name in names], [value("y", [2])])
        assert (infer(loaded(tmp_path, model), *[floats(2)] * 2000)["y"] == 2000).all()

    def test_sizes_that_double(self, tmp_path: Path) -> None:
        nodes = [node("Concat", [f"v{i}"] * 2, [f"v{i + 1}"], axis=0) for i in range(200)]
        model = loaded(tmp_path, model_of(nodes, [value("v0", ["n"])], [value("v200", None)]))
        with pytest.raises(rt.ShapeError):
            model.create_request().infer([floats(1)], [floats(3)])

    @pytest.mark.parametrize("name", ["a\0b", 'a\nb"', "日本語\u202e", "n" * 100_000, "../../x", "\x1b[31mx", "[red]"])
    def test_names(self, tmp_path: Path, name: str) -> None:
        model = model_of([node("Relu", [name], ["y"], name=name)], [value(name, [2])], [value("y", [2])])
        assert (infer(loaded(tmp_path, model), floats(2))["y"] == 1).all()
        rt.convert(tmp_path / "model.onnx", tmp_path / "folder")
        assert rt.load_model(tmp_path / "folder").input_names == [name]

    @pytest.mark.parametrize(
        ("nodes", "outputs", "expected"),
        [
            pytest.param([], ["x"], {"x": -1}, id="output is the input"),
            pytest.param([node("Relu", ["x"], ["y"])], ["y", "x"], {"y": 0, "x": -1}, id="input among outputs"),
            pytest.param([node("Relu", ["x"], ["y"])], ["y", "c"], {"y": 0, "c": 3}, id="constant output"),
            pytest.param(
                [node("Identity", ["x"], ["y"]), node("Identity", ["y"], ["z"])],
                ["y", "z"],
                {"y": -1, "z": -1},
                id="one value as two outputs",
            ),
            pytest.param([node("Add", ["c", "c"], ["y"])], ["y"], {"y": 6}, id="input that is not read"),
            pytest.param([node("Relu", ["x"], ["y"])], [], {}, id="no outputs"),
        ],
    )
    def test_ends(self, tmp_path: Path, nodes: list, outputs: list, expected: dict) -> None:
        constants = {"c": np.full(2, 3, np.float32)}
        model = model_of(nodes, [value("x", [2])], [value(name, [2]) for name in outputs], constants)
        results = infer(loaded(tmp_path, model), -floats(2))
        assert {name: array.tolist() for name, array in results.items()} == {
            name: [number] * 2 for name, number in expected.items()
        }

    @pytest.mark.parametrize("shape", [[], [0, 3], [1] * 40, [2] * 9])
    def test_ranks(self, tmp_path: Path, shape: list) -> None:
        assert infer(loaded(tmp_path, unary("Neg", shape)), floats(*shape))["y"].shape == tuple(shape)

    def test_an_output_twice(self, tmp_path: Path) -> None:
        model = loaded(tmp_path, model_of([node("Relu", ["x"], ["y"])], [value("x", [2])], [value("y", [2])] * 2))
        results = [-floats(2), -floats(2)]
        request = model.create_request()
        request.infer([floats(2)], results)
        request.wait()
        assert all((result == 1).all() for result in results)


DAMAGE = """
import pathlib, random, shutil
source, target, seed, rounds = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rnd = random.Random(seed)
if source.is_dir():
    shutil.copytree(source, target)
    files = sorted(source.iterdir())
else:
    files = [source]
whole = {file: file.read_bytes() for file in files}

def damaged(data):
    data, way, at = bytearray(data), rnd.randrange(6), rnd.randrange(len(data))
    if way == 0: return data[:at]
    if way == 1: data[at:at + 4] = rnd.choice([b"\\xff\\xff\\xff\\x7f", b"\\0\\0\\0\\x80", b"\\xff" * 4, b"\\0" * 4])
    elif way == 2: del data[at:at + rnd.randrange(1, 9)]
    elif way == 3: data[at:at] = bytes(rnd.randrange(256) for _ in range(rnd.randrange(1, 9)))
    elif way == 4: data[at:at] = data[at:at + 100]
    else: data[at] ^= 1 << rnd.randrange(8)
    return data

def use(model):
    inputs = {}
    for name in model.input_names:
        info = model.get_tensor(name)
        shape = [dim if isinstance(dim, int) else 2 for dim in info.shape]
        if np.prod(shape, dtype=float) > 1e6: return
        inputs[name] = rt.tensor(np.zeros(shape, info.type.to_dtype()), dtype=info.type)
    outputs = {}
    for name in model.output_names:
        shape = model.infer_shape(name, {key: tensor.shape for key, tensor in inputs.items()})
        if np.prod([dim if isinstance(dim, int) else 1 for dim in shape], dtype=float) > 1e6: return
        outputs[name] = rt.tensor(shape=shape, dtype=model.get_tensor(name).type)
    request = model.create_request()
    request.infer(inputs, outputs)
    request.wait()

for i in range(rounds):
    file = rnd.choice(files)
    place = target / file.name if source.is_dir() else target
    place.write_bytes(damaged(whole[file]))
    try: use(rt.load_model(target, threads=1))
    except rt.RuntimeException as error:
        if "internal error" in str(error): print(i, error)
    except Exception as error: print(i, type(error), error)
    if source.is_dir(): place.write_bytes(whole[file])
"""


@pytest.mark.parametrize("name", ["affine", "classifier", "lookup", "pair", "quantized"])
@pytest.mark.parametrize("form", ["file", "folder"])
def test_damaged_models(tmp_path: Path, name: str, form: str) -> None:
    source, target = path_of(name), tmp_path / "damaged.onnx"
    if form == "folder":
        source, target = tmp_path / "whole", tmp_path / "damaged"
        rt.convert(path_of(name), source)
    assert assert_clean(in_new_process(DAMAGE, source, target, 1, 250)) == ""


def test_nonsense_files(tmp_path: Path) -> None:
    rnd = random.Random(0)
    for suffix in (".onnx", ".tflite"):
        path = tmp_path / f"nonsense{suffix}"
        for size in (0, 1, 4, 8, 9, 100, 5000):
            path.write_bytes((b"\x1c\0\0\0TFL3" if suffix == ".tflite" else b"")[:size] + rnd.randbytes(size))
            with pytest.raises(rt.ModelError):
                rt.load_model(path)


def test_damaged_tensor_files(tmp_path: Path) -> None:
    rnd = random.Random(0)
    for suffix in ("", ".npy"):
        path = tmp_path / f"tensor{suffix}"
        rt.tensor(np.arange(24, dtype=np.float32).reshape(4, 6)).save(path)
        data = path.read_bytes()
        for size in range(len(data)):
            path.write_bytes(data[:size])
            with pytest.raises(rt.IOError):
                rt.load_tensor(path)
        for _ in range(200):
            flipped = bytearray(data)
            flipped[rnd.randrange(len(data))] ^= 1 << rnd.randrange(8)
            path.write_bytes(flipped)
            try:
                rt.load_tensor(path)
            except (rt.IOError, rt.TypeError):
                pass


class TestTensors:
    ARRAY = np.arange(24, dtype=np.float32).reshape(4, 6)

    @pytest.mark.parametrize("kind", list(rt.ElementType), ids=str)
    def test_every_type(self, kind: rt.ElementType, tmp_path: Path) -> None:
        tensor = rt.tensor(shape=(2, 0, 3), dtype=kind)
        assert tensor.to_numpy().shape == (2, 0, 3)
        tensor.save(tmp_path / "tensor")
        assert rt.load_tensor(tmp_path / "tensor").type == kind

    @pytest.mark.parametrize(
        "array",
        [
            ARRAY.T,
            ARRAY[::-1, ::-2],
            ARRAY.astype(">f4"),
            np.broadcast_to(np.float32(1), (3, 4)),
            np.frombuffer(b"\0" + ARRAY.tobytes(), np.float32, offset=1),
            np.zeros((3, 0, 2), np.float32),
            np.float32(3),
            np.ones([1] * 40, np.float32),
        ],
        ids=["T", "negative", "swapped", "broadcast", "unaligned", "empty", "scalar", "rank 40"],
    )
    def test_every_layout(self, array: np.ndarray) -> None:
        np.testing.assert_array_equal(rt.tensor(array).to_numpy(), array)

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            ([[1, 2], [3]], rt.InvalidArgumentError),
            ([None], rt.TypeError),
            ([1j], rt.TypeError),
            ([2**100], rt.TypeError),
            ({}, rt.TypeError),
            (object(), rt.TypeError),
            (int, rt.TypeError),
            (np.zeros(2, [("a", "f4")]), rt.TypeError),
            (np.array([1, "a"], object), rt.TypeError),
            (np.zeros(2, "M8[s]"), rt.TypeError),
            (np.zeros(2, np.longdouble), rt.TypeError),
            (np.array([b"\xff"]), rt.InvalidArgumentError),
            (["\ud800"], rt.InvalidArgumentError),
        ],
        ids=lambda item: type(item).__name__,
    )
    def test_what_is_no_tensor(self, data: object, error: type) -> None:
        with pytest.raises(error):
            rt.tensor(data)

    @pytest.mark.parametrize("shape", [-1, (3, -2), (1.5,), ("n",), (None,), ((1, 2), 3), (2**100,)], ids=str)
    def test_what_is_no_shape(self, shape: Any) -> None:
        with pytest.raises((rt.ShapeError, rt.InvalidArgumentError, rt.TypeError)):
            rt.tensor(shape=shape)

    def test_memory_lives_as_long_as_its_readers(self) -> None:
        tensor = rt.tensor(self.ARRAY)
        readers = [tensor.to_numpy(), np.asarray(memoryview(tensor)), np.from_dlpack(tensor)]
        del tensor
        gc.collect()
        others = [rt.tensor(np.zeros((4, 6), np.float32)) for _ in range(100)]
        assert all((reader == self.ARRAY).all() for reader in readers) and others

    def test_a_capsule_is_consumed_once(self) -> None:
        class Capsule:
            capsule = rt.tensor(self.ARRAY).__dlpack__()

            def __dlpack__(self, **_: Any) -> Any:
                return self.capsule

            def __dlpack_device__(self) -> tuple[int, int]:
                return 1, 0

        assert rt.tensor(Capsule()).shape == (4, 6)
        with pytest.raises(rt.TypeError):
            rt.tensor(Capsule())

    def test_memory_that_is_shared_within_a_request(self, pair: rt.Model) -> None:
        memory, ones = np.zeros(16, np.float32), floats(2, 4)
        request = pair.create_request()
        with pytest.raises(rt.InvalidArgumentError, match="shares memory"):
            request.infer([ones, ones], [memory[:8].reshape(2, 4), memory[4:12].reshape(2, 4)])
        with pytest.raises(rt.InvalidArgumentError, match="shares memory"):
            request.infer([memory[:8].reshape(2, 4), ones], [memory[4:12].reshape(2, 4), floats(2, 4)])
        request.infer([ones, ones], [memory[:8].reshape(2, 4), memory[8:].reshape(2, 4)])
        request.wait()
        assert memory.tolist() == [2] * 8 + [0] * 8


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"threads": 0}, rt.InvalidArgumentError),
        ({"threads": -1}, rt.InvalidArgumentError),
        ({"threads": 10**9}, rt.InvalidArgumentError),
        ({"cores": []}, rt.InvalidArgumentError),
        ({"cores": [99_999]}, rt.InvalidArgumentError),
        ({"cores": [-1]}, rt.InvalidArgumentError),
        ({"cores": [0, 0]}, rt.InvalidArgumentError),
        ({"cores": [0], "threads": 2}, rt.InvalidArgumentError),
        ({"scheduler_type": "SIMPLE"}, rt.TypeError),
        ({"precision": "f16"}, rt.InvalidArgumentError),
        ({"precision": 16}, rt.TypeError),
        ({"devices": ["nonsense"]}, rt.InvalidArgumentError),
        ({"devices": [3]}, rt.TypeError),
        ({"devices": ["cuda:nvidia:0@0"], "strict": True}, rt.DeviceNotFoundError),
    ],
    ids=str,
)
def test_wrong_options(options: dict, error: type) -> None:
    with pytest.raises(error):
        rt.load_model(path_of("pair"), **options)


@pytest.mark.parametrize("path", ["", "nonexistent", "/", "/dev/null", "a\0b", "\udc80", "a" * 10_000])
def test_wrong_paths(path: str) -> None:
    with pytest.raises(rt.ContainerError):
        rt.load_model(path)


def test_conversion_overwrites_models_alone(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "precious").write_text("text")
    file.write_text("text")
    (tmp_path / "link").symlink_to(folder)
    for target in (folder, file, tmp_path / "link", file / "below", path_of("pair")):
        with pytest.raises(rt.ContainerError):
            rt.convert(path_of("pair"), target)
    rt.convert(path_of("pair"), tmp_path / "model")
    rt.convert(path_of("affine"), tmp_path / "model")
    (tmp_path / "model" / "notes").write_text("text")
    with pytest.raises(rt.ContainerError, match="notes"):
        rt.convert(path_of("pair"), tmp_path / "model")
    with pytest.raises(ZeroDivisionError):
        rt.convert(path_of("pair"), tmp_path / "broken", progress=lambda *_: 1 / 0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder", "link", "model"]
    assert (folder / "precious").read_text() == file.read_text() == "text"


class TestCallers:
    def test_cancelled_at_any_time(self) -> None:
        model, rnd = rt.load_model(path_of("slow"), threads=2), random.Random(0)
        request, x, y = model.create_request(), np.eye(384, dtype=np.float32), floats(384, 384)
        for _ in range(30):
            request.infer([x], [y])
            timer = threading.Timer(rnd.random() * 0.03, request.cancel)
            timer.start()
            try:
                request.wait()
            except rt.InferCanceledError:
                pass
            timer.join()
        request.infer([x], [y])
        assert not request.wait() and (y == x).all()

    @pytest.mark.parametrize("threads", [1, 2])
    def test_results_of_many_callers(self, threads: int) -> None:
        model = rt.load_model(path_of("pair"), threads=threads)
        failures: list = []

        def work(seed: int) -> None:
            rnd = np.random.default_rng(seed)
            requests = [model.create_request() for _ in range(4)]
            for _ in range(25):
                jobs = []
                for request in requests:
                    a, b = rnd.standard_normal((2, int(rnd.integers(0, 200)), 4)).astype(np.float32)
                    results = [np.full_like(a, np.nan), np.full_like(a, np.nan)]
                    request.infer([a, b], results)
                    jobs.append((request, a, b, results))
                for request, a, b, results in jobs:
                    if request.wait() or not ((results[0] == a + b).all() and (results[1] == a - b).all()):
                        failures.append(seed)

        callers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert not failures

    def test_one_request_fought_over(self, affine: rt.Model) -> None:
        request, surprises = affine.create_request(), []

        def work() -> None:
            for _ in range(50):
                try:
                    request.infer([floats(32, 32)] * 2, [floats(32, 32)])
                except rt.InvalidOperationError:
                    pass
                except Exception as error:
                    surprises.append(error)
                request.wait()

        callers = [threading.Thread(target=work) for _ in range(6)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert not surprises

    def test_a_callback_drops_the_last_handles(self) -> None:
        model = rt.load_model(path_of("affine"), threads=2)
        kept, done = [model, model.create_request()], threading.Event()
        del model

        def drop(status: rt.InferStatus, error: object) -> None:
            kept.clear()
            gc.collect()
            done.set()

        kept[1].set_callback(drop)
        kept[1].infer([floats(32, 32)] * 2, [floats(32, 32)])
        assert done.wait(10)

    def test_waiting_for_nothing(self, affine: rt.Model) -> None:
        request = affine.create_request()
        assert not request.wait() and not request.wait(1) and not request.wait(None)
        request.cancel()
        with pytest.raises(rt.InvalidArgumentError):
            request.wait(-1)


SLOW = "model = load('slow', threads=2)\nx, y = zeros(384, 384), zeros(384, 384)\n"
DAEMONS = """
def work():
    request = model.create_request()
    while True:
        request.infer([zeros(32, 32)] * 2, [zeros(32, 32)])
        request.wait()
"""


@pytest.mark.parametrize(
    ("code", "output"),
    [
        pytest.param(
            SLOW + "requests = [model.create_request() for _ in range(4)]\n"
            "for request in requests: request.infer([x], [zeros(384, 384)])",
            "",
            id="exit with a queue",
        ),
        pytest.param(
            "model = load('affine', threads=2)" + DAEMONS + "for _ in range(4): threading.Thread(target=work, daemon=True).start()\n"
            "time.sleep(0.2)",
            "",
            id="exit with busy daemon threads",
        ),
        pytest.param(
            SLOW + "request = model.create_request()\n"
            "request.set_callback(lambda *_: rt.finalize())\nrequest.infer([x], [y])\nrequest.wait()\nprint('ended')",
            "ended\n",
            id="finalize in a callback",
        ),
        pytest.param(
            "def work():\n    for _ in range(20): rt.initialize(); rt.finalize()\n"
            "callers = [threading.Thread(target=work) for _ in range(4)]\n"
            "for caller in callers: caller.start()\n"
            "for caller in callers: caller.join()\n"
            "rt.initialize(); rt.initialize(); print(load('pair').name)",
            "pair\n",
            id="initialize and finalize at once",
        ),
        pytest.param(
            "model = load('affine', threads=2)" + DAEMONS + "for _ in range(2): threading.Thread(target=work, daemon=True).start()\n"
            "for _ in range(8):\n"
            "    child = os.fork()\n"
            "    if child == 0:\n"
            "        signal.alarm(10)\n"
            "        request = load('affine', threads=1).create_request()\n"
            "        request.infer([zeros(32, 32)] * 2, [zeros(32, 32)]); request.wait(); os._exit(0)\n"
            "    print(os.waitpid(child, 0)[1], end='')",
            "0" * 8,
            id="fork while threads infer",
        ),
        pytest.param(
            SLOW + "request = model.create_request()\nrequest.infer([x], [y])\n"
            "if os.fork() == 0:\n    del request, model\n    gc.collect()\n    sys.exit()\n"
            "print(os.wait()[1], request.wait())",
            "0 False\n",
            id="fork while running, and exit",
        ),
        pytest.param(
            "import resource\nresource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
            "for make in (lambda: rt.tensor(shape=(10**9,)), lambda: load('pair', threads=1024)):\n"
            "    try: make()\n    except rt.OutOfResourceError: print('refused')",
            "refused\nrefused\n",
            id="little memory",
        ),
    ],
)
def test_processes(code: str, output: str) -> None:
    assert assert_clean(in_new_process(code)) == output


@pytest.mark.parametrize(
    "setting",
    [
        {"OPTIMIUM_RT_DEBUG": "nonsense"},
        {"OPTIMIUM_RT_ENABLE_LOG": "nonsense"},
        {"OPTIMIUM_RT_DEFER_INIT": ""},
        {"OPTIMIUM_RT_LOGFILE": ""},
        {"OPTIMIUM_RT_ENABLE_LOG": "1", "OPTIMIUM_RT_DEBUG": "1", "OPTIMIUM_RT_LOGFILE": "/dev/full"},
        {"RAYON_NUM_THREADS": "nonsense"},
    ],
    ids=str,
)
def test_nonsense_in_the_environment(setting: dict[str, str]) -> None:
    out = assert_clean(in_new_process("print(load('pair', threads=2).name)", **setting))
    assert out.endswith("pair\n")


def rewritten(folder: Path, change: Callable[[dict], None]) -> None:
    """Changes the graph of a model folder, and the size and hash that the manifest holds of it."""
    graph = json.loads((folder / "graph.json").read_text())
    change(graph)
    data = json.dumps(graph).encode()
    (folder / "graph.json").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    for file in manifest["files"]:
        if file["name"] == "graph.json":
            file |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def operator(graph: dict, name: str) -> dict:
    return next(item["operator"] for item in graph["graphs"][0]["nodes"] if item["operator"]["op"] == name)


LOAD_AND_RUN = """
import pathlib
path = pathlib.Path(sys.argv[1])
try:
    model = rt.load_model(path, threads=1)
    shapes = [model.get_tensor(name).shape for name in model.input_names]
    inputs = [np.ones([dim if isinstance(dim, int) else 4 for dim in shape], np.float32) for shape in shapes]
    outputs = []
    for name in model.output_names:
        shape = model.infer_shape(name, [rt.TensorShape(*array.shape) for array in inputs])
        outputs.append(rt.tensor(shape=shape, dtype=model.get_tensor(name).type))
    request = model.create_request()
    request.infer(inputs, outputs)
    request.wait()
    print("ran", *(output.to_numpy().ravel().tolist() for output in outputs))
except rt.RuntimeException as error:
    print(type(error).__name__, error)
"""


def test_results_that_cannot_be_saved(affine_arrays: tuple) -> None:
    inputs, outputs, _ = affine_arrays
    with pytest.raises(rt.IOError, match="/proc/nope"):
        request = rt.load_model(path_of("affine"), intermediate_save_path="/proc/nope").create_request()
        request.infer(inputs, outputs)
        request.wait()


def attempted(code: str) -> str:
    """`code`, and the name of the exception that it raises."""
    return f"try:\n    {code}\nexcept BaseException as error: print(type(error).__name__, error)\n"


def test_strings_of_terabytes() -> None:
    out = assert_clean(in_new_process(attempted(f"rt.tensor(shape=({HUGE},), dtype=rt.str_)")))
    assert out.startswith(("OutOfResourceError", "ShapeError"))


def test_tensor_in_a_device() -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
    out = assert_clean(in_new_process(limit + attempted("rt.load_tensor('/dev/zero')"), timeout=10))
    assert out.startswith("IOError")


def test_a_child_waits_for_what_its_parent_runs() -> None:
    code = (
        SLOW + "request = model.create_request()\nrequest.infer([x], [y])\n"
        "if os.fork() == 0:\n"
        "    signal.alarm(3)\n    try: request.wait()\n"
        "    except rt.RuntimeException: pass\n    os._exit(0)\n"
        "print(os.wait()[1], request.wait())"
    )
    assert assert_clean(in_new_process(code)) == "0 False\n"


def test_fork_while_threads_write_logs(tmp_path: Path) -> None:
    code = (
        "rt.logging.enable_file_log(sys.argv[1]); rt.logging.set_loglevel(rt.LogLevel.DEBUG)\n"
        "ended = []\n"
        "def work():\n    while not ended: load('pair', threads=1)\n"
        "for _ in range(3): threading.Thread(target=work, daemon=True).start()\n"
        "for _ in range(10):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n        signal.alarm(3); load('pair', threads=1); os._exit(0)\n"
        "    print(os.waitpid(child, 0)[1], end='', flush=True)\n"
        "ended.append(True)"
    )
    assert assert_clean(in_new_process(code, tmp_path / "log", timeout=6)) == "0" * 10


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("rt.Expr(-2**63) // -1", "InvalidArgumentError"),
        ("load('pair').create_request().wait(2**64)", "InvalidArgumentError"),
        ("load('pair', threads=2**70)", "InvalidArgumentError"),
        ("load('pair', threads='2')", "TypeError"),
        ("load('pair', cores=[2**70])", "InvalidArgumentError"),
        ("load('pair', devices=[])", "InvalidArgumentError"),
        ("load('pair').get_input_tensor(2**70)", "InvalidArgumentError"),
        ("load('pair').create_request().set_callback(5)", "TypeError"),
        ("rt.tensor('text', shape=(2**40,))", "OutOfResourceError"),
        ("rt.tensor(shape=(1,), dtype=rt.bool_).fill('text')", "TypeError"),
        ("rt.config.set_print_precision(1.5)", "TypeError"),
        ("rt.config.set_print_threshold('8')", "TypeError"),
        ("rt.load_model(3)", "TypeError"),
        ("load('pair', devices='native')", "TypeError"),
        ("load('pair', passphrase=3)", "TypeError"),
        ("load('pair').infer_shape('sum', 5)", "TypeError"),
        ("rt.convert(MODELS + '/pair.onnx', '/tmp/nowhere', progress=5)", "TypeError"),
        ("rt.logging.enable_file_log(5)", "TypeError"),
    ],
)
def test_arguments(code: str, error: str) -> None:
    check = "print(isinstance(error, rt.RuntimeException), type(error).__name__)"
    out = assert_clean(in_new_process(f"try:\n    {code}\nexcept BaseException as error: {check}"))
    assert out == f"True {error}\n"


def test_shapes_can_be_pickled() -> None:
    shape = rt.TensorShape(1, "n", rt.Expr("n") * 2 + 1)
    assert pickle.loads(pickle.dumps(shape)) == shape


def test_sizes_of_the_command_line() -> None:
    typer = pytest.importorskip("typer.testing")
    from optimium.runtime.cli._app import app

    for size in ("n=1000000000000", "typo=3"):
        done = typer.CliRunner().invoke(app, ["run", str(path_of("pair")), "--dim", size])
        assert done.exit_code == 1 and "error:" in done.output, (size, done.output, done.exception)


def test_passphrases_that_nothing_needs(tmp_path: Path) -> None:
    code = "rt.logging.enable_console_log()\nprint(rt.load_model(sys.argv[1], passphrase='secret').name)"
    rt.convert(path_of("pair"), tmp_path / "model")
    for path in (path_of("pair"), tmp_path / "model"):
        status, out, error = in_new_process(code, path)
        assert status == 0 and out == "pair\n" and "passphrase is ignored" in error, (out, error)


def test_log_files_that_cannot_be_opened() -> None:
    status, _, error = in_new_process("", OPTIMIUM_RT_LOGFILE="/nonexistent/log")
    assert status == 1 and "OPTIMIUM_RT_LOGFILE" in error and "IOError" in error, error


class TestFoundByAttack:
    """What once broke."""

    def run(self, folder: Path, model: bytes) -> str:
        (folder / "model.onnx").write_bytes(model)
        return assert_clean(in_new_process(LOAD_AND_RUN, folder / "model.onnx", timeout=8))

    @pytest.mark.parametrize("shape", [[], [1]])
    def test_expand_to_a_vector(self, tmp_path: Path, shape: list) -> None:
        nodes = [node("Expand", ["x", "s"], ["y"])]
        model = model_of(nodes, [value("x", shape)], [value("y", [5])], {"s": longs(5)})
        assert self.run(tmp_path, model) == f"ran {[1.0] * 5}\n"

    def test_pad_of_a_vector(self, tmp_path: Path) -> None:
        model = model_of([node("Pad", ["x", "p"], ["y"])], [value("x", [2])], [value("y", [4])], {"p": longs(1, 1)})
        assert self.run(tmp_path, model) == "ran [0.0, 1.0, 1.0, 0.0]\n"

    @pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
    def test_resize_to_terabytes(self, tmp_path: Path, mode: str) -> None:
        nodes = [node("Resize", ["x", "", "", "s"], ["a"], mode=mode), node("ReduceSum", ["a"], ["y"])]
        constants = {"s": longs(1, 1, 2, TERABYTES)}
        model = model_of(nodes, [value("x", [1, 1, 2, 1])], [value("y", [1] * 4)], constants)
        assert self.run(tmp_path, model).startswith(("OutOfResourceError", "ModelError", "ShapeError"))

    @pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
    def test_huge_strides_of_same_padding(self, tmp_path: Path, operator: str) -> None:
        nodes = [node(operator, ["x", "w"], ["y"], name="window", auto_pad="SAME_UPPER", strides=[HUGE] * 2)]
        model = model_of(nodes, [value("x", X)], [value("y", None)], {"w": WEIGHT})
        assert "window" in self.run(tmp_path, model) or operator == "Conv"

    @pytest.mark.parametrize("operator", ["QuantizeLinear", "DequantizeLinear"])
    @pytest.mark.parametrize("zeros", [1, 3, 5])
    def test_zero_points_that_are_not_as_many_as_scales(self, tmp_path: Path, operator: str, zeros: int) -> None:
        first = [node("QuantizeLinear", ["x", "one", "zero"], ["q"])]
        quantized = operator == "DequantizeLinear"
        nodes = [*(first if quantized else []), node(operator, ["q" if quantized else "x", "s", "z"], ["d"], name="n", axis=1)]
        last = [node("Cast", ["d"], ["y"], to=F32)]
        constants = {"s": floats(4), "z": np.zeros(zeros, np.uint8), "one": np.float32(1), "zero": np.uint8(0)}
        out = self.run(tmp_path, model_of(nodes + last, [value("x", [2, 4])], [value("y", None)], constants))
        assert out.startswith(("ModelError", "ShapeError")) and '"n"' in out

    @pytest.mark.parametrize("dtype", [np.int8, np.int32, np.float64])
    @pytest.mark.parametrize(
        ("operator", "places"),
        [
            ("LayerNormalization", ["p", "f"]),
            ("LayerNormalization", ["f", "p"]),
            ("BatchNormalization", ["p", "f", "f", "f"]),
            ("BatchNormalization", ["f", "f", "f", "p"]),
            ("InstanceNormalization", ["p", "f"]),
        ],
    )
    def test_parameters_of_another_type(self, tmp_path: Path, operator: str, places: list, dtype: type) -> None:
        constants = {"p": np.ones(4, dtype), "f": floats(4)}
        nodes = [node(operator, ["x", *places], ["y"], name="normalize")]
        with pytest.raises(rt.ModelError, match="normalize"):
            infer(loaded(tmp_path, model_of(nodes, [value("x", [2, 4, 4])], [value("y", None)], constants)), floats(2, 4, 4))

    def test_external_data_in_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "data.bin")
        assert self.run(tmp_path, external("data.bin")).startswith(("ModelError", "IOError"))

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("quantized", lambda graph: operator(graph, "transpose").update(permutation=[0, 2, 3])),
            ("quantized", lambda graph: operator(graph, "transpose").update(permutation=[0, 3, 1, 2])),
            ("quantized", lambda graph: operator(graph, "conv").update(strides=[0, 1])),
            ("quantized", lambda graph: operator(graph, "conv").update(strides=[2, 2])),
            ("quantized", lambda graph: operator(graph, "conv").update(dilations=[1, HUGE])),
            ("quantized", lambda graph: operator(graph, "conv").update(groups=3)),
            ("quantized", lambda graph: graph["schemes"][2]["scales"].pop()),
            ("quantized", lambda graph: graph["schemes"][2].update(axis=3)),
            ("quantized", lambda graph: graph["graphs"][0]["values"][1]["type"].update(shape=[1, 4, 8])),
            ("quantized", lambda graph: graph["graphs"][0]["values"][-1]["type"].update(shape=[1, 6, 6, 9])),
            ("classifier", lambda graph: graph["graphs"][0]["nodes"].reverse()),
        ],
        ids=range(11),
    )
    def test_folders_whose_graph_contradicts_itself(self, tmp_path: Path, name: str, change: Callable) -> None:
        rt.convert(path_of(name), tmp_path / "model")
        rewritten(tmp_path / "model", change)
        out = assert_clean(in_new_process(LOAD_AND_RUN, tmp_path / "model"))
        errors = ("ContainerError", "ModelError", "NotImplementedError", "ShapeError", "OutOfResourceError")
        assert out.startswith(errors), out

    def test_sizes_that_only_data_decide(self, tmp_path: Path) -> None:
        nodes = [node("ConstantOfShape", ["s"], ["y"], name="made")]
        with pytest.raises(rt.NotImplementedError, match="made"):
            loaded(tmp_path, model_of(nodes, [value("s", [1], I64)], [value("y", ["n"])]))

    @pytest.mark.parametrize("scale", [np.nan, np.inf, 1e38])
    def test_scales_that_are_no_numbers(self, tmp_path: Path, scale: float) -> None:
        nodes = [node("Resize", ["x", "", "s"], ["y"], name="scaled")]
        constants = {"s": np.array([1, 1, scale, 1], np.float32)}
        with pytest.raises(rt.ModelError, match="scaled"):
            loaded(tmp_path, model_of(nodes, [value("x", [1, 1, 2, 2])], [value("y", None)], constants))

    def test_slopes_that_are_not_used(self, tmp_path: Path) -> None:
        nodes = [node("PRelu", ["x", "slope"], ["y"])]
        model = loaded(tmp_path, model_of(nodes, [value("x", [2]), value("slope", [2])], [value("y", [2])]))
        slopes = np.array([np.inf, np.nan], np.float32)
        assert infer(model, np.zeros(2, np.float32), slopes)["y"].tolist() == [0, 0]

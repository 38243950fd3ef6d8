"""Graphs that contradict themselves, are not supported, or are strange but right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hostile.common import BOOL, HUGE, I64, floats, loaded, model_of, node, run, tensor_proto, unary, value
from onnx import GraphProto, TensorProto, helper

import optimium.runtime as rt


def subgraph(operator: str) -> GraphProto:
    return helper.make_graph([node(operator, ["x"], ["r"])], "body", [], [value("r", [2])])


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


class TestUnusualGraphs:
    """Models that are strange, but right."""

    @pytest.mark.parametrize("operator", ["Neg", "Relu", "Identity"])
    def test_deep(self, tmp_path: Path, operator: str) -> None:
        depth = 20_000
        nodes = [node(operator, [f"v{i}"], [f"v{i + 1}"]) for i in range(depth)]
        model = loaded(tmp_path, model_of(nodes, [value("v0", [4])], [value(f"v{depth}", [4])]))
        assert (run(model, floats(4))[f"v{depth}"] == 1).all()

    def test_wide(self, tmp_path: Path) -> None:
        names = [f"x{i}" for i in range(2000)]
        model = model_of([node("Sum", names, ["y"])], [value(name, [2]) for name in names], [value("y", [2])])
        assert (run(loaded(tmp_path, model), *[floats(2)] * 2000)["y"] == 2000).all()

    def test_sizes_that_double(self, tmp_path: Path) -> None:
        nodes = [node("Concat", [f"v{i}"] * 2, [f"v{i + 1}"], axis=0) for i in range(200)]
        model = loaded(tmp_path, model_of(nodes, [value("v0", ["n"])], [value("v200", None)]))
        with pytest.raises(rt.ShapeError):
            model.create_request().infer([floats(1)], [floats(3)])

    @pytest.mark.parametrize("name", ["a\0b", 'a\nb"', "日本語\u202e", "n" * 100_000, "../../x", "\x1b[31mx", "[red]"])
    def test_names(self, tmp_path: Path, name: str) -> None:
        model = model_of([node("Relu", [name], ["y"], name=name)], [value(name, [2])], [value("y", [2])])
        assert (run(loaded(tmp_path, model), floats(2))["y"] == 1).all()
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
        results = run(loaded(tmp_path, model), -floats(2))
        assert {name: array.tolist() for name, array in results.items()} == {
            name: [number] * 2 for name, number in expected.items()
        }

    @pytest.mark.parametrize("shape", [[], [0, 3], [1] * 40, [2] * 9])
    def test_ranks(self, tmp_path: Path, shape: list) -> None:
        assert run(loaded(tmp_path, unary("Neg", shape)), floats(*shape))["y"].shape == tuple(shape)

    def test_an_output_twice(self, tmp_path: Path) -> None:
        model = loaded(tmp_path, model_of([node("Relu", ["x"], ["y"])], [value("x", [2])], [value("y", [2])] * 2))
        results = [-floats(2), -floats(2)]
        request = model.create_request()
        request.infer([floats(2)], results)
        request.wait()
        assert all((result == 1).all() for result in results)


def test_branches_are_taken(tmp_path: Path) -> None:
    branch = node("If", ["c"], ["y"], name="branch", then_branch=subgraph("Relu"), else_branch=subgraph("Neg"))
    model = loaded(tmp_path, model_of([branch], [value("c", [], BOOL), value("x", [2])], [value("y", [2])]))
    request = model.create_request()
    for condition, expected in ((True, [0, 3]), (False, [1, -3])):
        y = np.zeros(2, np.float32)
        request.infer({"c": np.array(condition), "x": np.array([-1, 3], np.float32)}, [y])
        request.wait()
        assert y.tolist() == expected


def test_sizes_that_only_data_decide(tmp_path: Path) -> None:
    nodes = [node("ConstantOfShape", ["s"], ["y"], name="made")]
    model = loaded(tmp_path, model_of(nodes, [value("s", [1], I64)], [value("y", ["n"])]))
    request = model.create_request()
    for size in (3, -1, 1 << 60, 0):
        request.infer([np.array([size])], [])
        if 0 <= size < 10:
            request.wait()
            assert request.get_tensor("y").to_numpy().tolist() == [0.0] * size
        else:
            with pytest.raises(rt.RuntimeException, match="made"):
                request.wait()

"""Operators with impossible attributes, sizes, parameters and indices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile.common import F32, HUGE, I64, TERABYTES, floats, loaded, longs, model_of, node, run, run_alone, saved, unary, value
from onnx import helper

import optimium.runtime as rt

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
        run(loaded(tmp_path, model_of(nodes, [value("x", X)], [value("y", None)], weights)), floats(*X))


@pytest.mark.parametrize("groups", [0, -1, 3, 2**62])
def test_wrong_groups(tmp_path: Path, groups: int) -> None:
    nodes = [node("Conv", ["x", "w"], ["y"], name="window", group=groups)]
    with pytest.raises(rt.ModelError, match="window"):
        loaded(tmp_path, model_of(nodes, [value("x", X)], [value("y", None)], {"w": WEIGHT}))


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_huge_strides_of_same_padding(tmp_path: Path, operator: str) -> None:
    nodes = [node(operator, ["x", "w"], ["y"], name="window", auto_pad="SAME_UPPER", strides=[HUGE] * 2)]
    model = model_of(nodes, [value("x", X)], [value("y", None)], {"w": WEIGHT})
    assert "window" in run_alone(saved(tmp_path, model)) or operator == "Conv"


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
        run(loaded(tmp_path, model), floats(2, 1))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_to_terabytes(tmp_path: Path, mode: str) -> None:
    nodes = [node("Resize", ["x", "", "", "s"], ["a"], mode=mode), node("ReduceSum", ["a"], ["y"])]
    constants = {"s": longs(1, 1, 2, TERABYTES)}
    model = model_of(nodes, [value("x", [1, 1, 2, 1])], [value("y", [1] * 4)], constants)
    assert run_alone(saved(tmp_path, model)).startswith(("OutOfResourceError", "ModelError", "ShapeError"))


@pytest.mark.parametrize("scale", [np.nan, np.inf, 1e38])
def test_scales_that_are_no_numbers(tmp_path: Path, scale: float) -> None:
    nodes = [node("Resize", ["x", "", "s"], ["y"], name="scaled")]
    constants = {"s": np.array([1, 1, scale, 1], np.float32)}
    with pytest.raises(rt.ModelError, match="scaled"):
        loaded(tmp_path, model_of(nodes, [value("x", [1, 1, 2, 2])], [value("y", None)], constants))


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
        run(model, floats(2, 4), np.full(shape, index, np.int64), *rest)


@pytest.mark.parametrize("operator", ["QuantizeLinear", "DequantizeLinear"])
@pytest.mark.parametrize("zeros", [1, 3, 5])
def test_zero_points_that_are_not_as_many_as_scales(tmp_path: Path, operator: str, zeros: int) -> None:
    first = [node("QuantizeLinear", ["x", "one", "zero"], ["q"])]
    quantized = operator == "DequantizeLinear"
    nodes = [*(first if quantized else []), node(operator, ["q" if quantized else "x", "s", "z"], ["d"], name="n", axis=1)]
    last = [node("Cast", ["d"], ["y"], to=F32)]
    constants = {"s": floats(4), "z": np.zeros(zeros, np.uint8), "one": np.float32(1), "zero": np.uint8(0)}
    out = run_alone(saved(tmp_path, model_of(nodes + last, [value("x", [2, 4])], [value("y", None)], constants)))
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
def test_parameters_of_another_type(tmp_path: Path, operator: str, places: list, dtype: type) -> None:
    constants = {"p": np.ones(4, dtype), "f": floats(4)}
    nodes = [node(operator, ["x", *places], ["y"], name="normalize")]
    with pytest.raises(rt.ModelError, match="normalize"):
        run(loaded(tmp_path, model_of(nodes, [value("x", [2, 4, 4])], [value("y", None)], constants)), floats(2, 4, 4))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64])
@pytest.mark.parametrize("operator", ["Div", "Mod"])
def test_integer_divisions_by_zero_and_overflows(tmp_path: Path, operator: str, dtype: type) -> None:
    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = [value(name, [2], element_type) for name in "aby"]
    model = loaded(tmp_path, model_of([node(operator, ["a", "b"], ["y"])], ends[:2], ends[2:]))
    smallest = np.iinfo(dtype).min
    for divisors in (np.array([0, 3], dtype), np.array([-1 if smallest else 1, 3], dtype)):
        result = run(model, np.array([smallest, 7], dtype), divisors)["y"]
        assert result[1] == (2 if operator == "Div" else 1)


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    x = np.array([[np.nan, np.inf, -np.inf, 1.0]], np.float32)
    expected = {"Relu": [np.nan, np.inf, 0, 1], "Exp": [np.nan, np.inf, 0, np.e], "Tanh": [np.nan, 1, -1, np.tanh(1)]}
    for operator, wanted in expected.items():
        result = run(loaded(tmp_path, unary(operator, [1, 4])), x)["y"]
        np.testing.assert_allclose(result, np.array([wanted]), rtol=1e-5, err_msg=operator)


def test_slopes_that_are_not_used(tmp_path: Path) -> None:
    nodes = [node("PRelu", ["x", "slope"], ["y"])]
    model = loaded(tmp_path, model_of(nodes, [value("x", [2]), value("slope", [2])], [value("y", [2])]))
    slopes = np.array([np.inf, np.nan], np.float32)
    assert run(model, np.zeros(2, np.float32), slopes)["y"].tolist() == [0, 0]


@pytest.mark.parametrize("shape", [[], [1]])
def test_expand_to_a_vector(tmp_path: Path, shape: list) -> None:
    nodes = [node("Expand", ["x", "s"], ["y"])]
    model = model_of(nodes, [value("x", shape)], [value("y", [5])], {"s": longs(5)})
    assert run_alone(saved(tmp_path, model)) == f"ran {[1.0] * 5}\n"


def test_pad_of_a_vector(tmp_path: Path) -> None:
    model = model_of([node("Pad", ["x", "p"], ["y"])], [value("x", [2])], [value("y", [4])], {"p": longs(1, 1)})
    assert run_alone(saved(tmp_path, model)) == "ran [0.0, 1.0, 1.0, 0.0]\n"

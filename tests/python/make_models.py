"""Writes the models that the tests run. Needs the package onnx; the tests themselves do not.

    python tests/python/make_models.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent / "models"
F32 = TensorProto.FLOAT


def save(
    name: str, nodes: list, inputs: list, outputs: list, constants: dict | None = None, opset: int = 17
) -> None:
    initializers = [numpy_helper.from_array(value, key) for key, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    FOLDER.mkdir(exist_ok=True)
    onnx.save(model, FOLDER / f"{name}.onnx")


def value(name: str, shape: list, element_type: int = F32) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element_type, shape)


def affine() -> None:
    """output_0 = relu(2 * input_0 + input_1), all 32 x 32."""
    nodes = [
        helper.make_node("Mul", ["input_0", "two"], ["product"], name="multiply"),
        helper.make_node("Add", ["product", "input_1"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["output_0"], name="relu"),
    ]
    shape = [32, 32]
    inputs = [value("input_0", shape), value("input_1", shape)]
    save("affine", nodes, inputs, [value("output_0", shape)], {"two": np.float32(2)})


def positives() -> None:
    """The positive elements of a vector: their number is up to them."""
    nodes = [
        helper.make_node("Greater", ["input_0", "zero"], ["is_positive"], name="compare"),
        helper.make_node("Compress", ["input_0", "is_positive"], ["output_0"], name="compress", axis=0),
    ]
    save("positives", nodes, [value("input_0", ["n"])], [value("output_0", ["found"])], {"zero": np.float32(0)})


def classifier() -> None:
    """Images of any size and number to probabilities of 10 classes."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("GlobalAveragePool", ["input_0"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["features"], name="flatten"),
        helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"], name="classify", transB=1),
        helper.make_node("Softmax", ["logits"], ["output_0"], name="softmax", axis=1),
    ]
    constants = {
        "weight": random.standard_normal((10, 3)).astype(np.float32),
        "bias": random.standard_normal(10).astype(np.float32),
    }
    inputs = [value("input_0", ["batch", 3, "height", "width"])]
    save("classifier", nodes, inputs, [value("output_0", ["batch", 10])], constants)


def pair() -> None:
    """Two outputs from two inputs that share a symbolic dimension."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"], name="add"),
        helper.make_node("Sub", ["a", "b"], ["difference"], name="subtract"),
    ]
    shape = ["n", 4]
    save("pair", nodes, [value("a", shape), value("b", shape)], [value("sum", shape), value("difference", shape)])


def lookup() -> None:
    """Rows of a table; fails for indices that it does not have."""
    nodes = [helper.make_node("Gather", ["table", "indices"], ["rows"], name="gather", axis=0)]
    table = np.arange(30, dtype=np.float32).reshape(10, 3)
    save("lookup", nodes, [value("indices", ["n"], TensorProto.INT64)], [value("rows", ["n", 3])], {"table": table})


def slow() -> None:
    """Enough matrix products to be caught while it runs."""
    n, layers = 384, 150
    names = ["x", *[f"x{i}" for i in range(1, layers)], "y"]
    nodes = [
        helper.make_node("MatMul", [names[i], "x"], [names[i + 1]], name=f"m{i}") for i in range(layers)
    ]
    save("slow", nodes, [value("x", [n, n])], [value("y", [n, n])])


def quantized() -> None:
    """A convolution with quantized weights, per channel, between quantized tensors."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("QuantizeLinear", ["input_0", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], name="dequantize"),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["dw"], name="weights", axis=0),
        helper.make_node("Conv", ["dq", "dw"], ["c"], name="conv", kernel_shape=[3, 3]),
        helper.make_node("QuantizeLinear", ["c", "scale", "zero"], ["qc"], name="requantize"),
        helper.make_node("DequantizeLinear", ["qc", "scale", "zero"], ["output_0"], name="result"),
    ]
    constants = {
        "scale": np.float32(0.05),
        "zero": np.int8(3),
        "w": random.integers(-100, 100, (8, 4, 3, 3)).astype(np.int8),
        "w_scale": random.uniform(0.001, 0.01, 8).astype(np.float32),
        "w_zero": np.zeros(8, np.int8),
    }
    save("quantized", nodes, [value("input_0", [1, 4, 8, 8])], [value("output_0", [1, 8, 6, 6])], constants)


def image() -> None:
    """A small convolutional network, with what gets fused in networks: biases, activations, a residual sum."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["input_0", "w1", "b1"], ["conv1"], name="first", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv1"], ["relu1"], name="first_relu"),
        helper.make_node("Conv", ["relu1", "w2"], ["conv2"], name="second", kernel_shape=[1, 1]),
        helper.make_node("Add", ["conv2", "relu1"], ["sum"], name="residual"),
        helper.make_node("Relu", ["sum"], ["relu2"], name="second_relu"),
        helper.make_node("Identity", ["relu2"], ["same"], name="identity"),
        helper.make_node("GlobalAveragePool", ["same"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["features"], name="flatten"),
        helper.make_node("Gemm", ["features", "w3"], ["output_0"], name="classify"),
    ]
    constants = {
        "w1": random.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "b1": random.standard_normal(8).astype(np.float32),
        "w2": random.standard_normal((8, 8, 1, 1)).astype(np.float32),
        "w3": random.standard_normal((8, 4)).astype(np.float32),
    }
    save("image", nodes, [value("input_0", [1, 3, 6, 7])], [value("output_0", [1, 4])], constants)


def embedder() -> None:
    """Rows of a table through two layers. The weights are computed, so that the file is small."""
    nodes, constants = [], {"zero": np.int64(0), "one": np.int64(1), "prime": np.int64(8191)}
    for name, dims in {"table": [320, 64], "first": [64, 384], "second": [384, 96]}.items():
        constants |= {
            f"{name}.count": np.int64(dims[0] * dims[1]),
            f"{name}.step": np.float32(0.7 + len(name)),
            f"{name}.dims": np.array(dims, np.int64),
        }
        nodes += [
            helper.make_node("Range", ["zero", f"{name}.count", "one"], [f"{name}.range"]),
            helper.make_node("Mul", [f"{name}.range", f"{name}.range"], [f"{name}.squares"]),
            helper.make_node("Mod", [f"{name}.squares", "prime"], [f"{name}.rests"]),
            helper.make_node("Cast", [f"{name}.rests"], [f"{name}.reals"], to=F32),
            helper.make_node("Mul", [f"{name}.reals", f"{name}.step"], [f"{name}.angles"]),
            helper.make_node("Sin", [f"{name}.angles"], [f"{name}.values"]),
            helper.make_node("Reshape", [f"{name}.values", f"{name}.dims"], [name]),
        ]
    nodes += [
        helper.make_node("Gather", ["table", "indices"], ["rows"], name="embed", axis=0),
        helper.make_node("MatMul", ["rows", "first"], ["hidden"], name="multiply"),
        helper.make_node("Relu", ["hidden"], ["positive"], name="relu"),
        helper.make_node("MatMul", ["positive", "second"], ["output_0"], name="multiply_again"),
    ]
    inputs = [value("indices", ["n"], TensorProto.INT64)]
    save("embedder", nodes, inputs, [value("output_0", ["n", 96])], constants)


def decoder() -> None:
    """Two layers of attention with a cache, which grows by the tokens of each call: four heads of queries, two of keys."""
    random = np.random.default_rng(0)
    vocabulary, width, heads, key_heads, size = 40, 32, 4, 2, 8
    constants = {"table": random.standard_normal((vocabulary, width)), "words": random.standard_normal((width, vocabulary))}
    nodes = [helper.make_node("Gather", ["table", "ids"], ["x0"], name="embed", axis=0)]
    inputs, outputs = [value("ids", [1, "s"], TensorProto.INT64)], [value("logits", [1, "s", vocabulary])]
    for i in range(2):
        for name, columns in {"q": heads * size, "k": key_heads * size, "v": key_heads * size, "o": width}.items():
            constants[f"{name}{i}.weight"] = random.standard_normal((width, columns)) / np.sqrt(width)
        operands = [f"q{i}", f"k{i}", f"v{i}", "", f"past_key_{i}", f"past_value_{i}"]
        present = [f"present_key_{i}", f"present_value_{i}"]
        inputs += [value(name, [1, key_heads, "p", size]) for name in operands[4:]]
        outputs += [value(name, [1, key_heads, "t", size]) for name in present]
        attributes = {"q_num_heads": heads, "kv_num_heads": key_heads}
        nodes += [
            *[helper.make_node("MatMul", [f"x{i}", f"{n}{i}.weight"], [f"{n}{i}"], name=f"{n}{i}") for n in "qkv"],
            helper.make_node("Attention", operands, [f"y{i}", *present], name=f"attention{i}", **attributes),
            helper.make_node("MatMul", [f"y{i}", f"o{i}.weight"], [f"o{i}"], name=f"o{i}"),
            helper.make_node("Add", [f"x{i}", f"o{i}"], [f"x{i + 1}"], name=f"add{i}"),
        ]
    nodes.append(helper.make_node("MatMul", ["x2", "words"], ["logits"], name="score"))
    constants = {name: weight.astype(np.float32) for name, weight in constants.items()}
    save("decoder", nodes, inputs, outputs, constants, opset=23)


if __name__ == "__main__":
    for make in (affine, positives, classifier, pair, lookup, slow, quantized, image, embedder, decoder):
        make()

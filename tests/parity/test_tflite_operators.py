"""Quantized TFLite networks of one operator each, against LiteRT: at most a quantum apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference import infer

import optimium.runtime as rt

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tflite_builder import Network, options

NONE, RELU, RELU6 = (getattr(schema.ActivationFunctionType, name) for name in ("NONE", "RELU", "RELU6"))
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID

QUANTA = 1
"""How far apart outputs may be: every engine rounds a half its own way."""

STEP = 0.05
"""The scale of most activations."""


def scales(network: Network, count: int, per_channel: bool) -> Any:
    """Scales of weights; those of `uint8` are never one for each channel."""
    return network.random.uniform(0.002, 0.01, count) if per_channel and network.dtype == "int8" else 0.005


def biases(network: Network, weight_scales: Any, count: int) -> int:
    return network.constant(network.random.integers(-2000, 2000, count).astype(np.int32), STEP * weight_scales)


def window(kind: str, padding: int, stride: int, dilation: int, activation: int, **more: int) -> object:
    steps = {"strideW": stride, "strideH": stride, "dilationWFactor": dilation, "dilationHFactor": dilation}
    return options(kind, padding=padding, fusedActivationFunction=activation, **steps, **more)


def window_size(size: int, kernel: int, stride: int, padding: int) -> int:
    return -(-size // stride) if padding == SAME else (size - kernel) // stride + 1


def convolution(
    network: Network,
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    size: int = 9,
    stride: int = 1,
    dilation: int = 1,
    padding: int = SAME,
    activation: int = NONE,
    per_channel: bool = True,
) -> None:
    x = network.input([1, size, size, inputs], STEP, -3)
    step = scales(network, outputs, per_channel)
    w = network.weights([outputs, kernel, kernel, inputs], step, 0)
    b = biases(network, step, outputs)
    over = window_size(size, dilation * (kernel - 1) + 1, stride, padding)
    y = network.output([1, over, over, outputs], 0.09, 5)
    settings = window("Conv2D", padding, stride, dilation, activation)
    network.operator("CONV_2D", [x, w, b], y, settings, 3)


def depthwise(
    network: Network,
    channels: int,
    kernel: int,
    *,
    size: int = 9,
    stride: int = 1,
    multiplier: int = 1,
    activation: int = NONE,
) -> None:
    x = network.input([1, size, size, channels], STEP, -3)
    outputs = channels * multiplier
    step = scales(network, outputs, True)
    w = network.weights([1, kernel, kernel, outputs], step, 3)
    b = biases(network, step, outputs)
    over = window_size(size, kernel, stride, SAME)
    y = network.output([1, over, over, outputs], 0.09, 5)
    settings = window("DepthwiseConv2D", SAME, stride, 1, activation, depthMultiplier=multiplier)
    network.operator("DEPTHWISE_CONV_2D", [x, w, b], y, settings, 3)


def fully_connected(network: Network, *, activation: int = NONE, per_channel: bool = False) -> None:
    x = network.input([3, 37], STEP, 7)
    step = scales(network, 21, per_channel)
    w = network.weights([21, 37], step, 0)
    y = network.output([3, 21], STEP, -9)
    settings = options("FullyConnected", fusedActivationFunction=activation)
    network.operator("FULLY_CONNECTED", [x, w, biases(network, step, 21)], y, settings, 4)


def binary(
    network: Network,
    kind: str,
    *,
    shape: Sequence[int] = (2, 5, 6, 8),
    activation: int = NONE,
    constant: bool = False,
) -> None:
    """An operator on images and on a tensor of `shape`."""
    image = (2, 5, 6, 8)
    a = network.input(image, 0.03, 4)
    if constant:
        b = network.constant(network.integers(shape), 0.07, -20 if network.dtype == "int8" else 108)
    else:
        b = network.input(shape, 0.07, -20)
    settings = options(kind, fusedActivationFunction=activation)
    network.operator(kind.upper(), [a, b], network.output(image, 0.08, 2), settings, 2)


def unary(
    network: Network,
    code: str,
    shape: Sequence[int] = (4, 30),
    output: Sequence[int] | None = None,
    *,
    settings: object = None,
    quanta: tuple[float, int] = (STEP, 3),
    output_quanta: tuple[float, int] = (STEP, 3),
    more: Any = None,
    version: int = 2,
) -> None:
    """An operator on one tensor; `more` is its second input, a constant of integers. Quanta are scale and zero point."""
    inputs = [network.input(shape, *quanta)]
    if more is not None:
        inputs.append(network.constant(np.asarray(more, np.int32)))
    network.operator(code, inputs, network.output(output or shape, *output_quanta), settings, version)


def pool(network: Network, code: str, size: int, kernel: int, padding: int) -> None:
    settings = options("Pool2D", padding=padding, strideW=2, strideH=2, filterWidth=kernel, filterHeight=kernel)
    over = window_size(size, kernel, 2, padding)
    unary(network, code, [1, size, size, 20], [1, over, over, 20], settings=settings)


def concatenation(network: Network) -> None:
    parts = [network.input([1, 3, 4, width], STEP, 3) for width in (5, 7)]
    network.operator("CONCATENATION", parts, network.output([1, 3, 4, 12], STEP, 3), options("Concatenation", axis=3), 2)


def resize(network: Network, kind: str, *, half_pixel: bool = False, align: bool = False) -> None:
    settings = options(kind, halfPixelCenters=half_pixel, alignCorners=align)
    code = {"ResizeBilinear": "RESIZE_BILINEAR", "ResizeNearestNeighbor": "RESIZE_NEAREST_NEIGHBOR"}[kind]
    unary(network, code, [1, 5, 6, 8], [1, 10, 12, 8], settings=settings, more=[10, 12], version=3)


CASES: dict[str, Callable[[Network], None]] = {
    "convolution": partial(convolution, inputs=8, outputs=20, kernel=3, activation=RELU),
    "convolution of colours": partial(convolution, inputs=3, outputs=16, kernel=3, size=17, stride=2, activation=RELU6),
    "convolution of points": partial(convolution, inputs=24, outputs=70, kernel=1),
    "convolution with one scale": partial(
        convolution, inputs=4, outputs=9, kernel=5, size=12, padding=VALID, activation=RELU, per_channel=False
    ),
    "dilated convolution": partial(convolution, inputs=8, outputs=9, kernel=3, dilation=2),
    "depthwise convolution": partial(depthwise, channels=40, kernel=3, activation=RELU),
    "depthwise convolution by 2": partial(depthwise, channels=72, kernel=3, size=12, stride=2, activation=RELU6),
    "depthwise convolution 5 x 5": partial(depthwise, channels=16, kernel=5),
    "depthwise convolution to more channels": partial(depthwise, channels=6, kernel=3, multiplier=2),
    "fully connected": fully_connected,
    "fully connected, many scales": partial(fully_connected, activation=RELU, per_channel=True),
    "add": partial(binary, kind="Add"),
    "add, relu": partial(binary, kind="Add", activation=RELU),
    "add a constant": partial(binary, kind="Add", shape=[1, 1, 1, 8], constant=True),
    "multiply": partial(binary, kind="Mul"),
    "multiply by channels": partial(binary, kind="Mul", shape=[2, 1, 1, 8], activation=RELU6),
    "subtract": partial(binary, kind="Sub"),
    "mean pool": partial(pool, code="AVERAGE_POOL_2D", size=9, kernel=3, padding=SAME),
    "maximum pool": partial(pool, code="MAX_POOL_2D", size=8, kernel=2, padding=VALID),
    "concatenation": concatenation,
    "reshape": partial(
        unary,
        code="RESHAPE",
        shape=[2, 3, 10],
        output=[4, 15],
        more=[4, 15],
        settings=options("Reshape", newShape=[4, 15]),
        version=1,
    ),
    "softmax": partial(
        unary, code="SOFTMAX", quanta=(0.08, 3), output_quanta=(1 / 256, -128), settings=options("Softmax", beta=1.0)
    ),
    "logistic": partial(unary, code="LOGISTIC", output_quanta=(1 / 256, -128)),
    "tanh": partial(unary, code="TANH", output_quanta=(1 / 128, 0)),
    "hard swish": partial(unary, code="HARD_SWISH", output_quanta=(0.04, -60), version=1),
    "relu6": partial(unary, code="RELU6"),
    "leaky relu": partial(unary, code="LEAKY_RELU", settings=options("LeakyRelu", alpha=0.1)),
    "requantize": partial(unary, code="QUANTIZE", output_quanta=(0.08, -9), settings=options("Quantize")),
    "pad": partial(
        unary,
        code="PAD",
        shape=[1, 4, 5, 3],
        output=[1, 6, 8, 3],
        more=[[0, 0], [1, 1], [2, 1], [0, 0]],
        settings=options("Pad"),
    ),
    "transpose": partial(
        unary,
        code="TRANSPOSE",
        shape=[2, 3, 4, 5],
        output=[2, 5, 3, 4],
        more=[0, 3, 1, 2],
        settings=options("Transpose"),
    ),
    "mean": partial(
        unary,
        code="MEAN",
        shape=[2, 7, 6, 40],
        output=[2, 1, 1, 40],
        output_quanta=(0.03, -7),
        more=[1, 2],
        settings=options("Reducer", keepDims=True),
    ),
    "mean without the axes": partial(
        unary,
        code="MEAN",
        shape=[2, 7, 6, 40],
        output=[2, 40],
        more=[1, 2],
        settings=options("Reducer", keepDims=False),
    ),
    "bilinear": partial(resize, kind="ResizeBilinear"),
    "bilinear, half pixels": partial(resize, kind="ResizeBilinear", half_pixel=True),
    "bilinear, corners": partial(resize, kind="ResizeBilinear", align=True),
    "nearest": partial(resize, kind="ResizeNearestNeighbor"),
    "nearest, half pixels": partial(resize, kind="ResizeNearestNeighbor", half_pixel=True),
    "nearest, corners": partial(resize, kind="ResizeNearestNeighbor", align=True),
}


def expected(path: Path, arrays: list[np.ndarray], resolver: OpResolverType) -> np.ndarray:
    """What LiteRT makes of the inputs, with one kind of its kernels."""
    interpreter = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), arrays, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    (detail,) = interpreter.get_output_details()
    return interpreter.get_tensor(detail["index"])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("build", CASES.values(), ids=CASES)
def test_agrees_with_litert(build: Callable[[Network], None], dtype: str, tmp_path: Path) -> None:
    network = Network(dtype)
    build(network)
    path = tmp_path / "model.tflite"
    path.write_bytes(network.file())
    model = rt.load_model(path, threads=1)
    inputs = {
        name: rt.tensor(array, dtype=model.get_tensor(name).type)
        for name, array in zip(model.input_names, network.arrays, strict=True)
    }
    (ours,) = infer(model, inputs).values()
    for resolver in (OpResolverType.AUTO, OpResolverType.BUILTIN_REF):
        theirs = expected(path, network.arrays, resolver)
        assert ours.shape == theirs.shape
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= QUANTA, resolver

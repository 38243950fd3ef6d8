"""Networks that give images or boxes: detection, segmentation, super-resolution, and the reading of text lines."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .builder import Network


def _conv_silu(net: Network, x: str, outputs: int, kernel: int = 1, stride: int = 1) -> str:
    return net.silu(net.conv(x, outputs, kernel, stride=stride))


def _cross_stage(net: Network, x: str, outputs: int, blocks: int, *, shortcut: bool) -> str:
    """Two halves, one of them through bottlenecks, all results concatenated."""
    halves = net.split(_conv_silu(net, x, outputs), [outputs // 2] * 2)
    for _ in range(blocks):
        y = _conv_silu(net, _conv_silu(net, halves[-1], outputs // 2, 3), outputs // 2, 3)
        halves.append(net.add(halves[-1], y) if shortcut else y)
    return _conv_silu(net, net.concat(halves), outputs)


def detector(size: int = 416, width: int = 32) -> Network:
    """A one-stage detector of three scales, in the manner of YOLOv8."""
    net = Network("detector")
    x = _conv_silu(net, net.input("image", [1, 3, size, size], 3), width, 3, 2)
    levels = []
    for stage, blocks in enumerate([1, 2, 2, 1]):
        x = _conv_silu(net, x, 2 * width << stage, 3, 2)
        x = _cross_stage(net, x, net.width[x], blocks, shortcut=True)
        levels.append(x)
    x = _conv_silu(net, x, net.width[x] // 2)
    pools = [x]
    for _ in range(3):
        pools.append(net.max_pool(pools[-1], 5, 1))
    _, small, middle, _ = levels
    top = _conv_silu(net, net.concat(pools), 16 * width)
    middle = _cross_stage(net, net.concat([net.upsample(top, "nearest"), middle]), 8 * width, 1, shortcut=False)
    small = _cross_stage(net, net.concat([net.upsample(middle, "nearest"), small]), 4 * width, 1, shortcut=False)
    down = net.concat([_conv_silu(net, small, 4 * width, 3, 2), middle])
    middle = _cross_stage(net, down, 8 * width, 1, shortcut=False)
    down = net.concat([_conv_silu(net, middle, 8 * width, 3, 2), top])
    top = _cross_stage(net, down, 16 * width, 1, shortcut=False)
    outputs = [_head(net, feature, 2 * width) for feature in (small, middle, top)]
    _boxes(net, net.node("Concat", *outputs, axis=2))
    return net


def _head(net: Network, x: str, inner: int) -> str:
    """Four sides of sixteen bins, and eighty classes, for every pixel."""
    sides = net.conv(_conv_silu(net, _conv_silu(net, x, inner, 3), inner, 3), 64, 1)
    classes = net.conv(_conv_silu(net, _conv_silu(net, x, inner, 3), inner, 3), 80, 1)
    return net.reshape(net.concat([sides, classes]), [1, 144, -1], 144)


def _boxes(net: Network, x: str) -> None:
    """Expected distances of the sides, and probabilities of the classes."""
    sides, classes = net.split(x, [64, 80])
    bins = net.node("Softmax", net.transpose(net.reshape(sides, [1, 4, 16, -1]), [0, 2, 1, 3]), axis=1)
    weights = net.constant([[[[float(bin)]] for bin in range(16)]])
    distances = net.node("Conv", bins, weights, kernel_shape=[1, 1])
    net.output(net.reshape(distances, [1, 4, -1]), "distances")
    net.output(net.node("Sigmoid", classes), "classes")


def unet(size: int = 256, width: int = 16, depth: int = 4) -> Network:
    """Encoder and decoder with bilinear enlargement, after Ronneberger et al. (2015)."""
    net = Network("unet")

    def pair(x: str, outputs: int) -> str:
        return net.relu(net.conv(net.relu(net.conv(x, outputs)), outputs))

    x = pair(net.input("image", [1, 3, size, size], 3), width)
    levels = []
    for depth_of_level in range(1, depth + 1):
        levels.append(x)
        x = pair(net.max_pool(x, 2, 2), width << depth_of_level)
    for level in reversed(levels):
        x = pair(net.concat([level, net.upsample(x, "linear")]), net.width[level])
    net.output(net.node("Sigmoid", net.conv(x, 2, 1, gain=1.0)), "mask")
    return net


def segmenter(size: int = 257, width: int = 32) -> Network:
    """Dilated convolutions of several rates on coarse features, after Chen et al. (2017), DeepLab v3."""
    net = Network("segmenter")
    x = net.relu(net.conv(net.input("image", [1, 3, size, size], 3), width, 3, stride=2))
    for stage, (stride, dilation) in enumerate([(2, 1), (2, 1), (1, 2)]):
        outputs = 2 * width << stage
        x = net.relu(net.conv(x, outputs, stride=stride))
        for _ in range(2):
            y = net.relu(net.conv(x, outputs // 2, 1))
            y = net.conv(net.relu(net.conv(y, outputs // 2, dilation=dilation)), outputs, 1, gain=0.5)
            x = net.relu(net.add(x, y))
    inner = 4 * width
    branches = [net.relu(net.conv(x, inner, 1))]
    branches += [net.relu(net.conv(x, inner, dilation=rate)) for rate in (6, 12, 18)]
    shape = net.node("Slice", net.node("Shape", x), *(net.constant(value, np.int64) for value in ([2], [4], [0])))
    pooled = net.relu(net.conv(net.average(x), inner, 1))
    target = net.node("Concat", net.constant([1, inner], np.int64), shape, axis=0)
    branches.append(net.node("Expand", pooled, target))
    x = net.conv(net.relu(net.conv(net.concat(branches), inner, 1)), 21, 1, gain=1.0)
    x = net.upsample(x, "linear", 8.0)
    net.output(x, "logits")
    net.output(net.node("ArgMax", x, axis=1, keepdims=0), "classes", kind=TensorProto.INT64)
    return net


def super_resolution(size: int = 96, width: int = 64, factor: int = 2, blocks: int = 6) -> Network:
    """Residual blocks and pixels out of channels, after Lim et al. (2017), EDSR."""
    net = Network("super_resolution")
    first = x = net.conv(net.input("image", [1, 3, size, size], 3), width, gain=1.0)
    for _ in range(blocks):
        y = net.conv(net.relu(net.conv(x, width)), width, gain=1.0)
        x = net.add(x, net.node("Mul", y, net.constant(0.1)))
    x = net.add(net.conv(x, width, gain=1.0), first)
    x = net.conv(x, width * factor * factor, gain=1.0)
    x = net.node("DepthToSpace", x, width=width, blocksize=factor, mode="CRD")
    net.output(net.conv(x, 3, gain=1.0), "enlarged")
    return net


def text_line(length: int = 320, width: int = 64, hidden: int = 256, characters: int = 97) -> Network:
    """Convolutions and bidirectional LSTMs over the columns of a line of text, after Shi et al. (2015), CRNN."""
    net = Network("text_line")
    x = net.input("image", [1, 1, 32, length], 1)
    for index, factor in enumerate([1, 2, 4, 4, 8, 8]):
        x = net.relu(net.conv(x, factor * width))
        if index < 2:
            x = net.max_pool(x, 2, 2)
        elif index in (3, 5):
            x = net.node("MaxPool", x, kernel_shape=[2, 1], strides=[2, 1])
    x = net.node("AveragePool", x, kernel_shape=[2, 1], strides=[2, 1])
    x = net.node("Squeeze", x, net.constant([2], np.int64))
    x = net.transpose(x, [2, 0, 1])
    for _ in range(2):
        x = _bidirectional_lstm(net, x, hidden, length // 4)
    net.output(net.node("LogSoftmax", net.linear(x, characters), axis=2), "characters")
    return net


def _bidirectional_lstm(net: Network, x: str, hidden: int, steps: int) -> str:
    """The states of both directions side by side: [steps, batch, 2 hidden]."""
    inputs = net.width[x]
    weights = net.weights([2, 4 * hidden, inputs], inputs, 1.0)
    recurrent = net.weights([2, 4 * hidden, hidden], hidden, 1.0)
    bias = net.random([2, 8 * hidden], 0.05)
    y = net.node("LSTM", x, weights, recurrent, bias, hidden_size=hidden, direction="bidirectional")
    y = net.transpose(y, [0, 2, 1, 3])
    return net.reshape(y, [steps, 1, 2 * hidden], 2 * hidden)

"""Networks for the classification of images on small devices, of depthwise and grouped convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .builder import Network


def _squeeze_and_excite(net: Network, x: str, inner: int, activation: Callable[[str], str], gate: str) -> str:
    """Scales every channel by a function of all channels' means."""
    means = net.node("ReduceMean", x, axes=[2, 3], keepdims=1)
    factors = net.conv(activation(net.conv(means, inner, 1)), net.width[x], 1)
    attributes: dict[str, Any] = {"alpha": 1 / 6, "beta": 0.5} if gate == "HardSigmoid" else {}
    return net.node("Mul", x, net.node(gate, factors, **attributes))


def efficientnet_b0(size: int = 224, width: float = 1.0) -> Network:
    """Inverted bottlenecks with SiLU and squeeze-and-excite, after Tan and Le (2019)."""
    net = Network("efficientnet_b0")
    x = net.silu(net.conv(net.input("image", [1, 3, size, size], 3), int(32 * width), 3, stride=2))
    stages = [(1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2)]
    for expansion, channels, blocks, kernel, first_stride in [*stages, (6, 320, 1, 3, 1)]:
        outputs = int(channels * width)
        for block in range(blocks):
            stride, inputs = first_stride if block == 0 else 1, net.width[x]
            y = x if expansion == 1 else net.silu(net.conv(x, inputs * expansion, 1))
            y = net.silu(net.depthwise(y, kernel, stride))
            y = _squeeze_and_excite(net, y, max(inputs // 4, 1), net.silu, "Sigmoid")
            y = net.conv(y, outputs, 1)
            x = net.add(y, x) if stride == 1 and inputs == outputs else y
    x = net.silu(net.conv(x, 4 * net.width[x], 1))
    net.output(net.classifier(x, 1000), "logits")
    return net


def mobilenet_v3(size: int = 224, width: float = 1.0) -> Network:
    """Inverted bottlenecks with hard swish, after Howard et al. (2019), the large variant."""
    net = Network("mobilenet_v3")

    def hard_swish(x: str) -> str:
        return net.node("HardSwish", x)

    x = hard_swish(net.conv(net.input("image", [1, 3, size, size], 3), int(16 * width), 3, stride=2))
    blocks = [
        (3, 16, 16, False, net.relu, 1), (3, 64, 24, False, net.relu, 2), (3, 72, 24, False, net.relu, 1),
        (5, 72, 40, True, net.relu, 2), (5, 120, 40, True, net.relu, 1), (5, 120, 40, True, net.relu, 1),
        (3, 240, 80, False, hard_swish, 2), (3, 200, 80, False, hard_swish, 1), (3, 184, 80, False, hard_swish, 1),
        (3, 480, 112, True, hard_swish, 1), (3, 672, 112, True, hard_swish, 1),
        (5, 672, 160, True, hard_swish, 2), (5, 960, 160, True, hard_swish, 1), (5, 960, 160, True, hard_swish, 1),
    ]  # fmt: skip
    for kernel, expanded, channels, excited, activation, stride in blocks:
        inputs, outputs = net.width[x], int(channels * width)
        y = activation(net.conv(x, int(expanded * width), 1)) if expanded != channels else x
        y = activation(net.depthwise(y, kernel, stride))
        if excited:
            y = _squeeze_and_excite(net, y, max(net.width[y] // 4, 1), net.relu, "HardSigmoid")
        y = net.conv(y, outputs, 1, gain=1.0)
        x = net.add(x, y) if stride == 1 and inputs == outputs else y
    x = hard_swish(net.conv(x, 6 * net.width[x], 1))
    x = hard_swish(net.dense(net.node("Flatten", net.average(x), axis=1), int(1280 * width)))
    net.output(net.dense(x, 1000), "logits")
    return net


def _shuffle(net: Network, x: str, groups: int, size: int) -> str:
    """Deals the channels of each group out to all groups."""
    channels = net.width[x]
    x = net.reshape(x, [1, groups, channels // groups, size, size], channels)
    x = net.transpose(x, [0, 2, 1, 3, 4], channels)
    return net.reshape(x, [1, channels, size, size], channels)


def shufflenet_v1(size: int = 224, width: int = 240, groups: int = 3) -> Network:
    """Grouped 1×1 convolutions and channel shuffles, after Zhang et al. (2018)."""
    net = Network("shufflenet_v1")
    x = net.relu(net.conv(net.input("image", [1, 3, size, size], 3), 24, 3, stride=2))
    x = net.max_pool(x, 3, 2)
    size //= 4
    for stage, blocks in enumerate([4, 8, 4]):
        for block in range(blocks):
            stride, outputs = (2, width << stage) if block == 0 else (1, width << stage)
            inner = outputs // 4
            y = net.relu(net.conv(x, inner, 1, groups=1 if stage == block == 0 else groups))
            y = net.depthwise(_shuffle(net, y, groups, size), 3, stride)
            size //= stride
            remaining = outputs - net.width[x] if stride == 2 else outputs
            y = net.conv(y, remaining, 1, groups=groups, gain=1.0)
            if stride == 2:
                pooled = net.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
                x = net.relu(net.concat([pooled, y]))
            else:
                x = net.relu(net.add(x, y))
    net.output(net.classifier(x, 1000), "logits")
    return net


def shufflenet_v2(size: int = 224, width: int = 116) -> Network:
    """Halves that pass by, and channel shuffles, after Ma et al. (2018)."""
    net = Network("shufflenet_v2")
    x = net.relu(net.conv(net.input("image", [1, 3, size, size], 3), 24, 3, stride=2))
    x = net.max_pool(x, 3, 2)
    size //= 4
    for stage, blocks in enumerate([4, 8, 4]):
        half = (width << stage) // 2
        size //= 2
        for block in range(blocks):
            stride = 2 if block == 0 else 1
            if stride == 2:
                kept = net.relu(net.conv(net.depthwise(x, 3, 2), half, 1))
                y = x
            else:
                kept, y = net.split(x, [half, half])
            y = net.depthwise(net.relu(net.conv(y, half, 1)), 3, stride)
            x = _shuffle(net, net.concat([kept, net.relu(net.conv(y, half, 1))]), 2, size)
    x = net.relu(net.conv(x, 1024, 1))
    net.output(net.classifier(x, 1000), "logits")
    return net

"""Networks for the classification of images, of full 3×3 and 1×1 convolutions."""

from __future__ import annotations

from .builder import Network


def resnet18(size: int = 224, width: int = 64) -> Network:
    """After He et al., "Deep Residual Learning for Image Recognition" (2015)."""
    net = Network("resnet18")
    x = net.relu(net.conv(net.input("image", [1, 3, size, size], 3), width, 7, stride=2))
    x = net.max_pool(x, 3, 2)
    for stage in range(4):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            outputs = width << stage
            y = net.conv(net.relu(net.conv(x, outputs, stride=stride)), outputs, gain=0.5)
            shortcut = x if net.width[x] == outputs else net.conv(x, outputs, 1, stride=stride, gain=1.0)
            x = net.relu(net.add(y, shortcut))
    net.output(net.classifier(x, 1000), "logits")
    return net


def resnext50(size: int = 224, width: int = 64, groups: int = 32) -> Network:
    """Bottlenecks around grouped convolutions, after Xie et al., "Aggregated Residual Transformations" (2017)."""
    net = Network("resnext50")
    x = net.relu(net.conv(net.input("image", [1, 3, size, size], 3), width, 7, stride=2))
    x = net.max_pool(x, 3, 2)
    for stage, blocks in enumerate([3, 4, 6, 3]):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            inner, outputs = 2 * width << stage, 4 * width << stage
            y = net.relu(net.conv(x, inner, 1))
            y = net.relu(net.conv(y, inner, stride=stride, groups=groups))
            y = net.conv(y, outputs, 1, gain=0.5)
            shortcut = x if net.width[x] == outputs else net.conv(x, outputs, 1, stride=stride, gain=1.0)
            x = net.relu(net.add(y, shortcut))
    net.output(net.classifier(x, 1000), "logits")
    return net


def densenet121(size: int = 224, growth: int = 32, blocks: tuple[int, ...] = (6, 12, 24, 16)) -> Network:
    """Normalization before convolution and ever longer concatenations, after Huang et al. (2017)."""
    net = Network("densenet121")
    x = net.conv(net.input("image", [1, 3, size, size], 3), 2 * growth, 7, stride=2)
    x = net.max_pool(net.relu(net.batch_norm(x)), 3, 2)
    for index, layers in enumerate(blocks):
        for _ in range(layers):
            y = net.conv(net.relu(net.batch_norm(x)), 4 * growth, 1)
            y = net.conv(net.relu(net.batch_norm(y)), growth)
            x = net.concat([x, y])
        x = net.relu(net.batch_norm(x))
        if index + 1 < len(blocks):
            x = net.conv(x, net.width[x] // 2, 1)
            x = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    net.output(net.classifier(x, 1000), "logits")
    return net


def squeezenet(size: int = 224, width: int = 16) -> Network:
    """Fire modules, after Iandola et al. (2016), version 1.1."""
    net = Network("squeezenet")
    x = net.relu(net.conv(net.input("image", [1, 3, size, size], 3), 4 * width, 3, stride=2))
    x = net.max_pool(x, 3, 2)
    for index, factor in enumerate([1, 1, 2, 2, 3, 3, 4, 4]):
        squeezed = net.relu(net.conv(x, factor * width, 1))
        outputs = 4 * factor * width
        x = net.concat([net.relu(net.conv(squeezed, outputs, 1)), net.relu(net.conv(squeezed, outputs, 3))])
        if index in (1, 3):
            x = net.max_pool(x, 3, 2)
    x = net.relu(net.conv(x, 1000, 1))
    net.output(net.node("Flatten", net.average(x), axis=1), "logits")
    return net


def vgg11(size: int = 224, width: int = 64) -> Network:
    """Plain 3×3 convolutions, after Simonyan and Zisserman (2015), with a mean in place of the large matrices."""
    net = Network("vgg11")
    x = net.input("image", [1, 3, size, size], 3)
    for factor, layers in [(1, 1), (2, 1), (4, 2), (8, 2), (8, 2)]:
        for _ in range(layers):
            x = net.relu(net.conv(x, factor * width))
        x = net.max_pool(x, 2, 2)
    net.output(net.classifier(x, 1000), "logits")
    return net

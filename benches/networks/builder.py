"""A small builder of ONNX networks with random weights: each method adds nodes and gives the name of their result.

Images are [batch, channels, height, width]; the number of channels of every value is known, so that layers say only what comes
out of them. Weights are normal with the variance that keeps the size of activations from layer to layer (He et al. 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from onnx import TensorProto, helper, numpy_helper


class Network:
    """An ONNX graph being built."""

    def __init__(self, name: str, opset: int = 17) -> None:
        self._name = name
        self._opset = opset
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self.width: dict[str, int] = {}
        """Channels of an image, features of a row."""

    def input(self, name: str, shape: Sequence[int | str], width: int | None = None, kind: int = TensorProto.FLOAT) -> str:
        """An input; `width` is its channels, or its features where it is none."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        if width is not None:
            self.width[name] = width
        return name

    def output(self, value: str, name: str, kind: int = TensorProto.FLOAT) -> None:
        """Makes `value` an output called `name`; its shape is inferred."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, kind, None))

    def constant(self, values: object, dtype: type = np.float32) -> str:
        """A constant with these values."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weights(self, shape: Sequence[int], inputs: int, gain: float = 2.0) -> str:
        """Random weights of a layer that sums `inputs` products."""
        return self.constant(self._random.standard_normal(shape) * (gain / inputs) ** 0.5)

    def random(self, shape: Sequence[int], scale: float, offset: float = 0.0) -> str:
        """A constant of random values around `offset`."""
        return self.constant(self._random.standard_normal(shape) * scale + offset)

    def node(self, operator: str, *inputs: str, width: int | None = None, **attributes: Any) -> str:
        """One node with one output, of the first input's width where none is given."""
        return self.nodes(operator, *inputs, widths=[width or self.width.get(inputs[0], 0)], **attributes)[0]

    def nodes(self, operator: str, *inputs: str, widths: Sequence[int], **attributes: Any) -> list[str]:
        """One node with an output for each of `widths`."""
        index = len(self._nodes)
        outputs = [f"{operator}_{index}_{i}" for i in range(len(widths))]
        self._nodes.append(helper.make_node(operator, list(inputs), outputs, f"{operator}_{index}", **attributes))
        self.width.update(zip(outputs, widths, strict=True))
        return outputs

    def conv(
        self, x: str, outputs: int, kernel: int = 3, *, stride: int = 1, groups: int = 1, dilation: int = 1, gain: float = 2.0
    ) -> str:
        """A convolution with bias that keeps the size of the image, apart from the stride."""
        inputs = self.width[x] // groups
        weights = self.weights([outputs, inputs, kernel, kernel], inputs * kernel * kernel, gain)
        pad = dilation * (kernel - 1) // 2
        return self.node(
            "Conv",
            x,
            weights,
            self.random([outputs], 0.1),
            width=outputs,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            dilations=[dilation] * 2,
            pads=[pad] * 4,
            group=groups,
        )

    def depthwise(self, x: str, kernel: int = 3, stride: int = 1) -> str:
        """A convolution of each channel by itself."""
        return self.conv(x, self.width[x], kernel, stride=stride, groups=self.width[x])

    def batch_norm(self, x: str) -> str:
        """Normalization with constant statistics."""
        n = [self.width[x]]
        variance = self.constant(self._random.uniform(0.5, 1.5, n))
        scale, bias, mean = self.random(n, 0.1, 1.0), self.random(n, 0.1), self.random(n, 0.1)
        return self.node("BatchNormalization", x, scale, bias, mean, variance, epsilon=1e-5)

    def linear(self, x: str, outputs: int, gain: float = 1.0) -> str:
        """A product with a matrix over the last axis, and a bias: as PyTorch's exporter writes it for more than two axes."""
        weights = self.weights([self.width[x], outputs], self.width[x], gain)
        product = self.node("MatMul", x, weights, width=outputs)
        return self.node("Add", self.random([outputs], 0.02), product, width=outputs)

    def dense(self, x: str, outputs: int) -> str:
        """A product of [batch, features] with a matrix, and a bias: as PyTorch's exporter writes it for two axes."""
        weights = self.weights([outputs, self.width[x]], self.width[x], 1.0)
        return self.node("Gemm", x, weights, self.random([outputs], 0.02), width=outputs, transB=1)

    def layer_norm(self, x: str) -> str:
        """Normalization of rows, as one operator."""
        n = [self.width[x]]
        return self.node("LayerNormalization", x, self.random(n, 0.1, 1.0), self.random(n, 0.1), axis=-1, epsilon=1e-5)

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.node("Relu", x)

    def silu(self, x: str) -> str:
        """x · sigmoid(x), as exporters spell it."""
        return self.node("Mul", x, self.node("Sigmoid", x))

    def gelu(self, x: str) -> str:
        """x · Φ(x), as exporters spell it."""
        erf = self.node("Erf", self.node("Div", x, self.constant(2**0.5)))
        product = self.node("Mul", x, self.node("Add", erf, self.constant(1.0)))
        return self.node("Mul", product, self.constant(0.5))

    def add(self, a: str, b: str) -> str:
        """a + b."""
        return self.node("Add", a, b)

    def concat(self, values: Sequence[str], axis: int = 1) -> str:
        """The values one behind the other."""
        return self.node("Concat", *values, width=sum(self.width[value] for value in values), axis=axis)

    def split(self, x: str, widths: Sequence[int], axis: int = 1) -> list[str]:
        """Parts of these widths."""
        return self.nodes("Split", x, self.constant(widths, np.int64), widths=widths, axis=axis)

    def max_pool(self, x: str, kernel: int, stride: int) -> str:
        """The largest of every window; as large as the image for a stride of 1."""
        pad = (kernel - 1) // 2
        return self.node("MaxPool", x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def average(self, x: str) -> str:
        """The mean of every channel, as an image of one pixel."""
        return self.node("GlobalAveragePool", x)

    def classifier(self, x: str, classes: int) -> str:
        """One row of logits out of an image."""
        return self.dense(self.node("Flatten", self.average(x), axis=1), classes)

    def upsample(self, x: str, mode: str, factor: float = 2.0) -> str:
        """Resizes an image."""
        scales = self.constant([1.0, 1.0, factor, factor])
        if mode == "nearest":
            rule: dict[str, Any] = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        else:
            rule = {"coordinate_transformation_mode": "half_pixel"}
        return self.node("Resize", x, "", scales, mode=mode, **rule)

    def reshape(self, x: str, shape: Sequence[int], width: int | None = None) -> str:
        """The same elements in another shape; 0 keeps a dimension, -1 is what is left."""
        return self.node("Reshape", x, self.constant(shape, np.int64), width=width)

    def transpose(self, x: str, axes: Sequence[int], width: int | None = None) -> str:
        """The axes in another order."""
        return self.node("Transpose", x, width=width, perm=list(axes))

    def model(self) -> onnx.ModelProto:
        """The network."""
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._constants)
        opset = helper.make_opsetid("", self._opset)
        model = helper.make_model(graph, opset_imports=[opset], producer_name="optimium-benches", ir_version=8)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        del model.graph.value_info[:]
        onnx.checker.check_model(model)
        return model

    def save(self, path: Path) -> None:
        """Writes the network to a file."""
        onnx.save(self.model(), str(path))

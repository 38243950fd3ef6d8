"""Trains the small network of this example on scikit-learn's handwritten digits and writes it as ONNX.

The network is a convolutional one of 6,000 weights, trained with plain NumPy: two 3x3 convolutions with ReLU and 2x2
max pooling, and a linear layer. The file `digits.onnx` beside this script is its output; it is made anew by

    python examples/digits/train.py

which needs numpy, scikit-learn and onnx, and takes about a minute.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent
EPOCHS = 30
BATCH = 32
LEARNING_RATE = 2e-3


def windows(x: np.ndarray) -> np.ndarray:
    """The 3x3 neighbourhoods of an NCHW batch with zeros around it: `[n, h, w, c * 9]`."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return view.transpose(0, 2, 3, 1, 4, 5).reshape(*x.shape[:1], *x.shape[2:], -1)


def fold(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The sum of what `windows` spread: its gradient."""
    n, c, h, w = shape
    taps = gradient.reshape(n, h, w, c, 3, 3)
    padded = np.zeros((n, c, h + 2, w + 2), gradient.dtype)
    for i in range(3):
        for j in range(3):
            padded[:, :, i : i + h, j : j + w] += taps[..., i, j].transpose(0, 3, 1, 2)
    return padded[:, :, 1:-1, 1:-1]


def pool(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2x2 maxima of an NCHW batch, and where they were."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
    return blocks.max(-1), blocks.argmax(-1)


def unpool(gradient: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The gradient of `pool`."""
    n, c, h, w = gradient.shape
    blocks = np.zeros((n, c, h, w, 4), gradient.dtype)
    np.put_along_axis(blocks, where[..., None], gradient[..., None], -1)
    return blocks.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h * 2, w * 2)


class Network:
    """Weights as ONNX wants them, a forward pass, and its gradient."""

    def __init__(self, random: np.random.Generator) -> None:
        def he(*shape: int) -> np.ndarray:
            return (random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)

        self.weights = {
            "conv1.weight": he(16, 1, 3, 3),
            "conv1.bias": np.zeros(16, np.float32),
            "conv2.weight": he(32, 16, 3, 3),
            "conv2.bias": np.zeros(32, np.float32),
            "linear.weight": he(10, 128),
            "linear.bias": np.zeros(10, np.float32),
        }

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, list]:
        w, kept = self.weights, []
        for layer in ("conv1", "conv2"):
            neighbours = windows(x)
            kernel = w[f"{layer}.weight"]
            y = neighbours @ kernel.reshape(len(kernel), -1).T + w[f"{layer}.bias"]
            y = np.maximum(y, 0).transpose(0, 3, 1, 2)
            pooled, where = pool(y)
            kept.append((x.shape, neighbours, y, where))
            x = pooled
        flat = x.reshape(len(x), -1)
        return flat @ w["linear.weight"].T + w["linear.bias"], [*kept, (x.shape, flat)]

    def gradient(self, logits: np.ndarray, kept: list, labels: np.ndarray) -> dict[str, np.ndarray]:
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        probabilities[np.arange(len(labels)), labels] -= 1
        error = probabilities / len(labels)
        shape, flat = kept[-1]
        gradients = {"linear.weight": error.T @ flat, "linear.bias": error.sum(0)}
        error = (error @ self.weights["linear.weight"]).reshape(shape)
        for layer, (shape, neighbours, y, where) in zip(("conv2", "conv1"), kept[-2::-1]):
            error = (unpool(error, where) * (y > 0)).transpose(0, 2, 3, 1)
            kernel = self.weights[f"{layer}.weight"]
            rows = error.reshape(-1, len(kernel))
            gradients[f"{layer}.weight"] = (rows.T @ neighbours.reshape(len(rows), -1)).reshape(kernel.shape)
            gradients[f"{layer}.bias"] = rows.sum(0)
            error = fold(error @ kernel.reshape(len(kernel), -1), shape)
        return gradients


def train(images: np.ndarray, labels: np.ndarray) -> Network:
    """Adam on shuffled batches."""
    random = np.random.default_rng(0)
    network = Network(random)
    mean = {name: np.zeros_like(w) for name, w in network.weights.items()}
    square = {name: np.zeros_like(w) for name, w in network.weights.items()}
    step = 0
    for epoch in range(EPOCHS):
        order = random.permutation(len(images))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            logits, kept = network.forward(images[batch])
            step += 1
            for name, g in network.gradient(logits, kept, labels[batch]).items():
                mean[name] = 0.9 * mean[name] + 0.1 * g
                square[name] = 0.999 * square[name] + 0.001 * g * g
                rate = LEARNING_RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                network.weights[name] -= (rate * mean[name] / (np.sqrt(square[name]) + 1e-8)).astype(np.float32)
        accuracy = (network.forward(images)[0].argmax(1) == labels).mean()
        print(f"epoch {epoch + 1:2d}: {accuracy:.4f} of the training images")
    return network


def export(network: Network, path: Path) -> None:
    """Writes the network as ONNX, with a symbolic batch."""
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    halve = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["image", "conv1.weight", "conv1.bias"], ["conv1"], name="conv1", **conv),
        helper.make_node("Relu", ["conv1"], ["relu1"], name="relu1"),
        helper.make_node("MaxPool", ["relu1"], ["pool1"], name="pool1", **halve),
        helper.make_node("Conv", ["pool1", "conv2.weight", "conv2.bias"], ["conv2"], name="conv2", **conv),
        helper.make_node("Relu", ["conv2"], ["relu2"], name="relu2"),
        helper.make_node("MaxPool", ["relu2"], ["pool2"], name="pool2", **halve),
        helper.make_node("Flatten", ["pool2"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "linear.weight", "linear.bias"], ["logits"], name="linear", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(w, name) for name, w in network.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def main() -> None:
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    network = train(train_images, train_labels)
    accuracy = (network.forward(test_images)[0].argmax(1) == test_labels).mean()
    print(f"{accuracy:.4f} of the test images")
    export(network, HERE / "digits.onnx")


if __name__ == "__main__":
    main()

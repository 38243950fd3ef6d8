"""Classifies scikit-learn's handwritten digits with the runtime: convert, load, inspect, infer.

    python examples/digits/classify.py

needs numpy and scikit-learn beside the runtime.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import optimium.runtime as rt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent


def main() -> float:
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    _, images, _, labels = train_test_split(
        images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "digits"
        rt.convert(HERE / "digits.onnx", folder)
        model = rt.load_model(folder, threads=1)

        print(f"model {model.name!r}, converted and loaded from a folder")
        for name in (*model.input_names, *model.output_names):
            info = model.get_tensor(name)
            print(f"  {info.name}: {info.type} {info.shape}")

        request = model.create_request()
        logits = np.zeros((len(images), 10), np.float32)
        request.infer([images], [logits])
        request.wait()
        accuracy = float((logits.argmax(1) == labels).mean())
        print(f"{len(images)} test images in one batch: {accuracy:.2%} right")

        one = np.zeros((1, 10), np.float32)
        start = time.perf_counter()
        for image in images:
            request.infer([image[None]], [one])
            request.wait()
        each = (time.perf_counter() - start) / len(images)
        print(f"one image at a time: {each * 1e6:.1f} µs each")
    return accuracy


if __name__ == "__main__":
    main()

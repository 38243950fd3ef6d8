from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import optimium.runtime as rt

MODELS = Path(__file__).parent / "models"


def path_of(name: str) -> Path:
    return MODELS / f"{name}.onnx"


def reseal(folder: Path) -> None:
    """Makes the manifest of a model folder agree with the files."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for file in manifest["files"]:
        content = (folder / file["name"]).read_bytes()
        file["size"], file["sha256"] = len(content), hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def affine() -> rt.Model:
    """output_0 = relu(2 * input_0 + input_1), all 32 x 32."""
    return rt.load_model(path_of("affine"), threads=1)


@pytest.fixture
def pair() -> rt.Model:
    """sum = a + b and difference = a - b, all n x 4."""
    return rt.load_model(path_of("pair"), threads=1)


@pytest.fixture
def affine_arrays() -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Inputs, outputs, and what the outputs should become."""
    random = np.random.default_rng(0)
    inputs = [random.standard_normal((32, 32)).astype(np.float32) for _ in range(2)]
    return inputs, [np.full((32, 32), np.nan, np.float32)], np.maximum(2 * inputs[0] + inputs[1], 0)

"""Values for a model's inputs: the same for every engine, and for every run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .engines import Arrays

SIZES = {
    "minilm_l6": {"batch": 1, "seq": 128},
    "minilm_l6_dynq": {"batch": 1, "seq": 128},
    "llama_tiny": {"s": 1, "p": 128, "t": 129},
    "gru": {"n": 1, "s": 32},
    "unet": {"n": 1, "h": 256, "w": 256},
}
"""Symbols of models whose names are known, where the command line does not give them."""


def parse_sizes(entries: list[str]) -> dict[str, int]:
    """Dynamic dimensions from `NAME=VALUE` entries of the command line."""
    return {name: int(value) for name, _, value in (entry.partition("=") for entry in entries)}


def model_inputs(path: Path, sizes: dict[str, int]) -> Arrays:
    """Inputs for the model in `path`: normal floats, zeros and ones for integers, a mask of ones.

    Dynamic dimensions are those of `sizes` by their symbol's name, of `SIZES` by the model's name, else 1.
    """
    import optimium.runtime as rt

    known = {**SIZES.get(path.stem, {}), **sizes}
    model, random = rt.load_model(path, threads=1), np.random.default_rng(0)
    inputs = {}
    for name in model.input_names:
        info = model.get_tensor(name)
        shape = [dim if isinstance(dim, int) else known.get(str(dim), 1) for dim in info.shape]
        dtype = info.type.to_dtype()
        values: np.ndarray
        if np.issubdtype(dtype, np.floating):
            values = random.standard_normal(shape)
        elif "mask" in name:
            values = np.ones(shape)
        else:
            values = random.integers(0, 2, shape)
        inputs[name] = np.asarray(values, dtype, order="C")
    return inputs

"""Tensors to try a model with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._arrays import tensor
from ._native import Model, Tensor
from ._types import ElementType, TensorInfo

#: Random integers are small, so that they serve as indices too.
_LARGEST_RANDOM_INTEGER = 1

Arrays = dict[str, np.ndarray[Any, Any]]


def random_inputs(
    model: Model, dims: Mapping[str, int] | None = None, seed: int = 0, given: Arrays | None = None
) -> Arrays:
    """The inputs of a model: those that are given, else random. Symbolic dimensions have the sizes in `dims`, or 1."""
    dims, given = dims or {}, given or {}
    unknown = sorted(set(given) - set(model.input_names))
    if unknown:
        raise ValueError(f"the model has no inputs {unknown}; it has {model.input_names}")
    shapes = [model.get_tensor(name).shape for name in model.input_names]
    symbols = sorted({str(dim) for shape in shapes for dim in shape if not isinstance(dim, int)})
    if not dims.keys() <= set(symbols):
        surplus = sorted(dims.keys() - set(symbols))
        raise ValueError(f"the inputs have no dimensions {surplus}; they have {symbols or 'none'}")
    random = np.random.default_rng(seed)
    return {
        name: given[name] if name in given else _random(model.get_tensor(name), dims, random)
        for name in model.input_names
    }


def empty_outputs(model: Model, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors for the outputs that those inputs give, but for those whose sizes data decide."""
    given = {name: array.shape for name, array in inputs.items()}
    shapes = {name: model.infer_shape(name, given) for name in model.output_names}
    return {
        name: tensor(shape=shape, dtype=model.get_tensor(name).type)
        for name, shape in shapes.items()
        if not shape.dynamic
    }


def _random(info: TensorInfo, dims: Mapping[str, int], random: np.random.Generator) -> np.ndarray[Any, Any]:
    shape = tuple(dim if isinstance(dim, int) else dims.get(str(dim), 1) for dim in info.shape)
    dtype = info.type.to_dtype()
    if info.type is ElementType.STRING:
        raise ValueError(f"the input {info.name} of strings cannot be random; give one")
    if dtype.kind in "iub" and info.type is not ElementType.BF16:
        return random.integers(0, _LARGEST_RANDOM_INTEGER, shape, endpoint=True).astype(dtype)
    return random.standard_normal(shape).astype(dtype)

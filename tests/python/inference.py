"""One inference, from arrays to arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import optimium.runtime as rt


def infer(model: rt.Model, inputs: Mapping[str, np.ndarray | rt.Tensor]) -> dict[str, np.ndarray]:
    """The outputs by name, in memory of their own."""
    shapes = {name: rt.TensorShape(*array.shape) for name, array in inputs.items()}
    outputs = {
        name: rt.tensor(shape=model.infer_shape(name, shapes), dtype=model.get_tensor(name).type)
        for name in model.output_names
    }
    request = model.create_request()
    request.infer(inputs, outputs)
    request.wait()
    return {name: tensor.to_numpy() for name, tensor in outputs.items()}

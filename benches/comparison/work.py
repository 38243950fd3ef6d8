"""Multiply-adds of a model, as the runtime counts them, and what this machine can do of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from optimium.runtime._inputs import empty_outputs

from .engines import Arrays


@dataclass(frozen=True)
class Work:
    """Operations of one inference; a multiply-add is two."""

    floats: float
    """In floating point."""
    integers: float
    """In 8-bit integers."""
    quantized: bool
    """Whether the model holds quantized operators."""

    def limit(self, machine: dict[str, float], threads: int) -> float:
        """Milliseconds that the multiply-adds alone take on this machine."""
        return (self.floats / machine["f32"] + self.integers / machine["int8"]) / threads * 1e3


def probe() -> dict[str, float]:
    """What one core of this machine reaches now: operations and bytes in a second."""
    from optimium.runtime import _native

    return _native.probe_machine()


def count(path: Path, inputs: Arrays) -> Work:
    """The work of the model in `path` on inputs of these shapes, whatever algorithm does it."""
    import optimium.runtime as rt

    model = rt.load_model(path, threads=1)
    tensors = {name: rt.tensor(array) for name, array in inputs.items()}
    request = model.create_request()
    request.infer(tensors, empty_outputs(model, tensors))
    request.wait()
    floats = integers = 0.0
    quantized = False
    for operation, work in zip(model.operations, request.get_run_details().operations, strict=True):
        operations = 2.0 * work.multiply_adds
        quantized |= work.in_integers or "Quantize" in operation.operator
        integers += operations * work.in_integers
        floats += operations * (not work.in_integers)
    return Work(floats, integers, quantized)

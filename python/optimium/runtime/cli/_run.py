"""Inputs from files or chance, inferences and their times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import optimium.runtime as rt
from optimium.runtime._inputs import Arrays, empty_outputs, random_inputs


#: No dimension of a tensor is larger.
_LARGEST_SIZE = 2**63 - 1


def sizes(options: Sequence[str]) -> dict[str, int]:
    """The sizes in options of the form SYMBOL=SIZE."""
    named: dict[str, int] = {}
    for option in options:
        name, _, size = option.rpartition("=")
        if not name or not (size.isascii() and size.removeprefix("-").isdecimal()):
            raise ValueError(f"{option!r} is no size: it looks like batch=4")
        if name in named:
            raise ValueError(f"the size of {name} is given twice")
        # Longer numbers than that may not even be converted.
        if size.startswith("-") or len(size) > len(str(_LARGEST_SIZE)) or int(size) > _LARGEST_SIZE:
            raise ValueError(f"{name} cannot be {size}: sizes are numbers from 0 to {_LARGEST_SIZE}")
        named[name] = int(size)
    return named


def inputs(model: rt.Model, files: Sequence[str], dims: Mapping[str, int], seed: int) -> Arrays:
    """The inputs of a model: from files where they are given, else random."""
    return random_inputs(model, dims, seed, _read(model, files))


def _read(model: rt.Model, files: Sequence[str]) -> Arrays:
    arrays: Arrays = {}
    for file in files:
        name, separator, path = file.rpartition("=")
        if path.endswith(".npz"):
            with np.load(path) as archive:
                arrays.update(archive)
        elif separator:
            arrays[name] = np.load(path)
        elif len(model.input_names) == 1:
            arrays[model.input_names[0]] = np.load(path)
        else:
            raise ValueError(f"say which input {file} is for: NAME={file}, with a name of {model.input_names}")
    return arrays


def run(
    model: rt.Model, arrays: Arrays, warmup: int, repeat: int, advance: Callable[[], None]
) -> tuple[Arrays, list[float]]:
    """The outputs of an inference, and the times of `repeat` of them in seconds."""
    tensors = {name: rt.tensor(array) for name, array in arrays.items()}
    outputs = empty_outputs(model, tensors)
    request = model.create_request()
    times = []
    for round_number in range(warmup + repeat):
        start = time.perf_counter()
        request.infer(tensors, outputs)
        request.wait()
        if round_number >= warmup:
            times.append(time.perf_counter() - start)
        advance()
    results = {name: outputs[name] if name in outputs else request.get_tensor(name) for name in model.output_names}
    return {name: tensor.to_numpy() for name, tensor in results.items()}, times


def check_output(path: Path | None) -> None:
    """Refuses other files than .npz for the outputs."""
    if path is not None and path.suffix != ".npz":
        raise ValueError(f"outputs are written to an .npz file, not {path.name}")


def save(results: Arrays, path: Path) -> None:
    """Writes the outputs to an .npz file."""
    # Names of tensors may hold what names of files may not; NumPy takes care of that.
    np.savez(path, allow_pickle=False, **results)


def report(results: Arrays, times: Sequence[float]) -> dict[str, Any]:
    """The outputs' shapes and the statistics of the times in milliseconds."""
    milliseconds = np.array(times) * 1e3
    return {
        "outputs": {name: {"type": str(array.dtype), "shape": list(array.shape)} for name, array in results.items()},
        "milliseconds": {
            "count": len(times),
            "min": float(milliseconds.min()),
            "median": float(np.median(milliseconds)),
            "mean": float(milliseconds.mean()),
            "max": float(milliseconds.max()),
        },
    }


def text(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"{name}: {info['type']} {info['shape']}" for name, info in report["outputs"].items()]
    times = report["milliseconds"]
    lines.append(
        f"{times['count']} inferences: min {times['min']:.3f} ms, median {times['median']:.3f} ms, "
        f"mean {times['mean']:.3f} ms, max {times['max']:.3f} ms"
    )
    return "\n".join(lines)

"""Inputs from files or chance, inferences and their times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import optimium.runtime as rt

#: Random integers are small, so that they serve as indices too.
_LARGEST_RANDOM_INTEGER = 1

Arrays = dict[str, np.ndarray[Any, Any]]


def sizes(options: Sequence[str]) -> dict[str, int]:
    """The sizes in options of the form SYMBOL=SIZE."""
    named = dict(option.split("=", 1) for option in options if "=" in option)
    if len(named) != len(options) or not all(size.isdecimal() for size in named.values()):
        raise ValueError("a --dim looks like batch=4")
    return {name: int(size) for name, size in named.items()}


def inputs(model: rt.Model, files: Sequence[str], dims: Mapping[str, int], seed: int) -> Arrays:
    """The inputs of a model: from files where they are given, else random."""
    given = _read(model, files)
    random = np.random.default_rng(seed)
    unknown = sorted(set(given) - set(model.input_names))
    if unknown:
        raise ValueError(f"the model has no inputs {unknown}; it has {model.input_names}")
    shapes = [model.get_tensor(name).shape for name in model.input_names]
    symbols = sorted({str(dim) for shape in shapes for dim in shape if not isinstance(dim, int)})
    if not dims.keys() <= set(symbols):
        surplus = sorted(dims.keys() - set(symbols))
        raise ValueError(f"the inputs have no dimensions {surplus}; they have {symbols}")
    return {
        name: given[name] if name in given else _random(model.get_tensor(name), dims, random)
        for name in model.input_names
    }


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


def _random(
    info: rt.TensorInfo, dims: Mapping[str, int], random: np.random.Generator
) -> np.ndarray[Any, Any]:
    shape = tuple(dim if isinstance(dim, int) else dims.get(str(dim), 1) for dim in info.shape)
    dtype = info.type.to_dtype()
    if info.type is rt.ElementType.STRING:
        raise ValueError(f"the input {info.name} of strings cannot be random; give a file")
    if dtype.kind in "iub" and info.type is not rt.ElementType.BF16:
        return random.integers(0, _LARGEST_RANDOM_INTEGER, shape, endpoint=True).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


def run(
    model: rt.Model, arrays: Arrays, warmup: int, repeat: int, advance: Callable[[], None]
) -> tuple[Arrays, list[float]]:
    """The outputs of an inference, and the times of `repeat` of them in seconds."""
    tensors = {name: rt.tensor(array) for name, array in arrays.items()}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    outputs = {}
    for name in model.output_names:
        shape = model.infer_shape(name, shapes)
        outputs[name] = rt.tensor(shape=shape, dtype=model.get_tensor(name).type)
    request = model.create_request()
    times = []
    for round_number in range(warmup + repeat):
        start = time.perf_counter()
        request.infer(tensors, outputs)
        request.wait()
        if round_number >= warmup:
            times.append(time.perf_counter() - start)
        advance()
    return {name: tensor.to_numpy() for name, tensor in outputs.items()}, times


def save(results: Arrays, path: Path) -> None:
    """Writes the outputs to an .npz file."""
    if path.suffix != ".npz":
        raise ValueError(f"outputs are written to an .npz file, not {path.name}")
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

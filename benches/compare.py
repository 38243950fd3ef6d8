"""This runtime and the engines that could be used instead, on the same model, input and number of threads.

    python benches/compare.py MODEL.onnx MODEL.tflite … [--threads 1 2] [--rounds 5] [--json FILE]

Engines alternate in blocks of 0.1 s with a pause between, because their worker threads spin for a while after a call; the first
call of a block is not measured. Times are milliseconds for one inference, minimum and median over all blocks. Outputs are compared
with the first rival's. Engines that are not installed are left out: onnxruntime for ONNX models, ai-edge-litert for TFLite.
Dynamic dimensions are given as `--size name=value`; others are 1.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optimium.runtime as rt

BLOCK = 0.1
PAUSE = 0.06

Engine = tuple[str, Callable[[], object], Callable[[], list[np.ndarray]]]
"""A name, one inference, and the outputs of the last one."""


def ours(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Engine:
    model = rt.load_model(path, threads=threads)
    shapes = {name: rt.TensorShape(*array.shape) for name, array in inputs.items()}
    outputs = {
        name: np.empty([int(n) for n in model.infer_shape(name, shapes)], model.get_tensor(name).type.to_dtype())
        for name in model.output_names
    }
    request = model.create_request()

    def run() -> None:
        request.infer(inputs, outputs)
        request.wait()

    return "optimium", run, lambda: list(outputs.values())


def onnxruntime(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Engine | None:
    try:
        import onnxruntime as ort
    except ImportError:
        return None
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return "onnxruntime", lambda: session.run(None, inputs), lambda: session.run(None, inputs)


def litert(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Engine | None:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], inputs[detail["name"]])
    details = interpreter.get_output_details()
    return "litert", interpreter.invoke, lambda: [interpreter.get_tensor(d["index"]).copy() for d in details]


def random_inputs(path: Path, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Normal floats and small integers, the same for the same model."""
    model, random = rt.load_model(path, threads=1), np.random.default_rng(0)
    inputs = {}
    for name in model.input_names:
        info = model.get_tensor(name)
        shape = [dim if isinstance(dim, int) else sizes.get(str(dim), 1) for dim in info.shape]
        dtype = info.type.to_dtype()
        values = random.standard_normal(shape) if np.issubdtype(dtype, np.floating) else random.integers(0, 2, shape)
        inputs[name] = np.ascontiguousarray(values, dtype)
    return inputs


def block(run: Callable[[], object]) -> list[float]:
    """Seconds of each inference of one block."""
    run()
    times, end = [], time.perf_counter() + BLOCK
    while time.perf_counter() < end or not times:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    time.sleep(PAUSE)
    return times


def compare(path: Path, threads: int, rounds: int, sizes: dict[str, int]) -> dict:
    """The times of every engine, and how far its outputs are from the first rival's."""
    inputs = random_inputs(path, sizes)
    rivals = [onnxruntime] if path.suffix == ".onnx" else [litert] if path.suffix == ".tflite" else []
    engines = [ours(path, threads, inputs), *(e for make in rivals if (e := make(path, threads, inputs)))]
    times: dict[str, list[float]] = {name: [] for name, _, _ in engines}
    for _ in range(rounds):
        for name, run, _ in engines:
            times[name] += block(run)
    results = {name: outputs() for name, _, outputs in engines}
    row = {"model": path.stem, "threads": threads, "engines": {}}
    for name, values in times.items():
        row["engines"][name] = {"min": min(values) * 1e3, "median": statistics.median(values) * 1e3}
    if len(engines) > 1:
        theirs = results[engines[1][0]]
        difference = sum(float(np.sum((a.astype(float) - b) ** 2)) for a, b in zip(results["optimium"], theirs))
        row["distance"] = (difference / max(sum(float(np.sum(b.astype(float) ** 2)) for b in theirs), 1e-30)) ** 0.5
        best = min(e["min"] for name, e in row["engines"].items() if name != "optimium")
        row["ratio"] = best / row["engines"]["optimium"]["min"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sizes = {name: int(value) for name, value in (entry.split("=") for entry in options.size)}
    rows = []
    for path in options.models:
        for threads in options.threads:
            row = compare(path, threads, options.rounds, sizes)
            rows.append(row)
            cells = "  ".join(f"{n} {e['min']:.3f} / {e['median']:.3f}" for n, e in row["engines"].items())
            tail = f"  x{row['ratio']:.2f}, apart {row['distance']:.1e}" if "ratio" in row else ""
            print(f"{row['model']:32} {threads} threads  {cells}{tail}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

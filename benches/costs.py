"""What an engine costs besides its inferences: import, open to first result, memory, a call, installed size.

    python benches/costs.py MODEL.onnx … [--repeats 5]

Each figure but the call is the best of several fresh processes with one thread. *Import* is beyond NumPy's. *Start* is the time from
opening the model to the first result, less one warm inference. *Memory* is what the resident set grew by from before the opening
to after the first result, with mapped pages of files. This runtime is measured from the file and from the folder that `convert` makes of it.
A *call* is one inference of a model of one small operator, from NumPy arrays to NumPy arrays; the engines take turns.
Engines that are not installed are left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from comparison.engines import ENGINES, OURS, Settings, Unavailable, open_engines
from comparison.inputs import model_inputs, parse_sizes
from rich.console import Console
from rich.table import Table

MODULES = {
    OURS: "optimium.runtime",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai_edge_litert.interpreter",
}
SETTINGS = Settings(threads=1, precision="f32")
CALLS = 5000
WARM = 5


def resident_bytes() -> int:
    """The resident set of this process, in bytes."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def start(name: str, path: Path, inputs_file: Path) -> dict[str, float]:
    """What a fresh process pays: milliseconds and bytes."""
    inputs = dict(np.load(inputs_file))
    clock = time.perf_counter
    begin = clock()
    __import__(MODULES[name])
    imported = clock()
    before = resident_bytes()
    opening = clock()
    engine = ENGINES[name][1](path, SETTINGS, inputs)
    engine.run()
    first = clock() - opening
    memory = resident_bytes() - before
    warm = []
    for _ in range(WARM):
        begin_run = clock()
        engine.run()
        warm.append(clock() - begin_run)
    return {"import": (imported - begin) * 1e3, "start": (first - min(warm)) * 1e3, "memory": float(memory)}


def best_start(name: str, path: Path, inputs_file: Path, repeats: int) -> dict[str, float] | None:
    """The least of each figure over fresh processes, or none where the engine cannot do it."""
    command = [sys.executable, __file__, "--start", name, str(path), str(inputs_file)]
    found = []
    for _ in range(repeats):
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            return None
        found.append(json.loads(result.stdout.splitlines()[-1]))
    return {key: min(one[key] for one in found) for key in found[0]}


def call_microseconds(folder: Path) -> dict[str, float]:
    """Microseconds of one call on a model of one operator, by engine."""
    from onnx import TensorProto, helper, save

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "one", value[:1], value[1:])
    path = folder / "one.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    engines, _ = open_engines(list(ENGINES), path, SETTINGS, {"x": np.ones((1, 16), np.float32)})
    best: dict[str, float] = {}
    for _ in range(5):
        for name, engine in engines.items():
            engine.run()
            begin = time.perf_counter()
            for _ in range(CALLS):
                engine.run()
            best[name] = min(best.get(name, np.inf), (time.perf_counter() - begin) / CALLS * 1e6)
            time.sleep(0.06)
    return best


def installed_megabytes(name: str) -> float:
    """The size of the engine's own files, without what it depends on."""
    files = importlib.metadata.files(ENGINES[name][0]) or []
    return sum(Path(str(file.locate())).stat().st_size for file in files if Path(str(file.locate())).is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", help=".onnx files")
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes for each figure")
    parser.add_argument("--size", action="append", default=[], metavar="NAME=VALUE", help="a dynamic dimension; others are 1")
    parser.add_argument("--start", nargs=3, metavar=("ENGINE", "MODEL", "INPUTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        name, path, inputs_file = options.start
        try:
            print(json.dumps(start(name, Path(path), Path(inputs_file))))
        except (ImportError, Unavailable) as reason:
            sys.exit(str(reason))
        return
    import optimium.runtime as rt

    sizes = parse_sizes(options.size)
    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        table = Table("model", "engine", "import, ms", "start, ms", "memory, MB", title="fresh processes")
        for path in options.models:
            inputs_file = folder / "inputs.npz"
            np.savez(inputs_file, allow_pickle=False, **model_inputs(path, sizes))
            stored = folder / path.stem
            rt.convert(path, stored)
            for label, name, source in [(f"{OURS}, folder", OURS, stored), *((name, name, path) for name in ENGINES)]:
                if found := best_start(name, source, inputs_file, options.repeats):
                    figures = (found["import"], found["start"], found["memory"] / 1e6)
                    table.add_row(path.stem, label, *(f"{figure:.1f}" for figure in figures))
        calls = call_microseconds(folder)
    if options.models:
        console.print(table)
    table = Table("engine", "a call, µs", "installed, MB")
    for name, microseconds in calls.items():
        table.add_row(name, f"{microseconds:.2f}", f"{installed_megabytes(name):.1f}")
    console.print(table)


if __name__ == "__main__":
    main()

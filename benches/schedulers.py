"""The three schedulers under load: throughput, latency, and the memory of requests that wait.

    python benches/schedulers.py [MODEL] [--seconds 1] [--rounds 3] [--json FILE]

Without a model, a network of ten equal layers is made. Callers are threads, each with a request of its own: it begins an
inference, waits for it, and begins the next one. Their number is the number of inferences in flight. *Latency* is the time from
`infer` to the end of `wait`. The configurations take turns; throughput is that of the best round, latencies are those of all
rounds. A measurement during which other processes used the cores is repeated, a few times at most.

*Memory* is what the resident set of a fresh process grows by while so many requests are begun at once and end, beyond the
tensors of the callers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import optimium.runtime as rt

IN_FLIGHT = [1, 2, 4, 8]
WAITING = [1, 16, 64, 256]
LAYERS, ROWS, WIDTH = 10, 64, 512
#: Cores that others may use during a measurement, and how often it is tried.
QUIET, ATTEMPTS = 0.1, 5


@dataclass(frozen=True)
class Setup:
    """A way to load the model."""

    scheduler: str
    threads: int

    @property
    def name(self) -> str:
        return f"{self.scheduler}, {self.threads} thread{'s' * (self.threads > 1)}"

    def load(self, path: Path) -> rt.Model:
        return rt.load_model(path, threads=self.threads, scheduler_type=rt.SchedulerType[self.scheduler])


SETUPS = [
    Setup("SIMPLE", 1),
    Setup("SIMPLE", 2),
    Setup("EXCLUSIVE", 1),
    Setup("EXCLUSIVE", 2),
    Setup("PIPELINE", 2),
]


@dataclass
class Load:
    """What a setup did with so many inferences in flight."""

    scheduler: str
    threads: int
    in_flight: int
    throughput: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def add(self, throughput: float, latencies: list[float]) -> None:
        self.throughput = max(self.throughput, throughput)
        self.latencies += latencies

    def summary(self) -> dict[str, float | int | str]:
        median, slow = np.percentile(self.latencies, [50, 99])
        return {
            "scheduler": self.scheduler,
            "threads": self.threads,
            "in_flight": self.in_flight,
            "throughput_per_second": round(self.throughput, 1),
            "latency_median_us": round(float(median) * 1e6, 1),
            "latency_p99_us": round(float(slow) * 1e6, 1),
        }


class Caller(threading.Thread):
    """A thread that begins an inference, waits for it, and begins the next one."""

    def __init__(self, model: rt.Model, start_line: threading.Barrier, seconds: float) -> None:
        super().__init__()
        self.request = model.create_request()
        self.inputs, self.outputs = tensors(model)
        self.start_line, self.seconds = start_line, seconds
        self.latencies: list[float] = []

    def run(self) -> None:
        self.once()
        self.start_line.wait()
        end = time.perf_counter() + self.seconds
        while (begun := time.perf_counter()) < end:
            self.once()
            self.latencies.append(time.perf_counter() - begun)

    def once(self) -> None:
        self.request.infer(self.inputs, self.outputs)
        self.request.wait()


def tensors(model: rt.Model) -> tuple[list[rt.Tensor], list[rt.Tensor]]:
    """Inputs and outputs for one request; dynamic dimensions are 1."""

    def fixed(shape: rt.TensorShape) -> tuple[int, ...]:
        return tuple(dim if isinstance(dim, int) else 1 for dim in (shape[axis] for axis in range(shape.rank)))

    def zeros(name: str, shape: tuple[int, ...]) -> rt.Tensor:
        return rt.tensor(0, shape=shape, dtype=model.get_tensor(name).type)

    shapes = {name: fixed(model.get_tensor(name).shape) for name in model.input_names}
    given = {name: rt.TensorShape(*shape) for name, shape in shapes.items()}
    outputs = [zeros(name, fixed(model.infer_shape(name, given))) for name in model.output_names]
    return [zeros(name, shape) for name, shape in shapes.items()], outputs


def measure(model: rt.Model, in_flight: int, seconds: float) -> tuple[float, list[float]]:
    """Inferences a second, and how long each took."""
    start_line = threading.Barrier(in_flight + 1)
    callers = [Caller(model, start_line, seconds) for _ in range(in_flight)]
    for caller in callers:
        caller.start()
    start_line.wait()
    begun = time.perf_counter()
    for caller in callers:
        caller.join()
    elapsed = time.perf_counter() - begun
    latencies = [latency for caller in callers for latency in caller.latencies]
    return len(latencies) / elapsed, latencies


def used_cores() -> tuple[float, float]:
    """Seconds of all cores so far: those of this process, and those of the machine."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    idle = fields[3] + fields[4]
    return time.process_time(), (sum(fields[:8]) - idle) / os.sysconf("SC_CLK_TCK")


def measure_quietly(model: rt.Model, in_flight: int, seconds: float) -> tuple[float, list[float]]:
    """As `measure`, while others use little of the cores where that can be had: the quietest of a few times."""
    found = []
    for _ in range(ATTEMPTS):
        (own, all_), begun = used_cores(), time.perf_counter()
        result = measure(model, in_flight, seconds)
        own_after, all_after = used_cores()
        others = ((all_after - all_) - (own_after - own)) / (time.perf_counter() - begun)
        found.append((others, result))
        if others < QUIET:
            break
    return min(found, key=lambda one: one[0])[1]


def under_load(path: Path, seconds: float, rounds: int) -> list[Load]:
    """Every setup with every number of inferences in flight."""
    models = {setup: setup.load(path) for setup in SETUPS}
    loads = {(setup, count): Load(setup.scheduler, setup.threads, count) for setup in SETUPS for count in IN_FLIGHT}
    for _ in range(rounds):
        for (setup, count), load in loads.items():
            load.add(*measure_quietly(models[setup], count, seconds))
    return list(loads.values())


def growth(path: Path, setup: Setup, waiting: int) -> int:
    """Bytes by which this process grows while so many requests wait and end."""
    model = setup.load(path)
    requests = [(model.create_request(), *tensors(model)) for _ in range(waiting)]
    before = resident_bytes()
    for request, inputs, outputs in requests:
        request.infer(inputs, outputs)
    for request, _, _ in requests:
        request.wait()
    return resident_bytes() - before


def resident_bytes() -> int:
    """The resident set of this process, in bytes."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def memory(path: Path) -> list[dict[str, int | str]]:
    """What waiting requests take, each number in a fresh process."""
    found: list[dict[str, int | str]] = []
    for setup in (setup for setup in SETUPS if setup.threads == 1 or setup.scheduler == "PIPELINE"):
        for count in WAITING:
            command = [sys.executable, __file__, str(path), "--growth", setup.scheduler, str(setup.threads), str(count)]
            grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            found.append({**asdict(setup), "requests": count, "bytes": grown})
    return found


def write_network(path: Path) -> None:
    """Ten equal layers, each a product with a matrix and a ReLU."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    numbers = np.random.default_rng(0)
    names = ["x", *[f"layer_{index}" for index in range(1, LAYERS)], "y"]
    nodes, weights = [], []
    for index, (source, target) in enumerate(zip(names, names[1:], strict=False)):
        matrix = (numbers.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"weights_{index}"))
        nodes.append(helper.make_node("MatMul", [source, f"weights_{index}"], [f"product_{index}"]))
        nodes.append(helper.make_node("Relu", [f"product_{index}"], [target]))
    interface = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [ROWS, WIDTH]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "ten_layers", interface[:1], interface[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def show(console: Console, loads: list[Load], waiting: list[dict[str, int | str]]) -> None:
    """The results, as tables."""
    table = Table("scheduler", *[f"{count} in flight" for count in IN_FLIGHT])
    for setup in SETUPS:
        rows = [load.summary() for load in loads if (load.scheduler, load.threads) == (setup.scheduler, setup.threads)]
        cell = "{throughput_per_second:.0f}/s · {latency_median_us:.0f} · {latency_p99_us:.0f} µs"
        table.add_row(setup.name, *[cell.format(**row) for row in rows])
    console.print("inferences a second · median latency · 99th percentile", table)
    growing = Table("scheduler", *[f"{count} waiting" for count in WAITING])
    for setup in SETUPS:
        cells = [row for row in waiting if (row["scheduler"], row["threads"]) == (setup.scheduler, setup.threads)]
        if cells:
            growing.add_row(setup.name, *[f"{int(row['bytes']) / 1e6:.1f} MB" for row in cells])
    console.print("memory of requests that wait", growing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--growth", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.growth:
        scheduler, threads, waiting = options.growth
        print(growth(options.model, Setup(scheduler, int(threads)), int(waiting)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.model or Path(folder) / "ten_layers.onnx"
        if options.model is None:
            write_network(path)
        loads = under_load(path, options.seconds, options.rounds)
        waiting = memory(path)
    show(Console(width=200), loads, waiting)
    if options.json:
        results = {
            "model": str(options.model or "ten layers"),
            "cores": os.cpu_count(),
            "load": [load.summary() for load in loads],
            "memory": waiting,
        }
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""This runtime and the engines that could be used instead, on the same models, inputs and numbers of threads.

    python benches/compare.py MODEL.onnx MODEL.tflite … --threads 1 2
    python benches/compare.py --suite                   # networks that it builds itself
    python benches/compare.py --suite resnet18 vit_small --rounds 3

Engines that are not installed are left out: pip install onnxruntime openvino ai-edge-litert. They take turns in blocks, as
`comparison/measure.py` says. The table has milliseconds for one inference, the ratio of the fastest rival's time to this
runtime's, the share of what the machine's multiply-adds alone would allow, and how far apart the outputs are.
The exit status is 1 where this runtime does not run a model or gives other results.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from comparison.agreement import distance, tolerance
from comparison.engines import ENGINES, OURS, Arrays, Settings, open_engines, version
from comparison.inputs import model_inputs, parse_sizes
from comparison.measure import measure
from comparison.report import Row, conditions, geometric_mean, markdown, print_table
from comparison.work import count, probe
from networks import NETWORKS, build
from rich.console import Console


def compare(path: Path, settings: Settings, inputs: Arrays, names: list[str], rounds: int) -> Row:
    """One model at one number of threads."""
    row = Row(path.stem, settings.threads)
    before = probe()
    engines, row.reasons = open_engines(names, path, settings, inputs)
    if OURS not in engines:
        return row
    results = {name: [np.array(array) for array in engine.outputs()] for name, engine in engines.items()}
    row.distances = {name: distance(results[OURS], theirs) for name, theirs in results.items() if name != OURS}
    row.times = measure(engines, rounds)
    row.machine = [before, probe()]
    work = count(path, inputs)
    row.tolerance = tolerance(settings.precision, work.quantized)
    row.gflop = (work.floats + work.integers) / 1e9
    fastest = {name: max(rates[name] for rates in row.machine) for name in before}
    row.limit = work.limit(fastest, settings.threads)
    return row


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("models", type=Path, nargs="*", help=".onnx and .tflite files, and model folders")
    add("--suite", nargs="*", metavar="NAME", choices=list(NETWORKS), help="all networks of the suite, or those named")
    add("--networks", type=Path, help="folder that keeps the suite's files (default: a temporary one)")
    add("--threads", type=int, nargs="+", default=[1])
    add("--rounds", type=int, default=5, help="calm blocks of each engine")
    add("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    add("--precision", choices=["f32", "bf16"], default="f32", help="bf16: OpenVINO as it comes")
    add("--size", action="append", default=[], metavar="NAME=VALUE", help="a dynamic dimension; others are 1")
    add("--json", type=Path, help="file for everything that was measured")
    add("--markdown", type=Path, help="file for the table")
    options = parser.parse_args()
    if not options.models and options.suite is None:
        parser.error("no models: name files, or --suite")
    return options


def main() -> int:
    options = parse_arguments()
    sizes = parse_sizes(options.size)
    names = [name for name in ENGINES if name in options.engines and version(name)]
    console = Console(width=None if sys.stdout.isatty() else 200)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        paths = list(options.models)
        if options.suite is not None:
            folder = options.networks or Path(temporary)
            paths += [build(name, folder) for name in options.suite or NETWORKS]
        for path in paths:
            inputs = model_inputs(path, sizes)
            for threads in options.threads:
                row = compare(path, Settings(threads, options.precision), inputs, names, options.rounds)
                rows.append(row)
                told = f"{row.ratio:.2f}" if row.ratio else "–"
                print(f"{row.model}, {threads} threads: {told}", file=sys.stderr, flush=True)
    print_table(rows, names, console)
    if options.json:
        ratios = [row.ratio for row in rows if row.ratio]
        everything = {**conditions(), "geometric_mean": geometric_mean(ratios), "rows": [row.to_json() for row in rows]}
        options.json.write_text(json.dumps(everything, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(rows, names))
    return 0 if all(row.agrees for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

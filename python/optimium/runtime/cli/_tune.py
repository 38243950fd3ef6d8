"""Tuning a model folder: progress while it runs, and what came out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

import optimium.runtime as rt

from . import _tables


def tune(path: Path, sizes: Mapping[str, int], seconds: float, console: Console, **options: Any) -> rt.TuneReport:
    """Tunes the folder, with a bar on terminals and a line for each thing that is begun elsewhere."""
    if not console.is_terminal:
        return rt.tune_model(path, sizes=sizes, seconds=seconds, progress=_lines(console), **options)
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"tuning {path}", total=1.0)

        def advance(what: str, done: float) -> None:
            progress.update(task, description=what, completed=done)

        return rt.tune_model(path, sizes=sizes, seconds=seconds, progress=advance, **options)


def _lines(console: Console) -> Callable[[str, float], None]:
    """A line whenever something else is done."""
    last = ""

    def advance(what: str, done: float) -> None:
        nonlocal last
        if what != last:
            console.print(f"{done:4.0%} {what}", markup=False, highlight=False)
        last = what

    return advance


def report(result: rt.TuneReport) -> dict[str, Any]:
    """The result as data, times in milliseconds."""
    layers = [dataclasses.asdict(layer) for layer in result.layers]
    for layer in layers:
        layer["before"], layer["after"] = layer["before"] * 1e3, layer["after"] * 1e3
    return {
        "layers": layers,
        "choices": result.choices,
        "before": result.before * 1e3,
        "after": result.after * 1e3,
        "gain": result.gain,
    }


def show(result: rt.TuneReport, console: Console) -> None:
    """Prints the layers whose kernel changed, and what the model gained."""
    if result.layers:
        figures = "before", "after", "gain"
        columns = "layer", "shape", "old kernel", "new kernel", *figures
        table = _tables.table("changed layers, times in ms", *columns, figures=figures)
        for layer in result.layers:
            shape = "x".join(map(str, layer.shape))
            before, after = layer.before * 1e3, layer.after * 1e3
            gain = f"{before / after:.2f}x" if after else ""
            kernels = map(_tables.remark, (layer.old, layer.new))
            table.add_row(_tables.Name(layer.name), shape, *kernels, f"{before:.4f}", f"{after:.4f}", gain)
        console.print(table, markup=False)
    changed = f"{len(result.layers)} of {result.choices} layers with several kernels changed"
    if result.layers:
        times = f"{result.before * 1e3:.3f} -> {result.after * 1e3:.3f} ms an inference, {result.gain:.2f}x"
    else:
        times = f"{result.before * 1e3:.3f} ms an inference: what was estimated is the fastest"
    console.print(f"{changed}; {times}", markup=False, highlight=False, soft_wrap=True)

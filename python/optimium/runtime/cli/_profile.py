"""Profiling on the command line: measuring with a bar, and tables of what came out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from optimium.runtime import report
from optimium.runtime.report import Change, Comparison, Profile, Subject, Timing

from . import _tables

#: Turns that two models take.
TURNS = 6

#: Seconds of warming up that can be asked for: a day.
LONGEST_WARMUP = 86_400


def measure(
    subjects: Sequence[Subject], console: Console, repeat: int, warmup: int, warmup_time: float
) -> list[Profile]:
    """Measures models, with a bar on terminals; `warmup_time` is in seconds. Several of them take turns."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    # Drawing takes time of the cores that are measured: a few times a second are enough.
    with Progress(
        *columns, console=console, transient=True, refresh_per_second=4, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("measuring the machine", total=1.0)

        def advance(what: str, done: float) -> None:
            bar.update(task, description=what, completed=done)

        return report.measure(
            subjects,
            repeat=repeat,
            warmup=warmup,
            warmup_time=round(warmup_time * 1e6),
            turns=TURNS if len(subjects) > 1 else 1,
            progress=advance,
        )


def is_stored(path: Path) -> bool:
    """Whether that is a profile in a file, and not a model."""
    return path.suffix == ".json" and not path.is_dir()


def write(
    profile: Profile, comparison: Comparison | None, trace: Path | None, html: Path | None, stored: Path | None
) -> list[Path]:
    """Writes the files that are wished for, and tells which."""
    writers: list[tuple[Path | None, Callable[[Path], None]]] = [
        (trace, lambda path: report.write_trace(profile, path)),
        (html, lambda path: report.write_html(profile, path, comparison)),
        (stored, lambda path: report.save(profile, path)),
    ]
    written = []
    for path, writer in writers:
        if path is not None and str(path) != "-":
            writer(path)
            written.append(path)
    if str(stored) == "-":
        json.dump(report.to_json(profile), sys.stdout)
        sys.stdout.write("\n")
    return written


def show(profile: Profile, top: int, console: Console) -> None:
    """Prints the layers, the slowest first, and their sums by operator and family of kernels. All layers where `top` is 0."""
    machine = profile.machine
    threads = "1 thread" if profile.threads == 1 else f"{profile.threads} threads"
    _say(console, f"{profile.title}: {_inputs(profile)}; {threads}, {profile.precision}")
    f32, int8, memory = (rate / 1e9 for rate in (machine.f32, machine.int8, machine.memory))
    rates = f"a core: {f32:.0f} GFLOP/s, int8 {int8:.0f} GOP/s, memory {memory:.0f} GB/s"
    _say(console, f"{machine.cpu}, {machine.instruction_set}; {rates}")
    console.print(_layers(profile, top), markup=False)
    console.print(_kinds(profile), markup=False)
    median, spread = profile.timing
    limit = sum(layer.limit for layer in profile.timed_layers)
    _say(
        console,
        f"{len(profile.durations)} inferences: median {median / 1e6:.3f} ± {spread / 1e6:.3f} ms, "
        f"min {min(profile.durations) / 1e6:.3f}, max {max(profile.durations) / 1e6:.3f}; "
        f"{profile.inferences_per_second:.1f} in a second; "
        f"{profile.share(limit):.0%} of the machine's limit; arena {_megabytes(profile.memory.arena)} MB, "
        f"constants {_megabytes(profile.memory.constants)} MB",
    )
    if profile.lost_events:
        _say(console, f"{profile.lost_events} events were lost: the event buffer was full")


def _inputs(profile: Profile) -> str:
    """The inputs with their shapes, the first of them where there are many."""
    few = 4
    named = [f"{name} {_dims(shape)}" for name, shape in profile.shapes.items()]
    return ", ".join(named[:few]) + (f" and {len(named) - few} more" if len(named) > few else "")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


_FIGURES = ("µs", "±", "share", "GFLOP/s", "limit", "MB")


def _layers(profile: Profile, top: int) -> Table:
    layers = profile.timed_layers
    shown = layers[: top or None]
    columns = "layer", "operator", "result", *_FIGURES, "kernel"
    table = _tables.table("layers, the slowest first", *columns, figures=_FIGURES)
    for layer in shown:
        shape = _dims(layer.output_shapes[0]) if layer.output_shapes else ""
        rate = f"{layer.rate / 1e9:.1f}" if layer.rate else ""
        fraction = f"{layer.fraction:.0%}" if layer.fraction is not None else ""
        figures = *_timing(profile, layer.timing), rate, fraction, _megabytes(layer.bytes)
        table.add_row(_tables.Name(layer.name), layer.operator, shape, *figures, _tables.remark(layer.kernel))
    rest = layers[len(shown) :]
    if rest:
        timing = report.total(layer.timing for layer in rest)
        figures = *_timing(profile, timing), "", "", _megabytes(sum(layer.bytes for layer in rest))
        table.add_row(_tables.remark(f"{len(rest)} more (--top 0 lists all)"), "", "", *figures, "")
    between = Timing(profile.between, 0.0)
    table.add_row(_tables.remark("between layers"), "", "", *_timing(profile, between)[:1], "", *_timing(profile, between)[2:])
    table.add_row("inference", "", "", *_timing(profile, profile.timing), style="bold")
    return table


def _kinds(profile: Profile) -> Table:
    columns = "layers", *_FIGURES
    table = _tables.table("operators and families of kernels", "", *columns, figures=columns)
    for total in profile.kinds:
        rate = f"{total.operations / total.timing.median:.1f}" if total.operations else ""
        fraction = f"{total.limit / total.timing.median:.0%}" if total.timing.median else ""
        figures = *_timing(profile, total.timing), rate, fraction, _megabytes(total.bytes)
        table.add_row(total.name, str(total.count), *figures)
    return table


def _timing(profile: Profile, timing: Timing) -> tuple[str, str, str]:
    """Median, spread and share."""
    return f"{timing.median / 1e3:.1f}", f"{timing.spread / 1e3:.1f}", f"{profile.share(timing.median):.1%}"


def show_comparison(comparison: Comparison, top: int, console: Console) -> None:
    """Prints what changed, the largest differences first."""
    figures = ("before µs", "±", "now µs", "±", "difference", "noise", "ratio")
    table = _tables.table("compared with the baseline", "layer", *figures, "", figures=figures)
    for change in comparison.layers[: top or None]:
        table.add_row(*_changed(change), style=None if change.is_significant else "dim")
    rest = comparison.layers[len(table.rows) :]
    if rest:
        table.add_row(_tables.remark(f"{len(rest)} more (--top 0 lists all)"))
    table.add_section()
    for change in comparison.operators:
        table.add_row(*_changed(change), style=None if change.is_significant else "dim")
    table.add_section()
    table.add_row(*_changed(comparison.total), style="bold")
    console.print(table, markup=False)
    for remark in comparison.remarks:
        _say(console, f"mind that {remark}")


def _changed(change: Change) -> list[RenderableType]:
    def pair(timing: Timing | None) -> tuple[str, str]:
        return ("–", "") if timing is None else (f"{timing.median / 1e3:.1f}", f"{timing.spread / 1e3:.1f}")

    ratio = "" if change.ratio is None else f"{change.ratio:.3f}"
    difference, noise = f"{change.difference / 1e3:+.1f}", f"{change.noise / 1e3:.1f}"
    figures = *pair(change.before), *pair(change.after), difference, noise, ratio
    return [_tables.Name(change.name), *figures, _tables.remark(_verdict(change))]


def _verdict(change: Change) -> str:
    if change.before is None:
        return "only here"
    if change.after is None:
        return "only in the baseline"
    if not change.is_significant:
        return "within noise"
    return "slower" if change.difference > 0 else "faster"


def _dims(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f}"

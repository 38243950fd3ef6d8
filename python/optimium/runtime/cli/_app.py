"""The commands and their options."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import optimium.runtime as rt
from optimium.runtime import report

from . import _inspect, _profile, _run, _tables, _tune

app = typer.Typer(
    help="Converts, inspects, tunes, profiles and runs machine-learning models.", no_args_is_help=True, add_completion=False
)
_errors = Console(stderr=True)


def _path(text: str) -> Path:
    """A path on the command line: an empty one is a variable that is not set, hardly the current folder."""
    if not text:
        raise typer.BadParameter("the path is empty")
    return Path(text)


class _Precision(str, enum.Enum):
    """How exact products are to be."""

    F32 = "f32"
    BF16 = "bf16"


class _Weights(str, enum.Enum):
    """What large matrices are stored as."""

    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"


class _Scheduler(str, enum.Enum):
    """How inferences share the machine."""

    SIMPLE = "simple"
    EXCLUSIVE = "exclusive"
    PIPELINE = "pipeline"


_Model = Annotated[Path, typer.Argument(parser=_path, metavar="MODEL", help="A model folder, or an .onnx or .tflite file.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", help="NAME=FILE.npy, FILE.npy for a model of one input, or FILE.npz."),
]
_Sizes = Annotated[list[str] | None, typer.Option("--size", help="SYMBOL=SIZE for random inputs; 1 where not given.")]
_Seed = Annotated[int, typer.Option(help="Seed of the inputs that are not given, which are random.")]
_Precise = Annotated[_Precision, typer.Option("--precision", help="How exact products are.")]
_Threads = Annotated[int | None, typer.Option(help="Threads of one inference.")]


def _guarded(work: Callable[[], None]) -> None:
    """Does `work`, and says what went wrong without a traceback."""
    try:
        work()
    except (rt.RuntimeException, OSError, ValueError, MemoryError) as error:
        _errors.print(f"error: {_message(error)}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error


def _message(error: Exception) -> str:
    """What went wrong; of files which one, without the number of the error."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _sizes(options: Sequence[str] | None) -> dict[str, int]:
    """The sizes in options of the form SYMBOL=SIZE."""
    try:
        return _run.sizes(options or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--size") from error


def _check_files(written: Sequence[tuple[str, Path | None]], read: Sequence[tuple[str, Path | None]]) -> None:
    """Refuses files that would be written twice, or over what is read."""
    known = {path.resolve(): name for name, path in read if path is not None}
    for name, path in written:
        if path is None or str(path) == "-":
            continue
        own = f"that of {name}"
        other = known.setdefault(path.resolve(), own)
        if other != own:
            raise typer.BadParameter(f"{path} is the same file as {other}", param_hint=name)


def _check_places(*written: Path | None) -> None:
    """Refuses files that cannot be where they are to be written: before the work, not after it."""
    for path in written:
        if path is None or str(path) == "-":
            continue
        if path.is_dir():
            raise ValueError(f"{path} is a folder, not a file to be written")
        if not path.parent.is_dir():
            raise ValueError(f"{path} cannot be written: there is no folder {path.parent}")


def _progress() -> Progress:
    """A line that says what is being done, on terminals."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    return Progress(*columns, console=_errors, transient=True, disable=not _errors.is_terminal)


def _load(path: Path, **options: Any) -> rt.Model:
    with _progress() as progress:
        progress.add_task(f"loading {path}")
        return rt.load_model(path, **options)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(parser=_path, metavar="SOURCE", help="An .onnx or .tflite file.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The model folder to be written; the model's name by default."),
    ] = None,
    pack: Annotated[
        bool,
        typer.Option(help="Store the weights also as kernels for this machine read them, for faster loading."),
    ] = True,
    weights: Annotated[_Weights | None, typer.Option(help="Store large matrices in fewer bits.")] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="A tensor that nothing is fused over, so that it can be read; as often as needed."),
    ] = None,
) -> None:
    """Converts a model file to a model folder."""
    destination = source.with_suffix("") if output is None else output

    def work() -> None:
        with _progress() as progress:
            task = progress.add_task("converting", total=1.0)
            done = rt.convert(
                source,
                destination,
                pack=pack,
                weights=None if weights is None else cast(Any, weights.value),
                keep_tensors=keep,
                progress=lambda what, done: progress.update(task, description=what, completed=done),
            )
        if weights is not None:
            before, after = done.bytes_before / 1e6, done.bytes_after / 1e6
            typer.echo(f"compressed {done.compressed_weights} weights from {before:.1f} to {after:.1f} MB")
        typer.echo(f"wrote {destination}")

    _guarded(work)


@app.command()
def inspect(
    model: _Model,
    as_json: _AsJson = False,
    plan: Annotated[bool, typer.Option(help="List every step of an inference.")] = False,
    threads: _Threads = None,
) -> None:
    """Says what a model takes, gives, consists of and does."""

    def work() -> None:
        loaded = _load(model, threads=threads)
        report = _inspect.report(loaded, model)
        if as_json:
            typer.echo(json.dumps(report, indent=2))
        else:
            _inspect.show(report, plan, _tables.console())

    _guarded(work)


@app.command()
def run(
    model: _Model,
    inputs: _Inputs = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The .npz file for the outputs.")] = None,
    sizes: _Sizes = None,
    seed: _Seed = 0,
    repeat: Annotated[int, typer.Option(min=1, help="Number of inferences that are timed.")] = 1,
    warmup: Annotated[int, typer.Option(min=0, help="Number of inferences before.")] = 0,
    threads: _Threads = None,
    precision: _Precise = _Precision.F32,
    as_json: _AsJson = False,
) -> None:
    """Runs a model and times it."""

    def work() -> None:
        _check_places(output)
        _run.check_output(output)
        loaded = _load(model, threads=threads, precision=precision.value)
        arrays = _run.inputs(loaded, inputs or [], _sizes(sizes), seed)
        with _progress() as progress:
            task = progress.add_task("running", total=warmup + repeat)
            results, times = _run.run(loaded, arrays, warmup, repeat, lambda: progress.advance(task))
        if output is not None:
            _run.save(results, output)
        report = _run.report(results, times)
        typer.echo(json.dumps(report, indent=2) if as_json else _run.text(report))

    _guarded(work)


@app.command()
def tune(
    model: Annotated[
        Path,
        typer.Argument(parser=_path, metavar="MODEL", help="A model folder, or with --output an .onnx or .tflite file."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Convert the model file to this folder first.")
    ] = None,
    threads: _Threads = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", help="SYMBOL=SIZE of a dynamic dimension; batch 1, images 224, 128 where not given."),
    ] = None,
    precision: _Precise = _Precision.F32,
    seconds: Annotated[float, typer.Option(min=0, help="About how long it may take.")] = 10.0,
    as_json: _AsJson = False,
) -> None:
    """Measures which kernels are the fastest on this machine, and stores them in the model folder."""

    def work() -> None:
        if output is None and model.is_file():
            raise ValueError(f"{model} is not a model folder: convert it first, or say with --output where to")
        named = _sizes(sizes)
        if output is not None:
            rt.convert(model, output)
        options = {"threads": threads, "precision": precision.value}
        result = _tune.tune(output or model, named, seconds, _errors, **options)
        if as_json:
            typer.echo(json.dumps(_tune.report(result), indent=2))
        else:
            _tune.show(result, _tables.console())

    _guarded(work)


@app.command()
def profile(
    model: Annotated[
        Path,
        typer.Argument(
            parser=_path,
            metavar="MODEL",
            help="A model folder, an .onnx or .tflite file, or what --json wrote, which is shown again.",
        ),
    ],
    inputs: _Inputs = None,
    sizes: _Sizes = None,
    seed: _Seed = 0,
    repeat: Annotated[int, typer.Option(min=1, help="Number of inferences that are measured.")] = 100,
    warmup: Annotated[int, typer.Option(min=0, help="Number of inferences before, at least.")] = 10,
    warmup_time: Annotated[
        float, typer.Option(min=0, max=_profile.LONGEST_WARMUP, help="Seconds of inferences before, at least.")
    ] = 1.0,
    threads: _Threads = None,
    precision: _Precise = _Precision.F32,
    scheduler: Annotated[
        _Scheduler, typer.Option(help="How inferences share the machine; pipeline: they follow each other through stages.")
    ] = _Scheduler.SIMPLE,
    stages: Annotated[
        int | None, typer.Option(min=1, help="Stages of a pipeline; as many as threads where not given.")
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="Number of layers that are listed; 0 for all.")] = 30,
    stored: Annotated[
        Path | None, typer.Option("--json", help="Write all of it to this file, for --baseline; - prints it.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write a trace for ui.perfetto.dev to this file.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots to this file.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Compare with another model, measured in turns, or with what --json wrote.")
    ] = None,
) -> None:
    """Measures the layers of a model: their times, and what the machine could do."""

    def subject(path: Path) -> report.Subject:
        schedule = {"scheduler_type": rt.SchedulerType[scheduler.name], "stages": stages}
        loaded = _load(path, threads=threads, precision=precision.value, **schedule)
        arrays = _run.inputs(loaded, inputs or [], _sizes(sizes), seed)
        return report.Subject(loaded, arrays, source=str(path), precision=precision.value)

    def work() -> None:
        _check_files(
            [("--json", stored), ("--trace", trace), ("--html", html)], [("the model", model), ("the baseline", baseline)]
        )
        _check_places(stored, trace, html)
        paths = [path for path in (model, baseline) if path is not None]
        known = {path: report.load(path) for path in paths if _profile.is_stored(path)}
        new = [subject(path) for path in paths if path not in known]
        measured = iter(_profile.measure(new, _errors, repeat, warmup, warmup_time) if new else [])
        first, *others = [known.get(path) or next(measured) for path in paths]
        comparison = report.compare(others[0], first) if others else None
        written = _profile.write(first, comparison, trace, html, stored)
        if str(stored) == "-":
            return
        console = _tables.console()
        _profile.show(first, top, console)
        if comparison is not None:
            _profile.show_comparison(comparison, top, console)
        for path in written:
            typer.echo(f"wrote {path}")

    _guarded(work)


@app.command()
def devices(as_json: _AsJson = False) -> None:
    """Lists the devices of this host."""
    report = _inspect.host(rt.get_local_info())
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    typer.echo(f"{report['name']}: {report['os']} on {report['architecture']}")
    for device in report["devices"]:
        typer.echo(f"  {device['name']}: {', '.join(device['features'])}")


@app.command()
def version() -> None:
    """Says which versions are installed."""
    rt.show_versions()

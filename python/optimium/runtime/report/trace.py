"""Profiles as traces, for ui.perfetto.dev and chrome://tracing.

The form is the Trace Event Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .data import Layer, Profile, Span

_Event = dict[str, Any]

#: Tracks besides those of the workers, below them; the model's is on top.
_OTHERS = ("QUEUE", "WAIT", "COPY", "LAUNCH", "DEVICE_EXECUTE")

#: What every inference has one of: for each layer and worker, or for each tensor.
_NUMBERED = ("MODEL_EXECUTE", "LAYER_EXECUTE", "WAIT", "COPY")


def write_trace(profiles: Sequence[Profile] | Profile, path: str | os.PathLike[str]) -> None:
    """Writes the trace of some profiles. Those of one process share their clock: what happened together is seen together."""
    profiles = [profiles] if isinstance(profiles, Profile) else profiles
    content = {"displayTimeUnit": "ns", "otherData": _about(profiles), "traceEvents": trace_events(profiles)}
    Path(path).write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def _about(profiles: Sequence[Profile]) -> dict[str, str]:
    machines = {profile.machine.cpu for profile in profiles}
    return {"version": profiles[0].version, "cpu": ", ".join(sorted(machines))} if profiles else {}


def trace_events(profiles: Sequence[Profile]) -> list[_Event]:
    """The events: a process for each profile, a track for each worker, and more for what else there is."""
    return [event for number, profile in enumerate(profiles, 1) for event in _events_of(profile, number)]


def _events_of(profile: Profile, process: int) -> Iterator[_Event]:
    several = len({layer.device for layer in profile.layers}) > 1
    tracks = _Tracks(process)
    yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": f"{profile.title} #{process}"}}
    events = []
    for span, inference in zip(profile.spans, _inferences(profile), strict=True):
        layer = None if span.operation is None else profile.layers[span.operation]
        track = tracks.of(span, _track_name(span, layer, several))
        events.append(_event(span, layer, inference, process, track))
    yield from tracks.names()
    yield from events


def _inferences(profile: Profile) -> list[int | None]:
    """For each span the number of its inference, from 1 on; None where that cannot be told.

    Stages keep the order, so that the third time that a worker does a layer is for the third inference.
    """
    numbers: list[int | None] = [None] * len(profile.spans)
    if profile.lost_events:
        return numbers
    counts: Counter[object] = Counter()
    for index in sorted(range(len(numbers)), key=lambda index: profile.spans[index].start):
        span = profile.spans[index]
        if span.activity in _NUMBERED:
            what = span.activity, span.operation, span.thread, span.tensor
            counts[what] += 1
            numbers[index] = counts[what]
    return numbers


def _track_name(span: Span, layer: Layer | None, several: bool) -> tuple[int, str]:
    """The track's place among the others, and its name."""
    if span.activity == "MODEL_EXECUTE":
        return 0, "model"
    if span.activity == "LAYER_EXECUTE":
        device = f"{layer.device} " if several and layer else ""
        return 1, f"{device}worker {span.thread}"
    return 2 + _OTHERS.index(span.activity), span.activity


class _Tracks:
    """Numbers for tracks. What overlaps on a track gets another one beside it."""

    def __init__(self, process: int) -> None:
        self._process = process
        #: For each track its lanes: the time until which each is in use.
        self._lanes: dict[tuple[int, str], list[tuple[int, int]]] = {}
        self._count = 0

    def of(self, span: Span, name: tuple[int, str]) -> int:
        lanes = self._lanes.setdefault(name, [])
        for index, (number, until) in enumerate(lanes):
            if until <= span.start:
                lanes[index] = number, span.end
                return number
        self._count += 1
        lanes.append((self._count, span.end))
        return self._count

    def names(self) -> Iterator[_Event]:
        ordered = [(name, number) for name, lanes in sorted(self._lanes.items()) for number, _ in lanes]
        for place, ((_, name), number) in enumerate(ordered):
            common = {"ph": "M", "pid": self._process, "tid": number}
            yield {**common, "name": "thread_name", "args": {"name": name}}
            yield {**common, "name": "thread_sort_index", "args": {"sort_index": place}}


def _event(span: Span, layer: Layer | None, inference: int | None, process: int, track: int) -> _Event:
    """A complete event; its times are in microseconds."""
    name, arguments = span.activity, dict[str, Any]()
    if span.activity == "MODEL_EXECUTE":
        name = "inference" if inference is None else f"inference {inference}"
    elif span.activity == "LAYER_EXECUTE" and layer:
        name, arguments = layer.name, _arguments(layer)
    elif span.activity == "WAIT" and layer:
        name, arguments = f"wait for {layer.name}", {"operator": layer.operator, "device": layer.device}
    elif span.activity == "COPY":
        name = f"copy {span.tensor}"
        arguments = {"tensor": span.tensor, "from": span.source, "to": span.destination}
    if inference is not None:
        arguments["inference"] = inference
    return {
        "ph": "X",
        "name": name,
        "cat": span.activity,
        "pid": process,
        "tid": track,
        "ts": span.start / 1e3,
        "dur": (span.end - span.start) / 1e3,
        "args": arguments,
    }


def _arguments(layer: Layer) -> dict[str, Any]:
    def described(names: Sequence[str], shapes: Sequence[Sequence[int]]) -> str:
        pairs = zip(names, shapes, strict=True)
        return ", ".join(f"{name} {'×'.join(map(str, shape)) or 'scalar'}" for name, shape in pairs)

    return {
        "operator": layer.operator,
        "kernel": layer.kernel,
        "inputs": described(layer.inputs, layer.input_shapes),
        "outputs": described(layer.outputs, layer.output_shapes),
        "operations": layer.operations,
        "bytes": layer.bytes,
        "device": layer.device,
    }

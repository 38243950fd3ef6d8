"""From a request that was profiled to its profile."""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Sequence
from itertools import count

from .._native import InferRequest, Model, get_version
from .._types import OperationDetails, OpInfo, RunDetails
from .data import Layer, Machine, Profile, Span
from .machine import limit, probe


class Recording:
    """What several profiles of a model saw, one after the other."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._durations: list[int] = []
        #: By layer.
        self._layers: dict[str, list[int]] = {}
        self._lost_events = 0

    def add(self, model: Model, request: InferRequest) -> None:
        """Adds the last profile of a request. Raises InvalidOperationError where there is none."""
        seen = request.get_profile_durations()
        self._durations += seen.model_durations
        for name, durations in seen.layer_durations.items():
            self._layers.setdefault(name, []).extend(durations)
        self._lost_events += seen.lost_events
        self._spans += spans(model, request)

    def profile(self, model: Model, details: RunDetails, source: str, precision: str, machine: Machine) -> Profile:
        """All of it, with the work that `details` tell of."""
        teams = _teams(self._spans)

        def layer(index: int, operation: OpInfo, work: OperationDetails) -> Layer:
            best = limit(work, machine, len(teams.get(index, [0])), details.memory.constants)
            return _layer(operation, work, self._layers.get(operation.name, []), best)

        return Profile(
            model=model.name,
            source=source,
            threads=len(set[int]().union(*teams.values())) or 1,
            precision=precision,
            shapes=_input_shapes(model, details),
            version=str(get_version()),
            date=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            machine=machine,
            layers=tuple(map(layer, count(), model.operations, details.operations)),
            durations=tuple(self._durations),
            spans=tuple(self._spans),
            memory=details.memory,
            lost_events=self._lost_events,
        )


def collect(
    model: Model, request: InferRequest, *, source: str = "", precision: str = "f32", machine: Machine | None = None
) -> Profile:
    """The last profile of a request of `model`. The machine is measured where it is not given.

    Raises InvalidOperationError where nothing was profiled.
    """
    recording = Recording()
    recording.add(model, request)
    return recording.profile(model, request.get_run_details(), source, precision, machine or probe())


def spans(model: Model, request: InferRequest) -> list[Span]:
    """What the last profile of a request saw: every begin with its end, by time.

    Where the same goes on more than once at a time, as inferences in a pipeline do, what begins first ends first.
    """
    tensors = [info.name for info in model.tensors]
    begun: dict[tuple[object, ...], deque[int]] = {}
    found: list[Span] = []
    for event in request.get_profile_events():
        activity, _, edge = event.kind.name.rpartition("_")
        operation, thread, copied = event.operation, event.thread_id, event.tensor_id
        waiting = begun.setdefault((activity, operation, thread, copied), deque())
        if edge == "BEGIN":
            waiting.append(event.timestamp_ns)
        elif waiting:
            span = Span(activity, waiting.popleft(), event.timestamp_ns, operation, thread)
            if copied is not None:
                span = Span(*span[:5], tensors[copied], str(event.source_device), str(event.dest_device))
            found.append(span)
    return sorted(found, key=lambda span: (span.start, -span.end))


def _teams(spans: Sequence[Span]) -> dict[int, set[int]]:
    """For each layer the workers that could do it: those that share layers with its own ones. Every stage has its team."""
    workers: dict[int, set[int]] = {}
    for span in spans:
        if span.activity == "LAYER_EXECUTE" and span.operation is not None and span.thread is not None:
            workers.setdefault(span.operation, set()).add(span.thread)
    teams: list[set[int]] = []
    for some in workers.values():
        joined = [team for team in teams if team & some]
        teams = [team for team in teams if not team & some] + [some.union(*joined)]
    return {layer: next(team for team in teams if some <= team) for layer, some in workers.items()}


def _layer(operation: OpInfo, work: OperationDetails, durations: Sequence[int], limit: float) -> Layer:
    return Layer(
        name=operation.name,
        operator=operation.operator,
        kernel=operation.kernel,
        device=str(operation.device),
        inputs=operation.inputs,
        outputs=operation.outputs,
        input_shapes=work.inputs,
        output_shapes=work.outputs,
        operations=2 * work.multiply_adds,
        in_integers=work.in_integers,
        bytes_read=work.bytes_read,
        constant_bytes=work.constant_bytes,
        bytes_written=work.bytes_written,
        is_run=work.is_run,
        is_shared=work.is_shared,
        limit=limit,
        durations=tuple(durations),
    )


def _input_shapes(model: Model, details: RunDetails) -> dict[str, tuple[int, ...]]:
    known: dict[str, tuple[int, ...]] = {}
    for operation, work in zip(model.operations, details.operations, strict=True):
        known.update(zip(operation.inputs, work.inputs, strict=True))
    return {name: known[name] for name in model.input_names if name in known}

"""Measuring models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .._arrays import tensor
from .._inputs import Arrays, empty_outputs, random_inputs
from .._native import Model, Tensor
from .collect import Recording
from .data import Machine, Profile, title
from .machine import probe

#: Called with what is being done, and how much of it is done, from 0 to 1.
Progress = Callable[[str, float], object]

#: Bytes of the event buffer that an event takes.
_EVENT_BYTES = 24
_SMALLEST_BUFFER = 4 << 20
_LARGEST_BUFFER = 1 << 30

#: Inferences that fill a pipeline again.
_WARMUP_AGAIN = 2


class Subject:
    """A model that is to be measured, and what to run it with: random inputs where none are given."""

    def __init__(
        self,
        model: Model,
        inputs: Mapping[str, Tensor] | Arrays | None = None,
        *,
        source: str = "",
        precision: str = "f32",
    ) -> None:
        given = random_inputs(model) if inputs is None else inputs
        self.model = model
        self.source = source
        self.precision = precision
        self._inputs = {name: each if isinstance(each, Tensor) else tensor(each) for name, each in given.items()}
        self._outputs = empty_outputs(model, self._inputs)
        self._request = model.create_request()
        self._recording = Recording()

    def record(self, repeat: int, warmup: int, warmup_time: int, progress: Progress | None) -> None:
        """Measures some more inferences."""
        request = self._request
        told = None if progress is None else lambda _, done: progress("warming up", done)
        # Warms up, and shows how many events an inference has.
        request.profile(self._inputs, self._outputs, 1, warmup, warmup_time, progress=told)
        events = len(request.get_profile_events()) + request.get_profile_durations().lost_events
        size = min(max(2 * events * repeat * _EVENT_BYTES, _SMALLEST_BUFFER), _LARGEST_BUFFER)
        options = {"repeat": repeat, "warmup": min(warmup, _WARMUP_AGAIN), "warmup_time": 0, "event_buffer_size": size}
        request.profile(self._inputs, self._outputs, **options, progress=progress)
        self._recording.add(self.model, request)

    def profile(self, machine: Machine) -> Profile:
        """All that was measured."""
        details = self._request.get_run_details()
        return self._recording.profile(self.model, details, self.source, self.precision, machine)


def measure(
    subjects: Sequence[Subject],
    *,
    repeat: int = 100,
    warmup: int = 10,
    warmup_time: int = 1_000_000,
    turns: int = 1,
    progress: Progress | None = None,
) -> list[Profile]:
    """The profiles of some models, each of `repeat` inferences.

    With several `turns` the models take turns, so that what else happens on the machine meets all of them. Before each turn
    there are `warmup` unmeasured inferences, before the first one for at least `warmup_time` microseconds.
    """
    machine = probe()
    turns = max(1, min(turns, repeat))
    for turn in range(turns):
        count = repeat // turns + (turn < repeat % turns)
        for number, subject in enumerate(subjects):
            place = turn * len(subjects) + number
            name, parts = title(subject.model.name, subject.source), turns * len(subjects)
            told = None if progress is None else _part(progress, name, place, parts)
            subject.record(count, warmup, 0 if turn else warmup_time, told)
    return [subject.profile(machine) for subject in subjects]


def _part(progress: Progress, name: str, part: int, parts: int) -> Progress:
    """Tells how much of the whole is measured; to warm up counts as nothing."""

    def told(what: str, done: float) -> None:
        measured = done if what == "measuring" else 0.0
        progress(f"{what} {name}", (part + measured) / parts)

    return told

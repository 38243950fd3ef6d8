"""What a profile is: plain data, which everything else in this package makes or shows. Times are in nanoseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, takewhile
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from .._types import MemoryDetails


@dataclass(frozen=True)
class Machine:
    """What one core of a machine reaches. Rates are in operations or bytes a second, sizes in bytes (0 where unknown)."""

    cpu: str
    #: The best of its instruction sets that kernels use.
    instruction_set: str
    #: Operations in f32; a multiply-add is two.
    f32: float
    #: Operations in 8-bit integers.
    int8: float
    #: Bytes read out of the second cache.
    l2: float
    #: Bytes read out of the third cache.
    l3: float
    #: Bytes read out of memory.
    memory: float
    l2_size: int
    l3_size: int

    def bandwidth(self, size: int) -> float:
        """The bytes a second at which `size` bytes can be read again and again."""
        if size <= self.l2_size:
            return self.l2
        return self.l3 if size <= self.l3_size else self.memory


class Timing(NamedTuple):
    """A duration, and by how much it scattered: half the distance between the quartiles."""

    median: float
    spread: float

    @classmethod
    def of(cls, durations: tuple[int, ...]) -> Timing:
        """That of some durations; zero of none."""
        if not durations:
            return cls(0.0, 0.0)
        low, median, high = (float(value) for value in np.percentile(durations, (25, 50, 75)))
        return cls(median, (high - low) / 2)


@dataclass(frozen=True)
class Layer:
    """An operation of the model, the work it did in an inference, and how long that took."""

    name: str
    operator: str
    kernel: str
    device: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    #: Of products, convolutions, attention and recurrent layers, whatever algorithm does them; a multiply-add is two.
    operations: int
    #: Whether these are in 8-bit integers.
    in_integers: bool
    #: Bytes of tensors that it reads, constants excluded.
    bytes_read: int
    constant_bytes: int
    bytes_written: int
    #: Whether there was something to do: views are not run.
    is_run: bool
    #: Whether the threads shared it.
    is_shared: bool
    #: The time in which the machine could do it at best.
    limit: float
    #: For each inference, from the begin of the first thread's part to the end of the last one's.
    durations: tuple[int, ...]

    @cached_property
    def timing(self) -> Timing:
        """The median of the durations, and their spread."""
        return Timing.of(self.durations)

    @property
    def kind(self) -> str:
        """The operator, and for those that count operations the family of the kernel: `Conv depthwise`."""
        description, _, _ = self.kernel.partition(":")
        family = takewhile(_names_family, description.split()) if self.operations else ()
        return " ".join([self.operator, *(word for word in family if word not in self.operator.lower())])

    @property
    def bytes(self) -> int:
        """All bytes that it reads and writes."""
        return self.bytes_read + self.constant_bytes + self.bytes_written

    @property
    def rate(self) -> float | None:
        """Operations in a second; None where none are counted."""
        return self.operations / self.timing.median * 1e9 if self.operations and self.timing.median else None

    @property
    def fraction(self) -> float | None:
        """The limit by the time that it took: 1 is all that the machine can do. None where it took none."""
        return self.limit / self.timing.median if self.timing.median else None


def _names_family(word: str) -> bool:
    """Whether a word of a kernel's description belongs to its family: what follows is sizes and fusions."""
    return word == "bf16" or word.isalpha() and word not in ("at", "axis", "tile", "with")


#: What a span can be.
ACTIVITIES = ("MODEL_EXECUTE", "LAYER_EXECUTE", "LAUNCH", "DEVICE_EXECUTE", "COPY", "QUEUE", "WAIT")


class Span(NamedTuple):
    """Something that lasted from `start` to `end`, on a clock that all profiles of a process share."""

    #: One of `ACTIVITIES`.
    activity: str
    start: int
    end: int
    #: The index of the layer, for LAYER_EXECUTE and WAIT.
    operation: int | None = None
    #: The number of the worker, for LAYER_EXECUTE.
    thread: int | None = None
    #: What is copied, for COPY, and from which device to which.
    tensor: str | None = None
    source: str | None = None
    destination: str | None = None


@dataclass(frozen=True)
class Profile:
    """What was seen of a model's inferences."""

    model: str
    #: Where the model was loaded from.
    source: str
    threads: int
    precision: str
    #: The shapes of the inputs.
    shapes: dict[str, tuple[int, ...]]
    #: The version of the runtime.
    version: str
    #: When it was measured.
    date: str
    machine: Machine
    #: All operations, in the order of the model.
    layers: tuple[Layer, ...]
    #: Of whole inferences.
    durations: tuple[int, ...]
    spans: tuple[Span, ...]
    memory: MemoryDetails
    #: Events that found no room in the event buffer.
    lost_events: int

    @cached_property
    def timing(self) -> Timing:
        """That of whole inferences."""
        return Timing.of(self.durations)

    @cached_property
    def inferences_per_second(self) -> float:
        """How many ended in a second of the time in which at least one was under way: several may be at once, in a pipeline."""
        busy, until = 0, 0
        for start, end in self._inferences:
            busy += max(0, end - max(start, until))
            until = max(until, end)
        return len(self.durations) / busy * 1e9 if busy else 0.0

    @cached_property
    def overlaps(self) -> bool:
        """Whether several inferences were under way at once, in a pipeline."""
        return any(start < end for (_, end), (start, _) in pairwise(self._inferences))

    @cached_property
    def _inferences(self) -> list[tuple[int, int]]:
        """When they began and ended."""
        return sorted((span.start, span.end) for span in self.spans if span.activity == "MODEL_EXECUTE")

    @cached_property
    def timed_layers(self) -> list[Layer]:
        """The layers that took time, the slowest first."""
        timed = [layer for layer in self.layers if layer.durations]
        return sorted(timed, key=lambda layer: -layer.timing.median)

    @property
    def between(self) -> float:
        """The time of an inference that no layer took: threads wait for each other, and there is a begin and an end."""
        return self.timing.median - sum(layer.timing.median for layer in self.timed_layers)

    def share(self, time: float) -> float:
        """The part that `time` is of an inference."""
        return time / self.timing.median if self.timing.median else 0.0

    @cached_property
    def operators(self) -> list[Total]:
        """The sums of layers by operator, the slowest first."""
        return _totals(self.timed_layers, lambda layer: layer.operator)

    @cached_property
    def kinds(self) -> list[Total]:
        """The sums of layers by operator and family of kernels, the slowest first."""
        return _totals(self.timed_layers, lambda layer: layer.kind)

    @property
    def title(self) -> str:
        """What people call the model."""
        return title(self.model, self.source)


def title(model: str, source: str) -> str:
    """What people call a model: the file or folder that it is in, else its name."""
    return PurePath(source).name or model


@dataclass(frozen=True)
class Total:
    """What some layers did together."""

    name: str
    count: int
    #: The sum of the medians; the spreads count as independent of each other.
    timing: Timing
    operations: int
    bytes: int
    limit: float


def _totals(layers: list[Layer], key: Callable[[Layer], str]) -> list[Total]:
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(key(layer), []).append(layer)
    totals = [
        Total(
            name,
            len(group),
            total(layer.timing for layer in group),
            sum(layer.operations for layer in group),
            sum(layer.bytes for layer in group),
            sum(layer.limit for layer in group),
        )
        for name, group in groups.items()
    ]
    return sorted(totals, key=lambda total: -total.timing.median)


def total(timings: Iterable[Timing]) -> Timing:
    """The sum of durations that scatter independently of each other."""
    timings = list(timings)
    return Timing(sum(timing.median for timing in timings), sum(timing.spread**2 for timing in timings) ** 0.5)

"""Profiles to test with that nothing measured."""

from __future__ import annotations

from dataclasses import replace

from optimium.runtime import MemoryBlock, MemoryDetails
from optimium.runtime.report import Layer, Machine, Profile, Span

MACHINE = Machine("a CPU", "portable", 1e11, 4e11, 2e11, 1e11, 2e10, 1 << 20, 1 << 25)

CONV = Layer(
    name="conv",
    operator="Conv",
    kernel="pointwise 1x1, 6x64 tile",
    device="native:x64:0@0",
    inputs=("x", "w"),
    outputs=("y",),
    input_shapes=((1, 8, 8, 4), (16, 4, 1, 1)),
    output_shapes=((1, 8, 8, 16),),
    operations=8192,
    in_integers=False,
    bytes_read=1024,
    constant_bytes=256,
    bytes_written=4096,
    is_run=True,
    is_shared=True,
    limit=400.0,
    durations=(900, 1000, 1100),
)
RELU = replace(
    CONV,
    name="relu",
    operator="Relu",
    kernel="relu",
    inputs=("y",),
    outputs=("z",),
    input_shapes=((1, 8, 8, 16),),
    output_shapes=((1, 8, 8, 16),),
    operations=0,
    bytes_read=4096,
    constant_bytes=0,
    is_shared=False,
    limit=50.0,
    durations=(200, 200, 400),
)
NOTHING = {"bytes_read": 0, "bytes_written": 0, "is_run": False, "limit": 0.0, "durations": ()}
VIEW = replace(RELU, name="view", operator="Reshape", kernel="view", **NOTHING)


def profile(*layers: Layer, durations: tuple[int, ...] = (1400, 1500, 1600), source: str = "folder/model.onnx") -> Profile:
    """A profile of those layers: of a convolution, a view and an activation where there are none."""
    layers = layers or (CONV, VIEW, RELU)
    blocks = (MemoryBlock("y", 0, 4096, 0, len(layers) - 1),)
    return Profile(
        model="network",
        source=source,
        threads=2,
        precision="f32",
        shapes={"x": (1, 4, 8, 8)},
        version="0.0.0",
        date="2000-01-01T00:00:00+00:00",
        machine=MACHINE,
        layers=layers,
        durations=durations,
        spans=_spans(layers, durations),
        memory=MemoryDetails(4096, 0, 256, blocks),
        lost_events=0,
    )


def _spans(layers: tuple[Layer, ...], durations: tuple[int, ...]) -> tuple[Span, ...]:
    """The queue, then the inferences: every layer on both threads where it is shared."""
    spans, begin = [Span("QUEUE", 0, 90)], 100
    for number, duration in enumerate(durations):
        spans.append(Span("MODEL_EXECUTE", begin, begin + duration))
        now = begin
        for index, layer in enumerate(layers):
            if layer.durations:
                end = now + layer.durations[number]
                spans += [Span("LAYER_EXECUTE", now, end, index, thread) for thread in range(1 + layer.is_shared)]
                now = end
        begin += duration + 10
    return tuple(spans)

"""Times of engines that take turns.

The threads of an engine spin for a while after a call and take a core from whoever runs next. So engines alternate in
blocks, with a pause after each, and the first call of a block is not measured. In every round another engine begins.

Machines have slow seconds, virtual ones above all: two of their cores may share one for a while. A round in which any engine
was far from its best is therefore followed by another one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

from .engines import Engine

BLOCK = 0.1
"""Seconds of inferences of one engine."""
PAUSE = 0.06
"""Seconds until the next engine begins."""
CALM = 1.15
"""Up to so many times the best time of each engine, a round was a calm one."""
MOST = 3
"""Rounds for each that was asked for, at most."""


@dataclass(frozen=True)
class Times:
    """Milliseconds for one inference."""

    minimum: float
    median: float
    count: int


def block(engine: Engine) -> list[float]:
    """Seconds of each inference of one block; one inference at least."""
    engine.run()
    times: list[float] = []
    end = time.perf_counter() + BLOCK
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        engine.run()
        times.append(time.perf_counter() - start)
    time.sleep(PAUSE)
    return times


def calm_rounds(blocks: list[dict[str, list[float]]]) -> list[dict[str, list[float]]]:
    """The rounds in which every engine came near its best."""
    fastest = [{name: min(seconds) for name, seconds in turn.items()} for turn in blocks]
    best = {name: min(turn[name] for turn in fastest) for name in blocks[0]}
    return [
        turn
        for turn, times in zip(blocks, fastest, strict=True)
        if all(time <= CALM * best[name] for name, time in times.items())
    ]


def measure(engines: Mapping[str, Engine], rounds: int) -> dict[str, Times]:
    """The times of every engine over `rounds` calm rounds, or over three times as many where they are not to be had."""
    blocks: list[dict[str, list[float]]] = []
    order = list(engines)
    while len(blocks) < rounds or (len(calm_rounds(blocks)) < rounds and len(blocks) < MOST * rounds):
        blocks.append({name: block(engines[name]) for name in order})
        order = order[1:] + order[:1]
    seconds = {name: [time for turn in blocks for time in turn[name]] for name in engines}
    return {
        name: Times(min(values) * 1e3, statistics.median(values) * 1e3, len(values))
        for name, values in seconds.items()
    }

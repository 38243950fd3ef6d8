"""Times of engines that take turns.

The threads of an engine spin for a while after a call and take a core from whoever runs next. So engines alternate in
blocks, with a pause after each, and the first call of a block is not measured. In every round another engine begins.
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


def measure(engines: Mapping[str, Engine], rounds: int) -> dict[str, Times]:
    """The times of every engine over `rounds` blocks each."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    order = list(engines)
    for _ in range(rounds):
        for name in order:
            seconds[name] += block(engines[name])
        order = order[1:] + order[:1]
    return {
        name: Times(min(values) * 1e3, statistics.median(values) * 1e3, len(values))
        for name, values in seconds.items()
    }

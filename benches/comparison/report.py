"""What was measured: as a table for people, as Markdown for a page, as JSON for programs."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .engines import ENGINES, OURS, version
from .measure import Times

SLOW = 0.9
"""A machine that reaches less than this share of its best in the whole run was busy with something else."""


@dataclass
class Row:
    """One model at one number of threads."""

    model: str
    threads: int
    gflop: float = 0.0
    limit: float = 0.0
    """Milliseconds of the multiply-adds alone, at the machine's peak."""
    times: dict[str, Times] = field(default_factory=dict)
    distances: dict[str, float] = field(default_factory=dict)
    """Of this runtime's outputs from each rival's."""
    tolerance: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)
    """Why an engine could not run the model."""
    machine: list[dict[str, float]] = field(default_factory=list)
    """The machine's rates before and after."""

    @property
    def best_rival(self) -> str | None:
        """The fastest engine that is not this one."""
        rivals = {name: times.minimum for name, times in self.times.items() if name != OURS}
        return min(rivals, key=rivals.__getitem__) if rivals else None

    @property
    def ratio(self) -> float | None:
        """How many times as long the fastest rival takes."""
        rival = self.best_rival
        if rival is None or OURS not in self.times:
            return None
        return self.times[rival].minimum / self.times[OURS].minimum

    @property
    def agrees(self) -> bool:
        """Whether the outputs are within the tolerance of a rival's, where there is a rival."""
        return OURS in self.times and min(self.distances.values(), default=0.0) <= self.tolerance

    @property
    def fraction(self) -> float:
        """The limit by the time taken: 1 is the peak."""
        return self.limit / self.times[OURS].minimum if OURS in self.times else 0.0

    def is_slow(self, best: float) -> bool:
        """Whether the machine was slower than in its best minute."""
        return min((rates["f32"] for rates in self.machine), default=best) < SLOW * best

    def to_json(self) -> dict[str, Any]:
        """Everything, with what follows from it."""
        return {**asdict(self), "ratio": self.ratio, "fraction_of_limit": self.fraction, "agrees": self.agrees}


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean; 1 of nothing."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms)) if logarithms else 1.0


def conditions() -> dict[str, Any]:
    """Versions, CPU and command: what a reader needs to repeat the run."""
    return {
        "command": " ".join(["python", *sys.argv]),
        "cpu": cpu(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ENGINES},
    }


def cpu() -> str:
    """The name of the CPU, with family and model where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" not in fields:
        return platform.processor()
    return f"{fields['model name']}, family {fields.get('cpu family')}, model {fields.get('model')}"


def header(names: list[str]) -> list[str]:
    """The names of the columns."""
    return ["model", "threads", "GFLOP", "limit", *names, "ratio", "of limit", "apart"]


def cells(row: Row, names: list[str], best: float) -> list[str]:
    """One row, as text."""
    times = [f"{t.minimum:.3f} ({t.median:.3f})" if (t := row.times.get(name)) else "–" for name in names]
    apart = f"{min(row.distances.values()):.0e}" if row.distances else "–"
    return [
        row.model,
        str(row.threads),
        f"{row.gflop:.2f}",
        f"{row.limit:.2f}",
        *times,
        (f"{row.ratio:.2f}" if row.ratio else "–") + (" slow" if row.is_slow(best) else ""),
        f"{row.fraction:.0%}" if row.fraction else "–",
        apart + ("" if row.agrees else " !"),
    ]


def best_peak(rows: list[Row]) -> float:
    """The machine's best `f32` rate in the run."""
    return max((rates["f32"] for row in rows for rates in row.machine), default=0.0)


def print_table(rows: list[Row], names: list[str], console: Console) -> None:
    """The table, and below it what it cannot hold."""
    table = Table(caption="milliseconds for one inference: minimum (median); ratio: the fastest rival by this runtime")
    for index, title in enumerate(header(names)):
        table.add_column(title, justify="left" if index == 0 else "right", no_wrap=True)
    best = best_peak(rows)
    for row in rows:
        style = "red" if not row.agrees else "green" if (row.ratio or 0) > 1 else "yellow"
        table.add_row(*cells(row, names, best), style=style)
    console.print(table)
    for line in [*means(rows), *remarks(rows)]:
        console.print(line, highlight=False, markup=False)


def means(rows: list[Row]) -> list[str]:
    """The geometric mean of the ratios for each number of threads."""
    lines = []
    for threads in sorted({row.threads for row in rows}):
        ratios = [row.ratio for row in rows if row.threads == threads and row.ratio]
        if ratios:
            first = sum(ratio > 1 for ratio in ratios)
            mean = geometric_mean(ratios)
            plural = "" if threads == 1 else "s"
            lines.append(f"{threads} thread{plural}: {mean:.3f} in the geometric mean, first on {first} of {len(ratios)}")
    return lines


def remarks(rows: list[Row]) -> list[str]:
    """What went wrong: engines that could not run a model, and outputs that are too far apart."""
    lines = []
    for row in rows:
        for name, reason in row.reasons.items():
            if name == OURS or "reads no" not in reason:
                lines.append(f"{row.model}: {name} does not run it: {reason.splitlines()[0][:200]}")
        if OURS in row.times and not row.agrees:
            apart = ", ".join(f"{name} {distance:.1e}" for name, distance in row.distances.items())
            lines.append(f"{row.model}: outputs are apart from those of {apart}; {row.tolerance:.0e} is allowed")
    return list(dict.fromkeys(lines))


def markdown(rows: list[Row], names: list[str]) -> str:
    """The table and the conditions, for a page."""
    best = best_peak(rows)
    titles = header(names)
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    lines += ["| " + " | ".join(cells(row, names, best)) + " |" for row in rows]
    told = conditions()
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items() if number)
    lines += ["", *(f"- {line}" for line in means(rows)), f"- {told['cpu']}; {best / 1e9:.0f} GFLOP/s a core in f32"]
    return "\n".join([*lines, f"- {versions}", f"- `{told['command']}`", ""])

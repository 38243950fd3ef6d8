"""Profiles as pages: one HTML file, which needs nothing else.

What the page shows is decided here; how, by the files beside this one, which are put into the page as they are.
"""

from __future__ import annotations

import html
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..comparison import Change, Comparison
from ..data import Layer, Profile, Span, Total

#: In the order in which they are put together.
_SCRIPTS = ("basics.js", "bars.js", "timeline.js", "memory.js", "table.js", "comparison.js", "main.js")


def write_html(
    profile: Profile, path: str | os.PathLike[str], comparison: Comparison | None = None
) -> None:
    """Writes the page of a profile, and of what changed from another one where a comparison is given."""
    Path(path).write_text(page(profile, comparison), encoding="utf-8")


def page(profile: Profile, comparison: Comparison | None = None) -> str:
    """The page."""
    folder = files(__name__)

    def read(name: str) -> str:
        return folder.joinpath(name).read_text(encoding="utf-8")

    # Names come from model files: nothing in them may end the element that the data are in.
    data = json.dumps(page_data(profile, comparison), separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "{{title}}": html.escape(f"{profile.title} – profile"),
        "{{style}}": read("style.css"),
        "{{script}}": "\n".join(read(name) for name in _SCRIPTS),
        "{{data}}": data,
    }
    text = read("page.html")
    for place, content in parts.items():
        before, _, after = text.partition(place)
        text = before + content + after
    return text


def page_data(profile: Profile, comparison: Comparison | None = None) -> dict[str, Any]:
    """What the page shows. Times are in nanoseconds."""
    median, spread = profile.timing
    return {
        "title": profile.title,
        "model": profile.model,
        "source": profile.source,
        "threads": profile.threads,
        "precision": profile.precision,
        "shapes": profile.shapes,
        "version": profile.version,
        "date": profile.date,
        "machine": vars(profile.machine),
        "inferences": len(profile.durations),
        "per_second": profile.inferences_per_second,
        "lost": profile.lost_events,
        "median": median,
        "spread": spread,
        "between": profile.between,
        "layers": [_layer(profile, index, layer) for index, layer in enumerate(profile.layers)],
        "kinds": [_kind(profile, total) for total in profile.kinds],
        "timeline": [_span(span) for span in typical_inference(profile)],
        "memory": _memory(profile),
        "comparison": None if comparison is None else _comparison(comparison),
    }


def _layer(profile: Profile, index: int, layer: Layer) -> dict[str, Any]:
    return {
        "index": index,
        "name": layer.name,
        "operator": layer.operator,
        "kind": layer.kind,
        "kernel": layer.kernel,
        "shape": "×".join(map(str, layer.output_shapes[0])) if layer.output_shapes else "",
        "time": layer.timing.median,
        "spread": layer.timing.spread,
        "share": profile.share(layer.timing.median),
        "rate": layer.rate,
        "limit": layer.limit,
        "fraction": layer.fraction,
        "bytes": layer.bytes,
        "shared": layer.is_shared,
        "timed": bool(layer.durations),
    }


def _kind(profile: Profile, total: Total) -> dict[str, Any]:
    return {
        "name": total.name,
        "count": total.count,
        "time": total.timing.median,
        "share": profile.share(total.timing.median),
        "limit": total.limit,
    }


def typical_inference(profile: Profile) -> list[Span]:
    """The inference that is closest to the median, and everything that went on during it."""
    inferences = [span for span in profile.spans if span.activity == "MODEL_EXECUTE"]
    if not inferences:
        return []
    median = profile.timing.median
    typical = min(inferences, key=lambda span: abs(span.end - span.start - median))
    others = (span for span in profile.spans if span.activity != "MODEL_EXECUTE")
    return [typical, *(span for span in others if span.start < typical.end and typical.start < span.end)]


def _span(span: Span) -> list[Any]:
    what = span.tensor if span.activity == "COPY" else span.operation
    return [span.activity, span.start, span.end, what, span.thread]


def _memory(profile: Profile) -> dict[str, Any]:
    memory = profile.memory
    blocks = [[block.tensor, block.offset, block.bytes, block.first, block.last] for block in memory.blocks]
    sizes = {"arena": memory.arena, "scratch": memory.scratch, "constants": memory.constants}
    return {**sizes, "live": live_bytes(profile), "blocks": blocks}


def live_bytes(profile: Profile) -> list[int]:
    """For each operation the bytes of the arena that are in use while it runs."""
    changes = [0] * (len(profile.layers) + 1)
    for block in profile.memory.blocks:
        changes[block.first] += block.bytes
        changes[block.last + 1] -= block.bytes
    live, current = [], 0
    for change in changes[:-1]:
        current += change
        live.append(current)
    return live


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "baseline": comparison.baseline.title,
        "remarks": comparison.remarks,
        "total": _change(comparison.total),
        "layers": [_change(change) for change in comparison.layers],
        "operators": [_change(change) for change in comparison.operators],
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "name": change.name,
        "operator": change.operator,
        "before": change.before,
        "after": change.after,
        "difference": change.difference,
        "noise": change.noise,
        "ratio": change.ratio,
        "significant": change.is_significant,
        "kernels": [change.kernel_before, change.kernel_after],
    }

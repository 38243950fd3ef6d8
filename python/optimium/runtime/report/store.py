"""Profiles as files in JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from .._errors import InvalidArgumentError
from .._types import MemoryBlock, MemoryDetails
from .data import ACTIVITIES, Layer, Machine, Profile, Span, Total

#: What the files call themselves.
FORMAT = "optimium-profile"
#: The version of their form.
FORMAT_VERSION = 1

_Path = str | os.PathLike[str]


def to_json(profile: Profile) -> dict[str, Any]:
    """A profile as data for JSON, with what follows from it: for each layer its median, share, rate and fraction of the limit."""
    data = asdict(replace(profile, spans=()))
    data["spans"] = profile.spans
    for stored, layer in zip(data["layers"], profile.layers, strict=True):
        stored.update(layer.timing._asdict())
        stored["share"] = profile.share(layer.timing.median)
        stored["rate"], stored["fraction"] = layer.rate, layer.fraction
    summary = {
        **profile.timing._asdict(),
        "between": profile.between,
        "inferences_per_second": profile.inferences_per_second,
        "operators": [_total(profile, total) for total in profile.operators],
        "kinds": [_total(profile, total) for total in profile.kinds],
    }
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "unit": "ns", "summary": summary, **data}


def _total(profile: Profile, total: Total) -> dict[str, Any]:
    return {
        "name": total.name,
        "count": total.count,
        **total.timing._asdict(),
        "share": profile.share(total.timing.median),
        "operations": total.operations,
        "bytes": total.bytes,
        "limit": total.limit,
    }


def save(profile: Profile, path: _Path) -> None:
    """Writes a profile, which `load` reads."""
    Path(path).write_text(json.dumps(to_json(profile), separators=(",", ":")) + "\n", encoding="utf-8")


def load(path: _Path) -> Profile:
    """Reads a profile that `save` wrote. Raises InvalidArgumentError for other files."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{path} is not a profile: it is no JSON ({error})") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InvalidArgumentError(f"{path} is not a profile: `optimium profile MODEL --json FILE` writes one")
    if data.get("format_version") != FORMAT_VERSION:
        told = data.get("format_version")
        raise InvalidArgumentError(f"{path} is a profile of version {told}; this runtime reads version {FORMAT_VERSION}")
    try:
        profile = _profile(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgumentError(f"{path} is a damaged profile: {type(error).__name__} {error}") from error
    if not _fits(profile, Profile) or not _is_consistent(profile):
        raise InvalidArgumentError(f"{path} is a damaged profile: its values do not fit each other")
    return profile


def _profile(data: dict[str, Any]) -> Profile:
    memory = data["memory"]
    blocks = tuple(MemoryBlock(**block) for block in memory["blocks"])
    return Profile(
        **{name: data[name] for name in ("model", "source", "threads", "precision", "version", "date", "lost_events")},
        shapes={name: tuple(shape) for name, shape in data["shapes"].items()},
        machine=Machine(**data["machine"]),
        layers=tuple(_layer(layer) for layer in data["layers"]),
        durations=tuple(data["durations"]),
        spans=tuple(Span(*span) for span in data["spans"]),
        memory=MemoryDetails(memory["arena"], memory["scratch"], memory["constants"], blocks),
    )


def _layer(data: dict[str, Any]) -> Layer:
    fields = {name: data[name] for name in Layer.__dataclass_fields__}
    for name in ("inputs", "outputs", "durations"):
        fields[name] = tuple(fields[name])
    for name in ("input_shapes", "output_shapes"):
        fields[name] = tuple(tuple(shape) for shape in fields[name])
    return Layer(**fields)


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of an annotated type, down to its parts."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(key, arguments[0]) and _fits(value[key], arguments[1]) for key in value)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if not isinstance(value, kind):
        return False
    parts = get_type_hints(kind) if is_dataclass(kind) or hasattr(kind, "_fields") else {}
    return all(_fits(getattr(value, name), part) for name, part in parts.items())


def _is_consistent(profile: Profile) -> bool:
    """Whether what refers to something else finds it."""
    layers = len(profile.layers)
    shapes = all(
        len(layer.inputs) == len(layer.input_shapes) and len(layer.outputs) == len(layer.output_shapes)
        for layer in profile.layers
    )
    spans = all(
        span.activity in ACTIVITIES and (span.operation is None or 0 <= span.operation < layers) for span in profile.spans
    )
    return bool(profile.durations) and shapes and spans

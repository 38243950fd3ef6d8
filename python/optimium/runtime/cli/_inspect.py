"""What there is to say about models and hosts, as data and as tables."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

import optimium.runtime as rt

from . import _tables


def _tensor(info: rt.TensorInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "type": str(info.type),
        "shape": [dim if isinstance(dim, int) else str(dim) for dim in info.shape],
        "bytes": None if info.shape.dynamic else info.size,
        "scheme": str(info.scheme) if info.scheme else None,
    }


def files(path: Path) -> list[dict[str, Any]]:
    """The files of a model folder: name, bytes and role; none for other models."""
    manifest = path / "manifest.json"
    if not manifest.is_file():
        return []
    listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    return [{"name": file["name"], "bytes": file["size"], "role": file["role"]} for file in listed]


def report(model: rt.Model, path: Path) -> dict[str, Any]:
    """Everything about a model that was loaded from `path`."""
    operations = model.operations
    constants = [info for info in model.tensors if info.constant]
    return {
        "name": model.name,
        "is_dynamic": model.is_dynamic,
        "files": files(path),
        "inputs": [_tensor(model.get_tensor(name)) for name in model.input_names],
        "outputs": [_tensor(model.get_tensor(name)) for name in model.output_names],
        "operators": dict(Counter(operation.operator for operation in operations).most_common()),
        "constants": {"count": len(constants), "bytes": sum(info.size for info in constants)},
        "tensors": len(model.tensors),
        "plan": [
            {
                "name": operation.name,
                "operator": operation.operator,
                "kernel": operation.kernel,
                "device": str(operation.device),
                "inputs": list(operation.inputs),
                "outputs": list(operation.outputs),
            }
            for operation in operations
        ],
    }


def show(report: dict[str, Any], plan: bool, console: Console) -> None:
    """Prints the report of a model."""
    constants = report["constants"]
    console.print(f"{report['name']}: {'dynamic' if report['is_dynamic'] else 'static'} shapes", markup=False)
    console.print(f"{constants['count']} constants of {constants['bytes']} bytes, {report['tensors']} tensors")
    if report["files"]:
        table = _tables.table("files", "name", "role", "bytes")
        for file in report["files"]:
            table.add_row(file["name"], file["role"], str(file["bytes"]))
        console.print(table, markup=False)
    for side in ("inputs", "outputs"):
        table = _tables.table(side, "name", "type", "shape", "bytes", "quantization")
        for info in report[side]:
            size = "" if info["bytes"] is None else str(info["bytes"])
            shape = f"[{', '.join(map(str, info['shape']))}]"
            table.add_row(info["name"], info["type"], shape, size, info["scheme"] or "")
        console.print(table, markup=False)
    operators = _tables.table("operators", "operator", "count")
    for operator, count in report["operators"].items():
        operators.add_row(operator, str(count))
    console.print(operators, markup=False)
    if plan:
        steps = _tables.table("plan", "step", "operator", "kernel", "device", "inputs", "outputs")
        for step in report["plan"]:
            texts = step["kernel"], step["device"], ", ".join(step["inputs"]), ", ".join(step["outputs"])
            steps.add_row(_tables.Name(step["name"]), step["operator"], *map(_tables.remark, texts))
        console.print(steps, markup=False)


def host(info: rt.HostInfo) -> dict[str, Any]:
    """Everything about a host."""
    return {
        "name": info.name,
        "os": info.os.value,
        "architecture": info.architecture.value,
        "devices": [{"name": device.name, "features": _features(device)} for device in info.devices],
    }


def _features(device: rt.DeviceID) -> list[str]:
    capability = device.capability
    return [str(feature) for feature in getattr(capability, "features", ())]

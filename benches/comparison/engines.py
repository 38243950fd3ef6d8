"""The engines that are compared. Each is optional: one that is not installed, or cannot read a file, says so."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Arrays = dict[str, np.ndarray]

OURS = "optimium"


class Unavailable(Exception):
    """The engine cannot run this model here; the message says why."""


@dataclass(frozen=True)
class Settings:
    """What every engine is asked for."""

    threads: int
    precision: str
    """`f32`, or `bf16`: OpenVINO as it comes, and this runtime with `precision="bf16"`."""


class Engine(Protocol):
    """A model, ready to run on fixed inputs."""

    def run(self) -> object:
        """One inference, from the inputs in memory to the outputs in memory."""

    def outputs(self) -> list[np.ndarray]:
        """What the last inference gave, in the model's order."""


class Optimium:
    def __init__(self, path: Path, settings: Settings, inputs: Arrays) -> None:
        import optimium.runtime as rt

        options: dict[str, Any] = {} if settings.precision == "f32" else {"precision": settings.precision}
        model = rt.load_model(path, threads=settings.threads, **options)
        shapes = {name: rt.TensorShape(*array.shape) for name, array in inputs.items()}
        self._inputs = inputs
        self._outputs = {
            name: np.empty([int(n) for n in model.infer_shape(name, shapes)], model.get_tensor(name).type.to_dtype())
            for name in model.output_names
        }
        self._request = model.create_request()

    def run(self) -> None:
        self._request.infer(self._inputs, self._outputs)
        self._request.wait()

    def outputs(self) -> list[np.ndarray]:
        return list(self._outputs.values())


class OnnxRuntime:
    def __init__(self, path: Path, settings: Settings, inputs: Arrays) -> None:
        import onnxruntime as ort

        if path.suffix != ".onnx":
            raise Unavailable(f"reads no {path.suffix} files")
        options = ort.SessionOptions()
        options.intra_op_num_threads = settings.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = inputs
        self._results: list[np.ndarray] = []

    def run(self) -> None:
        self._results = self._session.run(None, self._inputs)

    def outputs(self) -> list[np.ndarray]:
        return self._results


class OpenVino:
    """OpenVINO with one stream and one request; in f32, which on some CPUs it has to be told."""

    def __init__(self, path: Path, settings: Settings, inputs: Arrays) -> None:
        import openvino as ov

        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": settings.threads,
        }
        if settings.precision == "f32":
            config["INFERENCE_PRECISION_HINT"] = "f32"
        compiled = ov.Core().compile_model(str(path), "CPU", config)
        self._request = compiled.create_infer_request()
        order = list(inputs.values())
        for index, port in enumerate(compiled.inputs):
            known = next((name for name in port.names if name in inputs), None)
            array = order[index] if known is None else inputs[known]
            self._request.set_input_tensor(index, ov.Tensor(array, shared_memory=True))
        self._count = len(compiled.outputs)

    def run(self) -> None:
        self._request.infer(share_outputs=True)

    def outputs(self) -> list[np.ndarray]:
        return [self._request.get_output_tensor(index).data for index in range(self._count)]


class LiteRt:
    """LiteRT, with its XNNPACK delegate, which it uses by itself."""

    def __init__(self, path: Path, settings: Settings, inputs: Arrays) -> None:
        from ai_edge_litert.interpreter import Interpreter

        if path.suffix != ".tflite":
            raise Unavailable(f"reads no {path.suffix} files")
        interpreter = Interpreter(str(path), num_threads=settings.threads)
        for detail in interpreter.get_input_details():
            interpreter.resize_tensor_input(detail["index"], inputs[detail["name"]].shape)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], inputs[detail["name"]])
        self._interpreter = interpreter

    def run(self) -> None:
        self._interpreter.invoke()

    def outputs(self) -> list[np.ndarray]:
        return [self._interpreter.get_tensor(detail["index"]) for detail in self._interpreter.get_output_details()]


ENGINES: dict[str, tuple[str, Callable[[Path, Settings, Arrays], Engine]]] = {
    OURS: ("optimium-runtime", Optimium),
    "onnxruntime": ("onnxruntime", OnnxRuntime),
    "openvino": ("openvino", OpenVino),
    "litert": ("ai-edge-litert", LiteRt),
}
"""For each engine the name of its package, and its class. This runtime is the first."""


def version(name: str) -> str | None:
    """The installed version of an engine, None where it is not installed."""
    try:
        return importlib.metadata.version(ENGINES[name][0])
    except importlib.metadata.PackageNotFoundError:
        return None


def open_engines(
    names: list[str], path: Path, settings: Settings, inputs: Arrays
) -> tuple[dict[str, Engine], dict[str, str]]:
    """The engines of `names` that can run the model, and why the others cannot."""
    engines: dict[str, Engine] = {}
    reasons: dict[str, str] = {}
    for name in names:
        try:
            engine = ENGINES[name][1](path, settings, inputs)
            engine.run()
            engines[name] = engine
        # Whatever an engine raises for a model, the others are still compared.
        except Exception as error:
            reasons[name] = str(error).strip() or type(error).__name__
    return engines, reasons

"""The networks of `benches/networks`, small ones of the same structure, against ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest

import optimium.runtime as rt

pytest.importorskip("onnxruntime")
from comparison.agreement import distance, tolerance
from comparison.engines import OnnxRuntime, Optimium, Settings
from comparison.inputs import model_inputs
from comparison.work import count
from networks import NETWORKS, build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_with_onnx_runtime(name: str, threads: int, folder: Path) -> None:
    path = build(name, folder, small=True)
    inputs, settings = model_inputs(path, {}), Settings(threads, "f32")
    engines = [make(path, settings, inputs) for make in (Optimium, OnnxRuntime)]
    for engine in engines:
        engine.run()
    ours, theirs = (engine.outputs() for engine in engines)
    allowed = tolerance("f32", NETWORKS[name].int8)
    assert all(np.isfinite(array).all() for array in ours)
    assert distance(ours, theirs) <= allowed


def test_work_is_counted(folder: Path) -> None:
    path = build("super_resolution", folder, small=True)
    pixels, width = 17 * 17, 8
    multiply_adds = pixels * 9 * (3 * width + 5 * width * width + width * 4 * width + 4 * width * 3)
    work = count(path, model_inputs(path, {}))
    assert (work.floats, work.integers, work.quantized) == (2.0 * multiply_adds, 0.0, False)


def test_the_machine_has_rates() -> None:
    rates = rt._native.probe_machine()
    assert set(rates) == {"f32", "int8", "l2", "l3", "memory"}
    assert all(np.isfinite(rate) and rate > 0 for rate in rates.values())

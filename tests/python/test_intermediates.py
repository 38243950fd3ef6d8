"""Tensors inside of a model, by the names that its author gave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import path_of

import optimium.runtime as rt

IMAGE = path_of("image")
#: Two operations in one layer round once less.
TOLERANCE = 1e-5


def ran(model: rt.Model) -> tuple[rt.InferRequest, np.ndarray, np.ndarray]:
    """A request after an inference, its input and its output."""
    x = np.random.default_rng(1).standard_normal((1, 3, 6, 7)).astype(np.float32)
    request, output = model.create_request(), np.zeros((1, 4), np.float32)
    request.infer([x], [output])
    request.wait()
    return request, x, output


@pytest.fixture(params=["file", "folder"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "file":
        return IMAGE
    rt.convert(IMAGE, tmp_path / "image")
    return tmp_path / "image"


def load(path: Path, **options: Any) -> rt.Model:
    return rt.load_model(path, threads=1, memory_optimization=False, **options)


def reference(kept: rt.InferRequest, x: np.ndarray) -> dict[str, np.ndarray]:
    """What the tensors are, from the constants of the model."""
    w1, b1, w2 = (kept.get_tensor(name).to_numpy() for name in ("w1", "b1", "w2"))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    conv1 = np.einsum("nchwij,ocij->nohw", windows, w1) + b1[:, None, None]
    relu1 = np.maximum(conv1, 0)
    conv2 = np.einsum("nchw,oc->nohw", relu1, w2[:, :, 0, 0])
    total = conv2 + relu1
    relu2 = np.maximum(total, 0)
    return {"conv1": conv1, "relu1": relu1, "conv2": conv2, "sum": total, "relu2": relu2, "same": relu2}


KEPT = ["conv1", "conv2", "sum"]


def test_tensors_behind_fused_layers(path: Path) -> None:
    model = load(path)
    request, x, _ = ran(model)
    expected = reference(ran(load(IMAGE, keep_tensors=KEPT))[0], x)
    for name in ("relu1", "relu2", "same"):
        assert model.get_tensor(name).shape == rt.TensorShape(1, 8, 6, 7)
        found = request.get_tensor(name).to_numpy()
        np.testing.assert_allclose(found, expected[name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize(("name", "into"), [("conv1", "relu1"), ("conv2", "relu2"), ("sum", "relu2")])
def test_tensors_that_were_fused_away(path: Path, name: str, into: str) -> None:
    model = load(path)
    request, *_ = ran(model)
    for ask in (model.get_tensor, request.get_tensor):
        with pytest.raises(rt.InvalidOperationError, match=rf'the layer that computes "{into}".*keep_tensors=\["{name}"\]'):
            ask(name)


def test_kept_tensors(tmp_path: Path) -> None:
    plain_output = ran(rt.load_model(IMAGE, threads=1))[2]
    rt.convert(IMAGE, tmp_path / "kept", keep_tensors=KEPT)
    for model in (load(IMAGE, keep_tensors=KEPT), load(tmp_path / "kept"), load(tmp_path / "kept", keep_tensors=KEPT)):
        assert model.output_names == ["output_0"]
        request, x, output = ran(model)
        expected = reference(request, x)
        for name, values in expected.items():
            found = request.get_tensor(name).to_numpy()
            np.testing.assert_allclose(found, values, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
        np.testing.assert_allclose(output, plain_output, rtol=TOLERANCE, atol=TOLERANCE)


def test_constants_that_were_folded(tmp_path: Path) -> None:
    source, kept = folded_model(tmp_path), ["scale", "w"]
    rt.convert(source, tmp_path / "folder")
    rt.convert(source, tmp_path / "kept", keep_tensors=kept)
    for path in (source, tmp_path / "folder"):
        model = rt.load_model(path, threads=1)
        for ask in (model.get_tensor, model.create_request().get_tensor):
            told = r'folded into the layer that computes "y".*keep_tensors=\["scale"\]'
            with pytest.raises(rt.InvalidOperationError, match=told):
                ask("scale")
            with pytest.raises(rt.InvalidArgumentError, match='no tensor "nothing"'):
                ask("nothing")
    for model in (rt.load_model(source, threads=1, keep_tensors=kept), rt.load_model(tmp_path / "kept", threads=1)):
        assert model.get_tensor("scale").constant
        request, output = model.create_request(), np.zeros((1, 4, 5, 5), np.float32)
        assert (request.get_tensor("scale").to_numpy() == 3).all()
        assert (request.get_tensor("w").to_numpy() == 0.5).all()
        request.infer([np.ones((1, 2, 5, 5), np.float32)], [output])
        request.wait()
        np.testing.assert_allclose(output, 3, rtol=TOLERANCE)


def folded_model(folder: Path) -> Path:
    """A convolution with a normalization behind it that triples it."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    values = {"w": np.full((4, 2, 1, 1), 0.5), "scale": np.full(4, 3), "zero": np.zeros(4), "one": np.ones(4)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["conv"]),
        helper.make_node("BatchNormalization", ["conv", "scale", "zero", "zero", "one"], ["y"], epsilon=0.0),
    ]
    graph = helper.make_graph(
        nodes,
        "folded",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 5, 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "folded.onnx")
    return folder / "folded.onnx"


def test_tensors_that_cannot_be_kept(path: Path) -> None:
    with pytest.raises(rt.InvalidArgumentError, match="nothing"):
        rt.load_model(path, keep_tensors=["nothing"])
    with pytest.raises(rt.TypeError):
        rt.load_model(path, keep_tensors="conv1")  # type: ignore[arg-type]
    if path.is_dir():
        with pytest.raises(rt.InvalidOperationError, match="convert"):
            rt.load_model(path, keep_tensors=["conv1"])


def test_an_empty_path_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(rt.InvalidArgumentError, match="intermediate_save_path is empty"):
        rt.load_model(IMAGE, intermediate_save_path="")
    monkeypatch.chdir(tmp_path)
    ran(rt.load_model(IMAGE, threads=1, intermediate_save_path="."))
    assert (tmp_path / "index.json").is_file()


def test_shared_memory_is_said() -> None:
    request, *_ = ran(rt.load_model(IMAGE, threads=1))
    with pytest.raises(rt.InvalidOperationError, match="memory_optimization=False"):
        request.get_tensor("relu1")
    assert request.get_tensor("w1").shape == rt.TensorShape(8, 3, 3, 3)


@pytest.mark.parametrize("scheduler", list(rt.SchedulerType))
def test_saved_tensors(path: Path, tmp_path: Path, scheduler: rt.SchedulerType) -> None:
    folder = tmp_path / "saved"
    request, x, _ = ran(rt.load_model(path, threads=2, intermediate_save_path=folder, scheduler_type=scheduler))
    entries = json.loads((folder / "index.json").read_text())
    names = [entry["name"] for entry in entries]
    assert names.index("relu1") < names.index("relu2")
    expected = reference(ran(load(IMAGE, keep_tensors=KEPT))[0], x)
    for entry in entries:
        saved = np.load(folder / entry["file"])
        assert entry["shape"] == list(saved.shape) and entry["type"] == "F32"
        if entry["name"] == "input_0.1":
            np.testing.assert_array_equal(saved, x, err_msg="a copy with channels last")
        if entry["name"] in expected:
            values = expected[entry["name"]]
            np.testing.assert_allclose(saved, values, rtol=TOLERANCE, atol=TOLERANCE, err_msg=entry["name"])
    assert all(saved != [1, 6, 7, 3] for saved in (entry["shape"] for entry in entries))
    relu1 = entries[names.index("relu1")]
    assert (relu1["node"], relu1["operator"]) == ("first_relu", "Conv") and relu1["kernel"]

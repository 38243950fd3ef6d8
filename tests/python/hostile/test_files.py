"""Files that are damaged, lie elsewhere, are no files, or contradict each other."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import path_of, reseal
from hostile.common import (
    HUGE,
    assert_clean,
    attempted,
    in_new_process,
    loaded,
    model_of,
    node,
    run_alone,
    saved,
    tensor_proto,
    value,
)
from onnx import TensorProto

import optimium.runtime as rt


def external(location: str, **entries: object) -> bytes:
    constant = tensor_proto([2], raw=None)
    constant.data_location = TensorProto.EXTERNAL
    for key, item in {"location": location, **entries}.items():
        constant.external_data.add(key=key, value=str(item))
    return model_of([node("Add", ["x", "w"], ["y"])], [value("x", [2])], [value("y", [2])], {"w": constant})


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(external("../secret.bin"), id="parent"),
        pytest.param(external("sub/../../secret.bin"), id="parent of a folder"),
        pytest.param(external("/etc/hostname"), id="absolute"),
        pytest.param(external("/dev/zero"), id="device"),
        pytest.param(external("link.bin"), id="link"),
        pytest.param(external("link/secret.bin"), id="linked folder"),
        pytest.param(external("sub"), id="folder"),
        pytest.param(external("missing.bin"), id="missing"),
        pytest.param(external(""), id="empty"),
        pytest.param(external("data.bin\0x"), id="NUL"),
        pytest.param(external("a" * 5000), id="long name"),
        pytest.param(external("data.bin", offset=4), id="past the end"),
        pytest.param(external("data.bin", offset=-4), id="negative offset"),
        pytest.param(external("data.bin", offset=2**64 - 4, length=8), id="offset that wraps"),
        pytest.param(external("data.bin", offset="text"), id="offset of text"),
        pytest.param(external("data.bin", length=4), id="wrong length"),
    ],
)
def test_data_outside_of_the_folder(tmp_path: Path, model: bytes) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(b"12345678")
    (folder / "data.bin").write_bytes(b"12345678")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises((rt.ModelError, rt.IOError), match='"w"'):
        loaded(folder, model)


def test_external_data_in_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.bin")
    assert run_alone(saved(tmp_path, external("data.bin"))).startswith(("ModelError", "IOError"))


DAMAGE = """
import pathlib, random, shutil
from inference import infer
source, target, seed, rounds = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rnd = random.Random(seed)
if source.is_dir():
    shutil.copytree(source, target)
    files = sorted(source.iterdir())
else:
    files = [source]
whole = {file: file.read_bytes() for file in files}

def damaged(data):
    data, way, at = bytearray(data), rnd.randrange(6), rnd.randrange(len(data))
    if way == 0: return data[:at]
    if way == 1: data[at:at + 4] = rnd.choice([b"\\xff\\xff\\xff\\x7f", b"\\0\\0\\0\\x80", b"\\xff" * 4, b"\\0" * 4])
    elif way == 2: del data[at:at + rnd.randrange(1, 9)]
    elif way == 3: data[at:at] = bytes(rnd.randrange(256) for _ in range(rnd.randrange(1, 9)))
    elif way == 4: data[at:at] = data[at:at + 100]
    else: data[at] ^= 1 << rnd.randrange(8)
    return data

def use(model):
    inputs = {}
    for name in model.input_names:
        info = model.get_tensor(name)
        shape = [dim if isinstance(dim, int) else 2 for dim in info.shape]
        if np.prod(shape, dtype=float) > 1e6: return
        inputs[name] = rt.tensor(np.zeros(shape, info.type.to_dtype()), dtype=info.type)
    shapes = {name: tensor.shape for name, tensor in inputs.items()}
    for name in model.output_names:
        if np.prod([dim if isinstance(dim, int) else 1 for dim in model.infer_shape(name, shapes)], dtype=float) > 1e6: return
    infer(model, inputs)

for i in range(rounds):
    file = rnd.choice(files)
    place = target / file.name if source.is_dir() else target
    place.write_bytes(damaged(whole[file]))
    try: use(rt.load_model(target, threads=1))
    except rt.RuntimeException as error:
        if "internal error" in str(error): print(i, error)
    except Exception as error: print(i, type(error), error)
    if source.is_dir(): place.write_bytes(whole[file])
"""


@pytest.mark.parametrize("name", ["affine", "classifier", "lookup", "pair", "quantized"])
@pytest.mark.parametrize("form", ["file", "folder"])
def test_damaged_models(tmp_path: Path, name: str, form: str) -> None:
    source, target = path_of(name), tmp_path / "damaged.onnx"
    if form == "folder":
        source, target = tmp_path / "whole", tmp_path / "damaged"
        rt.convert(path_of(name), source)
    assert assert_clean(in_new_process(DAMAGE, source, target, 1, 250)) == ""


def test_nonsense_files(tmp_path: Path) -> None:
    rnd = random.Random(0)
    for suffix in (".onnx", ".tflite"):
        path = tmp_path / f"nonsense{suffix}"
        for size in (0, 1, 4, 8, 9, 100, 5000):
            path.write_bytes((b"\x1c\0\0\0TFL3" if suffix == ".tflite" else b"")[:size] + rnd.randbytes(size))
            with pytest.raises(rt.ModelError):
                rt.load_model(path)


def rewritten(folder: Path, change: Callable[[dict], None]) -> None:
    """Changes the graph of a model folder, and makes the manifest agree."""
    graph = json.loads((folder / "graph.json").read_text())
    change(graph)
    (folder / "graph.json").write_text(json.dumps(graph))
    reseal(folder)


def operator(graph: dict, name: str) -> dict:
    return next(item["operator"] for item in graph["graphs"][0]["nodes"] if item["operator"]["op"] == name)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("quantized", lambda graph: operator(graph, "transpose").update(permutation=[0, 2, 3])),
        ("quantized", lambda graph: operator(graph, "transpose").update(permutation=[0, 3, 1, 2])),
        ("quantized", lambda graph: operator(graph, "conv").update(strides=[0, 1])),
        ("quantized", lambda graph: operator(graph, "conv").update(strides=[2, 2])),
        ("quantized", lambda graph: operator(graph, "conv").update(dilations=[1, HUGE])),
        ("quantized", lambda graph: operator(graph, "conv").update(groups=3)),
        ("quantized", lambda graph: graph["schemes"][2]["scales"].pop()),
        ("quantized", lambda graph: graph["schemes"][2].update(axis=3)),
        ("quantized", lambda graph: graph["graphs"][0]["values"][1]["type"].update(shape=[1, 4, 8])),
        ("quantized", lambda graph: graph["graphs"][0]["values"][-1]["type"].update(shape=[1, 6, 6, 9])),
        ("classifier", lambda graph: graph["graphs"][0]["nodes"].reverse()),
    ],
    ids=range(11),
)
def test_folders_whose_graph_contradicts_itself(tmp_path: Path, name: str, change: Callable) -> None:
    rt.convert(path_of(name), tmp_path / "model")
    rewritten(tmp_path / "model", change)
    out = run_alone(tmp_path / "model")
    errors = ("ContainerError", "ModelError", "NotImplementedError", "ShapeError", "OutOfResourceError")
    assert out.startswith(errors), out


def test_damaged_tensor_files(tmp_path: Path) -> None:
    rnd = random.Random(0)
    for suffix in ("", ".npy"):
        path = tmp_path / f"tensor{suffix}"
        rt.tensor(np.arange(24, dtype=np.float32).reshape(4, 6)).save(path)
        data = path.read_bytes()
        for size in range(len(data)):
            path.write_bytes(data[:size])
            with pytest.raises(rt.IOError):
                rt.load_tensor(path)
        for _ in range(200):
            flipped = bytearray(data)
            flipped[rnd.randrange(len(data))] ^= 1 << rnd.randrange(8)
            path.write_bytes(flipped)
            try:
                rt.load_tensor(path)
            except (rt.IOError, rt.TypeError):
                pass


def test_tensor_in_a_device() -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
    out = assert_clean(in_new_process(limit + attempted("rt.load_tensor('/dev/zero')"), timeout=10))
    assert out.startswith("IOError")


@pytest.mark.parametrize("path", ["", "nonexistent", "/", "/dev/null", "a\0b", "\udc80", "a" * 10_000])
def test_wrong_paths(path: str) -> None:
    with pytest.raises(rt.ContainerError):
        rt.load_model(path)


def test_conversion_overwrites_models_alone(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "precious").write_text("text")
    file.write_text("text")
    (tmp_path / "link").symlink_to(folder)
    for target in (folder, file, tmp_path / "link", file / "below", path_of("pair")):
        with pytest.raises(rt.ContainerError):
            rt.convert(path_of("pair"), target)
    rt.convert(path_of("pair"), tmp_path / "model")
    rt.convert(path_of("affine"), tmp_path / "model")
    (tmp_path / "model" / "notes").write_text("text")
    with pytest.raises(rt.ContainerError, match="notes"):
        rt.convert(path_of("pair"), tmp_path / "model")
    with pytest.raises(ZeroDivisionError):
        rt.convert(path_of("pair"), tmp_path / "broken", progress=lambda *_: 1 / 0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder", "link", "model"]
    assert (folder / "precious").read_text() == file.read_text() == "text"


def test_results_that_cannot_be_saved(affine_arrays: tuple) -> None:
    inputs, outputs, _ = affine_arrays
    with pytest.raises(rt.IOError, match="/proc/nope"):
        request = rt.load_model(path_of("affine"), intermediate_save_path="/proc/nope").create_request()
        request.infer(inputs, outputs)
        request.wait()

"""Tuning a model folder: what is stored, and that it changes nothing but the speed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import path_of
from test_packed import packed_file, reseal, results

import optimium.runtime as rt


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a small network whose layers have several candidates each."""
    onnx = pytest.importorskip("onnx")
    helper, random = onnx.helper, np.random.default_rng(0)
    weights = {
        "w0": random.standard_normal((16, 3, 3, 3)) / 5,
        "w1": random.standard_normal((32, 16, 1, 1)) / 4,
        "w2": random.standard_normal((32, 32, 3, 3)) / 17,
        "w3": random.standard_normal((32, 10)) / 6,
    }
    convolution = [
        helper.make_node("Conv", ["image", "w0"], ["a"], name="stem", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w1"], ["c"], name="pointwise"),
        helper.make_node("Conv", ["c", "w2"], ["d"], name="three", pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="pool"),
        helper.make_node("Flatten", ["e"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "w3"], ["logits"], name="classify"),
    ]
    image = helper.make_tensor_value_info("image", 1, ["batch", 3, "height", "width"])
    logits = helper.make_tensor_value_info("logits", 1, ["batch", 10])
    constants = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(convolution, "network", [image], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder = tmp_path_factory.mktemp("tune")
    onnx.save(model, folder / "network.onnx")
    rt.convert(folder / "network.onnx", folder / "network")
    return folder / "network"


@pytest.fixture
def folder(network: Path, tmp_path: Path) -> Path:
    """A copy that can be tuned."""
    return Path(shutil.copytree(network, tmp_path / "network"))


SIZES = {"height": 24, "width": 20}


def stored(folder: Path) -> list[dict]:
    """The machines that a folder was tuned on."""
    file = folder / "tuned.json"
    return json.loads(file.read_text())["machines"] if file.exists() else []


def same(folder: Path, expected: list[np.ndarray]) -> bool:
    return all(np.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(results(folder), expected, strict=True))


def put(folder: Path, text: str) -> None:
    """Stores that text as what was tuned."""
    (folder / "tuned.json").write_text(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    if all(file["name"] != "tuned.json" for file in manifest["files"]):
        digest = hashlib.sha256(text.encode()).hexdigest()
        manifest["files"].append({"name": "tuned.json", "size": len(text), "sha256": digest, "role": "tuned"})
        (folder / "manifest.json").write_text(json.dumps(manifest))
    reseal(folder)


def test_tuning_changes_nothing_but_the_speed(folder: Path) -> None:
    expected = results(folder)
    told: list[tuple[str, float]] = []
    for threads in (1, 2):
        report = rt.tune_model(
            folder, threads=threads, sizes=SIZES, seconds=0.3, progress=lambda *step: told.append(step)
        )
        assert report.choices == 4
        assert report.before >= report.after > 0 and report.gain >= 1
        machines = [machine for machine in stored(folder) if machine["threads"] == threads]
        assert len(machines) == (1 if report.layers else 0)
        for layer in report.layers:
            assert layer.old != layer.new and layer.name and layer.operator and layer.shape[0] == 1
            assert any(layer.new in machine["choices"].values() for machine in machines)
        assert same(folder, expected)
    fractions = [done for _, done in told]
    assert fractions[0] == 0 and fractions[-1] == 1
    assert {what for what, _ in told} > {"reading", "confirming", "storing"}
    roles = [file["role"] for file in json.loads((folder / "manifest.json").read_text())["files"]]
    assert roles.count("packed") == 1 and packed_file(folder) is not None
    assert roles.count("tuned") == (1 if stored(folder) else 0)


def test_a_tuned_folder_can_be_loaded_as_it_was(folder: Path) -> None:
    plan = [operation.kernel for operation in rt.load_model(folder, threads=1).operations]
    rt.tune_model(folder, threads=1, sizes=SIZES, seconds=0.1)
    untuned = rt.load_model(folder, threads=1, tuned=False)
    assert [operation.kernel for operation in untuned.operations] == plan


def test_tuning_in_another_precision(folder: Path) -> None:
    report = rt.tune_model(folder, threads=1, precision="bf16", sizes=SIZES, seconds=0.1)
    assert {machine["precision"] for machine in stored(folder)} == ({"bf16"} if report.layers else set())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "no JSON",
        '{"version": 9, "machines": []}',
        '{"version": 1, "machines": [{"cpu": 1}]}',
        '{"version": 1, "machines": [{"cpu":"x","target":"y","threads":-5,"precision":"f32","choices":{}}]}',
        '{"version": 1, "machines": [{"cpu":"x","target":"y","threads":5,"precision":"f64","choices":{"a":"b"}}]}',
        "[" * 50_000,
    ],
)
def test_what_cannot_be_understood_is_passed_over(folder: Path, text: str) -> None:
    expected = results(folder)
    put(folder, text)
    assert same(folder, expected)
    rt.tune_model(folder, threads=1, sizes=SIZES, seconds=0)
    assert same(folder, expected)


def test_an_exception_in_the_callback_ends_it(folder: Path) -> None:
    before = sorted((file.name, file.read_bytes()) for file in folder.iterdir())

    def stop(what: str, done: float) -> None:
        if done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rt.tune_model(folder, threads=1, sizes=SIZES, seconds=5, progress=stop)
    assert sorted((file.name, file.read_bytes()) for file in folder.iterdir()) == before


def test_impossible_arguments(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(rt.InvalidArgumentError, match="convert it first"):
        rt.tune_model(path_of("classifier"))
    with pytest.raises(rt.ContainerError):
        rt.tune_model(tmp_path / "nonexistent")
    with pytest.raises(rt.InvalidArgumentError, match="no dimension"):
        rt.tune_model(folder, sizes={"depth": 3})
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(rt.InvalidArgumentError, match="seconds"):
            rt.tune_model(folder, seconds=seconds)
    with pytest.raises(rt.InvalidArgumentError):
        rt.tune_model(folder, threads=0)
    with pytest.raises(rt.InvalidArgumentError):
        rt.tune_model(folder, precision="f8")  # type: ignore[arg-type]
    with pytest.raises(rt.TypeError):
        rt.tune_model(folder, progress=3)  # type: ignore[arg-type]


class TestCommand:
    """`optimium tune`, run in this process."""

    @staticmethod
    def run(*arguments: object) -> object:
        pytest.importorskip("typer")
        from typer.testing import CliRunner

        from optimium.runtime.cli._app import app

        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    SHORT = ("--threads", 1, "--seconds", "0.1", "--size", "height=24", "--size", "width=20")

    def test_a_table_and_lines_of_progress(self, folder: Path) -> None:
        done = self.run("tune", folder, *self.SHORT)
        assert done.exit_code == 0, done.output
        assert "of 4 layers with several kernels changed" in done.output
        assert "ms an inference" in done.output and "confirming" in done.output
        assert self.run("inspect", folder).exit_code == 0

    def test_json(self, folder: Path) -> None:
        done = self.run("tune", folder, *self.SHORT, "--json", "--precision", "bf16")
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)
        # A layer that reads or writes tensors stored in bfloat16 has one kernel; which ones do depends on the machine.
        assert 1 <= report["choices"] <= 4 and report["before"] >= report["after"] > 0

    def test_a_model_file_is_converted_where_that_is_said(self, network: Path, tmp_path: Path) -> None:
        source = network.with_suffix(".onnx")
        refused = self.run("tune", source, *self.SHORT)
        assert refused.exit_code == 1 and "convert it first" in refused.output.replace("\n", " ")
        done = self.run("tune", source, "--output", tmp_path / "tuned", *self.SHORT)
        assert done.exit_code == 0, done.output
        assert rt.load_model(tmp_path / "tuned").name == "network"

    @pytest.mark.parametrize("arguments", [("nonexistent",), ("--size", "depth=3"), ("--threads", 0)])
    def test_errors_are_told_without_a_traceback(self, folder: Path, arguments: tuple) -> None:
        model = () if arguments[0] == "nonexistent" else (folder,)
        done = self.run("tune", *model, *arguments)
        assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
        assert "error: " in done.output

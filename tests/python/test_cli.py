"""The command line, run in this process."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import processes
import pytest
from conftest import path_of

pytest.importorskip("typer")

from typer.testing import CliRunner, Result

import optimium.runtime as rt
from optimium.runtime.cli._app import app


def optimium(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_inspect() -> None:
    done = optimium("inspect", path_of("classifier"), "--plan")
    assert done.exit_code == 0, done.output
    for text in ("input_0", "F32", "[batch, 3, height, width]", "Softmax", "plan"):
        assert text in done.output
    report = json.loads(optimium("inspect", path_of("classifier"), "--json").output)
    assert report["inputs"][0]["shape"] == ["batch", 3, "height", "width"]
    assert report["constants"]["bytes"] >= 4 * 40
    assert report["plan"] and report["operators"]["Softmax"] == 1


def test_run_with_given_inputs(tmp_path: Path) -> None:
    a, b = np.full((2, 4), 3, np.float32), np.ones((2, 4), np.float32)
    np.save(tmp_path / "a.npy", a)
    np.savez(tmp_path / "rest.npz", b=b)
    output = tmp_path / "out.npz"
    arguments = ["-i", f"a={tmp_path / 'a.npy'}", "-i", tmp_path / "rest.npz", "-o", output]
    done = optimium("run", path_of("pair"), *arguments)
    assert done.exit_code == 0, done.output
    with np.load(output) as results:
        assert (results["sum"] == 4).all() and (results["difference"] == 2).all()


def test_run_with_random_inputs() -> None:
    arguments = ["--size", "batch=2", "--size", "height=8", "--repeat", 3, "--warmup", 1, "--json"]
    done = optimium("run", path_of("classifier"), *arguments)
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert report["outputs"]["output_0"]["shape"] == [2, 10]
    assert report["milliseconds"]["count"] == 3
    for precision in ("f32", "bf16"):
        assert "inferences" in optimium("run", path_of("lookup"), "--size", "n=5", "--precision", precision).output


def test_the_place_for_the_outputs_is_checked_before_the_inferences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rt, "load_model", lambda *_, **__: pytest.fail("it is loaded"))
    for output, message in (("out.txt", "an .npz file"), ("/nonexistent/out.npz", "no folder"), ("/", "is a folder")):
        done = optimium("run", path_of("pair"), "-o", output)
        assert done.exit_code == 1 and message in " ".join(done.output.split()), done.output


def test_convert_keeping_tensors(tmp_path: Path) -> None:
    done = optimium("convert", path_of("image"), "-o", tmp_path / "image", "--keep", "conv1", "--keep", "sum")
    assert done.exit_code == 0, done.output
    outputs = [name for operation in rt.load_model(tmp_path / "image").operations for name in operation.outputs]
    assert "conv1" in outputs and "sum" in outputs
    done = optimium("convert", path_of("image"), "-o", tmp_path / "image", "--keep", "nothing")
    assert done.exit_code == 1 and "nothing" in done.output


def test_convert(tmp_path: Path) -> None:
    done = optimium("convert", path_of("pair"), "-o", tmp_path / "pair")
    assert done.exit_code == 0, done.output
    assert optimium("inspect", tmp_path / "pair").exit_code == 0


def test_convert_with_and_without_packed_weights(tmp_path: Path) -> None:
    for name, options, roles in (
        ("packed", [], ["graph", "weights", "packed"]),
        ("plain", ["--no-pack"], ["graph", "weights"]),
    ):
        done = optimium("convert", path_of("classifier"), "-o", tmp_path / name, *options)
        assert done.exit_code == 0, done.output
        report = json.loads(optimium("inspect", tmp_path / name, "--json").output)
        assert [file["role"] for file in report["files"]] == roles
        assert all(file["name"] in optimium("inspect", tmp_path / name).output for file in report["files"])


def test_devices() -> None:
    assert "native:" in optimium("devices").output
    assert json.loads(optimium("devices", "--json").output)["devices"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "nonexistent"),
        ("convert", "nonexistent.onnx", "-o", "folder"),
        ("run", path_of("pair"), "-i", "a.npy"),
        ("run", path_of("pair"), "-i", "a=nonexistent.npy"),
        ("run", path_of("pair"), "--size", "m=1"),
        ("run", path_of("pair"), "-o", "out.txt"),
    ],
)
def test_errors_are_told_without_a_traceback(arguments: tuple) -> None:
    done = optimium(*arguments)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "error: " in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", ""), "the path is empty"),
        (("profile", ""), "the path is empty"),
        (("run", path_of("pair"), "--size", "n"), "looks like batch=4"),
        (("run", path_of("pair"), "--size", "n=-3"), "n cannot be -3"),
        (("run", path_of("pair"), "--size", "n=" + "9" * 5000), "sizes are numbers"),
        (("run", path_of("pair"), "--size", "n=1", "--size", "n=2"), "given twice"),
        (("tune", "folder", "--size", "n"), "looks like batch=4"),
        (("tune", "folder", "--precision", "f8"), "bf16"),
        (("convert", path_of("pair"), "--weights", "int3"), "int4"),
        (("run", path_of("pair"), "--repeat", "-1"), "--repeat"),
        (("run",), "MODEL"),
        (("run", path_of("pair"), "--nonsense"), "--nonsense"),
    ],
)
def test_a_command_line_that_makes_no_sense(arguments: tuple, message: str) -> None:
    done = optimium(*arguments)
    assert done.exit_code == 2, done.output
    assert message.lower() in " ".join(done.output.replace("│", " ").split()).lower()


COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
sys.argv[0] = "optimium"
from optimium._command import main
print("begun", flush=True)
main()
"""


@pytest.mark.parametrize("milliseconds", [0, 30, 100, 200, 400])
def test_interrupts_are_quiet(milliseconds: int) -> None:
    process = processes.start(COMMAND, "run", path_of("slow"), "--repeat", 1_000_000)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGINT)
    try:
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    # Before the command has begun the interrupt ends the process, and the command itself tells the shell.
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert "Traceback" not in told

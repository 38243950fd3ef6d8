"""Arguments and options that make no sense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import path_of
from hostile.common import assert_clean, in_new_process

import optimium.runtime as rt


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"threads": 0}, rt.InvalidArgumentError),
        ({"threads": -1}, rt.InvalidArgumentError),
        ({"threads": 10**9}, rt.InvalidArgumentError),
        ({"cores": []}, rt.InvalidArgumentError),
        ({"cores": [99_999]}, rt.InvalidArgumentError),
        ({"cores": [-1]}, rt.InvalidArgumentError),
        ({"cores": [0, 0]}, rt.InvalidArgumentError),
        ({"cores": [0], "threads": 2}, rt.InvalidArgumentError),
        ({"scheduler_type": "SIMPLE"}, rt.TypeError),
        ({"precision": "f16"}, rt.InvalidArgumentError),
        ({"precision": 16}, rt.TypeError),
        ({"devices": ["nonsense"]}, rt.InvalidArgumentError),
        ({"devices": [3]}, rt.TypeError),
        ({"devices": ["cuda:nvidia:0@0"], "strict": True}, rt.DeviceNotFoundError),
    ],
    ids=str,
)
def test_wrong_options(options: dict, error: type) -> None:
    with pytest.raises(error):
        rt.load_model(path_of("pair"), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cores": []}, "empty list; name at least one core"),
        ({"intermediate_save_path": ""}, "intermediate_save_path is empty"),
        ({"stages": 2}, "only the scheduler PIPELINE has stages, not SIMPLE"),
        ({"stages": 2, "scheduler_type": rt.SchedulerType.EXCLUSIVE}, "not EXCLUSIVE"),
        ({"queue_capacity": 2}, "the scheduler SIMPLE has no queue_capacity"),
        ({"threads": 2**70}, f"threads cannot be {2**70}: a number is negative or too large"),
    ],
    ids=str,
)
def test_wrong_options_are_explained(options: dict, message: str) -> None:
    with pytest.raises(rt.InvalidArgumentError, match=message):
        rt.load_model(path_of("pair"), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeat": -1}, "repeat cannot be -1"),
        ({"warmup": -(2**70)}, "warmup cannot be -1180591620717411303424"),
        ({"warmup_time": 10**300}, "warmup_time cannot be 1000.*…: a number is negative or too large"),
        ({"event_buffer_size": -1}, "event_buffer_size cannot be -1"),
    ],
)
def test_wrong_profiles_are_explained(options: dict, message: str) -> None:
    x = np.zeros((2, 4), np.float32)
    with pytest.raises(rt.InvalidArgumentError, match=message):
        rt.load_model(path_of("pair")).create_request().profile([x, x], [x.copy(), x.copy()], **options)


def test_negative_sizes_are_explained(tmp_path: Path) -> None:
    rt.convert(path_of("pair"), tmp_path / "pair")
    with pytest.raises(rt.InvalidArgumentError, match="sizes cannot be {'n': -1}"):
        rt.tune_model(tmp_path / "pair", sizes={"n": -1})
    for make in (lambda: rt.tensor(shape=(2, -1)), lambda: rt.tensor(1.0, shape=(-3,))):
        with pytest.raises(rt.RuntimeException, match="-1|-3"):
            make()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("rt.Expr(-2**63) // -1", "InvalidArgumentError"),
        ("load('pair').create_request().wait(2**64)", "InvalidArgumentError"),
        ("load('pair', threads=2**70)", "InvalidArgumentError"),
        ("load('pair', threads='2')", "TypeError"),
        ("load('pair', cores=[2**70])", "InvalidArgumentError"),
        ("load('pair', devices=[])", "InvalidArgumentError"),
        ("load('pair').get_input_tensor(2**70)", "InvalidArgumentError"),
        ("load('pair').create_request().set_callback(5)", "TypeError"),
        ("rt.tensor('text', shape=(2**40,))", "OutOfResourceError"),
        ("rt.tensor(shape=(1,), dtype=rt.bool_).fill('text')", "TypeError"),
        ("rt.config.set_print_precision(1.5)", "TypeError"),
        ("rt.config.set_print_threshold('8')", "TypeError"),
        ("rt.load_model(3)", "TypeError"),
        ("load('pair', devices='native')", "TypeError"),
        ("load('pair', passphrase=3)", "TypeError"),
        ("load('pair').infer_shape('sum', 5)", "TypeError"),
        ("rt.convert(MODELS + '/pair.onnx', '/tmp/nowhere', progress=5)", "TypeError"),
        ("rt.logging.enable_file_log(5)", "TypeError"),
    ],
)
def test_arguments(code: str, error: str) -> None:
    check = "print(isinstance(error, rt.RuntimeException), type(error).__name__)"
    out = assert_clean(in_new_process(f"try:\n    {code}\nexcept BaseException as error: {check}"))
    assert out == f"True {error}\n"


def test_sizes_of_the_command_line() -> None:
    typer = pytest.importorskip("typer.testing")
    from optimium.runtime.cli._app import app

    for size in ("n=1000000000000", "typo=3"):
        done = typer.CliRunner().invoke(app, ["run", str(path_of("pair")), "--size", size])
        assert done.exit_code == 1 and "error:" in done.output, (size, done.output, done.exception)


def test_passphrases_that_nothing_needs(tmp_path: Path) -> None:
    code = "rt.logging.enable_console_log()\nprint(rt.load_model(sys.argv[1], passphrase='secret').name)"
    rt.convert(path_of("pair"), tmp_path / "model")
    for path in (path_of("pair"), tmp_path / "model"):
        done = in_new_process(code, path)
        assert done.returncode == 0 and done.stdout == "pair\n" and "passphrase is ignored" in done.stderr, done

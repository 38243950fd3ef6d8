"""Outputs whose sizes data decide: left out, given, and given with a wrong size."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from conftest import path_of

import optimium.runtime as rt

X = np.array([1, -2, 0, 3], np.float32)
POSITIVE = np.array([1, 3], np.float32)


@pytest.fixture
def positives() -> rt.Model:
    """The positive elements of a vector."""
    return rt.load_model(path_of("positives"), threads=1)


def test_outputs_are_made(positives: rt.Model) -> None:
    assert positives.infer_shape("output_0", [(4,)]).dynamic
    request = positives.create_request()
    for x in (X, X[:1], X[1:3], np.tile(X, 100)):
        request.infer({"input_0": x}, {})
        request.wait()
        np.testing.assert_array_equal(request.get_tensor("output_0").to_numpy(), x[x > 0])
    request.infer([X], [])
    request.wait()
    np.testing.assert_array_equal(request.get_tensor("output_0").to_numpy(), POSITIVE)


def test_made_outputs_outlive_the_request(positives: rt.Model) -> None:
    request = positives.create_request()
    request.infer([X], [])
    request.wait()
    first = request.get_tensor("output_0")
    request.infer([-X], [])
    request.wait()
    assert first.to_numpy().tolist() == [1, 3]
    assert request.get_tensor("output_0").to_numpy().tolist() == [2]


def test_given_outputs_are_written_or_refused(positives: rt.Model) -> None:
    request = positives.create_request()
    output = np.zeros(2, np.float32)
    request.infer([X], [output])
    request.wait()
    np.testing.assert_array_equal(output, POSITIVE)
    with pytest.raises(rt.InvalidOperationError):
        request.get_tensor("output_0")
    request.infer([X], [np.zeros(3, np.float32)])
    with pytest.raises(rt.ShapeError, match=r'"output_0" has the shape \[2\].*shape \[3\] was given'):
        request.wait()


def test_other_outputs_cannot_be_left_out(affine: rt.Model) -> None:
    a = np.zeros((32, 32), np.float32)
    with pytest.raises(rt.InvalidArgumentError):
        affine.create_request().infer([a, a], {})


@pytest.mark.parametrize("scheduler", [rt.SchedulerType.EXCLUSIVE, rt.SchedulerType.PIPELINE])
def test_shared_stages_need_every_output(scheduler: rt.SchedulerType) -> None:
    model = rt.load_model(path_of("positives"), threads=1, scheduler_type=scheduler)
    request = model.create_request()
    with pytest.raises(rt.InvalidArgumentError, match="output_0.*only the SIMPLE scheduler"):
        request.infer([X], [])
    output = np.zeros(2, np.float32)
    request.infer([X], [output])
    request.wait()
    np.testing.assert_array_equal(output, POSITIVE)


def test_awaited(positives: rt.Model) -> None:
    async def run() -> None:
        request = positives.create_request()
        await request.infer_async([X], [])
        np.testing.assert_array_equal(request.get_tensor("output_0").to_numpy(), POSITIVE)

    asyncio.run(run())


def test_profiled(positives: rt.Model) -> None:
    request = positives.create_request()
    request.profile([X], [], repeat=3, warmup=1)
    np.testing.assert_array_equal(request.get_tensor("output_0").to_numpy(), POSITIVE)
    operators = {operation.operator for operation in positives.operations}
    assert {"NonZero", "Gather"} <= operators


def test_intermediate_tensors_are_readable(tmp_path: Path) -> None:
    model = rt.load_model(path_of("positives"), threads=1, memory_optimization=False)
    request = model.create_request()
    request.infer([X], [])
    request.wait()
    assert request.get_tensor("is_positive").to_numpy().tolist() == [True, False, False, True]
    model = rt.load_model(path_of("positives"), threads=1, intermediate_save_path=tmp_path / "saved")
    request = model.create_request()
    request.infer([X], [])
    request.wait()
    assert any((tmp_path / "saved").iterdir())


def test_command_line(tmp_path: Path) -> None:
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from optimium.runtime.cli._app import app

    np.save(tmp_path / "x.npy", X)
    arguments = ["run", str(path_of("positives")), "-i", str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npz")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "y.npz") as results:
        np.testing.assert_array_equal(results["output_0"], POSITIVE)

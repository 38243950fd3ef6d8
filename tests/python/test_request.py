"""Requests: what is refused, and what happens at once."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import processes
import pytest
from conftest import path_of

import optimium.runtime as rt

SIZE = (384, 384)


def floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def read_only(*shape: int) -> np.ndarray:
    array = floats(*shape)
    array.flags.writeable = False
    return array


SHARED = floats(2, 4)


@pytest.mark.parametrize(
    ("inputs", "outputs", "error"),
    [
        pytest.param([floats(2, 4)], [floats(2, 4)] * 2, rt.InvalidArgumentError, id="missing input"),
        pytest.param([floats(2, 4)] * 3, [floats(2, 4)] * 2, rt.InvalidArgumentError, id="surplus input"),
        pytest.param([floats(2, 4)] * 2, [floats(2, 4)], rt.InvalidArgumentError, id="missing output"),
        pytest.param([floats(2, 4)] * 2, [], rt.InvalidArgumentError, id="no outputs"),
        pytest.param({"a": floats(2, 4)}, [floats(2, 4)] * 2, rt.InvalidArgumentError, id="missing name"),
        pytest.param(
            {"a": floats(2, 4), "b": floats(2, 4), "c": floats(2, 4)},
            [floats(2, 4), floats(2, 4)],
            rt.InvalidArgumentError,
            id="surplus name",
        ),
        pytest.param({"a": floats(2, 4), 1: floats(2, 4)}, [], rt.TypeError, id="name that is no str"),
        pytest.param([np.zeros((2, 4)), floats(2, 4)], [floats(2, 4)] * 2, rt.TypeError, id="float64 input"),
        pytest.param(
            [floats(2, 4)] * 2, [np.zeros((2, 4), np.int32), floats(2, 4)], rt.TypeError, id="int32 output"
        ),
        pytest.param([["text"], floats(2, 4)], [floats(2, 4)] * 2, rt.TypeError, id="list as a tensor"),
        pytest.param(
            [np.array([[{}] * 4] * 2), floats(2, 4)], [floats(2, 4)] * 2, rt.TypeError, id="array of objects"
        ),
        pytest.param(None, [floats(2, 4)] * 2, rt.TypeError, id="no container"),
        pytest.param(floats(2, 2, 4), [floats(2, 4)] * 2, rt.TypeError, id="array as a container"),
        pytest.param([floats(8), floats(2, 4)], [floats(2, 4)] * 2, rt.ShapeError, id="rank"),
        pytest.param([floats(2, 5), floats(2, 5)], [floats(2, 5)] * 2, rt.ShapeError, id="fixed dimension"),
        pytest.param([floats(2, 4), floats(3, 4)], [floats(2, 4)] * 2, rt.ShapeError, id="symbols disagree"),
        pytest.param(
            [floats(2, 4), floats(2, 4)], [floats(2, 4), floats(3, 4)], rt.ShapeError, id="output shape"
        ),
        pytest.param(
            [floats(2, 4)] * 2, [read_only(2, 4), floats(2, 4)], rt.InvalidArgumentError, id="read-only output"
        ),
        pytest.param(
            [floats(2, 4)] * 2, [floats(4, 2).T, floats(2, 4)], rt.InvalidArgumentError, id="non-contiguous output"
        ),
        pytest.param(
            [floats(2, 4)] * 2,
            [floats(2, 4).astype(">f4"), floats(2, 4)],
            rt.InvalidArgumentError,
            id="byte-swapped output",
        ),
        pytest.param([floats(2, 4)] * 2, [SHARED, SHARED], rt.InvalidArgumentError, id="output twice"),
        pytest.param(
            [SHARED, floats(2, 4)], [floats(2, 4), SHARED], rt.InvalidArgumentError, id="input is an output"
        ),
        pytest.param([floats(2, 4)] * 2, [[0.0] * 8, floats(2, 4)], rt.TypeError, id="list as an output"),
    ],
)
def test_wrong_tensors_are_refused(pair: rt.Model, inputs: object, outputs: object, error: type) -> None:
    request = pair.create_request()
    with pytest.raises(error):
        request.infer(inputs, outputs)  # type: ignore[arg-type]
    assert request.status == rt.InferStatus.READY
    results = [floats(2, 4), floats(2, 4)]
    request.infer([np.ones((2, 4), np.float32)] * 2, results)
    assert not request.wait()
    assert (results[0] == 2).all() and (results[1] == 0).all()


def test_inputs_of_any_layout_are_taken(pair: rt.Model) -> None:
    a = np.arange(24, dtype=np.float32).reshape(4, 6)
    request = pair.create_request()
    for given in (a.T, a.T.astype(">f4"), np.ascontiguousarray(a.T)[::-1], read_only(6, 4)):
        results = [floats(6, 4), floats(6, 4)]
        request.infer([given, given], results)
        request.wait()
        np.testing.assert_array_equal(results[0], given + given)


def test_empty_tensors(pair: rt.Model) -> None:
    request = pair.create_request()
    for n in (0, 2, 0):
        request.infer([floats(n, 4)] * 2, [floats(n, 4), floats(n, 4)])
        assert not request.wait()


def test_types_that_numpy_does_not_have(pair: rt.Model) -> None:
    with pytest.raises(rt.TypeError, match="BF16"):
        pair.create_request().infer([np.zeros((2, 4), ml_dtypes.bfloat16)] * 2, [floats(2, 4), floats(2, 4)])


def test_a_fault_is_reported_once() -> None:
    request = rt.load_model(path_of("lookup"), threads=1).create_request()
    rows = floats(1, 3)
    request.infer([np.array([99])], [rows])
    while request.status == rt.InferStatus.RUNNING:
        time.sleep(0.001)
    assert request.status == rt.InferStatus.FAULT
    with pytest.raises(rt.InvalidOperationError):
        request.infer([np.array([1])], [rows])
    with pytest.raises(rt.InferError):
        request.wait()
    assert not request.wait()
    request.infer([np.array([1])], [rows])
    assert not request.wait() and rows.tolist() == [[3, 4, 5]]


class TestAtOnce:
    @pytest.fixture
    def slow(self) -> rt.Model:
        return rt.load_model(path_of("slow"), threads=1)

    def test_a_request_used_twice(self, slow: rt.Model) -> None:
        request = slow.create_request()
        request.infer([floats(*SIZE)], [floats(*SIZE)])
        with pytest.raises(rt.InvalidOperationError):
            request.infer([floats(*SIZE)], [floats(*SIZE)])
        assert not request.wait()

    def test_tensors_in_use(self, slow: rt.Model) -> None:
        first, second = slow.create_request(), slow.create_request()
        x, y, z = (rt.tensor(shape=SIZE) for _ in range(3))
        first.infer([x], [y])
        for inputs, outputs in (([y], [z]), ([z], [y]), ([z], [x]), ([y.to_numpy()], [z])):
            with pytest.raises(rt.InvalidOperationError):
                second.infer(inputs, outputs)
        with pytest.raises(rt.InvalidOperationError):
            y.fill(1)
        second.infer([x], [z])
        assert not first.wait() and not second.wait()
        second.infer([y], [z])
        assert not second.wait()

    def test_a_model_and_request_dropped_while_running(self, slow: rt.Model) -> None:
        path, y = path_of("slow"), floats(*SIZE)
        request = rt.load_model(path, threads=1).create_request()
        request.infer([np.eye(*SIZE, dtype=np.float32)], [y])
        del request
        deadline = time.monotonic() + 60
        while not y.any() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert y.any(), "the inference ends without its handles"

    def test_cancel_from_another_thread(self, slow: rt.Model) -> None:
        request = slow.create_request()
        request.infer([floats(*SIZE)], [floats(*SIZE)])
        threading.Timer(0.02, request.cancel).start()
        with pytest.raises(rt.InferCanceledError):
            request.wait()

    @pytest.mark.parametrize("threads", [1, 2])
    def test_many_requests_from_many_threads(self, threads: int) -> None:
        pair = rt.load_model(path_of("pair"), threads=threads)
        failures = []

        def work(seed: int) -> None:
            request = pair.create_request()
            for i in range(50):
                a = np.full((1 + i % 3, 4), seed, np.float32)
                results = [np.empty_like(a), np.empty_like(a)]
                request.infer([a, a], results)
                request.wait()
                if not (results[0] == 2 * seed).all():
                    failures.append((seed, i))

        with ThreadPoolExecutor(8) as callers:
            list(callers.map(work, range(8)))
        assert not failures


class TestCallbacks:
    def test_may_use_the_request(self, pair: rt.Model) -> None:
        request, left, done = pair.create_request(), [3], threading.Event()
        tensors = [floats(2, 4), floats(2, 4)], [floats(2, 4), floats(2, 4)]

        def again(status: rt.InferStatus, error: object) -> None:
            assert not request.wait() and request.status == status == rt.InferStatus.READY
            left[0] -= 1
            if left[0]:
                request.infer(*tensors)
            else:
                done.set()

        request.set_callback(again)
        request.infer(*tensors)
        assert done.wait(20)
        assert not request.wait()
        request.set_callback(None)

    def test_cycles_are_collected(self, pair: rt.Model) -> None:
        request = pair.create_request()
        alive = weakref.ref(request)
        request.set_callback(lambda status, error, itself=request: None)
        del request
        gc.collect()
        assert alive() is None

    def test_errors_harm_nobody(self, pair: rt.Model, monkeypatch: pytest.MonkeyPatch) -> None:
        reported = []
        monkeypatch.setattr(sys, "unraisablehook", reported.append)
        request = pair.create_request()
        request.set_callback(lambda status, error: 1 / 0)
        request.infer([floats(2, 4)] * 2, [floats(2, 4), floats(2, 4)])
        assert not request.wait()
        assert reported[0].exc_type is ZeroDivisionError


SETUP = f"""
import os, signal
import numpy as np, optimium.runtime as rt
MODEL = {str(path_of("slow"))!r}
x, y = np.zeros((2, 384, 384), np.float32)
model = rt.load_model(MODEL, threads=1)
request = model.create_request()
"""


@pytest.mark.parametrize(
    ("work", "error", "message"),
    [
        (lambda: rt.load_model(path_of("pair"), precision="f8"), rt.InvalidArgumentError, '"f8" is not one of f32, bf16'),
        (lambda: rt.convert(path_of("pair"), "x", weights="int3"), rt.InvalidArgumentError, '"int3" is not one of .*int8'),
        (lambda: rt.load_model(path_of("pair"), scheduler_type="SIMPLE"), rt.TypeError, "SchedulerType, not 'SIMPLE'"),
        (lambda: rt.load_model(path_of("pair")).create_request().infer(floats(1), []), rt.TypeError, "not ndarray"),
    ],
)
def test_mistakes_are_named(work: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        work()


@pytest.mark.parametrize(
    ("code", "check"),
    [
        pytest.param("request.infer([x], [y])", lambda code, out: code == 0, id="exit while running"),
        pytest.param(
            "request.infer([x], [y])\nrt.finalize()\n"
            "try: request.wait()\nexcept rt.RuntimeException as e: print(type(e).__name__)\n"
            "try: request.infer([x], [y])\nexcept rt.InvalidStateError as e: print('ended')\n",
            lambda code, out: code == 0 and out.endswith("ended\n"),
            id="finalize while running",
        ),
        pytest.param(
            "if os.fork() == 0:\n"
            "    try: request.infer([x], [y])\n"
            "    except rt.InvalidStateError: print('refused')\n"
            "    r = rt.load_model(MODEL, threads=1).create_request(); r.infer([x], [y]); print(r.wait())\n"
            "else:\n    os.wait()",
            lambda code, out: code == 0 and out == "refused\nFalse\n",
            id="fork",
        ),
        pytest.param(
            "team = rt.load_model(MODEL, threads=2).create_request()\n"
            "for _ in range(2): team.infer([x], [y]); team.wait()",
            lambda code, out: code == 0,
            id="exit right after a team ran",
        ),
        pytest.param(
            "team = rt.load_model(MODEL, threads=2).create_request()\n"
            "team.infer([x], [y]); team.wait()\n"
            "if os.fork() == 0:\n"
            "    r = rt.load_model(MODEL, threads=2).create_request(); r.infer([x], [y]); print(r.wait())\n"
            "else:\n    os.wait(); team.infer([x], [y]); print(team.wait())",
            lambda code, out: code == 0 and out == "False\nFalse\n",
            id="fork right after a team ran",
        ),
    ],
)
def test_ends_of_processes(code: str, check: Callable[[int, str], bool]) -> None:
    done = processes.run(SETUP + code)
    assert check(done.returncode, done.stdout), done


def test_idle_models_use_no_cpu() -> None:
    code = (
        "import time\n"
        "requests = [rt.load_model(MODEL, threads=threads).create_request() for threads in (1, 2, 2)]\n"
        "for request in requests * 2: request.infer([x], [y]); request.wait()\n"
        "time.sleep(0.2)\n"
        "before = time.process_time(); time.sleep(0.5); print(time.process_time() - before)\n"
    )
    done = processes.run(SETUP + code)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.02, "threads that look out for work stop doing so"


def test_interruption() -> None:
    process = processes.start(
        SETUP + "signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background\n"
        "print('ready', flush=True)\nwhile True:\n    request.infer([x], [y])\n    request.wait()"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in error

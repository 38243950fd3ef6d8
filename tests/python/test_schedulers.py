"""SIMPLE, EXCLUSIVE and PIPELINE: the same results, and what each of them promises besides."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import processes
import pytest
from conftest import path_of
from inference import infer

import optimium.runtime as rt

Kind = rt.ProfileEventKind
SCHEDULERS = list(rt.SchedulerType)
SHARED = [rt.SchedulerType.EXCLUSIVE, rt.SchedulerType.PIPELINE]
PATIENCE = 60.0

#: Requests of the stress test, for each scheduler. 100000 take about a minute.
STRESS_REQUESTS = int(os.environ.get("OPTIMIUM_STRESS_REQUESTS", "4000"))


def load(name: str, scheduler: rt.SchedulerType, **options: object) -> rt.Model:
    return rt.load_model(path_of(name), scheduler_type=scheduler, threads=2, **options)  # type: ignore[arg-type]


def square(value: float = 1.0) -> np.ndarray:
    return np.full((384, 384), value, np.float32)


def until(condition: Callable[[], bool]) -> None:
    """Waits for `condition()` to be true; the test fails where it does not become so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "does not happen"
        # References that ended on threads without the interpreter's lock are given up with the next call.
        rt.get_version()
        time.sleep(0.001)


class TestResults:
    @pytest.mark.parametrize("scheduler", SHARED)
    @pytest.mark.parametrize("options", [{}, {"memory_optimization": False}])
    def test_are_those_of_simple(self, scheduler: rt.SchedulerType, options: dict[str, bool]) -> None:
        numbers = np.random.default_rng(3)
        floats = lambda *shape: numbers.standard_normal(shape).astype(np.float32)  # noqa: E731
        cases: list[tuple[str, dict[str, np.ndarray]]] = [
            ("affine", {"input_0": floats(32, 32), "input_1": floats(32, 32)}),
            ("classifier", {"input_0": floats(2, 3, 8, 9)}),
            ("classifier", {"input_0": floats(5, 3, 4, 4)}),
            ("pair", {"a": floats(3, 4), "b": floats(3, 4)}),
            ("embedder", {"indices": np.arange(7)}),
            ("embedder", {"indices": np.arange(100)}),
            ("quantized", {"input_0": floats(1, 4, 8, 8)}),
            ("image", {"input_0": floats(1, 3, 6, 7)}),
        ]
        for name, inputs in cases:
            expected = infer(load(name, rt.SchedulerType.SIMPLE, **options), inputs)
            found = infer(load(name, scheduler, **options), inputs)
            for key, array in expected.items():
                np.testing.assert_array_equal(found[key], array, err_msg=f"{name} {key}")

    def test_stages_are_operations_in_order(self) -> None:
        whole = load("embedder", rt.SchedulerType.SIMPLE)
        parts = load("embedder", rt.SchedulerType.PIPELINE)
        assert [operation.name for operation in parts.operations] == [operation.name for operation in whole.operations]
        assert {operation.device for operation in parts.operations} == {operation.device for operation in whole.operations}

    def test_shapes_may_change_while_others_are_under_way(self) -> None:
        model = load("embedder", rt.SchedulerType.PIPELINE)
        whole = load("embedder", rt.SchedulerType.SIMPLE)
        requests = [model.create_request() for _ in range(12)]
        outputs = [np.zeros((1 + 7 * i % 40, 96), np.float32) for i in range(12)]
        for request, output in zip(requests, outputs, strict=True):
            request.infer([np.arange(len(output))], [output])
        for request, output in zip(requests, outputs, strict=True):
            assert not request.wait()
            np.testing.assert_array_equal(output, infer(whole, {"indices": np.arange(len(output))})["output_0"])


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"stages": 2}, rt.InvalidArgumentError),
            ({"queue_capacity": 5}, rt.InvalidArgumentError),
            ({"scheduler_type": rt.SchedulerType.EXCLUSIVE, "stages": 2}, rt.InvalidArgumentError),
            ({"scheduler_type": rt.SchedulerType.PIPELINE, "stages": 3}, rt.InvalidArgumentError),
            ({"scheduler_type": rt.SchedulerType.PIPELINE, "stages": 0}, rt.InvalidArgumentError),
            ({"scheduler_type": rt.SchedulerType.PIPELINE, "stages": "two"}, rt.TypeError),
            ({"scheduler_type": rt.SchedulerType.PIPELINE, "queue_capacity": 0}, rt.InvalidArgumentError),
        ],
    )
    def test_that_make_no_sense(self, options: dict[str, object], error: type[Exception]) -> None:
        with pytest.raises(error):
            rt.load_model(path_of("affine"), threads=2, **options)  # type: ignore[arg-type]

    def test_stages_may_have_several_threads_and_cores(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        for options in [{"threads": 4, "stages": 2}, {"cores": cores}, {"cores": cores, "stages": 1}]:
            model = rt.load_model(path_of("slow"), scheduler_type=rt.SchedulerType.PIPELINE, **options)  # type: ignore[arg-type]
            request = model.create_request()
            request.profile([square(0)], [square()], repeat=1, warmup=0, warmup_time=0)
            assert request.status is rt.InferStatus.READY


class TestQueue:
    @pytest.mark.parametrize("scheduler", SHARED)
    def test_refuses_more_than_it_holds_and_never_blocks(self, scheduler: rt.SchedulerType) -> None:
        model = load("slow", scheduler, queue_capacity=2)
        requests = [model.create_request() for _ in range(20)]
        begun = []
        with pytest.raises(rt.OutOfResourceError, match="2 inferences.*queue_capacity"):
            for request in requests:
                request.infer([square(0)], [square()])
                begun.append(request)
        refused = requests[len(begun)]
        assert refused.status is rt.InferStatus.READY
        for request in begun:
            assert not request.wait()
        refused.infer([square(0)], [square()])
        assert not refused.wait()

    def test_is_first_come_first_served(self) -> None:
        model = load("slow", rt.SchedulerType.EXCLUSIVE)
        requests = [model.create_request() for _ in range(6)]
        ended: list[int] = []
        for number, request in enumerate(requests):
            request.set_callback(lambda status, error, number=number: ended.append(number))
            request.infer([square(0)], [square()])
        for request in reversed(requests):
            assert not request.wait()
        assert sorted(ended) == list(range(6))

    def test_who_is_cancelled_while_waiting_leaves_it_at_once(self) -> None:
        model = load("slow", rt.SchedulerType.EXCLUSIVE, queue_capacity=1)
        running, waiting = model.create_request(), model.create_request()
        running.infer([square(0)], [square()])
        for _ in range(20):
            until(lambda: running.status is not rt.InferStatus.RUNNING or self.is_free(waiting))
            waiting.cancel()
            with pytest.raises(rt.InferCanceledError):
                waiting.wait()
            if running.status is rt.InferStatus.RUNNING:
                break
            running.wait()
            running.infer([square(0)], [square()])
        assert not running.wait()

    @staticmethod
    def is_free(request: rt.InferRequest) -> bool:
        try:
            request.infer([square(0)], [square()])
        except rt.OutOfResourceError:
            return False
        return True

    def test_takes_no_memory_for_those_who_wait(self) -> None:
        # Every tensor has memory of its own: about 88 MB for one inference.
        model = load("slow", rt.SchedulerType.EXCLUSIVE, memory_optimization=False)
        requests = [model.create_request() for _ in range(12)]
        outputs = [square() for _ in requests]
        before = resident_bytes()
        for request, output in zip(requests, outputs, strict=True):
            request.infer([square(0)], [output])
        for request in requests:
            assert not request.wait()
        assert resident_bytes() - before < 180e6


class TestIntermediates:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_can_be_read(self, scheduler: rt.SchedulerType) -> None:
        model = load("slow", scheduler, memory_optimization=False)
        request = model.create_request()
        with pytest.raises(rt.InvalidOperationError):
            request.get_tensor("x75")
        request.infer([np.eye(384, dtype=np.float32)], [square()])
        request.wait()
        for name in ["x1", "x74", "x75", "x76", "x149", "y"]:
            np.testing.assert_array_equal(request.get_tensor(name).to_numpy(), np.eye(384))

    @pytest.mark.parametrize("scheduler", SHARED)
    def test_are_gone_when_another_request_has_run(self, scheduler: rt.SchedulerType) -> None:
        model = load("slow", scheduler, memory_optimization=False)
        first, second = model.create_request(), model.create_request()
        for request in (first, second):
            request.infer([np.eye(384, dtype=np.float32)], [square()])
            request.wait()
        for name in ["x1", "x75", "x149"]:
            with pytest.raises(rt.InvalidOperationError, match="another request"):
                first.get_tensor(name)
        assert second.get_tensor("x149").to_numpy()[0, 0] == 1
        assert first.get_tensor("y").to_numpy()[0, 0] == 1

    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_are_saved(self, scheduler: rt.SchedulerType, tmp_path: Path) -> None:
        model = load("embedder", scheduler, intermediate_save_path=tmp_path)
        infer(model, {"indices": np.arange(4)})
        text = (tmp_path / "index.json").read_text()
        simple = load("embedder", rt.SchedulerType.SIMPLE, intermediate_save_path=tmp_path)
        infer(simple, {"indices": np.arange(4)})
        names = {line for line in (tmp_path / "index.json").read_text().splitlines() if '"name"' in line}
        assert names and names <= set(text.splitlines())


class TestProfile:
    def test_exclusive_says_how_long_requests_wait(self) -> None:
        model = load("slow", rt.SchedulerType.EXCLUSIVE)
        other, request = model.create_request(), model.create_request()
        other.infer([square(0)], [square()])
        request.profile([square(0)], [square()], repeat=2, warmup=0, warmup_time=0)
        other.wait()
        kinds = [event.kind for event in request.get_profile_events()]
        assert kinds.count(Kind.QUEUE_BEGIN) == kinds.count(Kind.QUEUE_END) == 2
        assert kinds.count(Kind.MODEL_EXECUTE_END) == 2
        assert Kind.WAIT_BEGIN not in kinds and Kind.COPY_BEGIN not in kinds

    def test_the_stages_of_a_pipeline_overlap(self) -> None:
        model = load("slow", rt.SchedulerType.PIPELINE)
        request = model.create_request()
        request.profile([square(0)], [square()], repeat=5, warmup=1, warmup_time=0)
        events = request.get_profile_events()
        layers = [event for event in events if event.kind in (Kind.LAYER_EXECUTE_BEGIN, Kind.LAYER_EXECUTE_END)]
        assert {event.thread_id for event in layers} == {0, 1}
        running, both = {0: 0, 1: 0}, 0
        for event in layers:
            running[event.thread_id] += 1 if event.kind is Kind.LAYER_EXECUTE_BEGIN else -1
            both += all(running.values())
        assert both > 10
        copies = [event for event in events if event.kind is Kind.COPY_BEGIN]
        assert len(copies) == 5 * len({copy.tensor_id for copy in copies})
        native = model.operations[0].device
        for copy in copies:
            assert copy.source_device == copy.dest_device == native
            assert model.tensors[copy.tensor_id].name.startswith("x")
        waits = {event.operation for event in events if event.kind is Kind.WAIT_BEGIN}
        assert len(waits) == 1
        durations = request.get_profile_durations()
        assert len(durations.model_durations) == 5
        assert {len(all_) for all_ in durations.layer_durations.values()} == {5}
        assert {len(all_) for all_ in durations.copy_durations.values()} == {5}

    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_tells_what_an_inference_consists_of(self, scheduler: rt.SchedulerType) -> None:
        model = load("slow", scheduler)
        request = model.create_request()
        request.infer([square(0)], [square()])
        request.wait()
        assert len(request.get_run_details().operations) == len(model.operations)


class TestCallbacks:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_may_run_other_requests_of_the_model(self, scheduler: rt.SchedulerType) -> None:
        model = load("affine", scheduler)
        done: list[float] = []
        ones = np.ones((32, 32), np.float32)

        def begin() -> rt.InferRequest:
            outer, inner, output = model.create_request(), model.create_request(), np.zeros((32, 32), np.float32)
            inner.set_callback(lambda status, error: None)

            def callback(status: rt.InferStatus, error: Exception | None) -> None:
                inner.infer([ones, ones], [output])
                inner.wait()
                done.append(output[0, 0])

            outer.set_callback(callback)
            outer.infer([ones, ones], [np.zeros((32, 32), np.float32)])
            return outer

        requests = [begin() for _ in range(16)]
        for request in requests:
            assert not request.wait()
        assert done == [3.0] * 16

    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_failures_are_theirs_alone(self, scheduler: rt.SchedulerType) -> None:
        model = load("lookup", scheduler)
        seen: list[rt.InferStatus] = []
        for index, status in [(3, rt.InferStatus.READY), (30, rt.InferStatus.FAULT), (4, rt.InferStatus.READY)]:
            request = model.create_request()
            request.set_callback(lambda status, error: seen.append(status))
            request.infer([np.array([index])], [np.zeros((1, 3), np.float32)])
            if status is rt.InferStatus.FAULT:
                with pytest.raises(rt.InferError):
                    request.wait()
            else:
                assert not request.wait()
            assert seen.pop() is status


SETUP = f"""
import os
import numpy as np, optimium.runtime as rt
MODEL = {str(path_of("slow"))!r}
x, y = np.zeros((2, 384, 384), np.float32)
def load(name): return rt.load_model(MODEL, threads=2, scheduler_type=rt.SchedulerType[name])
"""


@pytest.mark.parametrize("scheduler", [scheduler.name for scheduler in SHARED])
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("request.infer([x], [y])", "", id="exit while running"),
        pytest.param(
            "others = [model.create_request() for _ in range(6)]; calls = []\n"
            "for other in others:\n"
            "    other.set_callback(lambda status, error: calls.append(status)); other.infer([x], [y.copy()])\n"
            "rt.finalize()\n"
            "for other in others:\n"
            "    try: other.wait()\n"
            "    except (rt.InferCanceledError, rt.InvalidStateError): pass\n"
            "try: request.infer([x], [y])\nexcept rt.InvalidStateError: print(len(calls))\n",
            "6\n",
            id="finalize while running",
        ),
        pytest.param(
            "request.infer([x], [y]); request.wait()\n"
            "if os.fork() == 0:\n"
            "    try: request.infer([x], [y])\n"
            "    except rt.InvalidStateError: print('refused', flush=True)\n"
            "    r = load(NAME).create_request(); r.infer([x], [y]); print(r.wait(), flush=True)\n"
            "else:\n    os.wait(); request.infer([x], [y]); print(request.wait())",
            "refused\nFalse\nFalse\n",
            id="fork",
        ),
    ],
)
def test_ends_of_processes(scheduler: str, code: str, expected: str) -> None:
    done = processes.run(SETUP + f"NAME = {scheduler!r}\nmodel = load(NAME); request = model.create_request()\n" + code)
    assert (done.returncode, done.stdout) == (0, expected), done


class Stress:
    """Callers who use and misuse requests of one model."""

    def __init__(self, scheduler: rt.SchedulerType, requests: int) -> None:
        self.model = load("affine", scheduler)
        self.inputs = [np.ones((32, 32), np.float32)] * 2
        self.requests = requests
        self.begun: list[int] = []
        self.called: list[int] = []
        self.unexpected: list[BaseException] = []
        self.alive: weakref.WeakSet[rt.InferRequest] = weakref.WeakSet()

    def run(self, threads: int) -> None:
        callers = [threading.Thread(target=self.call, args=(number, threads)) for number in range(threads)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    def call(self, first: int, step: int) -> None:
        chance = random.Random(first)
        for number in range(first, self.requests, step):
            try:
                self.one(number, chance)
            except BaseException as error:  # noqa: BLE001
                self.unexpected.append(error)

    def one(self, number: int, chance: random.Random) -> None:
        request = self.model.create_request()
        self.alive.add(request)
        action = chance.choice(["wait", "cancel", "drop", "timeout", "poll", "raise"])

        def callback(status: rt.InferStatus, error: Exception | None) -> None:
            self.called.append(number)
            if action == "raise":
                raise LookupError

        request.set_callback(callback)
        try:
            request.infer(self.inputs, [np.empty((32, 32), np.float32)])
        except rt.OutOfResourceError:
            time.sleep(0.001)
            return
        self.begun.append(number)
        if action == "drop":
            return
        if action == "cancel":
            request.cancel()
        elif action == "timeout":
            request.wait(chance.randrange(1, 100))
        elif action == "poll":
            until(lambda: request.status is not rt.InferStatus.RUNNING)
        try:
            assert not request.wait()
        except rt.InferCanceledError:
            assert action == "cancel"


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[type[BaseException] | None]]:
    seen: list[type[BaseException] | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: seen.append(report.exc_type))
    yield seen


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_stress(scheduler: rt.SchedulerType, unraisable: list[type[BaseException] | None]) -> None:
    """No callback is lost or called twice, and nothing is left. OPTIMIUM_STRESS_REQUESTS says how many requests there are."""
    Stress(scheduler, 400).run(threads=8)
    gc.collect()
    until(lambda: thread_count("optimium-stage") == 0)
    before = resident_bytes()
    stress = Stress(scheduler, STRESS_REQUESTS)
    stress.run(threads=8)
    until(lambda: len(stress.called) >= len(stress.begun))
    assert not stress.unexpected, stress.unexpected[:3]
    assert sorted(stress.called) == sorted(stress.begun)
    assert len(stress.begun) > STRESS_REQUESTS // 2
    assert set(unraisable) == {LookupError}
    gc.collect()
    until(lambda: len(stress.alive) == 0)
    inputs = stress.inputs[0]
    del stress
    gc.collect()
    # What is left are the name and the argument.
    until(lambda: sys.getrefcount(inputs) == 2)
    until(lambda: thread_count("optimium-stage") == 0)
    assert resident_bytes() - before < 64e6


def thread_count(name: str) -> int:
    """The threads of this process whose name begins so."""
    found = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            found += (task / "comm").read_text().startswith(name)
        except OSError:
            pass
    return found


def resident_bytes() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024

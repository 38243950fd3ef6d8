"""Inferences that an event loop awaits."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import numpy as np
import processes
import pytest
from conftest import path_of

import optimium.runtime as rt

SIZE = (384, 384)


def floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def in_uvloop(main: Coroutine[Any, Any, Any]) -> Any:
    return pytest.importorskip("uvloop").run(main)


@pytest.fixture(params=[asyncio.run, in_uvloop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    runner: Callable[[Coroutine[Any, Any, Any]], Any] = request.param
    return runner


@pytest.fixture
def slow() -> rt.Model:
    return rt.load_model(path_of("slow"), threads=1)


def test_results(run: Callable, pair: rt.Model) -> None:
    async def main() -> None:
        request = pair.create_request()
        for i in range(1, 4):
            a, results = np.full((i, 4), i, np.float32), [floats(i, 4), floats(i, 4)]
            assert await request.infer_async([a, a], results) is None
            assert (results[0] == 2 * i).all() and request.status == rt.InferStatus.READY
        named = {"sum": rt.tensor(shape=(1, 4)), "difference": floats(1, 4)}
        await request.infer_async({"a": rt.tensor(1.0, shape=(1, 4)), "b": floats(1, 4)}, named)
        assert (named["sum"].to_numpy() == 1).all()

    run(main())


def test_nothing_begins_before_it_is_awaited(affine: rt.Model) -> None:
    waiting = affine.create_request().infer_async([], [])
    assert inspect.iscoroutine(waiting)
    waiting.close()


def test_many_at_once(run: Callable, pair: rt.Model) -> None:
    async def one(request: rt.InferRequest, value: int) -> bool:
        a, results = np.full((2, 4), value, np.float32), [floats(2, 4), floats(2, 4)]
        await request.infer_async([a, a], results)
        return bool((results[0] == 2 * value).all())

    async def main() -> None:
        requests = [pair.create_request() for _ in range(100)]
        for _ in range(5):
            assert all(await asyncio.gather(*(one(request, i) for i, request in enumerate(requests))))

    run(main())


@pytest.mark.parametrize("scheduler", list(rt.SchedulerType))
def test_every_scheduler(scheduler: rt.SchedulerType) -> None:
    model = rt.load_model(path_of("pair"), threads=2, scheduler_type=scheduler)
    slow = rt.load_model(path_of("slow"), threads=2, scheduler_type=scheduler)

    async def one(value: int) -> bool:
        a, results = np.full((2, 4), value, np.float32), [floats(2, 4), floats(2, 4)]
        await model.create_request().infer_async([a, a], results)
        return bool((results[0] == 2 * value).all())

    async def main() -> None:
        assert all(await asyncio.gather(*map(one, range(50))))
        outputs = [rt.tensor(shape=SIZE) for _ in range(4)]
        tasks = [
            asyncio.ensure_future(slow.create_request().infer_async([floats(*SIZE)], [output])) for output in outputs
        ]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in ended)
        for output in outputs:
            output.fill(0)

    asyncio.run(main())


def test_the_loop_goes_on(run: Callable, slow: rt.Model) -> None:
    async def main() -> int:
        turns, request = 0, slow.create_request()
        running = asyncio.ensure_future(request.infer_async([floats(*SIZE)], [floats(*SIZE)]))
        while not running.done():
            await asyncio.sleep(0)
            turns += 1
        await running
        return turns

    assert run(main()) > 3


def test_wrong_tensors(run: Callable, pair: rt.Model) -> None:
    async def main() -> None:
        request = pair.create_request()
        with pytest.raises(rt.ShapeError):
            await request.infer_async([floats(8), floats(2, 4)], [floats(2, 4)] * 2)
        with pytest.raises(rt.TypeError):
            await request.infer_async(None, [])  # type: ignore[arg-type]
        assert request.status == rt.InferStatus.READY

    run(main())


def test_errors_of_inferences(run: Callable) -> None:
    async def main() -> None:
        request, rows = rt.load_model(path_of("lookup"), threads=1).create_request(), floats(1, 3)
        for _ in range(2):
            with pytest.raises(rt.InferError):
                await request.infer_async([np.array([99])], [rows])
            assert request.status == rt.InferStatus.FAULT
        await request.infer_async([np.array([1])], [rows])
        assert rows.tolist() == [[3, 4, 5]]

    run(main())


class TestCallbacks:
    def test_are_called_as_ever(self, run: Callable, pair: rt.Model) -> None:
        called: list[rt.InferStatus] = []

        async def main() -> None:
            request = pair.create_request()
            request.set_callback(lambda status, error: called.append(status))
            for _ in range(3):
                await request.infer_async([floats(2, 4)] * 2, [floats(2, 4), floats(2, 4)])
            request.set_callback(None)
            await request.infer_async([floats(2, 4)] * 2, [floats(2, 4), floats(2, 4)])

        run(main())
        assert called == [rt.InferStatus.READY] * 3

    def test_may_begin_the_next_inference(self, run: Callable, pair: rt.Model, slow: rt.Model) -> None:
        async def main() -> None:
            request, first, second = pair.create_request(), [floats(1, 4)] * 2, [floats(2, 4)] * 2
            results = [floats(1, 4), floats(1, 4)], [floats(2, 4), floats(2, 4)]

            def again(status: rt.InferStatus, error: object) -> None:
                request.set_callback(None)
                request.infer(second, results[1])

            request.set_callback(again)
            await request.infer_async(first, results[0])
            assert not request.wait()

        run(main())


class TestCancelling:
    def test_waits_for_the_end(self, run: Callable, slow: rt.Model) -> None:
        async def main() -> None:
            request, x, y = slow.create_request(), rt.tensor(shape=SIZE), rt.tensor(shape=SIZE)
            x.fill(0)
            for _ in range(5):
                task = asyncio.ensure_future(request.infer_async([x], [y]))
                await asyncio.sleep(0.01)
                assert task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                # What runs uses its tensors, and refuses this.
                y.fill(1)
                assert request.status != rt.InferStatus.RUNNING
            await request.infer_async([x], [y])
            assert (y.to_numpy() == 0).all()

        run(main())

    def test_twice(self, run: Callable, slow: rt.Model) -> None:
        async def main() -> None:
            request, y = slow.create_request(), rt.tensor(shape=SIZE)
            task = asyncio.ensure_future(request.infer_async([floats(*SIZE)], [y]))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            y.fill(1)

        run(main())

    def test_timeouts(self, run: Callable, slow: rt.Model) -> None:
        async def main() -> None:
            request, y = slow.create_request(), rt.tensor(shape=SIZE)
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.01):
                    await request.infer_async([floats(*SIZE)], [y])
            y.fill(1)

        run(main())

    def test_by_the_request(self, run: Callable, slow: rt.Model) -> None:
        async def main() -> None:
            request = slow.create_request()
            threading.Timer(0.02, request.cancel).start()
            with pytest.raises(rt.InferCanceledError):
                await request.infer_async([floats(*SIZE)], [floats(*SIZE)])

        run(main())

    def test_groups(self, run: Callable, slow: rt.Model) -> None:
        async def main() -> None:
            requests = [slow.create_request() for _ in range(4)]
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    for request in requests:
                        group.create_task(request.infer_async([floats(*SIZE)], [floats(*SIZE)]))
                    group.create_task(requests[0].infer_async([], []))
            assert caught.group_contains(rt.RuntimeException)
            assert all(request.status != rt.InferStatus.RUNNING for request in requests)

        run(main())


def test_one_request_used_twice(run: Callable, slow: rt.Model) -> None:
    async def main() -> None:
        request, x = slow.create_request(), floats(*SIZE)
        running = asyncio.ensure_future(request.infer_async([x], [floats(*SIZE)]))
        await asyncio.sleep(0)
        with pytest.raises(rt.InvalidOperationError):
            await request.infer_async([x], [floats(*SIZE)])
        await running

    run(main())


def test_a_loop_that_is_gone(slow: rt.Model) -> None:
    """The loop ends without its task: the inference is cancelled, and nobody is told."""
    request, y = slow.create_request(), rt.tensor(shape=SIZE)
    waiting = request.infer_async([floats(*SIZE)], [y])

    async def begin() -> None:
        waiting.send(None)

    asyncio.run(begin())
    waiting.close()
    with suppress(rt.InferCanceledError):
        request.wait()
    y.fill(1)


def test_nothing_is_kept(run: Callable, pair: rt.Model) -> None:
    async def main() -> weakref.ref:
        request = pair.create_request()
        await request.infer_async([floats(2, 4)] * 2, [floats(2, 4), floats(2, 4)])
        return weakref.ref(request)

    alive = run(main())
    deadline = time.monotonic() + 10
    while alive() is not None and time.monotonic() < deadline:
        gc.collect()
    assert alive() is None


@pytest.mark.parametrize("end", ["rt.finalize()", "raise SystemExit"])
def test_ends_of_processes(end: str) -> None:
    code = f"""
import asyncio, numpy as np, optimium.runtime as rt
request = rt.load_model({str(path_of("slow"))!r}, threads=1).create_request()
x, y = np.zeros((2, 384, 384), np.float32)

async def main():
    running = asyncio.ensure_future(request.infer_async([x], [y]))
    await asyncio.sleep(0.01)
    {end}
    try: await running
    except rt.RuntimeException: print("ended")

asyncio.run(main())
"""
    done = processes.run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("ended\n" if "finalize" in end else "")

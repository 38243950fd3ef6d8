"""Callers that cancel, compete, and drop what still runs."""

from __future__ import annotations

import gc
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from conftest import path_of
from hostile.common import floats

import optimium.runtime as rt


def test_cancelled_at_any_time() -> None:
    model, rnd = rt.load_model(path_of("slow"), threads=2), random.Random(0)
    request, x, y = model.create_request(), np.eye(384, dtype=np.float32), floats(384, 384)
    for _ in range(30):
        request.infer([x], [y])
        timer = threading.Timer(rnd.random() * 0.03, request.cancel)
        timer.start()
        with suppress(rt.InferCanceledError):
            request.wait()
        timer.join()
    request.infer([x], [y])
    assert not request.wait() and (y == x).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_results_of_many_callers(threads: int) -> None:
    model = rt.load_model(path_of("pair"), threads=threads)
    failures: list = []

    def work(seed: int) -> None:
        rnd = np.random.default_rng(seed)
        requests = [model.create_request() for _ in range(4)]
        for _ in range(25):
            jobs = []
            for request in requests:
                a, b = rnd.standard_normal((2, int(rnd.integers(0, 200)), 4)).astype(np.float32)
                results = [np.full_like(a, np.nan), np.full_like(a, np.nan)]
                request.infer([a, b], results)
                jobs.append((request, a, b, results))
            for request, a, b, results in jobs:
                if request.wait() or not ((results[0] == a + b).all() and (results[1] == a - b).all()):
                    failures.append(seed)

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(work, range(8)))
    assert not failures


def test_one_request_fought_over(affine: rt.Model) -> None:
    request = affine.create_request()

    def work(_: int) -> None:
        for _ in range(50):
            with suppress(rt.InvalidOperationError):
                request.infer([floats(32, 32)] * 2, [floats(32, 32)])
            request.wait()

    with ThreadPoolExecutor(6) as callers:
        list(callers.map(work, range(6)))


def test_a_callback_drops_the_last_handles() -> None:
    model = rt.load_model(path_of("affine"), threads=2)
    kept, done = [model, model.create_request()], threading.Event()
    del model

    def drop(status: rt.InferStatus, error: object) -> None:
        kept.clear()
        gc.collect()
        done.set()

    kept[1].set_callback(drop)
    kept[1].infer([floats(32, 32)] * 2, [floats(32, 32)])
    assert done.wait(10)


def test_waiting_for_nothing(affine: rt.Model) -> None:
    request = affine.create_request()
    assert not request.wait() and not request.wait(1) and not request.wait(None)
    request.cancel()
    with pytest.raises(rt.InvalidArgumentError):
        request.wait(-1)

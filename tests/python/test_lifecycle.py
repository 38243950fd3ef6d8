"""Between initialize() and finalize(), and beyond."""

from __future__ import annotations

import processes
import pytest
from conftest import path_of

import optimium.runtime as rt

FINALIZED = """
import sys
import optimium.runtime as rt
model = rt.load_model(sys.argv[1], threads=1)
request = model.create_request()
for again in (False, True):
    rt.finalize()
    if again:
        rt.initialize()
    for call in (model.create_request, lambda: request.infer([], [])):
        try:
            call()
        except rt.InvalidStateError as error:
            print(error)
        except rt.InvalidArgumentError:
            print("finalized: checked first")
assert rt.load_model(sys.argv[1], threads=1).create_request().status is rt.InferStatus.READY
"""


def test_models_of_a_finalized_runtime() -> None:
    done = processes.run(FINALIZED, path_of("affine"))
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert len(told) == 4 and all("finalized" in line for line in told), told


CALLBACKS = """
import sys
import numpy as np
import optimium.runtime as rt
scheduler = rt.SchedulerType[sys.argv[2]]
model = rt.load_model(sys.argv[1], threads=1, scheduler_type=scheduler)
x, told = np.zeros((384, 384), np.float32), []
requests = [model.create_request() for _ in range(12)]

def tell(status, error):
    told.append((status, error))
    try:
        requests[0].infer([x], [np.zeros_like(x)])
    except (rt.InvalidStateError, rt.InvalidOperationError):
        pass

for request in requests:
    request.set_callback(tell)
    request.infer([x], [np.zeros_like(x)])
rt.finalize()
assert len(told) >= len(requests), told
for status, error in told:
    ended = status is rt.InferStatus.READY and error is None
    failed = status is rt.InferStatus.FAULT and isinstance(error, (rt.InvalidStateError, rt.InferCanceledError))
    assert ended or failed, (status, error)
assert any(error is not None for _, error in told)
assert all(request.status is not rt.InferStatus.RUNNING for request in requests)
"""


@pytest.mark.parametrize("scheduler", list(rt.SchedulerType))
def test_finalize_ends_everything_before_it_returns(scheduler: rt.SchedulerType) -> None:
    done = processes.run(CALLBACKS, path_of("slow"), scheduler.name)
    assert done.returncode == 0, done.stderr

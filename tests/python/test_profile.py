"""Profiles of requests: what is recorded, and what follows from it."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import path_of

import optimium.runtime as rt
from optimium.runtime.profile import BasicProfiler, BatchProfiler, Statistics

Arrays = tuple[list[np.ndarray], list[np.ndarray], np.ndarray]
QUICK = {"warmup": 1, "warmup_time": 0}


def test_every_inference_and_layer_is_recorded(affine: rt.Model, affine_arrays: Arrays) -> None:
    inputs, outputs, expected = affine_arrays
    request = affine.create_request()
    request.profile(inputs, outputs, repeat=7, **QUICK)
    np.testing.assert_allclose(outputs[0], expected, rtol=1e-6)
    events = request.get_profile_events()
    counts = Counter(event.kind for event in events)
    kinds = rt.ProfileEventKind
    layers = len(affine.operations) * 7
    assert counts == {
        kinds.QUEUE_BEGIN: 1,
        kinds.QUEUE_END: 1,
        kinds.MODEL_EXECUTE_BEGIN: 7,
        kinds.MODEL_EXECUTE_END: 7,
        kinds.LAYER_EXECUTE_BEGIN: layers,
        kinds.LAYER_EXECUTE_END: layers,
    }
    times = [event.timestamp_ns for event in events]
    assert times == sorted(times)
    assert {kind.name for kind in kinds} == {
        f"{activity}_{edge}"
        for activity in ("MODEL_EXECUTE", "LAYER_EXECUTE", "LAUNCH", "DEVICE_EXECUTE", "COPY", "QUEUE", "WAIT")
        for edge in ("BEGIN", "END")
    }
    assert [event.timestamp for event in events] == [time // 1000 for time in times]
    layer = next(event for event in events if event.kind is kinds.LAYER_EXECUTE_BEGIN)
    assert (layer.operation, layer.thread_id, layer.tensor_id) == (0, 0, None)
    assert (layer.source_device, layer.dest_device) == (None, None)
    assert "LAYER_EXECUTE_BEGIN of operation 0 on thread 0" in repr(layer)


def test_durations_are_grouped(affine: rt.Model, affine_arrays: Arrays) -> None:
    inputs, outputs, _ = affine_arrays
    request = affine.create_request()
    request.profile(inputs, outputs, repeat=5, **QUICK)
    durations = request.get_profile_durations()
    assert durations.model_name == affine.name
    assert len(durations.model_durations) == 5
    assert list(durations.layer_durations) == [operation.name for operation in affine.operations]
    assert all(len(layer) == 5 for layer in durations.layer_durations.values())
    assert (durations.copy_durations, durations.lost_events) == ({}, 0)
    for number, whole in enumerate(durations.model_durations):
        assert sum(layer[number] for layer in durations.layer_durations.values()) <= whole


def test_two_threads_are_told_apart(affine_arrays: Arrays) -> None:
    inputs, outputs, _ = affine_arrays
    model = rt.load_model(path_of("affine"), threads=2)
    request = model.create_request()
    request.profile(inputs, outputs, repeat=3, **QUICK)
    threads = {event.thread_id for event in request.get_profile_events()}
    assert {None, 0} <= threads <= {None, 0, 1}
    layers = request.get_profile_durations().layer_durations
    assert {len(layer) for layer in layers.values()} == {3}


def test_a_full_buffer_loses_events_and_says_so(affine: rt.Model, affine_arrays: Arrays) -> None:
    inputs, outputs, _ = affine_arrays
    request = affine.create_request()
    with pytest.warns(RuntimeWarning, match="event_buffer_size of 19248 has room for all"):
        request.profile(inputs, outputs, repeat=100, event_buffer_size=512, **QUICK)
    kept = len(request.get_profile_events())
    assert 0 < kept <= 512 // 24
    assert request.get_profile_durations().lost_events == 2 * (1 + 100 * (1 + len(affine.operations))) - kept


def test_a_buffer_of_the_named_size_is_enough(
    affine: rt.Model, affine_arrays: Arrays, recwarn: pytest.WarningsRecorder
) -> None:
    inputs, outputs, _ = affine_arrays
    request = affine.create_request()
    request.profile(inputs, outputs, repeat=100, event_buffer_size=19248, **QUICK)
    assert request.get_profile_durations().lost_events == 0
    assert not recwarn.list


def test_progress_is_told(affine: rt.Model, affine_arrays: Arrays) -> None:
    inputs, outputs, _ = affine_arrays
    request = affine.create_request()
    told: list[tuple[str, float]] = []
    request.profile(inputs, outputs, repeat=3, warmup_time=300_000, progress=lambda *what: told.append(what))
    assert told[0][0] == "warming up"
    assert all(0.0 <= done <= 1.0 for _, done in told)
    assert [done for what, done in told if what == "warming up"] == sorted(d for w, d in told if w == "warming up")

    def refuse(what: str, done: float) -> None:
        raise LookupError(what)

    with pytest.raises(LookupError, match="warming up|measuring"):
        request.profile(inputs, outputs, repeat=2**40, warmup=0, warmup_time=0, progress=refuse)
    with pytest.raises(rt.TypeError, match="progress"):
        request.profile(inputs, outputs, progress=3)


def test_profiles_end_early_where_the_mean_settles(affine: rt.Model, affine_arrays: Arrays) -> None:
    inputs, outputs, _ = affine_arrays
    request = affine.create_request()
    request.profile(inputs, outputs, repeat=1000, stop_threshold=60_000_000, check_period=3, **QUICK)
    assert len(request.get_profile_durations().model_durations) == 6


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"repeat": 0}, rt.InvalidArgumentError),
        ({"repeat": -1}, rt.InvalidArgumentError),
        ({"repeat": "often"}, rt.TypeError),
        ({"warmup_time": -5}, rt.InvalidArgumentError),
        ({"event_buffer_size": 2**40}, rt.InvalidArgumentError),
        ({"check_period": 2**70}, rt.InvalidArgumentError),
        ({"stop_threshold": 0.5}, rt.TypeError),
    ],
)
def test_wrong_options(affine: rt.Model, affine_arrays: Arrays, options: dict, error: type) -> None:
    inputs, outputs, _ = affine_arrays
    request = affine.create_request()
    with pytest.raises(error):
        request.profile(inputs, outputs, **options)
    assert request.status is rt.InferStatus.READY


def test_without_a_profile_there_is_nothing_to_see(affine: rt.Model) -> None:
    request = affine.create_request()
    with pytest.raises(rt.InvalidOperationError, match="profile"):
        request.get_profile_events()
    with pytest.raises(rt.InvalidOperationError, match="profile"):
        request.get_profile_durations()


def test_profiles_can_be_cancelled(affine: rt.Model, affine_arrays: Arrays) -> None:
    inputs, outputs, _ = affine_arrays
    request = affine.create_request()
    timer = threading.Timer(0.1, request.cancel)
    timer.start()
    with pytest.raises(rt.InferCanceledError):
        request.profile(inputs, outputs, repeat=2**40, **QUICK)
    timer.join()


def test_statistics() -> None:
    durations = list(range(101))
    assert Statistics.of("n", durations) == Statistics(
        "n", 101, 0, 100, 50.0, pytest.approx(np.std(durations)), 50.0, 90.0, 95.0, 99.0
    )


def test_basic_profiler(tmp_path: Path) -> None:
    profiler = BasicProfiler(path_of("affine"), memory_optimization=True, threads=1, intermediate_save_path="")
    with pytest.raises(rt.InvalidOperationError, match="profile"):
        profiler.model_stat  # noqa: B018
    profiler.profile(repeat=4, **QUICK)
    assert (profiler.model_stat.count, profiler.model_stat.name) == (4, profiler.model.name)
    assert profiler.model_stat.min <= profiler.model_stat.p50 <= profiler.model_stat.max
    assert [stat.name for stat in profiler.layer_stats] == [op.name for op in profiler.model.operations]
    assert profiler.copy_stats == []
    profiler.dump_json(tmp_path / "profile.json")
    written = json.loads((tmp_path / "profile.json").read_text())
    assert written["model_stat"]["mean"] == profiler.model_stat.mean
    assert written["durations"]["model_durations"] == profiler.durations.model_durations
    assert [layer["name"] for layer in written["layer_stats"]] == [stat.name for stat in profiler.layer_stats]


def test_batch_profiler(tmp_path: Path) -> None:
    profiler = BatchProfiler(path_of("pair"))
    batches = [[np.ones((n, 4), np.float32)] * 2 for n in (1, 5, 3)]
    results = [[np.zeros((n, 4), np.float32) for _ in range(2)] for n in (1, 5, 3)]
    profiler.profile(repeat=3, inputs=batches, outputs=results, **QUICK)
    assert [batch.model_stat.count for batch in profiler.batch_stat] == [3, 3, 3]
    assert profiler.total_stat.model_stat.count == 9
    assert profiler.total_stat.model_stat.max == max(batch.model_stat.max for batch in profiler.batch_stat)
    np.testing.assert_array_equal(results[1][0], np.full((5, 4), 2.0, np.float32))
    profiler.profile(repeat=2, inputs=batches, **QUICK)
    profiler.dump_json(tmp_path / "batches.json")
    assert len(json.loads((tmp_path / "batches.json").read_text())["batches"]) == 3
    for wrong in ({"inputs": []}, {"inputs": batches, "outputs": results[:1]}):
        with pytest.raises(rt.InvalidArgumentError):
            profiler.profile(**wrong)


def test_remote_profiles_are_not_there_yet() -> None:
    with pytest.raises(rt.NotImplementedError, match="192.0.2.1:32264"):
        BasicProfiler(path_of("affine"), remote_address="192.0.2.1", remote_port=32264)

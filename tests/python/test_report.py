"""Reports: from requests to profiles, their files, traces and comparisons."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import profiles
import pytest
from conftest import path_of

import optimium.runtime as rt
from optimium.runtime import report
from optimium.runtime.report import Span, Timing


@pytest.fixture(scope="module")
def measured() -> report.Profile:
    model = rt.load_model(path_of("embedder"), threads=2)
    subject = report.Subject(model, {"indices": np.arange(40, dtype=np.int64)}, source="some/embedder.onnx")
    (profile,) = report.measure([subject], repeat=5, warmup=1, warmup_time=0)
    return profile


def test_profiles_say_what_was_run(measured: report.Profile) -> None:
    assert (measured.model, measured.title, measured.shapes) == ("embedder", "embedder.onnx", {"indices": (40,)})
    assert len(measured.durations) == 5
    assert measured.lost_events == 0
    products = [layer for layer in measured.layers if layer.operator == "MatMul"]
    assert [layer.operations for layer in products] == [2 * 40 * 64 * 384, 2 * 40 * 384 * 96]
    assert [layer.constant_bytes for layer in products] == [4 * 64 * 384, 4 * 384 * 96]
    assert products[0].bytes_written == products[1].bytes_read == 4 * 40 * 384
    lookup = next(layer for layer in measured.layers if layer.operator == "Gather")
    assert lookup.constant_bytes == lookup.bytes_written == 4 * 40 * 64
    assert lookup.output_shapes == ((40, 64),)
    assert all(layer.kernel and layer.device.startswith("native:") for layer in measured.layers)


def test_times_add_up(measured: report.Profile) -> None:
    assert all(len(layer.durations) in (0, 5) for layer in measured.layers)
    assert all(bool(layer.durations) == layer.is_run for layer in measured.layers)
    for number, whole in enumerate(measured.durations):
        assert sum(layer.durations[number] for layer in measured.timed_layers) <= whole
    layers = sum(measured.share(layer.timing.median) for layer in measured.timed_layers)
    assert layers + measured.share(measured.between) == pytest.approx(1.0)
    for totals in (measured.operators, measured.kinds):
        assert sum(total.count for total in totals) == len(measured.timed_layers)
        assert sum(measured.share(total.timing.median) for total in totals) == pytest.approx(layers)
    medians = [layer.timing.median for layer in measured.timed_layers]
    assert medians == sorted(medians, reverse=True)


def test_the_arena_has_room_for_what_lives(measured: report.Profile) -> None:
    memory = measured.memory
    assert memory.constants >= 4 * (320 * 64 + 64 * 384 + 384 * 96)
    for block in memory.blocks:
        assert 0 <= block.first <= block.last < len(measured.layers)
        assert block.offset + block.bytes <= memory.arena
    for one in memory.blocks:
        for other in memory.blocks:
            together = one.first <= other.last and other.first <= one.last
            apart = one.offset + one.bytes <= other.offset or other.offset + other.bytes <= one.offset
            assert one is other or apart or not together


def test_run_details_follow_the_shapes() -> None:
    request = rt.load_model(path_of("pair"), threads=1).create_request()
    with pytest.raises(rt.InvalidOperationError, match="has not run"):
        request.get_run_details()
    for n in (3, 7):
        request.infer([np.ones((n, 4), np.float32)] * 2, [np.zeros((n, 4), np.float32) for _ in range(2)])
        request.wait()
        operations = request.get_run_details().operations
        assert all(work.outputs == ((n, 4),) and work.bytes_read == 2 * 16 * n for work in operations)


def test_limits_come_from_arithmetic_or_memory() -> None:
    layer = profiles.CONV
    assert (layer.rate, layer.fraction) == (pytest.approx(8.192e9), pytest.approx(0.4))
    assert (profiles.RELU.rate, profiles.VIEW.fraction) == (None, None)
    assert (layer.kind, profiles.RELU.kind) == ("Conv pointwise", "Relu")
    assert replace(layer, kernel="depthwise bf16 3x3 + clip").kind == "Conv depthwise bf16"
    assert replace(layer, kernel="strips: pointwise + clip, depthwise 3x3").kind == "Conv strips"
    assert replace(layer, operator="Attention", kernel="attention 8 heads").kind == "Attention"
    assert replace(layer, operator="Attention", kernel="attention by rows").kind == "Attention by rows"
    work = rt.OperationDetails((), (), 10**6, False, 500_000, 4_000_000, 500_000, True, True)
    limit = report.machine.limit
    # Tensors fit the second cache, the constants the third one.
    assert limit(work, profiles.MACHINE, 1, 4_000_000) == pytest.approx(1e6 / 200 + 4e6 / 100)
    assert limit(work, profiles.MACHINE, 2, 1 << 30) == pytest.approx((1e6 / 200 + 4e6 / 20) / 2)
    products = replace(work, multiply_adds=10**9)
    assert limit(products, profiles.MACHINE, 1, 4_000_000) == pytest.approx(2e7)
    assert limit(replace(products, in_integers=True), profiles.MACHINE, 1, 4_000_000) == pytest.approx(5e6)


def test_profiles_are_stored(measured: report.Profile, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    for profile in (measured, profiles.profile()):
        report.save(profile, path)
        assert report.load(path) == profile
    assert profiles.profile().inferences_per_second == pytest.approx(3 / 4.5e-6)
    stored = json.loads(path.read_text())
    assert (stored["format"], stored["unit"], stored["summary"]["median"]) == ("optimium-profile", "ns", 1500.0)
    conv = stored["layers"][0]
    assert (conv["median"], conv["spread"], conv["fraction"]) == (1000.0, 50.0, pytest.approx(0.4))
    assert conv["share"] == pytest.approx(2 / 3)
    assert [total["name"] for total in stored["summary"]["kinds"]] == ["Conv pointwise", "Relu"]
    assert stored["summary"]["between"] == 1500.0 - 1000.0 - 200.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no JSON"),
        ("[1]", "--json"),
        ('{"format": "something"}', "--json"),
        ('{"format": "optimium-profile", "format_version": 9}', "version 9"),
        ('{"format": "optimium-profile", "format_version": 1}', "damaged"),
    ],
)
def test_other_files_are_no_profiles(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content)
    with pytest.raises(rt.InvalidArgumentError, match=message):
        report.load(path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("durations",), []),
        (("durations", 0), "x"),
        (("machine", "cpu"), None),
        (("layers", 0, "name"), ["conv"]),
        (("layers", 0, "constant_bytes"), None),
        (("layers", 0, "durations", 0), "x"),
        (("layers", 0, "output_shapes"), []),
        (("layers",), []),
        (("spans", 0, 0), "SLEEP"),
    ],
)
def test_damaged_profiles_are_refused(tmp_path: Path, place: tuple[str | int, ...], value: object) -> None:
    path = tmp_path / "profile.json"
    report.save(profiles.profile(), path)
    part = stored = json.loads(path.read_text())
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    path.write_text(json.dumps(stored))
    with pytest.raises(rt.InvalidArgumentError, match="damaged"):
        report.load(path)


def test_traces_have_a_track_for_every_worker(tmp_path: Path) -> None:
    report.write_trace(profiles.profile(), tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert list(names.values()) == ["model", "worker 0", "worker 1", "QUEUE"]
    spans = [event for event in events if event["ph"] == "X"]
    assert Counter(names[event["tid"]] for event in spans) == {"model": 3, "worker 0": 6, "worker 1": 3, "QUEUE": 1}
    assert [event["name"] for event in spans if event["cat"] == "MODEL_EXECUTE"] == [f"inference {n}" for n in (1, 2, 3)]
    for name in ("conv", "relu"):
        on_first = [event for event in spans if event["name"] == name and names[event["tid"]] == "worker 0"]
        assert [event["args"]["inference"] for event in on_first] == [1, 2, 3]
    conv = next(event for event in spans if event["name"] == "conv")
    assert (conv["ts"], conv["dur"], conv["cat"]) == (0.1, 0.9, "LAYER_EXECUTE")
    assert conv["args"]["kernel"] == "pointwise 1x1, 6x64 tile"
    assert conv["args"]["inputs"] == "x 1×8×8×4, w 16×4×1×1"


def test_what_overlaps_gets_another_track() -> None:
    copies = [
        Span("COPY", 0, 10, tensor="a", source="cpu", destination="gpu"),
        Span("COPY", 5, 15, tensor="b", source="cpu", destination="gpu"),
        Span("COPY", 12, 20, tensor="c", source="gpu", destination="cpu"),
        Span("WAIT", 3, 12, operation=2),
    ]
    events = report.trace_events([replace(profiles.profile(), spans=tuple(copies))])
    tracks = {event["name"]: event["tid"] for event in events if event["ph"] == "X"}
    assert tracks["copy a"] == tracks["copy c"] != tracks["copy b"]
    assert "wait for relu" in tracks
    assert next(event for event in events if event["name"] == "copy b")["args"]["to"] == "gpu"


def test_requests_side_by_side_share_their_clock() -> None:
    model = rt.load_model(path_of("slow"), threads=1)
    arrays = [([np.zeros((384, 384), np.float32)], [np.zeros((384, 384), np.float32)]) for _ in range(2)]
    requests = [model.create_request() for _ in arrays]
    together = threading.Barrier(2)

    def run(number: int) -> None:
        together.wait()
        requests[number].profile(*arrays[number], repeat=1, warmup=0, warmup_time=0)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = [report.collect(model, request, machine=profiles.MACHINE) for request in requests]
    first, second = (next(span for span in profile.spans if span.activity == "QUEUE") for profile in seen)
    assert abs(first.start - second.start) < 10 * seen[0].durations[0]
    assert {event["pid"] for event in report.trace_events(seen)} == {1, 2}


def test_differences_beyond_the_noise_count() -> None:
    slower = replace(profiles.CONV, durations=(1900, 2000, 2100), kernel="direct")
    noisy = replace(profiles.RELU, durations=(100, 250, 500))
    new = replace(profiles.RELU, name="new", operator="Exp")
    before = profiles.profile()
    after = profiles.profile(slower, noisy, new, durations=(2500, 2600, 2700))
    comparison = report.compare(before, after)
    changes = {change.name: change for change in comparison.layers}
    assert list(changes) == ["conv", "new", "relu"]
    conv = changes["conv"]
    assert (conv.before, conv.after) == (Timing(1000.0, 50.0), Timing(2000.0, 50.0))
    assert (conv.difference, conv.noise, conv.ratio, conv.is_significant) == (1000.0, 100.0, 2.0, True)
    assert (conv.kernel_before, conv.kernel_after) == ("pointwise 1x1, 6x64 tile", "direct")
    assert (changes["new"].before, changes["new"].ratio, changes["new"].difference) == (None, None, 200.0)
    assert not changes["relu"].is_significant
    assert (comparison.total.difference, comparison.total.ratio) == (1100.0, pytest.approx(2600 / 1500))
    assert [change.name for change in comparison.operators] == ["Conv", "Exp", "Relu"]
    gone = report.compare(after, before)
    assert next(change for change in gone.layers if change.name == "new").after is None


def test_layers_of_the_same_name_are_told_apart() -> None:
    twice = profiles.profile(profiles.CONV, replace(profiles.CONV, durations=(1, 1, 1)))
    assert [change.difference for change in report.compare(twice, twice).layers] == [0.0, 0.0]


def test_comparisons_say_what_makes_them_hard() -> None:
    before = profiles.profile()
    after = replace(before, threads=4, precision="bf16", machine=replace(before.machine, cpu="another CPU"))
    assert report.compare(before, before).remarks == []
    remarks = " ".join(report.compare(before, after).remarks)
    assert re.search("CPUs.*threads.*2 and 4.*precisions", remarks)
    other = profiles.profile(profiles.CONV, *(replace(profiles.RELU, name=name) for name in ("a", "b")))
    assert any("3 of 4 layers are in one" in remark for remark in report.compare(before, other).remarks)
    at_once = tuple(span._replace(start=100) if span.activity == "MODEL_EXECUTE" else span for span in before.spans)
    pipeline = replace(before, spans=at_once)
    assert (before.overlaps, pipeline.overlaps) == (False, True)
    (remark,) = report.compare(before, pipeline).remarks
    assert re.search("overlap.*: 666666.7 and .* end in a second", remark)


def test_pipelines_overlap() -> None:
    model = rt.load_model(path_of("slow"), threads=2, scheduler_type=rt.SchedulerType.PIPELINE, stages=2)
    (profile,) = report.measure([report.Subject(model)], repeat=4, warmup=0, warmup_time=0)
    assert all(len(layer.durations) == 4 for layer in profile.timed_layers)
    inferences = sorted(span[1:3] for span in profile.spans if span.activity == "MODEL_EXECUTE")
    assert any(one[1] > other[0] for one, other in zip(inferences, inferences[1:], strict=False))
    assert profile.threads == 2
    product = profile.layers[0]
    # Each stage has a thread of its own.
    rates = profile.machine.f32 * product.limit / 1e9, product.operations
    assert rates[0] >= 0.999 * rates[1]
    assert profile.inferences_per_second > 1e9 / profile.timing.median
    events = report.trace_events([profile])
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"worker 0", "worker 1"} <= {name.rpartition(": ")[2] for name in names.values()}
    # The second stage works on an inference while the first one works on a later one.
    layers = [event for event in events if event.get("cat") == "LAYER_EXECUTE"]
    by_stage = [[event for event in layers if names[event["tid"]].endswith(f"worker {stage}")] for stage in (0, 1)]
    assert all({event["args"]["inference"] for event in stage} == {1, 2, 3, 4} for stage in by_stage)
    meanwhile = [
        (late["args"]["inference"], early["args"]["inference"])
        for late in by_stage[0]
        for early in by_stage[1]
        if late["ts"] < early["ts"] + early["dur"] and early["ts"] < late["ts"] + late["dur"]
    ]
    assert meanwhile and all(late > early for late, early in meanwhile)
    for track in names:
        on_track = [event for event in events if event["ph"] == "X" and event["tid"] == track]
        spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in on_track)
        assert all(one[1] <= other[0] + 0.001 for one, other in zip(spans, spans[1:], strict=False))


def test_models_take_turns() -> None:
    subjects = [report.Subject(rt.load_model(path_of(name), threads=1)) for name in ("affine", "pair")]
    told: list[tuple[str, float]] = []
    options = {"repeat": 7, "warmup": 1, "warmup_time": 60_000, "turns": 3}
    measured = report.measure(subjects, **options, progress=lambda *what: told.append(what))
    assert [(profile.model, len(profile.durations)) for profile in measured] == [("affine", 7), ("pair", 7)]
    first = [next(span.start for span in profile.spans if span.activity == "MODEL_EXECUTE") for profile in measured]
    last = [max(span.end for span in profile.spans) for profile in measured]
    assert first[1] < last[0]
    assert told and all(0.0 <= done <= 1.0 for _, done in told)

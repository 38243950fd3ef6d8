"""What `benches/compare.py` makes of its measurements."""

import io
import math

import numpy as np
import pytest

pytest.importorskip("rich")
from comparison.agreement import distance
from comparison.measure import MOST, Times, calm_rounds, measure
from comparison.report import Row, geometric_mean, markdown, print_table
from comparison.work import Work
from rich.console import Console


def row(**changes: object) -> Row:
    times = {"optimium": Times(2.0, 2.5, 9), "onnxruntime": Times(3.0, 3.5, 9), "openvino": Times(5.0, 5.5, 9)}
    values = {"gflop": 1.0, "limit": 1.0, "times": times, "distances": {"onnxruntime": 1e-6}, "tolerance": 1e-4}
    return Row("network", 1, **{**values, **changes})


def test_the_fastest_rival_counts() -> None:
    assert (row().best_rival, row().ratio, row().fraction) == ("onnxruntime", 1.5, 0.5)
    assert row(times={"optimium": Times(2.0, 2.0, 1)}).ratio is None
    assert row(times={"openvino": Times(2.0, 2.0, 1)}).ratio is None


def test_one_rival_has_to_agree() -> None:
    assert row().agrees
    assert row(distances={"onnxruntime": 1e-3, "openvino": 1e-5}).agrees
    assert not row(distances={"onnxruntime": 1e-3}).agrees
    assert not row(distances={"onnxruntime": math.inf}).agrees
    assert not row(times={}).agrees


def test_a_busy_machine_is_noticed() -> None:
    assert not row(machine=[{"f32": 99.0}, {"f32": 100.0}]).is_slow(100.0)
    assert row(machine=[{"f32": 99.0}, {"f32": 80.0}]).is_slow(100.0)


@pytest.mark.parametrize(
    ("ours", "theirs", "apart"),
    [
        ([[3.0, 4.0]], [[3.0, 4.0]], 0.0),
        ([[3.0, 5.0]], [[3.0, 4.0]], 0.2),
        ([[3.0, math.nan]], [[3.0, 4.0]], math.inf),
        ([[3.0, 4.0, 0.0]], [[3.0, 4.0]], math.inf),
        ([[1.0], [2.0, 0.0]], [[1.0], [1.0, 0.0]], 1.0),
        ([], [], 0.0),
    ],
)
def test_distance(ours: list[list[float]], theirs: list[list[float]], apart: float) -> None:
    assert distance([np.array(a) for a in ours], [np.array(b) for b in theirs]) == pytest.approx(apart)


def test_of_integers_the_share_that_differs_counts() -> None:
    assert distance([np.array([1, 2, 3, 9])], [np.array([1, 2, 3, 4])]) == 0.25


def test_bytes_are_taken_without_their_mean() -> None:
    theirs = np.array([10, 10, 14, 14], np.uint8)
    assert distance([np.array([10, 10, 14, 12], np.uint8)], [theirs]) == pytest.approx(0.5)
    assert distance([theirs], [theirs]) == 0.0


def test_limit_and_mean() -> None:
    machine = {"f32": 2e9, "int8": 8e9}
    assert Work(1e9, 4e9, True).limit(machine, threads=2) == pytest.approx(500.0)
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert geometric_mean([]) == 1.0


def test_every_engine_has_its_turns() -> None:
    class Engine:
        calls = 0

        def run(self) -> None:
            self.calls += 1

        def outputs(self) -> list[np.ndarray]:
            return []

    engines = {"a": Engine(), "b": Engine()}
    times = measure(engines, rounds=1)
    for name, engine in engines.items():
        assert 1 <= engine.calls - times[name].count <= MOST
        assert 0.0 <= times[name].minimum <= times[name].median


def test_slow_rounds_are_noticed() -> None:
    calm, slow, unlucky = {"a": [1.0, 9.0], "b": [2.1]}, {"a": [1.9], "b": [3.9]}, {"a": [1.0], "b": [2.5]}
    assert calm_rounds([slow, calm, unlucky, calm]) == [calm, calm]


def test_tables_name_what_went_wrong() -> None:
    rows = [row(), row(distances={"onnxruntime": 0.1}, reasons={"litert": "reads no .onnx files", "openvino": "no such operator"})]
    names = ["optimium", "onnxruntime", "openvino"]
    console = Console(file=io.StringIO(), width=200)
    print_table(rows, names, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1.50" in text and "no such operator" in text and "outputs are apart" in text and "reads no" not in text
    lines = markdown(rows, names).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == len(names) + 8

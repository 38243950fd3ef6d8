"""Sequences, optionals and random numbers, against ONNX's reference implementation."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

import optimium.runtime as rt

HEAD = '<ir_version: 8, opset_import: ["": 18]>'

MODELS = {
    "split, changed and joined": """
        g (float[N, 6] x) => (float[N, 6] y) {
            two = Constant<value_int = 2>()
            parts = SplitToSequence<axis = 1>(x, two)
            first = Constant<value_int = 0>()
            head = SequenceAt(parts, first)
            rest = SequenceErase(parts, first)
            all = SequenceInsert(rest, head)
            y = ConcatFromSequence<axis = 1>(all)
        }""",
    "a loop that grows one": """
        g (float[3] x) => (float[4, 3] y) <bool yes = {1}> {
            count = Constant<value_int = 4>()
            empty = SequenceEmpty()
            all = Loop(count, yes, empty) <body = b (int64 i, bool go, seq(float) s) => (bool again, seq(float) t) {
                again = Identity(go)
                f = CastLike(i, x)
                z = Add(x, f)
                t = SequenceInsert(s, z)
            }>
            y = ConcatFromSequence<axis = 0, new_axis = 1>(all)
        }""",
    "a branch that gives one": """
        g (float[3] x) => (float[6] y) {
            zero = Constant<value_float = 0.0>()
            sum = ReduceSum<keepdims = 0>(x)
            c = Greater(sum, zero)
            s = If(c) <
                then_branch = a () => (seq(float) r) { n = Neg(x)  r = SequenceConstruct(x, n) },
                else_branch = b () => (seq(float) r) { r = SequenceConstruct(x, x) }
            >
            y = ConcatFromSequence<axis = 0>(s)
        }""",
}


def made(text: str, tmp_path: Path) -> Path:
    model = parser.parse_model(HEAD + text)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def infer(model, inputs: dict, shapes: dict) -> dict[str, np.ndarray]:
    outputs = {name: rt.tensor(shape=shape, dtype=model.get_tensor(name).type) for name, shape in shapes.items()}
    request = model.create_request()
    request.infer({name: rt.tensor(value) for name, value in inputs.items()}, outputs)
    request.wait()
    return {name: output.to_numpy() for name, output in outputs.items()}


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, tmp_path: Path) -> None:
    path = made(MODELS[name], tmp_path)
    shape = (2, 6) if "split" in name else (3,)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    for sign in (1, -1):
        (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": sign * x})
        ours = infer(rt.load_model(path, threads=1), {"x": sign * x}, {"y": expected.shape})
        np.testing.assert_array_equal(ours["y"], expected)


GIVEN = """
    g (seq(float[N]) s, float[3] x) => (seq(float[N]) t, int64 n) {
        t = SequenceInsert(s, x)
        n = SequenceLength(t)
    }"""


def test_inputs_and_outputs_are_their_tensors(tmp_path: Path) -> None:
    path = made(GIVEN, tmp_path)
    with pytest.raises(rt.NotImplementedError, match="a sequence, whose length"):
        rt.load_model(path)
    with pytest.raises(rt.InvalidArgumentError, match='"x"'):
        rt.load_model(path, sequences={"x": [(3,)]})
    rt.convert(path, tmp_path / "folder", sequences={"s": [(2,), (4,)]})
    for model in (
        rt.load_model(path, sequences={"s": [(2,), (4,)]}),
        rt.load_model(tmp_path / "folder"),
    ):
        assert set(model.input_names) == {"s.0", "s.1", "x"}
        assert set(model.output_names) == {"t.0", "t.1", "t.2", "n"}
        inputs = {"s.0": np.ones(2, np.float32), "s.1": np.zeros(4, np.float32), "x": np.full(3, 2, np.float32)}
        ours = infer(model, inputs, {"t.0": (2,), "t.1": (4,), "t.2": (3,), "n": ()})
        assert ours["n"] == 3
        for name, given in (("t.0", "s.0"), ("t.1", "s.1"), ("t.2", "x")):
            np.testing.assert_array_equal(ours[name], inputs[given])
    with pytest.raises(rt.InvalidArgumentError, match="converted"):
        rt.load_model(tmp_path / "folder", sequences={"s": [(2,)]})


def test_seeds_give_the_numbers_of_the_reference(tmp_path: Path) -> None:
    text = """
        g (float[4] x) => (float[2, 3] a, double[5] b, float[4] c) {
            a = RandomUniform<shape = [2, 3], seed = 3.0, low = -1.0, high = 2.0>()
            b = RandomNormal<shape = [5], seed = 4.0, dtype = 11, mean = 1.0, scale = 0.5>()
            c = RandomNormalLike<seed = 5.0>(x)
        }"""
    path = made(text, tmp_path)
    x = np.zeros(4, np.float32)
    expected = ReferenceEvaluator(str(path)).run(None, {"x": x})
    shapes = {"a": (2, 3), "b": (5,), "c": (4,)}
    model = rt.load_model(path, threads=1)
    for _ in range(2):
        ours = infer(model, {"x": x}, shapes)
        for value, reference in zip(ours.values(), expected, strict=True):
            np.testing.assert_allclose(value, reference, rtol=1e-6)


def test_without_a_seed_every_inference_draws(tmp_path: Path) -> None:
    text = """
        g (float[1, 3] x) => (float[1000] a, int32[1, 6000] b, float[1, 3] c) {
            a = RandomUniform<shape = [1000]>()
            b = Multinomial<sample_size = 6000>(x)
            c = Bernoulli(x)
        }"""
    model = rt.load_model(made(text, tmp_path), threads=1)
    x = np.log(np.array([[1, 2, 3]], np.float32) / 6)
    shapes = {"a": (1000,), "b": (1, 6000), "c": (1, 3)}
    first, second = (infer(model, {"x": x}, shapes) for _ in range(2))
    assert 0 <= first["a"].min() and first["a"].max() < 1 and abs(first["a"].mean() - 0.5) < 0.1
    assert (first["a"] != second["a"]).any()
    # Five standard deviations.
    np.testing.assert_allclose(np.bincount(first["b"][0], minlength=3), [1000, 2000, 3000], atol=200)
    # A probability below zero is none.
    assert not first["c"].any()

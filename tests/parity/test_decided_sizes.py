"""Models whose data decide sizes, axes, or what runs, against ONNX Runtime: detectors, decoders, branches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import optimium.runtime as rt

F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL

Inputs = dict[str, np.ndarray]


def value(name: str, element_type: int, shape: list | None):
    return helper.make_tensor_value_info(name, element_type, shape)


def constant(name: str, array) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def model(nodes: list, inputs: list, outputs: list, constants: list = ()) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def node(op: str, inputs: str, outputs: str, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def detector() -> onnx.ModelProto:
    """Scores and boxes, the best of each class, and what belongs to them gathered."""
    nodes = [
        helper.make_node("Mul", ["raw", "two"], ["boxes"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "limit", "overlap", "least"], ["picked"]),
        helper.make_node("Gather", ["picked", "column_2"], ["place"], axis=1),
        helper.make_node("Gather", ["picked", "column_1"], ["class"], axis=1),
        helper.make_node("Squeeze", ["boxes", "axis_0"], ["flat_boxes"]),
        helper.make_node("Gather", ["flat_boxes", "place"], ["found"], axis=0),
        helper.make_node("GatherND", ["scores", "picked"], ["score"]),
        helper.make_node("Shape", ["picked"], ["picked_shape"]),
        helper.make_node("Gather", ["picked_shape", "zero"], ["count"], axis=0),
        helper.make_node("Cast", ["class"], ["class_f"], to=F32),
        helper.make_node("Add", ["class_f", "score"], ["sum"]),
    ]
    constants = [
        constant("two", np.float32(2)),
        constant("limit", np.int64(5)),
        constant("overlap", np.float32(0.4)),
        constant("least", np.float32(0.55)),
        constant("column_2", np.int64(2)),
        constant("column_1", np.int64(1)),
        constant("axis_0", np.array([0], np.int64)),
        constant("zero", np.int64(0)),
    ]
    inputs = [value("raw", F32, [1, "n", 4]), value("logits", F32, [1, 3, "n"])]
    outputs = [value("found", F32, ["k", 4]), value("sum", F32, ["k"]), value("count", I64, []), value("picked", I64, ["k", 3])]
    return model(nodes, inputs, outputs, constants)


def decoder() -> onnx.ModelProto:
    """A loop that appends a token until a limit: its state grows, each step's logits are collected."""
    body = helper.make_graph(
        [
            helper.make_node("Shape", ["tokens"], ["length"]),
            helper.make_node("Gather", ["table", "tokens"], ["embedded"], axis=0),
            helper.make_node("ReduceMean", ["embedded"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("MatMul", ["mean", "weights"], ["logits_2d"]),
            helper.make_node("Squeeze", ["logits_2d", "axis_0"], ["logits"]),
            helper.make_node("ArgMax", ["logits"], ["best"], axis=0, keepdims=1),
            helper.make_node("Concat", ["tokens", "best"], ["longer"], axis=0),
            helper.make_node("Less", ["length", "most"], ["is_short"]),
            helper.make_node("Squeeze", ["is_short", "axis_0"], ["again"]),
        ],
        "step",
        [value("i", I64, []), value("go", BOOL, []), value("tokens", I64, ["t"])],
        [value("again", BOOL, []), value("longer", I64, ["u"]), value("logits", F32, [7])],
    )
    random = np.random.default_rng(1)
    constants = [
        constant("table", random.standard_normal((7, 16)).astype(np.float32)),
        constant("weights", random.standard_normal((16, 7)).astype(np.float32)),
        constant("axis_0", np.array([0], np.int64)),
        constant("most", np.array([9], np.int64)),
    ]
    nodes = [helper.make_node("Loop", ["", "start", "prompt"], ["all_tokens", "all_logits"], body=body)]
    inputs = [value("start", BOOL, []), value("prompt", I64, ["p"])]
    return model(nodes, inputs, [value("all_tokens", I64, ["n"]), value("all_logits", F32, ["steps", 7])], constants)


def branches() -> onnx.ModelProto:
    """Branches whose results have different sizes, one of them with a product, inside of each other."""
    inner_then = helper.make_graph([node("Concat", "x x", "a", axis=1)], "inner_then", [], [value("a", F32, ["r", "c"])])
    inner_else = helper.make_graph([node("Relu", "x", "b")], "inner_else", [], [value("b", F32, ["r", "c"])])
    then = helper.make_graph([node("MatMul", "x w", "m")], "then", [], [value("m", F32, ["r", 5])])
    other = helper.make_graph(
        [helper.make_node("If", ["second"], ["i"], then_branch=inner_then, else_branch=inner_else)],
        "other",
        [],
        [value("i", F32, ["r", "c"])],
    )
    nodes = [
        helper.make_node("If", ["first"], ["taken"], then_branch=then, else_branch=other),
        helper.make_node("ReduceSum", ["taken", "axis_1"], ["sums"], keepdims=0),
        helper.make_node("Add", ["taken", "one"], ["more"]),
    ]
    random = np.random.default_rng(2)
    constants = [
        constant("w", random.standard_normal((4, 5)).astype(np.float32)),
        constant("axis_1", np.array([1], np.int64)),
        constant("one", np.float32(1)),
    ]
    inputs = [value("first", BOOL, []), value("second", BOOL, []), value("x", F32, ["n", 4])]
    return model(nodes, inputs, [value("sums", F32, ["r"]), value("more", F32, ["r", "c"])], constants)


def squeezed_by_size(axis: str) -> list:
    """`x` without the axis where that has one element, as exporters write it: its number of dimensions depends on sizes."""
    then = helper.make_graph([node("Squeeze", f"x {axis}_list", "s")], "then", [], [value("s", F32, None)])
    other = helper.make_graph([node("Identity", "x", "k")], "other", [], [value("k", F32, None)])
    return [
        node("Shape", "x", "sizes"),
        node("Gather", f"sizes {axis}", "size", axis=0),
        node("Equal", "size one", "is_one"),
        helper.make_node("If", ["is_one"], ["any_rank"], then_branch=then, else_branch=other),
    ]


SIZE_CONSTANTS = [
    constant("one", np.int64(1)),
    constant("axis_0", np.int64(0)),
    constant("axis_1", np.int64(1)),
    constant("axis_0_list", np.array([0], np.int64)),
    constant("axis_1_list", np.array([1], np.int64)),
    constant("both", np.array([0, 1], np.int64)),
    constant("rest", np.array([-1], np.int64)),
]


def ranks() -> onnx.ModelProto:
    """A number of dimensions that sizes decide: sums along the last axis of what is left."""
    nodes = [
        *squeezed_by_size("axis_1"),
        node("Relu", "any_rank", "positive"),
        node("ReduceSum", "positive rest", "sums", keepdims=0),
        node("Reshape", "sums rest", "y"),
    ]
    return model(nodes, [value("x", F32, ["n", "m"])], [value("y", F32, ["sums"])], SIZE_CONSTANTS)


def voices() -> onnx.ModelProto:
    """A branch for each rate; ranks in them depend on sizes, and one can only be run with one row."""
    fast = helper.make_graph(
        [*squeezed_by_size("axis_1"), node("ReduceMax", "any_rank", "most", axes=[-1], keepdims=0), node("Mul", "x x", "square")]
        + [node("ReduceMax", "most", "top", keepdims=0), node("Reshape", "top rest", "p")],
        "fast",
        [],
        [value("p", F32, [1]), value("square", F32, ["rows", "columns"])],
    )
    slow = helper.make_graph(
        [*squeezed_by_size("axis_0"), node("Unsqueeze", "any_rank both", "wide"), helper.make_node("Conv", ["wide", "w"], ["c"], name="narrow")]
        + [node("ReduceMax", "c", "top", keepdims=0), node("Reshape", "top rest", "p"), node("Neg", "x", "less")],
        "slow",
        [],
        [value("p", F32, [1]), value("less", F32, ["rows", "columns"])],
    )
    nodes = [
        node("Equal", "rate fast_rate", "is_fast"),
        helper.make_node("If", ["is_fast"], ["score", "z"], then_branch=fast, else_branch=slow),
        node("Exp", "score", "p"),
    ]
    constants = [*SIZE_CONSTANTS, constant("fast_rate", np.int64(16000)), constant("w", np.ones((1, 1, 3), np.float32))]
    inputs = [value("x", F32, ["n", "m"]), value("rate", I64, [])]
    return model(nodes, inputs, [value("p", F32, [1]), value("z", F32, ["n", "m"])], constants)


def scan() -> onnx.ModelProto:
    """Running sums along an axis, backwards, and their squares along another one."""
    body = helper.make_graph(
        [node("Add", "state part", "next"), node("Mul", "next scale", "scaled"), node("Mul", "scaled scaled", "square")],
        "step",
        [value("state", F32, ["n"]), value("part", F32, ["n"])],
        [value("next", F32, ["n"]), value("scaled", F32, ["n"]), value("square", F32, ["n"])],
    )
    nodes = [
        helper.make_node(
            "Scan",
            ["zeros", "x"],
            ["last", "forward", "squares"],
            body=body,
            num_scan_inputs=1,
            scan_input_axes=[1],
            scan_input_directions=[1],
            scan_output_axes=[0, 1],
            scan_output_directions=[0, 1],
        )
    ]
    constants = [constant("zeros", np.zeros(3, np.float32)), constant("scale", np.float32(0.5))]
    outputs = [value("last", F32, [3]), value("forward", F32, ["t", 3]), value("squares", F32, [3, "t"])]
    return model(nodes, [value("x", F32, [3, "t"])], outputs, constants)


def amounts() -> onnx.ModelProto:
    """Every operator whose amounts are computed: a slice, a pad, the best k, a tile, an expansion, a reshape, a range."""
    nodes = [
        helper.make_node("Slice", ["x", "start", "end"], ["sliced"]),
        helper.make_node("Pad", ["sliced", "pads"], ["padded"]),
        helper.make_node("TopK", ["padded", "k"], ["best", "where"], axis=-1),
        helper.make_node("Tile", ["best", "repeats"], ["tiled"]),
        helper.make_node("Reshape", ["tiled", "shape"], ["reshaped"]),
        helper.make_node("Expand", ["reshaped", "expanded"], ["wide"]),
        helper.make_node("Range", ["zero", "limit", "step"], ["numbers"]),
        helper.make_node("ConstantOfShape", ["k"], ["zeros"]),
        helper.make_node("Cast", ["numbers"], ["numbers_f"], to=F32),
        helper.make_node("ReduceSum", ["wide", "axes"], ["sum"], keepdims=1),
        helper.make_node("CumSum", ["wide", "along"], ["running"]),
    ]
    vector = lambda name, size: value(name, I64, [size])  # noqa: E731
    inputs = [
        value("x", F32, ["n", 6]),
        *(vector(name, 2) for name in ("start", "end", "repeats")),
        vector("pads", 4),
        vector("k", 1),
        vector("shape", 3),
        vector("expanded", 3),
        vector("axes", 1),
        *(value(name, I64, []) for name in ("zero", "limit", "step", "along")),
    ]
    outputs = [
        value("wide", F32, [None, None, None]),
        value("where", I64, [None, None]),
        value("numbers_f", F32, [None]),
        value("zeros", F32, [None]),
        value("sum", F32, [None, None, None]),
        value("running", F32, [None, None, None]),
    ]
    return model(nodes, inputs, outputs)


def searches() -> onnx.ModelProto:
    """What is not zero, compressed and distinct, and what follows from how much that is."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Transpose", ["where"], ["pairs"]),
        helper.make_node("GatherND", ["x", "pairs"], ["found"]),
        helper.make_node("Unique", ["found"], ["distinct", "first", "inverse", "counts"], sorted=1),
        helper.make_node("Greater", ["found", "zero"], ["is_positive"]),
        helper.make_node("Compress", ["found", "is_positive"], ["positive"], axis=0),
        helper.make_node("Shape", ["positive"], ["count"]),
        helper.make_node("Concat", ["positive", "positive"], ["twice"], axis=0),
        helper.make_node("Concat", ["minus_one", "two"], ["shape"], axis=0),
        helper.make_node("Reshape", ["twice", "shape"], ["columns"]),
    ]
    constants = [
        constant("zero", np.float32(0)),
        constant("minus_one", np.array([-1], np.int64)),
        constant("two", np.array([2], np.int64)),
    ]
    outputs = [
        value("where", I64, [2, "z"]),
        value("distinct", F32, ["d"]),
        value("inverse", I64, ["z"]),
        value("counts", I64, ["d"]),
        value("columns", F32, ["p", 2]),
        value("count", I64, [1]),
    ]
    return model(nodes, [value("x", F32, ["n", 5])], outputs, constants)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def boxes(count: int) -> Inputs:
    corners = np.random.default_rng(count).random((1, count, 2, 2), np.float32)
    return {"raw": np.sort(corners, axis=2).reshape(1, count, 4), "logits": random(1, 3, count)}


def sparse(rows: int) -> Inputs:
    x = np.random.default_rng(rows).integers(-2, 3, (rows, 5)).astype(np.float32)
    return {"x": x}


def amount(n: int, start, end, pads, k: int, repeats, shape, expanded, limit: int, axis: int) -> Inputs:
    vectors = {"start": start, "end": end, "pads": pads, "k": [k], "repeats": repeats, "shape": shape, "expanded": expanded}
    scalars = {"zero": 0, "limit": limit, "step": 2, "along": axis}
    numbers = {name: np.array(numbers, np.int64) for name, numbers in {**vectors, **scalars, "axes": [axis]}.items()}
    return {"x": random(n, 6), **numbers}


CASES: dict[str, tuple[Callable[[], onnx.ModelProto], list[Inputs]]] = {
    "detector": (detector, [boxes(50), boxes(1), boxes(3000), boxes(50)]),
    "decoder": (
        decoder,
        [
            {"start": np.array(True), "prompt": np.array([1, 2, 3])},
            {"start": np.array(True), "prompt": np.array([4])},
            {"start": np.array(False), "prompt": np.array([4, 5])},
        ],
    ),
    "branches": (
        branches,
        [
            {"first": np.array(first), "second": np.array(second), "x": random(rows, 4)}
            for first, second, rows in [(True, True, 3), (False, True, 2), (False, False, 3), (True, False, 1)]
        ],
    ),
    "ranks": (ranks, [{"x": random(*shape)} for shape in [(3, 4), (5, 1), (1, 1), (2, 6), (5, 1)]]),
    "voices": (
        voices,
        [
            {"x": random(*shape), "rate": np.array(rate)}
            for shape, rate in [((3, 4), 16000), ((1, 5), 8000), ((3, 1), 16000), ((1, 7), 8000), ((3, 4), 16000)]
        ],
    ),
    "scan": (scan, [{"x": random(3, length)} for length in (1, 8, 3)]),
    "amounts": (
        amounts,
        [
            amount(4, [1, 0], [4, 6], [0, 1, 1, 0], 3, [1, 2], [2, 3, -1], [2, 3, 4], 7, 1),
            amount(4, [0, -3], [2, 99], [0, 0, 0, 0], 2, [3, 1], [3, 2, 2], [3, 2, 2], 0, -1),
            amount(4, [1, 0], [4, 6], [0, 1, 1, 0], 3, [1, 2], [2, 3, -1], [2, 3, 4], 7, 0),
        ],
    ),
    "searches": (searches, [sparse(4), sparse(1), {"x": np.zeros((2, 5), np.float32)}, sparse(30)]),
}


def reference(path: Path, inputs: Inputs) -> Inputs:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [info.name for info in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def compare(ours: np.ndarray, theirs: np.ndarray, name: str) -> None:
    assert ours.shape == theirs.shape, name
    if theirs.dtype.kind == "f":
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=name)
    else:
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[Inputs], list[Inputs]]:
    make, inputs = CASES[request.param]
    path = tmp_path / f"{request.param}.onnx"
    onnx.save(make(), path)
    return path, inputs, [reference(path, one) for one in inputs]


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"memory_optimization": False}], ids=["plain", "threads", "readable"])
def test_outputs_get_their_sizes(case, options: dict) -> None:
    path, inputs, expected = case
    loaded = rt.load_model(path, **{"threads": 1, **options})
    request = loaded.create_request()
    for given, wanted in zip(inputs, expected, strict=True):
        shapes = {name: rt.TensorShape(*array.shape) for name, array in given.items()}
        is_known = {name: not loaded.infer_shape(name, shapes).dynamic for name in wanted}
        known = {name: np.empty_like(array) for name, array in wanted.items() if is_known[name]}
        request.infer(given, known)
        request.wait()
        for name, array in wanted.items():
            compare(known[name] if name in known else request.get_tensor(name).to_numpy(), array, name)


@pytest.mark.parametrize("scheduler", ["SIMPLE", "EXCLUSIVE", "PIPELINE"])
def test_given_outputs_are_written(case, scheduler: str) -> None:
    path, inputs, expected = case
    loaded = rt.load_model(path, threads=1, scheduler_type=getattr(rt.SchedulerType, scheduler))
    request = loaded.create_request()
    for given, wanted in zip(inputs, expected, strict=True):
        outputs = {name: np.empty_like(array) for name, array in wanted.items()}
        request.infer(given, outputs)
        request.wait()
        for name, array in wanted.items():
            compare(outputs[name], array, name)


def test_folders_hold_bodies(case, tmp_path: Path) -> None:
    path, inputs, expected = case
    rt.convert(path, tmp_path / "folder")
    request = rt.load_model(tmp_path / "folder", threads=1).create_request()
    outputs = {name: np.empty_like(array) for name, array in expected[0].items()}
    request.infer(inputs[0], outputs)
    request.wait()
    for name, array in expected[0].items():
        compare(outputs[name], array, name)


def test_profiles_see_all_operations(case) -> None:
    path, inputs, expected = case
    request = rt.load_model(path, threads=1).create_request()
    outputs = {name: np.empty_like(array) for name, array in expected[0].items()}
    request.profile(inputs[0], outputs, repeat=3, warmup=1)
    durations = request.get_profile_durations()
    assert durations is not None
    for name, array in expected[0].items():
        compare(outputs[name], array, name)


def test_wrong_sizes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "searches.onnx"
    onnx.save(searches(), path)
    request = rt.load_model(path, threads=1).create_request()
    request.infer({"x": np.ones((1, 5), np.float32)}, {"where": np.zeros((2, 4), np.int64), "count": np.zeros(1, np.int64)})
    with pytest.raises(rt.ShapeError, match=r'"where" has the shape \[2, 5\].*\[2, 4\] was given'):
        request.wait()


@pytest.mark.parametrize(
    ("op", "inputs", "numbers", "message"),
    [
        ("ConstantOfShape", ["n"], [[1 << 40, 1 << 20]], "large|memory|resource"),
        ("ConstantOfShape", ["n"], [[-1, 2]], "-1"),
        ("Range", ["a", "b", "c"], [0, 1 << 60, 1], "large|memory|resource|bytes"),
        ("Range", ["a", "b", "c"], [0, 5, 0], "zero"),
    ],
)
def test_hostile_sizes_are_errors(tmp_path: Path, op: str, inputs: list[str], numbers: list, message: str) -> None:
    arrays = {name: np.array(numbers[index], np.int64) for index, name in enumerate(inputs)}
    output = value("y", I64 if op == "Range" else F32, [None] if op == "Range" else [None, None])
    made = model([helper.make_node(op, inputs, ["y"])], [value(name, I64, list(a.shape)) for name, a in arrays.items()], [output])
    path = tmp_path / "hostile.onnx"
    onnx.save(made, path)
    request = rt.load_model(path, threads=1).create_request()
    request.infer(arrays, {})
    with pytest.raises(rt.RuntimeException, match=f"(?i){message}"):
        request.wait()


def test_a_branch_that_contradicts_itself_fails_when_it_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "voices.onnx"
    onnx.save(voices(), path)
    request = rt.load_model(path, threads=1).create_request()
    for rows, rate, is_wrong in [(2, 8000, True), (2, 16000, False), (1, 8000, False)]:
        outputs = {"p": np.zeros(1, np.float32), "z": np.zeros((rows, 5), np.float32)}
        request.infer({"x": random(rows, 5), "rate": np.array(rate)}, outputs)
        if is_wrong:
            with pytest.raises(rt.InferError, match='Conv "narrow"'):
                request.wait()
        else:
            request.wait()


def test_ranks_that_sizes_decide_must_be_declared(tmp_path: Path) -> None:
    made = model(squeezed_by_size("axis_1"), [value("x", F32, ["n", "m"])], [value("any_rank", F32, ["n"])], SIZE_CONSTANTS)
    made.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(made, tmp_path / "open.onnx")
    with pytest.raises(rt.ModelError, match='"any_rank".*declare'):
        rt.load_model(tmp_path / "open.onnx")


def test_an_endless_loop_can_be_cancelled(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("Add", "x one", "y"), node("Identity", "go", "again")],
        "forever",
        [value("i", I64, []), value("go", BOOL, []), value("x", F32, [1])],
        [value("again", BOOL, []), value("y", F32, [1])],
    )
    nodes = [helper.make_node("Loop", ["", "", "x0"], ["x1"], body=body)]
    made = model(nodes, [value("x0", F32, [1])], [value("x1", F32, [1])], [constant("one", np.ones(1, np.float32))])
    path = tmp_path / "endless.onnx"
    onnx.save(made, path)
    request = rt.load_model(path, threads=1).create_request()
    request.infer({"x0": np.zeros(1, np.float32)}, {"x1": np.zeros(1, np.float32)})
    assert request.wait(timeout=50_000)
    request.cancel()
    with pytest.raises(rt.InferCanceledError):
        request.wait()

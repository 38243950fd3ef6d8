"""Real networks against ONNX Runtime and LiteRT.

Runs where a folder of models is given by OPTIMIUM_MODELS, or lies at `../shared/models` beside the checkout: weightless
ONNX skeletons with `materialize.py` to fill them, and TFLite files in `tflite/`. Without one there is nothing to compare,
and the module collects no test.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
from inference import infer

import optimium.runtime as rt

ROOT = Path(__file__).parents[2]
MODELS = Path(os.environ.get("OPTIMIUM_MODELS", ROOT.parent / "shared" / "models"))

F32_TOLERANCE = 1e-4
"""‖ours - theirs‖ / ‖theirs‖ of a network in single precision."""

SIZES = {
    "gru": [{"n": 1, "s": 32}, {"n": 3, "s": 7}],
    "llama_tiny": [{"s": 1, "p": 128, "t": 129}, {"s": 5, "p": 3, "t": 8}, {"s": 6, "p": 0, "t": 6}],
    "minilm_l6": [{"batch": 1, "seq": 128}, {"batch": 3, "seq": 17}],
    "minilm_l6_dynq": [{"batch": 1, "seq": 128}, {"batch": 2, "seq": 9}],
    "unet": [{"n": 1, "h": 256, "w": 256}, {"n": 2, "h": 64, "w": 96}],
}
"""Values of the symbols of dynamic networks."""

TOKENS = {"gru": 60, "llama_tiny": 1000, "minilm_l6": 1000, "minilm_l6_dynq": 1000}

ONNX = sorted(path.name.removesuffix(".skel.onnx") for path in MODELS.glob("*.skel.onnx"))
TFLITE = sorted(MODELS.glob("tflite/*.tflite"))
QUANTIZED = [name for name in ONNX if name.endswith(("_qdq", "_dynq"))]

INSTRUCTION_SETS = ["portable", "avx2", "avx512", "avx512vnni"]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, str(MODELS / "materialize.py"), str(folder), *ONNX], check=True)
    return folder


def reference(path: Path, threads: int = 1):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs_of(session, name: str, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    inputs = {}
    for info in session.get_inputs():
        shape = [dim if isinstance(dim, int) else sizes[dim] for dim in info.shape]
        if "float" in info.type:
            inputs[info.name] = random.standard_normal(shape).astype(np.float32)
        elif info.name == "pos":
            inputs[info.name] = np.broadcast_to(np.arange(sizes["p"], sizes["p"] + sizes["s"]), shape).astype(np.int64)
        elif info.name == "attention_mask":
            inputs[info.name] = np.ones(shape, np.int64)
        else:
            limit = TOKENS[name] if info.name in ("ids", "input_ids") else 2
            inputs[info.name] = random.integers(0, limit, shape).astype(np.int64)
    return inputs


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    norm = float(np.linalg.norm(theirs.astype(np.float64)))
    return float(np.linalg.norm(ours.astype(np.float64) - theirs)) / (norm or 1.0)


def cases() -> list:
    return [pytest.param(name, sizes, id=f"{name}-{i}") for name in ONNX for i, sizes in enumerate(SIZES.get(name, [{}]))]


def in_reals(path: Path):
    """The network without the rounding of its activations: what quantization approximates."""
    import onnx
    import onnxruntime as ort
    from onnx import helper

    model = onnx.load(str(path))
    constants = {initializer.name for initializer in model.graph.initializer}
    renamed: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants:
            renamed[node.output[0]] = node.input[0]
        elif node.op_type == "DequantizeLinear" and node.input[0] in renamed:
            renamed[node.output[0]] = node.input[0]
        elif node.op_type == "DynamicQuantizeLinear":
            x, (y, scale, zero) = node.input[0], node.output
            nodes.append(helper.make_node("Identity", [x], [y]))
            nodes.append(helper.make_node("Constant", [], [scale], value_float=1.0))
            renamed[zero] = ""
        elif node.op_type == "MatMulInteger":
            a, b, b_zero = node.input[0], node.input[1], node.input[3]
            real, shift = f"{b}.real", f"{b}.shift"
            nodes.append(helper.make_node("Cast", [b], [f"{real}.raw"], to=1))
            nodes.append(helper.make_node("Cast", [b_zero], [shift], to=1))
            nodes.append(helper.make_node("Sub", [f"{real}.raw", shift], [real]))
            nodes.append(helper.make_node("MatMul", [a, real], [node.output[0]]))
        else:
            nodes.append(node)

    def resolve(name: str) -> str:
        while name in renamed:
            name = renamed[name]
        return name

    seen: set[str] = set()
    unique = []
    for node in nodes:
        if any(output in seen for output in node.output):
            continue
        seen.update(node.output)
        for i, name in enumerate(node.input):
            node.input[i] = resolve(name)
        unique.append(node)
    del model.graph.node[:]
    model.graph.node.extend(unique)
    for output in model.graph.output:
        if resolve(output.name) != output.name:
            model.graph.node.append(helper.make_node("Identity", [resolve(output.name)], [output.name]))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options)


def check_quantized(ours: np.ndarray, theirs: np.ndarray, exact: np.ndarray) -> None:
    """At most one quantum for 99.9 % of the outputs, or no further from the real network than they are.

    Nothing nearer can be asked of dynamic quantization: where a number lies between two quanta, the last bit of a scale or
    of a sum before it decides, and one quantum more in an early layer changes all later ones. On `minilm_l6_dynq` each of
    two runtimes is either 2e-7 or between 3e-5 and 5e-3 from the same network in double precision, depending on the input,
    and so is ONNX Runtime with and without its optimizations from itself.
    """
    steps = np.diff(np.unique(theirs))
    quantum = float(steps.min()) if 0 < len(steps) < 256 else 0.0
    within = np.mean(np.abs(ours - theirs) <= 1.01 * quantum) >= 0.999
    nearer = distance(ours, exact) <= distance(theirs, exact) * 1.01
    assert within or nearer, (
        f"quantum {quantum}: {np.mean(np.abs(ours - theirs) <= 1.01 * quantum):.4f} within; "
        f"{distance(ours, exact):.3e} from the real network, theirs {distance(theirs, exact):.3e}"
    )


def check(name: str, path: Path, inputs: dict[str, np.ndarray], ours: dict[str, np.ndarray]) -> None:
    session = reference(path)
    names = [output.name for output in session.get_outputs()]
    theirs = dict(zip(names, session.run(names, inputs)))
    if name in QUANTIZED:
        exact = dict(zip(names, in_reals(path).run(names, inputs)))
        for output in names:
            check_quantized(ours[output], theirs[output], exact[output])
    else:
        errors = {output: distance(ours[output], theirs[output]) for output in names}
        assert max(errors.values()) <= F32_TOLERANCE, errors


@pytest.mark.parametrize(("name", "sizes"), cases())
def test_onnx(name: str, sizes: dict[str, int], filled: Path) -> None:
    path = filled / f"{name}.onnx"
    inputs = inputs_of(reference(path), name, sizes)
    check(name, path, inputs, infer(rt.load_model(path, threads=1), inputs))


@pytest.mark.parametrize("name", ONNX)
def test_onnx_through_a_folder(name: str, filled: Path, tmp_path: Path) -> None:
    path = filled / f"{name}.onnx"
    rt.convert(path, tmp_path / name)
    inputs = inputs_of(reference(path), name, SIZES.get(name, [{}])[0])
    check(name, path, inputs, infer(rt.load_model(tmp_path / name, threads=1), inputs))


@pytest.mark.parametrize("name", ONNX)
@pytest.mark.parametrize(("threads", "memory_optimization"), [(2, True), (1, False), (2, False)])
def test_onnx_options(name: str, threads: int, memory_optimization: bool, filled: Path) -> None:
    path = filled / f"{name}.onnx"
    inputs = inputs_of(reference(path), name, SIZES.get(name, [{}])[-1])
    model = rt.load_model(path, threads=threads, memory_optimization=memory_optimization)
    expected = infer(rt.load_model(path, threads=1), inputs)
    for output, array in infer(model, inputs).items():
        np.testing.assert_array_equal(array, expected[output])


CHILD = """
import sys, numpy as np, optimium.runtime as rt
from inference import infer
with np.load(sys.argv[2]) as inputs:
    np.savez(sys.argv[3], **infer(rt.load_model(sys.argv[1], threads=1), dict(inputs)))
"""


@pytest.mark.parametrize("level", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", ONNX)
def test_onnx_instruction_sets(name: str, level: str, filled: Path, tmp_path: Path) -> None:
    path = filled / f"{name}.onnx"
    inputs = inputs_of(reference(path), name, SIZES.get(name, [{}])[-1])
    files = [tmp_path / "inputs.npz", tmp_path / "outputs.npz"]
    np.savez(files[0], **inputs)
    result = processes.run(CHILD, path, *files, timeout=600, OPTIMIUM_RT_INSTRUCTION_SET=level)
    if "is not available" in result.stderr:
        pytest.skip(f"this machine has no {level}")
    assert result.returncode == 0, result.stderr
    with np.load(files[1]) as file:
        check(name, path, inputs, {output: file[output] for output in file.files})


def interpreters(path: Path):
    """LiteRT as it comes, and its plain reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    for resolver in (OpResolverType.AUTO, OpResolverType.BUILTIN_REF):
        interpreter = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
        yield interpreter


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("path", TFLITE, ids=lambda path: path.stem)
def test_tflite(path: Path, threads: int) -> None:
    results = []
    for interpreter in interpreters(path):
        (detail,) = interpreter.get_input_details()
        pixels = np.random.default_rng(0).uniform(-1, 1, detail["shape"]).astype(np.float32)
        interpreter.set_tensor(detail["index"], pixels)
        interpreter.invoke()
        results.append({d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()})
    delegate, plain = results
    ours = infer(rt.load_model(path, threads=threads), {detail["name"]: pixels})
    for name, theirs in delegate.items():
        # An output of nearly nothing (a sigmoid far from zero) is as uncertain as LiteRT's own two kernels are apart.
        allowed = max(F32_TOLERANCE, distance(theirs, plain[name]))
        assert distance(ours[name], theirs) <= allowed, name

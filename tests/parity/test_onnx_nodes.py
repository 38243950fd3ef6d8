"""ONNX's own test cases of its operators: small models with inputs and expected outputs.

`onnx_nodes.json` says of the cases of one version of ONNX which do not pass as they are: those that need some of their
inputs, sizes and axes, as constants (as networks have them), and by a reason those that are refused. What is not listed
has to pass, and what is listed has to fail: whoever makes a case pass takes it off the list.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimium.runtime as rt

onnx = pytest.importorskip("onnx")
from onnx import numpy_helper  # noqa: E402
from onnx.backend.test.loader import load_model_tests  # noqa: E402

KNOWN = json.loads(Path(__file__).with_name("onnx_nodes.json").read_text())

SMALL = 64
"""The most elements of an input that may be made a constant."""

TOLERANCE = {"float16": 2.0**-9, "bfloat16": 2.0**-6}
"""Relative, of types that are coarser than the tolerance of a case: two steps."""


DRAWN = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
"""Operators whose results are compared by shape and type alone. A Dropout with a seed draws as the reference does."""


class Differs(Exception):
    """A result is not the expected one."""


def array(value: Any) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def compare(case, ours: np.ndarray, expected: np.ndarray) -> None:
    if ours.shape != expected.shape:
        raise Differs(f"the shape {ours.shape} instead of {expected.shape}")
    if expected.dtype.kind in "OSU":
        if not (ours == expected).all():
            raise Differs("other strings")
        return
    if ours.dtype != expected.dtype:
        raise Differs(f"the type {ours.dtype} instead of {expected.dtype}")
    if any(node.op_type in DRAWN for node in case.model.graph.node):
        return
    exact = expected.dtype.kind in "biu" or expected.dtype.name.startswith(("int", "uint"))
    rtol = 0 if exact else max(case.rtol, 1e-3, TOLERANCE.get(expected.dtype.name, 0))
    atol = 0 if exact else max(case.atol, 1e-7)
    wide = np.int64 if expected.dtype.kind == "u" or exact else np.float64
    if not np.allclose(ours.astype(wide), expected.astype(wide), rtol=rtol, atol=atol, equal_nan=True):
        raise Differs("other values")


def flattened(values):
    """Sequences as the tensors that a model has for them: `name.0`, `name.1`, …."""
    for name, value in values:
        if isinstance(value, list):
            yield from ((f"{name}.{index}", array(element)) for index, element in enumerate(value))
        elif value is not None:
            yield name, array(value)


def run(case, model, folder: Path) -> None:
    """Raises what the runtime does, and `Differs`."""
    path = folder / "case.onnx"
    path.write_bytes(model.SerializeToString())
    names = [value.name for value in case.model.graph.input]
    for inputs, outputs in case.data_sets:
        given = dict(zip(names, inputs, strict=False))
        lists = {name: value for name, value in given.items() if isinstance(value, list) or value is None}
        sequences = {name: value and [array(element).shape for element in value] for name, value in lists.items()}
        loaded = rt.load_model(path, threads=1, sequences=sequences)
        expected = dict(flattened(zip([value.name for value in model.graph.output], outputs, strict=True)))
        given = dict(flattened(given.items()))
        tensors = {name: rt.tensor(np.array(array(given[name]), order="C")) for name in loaded.input_names}
        results = {
            name: rt.tensor(shape=value.shape, dtype=loaded.get_tensor(name).type) for name, value in expected.items()
        }
        request = loaded.create_request()
        request.infer(tensors, results)
        request.wait()
        for name, result in results.items():
            compare(case, result.to_numpy(), expected[name])


def with_constants(case):
    """The model with its small inputs of integers as constants."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, _ = case.data_sets[0]
    for value, data in zip(case.model.graph.input, inputs, strict=False):
        if isinstance(data, list) or data is None:
            continue
        known = array(data)
        # The first input is what an operator is about, unless it is a number.
        is_first = value.name == case.model.graph.input[0].name
        if (not is_first or known.ndim == 0) and known.dtype.kind in "biuf" and known.size <= SMALL:
            model.graph.initializer.append(numpy_helper.from_array(np.array(known, order="C"), value.name))
            model.graph.input.remove(value)
    return model


def outcome(case, folder: Path) -> str:
    """`passes`, `passes with constants`, or why it does not."""
    try:
        run(case, case.model, folder)
        return "passes"
    except Exception as error:  # noqa: BLE001
        reason = error
    try:
        run(case, with_constants(case), folder)
        return "passes with constants"
    except Exception:  # noqa: BLE001
        return f"{type(reason).__name__}: {reason}"


def test_every_case(tmp_path: Path) -> None:
    if not onnx.__version__.startswith(KNOWN["version"]):
        pytest.skip(f"the list is of ONNX {KNOWN['version']}")
    constants = set(KNOWN["pass with constants"])
    refused = {name for names in KNOWN["refused"].values() for name in names}
    wrong = []
    with np.errstate(all="ignore"):
        cases = load_model_tests(kind="node")
    for case in cases:
        expected = "passes with constants" if case.name in constants else "passes"
        found = outcome(case, tmp_path)
        if case.name in refused:
            if found.startswith("passes"):
                wrong.append(f"{case.name} {found}, but is listed as refused")
        elif found != expected:
            wrong.append(f"{case.name}, which {expected}: {found}")
    unknown = (constants | refused) - {case.name for case in cases}
    wrong.extend(f"{name} is listed, but no case" for name in sorted(unknown))
    assert not wrong, f"{len(wrong)} cases\n" + "\n".join(wrong)

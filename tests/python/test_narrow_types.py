"""Element types of 8 or fewer bits: arrays, files, models."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from inference import infer

import optimium.runtime as rt

TYPES = {
    rt.ElementType.F8E4M3FN: "float8_e4m3fn",
    rt.ElementType.F8E4M3FNUZ: "float8_e4m3fnuz",
    rt.ElementType.F8E5M2: "float8_e5m2",
    rt.ElementType.F8E5M2FNUZ: "float8_e5m2fnuz",
    rt.ElementType.F8E8M0: "float8_e8m0fnu",
    rt.ElementType.F4E2M1: "float4_e2m1fn",
    rt.ElementType.I4: "int4",
    rt.ElementType.U4: "uint4",
    rt.ElementType.I2: "int2",
    rt.ElementType.U2: "uint2",
}
KNOWN = {element_type: getattr(ml_dtypes, name) for element_type, name in TYPES.items() if hasattr(ml_dtypes, name)}


@pytest.mark.parametrize("element_type", TYPES, ids=str)
def test_one_byte_an_element(element_type: rt.ElementType) -> None:
    tensor = rt.tensor(shape=(2, 3), dtype=element_type)
    assert (tensor.type, tensor.nbytes, element_type.element_size) == (element_type, 6, 1)
    bits = np.arange(6, dtype=np.uint8).reshape(2, 3) % 4
    known = KNOWN.get(element_type)
    of_bits = rt.tensor(bits, dtype=element_type) if known is None else rt.tensor(bits.view(known))
    assert (np.asarray(memoryview(of_bits)).view(np.uint8) == bits).all()
    assert str(element_type) in repr(of_bits)


@pytest.mark.parametrize("element_type", KNOWN, ids=str)
def test_arrays_are_shared_and_saved(element_type: rt.ElementType, tmp_path: Path) -> None:
    dtype = np.dtype(KNOWN[element_type])
    assert element_type.to_dtype() == dtype
    assert rt.ElementType.from_dtype(dtype) is element_type
    array = np.array([1, 0, 1, 1], dtype)
    shared = rt.tensor(array, copy=False)
    array[1] = 1
    assert shared.type is element_type
    assert shared.to_numpy().astype(np.float32).tolist() == [1, 1, 1, 1]
    for name in ("tensor.npy", "tensor.opt"):
        shared.save(tmp_path / name)
        again = rt.tensor(shape=(4,), dtype=element_type)
        again.load(tmp_path / name)
        assert (again.to_numpy().view(np.uint8) == array.view(np.uint8)).all()


def test_they_cannot_be_filled() -> None:
    with pytest.raises(rt.TypeError, match="F8E5M2 cannot be filled"):
        rt.tensor(1.0, shape=(2,), dtype=rt.ElementType.F8E5M2)


@pytest.mark.parametrize("element_type", KNOWN, ids=str)
def test_models_cast_as_ml_dtypes_does(element_type: rt.ElementType, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    kind = {"F": "FLOAT", "I": "INT", "U": "UINT"}[str(element_type)[0]]
    number = getattr(onnx.TensorProto, kind + str(element_type)[1:])
    node = onnx.helper.make_node("Cast", ["x"], ["n"], to=number, saturate=0)
    back = onnx.helper.make_node("Cast", ["n"], ["y"], to=onnx.TensorProto.FLOAT)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node, back],
        "casts",
        [value("x", onnx.TensorProto.FLOAT, ["n"])],
        [value("n", number, ["n"]), value("y", onnx.TensorProto.FLOAT, ["n"])],
    )
    path = tmp_path / "casts.onnx"
    path.write_bytes(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 25)]).SerializeToString()
    )
    powers = 2.0 ** np.arange(-12, 18, dtype=np.float32)
    x = np.concatenate([powers, 1.3 * powers, 1.5 * powers, -powers]).astype(np.float32)
    if element_type is rt.ElementType.F8E8M0:
        x = powers
    elif str(element_type)[0] in "IU":
        info = ml_dtypes.iinfo(KNOWN[element_type])
        x = np.arange(info.min, info.max + 1, dtype=np.float32)
    results = infer(rt.load_model(path), {"x": x})
    expected = x.astype(KNOWN[element_type])
    assert results["n"].dtype == expected.dtype
    np.testing.assert_array_equal(results["n"].astype(np.float32), expected.astype(np.float32))
    np.testing.assert_array_equal(results["y"], expected.astype(np.float32))

"""Tensors: creation from everything, and what is refused."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import optimium.runtime as rt

DTYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
DTYPES += [np.float16, np.float32, np.float64, np.bool_, ml_dtypes.bfloat16]
SHAPES = [(), (0,), (5,), (2, 3), (2, 0, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("copy", [True, False])
def test_arrays_there_and_back(dtype: type, shape: tuple, copy: bool) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    tensor = rt.tensor(array, copy=copy)
    back = tensor.to_numpy()
    assert back.dtype == array.dtype and back.shape == shape and tensor.shape == shape
    assert (back == array).all()
    if array.size:
        assert np.shares_memory(back, array) is not copy


def test_memory_outlives_its_makers() -> None:
    array = np.arange(1000, dtype=np.float32)
    alive = weakref.ref(array)
    tensor = rt.tensor(array, copy=False)
    view = tensor.to_numpy()
    del array, tensor
    gc.collect()
    assert alive() is not None and view[-1] == 999
    del view
    gc.collect()
    assert alive() is None


def test_arrays_that_cannot_be_shared_are_copied() -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    unaligned = np.frombuffer(b"x" + base.tobytes(), np.uint8)[1:].view(np.float32).reshape(4, 6)
    for array in (base.T, base[:, ::2], base[::-1], base.astype(">f4"), unaligned):
        assert (rt.tensor(array).to_numpy() == array).all()
        with pytest.raises(rt.InvalidArgumentError):
            rt.tensor(array, copy=False)


def test_read_only_arrays_make_read_only_tensors() -> None:
    array = np.zeros(4, np.float32)
    array.flags.writeable = False
    tensor = rt.tensor(array, copy=False)
    assert tensor.readonly and not tensor.to_numpy().flags.writeable
    with pytest.raises(rt.InvalidOperationError):
        tensor.fill(1)
    assert not rt.tensor(array).readonly


def test_conversion() -> None:
    array = np.array([1.5, 2.5])
    assert rt.tensor(array, dtype=rt.int32).to_numpy().tolist() == [1, 2]
    assert rt.tensor(array, dtype=np.float16).type is rt.float16
    assert rt.tensor([1, 2], dtype=rt.bfloat16).to_numpy().astype(float).tolist() == [1, 2]
    assert rt.tensor(np.int8([1, 2]), dtype=rt.qint8, copy=False).type is rt.qint8
    assert rt.tensor(rt.tensor(array), dtype=rt.float32).to_numpy().dtype == np.float32
    with pytest.raises(rt.InvalidArgumentError):
        rt.tensor(array, dtype=rt.float32, copy=False)


def test_strings() -> None:
    texts = ["a", "bü"]
    for data in (texts, np.array(texts), np.array(texts, object), np.array([text.encode() for text in texts])):
        tensor = rt.tensor(data)
        assert tensor.type is rt.str_ and tensor.to_numpy().tolist() == ["a", "bü"]
    assert rt.tensor("x", shape=(2,)).to_numpy().tolist() == ["x", "x"]
    assert rt.tensor(shape=(2, 1), dtype=rt.str_).to_numpy().tolist() == [[""], [""]]
    with pytest.raises(BufferError):
        memoryview(rt.tensor(["a"]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, rt.InvalidArgumentError),
        ({"data": [[1, 2], [3]]}, rt.InvalidArgumentError),
        ({"data": [1, None]}, rt.TypeError),
        ({"data": [1], "shape": (2,)}, rt.ShapeError),
        ({"data": np.array([1, {}], object)}, rt.TypeError),
        ({"data": np.zeros(2, np.complex64)}, rt.TypeError),
        ({"data": object()}, rt.TypeError),
        ({"data": 300, "shape": (2,), "dtype": rt.uint8}, rt.InvalidArgumentError),
        ({"data": "x", "dtype": rt.float32}, rt.TypeError),
        ({"data": np.array(["a"]), "copy": False}, rt.InvalidArgumentError),
        ({"data": np.array([b"\xff"])}, rt.InvalidArgumentError),
        ({"shape": (-1,)}, rt.InvalidArgumentError),
        ({"shape": ("n", 2)}, rt.ShapeError),
        ({"shape": (2.5,)}, rt.TypeError),
        ({"shape": (2**40, 2**40)}, rt.RuntimeException),
        ({"shape": (2**50,)}, rt.RuntimeException),
        ({"shape": (2,), "dtype": "no type"}, rt.TypeError),
    ],
)
def test_what_is_refused(arguments: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        rt.tensor(**arguments)


def test_other_protocols() -> None:
    tensor = rt.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.shares_memory(np.asarray(tensor), tensor.to_numpy())
    assert np.array(tensor, dtype=np.float64).dtype == np.float64
    view = memoryview(tensor)  # type: ignore[arg-type]
    assert view.shape == (2, 2) and view.format == "f" and not view.readonly
    assert np.shares_memory(np.from_dlpack(tensor), tensor.to_numpy())
    assert np.shares_memory(rt.tensor(np.from_dlpack(tensor), copy=False).to_numpy(), tensor.to_numpy())
    assert tensor.__dlpack_device__() == (1, 0)
    assert rt.tensor(memoryview(bytearray(b"ab"))).type is rt.uint8



class Producer:
    """An object that speaks nothing but DLPack, of the time before versions where `legacy`."""

    def __init__(self, source: rt.Tensor | np.ndarray, legacy: bool = False) -> None:
        self.source = source
        if not legacy:
            self.__class__ = VersionedProducer

    def __dlpack__(self) -> object:
        return self.source.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.source.__dlpack_device__()


class VersionedProducer(Producer):
    def __dlpack__(self, *, max_version: tuple[int, int] | None = None) -> object:  # type: ignore[override]
        return self.source.__dlpack__(max_version=max_version)


class TestDlpack:
    @pytest.mark.parametrize("legacy", [True, False])
    @pytest.mark.parametrize("dtype", [rt.float32, rt.bfloat16, rt.bool_, rt.int8, rt.uint64])
    def test_there_and_back(self, legacy: bool, dtype: rt.ElementType) -> None:
        for data in ([[0, 1], [1, 0]], [], 1):
            tensor = rt.tensor(data, dtype=dtype)
            back = rt.tensor(Producer(tensor, legacy), copy=False)
            assert back.type is dtype and back.shape == tensor.shape
            assert (back.to_numpy() == tensor.to_numpy()).all()
            assert not tensor.size or np.shares_memory(back.to_numpy(), tensor.to_numpy())

    def test_memory_outlives_its_makers(self) -> None:
        array = np.arange(1000, dtype=np.float32)
        alive = weakref.ref(array)
        tensor = rt.tensor(Producer(rt.tensor(array, copy=False)), copy=False)
        del array
        gc.collect()
        assert alive() is not None and tensor.to_numpy()[-1] == 999
        del tensor
        gc.collect()
        assert alive() is None

    def test_capsules_that_nobody_takes(self) -> None:
        array = np.arange(4, dtype=np.float32)
        before = sys.getrefcount(array)
        for version in (None, (0, 8), (1, 0), (2, 0)):
            capsule = rt.tensor(array, copy=False).__dlpack__(max_version=version)
            name = "dltensor_versioned" if version and version[0] else "dltensor"
            assert f'"{name}"' in repr(capsule)
            del capsule
        gc.collect()
        assert sys.getrefcount(array) == before

    def test_copies(self) -> None:
        tensor = rt.tensor([1.0, 2.0])
        copied = rt.tensor(np.from_dlpack(tensor, copy=True), copy=False)
        assert not np.shares_memory(copied.to_numpy(), tensor.to_numpy())

    def test_read_only_memory(self) -> None:
        array = np.zeros(4, np.float32)
        array.flags.writeable = False
        tensor = rt.tensor(array, copy=False)
        with pytest.raises(BufferError):
            tensor.__dlpack__()
        assert rt.tensor(Producer(tensor), copy=False).readonly

    def test_what_cannot_be_shared(self) -> None:
        for arguments in ({"stream": 1}, {"dl_device": (2, 0)}):
            with pytest.raises(BufferError):
                rt.tensor([1.0]).__dlpack__(**arguments)
        with pytest.raises(BufferError):
            rt.tensor(["text"]).__dlpack__()
        strided = np.arange(6, dtype=np.float32).reshape(2, 3).T
        assert (rt.tensor(Producer(strided)).to_numpy() == strided).all()
        with pytest.raises(rt.InvalidArgumentError):
            rt.tensor(Producer(strided), copy=False)


@pytest.mark.parametrize("suffix", [".npy", ".bin"])
@pytest.mark.parametrize("dtype", [rt.float32, rt.bfloat16, rt.qint8, rt.bool_, rt.int64])
def test_files(suffix: str, dtype: rt.ElementType, tmp_path: Path) -> None:
    path = tmp_path / f"tensor{suffix}"
    tensor = rt.tensor([[0, 1], [1, 1]], dtype=dtype)
    tensor.save(path)
    other = rt.tensor(shape=(2, 2), dtype=dtype)
    other.load(path)
    assert (other.to_numpy() == tensor.to_numpy()).all()
    if suffix == ".bin":
        assert rt.load_tensor(path).type is dtype
    else:
        assert np.load(path).shape == (2, 2)
    with pytest.raises(rt.ShapeError):
        rt.tensor(shape=(4,), dtype=dtype).load(path)
    with pytest.raises(rt.TypeError):
        rt.tensor(shape=(2, 2), dtype=rt.float64).load(path)


def test_missing_files() -> None:
    with pytest.raises(rt.IOError):
        rt.load_tensor("/nonexistent/tensor.npy")
    with pytest.raises(OSError):
        rt.tensor(shape=(1,)).save("/nonexistent/tensor.npy")


def test_references_do_not_leak() -> None:
    array = np.zeros(8, np.float32)
    before = sys.getrefcount(array)
    for _ in range(10):
        tensor = rt.tensor(array, copy=False)
        memoryview(tensor).release()  # type: ignore[arg-type]
        del tensor
    assert sys.getrefcount(array) == before


class TestShapes:
    def test_a_sequence(self) -> None:
        shape = rt.TensorShape(1, 3, 224, 224)
        assert (shape.rank, len(shape), shape.size, shape.dynamic) == (4, 4, 150528, False)
        assert shape.strides == (150528, 50176, 224, 1)
        assert shape[1] == 3 and shape[-1] == 224 and shape[1:3] == (3, 224)
        assert tuple(shape) == (1, 3, 224, 224) == shape
        assert shape == [1, 3, 224, 224] and shape != (1, 3) and shape != "no shape"
        assert hash(shape) == hash((1, 3, 224, 224)) and 3 in shape and 5 not in shape
        assert eval(repr(shape), {"TensorShape": rt.TensorShape}) == shape
        assert np.zeros(shape).shape == shape
        for index in (4, -5):
            with pytest.raises(IndexError):
                shape[index]
        assert rt.TensorShape().size == 1 and rt.TensorShape((2, 3)) == (2, 3)

    def test_symbols(self) -> None:
        shape = rt.TensorShape("batch", 3, rt.Expr("h") * 2)
        assert shape.dynamic and isinstance(shape[0], rt.Expr) and shape[1] == 3
        assert shape.strides == (rt.Expr("h") * 6, rt.Expr("h") * 2, 1)
        assert shape.is_compatible((5, 3, 8)) and not shape.is_compatible((5, 4, 8))
        assert not shape.is_compatible((5, 3))
        with pytest.raises(rt.ShapeError):
            _ = shape.size

    def test_wrong_dimensions(self) -> None:
        with pytest.raises(rt.InvalidArgumentError):
            rt.TensorShape(-1)
        with pytest.raises(rt.TypeError):
            rt.TensorShape(None)  # type: ignore[arg-type]


class TestExpressions:
    def test_constants_and_symbols(self) -> None:
        constant, symbol = rt.Expr(42), rt.Expr("batch")
        assert constant.is_const() and constant.value == 42 and constant == 42 and int(constant.value) == 42
        assert not constant.is_symbol() and hash(constant) == hash(42) and range(50)[constant] == 42
        assert symbol.is_symbol() and symbol.symbol == "batch" and not symbol.is_const()
        for wrong in (lambda: symbol.value, lambda: constant.symbol, lambda: (symbol + 1).symbol):
            with pytest.raises(rt.InvalidOperationError):
                wrong()

    def test_arithmetic(self) -> None:
        n = rt.Expr("n")
        assert n + 1 == 1 + n and n - n == 0 and 2 * n == n + n and (4 * n) / 2 == 2 * n == (4 * n) // 2
        assert (2 * n) % 2 == 0 and -n + n == 0 and 3 - n == -(n - 3)
        assert rt.Expr(7) / 2 == 3 and rt.Expr(7) % 4 == 3
        assert rt.Expr(3).min(5) == 3 and rt.Expr(3).max(5) == 5 and n.max(0) == n
        assert str(n + 1) == "n + 1" and n != "n" and repr(n) == "Expr('n')"
        with pytest.raises(rt.InvalidArgumentError):
            n / 0
        with pytest.raises(rt.TypeError):
            n + 1.5  # type: ignore[operator]

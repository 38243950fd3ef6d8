"""Tensors of impossible sizes, layouts and types, and their memory."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile.common import HUGE, TERABYTES, assert_clean, attempted, floats, in_new_process

import optimium.runtime as rt


@pytest.mark.parametrize("shape", [(TERABYTES,), (TERABYTES, 2), (2**62,)])
def test_tensors_of_terabytes(shape: tuple) -> None:
    with pytest.raises((rt.OutOfResourceError, rt.ShapeError)):
        rt.tensor(shape=shape, dtype=rt.float32)


def test_strings_of_terabytes() -> None:
    out = assert_clean(in_new_process(attempted(f"rt.tensor(shape=({HUGE},), dtype=rt.str_)")))
    assert out.startswith(("OutOfResourceError", "ShapeError"))


class TestTensors:
    ARRAY = np.arange(24, dtype=np.float32).reshape(4, 6)

    @pytest.mark.parametrize("kind", list(rt.ElementType), ids=str)
    def test_every_type(self, kind: rt.ElementType, tmp_path: Path) -> None:
        tensor = rt.tensor(shape=(2, 0, 3), dtype=kind)
        assert tensor.to_numpy().shape == (2, 0, 3)
        tensor.save(tmp_path / "tensor")
        assert rt.load_tensor(tmp_path / "tensor").type == kind

    @pytest.mark.parametrize(
        "array",
        [
            ARRAY.T,
            ARRAY[::-1, ::-2],
            ARRAY.astype(">f4"),
            np.broadcast_to(np.float32(1), (3, 4)),
            np.frombuffer(b"\0" + ARRAY.tobytes(), np.float32, offset=1),
            np.zeros((3, 0, 2), np.float32),
            np.float32(3),
            np.ones([1] * 40, np.float32),
        ],
        ids=["T", "negative", "swapped", "broadcast", "unaligned", "empty", "scalar", "rank 40"],
    )
    def test_every_layout(self, array: np.ndarray) -> None:
        np.testing.assert_array_equal(rt.tensor(array).to_numpy(), array)

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            ([[1, 2], [3]], rt.InvalidArgumentError),
            ([None], rt.TypeError),
            ([1j], rt.TypeError),
            ([2**100], rt.TypeError),
            ({}, rt.TypeError),
            (object(), rt.TypeError),
            (int, rt.TypeError),
            (np.zeros(2, [("a", "f4")]), rt.TypeError),
            (np.array([1, "a"], object), rt.TypeError),
            (np.zeros(2, "M8[s]"), rt.TypeError),
            (np.zeros(2, np.longdouble), rt.TypeError),
            (np.array([b"\xff"]), rt.InvalidArgumentError),
            (["\ud800"], rt.InvalidArgumentError),
        ],
        ids=lambda item: type(item).__name__,
    )
    def test_what_is_no_tensor(self, data: object, error: type) -> None:
        with pytest.raises(error):
            rt.tensor(data)

    @pytest.mark.parametrize("shape", [-1, (3, -2), (1.5,), ("n",), (None,), ((1, 2), 3), (2**100,)], ids=str)
    def test_what_is_no_shape(self, shape: Any) -> None:
        with pytest.raises((rt.ShapeError, rt.InvalidArgumentError, rt.TypeError)):
            rt.tensor(shape=shape)

    def test_memory_lives_as_long_as_its_readers(self) -> None:
        tensor = rt.tensor(self.ARRAY)
        readers = [tensor.to_numpy(), np.asarray(memoryview(tensor)), np.from_dlpack(tensor)]
        del tensor
        gc.collect()
        others = [rt.tensor(np.zeros((4, 6), np.float32)) for _ in range(100)]
        assert all((reader == self.ARRAY).all() for reader in readers) and others

    def test_a_capsule_is_consumed_once(self) -> None:
        class Capsule:
            capsule = rt.tensor(self.ARRAY).__dlpack__()

            def __dlpack__(self, **_: Any) -> Any:
                return self.capsule

            def __dlpack_device__(self) -> tuple[int, int]:
                return 1, 0

        assert rt.tensor(Capsule()).shape == (4, 6)
        with pytest.raises(rt.TypeError):
            rt.tensor(Capsule())

    def test_memory_that_is_shared_within_a_request(self, pair: rt.Model) -> None:
        memory, ones = np.zeros(16, np.float32), floats(2, 4)
        request = pair.create_request()
        with pytest.raises(rt.InvalidArgumentError, match="shares memory"):
            request.infer([ones, ones], [memory[:8].reshape(2, 4), memory[4:12].reshape(2, 4)])
        with pytest.raises(rt.InvalidArgumentError, match="shares memory"):
            request.infer([memory[:8].reshape(2, 4), ones], [memory[4:12].reshape(2, 4), floats(2, 4)])
        request.infer([ones, ones], [memory[:8].reshape(2, 4), memory[8:].reshape(2, 4)])
        request.wait()
        assert memory.tolist() == [2] * 8 + [0] * 8


def test_shapes_can_be_pickled() -> None:
    shape = rt.TensorShape(1, "n", rt.Expr("n") * 2 + 1)
    assert pickle.loads(pickle.dumps(shape)) == shape

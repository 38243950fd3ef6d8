"""Tensors and NumPy: types, creation, conversion, printing."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _native, config
from ._errors import InvalidArgumentError, ShapeError, TypeError
from ._types import ElementType

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ._native import Expr, Tensor, TensorShape

try:
    import ml_dtypes

    _BFLOAT16: np.dtype[Any] | None = np.dtype(ml_dtypes.bfloat16)
except ImportError:
    ml_dtypes = None  # type: ignore[assignment]
    _BFLOAT16 = None

#: Types of 8 or fewer bits, and what ml_dtypes calls them.
_NARROW_NAMES = {
    ElementType.F8E4M3FN: "float8_e4m3fn",
    ElementType.F8E4M3FNUZ: "float8_e4m3fnuz",
    ElementType.F8E5M2: "float8_e5m2",
    ElementType.F8E5M2FNUZ: "float8_e5m2fnuz",
    ElementType.F8E8M0: "float8_e8m0fnu",
    ElementType.F4E2M1: "float4_e2m1fn",
    ElementType.I4: "int4",
    ElementType.U4: "uint4",
    ElementType.I2: "int2",
    ElementType.U2: "uint2",
}
#: Those of them that NumPy knows here: old versions of ml_dtypes lack some.
_NARROW: dict[ElementType, np.dtype[Any]] = {
    element_type: np.dtype(getattr(ml_dtypes, name))
    for element_type, name in _NARROW_NAMES.items()
    if hasattr(ml_dtypes, name)
}

_DTYPES: dict[ElementType, np.dtype[Any]] = {
    ElementType.I8: np.dtype(np.int8),
    ElementType.U8: np.dtype(np.uint8),
    ElementType.I16: np.dtype(np.int16),
    ElementType.U16: np.dtype(np.uint16),
    ElementType.I32: np.dtype(np.int32),
    ElementType.U32: np.dtype(np.uint32),
    ElementType.I64: np.dtype(np.int64),
    ElementType.U64: np.dtype(np.uint64),
    ElementType.F16: np.dtype(np.float16),
    ElementType.F32: np.dtype(np.float32),
    ElementType.F64: np.dtype(np.float64),
    ElementType.BOOL: np.dtype(np.bool_),
    ElementType.STRING: np.dtype(np.object_),
}
_FROM_DTYPE = {dtype: element_type for element_type, dtype in _DTYPES.items()}
_DTYPES |= {
    ElementType.BF16: _BFLOAT16 or np.dtype(np.uint16),
    ElementType.TF32: np.dtype(np.float32),
    ElementType.QS8: np.dtype(np.int8),
    ElementType.QU8: np.dtype(np.uint8),
    ElementType.QS16: np.dtype(np.int16),
    ElementType.QU16: np.dtype(np.uint16),
    ElementType.QS32: np.dtype(np.int32),
}
if _BFLOAT16 is not None:
    _FROM_DTYPE[_BFLOAT16] = ElementType.BF16
_DTYPES |= {element_type: _NARROW.get(element_type, np.dtype(np.uint8)) for element_type in _NARROW_NAMES}
_FROM_DTYPE |= {dtype: element_type for element_type, dtype in _NARROW.items()}

#: The kinds of NumPy types that hold text: fixed-width, bytes, and variable-width.
_TEXT_KINDS = "UST"


def to_dtype(element_type: ElementType) -> np.dtype[Any]:
    """See `ElementType.to_dtype`."""
    return _DTYPES[element_type]


def from_dtype(dtype: DTypeLike) -> ElementType:
    """See `ElementType.from_dtype`."""
    try:
        wanted = np.dtype(dtype)
    except builtins.TypeError as error:
        raise TypeError(f"{dtype!r} is not a NumPy type") from error
    if wanted.kind in _TEXT_KINDS:
        return ElementType.STRING
    found = _FROM_DTYPE.get(wanted.newbyteorder("="))
    if found is None:
        raise TypeError(f"there is no element type for the NumPy type {wanted}")
    return found


def tensor(
    data: Any = None,
    shape: TensorShape | Sequence[int | Expr] | int | None = None,
    dtype: ElementType | DTypeLike | None = None,
    copy: bool = True,
) -> Tensor:
    """Makes a tensor.

    - `tensor(shape=(3, 4), dtype=rt.float32)`: unspecified elements.
    - `tensor(0.0, shape=(3, 4), dtype=rt.float32)`: every element the same.
    - `tensor([[1, 2], [3, 4]])`: from nested lists. They become float32 where no dtype is given, and strings where
      they hold str.
    - `tensor(array)`: with a copy of a NumPy array, a tensor, or anything that speaks the buffer protocol, DLPack or
      `__array__`. A dtype converts.
    - `tensor(array, copy=False)`: over the same memory. The array has to be C-contiguous, aligned, in native byte order
      and of the dtype where one is given; the tensor of a read-only array is read-only.

    Raises InvalidArgumentError, TypeError (of the runtime) and ShapeError.
    """
    element_type = None if dtype is None else _element_type(dtype)
    if data is None:
        if shape is None:
            raise InvalidArgumentError("a tensor needs data or a shape")
        return _native.empty_tensor(shape, element_type or ElementType.F32)
    if isinstance(data, (list, tuple)):
        result = _from_lists(data, element_type)
    elif isinstance(data, (bool, int, float, str)) or (isinstance(data, np.generic) and shape is not None):
        return _from_scalar(data, () if shape is None else shape, element_type)
    else:
        result = _from_array(_as_ndarray(data), element_type, copy)
    if shape is not None and result.shape != _native.TensorShape(shape):
        raise ShapeError(f"the data has the shape {result.shape}, not {shape}")
    return result


def _element_type(dtype: ElementType | DTypeLike) -> ElementType:
    return dtype if isinstance(dtype, ElementType) else from_dtype(dtype)


def _from_scalar(value: Any, shape: Any, element_type: ElementType | None) -> Tensor:
    if isinstance(value, str):
        if element_type not in (None, ElementType.STRING):
            raise TypeError(f"the text {value!r} is not a value of {element_type}")
        return _native.repeated_string_tensor(value, shape)
    if element_type is None and isinstance(value, np.generic):
        element_type = from_dtype(value.dtype)
    if isinstance(value, np.generic):
        value = value.item()
    result = _native.empty_tensor(shape, element_type or ElementType.F32)
    result.fill(value)
    return result


def _from_lists(data: Sequence[Any], element_type: ElementType | None) -> Tensor:
    try:
        array = np.array(data)
        if element_type is None:
            element_type = ElementType.STRING if array.dtype.kind in _TEXT_KINDS else ElementType.F32
        if element_type is not ElementType.STRING and array.dtype.kind in _TEXT_KINDS + "O":
            raise TypeError(f"the elements cannot be converted to {element_type}")
        return _from_array(array, element_type, copy=True)
    except ValueError as error:
        raise InvalidArgumentError(f"the nested lists do not form a tensor: {error}") from error


def _as_ndarray(data: Any) -> np.ndarray[Any, Any]:
    """An array over the memory of `data`."""
    if isinstance(data, np.ndarray):
        return data
    if isinstance(data, _native.Tensor):
        return to_numpy(data)
    try:
        if hasattr(data, "__dlpack__") and not isinstance(data, np.generic):
            shared = _native.tensor_of_dlpack(data)
            return np.from_dlpack(data) if shared is None else to_numpy(shared)
        array = np.asarray(data)
    except (builtins.TypeError, BufferError, ValueError, RuntimeError) as error:
        raise TypeError(f"a {type(data).__name__} cannot be made a tensor: {error}") from error
    if array.dtype == np.object_ and array.ndim == 0:
        raise TypeError(f"a {type(data).__name__} cannot be made a tensor")
    return array


def _from_array(array: np.ndarray[Any, Any], element_type: ElementType | None, copy: bool) -> Tensor:
    if array.dtype.kind in _TEXT_KINDS + "O":
        return _from_text(array, element_type, copy)
    own_type = from_dtype(array.dtype)
    wanted = own_type if element_type is None else element_type
    if wanted is ElementType.STRING:
        raise TypeError(f"an array of {array.dtype} cannot be converted to strings")
    if not copy:
        return _shared(array, own_type, wanted)
    if wanted is ElementType.BF16 and _BFLOAT16 is None and own_type is not ElementType.U16:
        plain = _bfloat16_bits(array)
    else:
        plain = _plain(np.require(array, to_dtype(wanted), ["C", "A"]))
    # Conversion has made a copy already where anything had to be converted.
    return _native.tensor_of_array(plain, wanted, array.shape, copy=np.may_share_memory(plain, array))


def _shared(array: np.ndarray[Any, Any], own_type: ElementType, wanted: ElementType) -> Tensor:
    """A tensor over the memory of `array`."""
    bits_as_bfloat16 = wanted is ElementType.BF16 and own_type is ElementType.U16
    if to_dtype(wanted) != to_dtype(own_type) and not bits_as_bfloat16:
        raise InvalidArgumentError(f"an array of {array.dtype} cannot be shared as {wanted}; it has to be copied")
    if not array.dtype.isnative:
        raise InvalidArgumentError("an array in foreign byte order cannot be shared; it has to be copied")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise InvalidArgumentError("an array has to be C-contiguous and aligned to be shared; this one has to be copied")
    return _native.tensor_of_array(_plain(array), wanted, array.shape, copy=False)


def _plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same memory as an array that the buffer protocol can describe."""
    if array.ndim == 0:
        array = array.reshape(1)
    if array.dtype == _BFLOAT16:
        return array.view(np.uint16)
    return array.view(np.uint8) if array.dtype in _NARROW.values() else array


def _bfloat16_bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The elements as the bits of bfloat16, rounded to nearest, ties to even."""
    single = np.ascontiguousarray(array, dtype=np.float32)
    bits = single.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(single), np.uint32(0x7FC0), rounded).astype(np.uint16)


def _from_text(array: np.ndarray[Any, Any], element_type: ElementType | None, copy: bool) -> Tensor:
    if element_type not in (None, ElementType.STRING):
        raise TypeError(f"an array of {array.dtype} cannot be converted to {element_type}")
    values = array.ravel().tolist()
    try:
        values = [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError as error:
        raise InvalidArgumentError("the bytes of a string tensor have to be UTF-8") from error
    if not all(isinstance(value, str) for value in values):
        raise TypeError("an array of objects can be a tensor only where all of them are str")
    if not copy:
        raise InvalidArgumentError("strings cannot be shared; they have to be copied")
    return _native.string_tensor(values, array.shape)


def as_input(data: Any) -> Tensor:
    """A tensor for reading: over the memory of `data` where that can be, else a copy."""
    if isinstance(data, (list, tuple, dict, str, bytes, int, float)) or data is None:
        raise TypeError(f"an input is a Tensor or an array, not a {type(data).__name__}")
    array = _as_ndarray(data)
    try:
        return _from_array(array, None, copy=False)
    except InvalidArgumentError:
        return _from_array(array, None, copy=True)


def as_output(data: Any) -> Tensor:
    """A tensor for writing over the memory of the array `data`."""
    if not isinstance(data, np.ndarray):
        raise TypeError(f"an output is a Tensor or a NumPy array, not a {type(data).__name__}")
    return _from_array(data, None, copy=False)


def to_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    """See `Tensor.to_numpy`."""
    strings = tensor._strings()
    if strings is not None:
        result = np.empty(len(strings), dtype=np.object_)
        result[:] = strings
        return result.reshape(tuple(tensor.shape))
    array = np.asarray(memoryview(tensor))
    if tensor.type is ElementType.BF16 and _BFLOAT16 is not None:
        return array.view(_BFLOAT16)
    return array.view(_NARROW[tensor.type]) if tensor.type in _NARROW else array


def as_array(tensor: Tensor, dtype: DTypeLike | None, copy: bool | None) -> np.ndarray[Any, Any]:
    """See NumPy's `__array__`."""
    array = to_numpy(tensor)
    if dtype is not None and array.dtype != dtype:
        if copy is False:
            raise ValueError(f"a tensor of {tensor.type} cannot be an array of {dtype} without a copy")
        return array.astype(dtype)
    return array.copy() if copy else array


def represent(tensor: Tensor) -> str:
    """How a tensor is printed, as `rt.config` says."""
    array = to_numpy(tensor)
    if tensor.type is ElementType.BF16:
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif tensor.type in _NARROW:
        array = array.astype(np.float32)
    threshold = config.get_print_threshold()
    precision = config.get_print_precision()
    all_elements = threshold < 0 or max(array.shape, default=0) <= threshold
    text = np.array2string(
        array,
        separator=", ",
        prefix="tensor(",
        threshold=array.size if all_elements else 0,
        edgeitems=max(1, threshold // 2),
        formatter={"float_kind": lambda value: f"{value:.{precision}f}"},
    )
    return f"tensor({text}, shape={tuple(tensor.shape)}, dtype={tensor.type})"

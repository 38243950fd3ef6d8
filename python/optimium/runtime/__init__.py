"""The Optimium runtime: runs machine-learning models.

    import optimium.runtime as rt

    model = rt.load_model("path/to/model")
    request = model.create_request()
    request.infer(inputs, outputs)
    request.wait()

Importing the package initializes the runtime, unless the environment variable OPTIMIUM_RT_DEFER_INIT is set: then
`rt.initialize()` has to be called first.
"""

from __future__ import annotations

import atexit as _atexit
import os as _os

from . import _native, config, logging
from ._arrays import tensor
from ._errors import (
    ContainerError,
    DeviceError,
    DeviceNotFoundError,
    ExtensionError,
    InferCanceledError,
    InferError,
    InvalidArgumentError,
    InvalidOperationError,
    InvalidStateError,
    ModelError,
    NetworkError,
    OutOfResourceError,
    RemoteError,
    RequestError,
    RuntimeException,
    ShapeError,
)
from ._errors import IOError as IOError
from ._errors import NotImplementedError as NotImplementedError
from ._errors import OSError as OSError
from ._errors import TypeError as TypeError
from ._native import (
    Conversion,
    Expr,
    InferRequest,
    Model,
    ProfileEvent,
    Tensor,
    TensorShape,
    convert,
    finalize,
    get_local_info,
    get_version,
    initialize,
    is_initialized,
    load_model,
    load_tensor,
    tune_model,
)
from ._types import (
    ARMCapability,
    ARMFeatureKind,
    CUDACapability,
    DeviceID,
    DeviceKind,
    ElementType,
    HexagonCapability,
    HostInfo,
    InferStatus,
    LogLevel,
    MemoryBlock,
    MemoryDetails,
    OperationDetails,
    OpInfo,
    OSKind,
    PlatformKind,
    ProfileDurations,
    ProfileEventKind,
    QuantizationParam,
    QuantizationScheme,
    RISCVCapability,
    RunDetails,
    SchedulerType,
    SPIRVCapability,
    TensorInfo,
    TunedLayer,
    TuneReport,
    Version,
    X86Capability,
    X86FeatureKind,
)
from ._versions import show_versions

int8 = ElementType.I8
uint8 = ElementType.U8
int16 = ElementType.I16
uint16 = ElementType.U16
int32 = ElementType.I32
uint32 = ElementType.U32
int64 = ElementType.I64
uint64 = ElementType.U64
float16 = ElementType.F16
float32 = ElementType.F32
float64 = ElementType.F64
bfloat16 = ElementType.BF16
tfloat32 = ElementType.TF32
bool_ = ElementType.BOOL
str_ = ElementType.STRING
qint8 = ElementType.QS8
quint8 = ElementType.QU8
qint16 = ElementType.QS16
quint16 = ElementType.QU16
qint32 = ElementType.QS32

__version__ = str(get_version())

# The exceptions that are named as built-in ones are not in the list: `import *` must not replace those.
__all__ = [
    "ARMCapability",
    "ARMFeatureKind",
    "CUDACapability",
    "ContainerError",
    "Conversion",
    "DeviceError",
    "DeviceID",
    "DeviceKind",
    "DeviceNotFoundError",
    "ElementType",
    "Expr",
    "ExtensionError",
    "HexagonCapability",
    "HostInfo",
    "InferCanceledError",
    "InferError",
    "InferRequest",
    "InferStatus",
    "InvalidArgumentError",
    "InvalidOperationError",
    "InvalidStateError",
    "LogLevel",
    "MemoryBlock",
    "MemoryDetails",
    "Model",
    "ModelError",
    "NetworkError",
    "OSKind",
    "OpInfo",
    "OperationDetails",
    "OutOfResourceError",
    "PlatformKind",
    "ProfileDurations",
    "ProfileEvent",
    "ProfileEventKind",
    "QuantizationParam",
    "QuantizationScheme",
    "RISCVCapability",
    "RemoteError",
    "RequestError",
    "RunDetails",
    "RuntimeException",
    "SPIRVCapability",
    "SchedulerType",
    "ShapeError",
    "Tensor",
    "TensorInfo",
    "TensorShape",
    "TuneReport",
    "TunedLayer",
    "Version",
    "X86Capability",
    "X86FeatureKind",
    "bfloat16",
    "bool_",
    "config",
    "convert",
    "finalize",
    "float16",
    "float32",
    "float64",
    "get_local_info",
    "get_version",
    "initialize",
    "int16",
    "int32",
    "int64",
    "int8",
    "is_initialized",
    "load_model",
    "load_tensor",
    "logging",
    "qint16",
    "qint32",
    "qint8",
    "quint16",
    "quint8",
    "show_versions",
    "str_",
    "tensor",
    "tfloat32",
    "tune_model",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
]

if not _native.is_deferred():
    initialize()
_atexit.register(_native.finalize_at_exit)
if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(
        before=_native.before_fork,
        after_in_parent=_native.after_fork_in_parent,
        after_in_child=_native.after_fork_in_child,
    )

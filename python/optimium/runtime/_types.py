"""Enumerations and plain data: what a host, a device, a model and its tensors are."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike

    from ._native import TensorShape


class _Names(enum.Enum):
    """An enumeration that prints as the names of its members."""

    def __str__(self) -> str:
        return self.name


class LogLevel(_Names):
    """How much is logged, from everything to errors alone."""

    DEBUG = "DEBUG"
    VERBOSE = "VERBOSE"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class SchedulerType(_Names):
    """How the requests of a model share the machine."""

    SIMPLE = "SIMPLE"
    EXCLUSIVE = "EXCLUSIVE"
    PIPELINE = "PIPELINE"


class InferStatus(_Names):
    """The state of a request."""

    READY = "READY"
    RUNNING = "RUNNING"
    FAULT = "FAULT"


class ProfileEventKind(_Names):
    """What began or ended while a request was profiled."""

    MODEL_EXECUTE_BEGIN = "MODEL_EXECUTE_BEGIN"
    MODEL_EXECUTE_END = "MODEL_EXECUTE_END"
    LAYER_EXECUTE_BEGIN = "LAYER_EXECUTE_BEGIN"
    LAYER_EXECUTE_END = "LAYER_EXECUTE_END"
    LAUNCH_BEGIN = "LAUNCH_BEGIN"
    LAUNCH_END = "LAUNCH_END"
    DEVICE_EXECUTE_BEGIN = "DEVICE_EXECUTE_BEGIN"
    DEVICE_EXECUTE_END = "DEVICE_EXECUTE_END"
    COPY_BEGIN = "COPY_BEGIN"
    COPY_END = "COPY_END"
    QUEUE_BEGIN = "QUEUE_BEGIN"
    QUEUE_END = "QUEUE_END"
    WAIT_BEGIN = "WAIT_BEGIN"
    WAIT_END = "WAIT_END"


class ElementType(_Names):
    """The type of a tensor's elements."""

    I8 = "I8"
    U8 = "U8"
    I16 = "I16"
    U16 = "U16"
    I32 = "I32"
    U32 = "U32"
    I64 = "I64"
    U64 = "U64"
    F16 = "F16"
    BF16 = "BF16"
    TF32 = "TF32"
    F32 = "F32"
    F64 = "F64"
    BOOL = "BOOL"
    STRING = "STRING"
    QS8 = "QS8"
    QU8 = "QU8"
    QS16 = "QS16"
    QU16 = "QU16"
    QS32 = "QS32"
    F8E4M3FN = "F8E4M3FN"
    F8E4M3FNUZ = "F8E4M3FNUZ"
    F8E5M2 = "F8E5M2"
    F8E5M2FNUZ = "F8E5M2FNUZ"
    F8E8M0 = "F8E8M0"
    F4E2M1 = "F4E2M1"
    I4 = "I4"
    U4 = "U4"
    I2 = "I2"
    U2 = "U2"

    @property
    def element_size(self) -> int:
        """Size of one element in bytes; 0 for strings, which are not stored inline."""
        return 0 if self is ElementType.STRING else self.to_dtype().itemsize

    def to_dtype(self) -> np.dtype[Any]:
        """The NumPy type of the same elements.

        Quantized types become their integers, TF32 float32, and STRING object. BF16 becomes `ml_dtypes.bfloat16`
        where the package ml_dtypes is installed, and otherwise uint16: the bits. So do the types of 8 or fewer bits, with
        uint8: every element has a byte, also those of 4 or 2 bits.
        """
        from . import _arrays

        return _arrays.to_dtype(self)

    @staticmethod
    def from_dtype(dtype: DTypeLike) -> ElementType:
        """The element type of a NumPy type. Raises rt.TypeError where there is none."""
        from . import _arrays

        return _arrays.from_dtype(dtype)


class OSKind(_Names):
    """Operating systems."""

    LINUX = "linux"
    ANDROID = "android"
    WINDOWS = "windows"
    MACOS = "macos"
    IOS = "ios"


class PlatformKind(_Names):
    """The software through which a device is used."""

    NATIVE = "native"
    XNNPACK = "xnnpack"
    CUDA = "cuda"
    VULKAN = "vulkan"
    OPENCL = "opencl"
    SNPE = "snpe"
    QNN = "qnn"


class DeviceKind(_Names):
    """What a device is."""

    UNSPECIFIED = "unspecified"
    NEUTRAL = "neutral"
    X86 = "x86"
    X64 = "x64"
    ARM = "arm"
    ARM64 = "arm64"
    RISCV32 = "riscv32"
    RISCV64 = "riscv64"
    ANY_CPU = "any_cpu"
    NVIDIA = "nvidia"
    AMDGPU = "amdgpu"
    INTEL_GPU = "intel_gpu"
    MALI = "mali"
    ADRENO = "adreno"
    ANY_GPU = "any_gpu"
    HEXAGON = "hexagon"
    ANY_NPU = "any_npu"

    def is_cpu(self) -> bool:
        """Whether it is a CPU."""
        return self in _CPUS

    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self in _GPUS

    def is_npu(self) -> bool:
        """Whether it is a neural processor."""
        return self in _NPUS

    def is_neutral(self) -> bool:
        """Whether it is bound to no device."""
        return self is DeviceKind.NEUTRAL

    def is_capable(self, other: DeviceKind) -> bool:
        """Whether a device of this kind can take work that is meant for `other`."""
        if other in (DeviceKind.NEUTRAL, DeviceKind.UNSPECIFIED):
            return True
        classes = {DeviceKind.ANY_CPU: _CPUS, DeviceKind.ANY_GPU: _GPUS, DeviceKind.ANY_NPU: _NPUS}
        if other in classes:
            return self in classes[other]
        return self is other or (self is DeviceKind.X64 and other is DeviceKind.X86)


_CPUS = frozenset(
    {
        DeviceKind.X86,
        DeviceKind.X64,
        DeviceKind.ARM,
        DeviceKind.ARM64,
        DeviceKind.RISCV32,
        DeviceKind.RISCV64,
        DeviceKind.ANY_CPU,
    }
)
_GPUS = frozenset(
    {
        DeviceKind.NVIDIA,
        DeviceKind.AMDGPU,
        DeviceKind.INTEL_GPU,
        DeviceKind.MALI,
        DeviceKind.ADRENO,
        DeviceKind.ANY_GPU,
    }
)
_NPUS = frozenset({DeviceKind.HEXAGON, DeviceKind.ANY_NPU})


class X86FeatureKind(_Names):
    """Extensions of the x86 instruction set."""

    MMX = "MMX"
    SSE = "SSE"
    SSE2 = "SSE2"
    SSE3 = "SSE3"
    SSSE3 = "SSSE3"
    SSE4A = "SSE4A"
    SSE41 = "SSE41"
    SSE42 = "SSE42"
    AVX = "AVX"
    F16C = "F16C"
    FMA = "FMA"
    AVX_VNNI = "AVX_VNNI"
    AVX2 = "AVX2"
    AVX512_F = "AVX512_F"
    AVX512_BW = "AVX512_BW"
    AVX512_CD = "AVX512_CD"
    AVX512_DQ = "AVX512_DQ"
    AVX512_VL = "AVX512_VL"
    AVX512_IFMA = "AVX512_IFMA"
    AVX512_VBMI = "AVX512_VBMI"
    AVX512_VBMI2 = "AVX512_VBMI2"
    AVX512_VNNI = "AVX512_VNNI"
    AVX512_BF16 = "AVX512_BF16"
    AVX512_FP16 = "AVX512_FP16"
    AMX_TILE = "AMX_TILE"
    AMX_INT8 = "AMX_INT8"
    AMX_BF16 = "AMX_BF16"
    AMX_FP16 = "AMX_FP16"
    AVX512_ER = "AVX512_ER"
    AVX512_PF = "AVX512_PF"
    AVX512_4FMAPS = "AVX512_4FMAPS"
    AVX512_4VNNIW = "AVX512_4VNNIW"


class ARMFeatureKind(_Names):
    """Extensions of the ARM instruction set."""

    FP = "FP"
    FP16 = "FP16"
    FP64 = "FP64"
    NEON = "NEON"
    NEON_FP16 = "NEON_FP16"
    NEON_BF16 = "NEON_BF16"
    SVE = "SVE"
    SVE2 = "SVE2"
    SME = "SME"
    BF16 = "BF16"
    FP16FML = "FP16FML"
    F32MM = "F32MM"
    F64MM = "F64MM"
    DOTPROD = "DOTPROD"
    I8MM = "I8MM"


_Feature = TypeVar("_Feature")


@dataclass(frozen=True)
class _Processor(Sequence[_Feature], Generic[_Feature]):
    """Cache sizes in bytes (0 where unknown), and a sequence of the features that are present."""

    #: Bytes of the first cache for data; 0 where unknown.
    L1: int
    #: Bytes of the second cache.
    L2: int
    #: Bytes of the third cache.
    L3: int
    #: The features that are present.
    features: tuple[_Feature, ...]

    def has_flag(self, feature: _Feature) -> bool:
        """Whether it has that feature."""
        return feature in self.features

    def has_flags(self, features: Iterable[_Feature]) -> bool:
        """Whether it has all those features."""
        return all(feature in self.features for feature in features)

    def __len__(self) -> int:
        return len(self.features)

    @overload
    def __getitem__(self, index: int) -> _Feature: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[_Feature, ...]: ...
    def __getitem__(self, index: int | slice) -> _Feature | tuple[_Feature, ...]:
        return self.features[index]


class X86Capability(_Processor[X86FeatureKind]):
    """What an x86 CPU can do."""


class ARMCapability(_Processor[ARMFeatureKind]):
    """What an ARM CPU can do."""


class RISCVCapability(_Processor[str]):
    """What a RISC-V CPU can do; its features are the names of extensions."""


@dataclass(frozen=True)
class SPIRVCapability:
    """What a device that is programmed in SPIR-V can do. Sizes of memory are in bytes."""

    target: str
    target_version: tuple[int, int]
    spirv_version: tuple[int, int]
    max_grid_size: tuple[int, int, int]
    max_block_size: tuple[int, int, int]
    max_shared_memory: int
    max_const_memory: int
    features: tuple[str, ...]

    def has_flag(self, feature: str) -> bool:
        """Whether it has that feature."""
        return feature in self.features

    def has_flags(self, features: Iterable[str]) -> bool:
        """Whether it has all those features."""
        return all(feature in self.features for feature in features)


@dataclass(frozen=True)
class CUDACapability:
    """What an NVIDIA GPU can do."""

    compute_capability: tuple[int, int]


@dataclass(frozen=True)
class HexagonCapability:
    """What a Hexagon processor can do: the number of its architecture."""

    version: int


Capability = (
    X86Capability | ARMCapability | RISCVCapability | SPIRVCapability | CUDACapability | HexagonCapability
)


@dataclass(frozen=True)
class DeviceID:
    """One device, used through one platform. Its text form is `native:x64:0@0`."""

    #: The software that it is used through.
    platform: PlatformKind
    #: What it is.
    device_kind: DeviceKind
    #: Its number among devices of its kind on the host.
    index: int = 0
    #: The host that has it.
    host_id: int = 0

    @property
    def name(self) -> str:
        """The text form."""
        return f"{self.platform.value}:{self.device_kind.value}:{self.index}@{self.host_id}"

    @property
    def host_info(self) -> HostInfo:
        """The host that has it. Raises DeviceNotFoundError for a device of another host."""
        from . import _errors, _native

        local = _native.get_local_info()
        if self.host_id != local.id:
            raise _errors.DeviceNotFoundError(f"the device {self} is not on this host")
        return local

    @property
    def capability(self) -> Capability:
        """What it can do. Raises DeviceNotFoundError where this host does not have it."""
        from . import _native

        return _native.device_capability(self)

    @staticmethod
    def from_string(name: str) -> DeviceID:
        """The device of that text form; index and host may be left out."""
        from . import _native

        return _native.parse_device(name)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class HostInfo:
    """A machine and its devices."""

    #: Its number among hosts; that of this one is 0.
    id: int
    #: Its name in the network.
    name: str
    #: What its CPU is.
    architecture: DeviceKind
    #: Its operating system.
    os: OSKind
    #: What can run models.
    devices: Sequence[DeviceID]


@dataclass(frozen=True)
class Version:
    """A version of the runtime, and how it was built."""

    #: Counts changes that programs have to follow.
    major: int
    #: Counts additions.
    minor: int
    #: Counts corrections.
    patch: int
    #: The version as text, with how it was built.
    build_info: str

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True)
class TunedLayer:
    """A layer that takes another kernel since its model was tuned."""

    #: The name of the node.
    name: str
    #: The name of the operator.
    operator: str
    #: The shape of its first output.
    shape: tuple[int, ...]
    #: The kernel that the estimate chose.
    old: str
    #: The kernel that is taken now.
    new: str
    #: Seconds with the old one, the fastest of many.
    before: float
    #: Seconds with the new one.
    after: float


@dataclass(frozen=True)
class TuneReport:
    """What tuning a model did."""

    #: The layers that take another kernel than the estimate chose, in the order in which they run.
    layers: tuple[TunedLayer, ...]
    #: Layers that had several candidates.
    choices: int
    #: Seconds of an inference with the estimate's choices, the fastest of many.
    before: float
    #: The same with the choices that are stored now.
    after: float

    @property
    def gain(self) -> float:
        """How many times as fast the model is."""
        return self.before / self.after if self.after > 0 else 1.0


@dataclass(frozen=True)
class QuantizationParam:
    """`real = scale * (stored - zero_point)`"""

    #: The difference of two neighbours.
    scale: float
    #: What zero is stored as.
    zero_point: int


@dataclass(frozen=True)
class QuantizationScheme(Sequence[QuantizationParam]):
    """The quantization of a tensor: one parameter pair for all, or one for each index of an axis."""

    #: One pair, or one for each index of the axis.
    params: tuple[QuantizationParam, ...]
    #: The axis; None where one pair serves the whole tensor.
    axis: int | None = None

    @property
    def per_channel(self) -> bool:
        """Whether there is one pair for each index of `axis`."""
        return self.axis is not None

    @property
    def per_tensor(self) -> bool:
        """Whether there is one pair for the whole tensor."""
        return self.axis is None

    def get_param(self, index: int = 0) -> QuantizationParam:
        """The pair of channel `index`; the one of the tensor for every index of a per-tensor scheme."""
        return self.params[index if self.per_channel else 0]

    def __len__(self) -> int:
        return len(self.params)

    @overload
    def __getitem__(self, index: int) -> QuantizationParam: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[QuantizationParam, ...]: ...
    def __getitem__(self, index: int | slice) -> QuantizationParam | tuple[QuantizationParam, ...]:
        return self.params[index]

    def __str__(self) -> str:
        if self.per_channel:
            return f"per channel on axis {self.axis}, {len(self)} channels"
        return f"per tensor, scale {self.params[0].scale:g}, zero point {self.params[0].zero_point}"


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a model."""

    #: Its name in the model.
    name: str
    #: The type of its elements.
    type: ElementType
    #: Its shape, in the layout of the model.
    shape: TensorShape
    #: Alignment of its memory, in bytes.
    alignment: int
    #: Unused bytes behind its elements.
    padding: int
    #: How its integers stand for reals, for quantized tensors.
    scheme: QuantizationScheme | None
    #: Whether it was optimized out: a fused operation never writes it to memory.
    opt_out: bool
    #: Whether it is a constant of the model.
    constant: bool

    @property
    def size(self) -> int:
        """Size of its elements in bytes. Raises ShapeError for dynamic shapes."""
        return self.shape.size * self.type.element_size

    def __str__(self) -> str:
        scheme = f" ({self.scheme})" if self.scheme else ""
        flags = [name for name, is_set in (("constant", self.constant), ("opt_out", self.opt_out)) if is_set]
        return f"{self.name}: {self.type} {self.shape}{scheme}" + "".join(f" {flag}" for flag in flags)


@dataclass(frozen=True)
class OpInfo:
    """A step that an inference takes."""

    #: The name of the node.
    name: str
    #: What runs it.
    device: DeviceID
    #: The name of the operator.
    operator: str
    #: The kernel that was chosen, and what was fused into it: for people.
    kernel: str
    #: Names of the tensors that it reads.
    inputs: tuple[str, ...]
    #: Names of the tensors that it writes.
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.operator} on {self.device}"


@dataclass(frozen=True)
class ProfileDurations:
    """How long everything took while a request was profiled, in nanoseconds: a value for each measured inference."""

    #: The name of the model.
    model_name: str
    #: Of whole inferences.
    model_durations: list[int]
    #: Of operations, by name: from the begin of the first worker's part to the end of the last one's.
    layer_durations: dict[str, list[int]]
    #: Of copies between devices, by the tensor's name.
    copy_durations: dict[str, list[int]]
    #: Events that found no room in the event buffer, and are missing here.
    lost_events: int


@dataclass(frozen=True)
class OperationDetails:
    """The work of one operation in an inference."""

    #: The shapes of the tensors that it reads, in the order of `OpInfo.inputs`.
    inputs: tuple[tuple[int, ...], ...]
    #: The shapes of the tensors that it writes.
    outputs: tuple[tuple[int, ...], ...]
    #: Multiply-adds of products, convolutions, attention and recurrent layers, whatever algorithm does them; 0 for all others.
    multiply_adds: int
    #: Whether these are of 8-bit integers.
    in_integers: bool
    #: Bytes of the tensors that it reads, without constants.
    bytes_read: int
    #: Bytes of the constants that it reads, as the model has them.
    constant_bytes: int
    #: Bytes that it writes.
    bytes_written: int
    #: Whether there is something to do: a view of a tensor, for instance, is not run.
    is_run: bool
    #: Whether the threads of the model share it; otherwise one does it alone.
    is_shared: bool


@dataclass(frozen=True)
class MemoryBlock:
    """A part of the arena, in bytes, and the operations that need it."""

    #: The tensor that it was made for; others may lie in it, as its parts or after it.
    tensor: str
    offset: int
    bytes: int
    #: Index of the first operation that uses it.
    first: int
    #: Index of the last one.
    last: int


@dataclass(frozen=True)
class MemoryDetails:
    """The memory of one inference, in bytes."""

    #: For tensors between operations.
    arena: int
    #: For what operations need while they run.
    scratch: int
    #: Of the constants, as the model has them.
    constants: int
    #: What lies in the arena.
    blocks: tuple[MemoryBlock, ...]


@dataclass(frozen=True)
class RunDetails:
    """What an inference consisted of, for the shapes that it had."""

    #: For each of the model's operations what it did.
    operations: tuple[OperationDetails, ...]
    memory: MemoryDetails

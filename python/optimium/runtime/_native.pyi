import os
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Literal, final, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._errors import RuntimeException
from ._types import (
    Capability,
    DeviceID,
    ElementType,
    HostInfo,
    InferStatus,
    LogLevel,
    OpInfo,
    ProfileDurations,
    ProfileEventKind,
    QuantizationScheme,
    RunDetails,
    SchedulerType,
    TensorInfo,
    TuneReport,
    Version,
)

_Path = str | os.PathLike[str]
_Dim = int | str | Expr
_ShapeLike = TensorShape | Sequence[_Dim] | _Dim
_TensorLike = Tensor | NDArray[Any]
_Tensors = Sequence[_TensorLike] | Mapping[str, _TensorLike]

@final
class Expr:
    """A dimension: a number, a symbol, or arithmetic of both."""

    def __new__(cls, value: _Dim) -> Expr: ...
    def is_const(self) -> bool:
        """Whether it is a number."""
    def is_symbol(self) -> bool:
        """Whether it is a symbol alone."""
    @property
    def value(self) -> int:
        """The number. Raises InvalidOperationError where it is none."""
    @property
    def symbol(self) -> str:
        """The name of the symbol. Raises InvalidOperationError where it is not a symbol alone."""
    def min(self, other: _Dim) -> Expr:
        """The smaller of both."""
    def max(self, other: _Dim) -> Expr:
        """The larger of both."""
    def __add__(self, other: _Dim, /) -> Expr: ...
    def __radd__(self, other: int, /) -> Expr: ...
    def __sub__(self, other: _Dim, /) -> Expr: ...
    def __rsub__(self, other: int, /) -> Expr: ...
    def __mul__(self, other: _Dim, /) -> Expr: ...
    def __rmul__(self, other: int, /) -> Expr: ...
    def __truediv__(self, other: _Dim, /) -> Expr: ...
    def __rtruediv__(self, other: int, /) -> Expr: ...
    def __floordiv__(self, other: _Dim, /) -> Expr: ...
    def __rfloordiv__(self, other: int, /) -> Expr: ...
    def __mod__(self, other: _Dim, /) -> Expr: ...
    def __rmod__(self, other: int, /) -> Expr: ...
    def __neg__(self) -> Expr: ...
    def __index__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class TensorShape:
    """The dimensions of a tensor: a sequence of int, and of Expr where they are symbolic."""

    def __new__(cls, *dims: _ShapeLike) -> TensorShape: ...
    @property
    def rank(self) -> int:
        """Number of dimensions."""
    @property
    def dynamic(self) -> bool:
        """Whether a dimension is symbolic."""
    @property
    def size(self) -> int:
        """Number of elements. Raises ShapeError for dynamic shapes."""
    @property
    def strides(self) -> tuple[Any, ...]:
        """Distances between neighbours along each dimension, in elements, of row-major memory."""
    def is_compatible(self, other: _ShapeLike) -> bool:
        """Whether there can be a tensor that has both shapes."""
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> Any: ...
    @overload
    def __getitem__(self, index: slice, /) -> tuple[Any, ...]: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __contains__(self, dim: object, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[type[TensorShape], tuple[Any, ...]]: ...

@final
class Tensor:
    """Values of one element type in a row-major shape. Made by rt.tensor()."""

    @property
    def shape(self) -> TensorShape:
        """Its shape."""
    @property
    def type(self) -> ElementType:
        """The type of its elements."""
    @property
    def size(self) -> int:
        """Number of elements."""
    @property
    def nbytes(self) -> int:
        """Size of the elements in bytes; 0 for strings."""
    @property
    def readonly(self) -> bool:
        """Whether its elements cannot be changed, and it cannot be an output."""
    @property
    def scheme(self) -> QuantizationScheme | None:
        """Its quantization scheme, for quantized tensors that a model made."""
    def to_numpy(self) -> NDArray[Any]:
        """A NumPy array over the same memory; a copy for strings."""
    def fill(self, value: float) -> None:
        """Sets every element to `value`."""
    def save(self, path: _Path) -> None:
        """Writes it to a file: NumPy's format where the name ends in .npy, else the runtime's own."""
    def load(self, path: _Path) -> None:
        """Reads its elements from a file that save() wrote; type and shape have to be the same."""
    def _strings(self) -> list[str] | None: ...
    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]: ...
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __release_buffer__(self, buffer: memoryview, /) -> None: ...

@final
class Model:
    """A loaded model."""

    @property
    def name(self) -> str:
        """Its name."""
    @property
    def input_names(self) -> list[str]:
        """Names of its inputs, in order."""
    @property
    def output_names(self) -> list[str]:
        """Names of its outputs, in order."""
    @property
    def tensors(self) -> list[TensorInfo]:
        """All its tensors, constants included."""
    @property
    def operations(self) -> list[OpInfo]:
        """The steps that an inference takes."""
    @property
    def is_dynamic(self) -> bool:
        """Whether an input or output has a symbolic shape."""
    def get_tensor(self, name: str) -> TensorInfo:
        """The tensor of that name."""
    def get_input_tensor(self, index: int) -> TensorInfo:
        """Input number `index`."""
    def get_output_tensor(self, index: int) -> TensorInfo:
        """Output number `index`."""
    def infer_shape(
        self, output_name: str, input_shapes: Mapping[str, _ShapeLike] | Sequence[_ShapeLike]
    ) -> TensorShape:
        """The shape that a tensor gets from inputs of the given shapes: by name, or in the model's order."""
    def create_request(self) -> InferRequest:
        """Room for one inference at a time. Requests of one model run independently of each other.

        Raises InvalidStateError where the runtime that the model was loaded in was finalized.
        """

@final
class InferRequest:
    """Room for one inference at a time."""

    def infer(self, inputs: _Tensors, outputs: _Tensors) -> None:
        """Begins an inference and returns. Everything that can be wrong about the tensors is raised here.

        An output shares no memory with other tensors of the call, except that the present keys and values of a decoder may be
        a view of the array that begins with the past ones: `array[:, :, :n + 1]` and `array[:, :, :n]`.

        Outputs whose sizes data decide may be left out, with the scheduler SIMPLE; get_tensor() gives them.
        """
    def wait(self, timeout: int | None = 0) -> bool:
        """Waits for the inference to end, at most `timeout` microseconds; 0 and None wait forever.

        Returns True where it has not ended, and raises the error of one that failed, once.
        """
    def infer_async(self, inputs: _Tensors, outputs: _Tensors) -> Coroutine[Any, Any, None]:
        """Runs an inference while the event loop of asyncio does other things: `await request.infer_async(inputs, outputs)`.

        Raises what infer() and wait() raise. Where the awaiting task is cancelled, so is the inference, and the task ends when
        the inference has: its tensors are free then. A callback that was set is called as ever.
        """
    def _infer_then(self, inputs: _Tensors, outputs: _Tensors, then: Callable[[], object]) -> None: ...
    def profile(
        self,
        inputs: _Tensors,
        outputs: _Tensors,
        repeat: int = 100,
        warmup: int = 10,
        warmup_time: int = 1_000_000,
        stop_threshold: int = 0,
        check_period: int = 0,
        event_buffer_size: int = 0,
        *,
        progress: Callable[[str, float], object] | None = None,
    ) -> None:
        """Repeats one inference, records what happens when, and returns when it has ended.

        The first inferences are not measured: at least `warmup` of them, for at least `warmup_time` microseconds. Then at most
        `repeat` are. Every `check_period` (0: 10) of them, the mean of their durations is compared with that of the check
        before; where it changed by less than `stop_threshold` microseconds, the profile ends early (0: never). Events go to
        a buffer of `event_buffer_size` bytes (0: 4 MB); those that find no room in it are counted and lost, which a RuntimeWarning
        says. About 20 times a second, `progress` is called with what is being done ("warming up", "measuring") and how much of
        that is done, from 0 to 1; an exception in it ends the profile.

        Raises what infer() and wait() raise, and InvalidArgumentError for a repeat of 0 or a buffer above 4 GB.
        """
    def get_profile_events(self) -> list[ProfileEvent]:
        """What happened in the last profile, by time. Raises InvalidOperationError where there was none."""
    def get_profile_durations(self) -> ProfileDurations:
        """How long everything took in the last profile. Raises InvalidOperationError where there was none."""
    def get_run_details(self) -> RunDetails:
        """What the last inference consisted of: the work of each operation for the shapes that it had, and the plan of its memory.

        Raises InvalidOperationError while the request runs, and before it has run.
        """
    @property
    def status(self) -> InferStatus:
        """Its state."""
    def set_callback(self, callback: Callable[[InferStatus, RuntimeException | None], object] | None) -> None:
        """Sets what is called when an inference ends, on a thread of the runtime or the one in wait(), before wait() returns."""
    def cancel(self) -> None:
        """Wishes that the running inference end early: wait() then raises InferCanceledError."""
    def get_tensor(self, name: str) -> Tensor:
        """A tensor as the last inference left it, by its name in the model and in the layout that it has there.

        Inputs and outputs can be read, constants, and, where the model was loaded with memory_optimization=False or an
        intermediate_save_path, all tensors but those that were fused away: load_model(keep_tensors=...) keeps them.

        Raises InvalidOperationError for tensors that are not kept, while the request runs and before it has run, and
        InvalidArgumentError for a name that the model does not have.
        """

@final
class ProfileEvent:
    """Something that began or ended while a request was profiled."""

    @property
    def kind(self) -> ProfileEventKind:
        """What it is."""
    @property
    def timestamp(self) -> int:
        """Microseconds on a clock that all profiles of the process share."""
    @property
    def timestamp_ns(self) -> int:
        """Nanoseconds on the same clock."""
    @property
    def operation(self) -> int | None:
        """The index of the operation among the model's, for LAYER_EXECUTE and WAIT events."""
    @property
    def thread_id(self) -> int | None:
        """The number of the worker, for LAYER_EXECUTE events; 0 leads the inference."""
    @property
    def tensor_id(self) -> int | None:
        """The index of the tensor among the model's, for COPY events."""
    @property
    def source_device(self) -> DeviceID | None:
        """The device that a tensor is copied from, for COPY events."""
    @property
    def dest_device(self) -> DeviceID | None:
        """The device that a tensor is copied to, for COPY events."""

def load_model(
    path: _Path,
    *,
    devices: Sequence[DeviceID | str] | None = None,
    strict: bool = False,
    memory_optimization: bool = True,
    disable_denormals: bool = True,
    intermediate_save_path: _Path | None = None,
    passphrase: str | None = None,
    threads: int | None = None,
    cores: Sequence[int] | None = None,
    scheduler_type: SchedulerType | None = None,
    precision: Literal["f32", "bf16"] = "f32",
    tuned: bool = True,
    stages: int | None = None,
    queue_capacity: int | None = None,
    keep_tensors: Sequence[str] | None = None,
    sequences: Mapping[str, Sequence[Sequence[int]] | None] | None = None,
) -> Model:
    """Loads a model.

    Args:
        path: A model folder, or an .onnx or .tflite file.
        devices: The devices that it may use, as DeviceID or in their text form; all where none are given.
        strict: Whether a device that is not there is an error, rather than a reason to use this host's CPU.
        memory_optimization: Whether tensors whose lifetimes do not overlap share memory. Without it,
            InferRequest.get_tensor() reads all of them.
        disable_denormals: Whether denormal numbers count as zero.
        intermediate_save_path: A folder that every inference leaves its intermediate tensors in, as .npy files with an
            index.json. Tensors then share no memory.
        passphrase: What an encrypted model is encrypted with.
        threads: Threads of one inference, from 1 to 1024. By default one for each of `cores`, or else as many as there are
            cores available, but no more than 4.
        cores: The numbers of the cores that the threads are pinned to, at least one for each thread.
        scheduler_type: How the requests of the model share the machine; SIMPLE where none is given.
        precision: "f32" computes all of it in f32. With "bf16", where it is faster, the factors of matrix products and
            convolutions are rounded to bfloat16, each with a relative error of at most 1/256, and so are tensors between
            layers that all take such. Products are summed in f32; inputs, outputs and, without memory_optimization, all
            tensors stay f32. On processors without such products both are the same.
        tuned: Whether a folder that was tuned on such a CPU for as many threads and that precision takes the kernels that
            were chosen.
        stages: Into how many stages the PIPELINE scheduler divides the threads (and cores); by default each is one.
        queue_capacity: How many inferences may wait for their turn, with EXCLUSIVE and PIPELINE; 1024 by default. infer()
            raises OutOfResourceError when there would be more.
        keep_tensors: Names of tensors of the model that are to stay readable where layers would otherwise be fused over
            them. For a folder that is decided when it is converted.
        sequences: What inputs that are sequences stand for, by name: the shapes of the tensors in them. Each tensor is then an
            input, name.0, name.1, …. None stands for an optional input without a value. For a folder that is decided when
            it is converted.

    Raises:
        ContainerError: There is no model at the path.
        ModelError: The model is damaged, or contradicts itself.
        NotImplementedError: The model needs what the runtime does not have; all of it is listed.
        DeviceNotFoundError: A device is not there, with `strict` or without any that could take its place.
        InvalidArgumentError: An option has a value that is not possible.
    """

def convert(
    source: _Path,
    destination: _Path,
    *,
    pack: bool = True,
    weights: Literal["bf16", "int8", "int4"] | None = None,
    progress: Callable[[str, float], object] | None = None,
    keep_tensors: Sequence[str] | None = None,
    sequences: Mapping[str, Sequence[Sequence[int]] | None] | None = None,
) -> Conversion:
    """Converts an .onnx or .tflite file to a model folder.

    Args:
        source: The file.
        destination: The folder. One that is a model folder already is replaced.
        pack: Whether the weights are stored a second time, as the kernels for this machine read them. Loading is faster
            then, and takes less memory.
        weights: What large constant matrices are stored in: bfloat16, or integers of 8 or 4 bits with a scale for every 64
            or 32 of them. Activations, products and sums stay f32. Without it they stay as the model has them.
        progress: Called with what is being done and how much of the whole is done, from 0 to 1. An exception in it ends the
            conversion.
        keep_tensors: Names of tensors of the model that are to stay readable where layers would otherwise be fused over them.
        sequences: What inputs that are sequences stand for, as for load_model().

    Returns:
        What was done.
    """

@final
class Conversion:
    """What a conversion did."""

    @property
    def compressed_weights(self) -> int:
        """How many matrices of weights were compressed."""
    @property
    def bytes_before(self) -> int:
        """Their bytes before."""
    @property
    def bytes_after(self) -> int:
        """Their bytes now, scales included."""

def tune_model(
    path: _Path,
    *,
    threads: int | None = None,
    cores: Sequence[int] | None = None,
    precision: Literal["f32", "bf16"] = "f32",
    sizes: Mapping[str, int] | None = None,
    seconds: float = 10.0,
    progress: Callable[[str, float], object] | None = None,
) -> TuneReport:
    """Measures on this machine which kernels are the fastest for the layers of the model in a folder, and stores them there with the
    packed weights that they need: load_model takes them where CPU, threads and precision are the same.

    sizes says how large dynamic dimensions are, by symbol; the batch is 1 by default, images 224 pixels, everything else 128.
    It takes about `seconds`, and somewhat longer for large models. `progress` is called with what is being done and how much of
    the whole is done, from 0 to 1; an exception in it ends the work, and so does an interrupt: the folder is then as it was.
    """

def empty_tensor(shape: _ShapeLike, dtype: ElementType) -> Tensor: ...
def string_tensor(values: Sequence[str], shape: _ShapeLike) -> Tensor: ...
def repeated_string_tensor(value: str, shape: _ShapeLike) -> Tensor: ...
def expr_from_json(text: str) -> Expr: ...
def tensor_of_array(array: NDArray[Any], dtype: ElementType, shape: _ShapeLike, copy: bool) -> Tensor: ...
def tensor_of_dlpack(object: Any) -> Tensor | None: ...
def load_tensor(path: _Path) -> Tensor:
    """The tensor in a file that Tensor.save() or NumPy wrote."""

def get_local_info() -> HostInfo:
    """This host and its devices."""

def device_capability(device: DeviceID) -> Capability: ...
def parse_device(name: str) -> DeviceID: ...
def processor() -> tuple[str, str]: ...
def probe_machine() -> dict[str, float]:
    """What one core of this machine reaches: `f32` and `int8` operations in a second, and bytes read in a second out of
    the second cache (`l2`), the third (`l3`) and `memory`. Takes some tens of milliseconds.
    """

def initialize() -> None:
    """Starts the runtime. Does nothing where it runs already."""

def finalize() -> None:
    """Shuts the runtime down: what runs is cancelled and awaited, what is queued fails, and models loaded before can no longer be run.

    Callbacks of these inferences are called before it returns.
    """

def is_initialized() -> bool:
    """Whether the runtime is initialized and not finalized."""

def finalize_at_exit() -> None: ...
def before_fork() -> None: ...
def after_fork_in_parent() -> None: ...
def after_fork_in_child() -> None: ...
def is_deferred() -> bool: ...
def get_version() -> Version:
    """The version of the runtime."""

def set_loglevel(level: LogLevel) -> None: ...
def enable_console_log() -> None: ...
def enable_file_log(path: _Path) -> None: ...

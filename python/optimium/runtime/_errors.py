"""The exceptions of the runtime. `RuntimeException` is the base of all."""

from __future__ import annotations

import builtins


class RuntimeException(RuntimeError):
    """Anything that goes wrong in the runtime."""


class InvalidArgumentError(RuntimeException, ValueError):
    """An argument has a value that is not allowed."""


class InvalidStateError(RuntimeException):
    """The runtime is not in the state that the call needs."""


class InvalidOperationError(RuntimeException):
    """The operation is not allowed now."""


class TypeError(RuntimeException, builtins.TypeError):
    """A type is not the expected one."""


class ShapeError(RuntimeException):
    """A shape is not the expected one."""


class ExtensionError(RuntimeException):
    """An extension could not be loaded or started."""


class DeviceError(RuntimeException):
    """A device failed."""


class DeviceNotFoundError(DeviceError):
    """A device is not there."""


class ModelError(RuntimeException):
    """A model could not be loaded or compiled."""


class RequestError(RuntimeException):
    """A request was used wrongly."""


class InferError(RuntimeException):
    """An inference failed."""


class InferCanceledError(InferError):
    """An inference was cancelled."""


class OutOfResourceError(RuntimeException):
    """Memory or another resource ran out."""


class ContainerError(RuntimeException):
    """A model folder is missing, damaged or not one."""


class RemoteError(RuntimeException):
    """A remote peer failed."""


class IOError(RuntimeException, builtins.IOError):
    """Reading or writing failed."""


class NetworkError(RuntimeException, builtins.IOError):
    """The network failed."""


class OSError(RuntimeException, builtins.OSError):
    """The operating system refused."""


class NotImplementedError(RuntimeException, builtins.NotImplementedError):
    """The feature does not exist yet."""

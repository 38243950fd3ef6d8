//! The runtime's errors as Python exceptions.

use optimium_tensor::{Error, ErrorKind};
use pyo3::prelude::*;

use crate::python;

/// The exception class of a kind of error.
fn class_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidArgument => "InvalidArgumentError",
        ErrorKind::InvalidState => "InvalidStateError",
        ErrorKind::InvalidOperation => "InvalidOperationError",
        ErrorKind::Type => "TypeError",
        ErrorKind::Shape => "ShapeError",
        ErrorKind::Extension => "ExtensionError",
        ErrorKind::Device => "DeviceError",
        ErrorKind::DeviceNotFound => "DeviceNotFoundError",
        ErrorKind::Model => "ModelError",
        ErrorKind::Request => "RequestError",
        ErrorKind::Infer => "InferError",
        ErrorKind::InferCanceled => "InferCanceledError",
        ErrorKind::OutOfResource => "OutOfResourceError",
        ErrorKind::Container => "ContainerError",
        ErrorKind::Remote => "RemoteError",
        ErrorKind::Io => "IOError",
        ErrorKind::Network => "NetworkError",
        ErrorKind::Os => "OSError",
        ErrorKind::NotImplemented => "NotImplementedError",
    }
}

/// The exception object of `error`, with the causes that its message does not tell.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let mut message = error.message().to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    python::errors(py)?.getattr(class_name(error.kind()))?.call1((message,))
}

/// The exception of `error`, to be raised.
pub(crate) fn raise(py: Python<'_>, error: Error) -> PyErr {
    match exception(py, &error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}

/// The exception of an argument that is not allowed.
pub(crate) fn invalid_argument(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raise(py, Error::invalid_argument(message))
}

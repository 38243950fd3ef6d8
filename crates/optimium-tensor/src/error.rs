//! One error type for every crate.

use std::fmt;

/// What went wrong, as users can tell failures apart. Each kind is one documented Python exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An argument has a value that is not allowed.
    InvalidArgument,
    /// The runtime is not in the state that the call needs.
    InvalidState,
    /// The operation is not allowed now.
    InvalidOperation,
    /// A type is not the expected one.
    Type,
    /// A shape is not the expected one.
    Shape,
    /// An extension could not be loaded or started.
    Extension,
    /// A device failed.
    Device,
    /// A device is not there.
    DeviceNotFound,
    /// A model could not be loaded or compiled.
    Model,
    /// A request was used wrongly.
    Request,
    /// An inference failed.
    Infer,
    /// An inference was cancelled.
    InferCanceled,
    /// Memory or another resource ran out.
    OutOfResource,
    /// A model folder is missing, damaged or not one.
    Container,
    /// A remote peer failed.
    Remote,
    /// Reading or writing failed.
    Io,
    /// The network failed.
    Network,
    /// The operating system refused.
    Os,
    /// The feature does not exist yet.
    NotImplemented,
}

/// A result with the runtime's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error: its kind, a message that says what, where and what was expected, and its cause.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), cause: None }))
    }

    /// With the error that led to this one.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Says where it happened, in front of the message.
    #[must_use]
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        self.0.message = format!("{place}: {}", self.0.message);
        self
    }

    /// The same error as another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Its message, without the cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// [`ErrorKind::InvalidArgument`]
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }
    /// [`ErrorKind::Type`]
    pub fn type_mismatch(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Type, message)
    }
    /// [`ErrorKind::Shape`]
    pub fn shape(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Shape, message)
    }
    /// [`ErrorKind::Model`]
    pub fn model(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Model, message)
    }
    /// [`ErrorKind::Container`]
    pub fn container(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Container, message)
    }
    /// [`ErrorKind::NotImplemented`]
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotImplemented, message)
    }
    /// [`ErrorKind::Infer`]
    pub fn infer(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Infer, message)
    }
    /// [`ErrorKind::Io`], of `path`.
    pub fn io(path: &std::path::Path, cause: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("{}: {cause}", path.display())).with_cause(cause)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)?;
        self.0.cause.as_ref().map_or(Ok(()), |cause| write!(f, " (cause: {cause})"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_ref().map(|cause| &**cause as &(dyn std::error::Error + 'static))
    }
}

//! The enumerations of `optimium.runtime._types`, whose members have the names listed here.

use optimium_runtime::device::{ArmFeatureKind, DeviceKind, OsKind, PlatformKind, X86FeatureKind};
use optimium_runtime::logging::LogLevel;
use optimium_runtime::{InferStatus, SchedulerType};
use optimium_tensor::{ElementType, Error};
use pyo3::prelude::*;

use crate::errors::raise;
use crate::python;

/// A Rust enumeration with a Python one of the same members.
pub(crate) trait PythonEnum: Copy + PartialEq + 'static {
    /// The Python class.
    const CLASS: &'static str;
    /// Every member and its name.
    fn members() -> Vec<(Self, String)>;
}

/// The Python member for `value`.
pub(crate) fn to_python<E: PythonEnum>(py: Python<'_>, value: E) -> PyResult<Bound<'_, PyAny>> {
    let name = E::members().into_iter().find(|(member, _)| *member == value).map(|(_, name)| name);
    python::types(py)?.getattr(E::CLASS)?.getattr(name.unwrap_or_default())
}

/// The value of the Python member `object`.
///
/// Raises `rt.TypeError` for anything that is not one.
pub(crate) fn from_python<E: PythonEnum>(object: &Bound<'_, PyAny>) -> PyResult<E> {
    let py = object.py();
    let wrong = || match object.repr() {
        Ok(given) => {
            raise(py, Error::type_mismatch(format!("expected a member of {}, not {given}", E::CLASS)))
        }
        Err(error) => error,
    };
    if !object.is_instance(&python::types(py)?.getattr(E::CLASS)?)? {
        return Err(wrong());
    }
    let name: String = object.getattr("name")?.extract()?;
    E::members().into_iter().find(|(_, member)| *member == name).map(|(member, _)| member).ok_or_else(wrong)
}

impl PythonEnum for ElementType {
    const CLASS: &'static str = "ElementType";
    fn members() -> Vec<(Self, String)> {
        ElementType::ALL.into_iter().map(|member| (member, member.name().to_string())).collect()
    }
}

impl PythonEnum for PlatformKind {
    const CLASS: &'static str = "PlatformKind";
    fn members() -> Vec<(Self, String)> {
        PlatformKind::ALL.into_iter().map(|member| (member, member.name().to_uppercase())).collect()
    }
}

impl PythonEnum for DeviceKind {
    const CLASS: &'static str = "DeviceKind";
    fn members() -> Vec<(Self, String)> {
        DeviceKind::ALL.into_iter().map(|member| (member, member.name().to_uppercase())).collect()
    }
}

impl PythonEnum for OsKind {
    const CLASS: &'static str = "OSKind";
    fn members() -> Vec<(Self, String)> {
        [OsKind::Linux, OsKind::Android, OsKind::Windows, OsKind::MacOs, OsKind::Ios]
            .map(|member| (member, member.name().to_uppercase()))
            .to_vec()
    }
}

impl PythonEnum for X86FeatureKind {
    const CLASS: &'static str = "X86FeatureKind";
    fn members() -> Vec<(Self, String)> {
        X86FeatureKind::ALL.map(|(member, name)| (member, name.to_string())).to_vec()
    }
}

impl PythonEnum for ArmFeatureKind {
    const CLASS: &'static str = "ARMFeatureKind";
    fn members() -> Vec<(Self, String)> {
        ArmFeatureKind::ALL.map(|(member, name)| (member, name.to_string())).to_vec()
    }
}

impl PythonEnum for InferStatus {
    const CLASS: &'static str = "InferStatus";
    fn members() -> Vec<(Self, String)> {
        InferStatus::ALL.into_iter().map(|member| (member, member.name().to_string())).collect()
    }
}

impl PythonEnum for SchedulerType {
    const CLASS: &'static str = "SchedulerType";
    fn members() -> Vec<(Self, String)> {
        SchedulerType::ALL.into_iter().map(|member| (member, member.name().to_string())).collect()
    }
}

impl PythonEnum for LogLevel {
    const CLASS: &'static str = "LogLevel";
    fn members() -> Vec<(Self, String)> {
        named([
            (LogLevel::Debug, "DEBUG"),
            (LogLevel::Verbose, "VERBOSE"),
            (LogLevel::Info, "INFO"),
            (LogLevel::Warning, "WARNING"),
            (LogLevel::Error, "ERROR"),
        ])
    }
}

fn named<E: Copy, const N: usize>(members: [(E, &str); N]) -> Vec<(E, String)> {
    members.map(|(member, name)| (member, name.to_string())).to_vec()
}

//! The only place that reads the environment.

use std::env;
use std::path::PathBuf;

/// What the environment asks of the runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `OPTIMIUM_RT_DEFER_INIT`: importing the Python module does not initialize the runtime.
    pub defer_init: bool,
    /// `OPTIMIUM_RT_DEBUG`: logs are written from [`LogLevel::Debug`](crate::logging::LogLevel::Debug) on.
    pub debug: bool,
    /// `OPTIMIUM_RT_ENABLE_LOG`: logs are written, to the file or else to the console.
    pub enable_log: bool,
    /// `OPTIMIUM_RT_LOGFILE`: the file that logs are written to; naming one enables logging.
    pub log_file: Option<PathBuf>,
    /// `OPTIMIUM_RT_INSTRUCTION_SET`: the instruction set that the CPU's kernels use, by name; none is the
    /// best that the machine has.
    pub instruction_set: Option<String>,
}

impl Environment {
    /// Reads the environment as it is now.
    pub fn read() -> Environment {
        Self::from_variables(|name| env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Environment {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is_on = |name: &str| {
            given(name).is_some_and(|value| {
                !["0", "false", "off", "no"].contains(&value.to_ascii_lowercase().as_str())
            })
        };
        Environment {
            defer_init: is_on("OPTIMIUM_RT_DEFER_INIT"),
            debug: is_on("OPTIMIUM_RT_DEBUG"),
            enable_log: is_on("OPTIMIUM_RT_ENABLE_LOG"),
            log_file: given("OPTIMIUM_RT_LOGFILE").map(PathBuf::from),
            instruction_set: given("OPTIMIUM_RT_INSTRUCTION_SET"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_on_unless_they_say_no() {
        for (value, expected) in [
            ("TRUE", true),
            ("1", true),
            ("yes", true),
            ("", false),
            ("0", false),
            ("False", false),
            ("OFF", false),
        ] {
            let read = Environment::from_variables(|name| {
                (name == "OPTIMIUM_RT_DEFER_INIT").then(|| value.to_string())
            });
            assert_eq!(read, Environment { defer_init: expected, ..Environment::default() }, "{value:?}");
        }
    }
}

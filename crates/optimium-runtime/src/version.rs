//! Which runtime this is.

/// The version of the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Rises with incompatible changes.
    pub major: u32,
    /// Rises with additions.
    pub minor: u32,
    /// Rises with corrections.
    pub patch: u32,
    /// The version, how the runtime was built, and for what.
    pub build_info: String,
}

/// The version of this runtime.
pub fn version() -> Version {
    let number = |text: &str| text.parse().unwrap_or(0);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    Version {
        major: number(env!("CARGO_PKG_VERSION_MAJOR")),
        minor: number(env!("CARGO_PKG_VERSION_MINOR")),
        patch: number(env!("CARGO_PKG_VERSION_PATCH")),
        build_info: format!(
            "{} {profile} {}-{}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::ARCH,
            std::env::consts::OS
        ),
    }
}

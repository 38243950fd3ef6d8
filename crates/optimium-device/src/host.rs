//! The machine that the runtime runs on.

use std::fmt;
use std::sync::OnceLock;

use crate::{DeviceId, DeviceKind, PlatformKind};

/// The number of the machine that the runtime itself runs on.
pub const LOCAL_HOST: u32 = 0;

/// Operating systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OsKind {
    /// Linux, other than Android.
    Linux,
    /// Android.
    Android,
    /// Windows.
    Windows,
    /// macOS.
    MacOs,
    /// iOS.
    Ios,
}

impl OsKind {
    /// The operating system that this program was built for; other Unixes count as Linux.
    pub const fn of_this_host() -> OsKind {
        if cfg!(target_os = "android") {
            OsKind::Android
        } else if cfg!(target_os = "windows") {
            OsKind::Windows
        } else if cfg!(target_os = "macos") {
            OsKind::MacOs
        } else if cfg!(target_os = "ios") {
            OsKind::Ios
        } else {
            OsKind::Linux
        }
    }

    /// Its name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            OsKind::Linux => "linux",
            OsKind::Android => "android",
            OsKind::Windows => "windows",
            OsKind::MacOs => "macos",
            OsKind::Ios => "ios",
        }
    }
}

impl fmt::Display for OsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A machine and its devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInfo {
    /// Its number; [`LOCAL_HOST`] for this one.
    pub id: u32,
    /// Its name on the network.
    pub name: String,
    /// The kind of its CPU.
    pub architecture: DeviceKind,
    /// Its operating system.
    pub os: OsKind,
    /// The devices that models can run on.
    pub devices: Vec<DeviceId>,
}

/// This machine.
pub fn local_info() -> &'static HostInfo {
    static LOCAL: OnceLock<HostInfo> = OnceLock::new();
    LOCAL.get_or_init(|| {
        let architecture = DeviceKind::of_this_host();
        HostInfo {
            id: LOCAL_HOST,
            name: gethostname::gethostname().to_string_lossy().into_owned(),
            architecture,
            os: OsKind::of_this_host(),
            devices: vec![DeviceId {
                platform: PlatformKind::Native,
                device_kind: architecture,
                index: 0,
                host_id: LOCAL_HOST,
            }],
        }
    })
}

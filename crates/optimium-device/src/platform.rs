//! The platforms that can run parts of a model.

use std::fmt;
use std::str::FromStr;

use optimium_tensor::Error;

/// The software through which a device is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PlatformKind {
    /// The runtime's own kernels for CPUs.
    Native,
    /// XNNPACK.
    XnnPack,
    /// CUDA.
    Cuda,
    /// Vulkan compute.
    Vulkan,
    /// OpenCL.
    OpenCl,
    /// Snapdragon Neural Processing Engine.
    Snpe,
    /// Qualcomm AI Engine Direct.
    Qnn,
}

impl PlatformKind {
    /// Every platform.
    pub const ALL: [PlatformKind; 7] = {
        use PlatformKind::*;
        [Native, XnnPack, Cuda, Vulkan, OpenCl, Snpe, Qnn]
    };

    /// Its name as written in device identifiers.
    pub const fn name(self) -> &'static str {
        match self {
            PlatformKind::Native => "native",
            PlatformKind::XnnPack => "xnnpack",
            PlatformKind::Cuda => "cuda",
            PlatformKind::Vulkan => "vulkan",
            PlatformKind::OpenCl => "opencl",
            PlatformKind::Snpe => "snpe",
            PlatformKind::Qnn => "qnn",
        }
    }
}

impl fmt::Display for PlatformKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PlatformKind {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| Error::invalid_argument(format!("there is no platform {text:?}")))
    }
}

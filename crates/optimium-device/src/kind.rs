//! The kinds of devices.

use std::fmt;
use std::str::FromStr;

use optimium_tensor::Error;

/// What a device is, apart from the platform through which it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceKind {
    /// Not said.
    Unspecified,
    /// Bound to no device: data and operations that run anywhere.
    Neutral,
    /// 32-bit x86.
    X86,
    /// 64-bit x86.
    X64,
    /// 32-bit ARM.
    Arm,
    /// 64-bit ARM.
    Arm64,
    /// 32-bit RISC-V.
    RiscV32,
    /// 64-bit RISC-V.
    RiscV64,
    /// Whatever CPU there is.
    AnyCpu,
    /// NVIDIA GPU.
    Nvidia,
    /// AMD GPU.
    AmdGpu,
    /// Intel GPU.
    IntelGpu,
    /// ARM Mali GPU.
    Mali,
    /// Qualcomm Adreno GPU.
    Adreno,
    /// Whatever GPU there is.
    AnyGpu,
    /// Qualcomm Hexagon.
    Hexagon,
    /// Whatever NPU there is.
    AnyNpu,
}

impl DeviceKind {
    /// Every kind.
    pub const ALL: [DeviceKind; 17] = {
        use DeviceKind::*;
        [
            Unspecified,
            Neutral,
            X86,
            X64,
            Arm,
            Arm64,
            RiscV32,
            RiscV64,
            AnyCpu,
            Nvidia,
            AmdGpu,
            IntelGpu,
            Mali,
            Adreno,
            AnyGpu,
            Hexagon,
            AnyNpu,
        ]
    };

    /// Its name as written in device identifiers.
    pub const fn name(self) -> &'static str {
        match self {
            DeviceKind::Unspecified => "unspecified",
            DeviceKind::Neutral => "neutral",
            DeviceKind::X86 => "x86",
            DeviceKind::X64 => "x64",
            DeviceKind::Arm => "arm",
            DeviceKind::Arm64 => "arm64",
            DeviceKind::RiscV32 => "riscv32",
            DeviceKind::RiscV64 => "riscv64",
            DeviceKind::AnyCpu => "any_cpu",
            DeviceKind::Nvidia => "nvidia",
            DeviceKind::AmdGpu => "amdgpu",
            DeviceKind::IntelGpu => "intel_gpu",
            DeviceKind::Mali => "mali",
            DeviceKind::Adreno => "adreno",
            DeviceKind::AnyGpu => "any_gpu",
            DeviceKind::Hexagon => "hexagon",
            DeviceKind::AnyNpu => "any_npu",
        }
    }

    /// The CPU that this program was built for.
    pub const fn of_this_host() -> DeviceKind {
        if cfg!(target_arch = "x86_64") {
            DeviceKind::X64
        } else if cfg!(target_arch = "x86") {
            DeviceKind::X86
        } else if cfg!(target_arch = "aarch64") {
            DeviceKind::Arm64
        } else if cfg!(target_arch = "arm") {
            DeviceKind::Arm
        } else if cfg!(target_arch = "riscv64") {
            DeviceKind::RiscV64
        } else if cfg!(target_arch = "riscv32") {
            DeviceKind::RiscV32
        } else {
            DeviceKind::Unspecified
        }
    }

    /// Whether it is a CPU.
    pub const fn is_cpu(self) -> bool {
        use DeviceKind::*;
        matches!(self, X86 | X64 | Arm | Arm64 | RiscV32 | RiscV64 | AnyCpu)
    }

    /// Whether it is a GPU.
    pub const fn is_gpu(self) -> bool {
        use DeviceKind::*;
        matches!(self, Nvidia | AmdGpu | IntelGpu | Mali | Adreno | AnyGpu)
    }

    /// Whether it is a neural processor.
    pub const fn is_npu(self) -> bool {
        matches!(self, DeviceKind::Hexagon | DeviceKind::AnyNpu)
    }

    /// Whether it is bound to no device.
    pub const fn is_neutral(self) -> bool {
        matches!(self, DeviceKind::Neutral)
    }

    /// Whether a device of this kind can take work that is meant for `other`: work for the same kind, for any
    /// device of its class, or for no device in particular; 64-bit x86 also takes work for 32-bit x86.
    pub fn is_capable(self, other: DeviceKind) -> bool {
        match other {
            DeviceKind::Neutral | DeviceKind::Unspecified => true,
            DeviceKind::AnyCpu => self.is_cpu(),
            DeviceKind::AnyGpu => self.is_gpu(),
            DeviceKind::AnyNpu => self.is_npu(),
            DeviceKind::X86 => matches!(self, DeviceKind::X86 | DeviceKind::X64),
            _ => self == other,
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DeviceKind {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| Error::invalid_argument(format!("there is no kind of device {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_do_not_overlap_and_names_read_back() {
        for kind in DeviceKind::ALL {
            let classes = [kind.is_cpu(), kind.is_gpu(), kind.is_npu(), kind.is_neutral()];
            assert!(classes.iter().filter(|&&is| is).count() <= 1, "{kind}");
            assert_eq!(kind.name().parse::<DeviceKind>().unwrap(), kind);
            assert!(kind.is_capable(kind), "{kind}");
            assert!(kind.is_capable(DeviceKind::Neutral), "{kind}");
        }
        assert!("toaster".parse::<DeviceKind>().is_err());
    }

    #[test]
    fn capable_of_the_class_but_not_of_strangers() {
        assert!(DeviceKind::X64.is_capable(DeviceKind::AnyCpu));
        assert!(DeviceKind::X64.is_capable(DeviceKind::X86));
        assert!(!DeviceKind::X86.is_capable(DeviceKind::X64));
        assert!(!DeviceKind::X64.is_capable(DeviceKind::Arm64));
        assert!(!DeviceKind::AnyCpu.is_capable(DeviceKind::X64));
        assert!(DeviceKind::Mali.is_capable(DeviceKind::AnyGpu));
    }
}

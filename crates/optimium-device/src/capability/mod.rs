//! What devices can do.

mod arm;
mod cache;
mod x86;

use std::sync::OnceLock;

pub use arm::{ArmCapability, ArmFeatureKind};
pub use cache::CacheSizes;
pub use x86::{X86Capability, X86FeatureKind};

/// What a device can do, by the kind of device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// An x86 CPU.
    X86(X86Capability),
    /// An ARM CPU.
    Arm(ArmCapability),
    /// A RISC-V CPU.
    RiscV(RiscVCapability),
    /// A device that is programmed in SPIR-V.
    SpirV(SpirVCapability),
    /// An NVIDIA GPU.
    Cuda(CudaCapability),
    /// A Hexagon processor.
    Hexagon(HexagonCapability),
}

/// A RISC-V CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RiscVCapability {
    /// Its caches.
    pub caches: CacheSizes,
    /// Its extensions, by the names of the specification in lower case.
    pub extensions: Vec<String>,
}

/// A device that is programmed in SPIR-V.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpirVCapability {
    /// The client interface: `vulkan` or `opencl`.
    pub target: String,
    /// The interface's version.
    pub target_version: (u32, u32),
    /// The newest SPIR-V that it takes.
    pub spirv_version: (u32, u32),
    /// Largest number of work groups, for each dimension.
    pub max_grid_size: [u32; 3],
    /// Largest size of a work group, for each dimension.
    pub max_block_size: [u32; 3],
    /// Memory shared within a work group, in bytes.
    pub max_shared_memory: u64,
    /// Constant memory, in bytes.
    pub max_const_memory: u64,
    /// Names of the optional features that it has.
    pub features: Vec<String>,
}

/// An NVIDIA GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CudaCapability {
    /// Major and minor compute capability.
    pub compute_capability: (u32, u32),
}

/// A Hexagon processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HexagonCapability {
    /// The architecture's number: 73 for v73.
    pub version: u32,
}

impl Capability {
    /// What the CPU of this machine can do; `None` for an architecture that the runtime does not know.
    pub fn of_this_cpu() -> Option<&'static Capability> {
        static LOCAL: OnceLock<Option<Capability>> = OnceLock::new();
        LOCAL.get_or_init(detect).as_ref()
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn detect() -> Option<Capability> {
    Some(Capability::X86(X86Capability { caches: CacheSizes::of_this_cpu(), features: x86::detect() }))
}

#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
fn detect() -> Option<Capability> {
    Some(Capability::Arm(ArmCapability { caches: CacheSizes::of_this_cpu(), features: arm::detect() }))
}

#[cfg(any(target_arch = "riscv64", target_arch = "riscv32"))]
fn detect() -> Option<Capability> {
    Some(Capability::RiscV(RiscVCapability { caches: CacheSizes::of_this_cpu(), extensions: Vec::new() }))
}

#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "x86",
    target_arch = "aarch64",
    target_arch = "arm",
    target_arch = "riscv64",
    target_arch = "riscv32"
)))]
fn detect() -> Option<Capability> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn every_x64_has_sse2() {
        let Some(Capability::X86(capability)) = Capability::of_this_cpu() else { panic!("not an x86") };
        assert!(capability.has_flags(&[X86FeatureKind::Sse, X86FeatureKind::Sse2]));
        assert!(!capability.has_flag(X86FeatureKind::Avx512Er));
        assert!(capability.has_flags(&[]));
    }
}

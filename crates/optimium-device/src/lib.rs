//! What a model can run on: the host, its devices and their capabilities, and the [`Backend`] trait
//! behind which each platform compiles and runs its part of a graph.

mod backend;
mod capability;
mod choices;
mod cpu;
mod details;
mod host;
mod id;
mod kind;
mod packed;
mod platform;
mod precision;

pub use backend::{Append, Backend, CompileOptions, Executable, ExecutionState, Observer, OperationInfo};
pub use capability::{
    ArmCapability, ArmFeatureKind, CacheSizes, Capability, CudaCapability, HexagonCapability,
    RiscVCapability, SpirVCapability, X86Capability, X86FeatureKind,
};
pub use choices::{Choices, KernelCandidate, KernelChoice};
pub use cpu::cpu_model;
pub use details::{MemoryBlock, MemoryDetails, OperationDetails, RunDetails};
pub use host::{HostInfo, LOCAL_HOST, OsKind, local_info};
pub use id::DeviceId;
pub use kind::DeviceKind;
pub use optimium_sync::Cancellation;
pub use packed::{PackedBlock, PackedWeights};
pub use platform::PlatformKind;
pub use precision::Precision;

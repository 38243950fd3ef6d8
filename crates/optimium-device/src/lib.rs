//! What a model can run on: the host, its devices and their capabilities, and the [`Backend`] trait
//! behind which each platform compiles and runs its part of a graph.

mod backend;

pub use backend::{
    Backend, Cancellation, CompileOptions, Executable, ExecutionState, OperationInfo,
};

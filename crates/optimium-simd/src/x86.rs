//! The instruction sets of x86-64.

mod avx2;
mod avx512;

pub use avx2::Avx2;
pub use avx512::Avx512;

/// An expression of intrinsics inside a method of a type that exists only where its features were
/// found.
macro_rules! proven {
    ($e:expr) => {
        // SAFETY: a value of this type is made by `detect` only, where the machine has the features;
        // pointers, where there are any, are the caller's promise.
        unsafe { $e }
    };
}
use proven;

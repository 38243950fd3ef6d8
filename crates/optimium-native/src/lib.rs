//! The NATIVE backend: compiles graphs to plans for CPUs and runs them.

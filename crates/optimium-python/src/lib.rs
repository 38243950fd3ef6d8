//! The Python module of the Optimium runtime.

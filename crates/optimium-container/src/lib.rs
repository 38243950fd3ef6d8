//! The model folder of the Optimium runtime.

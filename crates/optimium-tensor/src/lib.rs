//! The words that every other crate speaks: [`ElementType`], [`TensorShape`] of [`Expr`]essions,
//! [`QuantScheme`], [`Tensor`] and [`Error`].
//!
//! A [`Tensor`] is one run-time-typed struct: shared bytes, an element type and a concrete row-major
//! shape. It is contiguous; strided views exist only inside a compiled plan, but for arguments of inferences in
//! [blocks](Tensor::blocks), which only backends look into. Typed access goes through [`Tensor::read`] and
//! [`Tensor::write`], which check the type and keep readers and writers of the same memory apart at run time.

mod buffer;
mod element;
mod error;
mod expr;
mod quant;
mod shape;
mod tensor;

pub use buffer::{Access, Buffer};
pub use element::{Element, ElementType};
pub use error::{Error, ErrorKind, Result};
pub use expr::{Expr, SymbolValues};
pub use quant::{QuantParam, QuantScheme};
pub use shape::TensorShape;
pub use tensor::{Blocks, ReadGuard, Tensor, WriteGuard};

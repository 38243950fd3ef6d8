//! Windows reduced to their maximum, mean or norm.
//!
//! Channels-last images of `f32` and of bytes have vectorised kernels ([`max_pool`], [`average_pool`],
//! [`max_pool_u8`], [`max_pool_i8`]). Any number of axes, channels first and other element types take the
//! plain loops of [`max_pool_nd`], [`average_pool_nd`] and [`lp_pool_nd`].

mod bytes;
mod float;
mod general;
mod window;

pub use bytes::{max_pool_i8, max_pool_u8};
pub use float::{average_pool, max_pool};
pub use general::{AverageElement, IndexOrder, MaxElement, average_pool_nd, lp_pool_nd, max_pool_nd};
pub use window::{PoolGeometry, WindowGeometry};

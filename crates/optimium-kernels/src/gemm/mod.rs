//! Matrix products.
//!
//! The right matrix (the weights, as a rule) is packed ahead into panels of a few vectors of columns, in the
//! [`Layout`] that [`pick`] chooses; the left one is read where it lies. One register tile of the result is
//! summed over all of k without a break, finished by the [`Epilogue`](crate::epilogue::Epilogue), and stored.
//!
//! | file | |
//! |---|---|
//! | `tile` | which register tiles there are |
//! | `choice` | which one a problem takes |
//! | `layout`, `pack` | the packed form |
//! | `run`, `dispatch`, `kernel` | the loops, from the outermost to the innermost |
//! | `general` | the other number types |
//!
//! Convolutions use the same loops: their left rows are gathered from several places of an image.

mod choice;
mod dispatch;
mod general;
mod kernel;
mod layout;
mod pack;
pub(crate) mod run;
mod tile;

use optimium_simd::Level;

pub use choice::{Candidate, Problem, candidates, pick};
pub use general::{Number, matmul_general};
pub(crate) use kernel::Lines;
pub use layout::{Layout, PackedMatrix};
pub use tile::Tile;
pub(crate) use tile::effective;

use crate::epilogue::Epilogue;
use crate::{Part, SharedSlice};
use run::{Product, share};

/// `C[m,n] = epilogue(A[m,k] · B[k,n])` in `f32`, for the `k × n` matrix packed in `b` by `layout`.
///
/// Row `i` of A starts at `a[i * a_stride]`, row `i` of C at `c[i * c_stride]`. With `k == 0` the sums are
/// zero.
///
/// # Panics
/// Where `layout` is for another level, or a slice too short for the sizes.
pub fn gemm(
    level: Level,
    m: usize,
    a: &[f32],
    a_stride: usize,
    layout: &Layout,
    b: &[f32],
    epilogue: &Epilogue,
    c: SharedSlice<f32>,
    c_stride: usize,
    part: Part,
) {
    assert_eq!(effective(level), layout.level, "a matrix packed for another level");
    if m == 0 || layout.n == 0 {
        return;
    }
    let (last_a, last_c) = ((m - 1) * a_stride + layout.k, (m - 1) * c_stride + layout.n);
    assert!(a.len() >= last_a || layout.k == 0, "a left matrix of {} for {m} rows at {a_stride}", a.len());
    assert!(c.len() >= last_c, "a result of {} for {m} rows at {c_stride}", c.len());
    assert!(c_stride >= layout.n || m == 1, "rows of {} overlap at {c_stride}", layout.n);
    epilogue.check(m, layout.n);
    let product = Product {
        layout,
        packed: b,
        a: a.as_ptr(),
        left: Lines::straight(a_stride),
        runs: &[0],
        run_length: layout.k,
        row_len: layout.k,
        result: Lines::straight(1),
        c: c.as_mut_ptr(),
        c_stride,
        column: 0,
        epilogue,
        single_row: m == 1,
    };
    let (rows, panels) = share(part, m, layout.panels());
    // SAFETY: the assertions make all rows lie in their slices; parts have rows or columns of their own.
    unsafe { product.run(rows, panels) };
}

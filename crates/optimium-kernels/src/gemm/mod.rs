//! Matrix products.
//!
//! The right matrix (the weights, as a rule) is packed ahead into panels of a few vectors of columns, in the
//! [`Layout`] that [`pick`] chooses; the left one is read where it lies. One register tile of the result is
//! summed over all of k without a break, finished by the [`Epilogue`], and stored.
//!
//! | file | |
//! |---|---|
//! | `tile` | which register tiles there are |
//! | `choice` | which one a problem takes |
//! | `layout`, `pack` | the packed form |
//! | `run`, `dispatch`, `kernel`, `store` | the loops, from the outermost to the innermost |
//! | `grouped` | the innermost one for few columns |
//! | `deferred` | activations of several strips |
//! | `arithmetic` | what is multiplied |
//! | `lines` | where the rows lie |
//! | `bf16` | products with bfloat16 factors |
//! | `strassen` | products with fewer multiplications |
//! | `general` | the other number types |
//!
//! Convolutions use the same loops: their left rows are gathered from several places of an image.

pub(crate) mod arithmetic;
mod bf16;
mod choice;
mod deferred;
mod dispatch;
mod general;
pub(crate) mod grouped;
mod kernel;
mod layout;
mod lines;
mod pack;
pub(crate) mod run;
mod store;
mod strassen;
mod tile;

use optimium_simd::Level;

pub use bf16::{PackedBf16, candidates_bf16, gemm_bf16, rounding_cost};
pub(crate) use bf16::{as_pairs, gemm_pairs, multiply_pairs, round_rows};
pub use choice::{Candidate, Problem, candidates, pick};
pub(crate) use choice::{executes_in_halves, plain_candidates};
pub use general::{Number, matmul_general};
pub use layout::{Layout, PackedMatrix};
pub(crate) use lines::{Lines, Run};
pub use strassen::{PackedStrassen, candidates_strassen, gemm_strassen, suits_strassen};
pub use tile::Tile;

use crate::epilogue::Epilogue;
use crate::{Part, SharedSlice};
use arithmetic::Arithmetic;
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
    assert!(layout.level <= level, "a matrix packed for {} in a product at {level}", layout.level);
    if m == 0 || layout.n == 0 {
        return;
    }
    assert!(layout.arithmetic != Arithmetic::BrainPairs, "{layout} in a product of f32");
    check_bounds(m, [layout.k, layout.n], [a.len(), a_stride], [c.len(), c_stride]);
    epilogue.check(m, layout.n);
    let product = Product {
        layout,
        packed: b,
        following: epilogue.following,
        a: a.as_ptr(),
        left: Lines::straight(a_stride),
        runs: &[Run::default()],
        run_length: layout.k,
        row_len: layout.k,
        result: Lines::straight(1),
        c: c.as_mut_ptr(),
        c_stride,
        column: 0,
        epilogue,
        single_row: m == 1,
    };
    let (rows, panels) = share(part, m, layout);
    // SAFETY: the assertions make all rows lie in their slices; parts have rows or columns of their own.
    unsafe { product.run(rows, panels) };
}

/// Asserts that `m` rows of `k` elements lie in a left matrix and `m` rows of `n` in a result of those lengths and strides.
fn check_bounds(m: usize, [k, n]: [usize; 2], [a_len, a_stride]: [usize; 2], [c_len, c_stride]: [usize; 2]) {
    // Strides that overflow are too long for any slice.
    let end = |stride: usize, columns: usize| (m - 1).saturating_mul(stride).saturating_add(columns);
    assert!(a_len >= end(a_stride, k) || k == 0, "a left matrix of {a_len} for {m} rows at {a_stride}");
    assert!(c_len >= end(c_stride, n), "a result of {c_len} for {m} rows at {c_stride}");
    assert!(c_stride >= n || m == 1, "rows of {n} overlap at {c_stride}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Packing;
    use crate::activation::{Activation, apply_scalar};
    use crate::epilogue::Residual;
    use optimium_testing::{Random, Tolerance, compare, each_case};

    /// The operands of a product whose rows have gaps.
    struct Operands {
        a: Vec<f32>,
        b: Vec<f32>,
        bias: Vec<f32>,
        residual: Vec<f32>,
        slope: Vec<f32>,
    }

    const GAP: usize = 3;

    impl Operands {
        fn new([m, n, k]: [usize; 3]) -> Operands {
            let mut random = Random::new((m * 1000 + n * 10 + k) as u64);
            Operands {
                a: random.floats(m * (k + GAP)),
                b: random.floats(k * n),
                bias: random.floats(n),
                residual: random.floats(m * (n + GAP)),
                slope: random.floats(n),
            }
        }

        /// Bit 0: bias; bits 1 and 2: no residual, one before or after the activation.
        fn epilogue(&self, n: usize, flags: usize, activation: Activation) -> Epilogue<'_> {
            let residual = Residual {
                data: (&self.residual).into(),
                stride: n + GAP,
                after_activation: flags >> 1 == 2,
            };
            Epilogue {
                bias: (flags & 1 == 1).then_some(&self.bias[..]),
                residual: (flags >> 1 != 0).then_some(residual),
                activation,
                slope: (activation == Activation::PRelu).then_some(&self.slope[..]),
                following: &self.b,
            }
        }

        fn expected(&self, [m, n, k]: [usize; 3], epilogue: &Epilogue) -> Vec<f32> {
            let mut c = vec![7.0; m * (n + GAP)];
            for i in 0..m {
                for j in 0..n {
                    let product = |p| f64::from(self.a[i * (k + GAP) + p]) * f64::from(self.b[p * n + j]);
                    let mut sum = (0..k).map(product).sum::<f64>() as f32;
                    sum += epilogue.bias.map_or(0.0, |bias| bias[j]);
                    let residual = epilogue.residual.map_or(0.0, |r| self.residual[i * r.stride + j]);
                    let late = epilogue.residual.is_some_and(|r| r.after_activation);
                    let x = if late { sum } else { sum + residual };
                    let x = match epilogue.activation {
                        Activation::PRelu if x < 0.0 => x * self.slope[j],
                        activation => apply_scalar(activation, x),
                    };
                    c[i * (n + GAP) + j] = if late { x + residual } else { x };
                }
            }
            c
        }

        fn run(&self, sizes: [usize; 3], layout: &Layout, epilogue: &Epilogue, parts: usize) -> Vec<f32> {
            let [m, n, k] = sizes;
            let packed = PackedMatrix::new(*layout, &self.b, n, 1, &Packing::default());
            let mut c = vec![7.0; m * (n + GAP)];
            let shared = SharedSlice::new(&mut c);
            for index in 0..parts {
                let part = Part { index, count: parts };
                let level = layout.level;
                gemm(level, m, &self.a, k + GAP, layout, &packed.data, epilogue, shared, n + GAP, part);
            }
            c
        }
    }

    /// Checks every tile of every level, in one and several parts.
    fn check(sizes: [usize; 3], flags: usize, activation: Activation) -> Result<(), String> {
        let [_, n, k] = sizes;
        let operands = Operands::new(sizes);
        let epilogue = operands.epilogue(n, flags, activation);
        let expected = operands.expected(sizes, &epilogue);
        for level in Level::available() {
            let plain = Tile::all(level).map(|tile| Layout::new(level, tile, k, n));
            for layout in plain.chain(Layout::grouped(level, k, n)) {
                let whole = operands.run(sizes, &layout, &epilogue, 1);
                compare(&whole, &expected, Tolerance::dot(k))
                    .map_err(|e| format!("{level}, {layout}: {e}"))?;
                for parts in [2, 3] {
                    compare(&operands.run(sizes, &layout, &epilogue, parts), &whole, Tolerance::Exact)
                        .map_err(|e| format!("{level}, {layout}, {parts} parts: {e}"))?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn products_of_all_shapes_at_all_levels() {
        let shapes = [1, 2, 3, 5, 6, 7, 9, 12, 13, 25, 49].into_iter().flat_map(|m| {
            [1, 3, 4, 15, 16, 17, 31, 32, 48, 63, 64, 65, 80, 130]
                .into_iter()
                .map(move |n| [m, n, 11 + m % 7])
        });
        let deep =
            [[1, 64, 1], [1, 100, 5], [3, 70, 300], [130, 40, 64], [700, 33, 500], [0, 5, 5], [5, 0, 5]];
        each_case(shapes.chain(deep).chain([[5, 20, 0]]), |&sizes| check(sizes, 1, Activation::Relu));
    }

    #[test]
    fn epilogues_of_all_kinds() {
        let activations = [
            Activation::None,
            Activation::Relu,
            Activation::Clip { low: -0.5, high: 0.75 },
            Activation::LeakyRelu { alpha: 0.1 },
            Activation::PRelu,
            Activation::Sigmoid,
            Activation::HardSwish,
            Activation::Gelu,
        ];
        let cases =
            activations.into_iter().flat_map(|activation| (0..6).map(move |flags| (activation, flags)));
        each_case(cases, |&(activation, flags)| {
            check([7, 37, 9], flags, activation)?;
            check([101, 70, 9], flags, activation)
        });
    }

    #[test]
    fn clamps_let_nan_through() {
        each_case(Level::available(), |&level| {
            let layout = pick(level, &Problem { m: 1, n: 1, k: 2 });
            let packed = PackedMatrix::new(layout, &[1.0, 1.0], 1, 1, &Packing::default());
            for activation in [Activation::Relu, Activation::Clip { low: 0.0, high: 6.0 }] {
                let epilogue = Epilogue { activation, ..Epilogue::default() };
                let mut c = [0.0];
                let shared = SharedSlice::new(&mut c);
                let a = [f32::NAN, 1.0];
                gemm(level, 1, &a, 2, &layout, &packed.data, &epilogue, shared, 1, Part::WHOLE);
                compare(&c, &[f32::NAN], Tolerance::Exact)?;
            }
            Ok(())
        });
    }
}

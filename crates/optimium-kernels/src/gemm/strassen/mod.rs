//! Matrix products with seven multiplications of quarters instead of eight.
//!
//! Strassen, "Gaussian elimination is not optimal" (1969), in the form of Winograd with fifteen additions, and one level of
//! it. The sums of quarters of the right matrix are packed ahead. The halves of the left matrix are its even and its odd rows,
//! so that any pair of neighbours can be computed without the others; behind an odd number of rows there is one of zeros. With
//! the sums that [`LeftSums`] and the packed right matrix hold, the quarters of the result are, in the order of [`PASSES`],
//!
//! ```text
//! U = A₁₁ B₁₁                      C₁₁ = U + A₁₂ B₂₁
//! V = U + (A₂₁ + A₂₂ − A₁₁) (B₁₁ − B₁₂ + B₂₂)
//! W = V + (A₁₁ − A₂₁) (B₂₂ − B₁₂)  C₂₁ = W + A₂₂ (B₂₁ − B₁₁ + B₁₂ − B₂₂)
//! X = (A₂₁ + A₂₂) (B₁₂ − B₁₁)      C₂₂ = W + X
//!                                  C₁₂ = V + X + (A₁₁ + A₁₂ − A₂₁ − A₂₂) B₂₂
//! ```
//!
//! where most additions cost nothing, because a product's sums start from what they are added to.
//!
//! Few rows are bound by reading the right matrix, of which all sums are seven quarters. They are not paired, but computed one by
//! one from sums that are there, by the four products of [`SINGLE_PASSES`], as many as a plain product has:
//!
//! ```text
//! C₁₁ = A₁₁ B₁₁ + A₁₂ B₂₁          C₁₂ = A₁₁ B₁₁ + A₁₁ (B₁₂ − B₁₁) + A₁₂ B₂₂
//! ```
//!
//! Errors are bounded by norms: those of an element follow the largest elements of both of its rows of the left matrix, and of
//! both of its columns and the rows in halves of the right one, and not only its own ones (Higham, "Accuracy and Stability of
//! Numerical Algorithms", section 23.2.2). One level makes them two to three times as large as those of a plain product where all
//! rows and columns are of one size. So that they never are much larger, only rows and columns of similar size are summed.
//! Columns that differ more are scaled by powers of two before, which is exact, and their results scaled back when they are stored.
//! A matrix whose columns or rows differ even so, or are not finite, does not [suit](suits_strassen) this form. Rows of the left
//! matrix are looked at when they come: where two neighbours differ too much, or one is not finite, their group of rows is computed
//! one by one. Rows never spoil each other so; within a row, an infinite element may make results NaN that a plain product makes
//! infinite, and one near the largest numbers infinite or NaN that it makes finite.
//!
//! | file | |
//! |---|---|
//! | `balance` | what may be summed |
//! | `choice` | where it pays |
//! | `left`, `right` | sums of quarters of the factors |

mod balance;
mod choice;
mod left;
mod right;

use std::ops::Range;
use std::ptr::null;

use optimium_simd::Level;

pub use balance::suits_strassen;
pub use choice::candidates_strassen;
pub use right::PackedStrassen;

use super::kernel::Carry;
use super::layout::{Layout, Panel};
use super::lines::{Lines, Run};
use super::run::{Division, Product};
use super::tile::strip;
use crate::epilogue::Epilogue;
use crate::{Part, SharedSlice};
use balance::BalancedPairs;
use left::{LeftSums, SUMS};

/// A left factor.
#[derive(Clone, Copy)]
enum Left {
    /// That half of the first or second rows as it lies.
    Quarter(usize),
    /// The one of [`LeftSums`].
    Sum(usize),
}

/// One step of a panel: the product of a left factor and the right sum of that index, if any, is added to kept sums.
#[derive(Clone, Copy)]
struct Pass {
    product: Option<(Left, usize)>,
    initial: [Option<usize>; 2],
    to: To,
    /// Whether second rows of pairs are computed, or first ones.
    second: bool,
}

/// Where the sums of a pass go.
#[derive(Clone, Copy)]
enum To {
    Kept(usize),
    /// To that half of the columns.
    Result(usize),
}

/// How many kept sums there are of each row.
const KEPT: usize = 3;

/// All of a panel.
const PASSES: [Pass; 8] = {
    use Left::{Quarter, Sum};
    use To::{Kept, Result};
    [
        pass((Quarter(0), 0), [None, None], Kept(0), false),
        pass((Quarter(1), 1), [Some(0), None], Result(0), false),
        pass((Sum(1), 2), [Some(0), None], Kept(0), false),
        pass((Sum(2), 3), [Some(0), None], Kept(1), true),
        pass((Quarter(1), 4), [Some(1), None], Result(0), true),
        pass((Sum(0), 5), [None, None], Kept(2), false),
        Pass { product: None, initial: [Some(1), Some(2)], to: Result(1), second: true },
        pass((Sum(3), 6), [Some(0), Some(2)], Result(1), false),
    ]
};

/// All of a panel for rows one by one.
const SINGLE_PASSES: [Pass; 4] = {
    use Left::Quarter;
    use To::{Kept, Result};
    [
        pass((Quarter(0), 0), [None, None], Kept(0), false),
        pass((Quarter(1), 1), [Some(0), None], Result(0), false),
        pass((Quarter(0), 5), [Some(0), None], Kept(0), false),
        pass((Quarter(1), 6), [Some(0), None], Result(1), false),
    ]
};

const fn pass(product: (Left, usize), initial: [Option<usize>; 2], to: To, second: bool) -> Pass {
    Pass { product: Some(product), initial, to, second }
}

/// Rows that are worth to be paired.
const PAIRED_ROWS: usize = 32;

/// How rows of a product are put together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pairing {
    Neighbours,
    Single,
}

impl Pairing {
    /// Rows that are computed together.
    fn rows(self) -> usize {
        match self {
            Pairing::Neighbours => 2,
            Pairing::Single => 1,
        }
    }

    fn passes(self) -> &'static [Pass] {
        match self {
            Pairing::Neighbours => &PASSES,
            Pairing::Single => &SINGLE_PASSES,
        }
    }
}

/// Pairs of rows that make reading the right sums again worth while.
const BLOCK_PAIRS: usize = 96;
/// Rows that are paired or not as one: enough for register tiles where every other group is.
const GROUP_ROWS: usize = 24;

impl PackedStrassen {
    /// `f32` elements of scratch memory that each part of [`gemm_strassen`] needs for `m` rows.
    pub fn scratch_len(&self, m: usize) -> usize {
        let rows = if m < PAIRED_ROWS {
            // As many rows one by one need less.
            m * self.width()
        } else {
            m.div_ceil(2).min(BLOCK_PAIRS) * (SUMS * self.sum_stride() + KEPT * self.width())
        };
        self.bias_len() + rows
    }

    /// Elements of scratch memory for the bias as columns are scaled.
    fn bias_len(&self) -> usize {
        const LINE: usize = 16;
        if self.factors.is_some() { self.n().next_multiple_of(LINE) } else { 0 }
    }

    /// The bias that the sums start from: in `scaled` where columns are scaled.
    fn scale_bias<'a>(&self, bias: Option<&'a [f32]>, scaled: &'a mut [f32]) -> Option<&'a [f32]> {
        let (Some(bias), Some(factors)) = (bias, &self.factors) else { return bias };
        for ((scaled, bias), factor) in scaled.iter_mut().zip(bias).zip(&factors[..]) {
            *scaled = bias / factor;
        }
        Some(scaled)
    }

    /// Elements from one row of a left sum to the next: rows begin at cache lines, in sets of the cache that differ.
    fn sum_stride(&self) -> usize {
        const LINE: usize = 16;
        self.layout.k.next_multiple_of(LINE) + LINE
    }

    /// Columns of a panel.
    fn width(&self) -> usize {
        self.layout.tile.vectors * self.layout.lanes()
    }
}

/// `C[m,n] = epilogue(A[m,k] · B[k,n])` in `f32`, with errors as the module says.
///
/// Rows of A and C lie as for [`gemm`](super::gemm()). `scratch` has [`PackedStrassen::scratch_len`] elements of this part's
/// own, with any content.
///
/// # Panics
/// Where `b` is for another level, or a slice too short for the sizes.
pub fn gemm_strassen(
    level: Level,
    m: usize,
    a: &[f32],
    a_stride: usize,
    b: &PackedStrassen,
    epilogue: &Epilogue,
    c: SharedSlice<f32>,
    c_stride: usize,
    scratch: &mut [f32],
    part: Part,
) {
    let layout = &b.layout;
    assert!(layout.level <= level, "a matrix packed for {} in a product at {level}", layout.level);
    if m == 0 || layout.n == 0 {
        return;
    }
    super::check_bounds(m, [b.k(), b.n()], [a.len(), a_stride], [c.len(), c_stride]);
    epilogue.check(m, b.n());
    assert!(scratch.len() >= b.scratch_len(m), "{} elements of scratch memory", scratch.len());
    let (pairs, panels) = share(part, m, layout);
    let (scaled_bias, scratch) = scratch.split_at_mut(b.bias_len());
    let epilogue = &Epilogue { bias: b.scale_bias(epilogue.bias, scaled_bias), ..*epilogue };
    let job = Job { m, a: a.as_ptr(), a_stride, b, epilogue, c: c.as_mut_ptr(), c_stride, panels };
    let blocks = pairs.len().div_ceil(BLOCK_PAIRS);
    for block in 0..blocks {
        let (first, count) = strip(pairs.len(), blocks, block);
        let first = pairs.start + first;
        let rows = 2 * first..m.min(2 * (first + count));
        // SAFETY: all rows lie in their slices, as was checked; parts have rows or columns of their own.
        unsafe { job.block(rows, scratch, block + 1 == blocks) };
    }
}

/// This part's pairs of rows and panels of a product of `m` rows.
fn share(part: Part, m: usize, layout: &Layout) -> (Range<usize>, Range<usize>) {
    let pairs = m.div_ceil(2);
    if (Division { m, layout, groups: 1 }).is_by_panels(part.count) {
        (0..pairs, part.range(layout.panels()))
    } else {
        (part.range(pairs), 0..layout.panels())
    }
}

/// One part's share of a product.
struct Job<'a> {
    m: usize,
    a: *const f32,
    a_stride: usize,
    b: &'a PackedStrassen,
    epilogue: &'a Epilogue<'a>,
    c: *mut f32,
    c_stride: usize,
    panels: Range<usize>,
}

/// Rows that are put together alike, from the first one of a pair on, and their sums.
struct Stretch {
    pairing: Pairing,
    rows: Range<usize>,
    left: *const f32,
    kept: *mut f32,
}

impl Stretch {
    /// Pairs, or single rows.
    fn count(&self) -> usize {
        self.rows.len().div_ceil(self.pairing.rows())
    }
}

impl Job<'_> {
    /// Computes these rows, which begin with the first one of a pair, and may be the last ones.
    ///
    /// # Safety
    /// All rows of all matrices are accessible, and those of the result for this call alone. The scratch memory is as long as it
    /// has to be.
    unsafe fn block(&self, rows: Range<usize>, scratch: &mut [f32], last: bool) {
        let mut start = rows.start;
        while start < rows.end {
            // SAFETY: forwarded.
            let (pairing, end) = unsafe { self.alike(start..rows.end) };
            // SAFETY: forwarded for a part of the rows.
            unsafe { self.stretch(pairing, start..end, scratch, last && end == rows.end) };
            start = end;
        }
    }

    /// How the first of these rows are put together, and where others begin.
    ///
    /// # Safety
    /// All rows of the left matrix are readable.
    unsafe fn alike(&self, rows: Range<usize>) -> (Pairing, usize) {
        if self.m < PAIRED_ROWS {
            return (Pairing::Single, rows.end);
        }
        let first = rows.start / GROUP_ROWS;
        // SAFETY: forwarded.
        let of_group = |group| unsafe { self.group(group) };
        let pairing = of_group(first);
        let others = (first + 1..rows.end.div_ceil(GROUP_ROWS)).find(|&group| of_group(group) != pairing);
        (pairing, others.map_or(rows.end, |group| group * GROUP_ROWS))
    }

    /// How the rows of that group are put together: all of them, whatever part of them is computed.
    ///
    /// # Safety
    /// All rows of the left matrix are readable.
    unsafe fn group(&self, group: usize) -> Pairing {
        let rows = group * GROUP_ROWS..self.m.min((group + 1) * GROUP_ROWS);
        let task = BalancedPairs { a: self.a, length: self.b.k(), stride: self.a_stride, rows };
        if self.b.layout.level.run(task) { Pairing::Neighbours } else { Pairing::Single }
    }

    /// Computes these rows, all put together like that.
    ///
    /// # Safety
    /// As for [`block`](Job::block).
    unsafe fn stretch(&self, pairing: Pairing, rows: Range<usize>, scratch: &mut [f32], last: bool) {
        let (layout, sum_stride) = (&self.b.layout, self.b.sum_stride());
        let sums = if pairing == Pairing::Neighbours { SUMS * rows.len().div_ceil(2) } else { 0 };
        let (left, kept) = scratch.split_at_mut(sums * sum_stride);
        if pairing == Pairing::Neighbours {
            let (a, stride, half) = (self.a, self.a_stride, layout.k);
            layout.level.run(LeftSums { a, rows: rows.clone(), stride, half, out: left, sum_stride });
        }
        let stretch = Stretch { pairing, rows, left: left.as_ptr(), kept: kept.as_mut_ptr() };
        let passes = pairing.passes();
        for index in self.panels.clone() {
            for (at, pass) in passes.iter().enumerate() {
                let later = passes[at + 1..].iter().find_map(|pass| pass.product);
                let following = match (later, index + 1) {
                    (Some((_, sum)), _) => self.b.panel(sum, layout.panel(index)),
                    (None, next) if next < self.panels.end => self.b.panel(0, layout.panel(next)),
                    _ if last => self.epilogue.following,
                    _ => self.b.panel(0, layout.panel(self.panels.start)),
                };
                // SAFETY: forwarded.
                unsafe { self.pass(pass, &stretch, layout.panel(index), following) };
            }
        }
    }

    /// One pass of a panel, while what follows is fetched.
    ///
    /// # Safety
    /// As for [`block`](Job::block).
    unsafe fn pass(&self, pass: &Pass, stretch: &Stretch, panel: Panel, following: &[f32]) {
        let (layout, count, step) = (&self.b.layout, stretch.count(), stretch.pairing.rows());
        let first = stretch.rows.start + usize::from(pass.second);
        // Behind an odd number of rows there is no second one.
        let rows = if pass.second { stretch.rows.len() / 2 } else { count };
        if rows == 0 {
            return;
        }
        let kept = |index: usize| stretch.kept.wrapping_add(index * count * self.b.width());
        let runs: &[Run] = if pass.product.is_some() { &[Run { left: 0, right: 0 }] } else { &[] };
        let (left, sum) = pass.product.unwrap_or((Left::Quarter(0), 0));
        let sum_stride = self.b.sum_stride();
        let (a, left) = match left {
            Left::Quarter(half) => {
                let start = first * self.a_stride + half * layout.k;
                (self.a, Lines { start, ..Lines::straight(step * self.a_stride) })
            }
            Left::Sum(sum) => {
                (stretch.left.wrapping_add(sum * count * sum_stride), Lines::straight(sum_stride))
            }
        };
        let (target, half, no_epilogue) = match pass.to {
            To::Kept(index) => (Some(kept(index)), 0, Epilogue::default()),
            To::Result(half) => (None, half, *self.epilogue),
        };
        let product = Product {
            layout,
            packed: self.b.sum(sum),
            following: &[],
            a,
            left,
            runs,
            run_length: layout.k,
            row_len: layout.k,
            result: Lines { start: first, ..Lines::straight(step) },
            c: self.c,
            c_stride: self.c_stride,
            column: half * layout.n,
            epilogue: &no_epilogue,
            single_row: self.m == 1,
        };
        let initial = pass.initial.map(|index| index.map_or(null(), |index| kept(index).cast_const()));
        let factors = self.b.factors.as_ref().filter(|_| target.is_none());
        let factors = factors.map_or(null(), |factors| factors[half * layout.n + panel.column..].as_ptr());
        let carry = Carry { initial, kept: target.unwrap_or(std::ptr::null_mut()), factors };
        // SAFETY: forwarded.
        unsafe { product.panel(0, rows, panel, following, carry) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::{Layout, PackedMatrix};
    use super::super::tile::Tile;
    use super::super::{Problem, gemm, pick};
    use super::*;
    use crate::Packing;
    use crate::activation::{Activation, apply_scalar};
    use crate::epilogue::Residual;
    use optimium_testing::{Random, Tolerance, compare, each_case};
    use std::borrow::Cow;

    const GAP: usize = 3;

    /// Errors of sums of `k` products of order one: some times those of a plain product.
    fn tolerance(k: usize) -> Tolerance {
        Tolerance::Scaled { epsilon: 6e-6, scale: (k.max(1) as f32).sqrt().max(1.0) }
    }

    /// The operands of a product whose rows have gaps.
    struct Operands {
        sizes: [usize; 3],
        a: Vec<f32>,
        b: Vec<f32>,
        bias: Vec<f32>,
        residual: Vec<f32>,
    }

    impl Operands {
        fn new(sizes: [usize; 3]) -> Operands {
            let [m, n, k] = sizes;
            let mut random = Random::new((m * 1000 + n * 10 + k) as u64);
            Operands {
                sizes,
                a: random.floats(m * (k + GAP)),
                b: random.floats(k * n),
                bias: random.floats(n),
                residual: random.floats(m * (n + GAP)),
            }
        }

        /// With a residual before or after the activation.
        fn epilogue(&self, activation: Activation, after_activation: Option<bool>) -> Epilogue<'_> {
            let stride = self.sizes[1] + GAP;
            Epilogue {
                bias: Some(&self.bias),
                residual: after_activation.map(|after_activation| Residual {
                    data: (&self.residual).into(),
                    stride,
                    after_activation,
                }),
                activation,
                ..Epilogue::default()
            }
        }

        fn expected(&self, epilogue: &Epilogue) -> Vec<f32> {
            let [m, n, k] = self.sizes;
            let mut c = vec![7.0; m * (n + GAP)];
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let product = |p| f64::from(self.a[i * (k + GAP) + p]) * f64::from(self.b[p * n + j]);
                let sum = ((0..k).map(product).sum::<f64>() + f64::from(self.bias[j])) as f32;
                let added = epilogue.residual.map_or(0.0, |_| self.residual[i * (n + GAP) + j]);
                let late = epilogue.residual.is_some_and(|residual| residual.after_activation);
                let x = apply_scalar(epilogue.activation, if late { sum } else { sum + added });
                c[i * (n + GAP) + j] = if late { x + added } else { x };
            }
            c
        }

        fn run(&self, packed: &PackedStrassen, epilogue: &Epilogue, count: usize) -> Vec<f32> {
            let [m, n, k] = self.sizes;
            let mut c = vec![7.0; m * (n + GAP)];
            let shared = SharedSlice::new(&mut c);
            for index in 0..count {
                let mut scratch = vec![f32::NAN; packed.scratch_len(m)];
                let (part, level) = (Part { index, count }, packed.layout.level);
                let scratch = &mut scratch;
                gemm_strassen(level, m, &self.a, k + GAP, packed, epilogue, shared, n + GAP, scratch, part);
            }
            c
        }
    }

    fn prepare(layout: Layout, b: &[f32], strides: [usize; 2]) -> PackedStrassen {
        PackedStrassen::prepare(layout, "as it is", &Packing::default(), || Cow::Borrowed(b), strides)
    }

    /// Checks every tile of every level, in one and several parts.
    fn check(operands: &Operands, epilogue: &Epilogue) -> Result<(), String> {
        let [_, n, k] = operands.sizes;
        let expected = operands.expected(epilogue);
        for level in Level::available() {
            for tile in Tile::all(level) {
                let layout = Layout::new(level, tile, k / 2, n / 2);
                let packed = prepare(layout, &operands.b, [n, 1]);
                let whole = operands.run(&packed, epilogue, 1);
                compare(&whole, &expected, tolerance(k)).map_err(|e| format!("{level}, {layout}: {e}"))?;
                for parts in [2, 3] {
                    compare(&operands.run(&packed, epilogue, parts), &whole, Tolerance::Exact)
                        .map_err(|e| format!("{level}, {layout}, {parts} parts: {e}"))?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn products_of_all_shapes_at_all_levels() {
        let shapes = [1, 2, 3, 4, 5, 11, 12, 13, 24, 25, 49].into_iter().flat_map(|m| {
            [2, 6, 30, 32, 34, 62, 64, 66, 128, 130, 260].into_iter().map(move |n| [m, n, 10 + 2 * (m % 13)])
        });
        let deep = [[1, 64, 2], [3, 70, 300], [130, 40, 64], [401, 34, 500], [70, 130, 34]];
        let empty = [[0, 4, 4], [4, 0, 4], [4, 4, 0]];
        each_case(shapes.chain(deep).chain(empty), |&sizes| {
            let operands = Operands::new(sizes);
            check(&operands, &operands.epilogue(Activation::Relu, None))
        });
    }

    #[test]
    fn epilogues_of_all_kinds() {
        let activations = [Activation::None, Activation::LeakyRelu { alpha: 0.1 }, Activation::Gelu];
        let residuals = [None, Some(false), Some(true)];
        let cases = activations.into_iter().flat_map(|activation| residuals.map(|added| (activation, added)));
        each_case(cases, |&(activation, added)| {
            let operands = Operands::new([27, 74, 18]);
            check(&operands, &operands.epilogue(activation, added))
        });
    }

    #[test]
    fn strides_of_the_right_matrix() {
        let (n, k) = (70, 42);
        let b = Random::new(3).floats(n * k);
        let transposed: Vec<f32> = (0..n * k).map(|at| b[at % k * n + at / k]).collect();
        each_case(Level::available(), |&level| {
            let layout = candidates_strassen(level, &Problem { m: 64, n, k })[0].layout;
            let (plain, other) = (prepare(layout, &b, [n, 1]), prepare(layout, &transposed, [1, k]));
            compare(&plain.data, &other.data, Tolerance::Exact)
        });
    }

    /// The root of the mean square of the errors, relative to that of what was expected.
    fn error(actual: &[f32], expected: &[f32]) -> f64 {
        let square = |x: f64| x * x;
        let errors = actual.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - f64::from(b)));
        let squares = expected.iter().map(|&b| square(f64::from(b)));
        (errors.sum::<f64>() / squares.sum::<f64>()).sqrt()
    }

    /// How many times the errors of a plain product are allowed.
    const GROWTH: f64 = 3.5;

    #[test]
    fn errors_are_a_few_times_those_of_plain_products() {
        each_case([[64, 64, 256], [130, 96, 1024], [32, 128, 3072], [20, 64, 512]], |&sizes| {
            let [m, n, k] = sizes;
            let operands = Operands::new(sizes);
            let epilogue = operands.epilogue(Activation::None, None);
            let expected = operands.expected(&epilogue);
            for level in Level::available() {
                let layout = pick(level, &Problem { m, n, k });
                let plain = PackedMatrix::new(layout, &operands.b, n, 1, &Packing::default());
                let mut c = vec![7.0; m * (n + GAP)];
                let (shared, stride) = (SharedSlice::new(&mut c), n + GAP);
                let (a, b) = (&operands.a, &plain.data);
                gemm(layout.level, m, a, k + GAP, &layout, b, &epilogue, shared, stride, Part::WHOLE);
                let allowed = GROWTH * error(&c, &expected);
                let layout = pick(level, &Problem { m, n: n / 2, k: k / 2 });
                let c = operands.run(&prepare(layout, &operands.b, [n, 1]), &epilogue, 1);
                let found = error(&c, &expected);
                if found > allowed {
                    return Err(format!("{level}, {layout}: {found:e} where {allowed:e} are allowed"));
                }
            }
            Ok(())
        });
    }

    /// Which rows are scaled.
    const SCALED: [fn(usize) -> bool; 6] = [
        |row| row == 0,
        |row| row == 45,
        |row| row == 26 || row == 27,
        |row| row == 98,
        |row| row % 4 == 1,
        |row| row / 24 == 1,
    ];

    /// What a row may be scaled by.
    const SCALES: [f32; 9] = [1.0, 7.0, 20.0, 1e3, 1e6, 1e30, 0.0, f32::NAN, f32::INFINITY];

    /// Root mean square errors of a row, relative to its results: those of balanced rows, some times.
    const ROW_ERROR: f64 = 4e-6;

    /// Checks row `i` against what it must be: what is infinite there may also be NaN.
    fn check_row(found: &[f32], expected: &[f32]) -> Result<(), String> {
        if expected.iter().all(|x| x.is_finite()) {
            let error = error(found, expected);
            return if error <= ROW_ERROR { Ok(()) } else { Err(format!("an error of {error:e}")) };
        }
        let fits = |(found, expected): (&f32, &f32)| found.is_nan() || found == expected;
        if found.iter().zip(expected).all(fits) { Ok(()) } else { Err("wrong infinities".into()) }
    }

    #[test]
    fn rows_do_not_spoil_each_other() {
        let cases = SCALES.into_iter().flat_map(|scale| SCALED.map(|scaled| (scale, scaled)));
        each_case(cases, |&(scale, scaled)| {
            let [m, n, k] = [99, 70, 128];
            let mut operands = Operands::new([m, n, k]);
            for row in (0..m).filter(|&row| scaled(row)) {
                operands.a[row * (k + GAP)..][..k].iter_mut().for_each(|x| *x *= scale);
            }
            let epilogue = operands.epilogue(Activation::None, None);
            let expected = operands.expected(&epilogue);
            for level in Level::available() {
                let layout = candidates_strassen(level, &Problem { m, n, k })[0].layout;
                let packed = prepare(layout, &operands.b, [n, 1]);
                let whole = operands.run(&packed, &epilogue, 1);
                for row in 0..m {
                    let columns = row * (n + GAP)..row * (n + GAP) + n;
                    check_row(&whole[columns.clone()], &expected[columns])
                        .map_err(|e| format!("{level}, row {row}: {e}"))?;
                }
                for parts in [2, 3, 5] {
                    compare(&operands.run(&packed, &epilogue, parts), &whole, Tolerance::Exact)
                        .map_err(|e| format!("{level}, {parts} parts: {e}"))?;
                }
            }
            Ok(())
        });
    }

    #[test]
    fn columns_of_all_magnitudes() {
        each_case([[40, 74, 128], [20, 74, 128], [99, 70, 64]], |&[m, n, k]| {
            let mut operands = Operands::new([m, n, k]);
            let scale = |column: usize| if column == 5 { 0.0 } else { 10f32.powi((column % 9) as i32 - 4) };
            for (at, x) in operands.b.iter_mut().enumerate() {
                *x *= scale(at % n);
            }
            for (column, x) in operands.bias.iter_mut().enumerate() {
                *x *= scale(column);
            }
            let epilogue = operands.epilogue(Activation::LeakyRelu { alpha: 0.5 }, None);
            let expected = operands.expected(&epilogue);
            for level in Level::available() {
                assert!(suits_strassen(level, [k, n], &operands.b, [n, 1], 1.0));
                let layout = pick(level, &Problem { m, n: n / 2, k: k / 2 });
                let packed = prepare(layout, &operands.b, [n, 1]);
                let whole = operands.run(&packed, &epilogue, 1);
                for column in 0..n {
                    let of_column = |c: &[f32]| -> Vec<f32> {
                        c[column..].iter().step_by(n + GAP).map(|x| x / scale(column).max(1e-9)).collect()
                    };
                    compare(&of_column(&whole), &of_column(&expected), tolerance(k))
                        .map_err(|e| format!("{level}, column {column}: {e}"))?;
                }
                compare(&operands.run(&packed, &epilogue, 2), &whole, Tolerance::Exact)?;
            }
            Ok(())
        });
    }

    /// What results may be apart from exact ones.
    const ALLOWED: f64 = 1e-4;

    #[test]
    fn rows_and_columns_as_different_as_allowed() {
        let cases = [64, 768, 3072].into_iter().flat_map(|k| [false, true].map(|small_rows| (k, small_rows)));
        each_case(cases, |&(k, small_rows)| {
            let (m, n) = (36, 48);
            let mut operands = Operands::new([m, n, k]);
            operands.bias.fill(0.0);
            for row in (1..m).step_by(2) {
                operands.a[row * (k + GAP)..][..k].iter_mut().for_each(|x| *x *= 0.95 / balance::ROWS);
            }
            for (at, x) in operands.b.iter_mut().enumerate() {
                let small = at % n < n / 2 || small_rows && at / n < k / 2;
                *x *= if small { 0.95 / balance::WEIGHTS } else { 1.0 };
            }
            let epilogue = operands.epilogue(Activation::None, None);
            let expected = operands.expected(&epilogue);
            for level in Level::available() {
                let layout = pick(level, &Problem { m, n: n / 2, k: k / 2 });
                let c = operands.run(&prepare(layout, &operands.b, [n, 1]), &epilogue, 1);
                for (at, half) in
                    (0..m).flat_map(|row| [0, n / 2].map(|half| (row * (n + GAP) + half, n / 2)))
                {
                    let error = error(&c[at..at + half], &expected[at..at + half]);
                    if error > ALLOWED {
                        return Err(format!("{level}, {layout}: {error:e} at {at}"));
                    }
                }
            }
            Ok(())
        });
    }
}

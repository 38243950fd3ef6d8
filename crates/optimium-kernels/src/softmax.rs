//! Softmax and its logarithm.

use optimium_simd::{Level, Simd, SimdTask};

use crate::elementwise::Source;
use crate::math;
use crate::reduce::fold::{Add, Fold, Identity, Largest, ShiftedExp, Term, fold_row};
use crate::reduce::runs;
use crate::{Part, SharedSlice};

/// Softmax, or its logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Softmax {
    /// `exp(x) / Σ exp(x)`
    Probability,
    /// `x - ln(Σ exp(x))`
    Logarithm,
}

/// What is added to the rows of an input: each row of the mask to one or more of them.
///
/// The input's rows are those of a tensor of dimensions `shape`; the mask's row for indices `i` starts at
/// element `Σ i·strides`, so that a stride of 0 repeats it.
#[derive(Clone, Copy, Debug)]
pub struct RowMask<'a> {
    /// The values.
    pub data: &'a [f32],
    /// How the input's rows are counted; the product is their number.
    pub shape: [usize; 3],
    /// Elements from one row of the mask to the next, for each dimension.
    pub strides: [usize; 3],
}

impl RowMask<'_> {
    fn row(&self, index: usize, columns: usize) -> &[f32] {
        let [_, rows, inner] = self.shape;
        let indices = [index / inner / rows, index / inner % rows, index % inner];
        let start: usize = indices.iter().zip(self.strides).map(|(index, stride)| index * stride).sum();
        &self.data[start..start + columns]
    }
}

/// Softmax of `scale · x + mask` over each row. `x` may be the memory of `y`.
///
/// A row that holds NaN or plus infinity, or nothing but minus infinity, gives NaN.
///
/// # Panics
/// Where `x` or `y` is not of `rows · columns` elements, the mask has other rows or too few elements, or
/// `x` overlaps `y` without being the same.
pub fn softmax_rows<'a>(
    level: Level,
    kind: Softmax,
    x: impl Into<Source<'a, f32>>,
    [rows, columns]: [usize; 2],
    scale: f32,
    mask: Option<RowMask<'_>>,
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    let x = x.into();
    x.assert_elementwise(y);
    assert!(x.len() == rows * columns, "{} elements as {rows} rows of {columns}", x.len());
    if let Some(mask) = mask {
        let count: usize = mask.shape.iter().product();
        assert!(count == rows, "a mask of {count} rows for {rows}");
    }
    level.run(RowsTask { kind, x, rows, columns, scale, mask, y, part });
}

struct RowsTask<'a, 'b> {
    kind: Softmax,
    x: Source<'a, f32>,
    rows: usize,
    columns: usize,
    scale: f32,
    mask: Option<RowMask<'b>>,
    y: SharedSlice<'b, f32>,
    part: Part,
}

impl SimdTask for RowsTask<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let n = self.columns;
        for row in self.part.range(self.rows) {
            // SAFETY: the row lies in both, whose lengths were checked, and is this part's own.
            unsafe {
                let x = self.x.as_ptr().add(row * n);
                let y = self.y.as_mut_ptr().add(row * n);
                if self.scale == 1.0 && self.mask.is_none() {
                    let largest = fold_row::<S, Largest>(simd, x, n, Identity, simd.splat(0.0));
                    self.finish(simd, x, y, largest);
                } else {
                    let largest = self.prepare(simd, row, x, y);
                    self.finish(simd, y, y, largest);
                }
            }
        }
    }
}

impl RowsTask<'_, '_> {
    /// `y = scale · x + mask`, and its maximum.
    ///
    /// # Safety
    /// A row is readable at `x` and writable at `y`.
    #[inline(always)]
    unsafe fn prepare<S: Simd>(&self, simd: S, row: usize, x: *const f32, y: *mut f32) -> f32 {
        let n = self.columns;
        let scale = simd.splat(self.scale);
        let mut largest = simd.splat(f32::NEG_INFINITY);
        let mask = self.mask.map(|mask| mask.row(row, n).as_ptr());
        for (i, count) in vectors(simd, n) {
            // SAFETY: the elements are below n, of which the mask's row has n too.
            unsafe {
                let v = load(simd, x.add(i), count);
                let v = match mask {
                    Some(mask) => simd.fma(v, scale, load(simd, mask.add(i), count)),
                    None => simd.mul(v, scale),
                };
                store(simd, y.add(i), v, count);
                largest = Largest::combine(simd, largest, simd.select(simd.first(count), v, largest));
            }
        }
        Largest::lanes(simd, largest)
    }

    /// The softmax of the row at `x`.
    ///
    /// # Safety
    /// A row is readable at `x` and writable at `y`.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, x: *const f32, y: *mut f32, largest: f32) {
        let n = self.columns;
        let shift = simd.splat(largest);
        // SAFETY: the elements are below n.
        unsafe {
            match self.kind {
                Softmax::Probability => {
                    let zero = simd.splat(0.0);
                    let mut sum = zero;
                    for (i, count) in vectors(simd, n) {
                        let e = ShiftedExp.of(simd, load(simd, x.add(i), count), shift);
                        store(simd, y.add(i), e, count);
                        sum = simd.add(sum, simd.select(simd.first(count), e, zero));
                    }
                    let factor = simd.splat(1.0 / Add::lanes(simd, sum));
                    for (i, count) in vectors(simd, n) {
                        let e = load(simd, y.add(i), count);
                        store(simd, y.add(i), simd.mul(e, factor), count);
                    }
                }
                Softmax::Logarithm => {
                    let sum = fold_row::<S, Add>(simd, x, n, ShiftedExp, shift);
                    let logarithm = simd.splat(sum.ln());
                    for (i, count) in vectors(simd, n) {
                        let v = simd.sub(load(simd, x.add(i), count), shift);
                        store(simd, y.add(i), simd.sub(v, logarithm), count);
                    }
                }
            }
        }
    }
}

/// The start of each vector of `0..n`, and how many elements are left there.
#[inline(always)]
fn vectors<S: Simd>(_: S, n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(S::LANES).map(move |i| (i, n - i))
}

/// The first `count` elements at `p`, or as many as there are lanes.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn load<S: Simd>(simd: S, p: *const f32, count: usize) -> S::F32 {
    // Masks cost much more than the branch where the instruction set has no mask registers.
    // SAFETY: by the caller's promise.
    unsafe { if count >= S::LANES { simd.load(p) } else { simd.load_masked(p, simd.first(count)) } }
}

/// Stores the first `count` lanes at `p`, or all.
///
/// # Safety
/// They are writable.
#[inline(always)]
unsafe fn store<S: Simd>(simd: S, p: *mut f32, v: S::F32, count: usize) {
    // SAFETY: by the caller's promise.
    unsafe { if count >= S::LANES { simd.store(p, v) } else { simd.store_masked(p, v, simd.first(count)) } }
}

/// Softmax over the middle one of three dimensions `outer`, `axis`, `inner`. `x` may be the memory of
/// `y`.
///
/// # Panics
/// Where `x` or `y` has another number of elements, or `x` overlaps `y` without being the same.
pub fn softmax_axis<'a>(
    level: Level,
    kind: Softmax,
    x: impl Into<Source<'a, f32>>,
    [outer, axis, inner]: [usize; 3],
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    let x = x.into();
    if inner == 1 {
        return softmax_rows(level, kind, x, [outer, axis], 1.0, None, y, part);
    }
    x.assert_elementwise(y);
    assert!(x.len() == outer * axis * inner, "{} elements as {outer}, {axis}, {inner}", x.len());
    level.run(AxisTask { kind, x, outer, axis, inner, y, part });
}

struct AxisTask<'a, 'b> {
    kind: Softmax,
    x: Source<'a, f32>,
    outer: usize,
    axis: usize,
    inner: usize,
    y: SharedSlice<'b, f32>,
    part: Part,
}

impl SimdTask for AxisTask<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let lines = self.part.range_of_granules(self.outer * self.inner, 16);
        let mut buffer = [0.0; BUFFER];
        for (outer, columns) in runs(lines, self.inner) {
            for column in columns.clone().step_by(S::LANES) {
                let count = columns.end - column;
                let start = outer * self.axis * self.inner + column;
                // SAFETY: the lines lie in both, whose lengths were checked, and are this part's own.
                unsafe { self.lines(simd, start, count, &mut buffer) };
            }
        }
    }
}

/// Elements of lines that are kept beside each other while they are worked on: in their tensor, lines whose distance is a power
/// of two would drive each other out of the first cache.
const BUFFER: usize = 4096;

impl AxisTask<'_, '_> {
    /// The first `count` lines that start at element `start`, side by side in the lanes, or as many as there
    /// are lanes.
    ///
    /// # Safety
    /// These lines lie in `x` and `y` and belong to this part.
    #[inline(always)]
    unsafe fn lines<S: Simd>(&self, simd: S, start: usize, count: usize, buffer: &mut [f32; BUFFER]) {
        let (n, step) = (self.axis, self.inner);
        // SAFETY: by the caller's promise.
        unsafe {
            let (x, y) = (self.x.as_ptr().add(start), self.y.as_mut_ptr().add(start));
            let fits = n * S::LANES <= BUFFER;
            let (kept, kept_step) = if fits { (buffer.as_mut_ptr(), S::LANES) } else { (y, step) };
            let kept = |i: usize| kept.add(i * kept_step);
            let mut largest = simd.splat(f32::NEG_INFINITY);
            for i in 0..n {
                let v = load(simd, x.add(i * step), count);
                largest = Largest::combine(simd, largest, v);
                store(simd, kept(i), v, count);
            }
            let mut sum = simd.splat(0.0);
            let probability = self.kind == Softmax::Probability;
            for i in 0..n {
                let v = simd.sub(load(simd, kept(i), count), largest);
                let e = math::exp(simd, v);
                sum = simd.add(sum, e);
                store(simd, kept(i), if probability { e } else { v }, count);
            }
            if probability {
                let factor = simd.div(simd.splat(1.0), sum);
                for i in 0..n {
                    store(simd, y.add(i * step), simd.mul(load(simd, kept(i), count), factor), count);
                }
            } else {
                let logarithm = math::log(simd, sum);
                for i in 0..n {
                    store(simd, y.add(i * step), simd.sub(load(simd, kept(i), count), logarithm), count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;

    fn naive(kind: Softmax, x: &[f32]) -> Vec<f32> {
        let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shifted = x.iter().map(|&x| f64::from(x) - f64::from(largest));
        let sum: f64 = shifted.clone().map(f64::exp).sum();
        let result = |v: f64| match kind {
            Softmax::Probability => v.exp() / sum,
            Softmax::Logarithm => v - sum.ln(),
        };
        shifted.map(|v| result(v) as f32).collect()
    }

    fn in_parts(
        mut run: impl FnMut(SharedSlice<f32>, Part),
        x: &[f32],
        expected: &[f32],
    ) -> Result<(), String> {
        let mut whole = Vec::new();
        for count in 1..4 {
            let mut y = x.to_vec();
            for index in 0..count {
                run(SharedSlice::new(&mut y), Part { index, count });
            }
            compare(&y, expected, Tolerance::Relative(2e-6))?;
            if count == 1 {
                whole = y.clone();
            }
            compare(&y, &whole, Tolerance::Exact)?;
        }
        Ok(())
    }

    #[test]
    fn rows_in_place_with_scale_and_mask() {
        let mut random = Random::new(5);
        let values: Vec<f32> = random.floats(8000).iter().map(|x| x * 30.0).collect();
        let kinds = [Softmax::Probability, Softmax::Logarithm];
        let columns = [0, 1, 3, 4, 7, 8, 15, 16, 17, 33, 64, 100, 333];
        let cases = Level::available()
            .flat_map(|level| kinds.into_iter().flat_map(move |kind| columns.map(|n| (level, kind, n))));
        each_case(cases.collect::<Vec<_>>(), |&(level, kind, n)| {
            let rows = 12;
            let x = &values[..rows * n];
            let plain: Vec<f32> = x.chunks(n.max(1)).flat_map(|row| naive(kind, row)).collect();
            let run = |y: SharedSlice<f32>, part| softmax_rows(level, kind, y, [rows, n], 1.0, None, y, part);
            in_parts(run, x, &plain)?;
            let mask = RowMask { data: &values[7000..], shape: [2, 2, 3], strides: [5, 0, 1] };
            let masked: Vec<f32> = (0..rows)
                .flat_map(|row| {
                    let bias = &values[7000 + row / 6 * 5 + row % 3..];
                    let row: Vec<f32> =
                        x[row * n..][..n].iter().zip(bias).map(|(x, bias)| x.mul_add(0.25, *bias)).collect();
                    naive(kind, &row)
                })
                .collect();
            let run = |y: SharedSlice<f32>, part| {
                softmax_rows(level, kind, y, [rows, n], 0.25, Some(mask), y, part)
            };
            // Without a fused multiply-add the argument itself is rounded once more.
            let run_apart = |y: SharedSlice<f32>, part| {
                softmax_rows(level, kind, x, [rows, n], 0.25, Some(mask), y, part);
            };
            if level != Level::Portable {
                in_parts(run, x, &masked)?;
                in_parts(run_apart, x, &masked)?;
            }
            Ok(())
        });
    }

    #[test]
    fn over_a_middle_axis() {
        let mut random = Random::new(6);
        let values: Vec<f32> = random.floats(8000).iter().map(|x| x * 30.0).collect();
        let kinds = [Softmax::Probability, Softmax::Logarithm];
        let shapes = [
            [2, 3, 1],
            [3, 5, 2],
            [2, 21, 37],
            [1, 4, 1000],
            [2, 7, 16],
            [1, 1100, 3],
            [0, 3, 2],
            [2, 0, 3],
            [2, 3, 0],
        ];
        let cases = Level::available().flat_map(|level| {
            kinds.into_iter().flat_map(move |kind| shapes.map(|shape| (level, kind, shape)))
        });
        each_case(cases.collect::<Vec<_>>(), |&(level, kind, shape)| {
            let [outer, axis, inner] = shape;
            let x = &values[..outer * axis * inner];
            let mut expected = vec![0.0; x.len()];
            for line in 0..outer * inner {
                let at = |i: usize| line / inner * axis * inner + i * inner + line % inner;
                let row: Vec<f32> = (0..axis).map(|i| x[at(i)]).collect();
                for (i, value) in naive(kind, &row).into_iter().enumerate() {
                    expected[at(i)] = value;
                }
            }
            in_parts(|y: SharedSlice<f32>, part| softmax_axis(level, kind, y, shape, y, part), x, &expected)
        });
    }

    #[test]
    fn nan_and_masked_out_elements() {
        let x = [f32::NEG_INFINITY, 0.0, 0.0, f32::NEG_INFINITY, 1.0, f32::NAN, 2.0, 3.0];
        for level in Level::available() {
            let mut y = [0.0; 8];
            let shared = SharedSlice::new(&mut y);
            softmax_rows(level, Softmax::Probability, &x[..], [2, 4], 1.0, None, shared, Part::WHOLE);
            assert_eq!(y[..4], [0.0, 0.5, 0.5, 0.0]);
            assert!(y[4..].iter().all(|y| y.is_nan()));
        }
    }
}

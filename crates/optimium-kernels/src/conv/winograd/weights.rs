//! From the weights to the matrices of all points.

use std::marker::PhantomData;

use optimium_simd::{Level, Simd, SimdTask};

use super::transform::Transform;
use crate::gemm::Layout;

/// Packs the transforms of `weights`, `[output channels, input channels, 3, 3]`, into `packed`: for each point a matrix
/// `[input channel] × [output channel]` in the form of `layout`, one after the other, into the zeros of `packed`.
///
/// They are computed in `f64` and rounded once.
pub(super) fn pack<T: Transform<N, M>, const N: usize, const M: usize>(
    level: Level,
    layout: &Layout,
    weights: &[f32],
    packed: &mut [f32],
) {
    assert_eq!(weights.len(), layout.k * layout.n * TAPS, "weights for {layout}");
    level.run(Pack::<T, N, M> { transform: PhantomData, layout, weights, packed });
}

const TAPS: usize = 9;
/// Columns that are transformed at once: what divides the width of every panel.
const COLUMNS: usize = 4;

struct Pack<'a, T, const N: usize, const M: usize> {
    transform: PhantomData<T>,
    layout: &'a Layout,
    weights: &'a [f32],
    packed: &'a mut [f32],
}

impl<T: Transform<N, M>, const N: usize, const M: usize> SimdTask for Pack<'_, T, N, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (matrix, inputs) = (T::taps(), self.layout.k);
        for panel in (0..self.layout.panels()).map(|index| self.layout.panel(index)) {
            let width = panel.vectors * self.layout.lanes();
            for input in 0..inputs {
                for column in (0..panel.columns).step_by(COLUMNS) {
                    let columns = COLUMNS.min(panel.columns - column);
                    let first = ((panel.column + column) * inputs + input) * TAPS;
                    let taps = gather(&self.weights[first..], inputs * TAPS, columns);
                    let at = panel.offset + input * width + column;
                    for (point, values) in transform(&matrix, taps).iter().flatten().enumerate() {
                        let target = &mut self.packed[point * self.layout.len() + at..][..COLUMNS];
                        target.copy_from_slice(&values.map(|value| value as f32));
                    }
                }
            }
        }
    }
}

/// The taps of some columns, which begin `stride` elements apart.
#[inline(always)]
fn gather(weights: &[f32], stride: usize, columns: usize) -> [[[f64; COLUMNS]; 3]; 3] {
    let mut taps = [[[0.0; COLUMNS]; 3]; 3];
    for column in 0..columns {
        for (tap, &weight) in weights[column * stride..][..TAPS].iter().enumerate() {
            taps[tap / 3][tap % 3][column] = f64::from(weight);
        }
    }
    taps
}

/// `G g Gᵀ` of all columns.
#[inline(always)]
fn transform<const N: usize>(
    matrix: &[[f64; 3]; N],
    taps: [[[f64; COLUMNS]; 3]; 3],
) -> [[[f64; COLUMNS]; N]; N] {
    let mut half = [[[0.0; COLUMNS]; 3]; N];
    for (row, factors) in half.iter_mut().zip(matrix) {
        for (column, value) in row.iter_mut().enumerate() {
            *value = combine(factors, [taps[0][column], taps[1][column], taps[2][column]]);
        }
    }
    let mut all = [[[0.0; COLUMNS]; N]; N];
    for (row, &half) in all.iter_mut().zip(&half) {
        for (value, factors) in row.iter_mut().zip(matrix) {
            *value = combine(factors, half);
        }
    }
    all
}

/// The sum of three vectors times their factors.
#[inline(always)]
fn combine(factors: &[f64; 3], vectors: [[f64; COLUMNS]; 3]) -> [f64; COLUMNS] {
    let mut sum = [0.0; COLUMNS];
    for (factor, vector) in factors.iter().zip(vectors) {
        for (sum, value) in sum.iter_mut().zip(vector) {
            *sum += factor * value;
        }
    }
    sum
}

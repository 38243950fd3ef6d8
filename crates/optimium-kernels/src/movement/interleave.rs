//! A few long rows of four-byte elements, taken in turn: planes to pixels, groups of channels shuffled.

use optimium_simd::{Level, Simd, SimdTask};

/// The most rows that are interleaved in registers.
pub(super) const MOST_ROWS: usize = 4;

/// At each of `positions` places, rows of `length` elements of which the destination holds first all first elements, then all
/// second ones, and so on. Steps in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interleave {
    pub(super) rows: usize,
    pub(super) length: usize,
    /// From row to row of the source.
    pub(super) row_step: isize,
    pub(super) positions: usize,
    /// From place to place, in the source and in the destination.
    pub(super) steps: [isize; 2],
}

impl Interleave {
    /// Copies all of it; the addresses are those of the first elements.
    ///
    /// # Safety
    /// All elements are in bounds and aligned to four bytes, as are the steps, and there are 2 to [`MOST_ROWS`] rows.
    pub(super) unsafe fn run(self, level: Level, from: *const u8, to: *mut u8) {
        let (from, to) = (from.cast(), to.cast());
        match self.rows {
            2 => level.run(Task::<2> { shape: self, from, to }),
            3 => level.run(Task::<3> { shape: self, from, to }),
            _ => level.run(Task::<4> { shape: self, from, to }),
        }
    }
}

/// Made where all elements are in bounds.
struct Task<const N: usize> {
    shape: Interleave,
    from: *const f32,
    to: *mut f32,
}

impl<const N: usize> SimdTask for Task<N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Interleave { length, row_step, positions, steps, .. } = self.shape;
        let order = Order::<S, N>::new(simd);
        let row_step = row_step / 4;
        for position in 0..positions as isize {
            let from = self.from.wrapping_offset(position * (steps[0] / 4));
            let to = self.to.wrapping_offset(position * (steps[1] / 4));
            let whole = length / S::LANES * S::LANES;
            for first in (0..whole).step_by(S::LANES) {
                let mut rows = [simd.splat(0.0); N];
                for (i, row) in rows.iter_mut().enumerate() {
                    // SAFETY: LANES elements of each row from `first` on exist.
                    *row = unsafe { simd.load(from.wrapping_offset(i as isize * row_step).add(first)) };
                }
                for q in 0..N {
                    // SAFETY: N elements of the destination belong to each of those.
                    unsafe { simd.store(to.add(first * N + q * S::LANES), order.weave(simd, &rows, q)) };
                }
            }
            let rest = length - whole;
            if rest > 0 {
                let mut rows = [simd.splat(0.0); N];
                for (i, row) in rows.iter_mut().enumerate() {
                    let at = from.wrapping_offset(i as isize * row_step).wrapping_add(whole);
                    // SAFETY: the mask selects the elements that are left.
                    *row = unsafe { simd.load_masked(at, simd.first(rest)) };
                }
                for q in 0..N.min((rest * N).div_ceil(S::LANES)) {
                    let mask = simd.first(rest * N - q * S::LANES);
                    let at = to.wrapping_add(whole * N + q * S::LANES);
                    // SAFETY: as above.
                    unsafe { simd.store_masked(at, order.weave(simd, &rows, q), mask) };
                }
            }
        }
    }
}

/// For each of the `N` vectors of the result which lanes of two vectors it takes: of neighbouring rows, and then of two such
/// results, or one and the last row.
struct Order<S: Simd, const N: usize> {
    pairs: [S::I32; N],
    all: [S::I32; N],
}

impl<S: Simd, const N: usize> Order<S, N> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let (mut pairs, mut all) = ([simd.splat_i32(0); N], [simd.splat_i32(0); N]);
        for q in 0..N {
            let (mut pair, mut both) = ([0i32; 16], [0i32; 16]);
            for lane in 0..S::LANES {
                let (row, element) = ((q * S::LANES + lane) % N, (q * S::LANES + lane) / N);
                pair[lane] = (row % 2 * S::LANES + element) as i32;
                both[lane] = match (row, N) {
                    (0 | 1, _) => lane,
                    // The third of three rows comes as it is.
                    (_, 3) => S::LANES + element,
                    _ => S::LANES + lane,
                } as i32;
            }
            // SAFETY: the arrays have as many elements as any vector has lanes.
            unsafe { (pairs[q], all[q]) = (simd.load_i32(pair.as_ptr()), simd.load_i32(both.as_ptr())) };
        }
        Order { pairs, all }
    }

    /// Vector `q` of the result.
    #[inline(always)]
    fn weave(&self, simd: S, rows: &[S::F32; N], q: usize) -> S::F32 {
        let first = simd.permute_pair(rows[0], rows[1 % N], self.pairs[q]);
        match N {
            2 => first,
            3 => simd.permute_pair(first, rows[2 % N], self.all[q]),
            _ => simd.permute_pair(
                first,
                simd.permute_pair(rows[2 % N], rows[3 % N], self.pairs[q]),
                self.all[q],
            ),
        }
    }
}

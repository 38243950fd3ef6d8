//! The products of the state with one panel of its weights.

use optimium_simd::{Simd, SimdTask};

/// Rows of the batch that are multiplied at once, at most.
pub(super) const MAX_ROWS: usize = 8;
/// Vectors of a panel, at most.
pub(super) const MAX_VECTORS: usize = 8;

/// The products of some rows of the state with one panel.
#[derive(Clone, Copy)]
pub(super) struct Product {
    /// The first row of the panel.
    pub(super) weights: *const f32,
    /// Vectors of a row of the panel.
    pub(super) vectors: usize,
    /// The state of the first row of the batch.
    pub(super) state: *const f32,
    /// Elements of a state, and rows of the panel.
    pub(super) hidden: usize,
    /// Whether the sums begin with the last row of the panel. Those who read the same weights again and again find
    /// more of them in the cache if they turn around at the ends.
    pub(super) backwards: bool,
    /// For each row of the batch the sums, [`MAX_VECTORS`] vectors apart.
    pub(super) sums: *mut f32,
}

impl Product {
    /// Computes the sums of `rows` rows, of which there are 1, 2, 4, or 8 at most, the last where
    /// [`largest_block`] allows it.
    ///
    /// # Safety
    /// The states, a panel of `hidden` rows and the sums lie at their addresses; nobody else has the sums.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd>(self, simd: S, rows: usize) {
        // What a pass over the panel is wide, so that its sums fit the registers and are enough to hide their latency.
        match (rows, self.vectors) {
            (1, 1) => simd.call(Pass::<1, 1, 4>(self)),
            (1, 2) => simd.call(Pass::<1, 2, 4>(self)),
            (1, 3) => simd.call(Pass::<1, 3, 4>(self)),
            (1, 4) => simd.call(Pass::<1, 4, 2>(self)),
            (1, 6) => simd.call(Pass::<1, 6, 2>(self)),
            (1, 8) => simd.call(Pass::<1, 8, 1>(self)),
            (2, 1) => simd.call(Pass::<2, 1, 2>(self)),
            (2, 2) => simd.call(Pass::<2, 2, 2>(self)),
            (2, 3) => simd.call(Pass::<2, 3, 1>(self)),
            (2, 6) => simd.call(Pass::<2, 6, 1>(self)),
            (2, _) => simd.call(Pass::<2, 4, 1>(self)),
            (4, 1) => simd.call(Pass::<4, 1, 1>(self)),
            (4, 3 | 6) => simd.call(Pass::<4, 3, 1>(self)),
            (4, _) => simd.call(Pass::<4, 2, 1>(self)),
            (8, 1) if S::REGISTERS > 16 => simd.call(Pass::<8, 1, 1>(self)),
            (8, 3 | 6) if S::REGISTERS > 16 => simd.call(Pass::<8, 3, 1>(self)),
            (8, _) if S::REGISTERS > 16 => simd.call(Pass::<8, 2, 1>(self)),
            _ => unreachable!("{rows} rows and {} vectors at once", self.vectors),
        }
    }
}

/// The largest number of rows that a [`Product`] may have where there are `rows`.
pub(super) fn largest_block<S: Simd>(rows: usize) -> usize {
    match rows {
        MAX_ROWS.. if S::REGISTERS > 16 => MAX_ROWS,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// A product in passes of `VECTORS` vectors, with neighbours in k summed apart where `CHAINS` is above one.
struct Pass<const ROWS: usize, const VECTORS: usize, const CHAINS: usize>(Product);

impl<const ROWS: usize, const VECTORS: usize, const CHAINS: usize> SimdTask for Pass<ROWS, VECTORS, CHAINS> {
    type Output = ();

    /// The caller's promises are those of [`Product::run`].
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.0.vectors * S::LANES;
        for first in (0..self.0.vectors).step_by(VECTORS) {
            let column = first * S::LANES;
            let mut walk = Walk::<ROWS>::new(&self.0, width, column);
            // SAFETY: the vectors of the pass are columns of the panel.
            let sums = unsafe { accumulate::<S, ROWS, VECTORS, CHAINS>(simd, &mut walk, self.0.hidden) };
            for (r, row) in sums.iter().enumerate() {
                for (v, &sum) in row.iter().enumerate() {
                    let to = self.0.sums.wrapping_add((r * MAX_VECTORS + v) * S::LANES + column);
                    // SAFETY: the sums of the row have room for all vectors of the panel.
                    unsafe { simd.store(to, sum) };
                }
            }
        }
    }
}

/// The addresses that a step of k reads.
struct Walk<const ROWS: usize> {
    weights: *const f32,
    states: [*const f32; ROWS],
    weights_step: isize,
    state_step: isize,
}

impl<const ROWS: usize> Walk<ROWS> {
    #[inline(always)]
    fn new(product: &Product, width: usize, column: usize) -> Self {
        let last = product.hidden.saturating_sub(1);
        let (start, sign) = if product.backwards { (last, -1) } else { (0, 1) };
        let mut states = [product.state; ROWS];
        for (r, state) in states.iter_mut().enumerate() {
            *state = product.state.wrapping_add(r * product.hidden + start);
        }
        Walk {
            weights: product.weights.wrapping_add(start * width + column),
            states,
            weights_step: sign * width as isize,
            state_step: sign,
        }
    }
}

/// The sums over all of k.
///
/// # Safety
/// `hidden` steps of the walk are readable.
#[inline(always)]
unsafe fn accumulate<S: Simd, const ROWS: usize, const VECTORS: usize, const CHAINS: usize>(
    simd: S,
    walk: &mut Walk<ROWS>,
    hidden: usize,
) -> [[S::F32; VECTORS]; ROWS] {
    let mut chains = [[[simd.splat(0.0); VECTORS]; ROWS]; CHAINS];
    for _ in 0..hidden / CHAINS {
        for chain in &mut chains {
            // SAFETY: forwarded.
            unsafe { step(simd, chain, walk) };
        }
    }
    for _ in 0..hidden % CHAINS {
        // SAFETY: forwarded.
        unsafe { step(simd, &mut chains[0], walk) };
    }
    let mut sums = chains[0];
    for chain in &chains[1..] {
        for r in 0..ROWS {
            for v in 0..VECTORS {
                sums[r][v] = simd.add(sums[r][v], chain[r][v]);
            }
        }
    }
    sums
}

/// Adds the products of one row of the panel.
///
/// # Safety
/// The step of the walk is readable.
#[inline(always)]
unsafe fn step<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    sums: &mut [[S::F32; VECTORS]; ROWS],
    walk: &mut Walk<ROWS>,
) {
    let mut states = [simd.splat(0.0); ROWS];
    for (state, from) in states.iter_mut().zip(&mut walk.states) {
        // SAFETY: forwarded.
        *state = simd.splat(unsafe { **from });
        *from = from.wrapping_offset(walk.state_step);
    }
    for v in 0..VECTORS {
        // SAFETY: forwarded.
        let weights = unsafe { simd.load(walk.weights.wrapping_add(v * S::LANES)) };
        for (sums, &state) in sums.iter_mut().zip(&states) {
            sums[v] = simd.fma(state, weights, sums[v]);
        }
    }
    walk.weights = walk.weights.wrapping_offset(walk.weights_step);
}

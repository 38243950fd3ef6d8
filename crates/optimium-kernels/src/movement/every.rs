//! Every second, third or fourth of four-byte elements: channels of a block, strided slices.

use optimium_simd::{Level, Simd, SimdTask};

/// The steps that are taken in registers.
pub(super) const STEPS: std::ops::RangeInclusive<isize> = 2..=4;

/// Copies `count` elements, `step` elements apart in the source, to neighbours in the destination.
///
/// # Safety
/// They are in bounds and aligned, and the step is one of [`STEPS`].
pub(super) unsafe fn copy_every(level: Level, step: isize, from: *const u8, to: *mut u8, count: usize) {
    let (from, to) = (from.cast(), to.cast());
    match step {
        2 => level.run(Every::<2> { from, to, count }),
        3 => level.run(Every::<3> { from, to, count }),
        _ => level.run(Every::<4> { from, to, count }),
    }
}

/// Made where all elements are in bounds.
struct Every<const N: usize> {
    from: *const f32,
    to: *mut f32,
    count: usize,
}

impl<const N: usize> SimdTask for Every<N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let order = Order::<S, N>::new(simd);
        let whole = self.count / S::LANES * S::LANES;
        for first in (0..whole).step_by(S::LANES) {
            // SAFETY: elements from the first to the last that is taken are in bounds, and the mask ends with that.
            unsafe {
                let from = self.from.add(first * N);
                let mut vectors = [simd.splat(0.0); N];
                for (i, vector) in vectors[..N - 1].iter_mut().enumerate() {
                    *vector = simd.load(from.add(i * S::LANES));
                }
                vectors[N - 1] = simd.load_masked(from.add((N - 1) * S::LANES), order.last);
                simd.store(self.to.add(first), order.pick(simd, &vectors));
            }
        }
        for i in whole..self.count {
            // SAFETY: the element is in bounds. Its bits are not touched.
            unsafe { self.to.add(i).cast::<u32>().write(self.from.add(i * N).cast::<u32>().read()) };
        }
    }
}

/// Which lanes make the result: of pairs of vectors, and then of two such results, or one and the last vector.
struct Order<S: Simd, const N: usize> {
    of_pairs: S::I32,
    of_all: S::I32,
    /// The lanes of the last vector up to the last one that is taken.
    last: S::Mask,
}

impl<S: Simd, const N: usize> Order<S, N> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let (mut of_pairs, mut of_all) = ([0i32; 16], [0i32; 16]);
        for lane in 0..S::LANES {
            let (pair, within) = (N * lane / (2 * S::LANES), N * lane % (2 * S::LANES));
            of_pairs[lane] = within as i32;
            of_all[lane] = match (pair, N) {
                (0, _) => lane,
                (_, 3) => S::LANES + within,
                _ => S::LANES + lane,
            } as i32;
        }
        // SAFETY: the arrays have as many elements as any vector has lanes.
        let (of_pairs, of_all) =
            unsafe { (simd.load_i32(of_pairs.as_ptr()), simd.load_i32(of_all.as_ptr())) };
        Order { of_pairs, of_all, last: simd.first(S::LANES + 1 - N) }
    }

    #[inline(always)]
    fn pick(&self, simd: S, vectors: &[S::F32; N]) -> S::F32 {
        let first = simd.permute_pair(vectors[0], vectors[1], self.of_pairs);
        match N {
            2 => first,
            3 => simd.permute_pair(first, vectors[2 % N], self.of_all),
            _ => {
                let second = simd.permute_pair(vectors[2 % N], vectors[3 % N], self.of_pairs);
                simd.permute_pair(first, second, self.of_all)
            }
        }
    }
}

//! Products of few rows, which widen the weights as they go.

use optimium_simd::{Level, Simd, SimdTask};

use super::encoding::{Bf16, Int4, Int8, Widen};
use super::packed::{CompactMatrix, ScaleForm};
use super::stored::Encoding;
use crate::epilogue::{Epilogue, finish};

/// Rows of a strip at most.
pub(super) const STRIP_ROWS: usize = 4;

/// `rows` rows of the result in the columns of one panel.
pub(super) struct Strip<'a> {
    pub(super) matrix: &'a CompactMatrix,
    /// Which panel.
    pub(super) panel: usize,
    /// The left rows, each filled up to whole words; from one to the next there are `a_stride` elements.
    pub(super) a: *const f32,
    pub(super) a_stride: usize,
    /// The sums of the left rows' blocks: one row of blocks a left row.
    pub(super) sums: &'a [f32],
    /// At most [`STRIP_ROWS`].
    pub(super) rows: usize,
    /// The first row of the strip, for the epilogue.
    pub(super) first_row: usize,
    pub(super) epilogue: &'a Epilogue<'a>,
    /// Row 0, column 0 of the whole result.
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
}

impl SimdTask for Strip<'_> {
    type Output = ();

    /// The caller promises that the left rows are readable, that the panel's columns of the result's rows are writable by this call
    /// alone, and that the epilogue is checked for them.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.matrix.encoding {
            Encoding::Bf16 => self.of::<S, Bf16>(simd),
            Encoding::Int8 => self.of::<S, Int8>(simd),
            Encoding::Int4 => self.of::<S, Int4>(simd),
        }
    }
}

impl Strip<'_> {
    #[inline(always)]
    fn of<S: Simd, E: Widen>(self, simd: S) {
        if S::LEVEL == Level::Avx512 { self.by_rows::<S, E, 4>(simd) } else { self.by_rows::<S, E, 2>(simd) }
    }

    #[inline(always)]
    fn by_rows<S: Simd, E: Widen, const VECTORS: usize>(self, simd: S) {
        match self.rows {
            1 => simd.call(Tile::<E, 1, VECTORS, 2> { strip: self, encoding: std::marker::PhantomData }),
            2 => simd.call(Tile::<E, 2, VECTORS, 1> { strip: self, encoding: std::marker::PhantomData }),
            3 => simd.call(Tile::<E, 3, VECTORS, 1> { strip: self, encoding: std::marker::PhantomData }),
            4 => simd.call(Tile::<E, 4, VECTORS, 1> { strip: self, encoding: std::marker::PhantomData }),
            rows => unreachable!("no strip has {rows} rows"),
        }
    }
}

/// A strip whose sizes are known. With two `CHAINS` neighbours in k are summed apart, which hides the latency of the additions.
struct Tile<'a, E, const ROWS: usize, const VECTORS: usize, const CHAINS: usize> {
    strip: Strip<'a>,
    encoding: std::marker::PhantomData<E>,
}

/// The sums of a block.
type Sums<S, const ROWS: usize, const VECTORS: usize, const CHAINS: usize> =
    [[[<S as Simd>::F32; VECTORS]; ROWS]; CHAINS];

impl<E: Widen, const ROWS: usize, const VECTORS: usize, const CHAINS: usize> SimdTask
    for Tile<'_, E, ROWS, VECTORS, CHAINS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Strip { matrix, a, a_stride, sums, .. } = self.strip;
        let panel = matrix.panel_of(self.strip.panel);
        let (blocks, head) = (matrix.blocks(), matrix.head_words());
        assert!(VECTORS * S::LANES == matrix.width() && sums.len() >= ROWS * blocks, "sizes of a panel");
        let mut totals = [[simd.splat(0.0); VECTORS]; ROWS];
        let mut words = panel.as_ptr();
        for block in 0..blocks {
            let rows_of_words = matrix.word_rows(block);
            let left: [*const f32; ROWS] =
                std::array::from_fn(|r| a.wrapping_add(r * a_stride + block * matrix.block));
            // SAFETY: the panel has so many words for each block, and the left rows are readable by the caller's promise.
            let of_block = unsafe {
                let start = words.add(head);
                sum_block::<S, E, ROWS, VECTORS, CHAINS>(simd, start, rows_of_words, left)
            };
            for r in 0..ROWS {
                // SAFETY: the head of the block starts at `words`.
                unsafe {
                    let of_left = sums[r * blocks + block];
                    add_scaled::<S, E, VECTORS>(
                        simd,
                        &mut totals[r],
                        &of_block[r],
                        matrix,
                        words.cast(),
                        of_left,
                    );
                }
            }
            words = words.wrapping_add(head + rows_of_words * VECTORS * S::LANES);
        }
        simd.call(FinishTile { strip: self.strip, totals: totals.as_flattened().as_ptr().cast() });
    }
}

/// The products of a block of the left rows at `a` with `count` rows of words, summed.
///
/// # Safety
/// The words are readable at `words`, and as many elements as they hold at each of `a`.
#[inline(always)]
unsafe fn sum_block<S: Simd, E: Widen, const ROWS: usize, const VECTORS: usize, const CHAINS: usize>(
    simd: S,
    words: *const u32,
    count: usize,
    a: [*const f32; ROWS],
) -> [[S::F32; VECTORS]; ROWS] {
    let mut sums: Sums<S, ROWS, VECTORS, CHAINS> = [[[simd.splat(0.0); VECTORS]; ROWS]; CHAINS];
    for row in 0..count {
        let mut stored = [simd.splat_i32(0); VECTORS];
        let mut left = a;
        // SAFETY: forwarded.
        unsafe {
            for (v, stored) in stored.iter_mut().enumerate() {
                *stored = simd.load_i32(words.add((row * VECTORS + v) * S::LANES).cast());
            }
            for left in &mut left {
                *left = left.add(row * E::PER_WORD);
            }
            step::<S, E, 0, ROWS, VECTORS, CHAINS>(simd, &mut sums, &stored, left);
            step::<S, E, 1, ROWS, VECTORS, CHAINS>(simd, &mut sums, &stored, left);
            if E::PER_WORD > 2 {
                step::<S, E, 2, ROWS, VECTORS, CHAINS>(simd, &mut sums, &stored, left);
                step::<S, E, 3, ROWS, VECTORS, CHAINS>(simd, &mut sums, &stored, left);
            }
            if E::PER_WORD > 4 {
                step::<S, E, 4, ROWS, VECTORS, CHAINS>(simd, &mut sums, &stored, left);
                step::<S, E, 5, ROWS, VECTORS, CHAINS>(simd, &mut sums, &stored, left);
                step::<S, E, 6, ROWS, VECTORS, CHAINS>(simd, &mut sums, &stored, left);
                step::<S, E, 7, ROWS, VECTORS, CHAINS>(simd, &mut sums, &stored, left);
            }
        }
    }
    let mut total = sums[0];
    for chain in &sums[1..] {
        for r in 0..ROWS {
            for v in 0..VECTORS {
                total[r][v] = simd.add(total[r][v], chain[r][v]);
            }
        }
    }
    total
}

/// Adds the products of element `J` of the words.
///
/// # Safety
/// Element `J` of each left row is readable.
#[inline(always)]
unsafe fn step<
    S: Simd,
    E: Widen,
    const J: usize,
    const ROWS: usize,
    const VECTORS: usize,
    const CHAINS: usize,
>(
    simd: S,
    sums: &mut Sums<S, ROWS, VECTORS, CHAINS>,
    stored: &[S::I32; VECTORS],
    a: [*const f32; ROWS],
) {
    let mut columns = [simd.splat(0.0); VECTORS];
    for (column, &words) in columns.iter_mut().zip(stored) {
        *column = E::element::<S, J>(simd, words);
    }
    for r in 0..ROWS {
        // SAFETY: forwarded.
        let left = simd.splat(unsafe { *a[r].add(J) });
        for v in 0..VECTORS {
            sums[J % CHAINS][r][v] = simd.fma(left, columns[v], sums[J % CHAINS][r][v]);
        }
    }
}

/// Adds the sums of a block to `totals`, with what every product was too large taken off, and scaled. `of_left` is the sum of the
/// block's left elements.
///
/// # Safety
/// The head of the block, scales and zero points, is readable at `head`.
#[inline(always)]
unsafe fn add_scaled<S: Simd, E: Widen, const VECTORS: usize>(
    simd: S,
    totals: &mut [S::F32; VECTORS],
    sums: &[S::F32; VECTORS],
    matrix: &CompactMatrix,
    head: *const u8,
    of_left: f32,
) {
    if !E::SCALED {
        *totals = *sums;
        return;
    }
    let of_left = simd.splat(-of_left);
    let width = VECTORS * S::LANES;
    let zeros = head.wrapping_add(width * if matrix.scales == ScaleForm::F16 { 2 } else { 4 });
    for v in 0..VECTORS {
        // SAFETY: forwarded.
        let (scale, excess) = unsafe {
            let scale = match matrix.scales {
                ScaleForm::F16 => simd.load_f16(head.cast::<u16>().add(v * S::LANES), S::LANES),
                _ => simd.load(head.cast::<f32>().add(v * S::LANES)),
            };
            let excess = if matrix.has_zeros {
                let zeros = simd.load_u8(zeros.add(v * S::LANES), S::LANES);
                simd.add(simd.to_f32(zeros), simd.splat(E::BASE))
            } else {
                simd.splat(E::BASE + f32::from(matrix.encoding.middle()))
            };
            (scale, excess)
        };
        totals[v] = simd.fma(scale, simd.fma(of_left, excess, sums[v]), totals[v]);
    }
}

/// Finishes the sums of a strip and stores them.
struct FinishTile<'a> {
    strip: Strip<'a>,
    /// A row of the panel's width for each row of the strip.
    totals: *const f32,
}

impl SimdTask for FinishTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Strip { matrix, panel, rows, first_row, epilogue, c, c_stride, .. } = self.strip;
        let width = matrix.width();
        let start = panel * width;
        let columns = width.min(matrix.n - start);
        for row in 0..rows {
            for column in (0..columns).step_by(S::LANES) {
                let mask = simd.first(columns - column);
                let (row, at) = (first_row + row, start + column);
                // SAFETY: the sums have whole vectors; the caller of the strip promises the rest for the columns that exist.
                unsafe {
                    let mut sums = simd.load(self.totals.add((row - first_row) * width + column));
                    if let Some(bias) = epilogue.bias {
                        sums = simd.add(sums, simd.load_masked(bias.as_ptr().add(at), mask));
                    }
                    let finished = finish(simd, epilogue, row, at, mask, sums);
                    simd.store_masked(c.add(row * c_stride + at), finished, mask);
                }
            }
        }
    }
}

//! Weights in the order in which the byte dot product reads them.

use optimium_simd::Level;

use crate::{Packed, Packing};

/// The register tile that weights are packed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Lanes of a vector.
    pub lanes: usize,
    /// Vectors of a full panel; the last panel may have fewer.
    pub vectors: usize,
}

impl Layout {
    /// The layout that the kernels of `level` read.
    pub fn of(level: Level) -> Layout {
        Layout { lanes: level.lanes(), vectors: Layout::vectors_of(level) }
    }

    /// Vectors of a full panel of that level.
    pub(super) const fn vectors_of(level: Level) -> usize {
        if matches!(level, Level::Avx512Vnni) { 4 } else { 2 }
    }

    /// Columns of a full panel.
    pub fn columns(self) -> usize {
        self.lanes * self.vectors
    }
}

/// A matrix to be packed, `k × n`.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// The bytes.
    pub data: &'a [u8],
    /// Rows.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one column to the next.
    pub column_stride: usize,
    /// Whether the bytes are signed.
    pub signed: bool,
    /// The bytes that stand for zero: none (0), one, or one a column.
    pub zero_point: &'a [i32],
}

/// Packed weights, with what undoes the zero points.
///
/// The rows come in `runs` of equal length. A panel holds, for each group of four consecutive rows of a
/// run (the last group filled with zeros), the four values of each of its columns side by side.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    pub(super) layout: Layout,
    pub(super) n: usize,
    pub(super) runs: usize,
    pub(super) run: usize,
    data: Packed<i8>,
    /// `Σ b - K·y` for each column, filled to whole vectors.
    pub(super) sums: Packed<i32>,
    /// `y` for each column, filled to whole vectors; none where all are zero.
    pub(super) zero_points: Option<Packed<i32>>,
}

impl PackedMatrix {
    /// Packs `weights` for `level`, where `packing` says.
    ///
    /// # Panics
    /// Where the data is shorter than the sizes say, or the zero points are neither 0, 1 nor `n`.
    pub fn new(level: Level, weights: &Weights<'_>, packing: &Packing) -> PackedMatrix {
        let Weights { data, k, n, row_stride, column_stride, signed, zero_point } = *weights;
        if k > 0 && n > 0 {
            let last = (k - 1) * row_stride + (n - 1) * column_stride;
            assert!(last < data.len(), "{k}×{n} weights do not lie in {} bytes", data.len());
        }
        assert!(matches!(zero_point.len(), 0 | 1) || zero_point.len() == n, "zero points for {n} columns");
        let flip = if signed { 0 } else { 0x80 };
        let shift = if signed { 0 } else { 128 };
        let zero = |column: usize| match zero_point {
            [] => -shift,
            [one] => one - shift,
            many => many[column] - shift,
        };
        let value =
            |_, row: usize, column: usize| (data[row * row_stride + column * column_stride] ^ flip) as i8;
        Self::pack(level, [1, k, n], zero, value, packing)
    }

    /// Packs `runs · run` rows of `n` columns; `value(run, row of the run, column)` is in the signed domain, as is the
    /// zero point of each column.
    pub(super) fn pack(
        level: Level,
        [runs, run, n]: [usize; 3],
        zero: impl Fn(usize) -> i32,
        value: impl Fn(usize, usize, usize) -> i8,
        packing: &Packing,
    ) -> PackedMatrix {
        let layout = Layout::of(level);
        let padded = n.next_multiple_of(layout.lanes);
        let groups = runs * run.div_ceil(4);
        let form = format_args!(
            "{runs} runs of {run} bytes by {n} in panels of {}x{}",
            layout.vectors, layout.lanes
        );
        // The bytes, four in a word, then the sums, then the zero points.
        let words = groups * padded;
        let block = packing.block(form, words + 2 * padded, |block: &mut [i32]| {
            let (data, columns) = block.split_at_mut(words);
            let (sums, zero_points) = columns.split_at_mut(padded);
            let data: &mut [i8] = bytemuck::cast_slice_mut(data);
            for column in 0..n {
                let first = column / layout.columns() * layout.columns();
                let width = layout.columns().min(padded - first);
                let panel = &mut data[groups * 4 * first..];
                let mut sum = 0i32;
                for r in 0..runs {
                    for i in 0..run {
                        let x = value(r, i, column);
                        let group = r * run.div_ceil(4) + i / 4;
                        panel[(group * width + column - first) * 4 + i % 4] = x;
                        sum = sum.wrapping_add(i32::from(x));
                    }
                }
                let y = zero(column);
                zero_points[column] = y;
                sums[column] = sum.wrapping_sub(y.wrapping_mul((runs * run) as i32));
            }
        });
        let has_zero_points = (0..n).any(|column| zero(column) != 0);
        PackedMatrix {
            layout,
            n,
            runs,
            run,
            data: block.part(0..words),
            sums: block.part(words..words + padded),
            zero_points: has_zero_points.then(|| block.part(words + padded..words + 2 * padded)),
        }
    }

    /// Rows.
    pub fn k(&self) -> usize {
        self.runs * self.run
    }

    /// Columns.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Bytes of the packed weights.
    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Number of panels.
    pub(super) fn panels(&self) -> usize {
        self.n.div_ceil(self.layout.columns())
    }

    /// The vectors of panel `index`, and its data.
    pub(super) fn panel(&self, index: usize) -> (usize, &[i8]) {
        let groups = self.runs * self.run.div_ceil(4);
        let first = index * self.layout.columns();
        let width = self.layout.columns().min(self.sums.len() - first);
        (width / self.layout.lanes, &self.data[groups * 4 * first..][..groups * 4 * width])
    }
}

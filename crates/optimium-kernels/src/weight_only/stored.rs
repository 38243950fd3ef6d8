//! The stored form of a compressed matrix.

use half::{bf16, f16};

/// What the elements of a compressed matrix are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// bfloat16.
    Bf16,
    /// Unsigned bytes: `(stored - zero point) · scale`, with a zero point of 128 where none is given.
    Int8,
    /// Unsigned halves of bytes, the low one first, with a zero point of 8 where none is given.
    Int4,
}

impl Encoding {
    /// Bits of an element.
    pub fn bits(self) -> usize {
        match self {
            Encoding::Bf16 => 16,
            Encoding::Int8 => 8,
            Encoding::Int4 => 4,
        }
    }

    /// Elements of a 32-bit word.
    pub(super) fn per_word(self) -> usize {
        32 / self.bits()
    }

    /// The stored value of zero where no zero point is given.
    pub fn middle(self) -> u8 {
        match self {
            Encoding::Bf16 => 0,
            Encoding::Int8 => 128,
            Encoding::Int4 => 8,
        }
    }
}

/// The scales of a matrix: those of the first column's blocks, then of the second one's, and so on.
#[derive(Clone, Copy, Debug)]
pub enum Scales<'a> {
    /// Without scales: bfloat16.
    None,
    /// In single precision.
    F32(&'a [f32]),
    /// In half precision.
    F16(&'a [f16]),
}

impl Scales<'_> {
    fn len(self) -> usize {
        match self {
            Scales::None => 0,
            Scales::F32(scales) => scales.len(),
            Scales::F16(scales) => scales.len(),
        }
    }

    fn get(self, index: usize) -> f32 {
        match self {
            Scales::None => 1.0,
            Scales::F32(scales) => scales[index],
            Scales::F16(scales) => scales[index].to_f32(),
        }
    }
}

/// A `k × n` matrix, one column after the other.
///
/// Columns of integers consist of blocks of `block` elements, the last one filled up to that size with anything; each has a
/// scale, and a zero point where there are some. Columns of bfloat16 have `k` elements.
#[derive(Clone, Copy, Debug)]
pub struct StoredMatrix<'a> {
    encoding: Encoding,
    k: usize,
    n: usize,
    block: usize,
    data: &'a [u8],
    scales: Scales<'a>,
    zeros: Option<&'a [u8]>,
}

impl<'a> StoredMatrix<'a> {
    /// The `k × n` matrix in bfloat16; `None` where `data` has another size.
    pub fn bf16(k: usize, n: usize, data: &'a [u8]) -> Option<StoredMatrix<'a>> {
        let fits = k.checked_mul(n)?.checked_mul(2)? == data.len();
        fits.then_some(StoredMatrix {
            encoding: Encoding::Bf16,
            k,
            n,
            block: k.max(1),
            data,
            scales: Scales::None,
            zeros: None,
        })
    }

    /// The `k × n` matrix of integers in blocks of `block`, a multiple of 16; `None` where a size is another one.
    pub fn blocks(
        encoding: Encoding,
        [k, n, block]: [usize; 3],
        data: &'a [u8],
        scales: Scales<'a>,
        zeros: Option<&'a [u8]>,
    ) -> Option<StoredMatrix<'a>> {
        if encoding == Encoding::Bf16 || block == 0 || !block.is_multiple_of(16) {
            return None;
        }
        let blocks = k.div_ceil(block).checked_mul(n)?;
        let bytes = blocks.checked_mul(block)?.checked_mul(encoding.bits())? / 8;
        let fits =
            bytes == data.len() && blocks == scales.len() && zeros.is_none_or(|zeros| zeros.len() == blocks);
        fits.then_some(StoredMatrix { encoding, k, n, block, data, scales, zeros })
    }

    /// What the elements are.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Rows.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Elements of a block: all rows, where there are no blocks.
    pub(super) fn block(&self) -> usize {
        self.block
    }

    pub(super) fn scales(&self) -> Scales<'a> {
        self.scales
    }

    pub(super) fn zeros(&self) -> Option<&'a [u8]> {
        self.zeros
    }

    /// Blocks of a column.
    pub(super) fn blocks_of_column(&self) -> usize {
        self.k.div_ceil(self.block)
    }

    /// Word `word` of a column: its elements from row `word · per_word` on, the first in the lowest bits. What is stored beyond the
    /// last row counts as zero bits.
    pub(super) fn word(&self, column: usize, word: usize) -> u32 {
        let bits = self.encoding.bits();
        let bytes_of_column = match self.encoding {
            Encoding::Bf16 => 2 * self.k,
            _ => self.blocks_of_column() * self.block * bits / 8,
        };
        let start = 4 * word;
        let bytes = &self.data[column * bytes_of_column..][start..(start + 4).min(bytes_of_column)];
        bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
    }

    /// Writes all elements of a column to `out`.
    ///
    /// # Panics
    /// Where there is no such column, or `out` has another length.
    pub fn read_column(&self, column: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.k, "elements of a column");
        let (bits, per_word) = (self.encoding.bits(), self.encoding.per_word());
        let mask = (1 << bits) - 1;
        for (block, out) in out.chunks_mut(self.block).enumerate() {
            let (scale, zero) = self.scale_and_zero(column, block);
            for (at, out) in out.chunks_mut(per_word).enumerate() {
                let word = self.word(column, block * self.block / per_word + at);
                for (j, x) in out.iter_mut().enumerate() {
                    let stored = word >> (j * bits) & mask;
                    *x = match self.encoding {
                        Encoding::Bf16 => bf16::from_bits(stored as u16).to_f32(),
                        Encoding::Int8 | Encoding::Int4 => (stored as f32 - zero) * scale,
                    };
                }
            }
        }
    }

    /// Scale and zero point of a block.
    fn scale_and_zero(&self, column: usize, block: usize) -> (f32, f32) {
        let at = column * self.blocks_of_column() + block;
        let zero = self.zeros.map_or(self.encoding.middle(), |zeros| zeros[at]);
        (self.scales.get(at), f32::from(zero))
    }
}

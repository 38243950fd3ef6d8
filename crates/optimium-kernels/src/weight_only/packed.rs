//! The form that kernels read.

use optimium_simd::Level;

use super::stored::{Encoding, Scales, StoredMatrix};
use crate::gemm::{Layout, Tile};
use crate::{Packed, Packing};

/// What precedes the words of a block: for each column of the panel its scale, then its zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScaleForm {
    None,
    F32,
    F16,
}

/// A compressed matrix in panels of columns, as many as a register tile is wide; the last one is filled up.
///
/// A panel is a sequence of blocks of rows, each the scales, the zero points as bytes, and the words: for every word of a column
/// a row of them, one a column.
#[derive(Clone, Debug)]
pub struct CompactMatrix {
    pub(super) encoding: Encoding,
    pub(super) scales: ScaleForm,
    pub(super) has_zeros: bool,
    /// Rows of a block.
    pub(super) block: usize,
    /// How a panel that is widened lies: `n` is the width of a panel.
    pub(super) panel: Layout,
    pub(super) n: usize,
    pub(super) words: Packed<u32>,
}

/// Vectors of a panel.
pub(super) fn panel_vectors(level: Level) -> usize {
    if level == Level::Avx512 { 4 } else { 2 }
}

impl CompactMatrix {
    /// Packs `matrix` for `level`.
    pub fn prepare(level: Level, matrix: &StoredMatrix, packing: &Packing) -> CompactMatrix {
        let level = Layout::new(level, Tile { rows: 1, vectors: 1 }, 0, 0).level;
        let vectors = panel_vectors(level);
        let tile = Tile::of_vectors(level, vectors);
        let mut packed = CompactMatrix {
            encoding: matrix.encoding(),
            scales: match matrix.scales() {
                Scales::None => ScaleForm::None,
                Scales::F32(_) => ScaleForm::F32,
                Scales::F16(_) => ScaleForm::F16,
            },
            has_zeros: matrix.zeros().is_some(),
            block: matrix.block(),
            panel: Layout::new(level, tile, matrix.k(), vectors * level.lanes()),
            n: matrix.n(),
            words: Packed::filled(0, |_| {}),
        };
        let form = format!("{packed}, scales {:?}, zero points {}", packed.scales, packed.has_zeros);
        packed.words =
            packing.block(form, packed.panels() * packed.panel_words(), |out| packed.fill(matrix, out));
        packed
    }

    /// Rows.
    pub fn k(&self) -> usize {
        self.panel.k
    }

    /// Columns.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Columns of a panel.
    pub(super) fn width(&self) -> usize {
        self.panel.n
    }

    /// Number of panels.
    pub(super) fn panels(&self) -> usize {
        self.n.div_ceil(self.width())
    }

    /// Blocks of a column.
    pub(super) fn blocks(&self) -> usize {
        self.k().div_ceil(self.block)
    }

    /// Whether blocks have scales: all but those of bfloat16.
    pub(super) fn has_scales(&self) -> bool {
        self.scales != ScaleForm::None
    }

    /// Words before those of a block.
    pub(super) fn head_words(&self) -> usize {
        let scales = match self.scales {
            ScaleForm::None => 0,
            ScaleForm::F32 => self.width(),
            ScaleForm::F16 => self.width() / 2,
        };
        scales + if self.has_zeros { self.width() / 4 } else { 0 }
    }

    /// Rows of words in block `block`.
    pub(super) fn word_rows(&self, block: usize) -> usize {
        self.block.min(self.k() - block * self.block).div_ceil(self.encoding.per_word())
    }

    /// Rows, filled up to whole words.
    pub(super) fn padded_k(&self) -> usize {
        self.k().next_multiple_of(self.encoding.per_word())
    }

    /// Words of a panel.
    pub(super) fn panel_words(&self) -> usize {
        let rows = self.padded_k() / self.encoding.per_word();
        self.blocks() * self.head_words() + rows * self.width()
    }

    /// The words of panel `index`.
    pub(super) fn panel_of(&self, index: usize) -> &[u32] {
        &self.words[index * self.panel_words()..][..self.panel_words()]
    }

    fn fill(&self, matrix: &StoredMatrix, out: &mut [u32]) {
        let (width, blocks) = (self.width(), self.blocks());
        for (index, mut panel) in out.chunks_exact_mut(self.panel_words().max(1)).enumerate() {
            let first = index * width;
            let columns = width.min(self.n - first);
            for block in 0..blocks {
                let (head, rest) = panel.split_at_mut(self.head_words());
                self.fill_head(matrix, head, first..first + columns, block);
                let rows = self.word_rows(block);
                let (words, next) = rest.split_at_mut(rows * width);
                let first_word = block * self.block / self.encoding.per_word();
                for column in 0..columns {
                    for row in 0..rows {
                        words[row * width + column] = matrix.word(first + column, first_word + row);
                    }
                }
                panel = next;
            }
        }
    }

    /// Scales and zero points of the `columns` in `block`.
    fn fill_head(
        &self,
        matrix: &StoredMatrix,
        head: &mut [u32],
        columns: std::ops::Range<usize>,
        block: usize,
    ) {
        let at = |column: usize| column * matrix.blocks_of_column() + block;
        let zeros_at = self.head_words() - if self.has_zeros { self.width() / 4 } else { 0 };
        let (for_scales, for_zeros) = head.split_at_mut(zeros_at);
        for (place, column) in columns.enumerate() {
            match matrix.scales() {
                Scales::None => {}
                Scales::F32(scales) => for_scales[place] = scales[at(column)].to_bits(),
                Scales::F16(scales) => {
                    bytemuck::cast_slice_mut::<u32, u16>(for_scales)[place] = scales[at(column)].to_bits();
                }
            }
            if let Some(zeros) = matrix.zeros() {
                bytemuck::cast_slice_mut::<u32, u8>(for_zeros)[place] = zeros[at(column)];
            }
        }
    }
}

impl std::fmt::Display for CompactMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (k, n, level) = (self.k(), self.n, self.panel.level);
        write!(f, "{:?} panels of {} columns at {level}, k {k}, n {n}", self.encoding, self.width())?;
        if self.scales != ScaleForm::None { write!(f, ", blocks of {}", self.block) } else { Ok(()) }
    }
}

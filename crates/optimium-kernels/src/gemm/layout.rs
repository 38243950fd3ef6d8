//! The form that the right matrix of a product is packed into.

use optimium_simd::Level;

use super::arithmetic::Arithmetic;
use super::run::share;
use super::tile::{Tile, effective};
use crate::{Packed, Packing, Part, SharedSlice};

/// How a right matrix of `k` rows and `n` columns is packed: panels of `tile.vectors` vectors of columns, each
/// `[k][width]`, one after the other. The last panel is narrower by whole vectors; its last vector is filled
/// up with zeros. Where rows are grouped, there is one panel `[k / group][width][group]` for all columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Rows of the matrix: the length of the sums. Pairs of rows, where those are one element.
    pub k: usize,
    /// Columns of the matrix and of the result.
    pub n: usize,
    /// The register tile that works on a full panel.
    pub tile: Tile,
    /// The level whose kernels read it.
    pub level: Level,
    /// What an element is.
    pub(crate) arithmetic: Arithmetic,
}

/// One panel of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panel {
    /// The first column.
    pub(crate) column: usize,
    /// Vectors of columns.
    pub(crate) vectors: usize,
    /// Columns that exist.
    pub(crate) columns: usize,
    /// Where it starts in the packed form.
    pub(crate) offset: usize,
}

impl Layout {
    /// The layout of a `k × n` matrix for that tile at `level`.
    pub fn new(level: Level, tile: Tile, k: usize, n: usize) -> Layout {
        Layout { k, n, tile, level: effective(level), arithmetic: Arithmetic::Single }
    }

    /// The layouts of a `k × n` matrix in groups of rows at `level` that there are tiles for.
    pub(super) fn grouped(level: Level, k: usize, n: usize) -> impl Iterator<Item = Layout> {
        let level = effective(level);
        Arithmetic::GROUPED.into_iter().filter_map(move |arithmetic| {
            let vectors = n.div_ceil(level.lanes().div_ceil(arithmetic.rows_of_vector()));
            let tile = Tile::of_groups(level, arithmetic, vectors)?;
            Some(Layout { k, n, tile, level, arithmetic })
        })
    }

    /// Elements of a vector.
    pub(crate) fn lanes(&self) -> usize {
        self.level.lanes()
    }

    /// Number of `f32` elements of the packed form: a multiple of the vector length.
    pub fn len(&self) -> usize {
        (self.n.div_ceil(self.columns_of_vector()) * self.lanes()).saturating_mul(self.steps())
    }

    /// Columns that a vector holds elements of.
    pub(crate) fn columns_of_vector(&self) -> usize {
        self.lanes() / self.group()
    }

    /// Neighbours in k that lie side by side: pieces of left rows are a multiple of them, but for the last one.
    pub(crate) fn group(&self) -> usize {
        self.arithmetic.rows_of_vector()
    }

    /// Rows of vectors of a panel.
    pub(super) fn steps(&self) -> usize {
        self.k.div_ceil(self.group())
    }

    /// Elements of a panel.
    pub(crate) fn panel_len(&self, panel: Panel) -> usize {
        panel.vectors * self.lanes() * self.steps()
    }

    /// The tallest register tile that works on a panel of so many vectors.
    pub(super) fn tile_of(&self, vectors: usize) -> Tile {
        match self.arithmetic {
            // There is one panel.
            Arithmetic::Pairs | Arithmetic::Fours => self.tile,
            Arithmetic::Single | Arithmetic::BrainPairs => Tile::of_vectors(self.level, vectors),
        }
    }

    /// Whether the matrix has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.n.div_ceil(self.columns_of_vector() * self.tile.vectors)
    }

    /// The panel of that index.
    pub(crate) fn panel(&self, index: usize) -> Panel {
        let each = self.columns_of_vector();
        let width = self.tile.vectors * each;
        let column = index * width;
        let columns = width.min(self.n - column);
        let offset = index * self.tile.vectors * self.lanes() * self.steps();
        Panel { column, vectors: columns.div_ceil(each), columns, offset }
    }

    /// Packs this part's share of the rows of `b`, whose element of row `i` (of `k`) and column `j` (of `n`)
    /// is `b[i * row_stride + j * column_stride]`, into `out`. The other parts write the rest.
    ///
    /// # Panics
    /// Where `b` is too short for the strides or `out` shorter than [`len`](Layout::len).
    pub fn pack(
        &self,
        b: &[f32],
        row_stride: usize,
        column_stride: usize,
        out: SharedSlice<f32>,
        part: Part,
    ) {
        super::pack::pack(self, b, row_stride, column_stride, out, part);
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, columns) = (self.tile.rows, self.tile.vectors * self.columns_of_vector());
        let elements = match self.arithmetic {
            Arithmetic::Single => "",
            Arithmetic::Pairs => " by pairs of k",
            Arithmetic::Fours => " by fours of k",
            Arithmetic::BrainPairs => " of bf16 pairs",
        };
        write!(f, "{rows}x{columns} tile{elements} at {}, k {}, n {}", self.level, self.k, self.n)
    }
}

/// A right matrix in packed form.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    /// The form.
    pub layout: Layout,
    /// [`Layout::len`] elements.
    pub data: Packed<f32>,
}

impl PackedMatrix {
    /// The origin of matrices that are packed without a change.
    pub(crate) const AS_IT_IS: &str = "as it is";

    /// Packs `b`, addressed as in [`Layout::pack`].
    ///
    /// # Panics
    /// Where `b` is too short for the strides.
    pub fn new(
        layout: Layout,
        b: &[f32],
        row_stride: usize,
        column_stride: usize,
        packing: &Packing,
    ) -> PackedMatrix {
        PackedMatrix::prepare(layout, PackedMatrix::AS_IT_IS, packing, |out| {
            layout.pack(b, row_stride, column_stride, out, Part::WHOLE);
        })
    }

    /// The matrix that `fill` packs by `layout`. `origin` says how it is made of the weights, and is part of the block's
    /// [form](Packing::block).
    pub fn prepare(
        layout: Layout,
        origin: &str,
        packing: &Packing,
        fill: impl FnOnce(SharedSlice<f32>),
    ) -> PackedMatrix {
        let form = format_args!("{origin}, {layout}");
        let data = packing.block(form, layout.len(), |out| fill(SharedSlice::new(out)));
        PackedMatrix { layout, data }
    }

    /// The panel that this part of a product of `m` rows reads first, if it has one.
    pub fn first_panel(&self, m: usize, part: Part) -> &[f32] {
        let (rows, panels) = share(part, m, &self.layout);
        if rows.is_empty() || panels.is_empty() { &[] } else { self.panel(panels.start) }
    }

    /// The elements of a panel.
    pub(crate) fn panel(&self, index: usize) -> &[f32] {
        let panel = self.layout.panel(index);
        &self.data[panel.offset..][..self.layout.panel_len(panel)]
    }

    /// Whether [`prepare`](PackedMatrix::prepare) would find the next block stored.
    pub fn is_stored(layout: &Layout, origin: &str, packing: &Packing) -> bool {
        packing.has_stored::<f32>(format_args!("{origin}, {layout}"), layout.len())
    }
}

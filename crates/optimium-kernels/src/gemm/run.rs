//! The loops around the inner one: blocks of rows, panels, strips.

use std::ops::Range;
use std::ptr::null;

use optimium_simd::{Simd, SimdTask};

use super::dispatch::{self, Height};
use super::kernel::{AnyStrips, LINE};
use super::layout::{Layout, Panel};
use super::lines::Lines;
use super::store::Finish;
use super::tile::{Tile, strip};
use crate::Part;
use crate::epilogue::{Cheap, Epilogue, finish_row};

/// A product whose left rows may lie anywhere: the common form of matrix products and convolutions.
///
/// Row `i` of the left matrix is the concatenation of `runs.len()` pieces of `run_length` elements, which start
/// at `a[left(i) + run]`. Row `i` of the result is row `result(i)` of `c` and of the residual.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) layout: &'a Layout,
    /// The packed right matrix.
    pub(crate) packed: &'a [f32],
    pub(crate) a: *const f32,
    pub(crate) left: Lines,
    pub(crate) runs: &'a [usize],
    pub(crate) run_length: usize,
    /// Elements of the left matrix that a further row brings into the cache.
    pub(crate) row_len: usize,
    pub(crate) result: Lines,
    pub(crate) c: *mut f32,
    pub(crate) c_stride: usize,
    /// The column of the result and of the epilogue where the layout's first one lies.
    pub(crate) column: usize,
    pub(crate) epilogue: &'a Epilogue<'a>,
    /// Whether there is one row in all, whatever the parts do: it may be summed in another order.
    pub(crate) single_row: bool,
}

/// Bytes of left rows that stay in the second-level cache while panel after panel passes by.
const BLOCK_BYTES: usize = 512 << 10;
/// Rows of a block that make reading the panels again worth while, at least.
const BLOCK_ROWS: usize = 96;
/// Rows that are still in the first-level cache when the second pass of the epilogue reads them.
const SECOND_PASS_ROWS: usize = 48;
/// Products of so few rows are bound by reading the panels, once.
const STREAMING_ROWS: usize = 4;

impl Product<'_> {
    /// Computes `rows` of the columns of `panels`.
    ///
    /// # Safety
    /// For all these rows, the left pieces are readable at `a`; the result's columns are writable at `c`, by
    /// this call alone; the epilogue is checked for them.
    pub(crate) unsafe fn run(&self, rows: Range<usize>, panels: Range<usize>) {
        assert_eq!(
            self.layout.k,
            self.runs.len() * self.run_length,
            "the runs make no row of {}",
            self.layout
        );
        assert!(self.packed.len() >= self.layout.len(), "{} elements for {}", self.packed.len(), self.layout);
        assert!(self.layout.level.is_available(), "this machine lacks {}", self.layout.level);
        let block_rows = (BLOCK_BYTES / (size_of::<f32>() * self.row_len.max(1))).max(BLOCK_ROWS);
        let blocks = rows.len().div_ceil(block_rows);
        for block in 0..blocks {
            let (first, count) = strip(rows.len(), blocks, block);
            for index in panels.clone() {
                let next = if index + 1 < panels.end { index + 1 } else { panels.start };
                let last = index + 1 == panels.end && block + 1 == blocks;
                let next = (!last && count > STREAMING_ROWS).then(|| self.layout.panel(next));
                // SAFETY: forwarded for a part of the rows and panels.
                unsafe { self.panel(rows.start + first, count, self.layout.panel(index), next) };
            }
        }
    }

    /// Computes `count` rows from row `first` of one panel, while `next` is fetched.
    ///
    /// # Safety
    /// As for [`run`](Product::run).
    unsafe fn panel(&self, first: usize, count: usize, panel: Panel, next: Option<Panel>) {
        let tile = Tile::of_vectors(self.layout.level, panel.vectors);
        let one_pass = self.epilogue.cheap().is_some();
        let chunk_rows = if one_pass { count } else { SECOND_PASS_ROWS };
        let mut strips = self.strips(panel, next);
        for chunk in 0..count.div_ceil(chunk_rows) {
            let (start, rows) = strip(count, count.div_ceil(chunk_rows), chunk);
            // SAFETY: forwarded.
            unsafe { self.chunk(&mut strips, tile, first + start, rows) };
            if !one_pass {
                let columns = self.column + panel.column..self.column + panel.column + panel.columns;
                let task = SecondPass { product: self, rows: first + start..first + start + rows, columns };
                self.layout.level.run(task);
            }
        }
    }

    /// Cuts `rows` rows from row `first` into balanced strips, of two heights at most.
    ///
    /// # Safety
    /// As for [`run`](Product::run).
    unsafe fn chunk(&self, strips: &mut AnyStrips, tile: Tile, first: usize, rows: usize) {
        let count = rows.div_ceil(tile.rows);
        let (low, taller) = (rows / count, rows % count);
        let (mut left, mut result) = (self.left.walk(first), self.result.walk(first));
        for (rows, count) in [(low + 1, taller), (low, count - taller)] {
            if count > 0 {
                let height = Height { strips, rows, count, chained: self.single_row };
                // SAFETY: forwarded.
                unsafe { dispatch::run(self.layout.level, tile.vectors, height, &mut left, &mut result) };
                strips.advance_next(count);
            }
        }
    }

    /// What the strips of `panel` have in common.
    fn strips(&self, panel: Panel, next: Option<Panel>) -> AnyStrips<'_> {
        let column = self.column + panel.column;
        let at = |panel: Panel| self.packed[panel.offset..].as_ptr();
        let cheap = self.epilogue.cheap();
        // Where there is a second pass, that adds the residual.
        let residual = self.epilogue.residual.filter(|_| cheap.is_some());
        let activation = match cheap {
            Some(Cheap::Slopes(slopes)) => Cheap::Slopes(&slopes[column..]),
            Some(other) => other,
            None => Cheap::Clamp { low: f32::NEG_INFINITY, high: f32::INFINITY },
        };
        let finish = Finish {
            bias: self.epilogue.bias.map_or(null(), |bias| bias[column..].as_ptr()),
            residual: residual.map_or(null(), |residual| residual.data[column..].as_ptr()),
            residual_stride: residual.map_or(0, |residual| residual.stride),
            residual_last: residual.is_some_and(|residual| residual.after_activation),
            activation,
        };
        let lanes = self.layout.lanes();
        AnyStrips {
            a: self.a,
            runs: self.runs,
            run_length: self.run_length,
            b: at(panel),
            last_columns: panel.columns - (panel.vectors - 1) * lanes,
            c: self.c.wrapping_add(column),
            c_stride: self.c_stride,
            finish,
            next: at(next.unwrap_or(panel)),
            next_lines: next.map_or(0, |next| next.vectors * lanes * self.layout.k / LINE),
        }
    }
}

/// The part of the epilogue that is done to stored sums.
struct SecondPass<'a> {
    product: &'a Product<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl SimdTask for SecondPass<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let product = self.product;
        let mut rows = product.result.walk(self.rows.start);
        for _ in self.rows {
            let row = rows.step();
            let c = product.c.wrapping_add(row * product.c_stride);
            // SAFETY: the caller of `Product::run` promises a checked epilogue and writable rows.
            unsafe { finish_row(simd, product.epilogue, row, self.columns.clone(), c) };
        }
    }
}

/// Whether `parts` workers should divide the panels of a product of `m` rows among them, and not the rows: where
/// there are few rows, so that each worker reads its own weights alone.
pub(crate) fn divides_panels(parts: usize, m: usize, panels: usize) -> bool {
    const FEW_ROWS: usize = 64;
    const TOLERATED_IMBALANCE: f64 = 1.25;
    let largest = |n: usize| n.div_ceil(parts) as f64 / n.max(1) as f64;
    let balanced = largest(panels) * parts as f64 <= TOLERATED_IMBALANCE;
    (m <= FEW_ROWS && balanced) || largest(panels) < largest(m)
}

/// This part's rows and panels of a product of `m` rows and `panels` panels.
pub(crate) fn share(part: Part, m: usize, panels: usize) -> (Range<usize>, Range<usize>) {
    if divides_panels(part.count, m, panels) {
        (0..m, part.range(panels))
    } else {
        (part.range(m), 0..panels)
    }
}

//! The loops around the inner one: blocks of rows, panels, strips.

use std::ops::Range;
use std::ptr::null;

use super::deferred::{self, ActivateRows};
use super::dispatch::{self, Height};
use super::kernel::{AnyStrips, Carry, LINE};
use super::layout::{Layout, Panel};
use super::lines::{Lines, Run};
use super::store::Finish;
use super::tile::strip;
use crate::epilogue::Epilogue;
use crate::{Part, Real};

/// A product whose left rows may lie anywhere: the common form of matrix products and convolutions.
///
/// Elements are what the layout's [`Arithmetic`](super::arithmetic::Arithmetic) says, on both sides.
/// Row `i` of the left matrix consists of `runs.len()` pieces of `run_length` elements, which start at
/// `a[left(i) + run.left]`; what they leave out of the right matrix counts as zero. Row `i` of the result is row
/// `result(i)` of `c` and of the residual.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a, T = f32> {
    pub(crate) layout: &'a Layout,
    /// The packed right matrix.
    pub(crate) packed: &'a [f32],
    /// What is read after the last panel, if that is known: it is fetched while that panel is computed.
    pub(crate) following: &'a [f32],
    pub(crate) a: *const f32,
    pub(crate) left: Lines,
    pub(crate) runs: &'a [Run],
    pub(crate) run_length: usize,
    /// Elements of the left matrix that a further row brings into the cache.
    pub(crate) row_len: usize,
    pub(crate) result: Lines,
    pub(crate) c: *mut T,
    pub(crate) c_stride: usize,
    /// The column of the result and of the epilogue where the layout's first one lies.
    pub(crate) column: usize,
    pub(crate) epilogue: &'a Epilogue<'a, T>,
    /// Whether there is one row in all, whatever the parts do: it may be summed in another order.
    pub(crate) single_row: bool,
}

/// Bytes of left rows that stay in the second-level cache while panel after panel passes by.
const BLOCK_BYTES: usize = 512 << 10;
/// Rows of a block that make reading the panels again worth while, at least.
const BLOCK_ROWS: usize = 96;
/// Bytes between the first and the last row of a panel's result that do not stay in the second-level cache beside all else.
const FAR_BYTES: usize = 256 << 10;
/// Steps of k beside which fetching the places of the result takes no time.
const STEPS_WORTH_FETCHING: usize = 48;
/// Products of so few rows are bound by reading the panels, once.
const STREAMING_ROWS: usize = 4;

impl<T: Real> Product<'_, T> {
    /// Computes `rows` of the columns of `panels`.
    ///
    /// # Safety
    /// For all these rows, the left pieces are readable at `a`; the result's columns are writable at `c`, by
    /// this call alone; the epilogue is checked for them.
    pub(crate) unsafe fn run(&self, rows: Range<usize>, panels: Range<usize>) {
        let end = self.runs.iter().map(|run| run.right).max().map_or(0, |right| right + self.run_length);
        assert!(end <= self.layout.k, "the runs make no row of {}", self.layout);
        assert!(self.packed.len() >= self.layout.len(), "{} elements for {}", self.packed.len(), self.layout);
        let group = self.layout.arithmetic.rows_of_vector();
        assert!(self.runs.iter().all(|run| run.right.is_multiple_of(group)), "runs for {}", self.layout);
        assert!(self.layout.level.is_available(), "this machine lacks {}", self.layout.level);
        let block_rows = (BLOCK_BYTES / (size_of::<f32>() * self.row_len.max(1))).max(BLOCK_ROWS);
        let blocks = rows.len().div_ceil(block_rows);
        for block in 0..blocks {
            let (first, count) = strip(rows.len(), blocks, block);
            for index in panels.clone() {
                let next: &[f32] = match index + 1 {
                    _ if count <= STREAMING_ROWS => &[],
                    next if next < panels.end => self.packed_panel(self.layout.panel(next)),
                    _ if block + 1 < blocks => self.packed_panel(self.layout.panel(panels.start)),
                    _ => self.following,
                };
                // SAFETY: forwarded for a part of the rows and panels.
                unsafe { self.panel(rows.start + first, count, self.layout.panel(index), next, Carry::NONE) };
            }
        }
    }

    /// The elements of a panel.
    fn packed_panel(&self, panel: Panel) -> &[f32] {
        &self.packed[panel.offset..][..self.layout.panel_len(panel)]
    }

    /// Computes `count` rows from row `first` of one panel, while `next` is fetched.
    ///
    /// # Safety
    /// As for [`run`](Product::run), and `carry` has `count` rows.
    pub(super) unsafe fn panel(&self, first: usize, count: usize, panel: Panel, next: &[f32], carry: Carry) {
        let tile = self.layout.tile_of(panel.vectors);
        let mut strips = self.strips(panel, next, count, carry);
        let activation = deferred::take(&mut strips.finish, !carry.kept.is_null());
        // Balanced strips, of two heights at most.
        let strip_count = count.div_ceil(tile.rows);
        let (low, taller) = (count / strip_count, count % strip_count);
        let (mut left, mut result) = (self.left.walk(first), self.result.walk(first));
        for (rows, count, first) in [(low + 1, taller, 0), (low, strip_count - taller, taller * (low + 1))] {
            let at_once = activation.map_or(count, |_| deferred::strips_at_once(rows * panel.vectors));
            let mut done = 0;
            while done < count {
                let (count, first) = (at_once.min(count - done), first + done * rows);
                let stored = result;
                let height = Height { strips: &strips, first, rows, count, chained: self.single_row };
                // SAFETY: forwarded.
                unsafe { dispatch::run(self.layout, panel.vectors, height, &mut left, &mut result) };
                if let Some(activation) = activation {
                    let (rows, columns) = (count * rows, panel.columns);
                    let task = ActivateRows { activation, strips: &strips, result: stored, rows, columns };
                    self.layout.level.run(task);
                }
                strips.advance_next(count, panel.vectors * self.layout.lanes());
                done += count;
            }
        }
    }

    /// What the strips of `panel` that make `count` rows have in common.
    fn strips(&self, panel: Panel, next: &[f32], count: usize, carry: Carry) -> AnyStrips<'_> {
        let column = self.column + panel.column;
        let residual = self.epilogue.residual;
        let finish = Finish {
            bias: self.epilogue.bias.map_or(null(), |bias| bias[column..].as_ptr()),
            residual: residual.map_or(null(), |residual| residual.data.as_ptr().wrapping_add(column).cast()),
            residual_stride: residual.map_or(0, |residual| residual.stride),
            residual_last: residual.is_some_and(|residual| residual.after_activation),
            activation: self.epilogue.of_tile(column),
            rounded: T::ROUNDED,
        };
        let lanes = self.layout.lanes();
        let is_far = count * self.c_stride * size_of::<T>() >= FAR_BYTES;
        let is_scattered = carry.kept.is_null() && self.c_stride > panel.columns;
        let is_long = self.runs.len() * self.run_length >= STEPS_WORTH_FETCHING;
        AnyStrips {
            a: self.a,
            runs: self.runs,
            run_length: self.run_length,
            b: self.packed_panel(panel).as_ptr(),
            last_columns: panel.columns - (panel.columns.div_ceil(lanes) - 1) * lanes,
            c: self.c.wrapping_add(column).cast(),
            c_stride: self.c_stride,
            finish,
            carry,
            next: next.as_ptr(),
            next_lines: next.len() / LINE,
            fetches_places: is_far && is_scattered && is_long,
        }
    }
}

/// How workers divide a product of `m` rows and the panels of `groups` matrices of one layout among them.
#[derive(Clone, Copy)]
pub(crate) struct Division<'a> {
    pub(crate) m: usize,
    pub(crate) layout: &'a Layout,
    pub(crate) groups: usize,
}

impl Division<'_> {
    /// Whether `parts` workers divide the panels, and not the rows: where that takes clearly less time, and where there are few
    /// rows, so that each worker reads its own weights alone.
    pub(crate) fn is_by_panels(self, parts: usize) -> bool {
        const FEW_ROWS: usize = 64;
        /// Rows whose multiply-adds take as long as it takes to bring a vector of the matrix from the third cache.
        const ROWS_OF_A_READ: usize = 5;
        /// Rows divided go on in the cache of the worker that made them, through layers that take rows one by one.
        const WORTH_LEAVING_THE_CACHE: f64 = 1.1;
        let Division { m, layout, .. } = self;
        let cycles = |m: usize, vectors: usize| m.max(ROWS_OF_A_READ) * vectors;
        let vectors = self.groups * layout.n.div_ceil(layout.columns_of_vector());
        let largest = (self.panels().div_ceil(parts) * layout.tile.vectors).min(vectors);
        let (by_rows, by_panels) = (cycles(m.div_ceil(parts), vectors), cycles(m, largest));
        if m <= FEW_ROWS {
            by_panels <= by_rows
        } else {
            by_panels as f64 * WORTH_LEAVING_THE_CACHE < by_rows as f64
        }
    }

    /// The rows and the panels of a part.
    pub(crate) fn share(self, part: Part) -> (Range<usize>, Range<usize>) {
        if self.is_by_panels(part.count) {
            (0..self.m, part.range(self.panels()))
        } else {
            (part.range(self.m), 0..self.panels())
        }
    }

    fn panels(&self) -> usize {
        self.groups * self.layout.panels()
    }
}

/// [`Division::share`] of one matrix.
pub(crate) fn share(part: Part, m: usize, layout: &Layout) -> (Range<usize>, Range<usize>) {
    Division { m, layout, groups: 1 }.share(part)
}

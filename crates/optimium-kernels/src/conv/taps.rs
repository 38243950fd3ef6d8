//! Products whose left rows are what a kernel covers.

use std::ops::Range;

use super::band::Band;
use super::parameters::{Geometry, Parameters};
use crate::epilogue::Epilogue;
use crate::gemm::run::Product;
use crate::gemm::{Lines, PackedMatrix, Run};

/// Where the pixels of an image or of a band lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// The elements, from the first pixel on.
    pub(super) data: &'a [f32],
    /// Elements from pixel to pixel.
    pub(super) pixel: usize,
    /// Elements from line to line.
    pub(super) line: usize,
}

impl<'a> View<'a> {
    /// The pixels of `band`, in place where all of them exist, else copied to `scratch`.
    pub(super) fn of(
        band: &Band,
        image: &'a [f32],
        geometry: &Geometry,
        channels: usize,
        scratch: &'a mut [f32],
    ) -> View<'a> {
        if band.lies_in(geometry.input) {
            let line = geometry.input[1] * geometry.input_stride;
            let first =
                band.origin[0].unsigned_abs() * line + band.origin[1].unsigned_abs() * geometry.input_stride;
            return View { data: &image[first..], pixel: geometry.input_stride, line };
        }
        band.copy(image, geometry, channels, scratch);
        View { data: &scratch[..band.len(channels)], pixel: channels, line: band.size[1] * channels }
    }
}

/// The taps of a kernel as pieces of memory: what follows of a tap row's pixels is one piece where the pixels
/// have no gap, and a piece each otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taps {
    /// Height and width of the grid of taps.
    pub(super) grid: [usize; 2],
    /// The place of its first tap among those that the weights are packed for, and how many of these make a line.
    pub(super) first: [usize; 2],
    pub(super) line: usize,
    /// Pixels from tap to tap, down and across.
    pub(super) step: [usize; 2],
    /// Channels that are summed.
    pub(super) channels: usize,
    /// Whether the pieces of neighbouring taps may be joined.
    pub(super) joined: bool,
}

impl Taps {
    /// The taps of a convolution.
    pub(super) fn of(parameters: &Parameters, joined: bool) -> Taps {
        Taps {
            grid: parameters.kernel,
            first: [0, 0],
            line: parameters.kernel[1],
            step: parameters.dilation,
            channels: parameters.group_inputs(),
            joined,
        }
    }

    /// Calls `work` with the pieces and their length in `view`, counted from the first tap.
    pub(super) fn with_runs(&self, view: &View, work: impl FnOnce(&[Run], usize)) {
        /// So many pieces need no allocation.
        const USUAL: usize = 64;
        if self.channels == 0 {
            return work(&[], 0);
        }
        let whole_lines = self.joined && self.step[1] == 1 && view.pixel == self.channels;
        let across = if whole_lines { 1 } else { self.grid[1] };
        let length = if whole_lines { self.grid[1] * self.channels } else { self.channels };
        let count = self.grid[0] * across;
        let run = |i: usize| {
            let (line, pixel) = (i / across, i % across);
            let tap = (self.first[0] + line) * self.line + self.first[1] + pixel;
            Run {
                left: line * self.step[0] * view.line + pixel * self.step[1] * view.pixel,
                right: tap * self.channels,
            }
        };
        if count <= USUAL {
            let mut runs = [Run::default(); USUAL];
            for (i, of_tap) in runs[..count].iter_mut().enumerate() {
                *of_tap = run(i);
            }
            work(&runs[..count], length);
        } else {
            work(&(0..count).map(run).collect::<Vec<_>>(), length);
        }
    }
}

/// The products of one stretch of pixels with the weights of all groups.
pub(super) struct Stretch<'a> {
    pub(super) groups: &'a [PackedMatrix],
    pub(super) view: View<'a>,
    pub(super) taps: Taps,
    /// The pixels under the first tap of the rows.
    pub(super) left: Lines,
    pub(super) result: Lines,
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
    pub(super) epilogue: &'a Epilogue<'a>,
    /// Whether there is one output pixel in all.
    pub(super) single_row: bool,
    /// Elements of the image that a further row brings in.
    pub(super) row_len: usize,
}

impl Stretch<'_> {
    /// Computes `rows` of the columns of `panels`, which count through all groups.
    ///
    /// # Safety
    /// The result's rows are writable by this call alone in those columns, and the epilogue is checked.
    ///
    /// # Panics
    /// Where a row's taps reach past the view.
    pub(super) unsafe fn run(&self, rows: Range<usize>, panels: Range<usize>) {
        if rows.is_empty() || panels.is_empty() {
            return;
        }
        self.taps.with_runs(&self.view, |runs, run_length| {
            // SAFETY: forwarded.
            unsafe { self.run_groups(runs, run_length, rows, panels) };
        });
    }

    /// As [`run`](Stretch::run), with the pieces of a row.
    ///
    /// # Safety
    /// As there.
    unsafe fn run_groups(&self, runs: &[Run], run_length: usize, rows: Range<usize>, panels: Range<usize>) {
        let channels = self.taps.channels;
        let reach = self.left.farthest(rows.clone()) + runs.last().map_or(0, |run| run.left + run_length);
        let needed = reach + (self.groups.len() - 1) * channels;
        assert!(runs.is_empty() || needed <= self.view.data.len(), "the kernel reaches past the image");
        for (group, weights) in self.groups.iter().enumerate() {
            let each = weights.layout.panels();
            let of_group = |panel: usize| panel.clamp(group * each, (group + 1) * each) - group * each;
            let product = Product {
                layout: &weights.layout,
                packed: &weights.data,
                following: if group + 1 == self.groups.len() { self.epilogue.following } else { &[] },
                a: self.view.data.as_ptr().wrapping_add(group * channels),
                left: self.left,
                runs,
                run_length,
                row_len: self.row_len,
                result: self.result,
                c: self.c,
                c_stride: self.c_stride,
                column: group * weights.layout.n,
                epilogue: self.epilogue,
                single_row: self.single_row,
            };
            // SAFETY: the farthest row's last piece was just found in the view; the rest is forwarded.
            unsafe { product.run(rows.clone(), of_group(panels.start)..of_group(panels.end)) };
        }
    }
}

//! Chains of convolutions by strips of output lines: a pointwise one, a depthwise one, and a pointwise one again.
//!
//! Between the three lie tensors of many channels. [`Strips`] computes a few output lines at a time: the lines of the first
//! product that the window has newly reached go into a ring of lines, the depthwise convolution takes its lines from there and
//! leaves a few of its own, and the last product reads those at once. What lies between stays in the cache of the core, and is
//! never written to memory. The first or the last of the three may be missing. Sums are those of the convolutions one by one.
//!
//! | file | |
//! |---|---|
//! | `pointwise` | the products |
//! | `walk` | how many lines at once, and where they lie |
//! | `estimate` | what a chain costs, by strips and one by one |

mod estimate;
mod pointwise;
#[cfg(test)]
mod tests;
mod walk;

pub use estimate::{Chain, Form};
pub use pointwise::Pointwise;

use std::ops::Range;

use crate::conv::{Geometry, Parameters};
use crate::depthwise::{Depthwise, Strip};
use crate::epilogue::Epilogue;
use crate::{Part, Real, SharedSlice};
use walk::Walk;

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// A depthwise convolution with a pointwise one before it, behind it, or both; all of them packed.
#[derive(Clone, Debug)]
pub struct Strips {
    expand: Option<Pointwise>,
    depthwise: Depthwise,
    project: Option<Pointwise>,
}

/// What is done to the results of the three; those of a missing one are not read. The residuals of all but the last one are
/// none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogues<'a, E> {
    /// Of the first product.
    pub expand: Epilogue<'a, E>,
    /// Of the depthwise convolution.
    pub depthwise: Epilogue<'a, E>,
    /// Of the last product. Rows are the output pixels of all images.
    pub project: Epilogue<'a, E>,
}

/// One call of [`Strips::run`].
struct Job<'a, E> {
    geometry: &'a Geometry,
    x: &'a [E],
    epilogues: &'a Epilogues<'a, E>,
    y: SharedSlice<'a, E>,
}

impl Strips {
    /// Whether such a depthwise convolution can be part of a chain.
    pub fn serves(depthwise: &Parameters) -> bool {
        Depthwise::serves_strips(depthwise)
    }

    /// The chain of these three.
    ///
    /// # Panics
    /// Where they do not fit, or the depthwise one is not [served](Strips::serves).
    pub fn new(expand: Option<Pointwise>, depthwise: Depthwise, project: Option<Pointwise>) -> Strips {
        let parameters = depthwise.parameters();
        assert!(Strips::serves(parameters), "no strips of {parameters:?}");
        let channels = parameters.input_channels;
        assert!(expand.as_ref().is_none_or(|expand| expand.output_channels() == channels), "{parameters:?}");
        assert!(
            project.as_ref().is_none_or(|project| project.input_channels() == channels),
            "{parameters:?}"
        );
        Strips { expand, depthwise, project }
    }

    /// The depthwise convolution.
    pub fn depthwise(&self) -> &Depthwise {
        &self.depthwise
    }

    /// The whole chain as one convolution by a window of that size: its channels, kernel and steps.
    fn parameters(&self) -> Parameters {
        let inner = self.depthwise.parameters();
        let input_channels = self.expand.as_ref().map_or(inner.input_channels, Pointwise::input_channels);
        let output_channels = self.project.as_ref().map_or(inner.output_channels, Pointwise::output_channels);
        Parameters { input_channels, output_channels, ..*inner }
    }

    /// Elements of the tensors between that each part keeps, for such images; the strides of `geometry` do not matter.
    pub fn scratch_len<E: Real>(&self, geometry: &Geometry) -> usize {
        let walk = Walk::new(self.depthwise.parameters(), geometry);
        self.ring_len::<E>(&walk, geometry) + self.lines_len::<E>(&walk, geometry)
    }

    /// Elements of the ring.
    fn ring_len<E>(&self, walk: &Walk, geometry: &Geometry) -> usize {
        if self.expand.is_some() { walk.ring * geometry.input[1] * self.between::<E>() } else { 0 }
    }

    /// Elements of the lines between the depthwise convolution and the last product.
    fn lines_len<E>(&self, walk: &Walk, geometry: &Geometry) -> usize {
        if self.project.is_some() { walk.at_once * geometry.output[1] * self.between::<E>() } else { 0 }
    }

    /// Elements from pixel to pixel of the tensors between. Pixels that are an even number of cache lines apart would have half of
    /// the places in the first-level cache, or fewer.
    fn between<E>(&self) -> usize {
        let line = LINE_BYTES / size_of::<E>();
        let channels = self.depthwise.parameters().input_channels;
        if channels.is_multiple_of(2 * line) { channels + line } else { channels }
    }

    /// Computes this part's share of the chain's output. The sizes and the padding of `geometry` are the depthwise
    /// convolution's, its strides those of `x` and `y`.
    ///
    /// # Panics
    /// Where a slice is too short for the sizes, elements are not of the type that the weights are packed for, or residuals are
    /// where none may be; `scratch` has [`scratch_len`](Strips::scratch_len) elements of this part's own, with any content.
    pub fn run<E: Real>(
        &self,
        geometry: &Geometry,
        x: &[E],
        epilogues: &Epilogues<'_, E>,
        y: SharedSlice<'_, E>,
        scratch: &mut [E],
        part: Part,
    ) {
        let (parameters, pixels) = (self.parameters(), geometry.output_pixels());
        geometry.check(&parameters, x.len(), y.len());
        self.check(pixels, epilogues);
        if pixels == 0 || parameters.output_channels == 0 {
            return;
        }
        let walk = Walk::new(self.depthwise.parameters(), geometry);
        let (ring, rest) = scratch.split_at_mut(self.ring_len::<E>(&walk, geometry));
        let wide = &mut rest[..self.lines_len::<E>(&walk, geometry)];
        let job = Job { geometry, x, epilogues, y };
        let height = geometry.output[0];
        let lines = part.range(geometry.batch * height);
        for image in lines.start / height..lines.end.div_ceil(height) {
            let before = image * height;
            let of_image = lines.start.max(before) - before..lines.end.min(before + height) - before;
            let mut expanded = 0;
            for rows in walk.strips(of_image) {
                let covered = walk.covered(&rows);
                self.expand(&job, image, covered.start.max(expanded)..covered.end, ring, walk.ring);
                expanded = expanded.max(covered.end);
                self.finish(&job, image, rows, (ring, walk.ring), wide);
            }
        }
    }

    fn check<E: Real>(&self, pixels: usize, epilogues: &Epilogues<'_, E>) {
        let channels = self.depthwise.parameters().output_channels;
        let Epilogues { expand, depthwise, project } = epilogues;
        if self.expand.is_some() {
            assert!(expand.residual.is_none(), "a residual of the first convolution");
            expand.check(0, channels);
        }
        if let Some(last) = &self.project {
            assert!(depthwise.residual.is_none(), "a residual in the middle");
            project.check(pixels, last.output_channels());
        }
        depthwise.check(pixels, channels);
    }

    /// Computes the input lines `lines` of the depthwise convolution, in the ring.
    fn expand<E: Real>(
        &self,
        job: &Job<E>,
        image: usize,
        lines: Range<usize>,
        ring: &mut [E],
        places: usize,
    ) {
        let Some(expand) = &self.expand else { return };
        let [height, width] = job.geometry.input;
        let ring = SharedSlice::new(ring);
        let mut line = lines.start;
        while line < lines.end {
            let place = line % places;
            let count = (lines.end - line).min(places - place);
            let first = (image * height + line) * width;
            let x = &job.x[first * job.geometry.input_stride..];
            let epilogue = &job.epilogues.expand;
            let channels = self.between::<E>();
            // SAFETY: the ring is this call's own, and has that many places for lines.
            unsafe {
                expand.run(
                    x,
                    job.geometry.input_stride,
                    count * width,
                    epilogue,
                    (ring, channels),
                    place * width,
                );
            }
            line += count;
        }
    }

    /// Computes the output lines `rows`, whose input lines are there.
    fn finish<E: Real>(
        &self,
        job: &Job<E>,
        image: usize,
        rows: Range<usize>,
        (ring, places): (&[E], usize),
        wide: &mut [E],
    ) {
        let Job { geometry, epilogues, y, .. } = *job;
        let channels = self.between::<E>();
        let first = (image * geometry.output[0] + rows.start) * geometry.output[1];
        let pixels = rows.len() * geometry.output[1];
        let (x, ring, input_stride) = match self.expand {
            Some(_) => (ring, Some(places), channels),
            None => (job.x, None, geometry.input_stride),
        };
        let (to, first_pixel, output_stride) = match self.project {
            Some(_) => (SharedSlice::new(wide), first, channels),
            None => (y, 0, geometry.output_stride),
        };
        let within = Geometry { input_stride, output_stride, ..*geometry };
        let epilogue = &epilogues.depthwise;
        let strip = Strip { geometry: &within, image, rows, x, ring, epilogue, y: to, first_pixel };
        // SAFETY: the lines between are this call's own; parts have output lines of their own.
        unsafe { self.depthwise.run_strip(strip) };
        if let Some(project) = &self.project {
            let to = (y, geometry.output_stride);
            // SAFETY: parts have output lines of their own.
            unsafe { project.run(wide, channels, pixels, &epilogues.project, to, first) };
        }
    }
}

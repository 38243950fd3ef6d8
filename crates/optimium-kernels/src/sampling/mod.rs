//! Images read between their pixels: at the points of a grid, in regions of interest, under a convolution's taps that data move.

mod deformable;
mod grid;
mod regions;

pub use deformable::DeformableColumns;
pub use grid::{GridSampler, SampleMode, SamplePadding};
pub use regions::{RegionPool, RegionSampling};

/// Four pixels of a plane and their weights.
type Corners = [(usize, f32); 4];

/// The pixels around a position of an image of that size, weighted bilinearly; those outside of it have no weight.
#[inline(always)]
fn corners(position: [f32; 2], [height, width]: [usize; 2]) -> Corners {
    let [y, x] = position;
    let (top, left) = (y.floor(), x.floor());
    let (down, right) = (y - top, x - left);
    let pixel = |row: f32, column: f32, weight: f32| {
        let inside = row >= 0.0 && column >= 0.0 && row < height as f32 && column < width as f32;
        if inside { (row as usize * width + column as usize, weight) } else { (0, 0.0) }
    };
    [
        pixel(top, left, (1.0 - down) * (1.0 - right)),
        pixel(top, left + 1.0, (1.0 - down) * right),
        pixel(top + 1.0, left, down * (1.0 - right)),
        pixel(top + 1.0, left + 1.0, down * right),
    ]
}

/// The weighted sum of a plane's pixels.
#[inline(always)]
fn blend(plane: &[f32], corners: &Corners) -> f32 {
    corners.iter().map(|&(pixel, weight)| plane[pixel] * weight).sum()
}

//! How images are cut into tiles.

use super::super::parameters::Geometry;

/// The tiles of all output images: squares that cover them, the last ones of a line or column only in part.
///
/// Under dilated taps every so many-th pixel of a line and every so many-th line make an image of their own, a *phase*
/// of the whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    geometry: Geometry,
    /// Distances between pixels of a phase, down and across.
    dilation: [usize; 2],
    /// Phases, down and across.
    phases: [usize; 2],
    /// Output pixels of a tile's edge.
    edge: usize,
    /// Tiles of the largest phase, down and across.
    grid: [usize; 2],
}

/// The place of one tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the image.
    pub(super) image: usize,
    /// The first line and pixel of the phase.
    phase: [usize; 2],
    /// The first output line and pixel, counted in the phase.
    first: [usize; 2],
}

impl Tiles {
    /// Tiles of `edge × edge` output pixels.
    pub(super) fn new(geometry: &Geometry, dilation: [usize; 2], edge: usize) -> Tiles {
        let grid = [0, 1].map(|axis| geometry.output[axis].div_ceil(dilation[axis]).div_ceil(edge));
        let phases = [0, 1].map(|axis| dilation[axis].min(geometry.output[axis]));
        Tiles { geometry: *geometry, dilation, phases, edge, grid }
    }

    /// How many there are in all images.
    pub(super) fn count(&self) -> usize {
        self.geometry.batch * self.of_image()
    }

    /// How many there are in one image.
    fn of_image(&self) -> usize {
        self.phases.iter().chain(&self.grid).product()
    }

    /// Where the tile of that index lies.
    pub(super) fn place(&self, index: usize) -> Place {
        let [down, across] = self.grid;
        let (image, of_image) = (index / self.of_image(), index % self.of_image());
        let (phase, of_phase) = (of_image / (down * across), of_image % (down * across));
        Place {
            image,
            phase: [phase / self.phases[1], phase % self.phases[1]],
            first: [of_phase / across * self.edge, of_phase % across * self.edge],
        }
    }

    /// The height and width of what exists of a tile.
    pub(super) fn size(&self, place: Place) -> [usize; 2] {
        [0, 1].map(|axis| {
            let pixels = self.geometry.output[axis].saturating_sub(place.phase[axis]);
            self.edge.min(pixels.div_ceil(self.dilation[axis]).saturating_sub(place.first[axis]))
        })
    }

    /// The index of an output pixel of the tile, counted through all images.
    #[inline(always)]
    pub(super) fn output(&self, place: Place, line: usize, pixel: usize) -> usize {
        let [height, width] = self.geometry.output;
        let [y, x] = self.position(place, line, pixel);
        (place.image * height + y) * width + x
    }

    /// The line and pixel of the whole image that are `line` and `pixel` of the tile.
    #[inline(always)]
    fn position(&self, place: Place, line: usize, pixel: usize) -> [usize; 2] {
        let at =
            |axis: usize, index: usize| place.phase[axis] + (place.first[axis] + index) * self.dilation[axis];
        [at(0, line), at(1, pixel)]
    }

    /// The index of the input pixel under `line` and `pixel` of the tile's patch, counted through all images,
    /// where there is one.
    #[inline(always)]
    pub(super) fn input(&self, place: Place, line: usize, pixel: usize) -> Option<usize> {
        let [height, width] = self.geometry.input;
        // What lies before the image wraps around to the largest numbers.
        let [y, x] = self.position(place, line, pixel);
        let (y, x) = (y.wrapping_sub(self.geometry.padding[0]), x.wrapping_sub(self.geometry.padding[1]));
        (y < height && x < width).then(|| (place.image * height + y) * width + x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::each_case;

    #[test]
    fn every_output_pixel_lies_in_one_tile() {
        let cases = [
            ([1, 1], 4, 1, [1, 1]),
            ([4, 4], 4, 2, [1, 1]),
            ([5, 9], 4, 3, [1, 1]),
            ([7, 3], 2, 2, [1, 1]),
            ([0, 3], 2, 1, [1, 1]),
            ([9, 17], 4, 2, [2, 3]),
            ([3, 4], 2, 1, [5, 4]),
        ];
        each_case(cases, |&(output, edge, batch, dilation)| {
            let geometry =
                Geometry { batch, input: output, output, padding: [1, 1], input_stride: 1, output_stride: 1 };
            let tiles = Tiles::new(&geometry, dilation, edge);
            let mut seen = vec![0; geometry.output_pixels()];
            for place in (0..tiles.count()).map(|index| tiles.place(index)) {
                let [height, width] = tiles.size(place);
                for i in 0..height * width {
                    seen[tiles.output(place, i / width, i % width)] += 1;
                }
                let above = tiles.position(place, 0, 1)[0] == 0;
                if above && tiles.input(place, 0, 1).is_some() {
                    return Err(format!("the line above {place:?}"));
                }
            }
            if seen.iter().all(|&times| times == 1) { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }
}

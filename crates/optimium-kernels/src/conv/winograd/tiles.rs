//! How images are cut into tiles.

use super::super::parameters::Geometry;

/// The tiles of all output images: squares that cover them, the last ones of a line or column only in part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    geometry: Geometry,
    /// Output pixels of a tile's edge.
    edge: usize,
    /// Tiles of an image, down and across.
    grid: [usize; 2],
}

/// The place of one tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the image.
    pub(super) image: usize,
    /// The first output line and pixel.
    pub(super) first: [usize; 2],
}

impl Tiles {
    /// Tiles of `edge × edge` output pixels.
    pub(super) fn new(geometry: &Geometry, edge: usize) -> Tiles {
        Tiles { geometry: *geometry, edge, grid: geometry.output.map(|size| size.div_ceil(edge)) }
    }

    /// How many there are in all images.
    pub(super) fn count(&self) -> usize {
        self.geometry.batch * self.grid[0] * self.grid[1]
    }

    /// Where the tile of that index lies.
    pub(super) fn place(&self, index: usize) -> Place {
        let [down, across] = self.grid;
        let (image, of_image) = (index / (down * across), index % (down * across));
        Place { image, first: [of_image / across * self.edge, of_image % across * self.edge] }
    }

    /// The height and width of what exists of a tile.
    pub(super) fn size(&self, place: Place) -> [usize; 2] {
        [0, 1].map(|axis| self.edge.min(self.geometry.output[axis] - place.first[axis]))
    }

    /// The index of an output pixel of the tile, counted through all images.
    pub(super) fn output(&self, place: Place, line: usize, pixel: usize) -> usize {
        let [height, width] = self.geometry.output;
        (place.image * height + place.first[0] + line) * width + place.first[1] + pixel
    }

    /// The index of the input pixel under `line` and `pixel` of the tile's patch, counted through all images,
    /// where there is one.
    #[inline(always)]
    pub(super) fn input(&self, place: Place, line: usize, pixel: usize) -> Option<usize> {
        let [height, width] = self.geometry.input;
        // What lies before the image wraps around to the largest numbers.
        let y = (place.first[0] + line).wrapping_sub(self.geometry.padding[0]);
        let x = (place.first[1] + pixel).wrapping_sub(self.geometry.padding[1]);
        (y < height && x < width).then_some((place.image * height + y) * width + x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::each_case;

    #[test]
    fn every_output_pixel_lies_in_one_tile() {
        let cases = [([1, 1], 4, 1), ([4, 4], 4, 2), ([5, 9], 4, 3), ([7, 3], 2, 2), ([0, 3], 2, 1)];
        each_case(cases, |&(output, edge, batch)| {
            let geometry =
                Geometry { batch, input: output, output, padding: [1, 1], input_stride: 1, output_stride: 1 };
            let tiles = Tiles::new(&geometry, edge);
            let mut seen = vec![0; geometry.output_pixels()];
            for place in (0..tiles.count()).map(|index| tiles.place(index)) {
                let [height, width] = tiles.size(place);
                for i in 0..height * width {
                    seen[tiles.output(place, i / width, i % width)] += 1;
                }
                let before = tiles.input(place, 0, 1).is_none();
                if before != (place.first[0] == 0) {
                    return Err(format!("the line above {place:?}"));
                }
            }
            if seen.iter().all(|&times| times == 1) { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }
}

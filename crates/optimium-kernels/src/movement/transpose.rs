//! Transposes, and the block moves that are transposes.

use optimium_simd::Level;

use super::strided::{StridedCopy, contiguous_strides};
use crate::{Part, SharedSlice};

/// A permutation of the axes of a row-major tensor.
#[derive(Clone, Debug)]
pub struct Transpose(StridedCopy);

/// Where a pixel's channels come from when blocks become depth and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOrder {
    /// Depth is (block row, block column, channel): ONNX's DCR, and TFLite.
    DepthColumnRow,
    /// Depth is (channel, block row, block column): ONNX's CRD.
    ColumnRowDepth,
}

impl Transpose {
    /// Axis `i` of the result is axis `permutation[i]` of a tensor of that shape.
    ///
    /// # Panics
    /// Where `permutation` is not one of the axes.
    pub fn new(shape: &[usize], permutation: &[usize], element_size: usize) -> Transpose {
        let mut axes = permutation.to_vec();
        axes.sort_unstable();
        assert!(axes.iter().copied().eq(0..shape.len()), "{permutation:?} does not permute {shape:?}");
        let strides = contiguous_strides(shape);
        let result: Vec<usize> = permutation.iter().map(|&axis| shape[axis]).collect();
        let from: Vec<isize> = permutation.iter().map(|&axis| strides[axis]).collect();
        Transpose(StridedCopy::new(&result, &from, &contiguous_strides(&result), element_size))
    }

    /// Channels of an NHWC image moved into blocks of `block × block` pixels; `shape` is the input's.
    ///
    /// # Panics
    /// Where the channels are not a multiple of `block²`.
    pub fn depth_to_space(
        shape: [usize; 4],
        block: usize,
        order: BlockOrder,
        element_size: usize,
    ) -> Transpose {
        let [n, h, w, c] = shape;
        let depth = c / (block * block).max(1);
        assert_eq!(depth * block * block, c, "{c} channels in blocks of {block} x {block}");
        match order {
            BlockOrder::DepthColumnRow => {
                Self::new(&[n, h, w, block, block, depth], &[0, 1, 3, 2, 4, 5], element_size)
            }
            BlockOrder::ColumnRowDepth => {
                Self::new(&[n, h, w, depth, block, block], &[0, 1, 4, 2, 5, 3], element_size)
            }
        }
    }

    /// Blocks of `block × block` pixels of an NHWC image moved into channels; `shape` is the input's.
    ///
    /// # Panics
    /// Where height or width are not multiples of `block`.
    pub fn space_to_depth(
        shape: [usize; 4],
        block: usize,
        order: BlockOrder,
        element_size: usize,
    ) -> Transpose {
        let [n, h, w, c] = shape;
        let (rows, columns) = (h / block.max(1), w / block.max(1));
        assert!(rows * block == h && columns * block == w, "{h} x {w} in blocks of {block}");
        let split = [n, rows, block, columns, block, c];
        match order {
            BlockOrder::DepthColumnRow => Self::new(&split, &[0, 1, 3, 2, 4, 5], element_size),
            BlockOrder::ColumnRowDepth => Self::new(&split, &[0, 1, 3, 5, 2, 4], element_size),
        }
    }

    /// The same transpose with the instructions of `level`.
    pub fn with_level(self, level: Level) -> Transpose {
        Transpose(self.0.with_level(level))
    }

    /// Transposes this part.
    ///
    /// # Panics
    /// Where a slice is shorter than the tensor.
    pub fn run(&self, source: &[u8], destination: SharedSlice<'_, u8>, part: Part) {
        self.0.run(source, 0, destination, 0, part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::each_case;

    fn run(transpose: &Transpose, x: &[u32]) -> Vec<u32> {
        let mut y = vec![0u32; x.len()];
        transpose.run(
            bytemuck::cast_slice(x),
            SharedSlice::new(bytemuck::cast_slice_mut(&mut y)),
            Part::WHOLE,
        );
        y
    }

    #[test]
    fn permutations() {
        let cases = [
            (vec![2, 3, 4], vec![0, 1, 2]),
            (vec![2, 3, 4], vec![2, 1, 0]),
            (vec![2, 3, 4], vec![1, 2, 0]),
            (vec![0, 3, 4], vec![1, 2, 0]),
            (vec![2, 5, 3, 16], vec![0, 2, 1, 3]),
            (vec![2, 17, 3, 18], vec![0, 2, 3, 1]),
            (vec![2, 17, 3, 18], vec![3, 0, 2, 1]),
            (vec![1, 20, 1, 33], vec![0, 3, 2, 1]),
            (vec![1, 20, 65, 67], vec![0, 2, 3, 1]),
            (vec![], vec![]),
        ];
        each_case(cases, |(shape, permutation)| {
            let count: usize = shape.iter().product();
            let x: Vec<u32> = (0..count as u32).collect();
            let result: Vec<usize> = permutation.iter().map(|&axis| shape[axis]).collect();
            let strides = contiguous_strides(shape);
            let expected: Vec<u32> = (0..count)
                .map(|i| {
                    let (mut rest, mut at) = (i, 0);
                    for axis in (0..result.len()).rev() {
                        at += rest % result[axis] * strides[permutation[axis]] as usize;
                        rest /= result[axis];
                    }
                    x[at]
                })
                .collect();
            let y = run(&Transpose::new(shape, permutation, 4), &x);
            if y == expected { Ok(()) } else { Err(format!("{y:?}")) }
        });
    }

    #[test]
    fn blocks_go_to_depth_and_back() {
        let (n, h, w, c, b) = (2, 3, 4, 12, 2);
        let depth = c / (b * b);
        let x: Vec<u32> = (0..(n * h * w * c) as u32).collect();
        for order in [BlockOrder::DepthColumnRow, BlockOrder::ColumnRowDepth] {
            let y = run(&Transpose::depth_to_space([n, h, w, c], b, order, 4), &x);
            for (i, &value) in y.iter().enumerate() {
                let (channel, column) = (i % depth, i / depth % (w * b));
                let (row, image) = (i / depth / (w * b) % (h * b), i / depth / (w * b) / (h * b));
                let (block_row, block_column) = (row % b, column % b);
                let from = match order {
                    BlockOrder::DepthColumnRow => (block_row * b + block_column) * depth + channel,
                    BlockOrder::ColumnRowDepth => (channel * b + block_row) * b + block_column,
                };
                let pixel = (image * h + row / b) * w + column / b;
                assert_eq!(value, x[pixel * c + from], "{order:?} at {i}");
            }
            let back = Transpose::space_to_depth([n, h * b, w * b, depth], b, order, 4);
            assert_eq!(run(&back, &y), x, "{order:?}");
        }
    }
}

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

    /// From `[n, c, h, w]` to `[n, h, w, c]`, with all pixels as one axis.
    pub fn to_channels_last(batch: usize, channels: usize, pixels: usize, element_size: usize) -> Transpose {
        Self::new(&[batch, channels, pixels], &[0, 2, 1], element_size)
    }

    /// From `[n, h, w, c]` to `[n, c, h, w]`, with all pixels as one axis.
    pub fn to_channels_first(batch: usize, channels: usize, pixels: usize, element_size: usize) -> Transpose {
        Self::new(&[batch, pixels, channels], &[0, 2, 1], element_size)
    }

    /// Channels of an NHWC image moved into blocks of `block × block` pixels; `shape` is the input's.
    ///
    /// # Panics
    /// Where the channels are not a multiple of `block²`.
    pub fn depth_to_space(shape: [usize; 4], block: usize, order: BlockOrder, element_size: usize) -> Transpose {
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
    pub fn space_to_depth(shape: [usize; 4], block: usize, order: BlockOrder, element_size: usize) -> Transpose {
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

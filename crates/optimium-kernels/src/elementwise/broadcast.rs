//! How the elements of broadcast operands meet, with as few dimensions as the strides allow.

use std::ops::Range;

use super::Source;
use crate::SharedSlice;

/// Where the `N` operands' elements lie for each element of a contiguous output.
///
/// It is made once for given shapes; dimensions that all operands walk alike are merged then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast<const N: usize = 2> {
    /// From the outermost to the innermost, at least two.
    dimensions: Vec<Dimension<N>>,
    length: usize,
    operands: [Operand; N],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dimension<const N: usize> {
    size: usize,
    strides: [usize; N],
}

/// What is known of one operand as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operand {
    /// Elements that it must have.
    reach: usize,
    /// Whether its elements lie as the output's do.
    is_contiguous: bool,
}

/// A rectangle of output elements, contiguous in the output, and where its operands lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plane<const N: usize> {
    /// The first output element.
    pub(super) output: usize,
    /// Number of rows.
    pub(super) rows: usize,
    /// Elements of a row.
    pub(super) columns: usize,
    /// The operands' first elements.
    pub(super) offsets: [usize; N],
    /// The operands' steps from row to row.
    pub(super) row_strides: [usize; N],
    /// The operands' steps from column to column.
    pub(super) strides: [usize; N],
}

/// The strides with which a contiguous tensor of `shape` is read as one of `output`: 0 where it is
/// repeated. `None` where NumPy's rules do not allow it.
pub fn broadcast_strides(shape: &[usize], output: &[usize]) -> Option<Vec<usize>> {
    let missing = output.len().checked_sub(shape.len())?;
    let mut strides = vec![0; output.len()];
    let mut stride = 1;
    for (i, &size) in shape.iter().enumerate().rev() {
        if size == output[missing + i] {
            strides[missing + i] = if size == 1 { 0 } else { stride };
        } else if size != 1 {
            return None;
        }
        stride *= size;
    }
    Some(strides)
}

impl Broadcast<2> {
    /// Two operands, with their strides for each dimension of `output_shape`: 0 where they are repeated.
    ///
    /// # Panics
    /// Where there is not one stride for each dimension.
    pub fn new(output_shape: &[usize], a_strides: &[usize], b_strides: &[usize]) -> Self {
        Self::of(output_shape, [a_strides, b_strides])
    }
}

impl<const N: usize> Broadcast<N> {
    /// `N` operands, with their strides for each dimension of `output_shape`.
    ///
    /// # Panics
    /// Where there is not one stride for each dimension.
    pub fn of(output_shape: &[usize], strides: [&[usize]; N]) -> Self {
        let fits = strides.iter().all(|strides| strides.len() == output_shape.len());
        assert!(fits, "strides {strides:?} for the dimensions {output_shape:?}");
        let length = output_shape.iter().product();
        let mut dimensions: Vec<Dimension<N>> = Vec::with_capacity(output_shape.len().max(2));
        for (i, &size) in output_shape.iter().enumerate().filter(|&(_, &size)| size != 1) {
            let next = Dimension { size, strides: strides.map(|strides| strides[i]) };
            match dimensions.last_mut() {
                Some(last) if (0..N).all(|k| last.strides[k] == next.strides[k] * size) => {
                    *last = Dimension { size: last.size * size, strides: next.strides };
                }
                _ => dimensions.push(next),
            }
        }
        while dimensions.len() < 2 {
            dimensions.insert(0, Dimension { size: 1, strides: [0; N] });
        }
        let operands = std::array::from_fn(|k| Operand::new(&dimensions, k));
        Broadcast { dimensions, length, operands }
    }

    /// Number of output elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no output element.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Checks that the operand's elements exist, and that it lies apart from the output or coincides
    /// with it element by element.
    ///
    /// # Panics
    /// Where that is not so.
    pub(super) fn check<T, U>(&self, operand: usize, x: Source<'_, T>, y: SharedSlice<'_, U>) {
        let Operand { reach, is_contiguous } = self.operands[operand];
        assert!(self.length == y.len(), "an output of {} elements, {} expected", y.len(), self.length);
        let reach = if self.length == 0 { 0 } else { reach };
        assert!(reach <= x.len(), "operand {operand} has {} elements, {reach} are read", x.len());
        if is_contiguous && x.as_ptr().addr() == y.as_mut_ptr().addr() {
            assert!(size_of::<T>() == size_of::<U>(), "in place with another size of element");
        } else {
            assert!(!x.overlaps(y), "operand {operand} overlaps the output");
        }
    }

    /// Rectangles that cover the output elements of `range`, in their order.
    #[inline(always)]
    pub(super) fn planes(&self, range: Range<usize>) -> Planes<'_, N> {
        Planes { dimensions: &self.dimensions, range }
    }
}

/// See [`Broadcast::planes`].
pub(super) struct Planes<'a, const N: usize> {
    dimensions: &'a [Dimension<N>],
    range: Range<usize>,
}

impl<const N: usize> Iterator for Planes<'_, N> {
    type Item = Plane<N>;
    #[inline(always)]
    fn next(&mut self) -> Option<Plane<N>> {
        let [outer @ .., row, column] = self.dimensions else { return None };
        if self.range.is_empty() {
            return None;
        }
        let position = self.range.start;
        let (row_index, column_index) = (position / column.size, position % column.size);
        let left = self.range.len();
        // Whole rows together, up to the end of the two innermost dimensions; cut rows alone.
        let (rows, columns) = if column_index == 0 && left >= column.size {
            ((row.size - row_index % row.size).min(left / column.size), column.size)
        } else {
            (1, left.min(column.size - column_index))
        };
        let mut rest = row_index / row.size;
        let mut offsets =
            std::array::from_fn(|k| row_index % row.size * row.strides[k] + column_index * column.strides[k]);
        for dimension in outer.iter().rev() {
            let index = rest % dimension.size;
            rest /= dimension.size;
            for (offset, stride) in offsets.iter_mut().zip(dimension.strides) {
                *offset += index * stride;
            }
        }
        self.range.start += rows * columns;
        let (row_strides, strides) = (row.strides, column.strides);
        Some(Plane { output: position, rows, columns, offsets, row_strides, strides })
    }
}

impl Operand {
    fn new<const N: usize>(dimensions: &[Dimension<N>], k: usize) -> Operand {
        let reach = |d: &Dimension<N>| d.size.saturating_sub(1).saturating_mul(d.strides[k]);
        let reach = dimensions.iter().map(reach).fold(1usize, usize::saturating_add);
        let mut stride = 1;
        let mut is_contiguous = true;
        for dimension in dimensions.iter().rev().filter(|dimension| dimension.size != 1) {
            is_contiguous &= dimension.strides[k] == stride;
            stride *= dimension.size;
        }
        Operand { reach, is_contiguous }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_merge_where_all_operands_agree() {
        let cases: [(&[usize], &[usize], &[usize], usize); 6] = [
            (&[2, 3, 4], &[12, 4, 1], &[12, 4, 1], 2),
            (&[2, 3, 4], &[12, 4, 1], &[0, 0, 1], 2),
            (&[2, 3, 4], &[12, 4, 1], &[0, 1, 0], 3),
            (&[2, 1, 4], &[4, 4, 1], &[4, 0, 1], 2),
            (&[2, 3, 4, 5], &[60, 20, 5, 1], &[0, 5, 0, 1], 4),
            (&[], &[], &[], 2),
        ];
        for (shape, a, b, count) in cases {
            assert_eq!(Broadcast::new(shape, a, b).dimensions.len(), count, "{shape:?}");
        }
    }

    #[test]
    fn strides_follow_numpy() {
        assert_eq!(broadcast_strides(&[3, 1], &[2, 3, 4]), Some(vec![0, 1, 0]));
        assert_eq!(broadcast_strides(&[2, 3, 4], &[2, 3, 4]), Some(vec![12, 4, 1]));
        assert_eq!(broadcast_strides(&[], &[2]), Some(vec![0]));
        assert_eq!(broadcast_strides(&[2], &[3]), None);
        assert_eq!(broadcast_strides(&[2, 3], &[3]), None);
        assert_eq!(broadcast_strides(&[1], &[0]), Some(vec![0]));
    }

    #[test]
    fn planes_cover_every_element_in_order() {
        let broadcast = Broadcast::new(&[2, 3, 4, 5], &[60, 20, 5, 1], &[0, 5, 0, 1]);
        for start in 0..120 {
            for end in start..120 {
                let mut next = start;
                for plane in broadcast.planes(start..end) {
                    assert_eq!(plane.output, next);
                    assert_eq!(plane.offsets[0], next);
                    assert_eq!(plane.offsets[1], next / 20 % 3 * 5 + next % 5);
                    next += plane.rows * plane.columns;
                }
                assert_eq!(next, end);
            }
        }
    }
}

//! Which elements meet in which result.

use std::ops::Range;

/// A contiguous tensor's dimensions, those that are kept and those that are reduced, with neighbours of
/// one kind merged. It is made once for given shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    pub(super) kept: Vec<Dimension>,
    pub(super) reduced: Vec<Dimension>,
    inputs: usize,
    outputs: usize,
    count: usize,
    inner_is_kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dimension {
    pub(super) size: usize,
    pub(super) stride: usize,
}

impl Reduce {
    /// A tensor of that shape, reduced over those axes; the result has the others, in their order.
    ///
    /// # Panics
    /// Where an axis is not below the rank.
    pub fn new(shape: &[usize], axes: &[usize]) -> Reduce {
        assert!(axes.iter().all(|&axis| axis < shape.len()), "axes {axes:?} of the dimensions {shape:?}");
        let is_kept = |axis: &usize| !axes.contains(axis);
        let size_where = |kept: bool| -> usize {
            (0..shape.len()).filter(|axis| is_kept(axis) == kept).map(|axis| shape[axis]).product()
        };
        let (mut kept, mut reduced) = (Vec::new(), Vec::new());
        let mut stride = 1;
        let mut last = None;
        // From the innermost out: neighbours of the same kind become one.
        for axis in (0..shape.len()).rev().filter(|&axis| shape[axis] != 1) {
            let dimensions: &mut Vec<Dimension> = if is_kept(&axis) { &mut kept } else { &mut reduced };
            match dimensions.last_mut() {
                Some(inner) if last == Some(is_kept(&axis)) => inner.size *= shape[axis],
                _ => dimensions.push(Dimension { size: shape[axis], stride }),
            }
            last = Some(is_kept(&axis));
            stride *= shape[axis];
        }
        kept.reverse();
        reduced.reverse();
        let innermost = |dimensions: &[Dimension]| dimensions.last().is_some_and(|d| d.stride == 1);
        Reduce {
            inner_is_kept: innermost(&kept) && !innermost(&reduced),
            kept,
            reduced,
            inputs: shape.iter().product(),
            outputs: size_where(true),
            count: size_where(false),
        }
    }

    /// Number of elements that are read.
    pub fn input_len(&self) -> usize {
        self.inputs
    }

    /// Number of results.
    pub fn output_len(&self) -> usize {
        self.outputs
    }

    /// Number of elements that meet in each result.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether neighbouring elements belong to neighbouring results, and not to one.
    pub(super) fn inner_is_kept(&self) -> bool {
        self.inner_is_kept
    }

    /// Checks the lengths of input and output.
    ///
    /// # Panics
    /// Where they are others.
    pub(super) fn check(&self, inputs: usize, outputs: usize) {
        let fits = inputs == self.inputs && outputs == self.outputs;
        assert!(fits, "{inputs} elements to {outputs} results, expected {} to {}", self.inputs, self.outputs);
    }
}

/// The offset of element `index` of those dimensions, counted with the last one fastest.
#[inline(always)]
pub(super) fn offset_of(dimensions: &[Dimension], mut index: usize) -> usize {
    let mut offset = 0;
    for dimension in dimensions.iter().rev() {
        offset += index % dimension.size * dimension.stride;
        index /= dimension.size;
    }
    offset
}

/// The run of the innermost of those dimensions (one element where there is none), and the others.
pub(super) fn split_innermost(dimensions: &[Dimension]) -> (&[Dimension], Dimension) {
    match dimensions {
        [outer @ .., inner] => (outer, *inner),
        [] => (dimensions, Dimension { size: 1, stride: 1 }),
    }
}

/// Number of elements of those dimensions.
pub(super) fn size_of_all(dimensions: &[Dimension]) -> usize {
    dimensions.iter().map(|d| d.size).product()
}

/// The runs of `range` within rows of `columns`: the row of each, and its range of columns.
#[inline(always)]
pub(crate) fn runs(range: Range<usize>, columns: usize) -> Runs {
    Runs { range, columns }
}

/// See [`runs`].
pub(crate) struct Runs {
    range: Range<usize>,
    columns: usize,
}

impl Iterator for Runs {
    type Item = (usize, Range<usize>);
    #[inline(always)]
    fn next(&mut self) -> Option<(usize, Range<usize>)> {
        if self.range.is_empty() {
            return None;
        }
        let (row, column) = (self.range.start / self.columns, self.range.start % self.columns);
        let n = (self.columns - column).min(self.range.len());
        self.range.start += n;
        Some((row, column..column + n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_kind_merge() {
        let cases: [(&[usize], &[usize], usize, usize, bool); 7] = [
            (&[2, 3, 4, 5], &[2, 3], 1, 1, false),
            (&[2, 3, 4, 5], &[1, 2], 2, 1, true),
            (&[2, 3, 4, 5], &[0, 2], 2, 2, true),
            (&[2, 3, 1, 5], &[1, 3], 1, 1, false),
            (&[2, 3], &[], 1, 0, true),
            (&[2, 3], &[0, 1], 0, 1, false),
            (&[], &[], 0, 0, false),
        ];
        for (shape, axes, kept, reduced, inner) in cases {
            let plan = Reduce::new(shape, axes);
            assert_eq!((plan.kept.len(), plan.reduced.len()), (kept, reduced), "{shape:?} {axes:?}");
            assert_eq!(plan.inner_is_kept(), inner, "{shape:?} {axes:?}");
        }
    }
}

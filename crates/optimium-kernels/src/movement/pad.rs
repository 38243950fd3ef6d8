//! Padding and cropping.

use super::strided::{StridedCopy, contiguous_strides};
use crate::{Part, SharedSlice};

/// What padding holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PadMode {
    /// One value.
    #[default]
    Constant,
    /// The tensor mirrored at its first and last element, which are not repeated.
    Reflect,
    /// The nearest element.
    Edge,
    /// The tensor again.
    Wrap,
}

/// Elements added around a row-major tensor, or taken off where the count is negative.
#[derive(Clone, Debug)]
pub struct Pad {
    copies: Vec<Region>,
    element_size: usize,
}

/// A box of the result that is one copy.
#[derive(Clone, Debug)]
struct Region {
    copy: StridedCopy,
    /// Where its first element lies in the source; none where it holds the constant.
    source: Option<usize>,
    destination: usize,
}

/// A run of positions of the result along one axis, `step` apart in the source.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: usize,
    count: usize,
    source: usize,
    step: isize,
}

impl Pad {
    /// Pads a tensor of `shape` with `begin[axis]` elements before and `end[axis]` after each axis.
    ///
    /// # Panics
    /// Where the counts are not one an axis, a result would have a negative size, or an empty axis is
    /// padded with elements that it does not have.
    pub fn new(shape: &[usize], begin: &[isize], end: &[isize], mode: PadMode, element_size: usize) -> Pad {
        assert!(
            begin.len() == shape.len() && end.len() == shape.len(),
            "pads {begin:?} {end:?} of {shape:?}"
        );
        let result: Vec<usize> = (0..shape.len())
            .map(|axis| {
                usize::try_from(shape[axis] as isize + begin[axis] + end[axis]).expect("a negative size")
            })
            .collect();
        let mut pad = Pad { copies: Vec::new(), element_size };
        if result.contains(&0) {
            return pad;
        }
        match mode {
            PadMode::Constant => pad.add_constant(shape, begin, &result),
            _ => pad.add_mapped(shape, begin, &result, mode),
        }
        pad
    }

    /// Slabs of the constant before and after each axis, each within what the axes before it left.
    fn add_constant(&mut self, shape: &[usize], begin: &[isize], result: &[usize]) {
        let strides = contiguous_strides(result);
        let (mut from, mut size) = (vec![0usize; shape.len()], result.to_vec());
        for axis in 0..shape.len() {
            let low = begin[axis].max(0).min(result[axis] as isize) as usize;
            let high =
                (begin[axis] + shape[axis] as isize).clamp(low as isize, result[axis] as isize) as usize;
            for (first, end) in [(0, low), (high, result[axis])] {
                let (mut slab_from, mut slab) = (from.clone(), size.clone());
                (slab_from[axis], slab[axis]) = (first, end - first);
                self.add(&slab, None, &vec![0; shape.len()], position(&slab_from, &strides), &strides);
            }
            (from[axis], size[axis]) = (low, high - low);
        }
        let origin: Vec<usize> =
            (0..shape.len()).map(|axis| (from[axis] as isize - begin[axis]).max(0) as usize).collect();
        let source_strides = contiguous_strides(shape);
        let source = Some(position(&origin, &source_strides));
        self.add(&size, source, &source_strides, position(&from, &strides), &strides);
    }

    /// All combinations of each axis' runs.
    fn add_mapped(&mut self, shape: &[usize], begin: &[isize], result: &[usize], mode: PadMode) {
        let (strides, source_strides) = (contiguous_strides(result), contiguous_strides(shape));
        let runs: Vec<Vec<Run>> =
            (0..shape.len()).map(|axis| axis_runs(shape[axis], begin[axis], result[axis], mode)).collect();
        let combinations: usize = runs.iter().map(Vec::len).product();
        for combination in 0..combinations {
            let mut rest = combination;
            let chosen: Vec<Run> = runs
                .iter()
                .map(|axis| {
                    let run = axis[rest % axis.len()];
                    rest /= axis.len();
                    run
                })
                .collect();
            let size: Vec<usize> = chosen.iter().map(|run| run.count).collect();
            let source: Vec<usize> = chosen.iter().map(|run| run.source).collect();
            let first: Vec<usize> = chosen.iter().map(|run| run.first).collect();
            let steps: Vec<isize> = chosen.iter().zip(&source_strides).map(|(run, s)| run.step * s).collect();
            let source = Some(position(&source, &source_strides));
            self.add(&size, source, &steps, position(&first, &strides), &strides);
        }
    }

    fn add(
        &mut self,
        size: &[usize],
        source: Option<usize>,
        source_strides: &[isize],
        destination: usize,
        strides: &[isize],
    ) {
        if !size.contains(&0) {
            let copy = StridedCopy::new(size, source_strides, strides, self.element_size);
            self.copies.push(Region { copy, source, destination });
        }
    }

    /// Pads this part; `constant` is one element, used by [`PadMode::Constant`].
    ///
    /// # Panics
    /// Where a slice is shorter than its tensor.
    pub fn run(&self, source: &[u8], constant: &[u8], destination: SharedSlice<'_, u8>, part: Part) {
        for region in &self.copies {
            match region.source {
                Some(offset) => region.copy.run(source, offset, destination, region.destination, part),
                None => region.copy.run(constant, 0, destination, region.destination, part),
            }
        }
    }
}

fn position(index: &[usize], strides: &[isize]) -> usize {
    index.iter().zip(strides).map(|(&i, &stride)| i * stride as usize).sum()
}

/// The runs that make up one axis of the result.
fn axis_runs(size: usize, begin: isize, result: usize, mode: PadMode) -> Vec<Run> {
    assert!(size > 0, "an empty axis has no elements to pad with");
    let mut runs: Vec<Run> = Vec::new();
    for i in 0..result {
        let source = source_position(i as isize - begin, size as isize, mode) as usize;
        let extended = runs.last_mut().is_some_and(|run| {
            let step = source as isize - (run.source as isize + run.step * (run.count as isize - 1));
            let fits = step.abs() <= 1 && (run.count == 1 || step == run.step);
            if fits {
                run.step = step;
                run.count += 1;
            }
            fits
        });
        if !extended {
            runs.push(Run { first: i, count: 1, source, step: 1 });
        }
    }
    runs
}

fn source_position(i: isize, size: isize, mode: PadMode) -> isize {
    match mode {
        PadMode::Constant | PadMode::Edge => i.clamp(0, size - 1),
        PadMode::Wrap => i.rem_euclid(size),
        PadMode::Reflect => {
            let period = (2 * (size - 1)).max(1);
            let i = i.rem_euclid(period);
            i.min((period - i).min(size - 1)).max(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::each_case;

    #[test]
    fn modes_and_signs() {
        let shapes: [(&[usize], &[isize], &[isize]); 8] = [
            (&[5], &[2], &[3]),
            (&[5], &[-1], &[2]),
            (&[4, 5], &[1, 2], &[2, 0]),
            (&[4, 5], &[-1, 3], &[-2, -3]),
            (&[4, 5], &[-4, 0], &[1, 0]),
            (&[2, 3, 4, 3], &[0, 1, 1, 0], &[0, 1, 2, 0]),
            (&[3, 1], &[2, 0], &[7, 0]),
            (&[2, 3], &[-2, 0], &[0, 0]),
        ];
        let modes = [PadMode::Constant, PadMode::Reflect, PadMode::Edge, PadMode::Wrap];
        let cases = shapes.iter().flat_map(|&(s, b, e)| modes.map(|mode| (s, b, e, mode)));
        each_case(cases, |&(shape, begin, end, mode)| {
            let x: Vec<u8> = (1..=shape.iter().product::<usize>() as u8).collect();
            let result: Vec<usize> =
                (0..shape.len()).map(|i| (shape[i] as isize + begin[i] + end[i]) as usize).collect();
            let expected: Vec<u8> = (0..result.iter().product())
                .map(|i| {
                    let (mut rest, mut at, mut stride, mut inside) = (i, 0, 1, true);
                    for axis in (0..shape.len()).rev() {
                        let size = shape[axis] as isize;
                        let position = (rest % result[axis]) as isize - begin[axis];
                        rest /= result[axis];
                        inside &= mode != PadMode::Constant || (0..size).contains(&position);
                        at += naive_position(position, size, mode) * stride;
                        stride *= size;
                    }
                    if inside { x[at as usize] } else { 77 }
                })
                .collect();
            let pad = Pad::new(shape, begin, end, mode, 1);
            for count in 1..4 {
                let mut y = vec![0; expected.len()];
                for index in 0..count {
                    pad.run(&x, &[77], SharedSlice::new(&mut y), Part { index, count });
                }
                if y != expected {
                    return Err(format!("{y:?} instead of {expected:?}"));
                }
            }
            Ok(())
        });
    }

    /// The position inside of the tensor, found step by step.
    fn naive_position(mut position: isize, size: isize, mode: PadMode) -> isize {
        while !(0..size).contains(&position) {
            position = match mode {
                PadMode::Constant | PadMode::Edge => position.clamp(0, size - 1),
                PadMode::Wrap if position < 0 => position + size,
                PadMode::Wrap => position - size,
                PadMode::Reflect if size == 1 => 0,
                PadMode::Reflect if position < 0 => -position,
                PadMode::Reflect => 2 * (size - 1) - position,
            };
        }
        position
    }
}

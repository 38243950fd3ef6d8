//! Copies between two strided layouts of one shape.

use optimium_simd::Level;

use super::copy_loops::{self, Lanes, Plane};
use super::interleave::{Interleave, MOST_ROWS};
use crate::elementwise::Source;
use crate::{Part, SharedSlice};

/// A copy from one strided layout to another: slices with any steps, broadcasts, parts of a
/// concatenation, tiles, transposes.
///
/// It is made once for a shape. Axes are merged where both layouts allow it, ordered by the
/// destination, and the innermost loop becomes a memory copy, a fill, or a blocked transpose.
#[derive(Clone, Debug)]
pub struct StridedCopy {
    /// The outer axes, outermost first.
    axes: Vec<Axis>,
    inner: Inner,
    source: Span,
    destination: Span,
    element_size: usize,
    level: Level,
}

/// Bytes of the longest line that is made once and written everywhere.
const LONGEST_FILL: usize = 64;

/// One axis of a copy; steps in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    count: usize,
    source: isize,
    destination: isize,
}

/// What is done at each position of the outer axes.
#[derive(Clone, Copy, Debug)]
enum Inner {
    /// There is no element at all.
    Nothing,
    /// A run of that many bytes is copied.
    Run(usize),
    /// One axis of elements of `unit` bytes.
    Line { unit: usize, axis: Axis },
    /// Two axes of elements of `unit` bytes: the destination is contiguous along `across`, the source
    /// along `along`.
    Plane { unit: usize, along: Axis, across: Axis },
}

/// The bytes that a layout touches, relative to its first element.
#[derive(Clone, Copy, Debug)]
struct Span {
    low: i128,
    high: i128,
}

/// The strides, in elements, of a row-major tensor of that shape.
pub fn contiguous_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1) as isize);
    }
    strides
}

impl StridedCopy {
    /// A copy of `shape` elements of `element_size` bytes, strides in elements.
    ///
    /// # Panics
    /// Where the numbers of axes differ, the element size is zero, or two positions may share a
    /// destination.
    pub fn new(
        shape: &[usize],
        source_strides: &[isize],
        destination_strides: &[isize],
        element_size: usize,
    ) -> StridedCopy {
        assert!(element_size > 0, "elements of zero bytes");
        assert!(
            shape.len() == source_strides.len() && shape.len() == destination_strides.len(),
            "{} axes with {} and {} strides",
            shape.len(),
            source_strides.len(),
            destination_strides.len()
        );
        let size = element_size as isize;
        let axes: Vec<Axis> = (0..shape.len())
            .map(|i| Axis {
                count: shape[i],
                source: source_strides[i] * size,
                destination: destination_strides[i] * size,
            })
            .collect();
        Self::of_axes(axes, element_size)
    }

    fn of_axes(mut axes: Vec<Axis>, element_size: usize) -> StridedCopy {
        let empty = axes.iter().any(|axis| axis.count == 0);
        axes.retain(|axis| axis.count > 1);
        axes.sort_by_key(|axis| std::cmp::Reverse(axis.destination.unsigned_abs()));
        let source = Span::of(axes.iter().map(|axis| (axis.count, axis.source)), element_size);
        let destination = Span::of(axes.iter().map(|axis| (axis.count, axis.destination)), element_size);
        let inner = if empty {
            axes.clear();
            Inner::Nothing
        } else {
            assert_disjoint(&axes, element_size);
            merge(&mut axes);
            take_inner(&mut axes, element_size)
        };
        StridedCopy { axes, inner, source, destination, element_size, level: Level::best() }
    }

    /// The same copy with the instructions of `level`.
    pub fn with_level(mut self, level: Level) -> StridedCopy {
        self.level = level;
        self
    }

    /// The part `starts..`, `steps` apart, `shape` elements along each axis, of a row-major tensor of
    /// shape `source`, into a row-major tensor. Give [`run`](Self::run) the returned offset.
    pub fn slice(
        source: &[usize],
        starts: &[usize],
        steps: &[isize],
        shape: &[usize],
        element_size: usize,
    ) -> (StridedCopy, usize) {
        let strides = contiguous_strides(source);
        let offset = starts.iter().zip(&strides).map(|(&start, &stride)| start * stride as usize).sum();
        let stepped: Vec<isize> = steps.iter().zip(&strides).map(|(&step, &stride)| step * stride).collect();
        (Self::new(shape, &stepped, &contiguous_strides(shape), element_size), offset)
    }

    /// A row-major tensor of shape `source` broadcast to `shape`, by the rules of numpy.
    ///
    /// # Panics
    /// Where `source` does not broadcast to `shape`.
    pub fn expand(source: &[usize], shape: &[usize], element_size: usize) -> StridedCopy {
        assert!(source.len() <= shape.len(), "{source:?} does not broadcast to {shape:?}");
        let lead = shape.len() - source.len();
        let own = contiguous_strides(source);
        let mut strides = vec![0; shape.len()];
        for (axis, &count) in source.iter().enumerate() {
            assert!(count == 1 || count == shape[lead + axis], "{source:?} does not broadcast to {shape:?}");
            strides[lead + axis] = if count == 1 { 0 } else { own[axis] };
        }
        Self::new(shape, &strides, &contiguous_strides(shape), element_size)
    }

    /// A row-major tensor of shape `source` repeated `repeats` times along each axis.
    ///
    /// # Panics
    /// Where there is not one repeat an axis.
    pub fn tile(source: &[usize], repeats: &[usize], element_size: usize) -> StridedCopy {
        assert_eq!(source.len(), repeats.len(), "one repeat an axis");
        let result: Vec<usize> = source.iter().zip(repeats).map(|(&n, &r)| n * r).collect();
        let (from, to) = (contiguous_strides(source), contiguous_strides(&result));
        let (mut shape, mut from_tiled, mut to_tiled) = (Vec::new(), Vec::new(), Vec::new());
        for axis in 0..source.len() {
            shape.extend([repeats[axis], source[axis]]);
            from_tiled.extend([0, from[axis]]);
            to_tiled.extend([to[axis] * source[axis] as isize, to[axis]]);
        }
        Self::new(&shape, &from_tiled, &to_tiled, element_size)
    }

    /// Copies this part; offsets, in elements, say where the element of index zero lies.
    ///
    /// # Panics
    /// Where an element lies outside its slice.
    pub fn run(
        &self,
        source: &[u8],
        source_offset: usize,
        destination: SharedSlice<'_, u8>,
        destination_offset: usize,
        part: Part,
    ) {
        self.run_between(source.into(), source_offset, destination, destination_offset, part);
    }

    /// As [`run`](Self::run), where elements of the source may lie between those that are written.
    ///
    /// # Panics
    /// As there.
    pub fn run_between(
        &self,
        source: Source<'_, u8>,
        source_offset: usize,
        destination: SharedSlice<'_, u8>,
        destination_offset: usize,
        part: Part,
    ) {
        if matches!(self.inner, Inner::Nothing) {
            return;
        }
        let from = self.source.checked(source_offset, self.element_size, source.len(), "source");
        let to =
            self.destination.checked(destination_offset, self.element_size, destination.len(), "destination");
        // SAFETY: every byte that the copy reads and writes lies within the slices by the checks above, and
        // no two positions share a destination by the check at construction, so parts write disjointly.
        unsafe { self.run_at(source.as_ptr().add(from), destination.as_mut_ptr().add(to), part) }
    }

    /// # Safety
    /// `from` and `to` are the addresses of the element of index zero, and all others are in bounds.
    unsafe fn run_at(&self, from: *const u8, to: *mut u8, part: Part) {
        let outer: usize = self.axes.iter().map(|axis| axis.count).product();
        // SAFETY: positions and inner ranges are within the copy's own shape.
        unsafe {
            match self.inner {
                Inner::Nothing => {}
                Inner::Run(bytes) => {
                    let (rows, run) = share(part, outer, bytes, 4096, 64);
                    let (from, to, bytes) = (from.add(run.start), to.add(run.start), run.len());
                    self.each_position(rows, |s, d| {
                        copy_loops::copy_run(from.offset(s), to.offset(d), bytes)
                    });
                }
                Inner::Line { unit, axis } if let Some(bytes) = self.filled(unit, axis) => {
                    let mut line = [0u8; LONGEST_FILL];
                    let lanes = Lanes { count: axis.count, source: 0, destination: unit as isize };
                    copy_loops::copy_line(self.level, unit, from, line.as_mut_ptr(), lanes);
                    self.each_position(part.range(outer), |_, d| {
                        copy_loops::copy_run(line.as_ptr(), to.offset(d), bytes);
                    });
                }
                Inner::Line { unit, axis } => {
                    let (rows, run) = share(part, outer, axis.count, 1024, 64);
                    let (from, to) = (axis.source_at(from, run.start), axis.destination_at(to, run.start));
                    let lanes =
                        Lanes { count: run.len(), source: axis.source, destination: axis.destination };
                    self.each_position(rows, |s, d| {
                        copy_loops::copy_line(self.level, unit, from.offset(s), to.offset(d), lanes);
                    });
                }
                Inner::Plane { along, .. } if let Some(shape) = self.interleaved(from, to) => {
                    let (rows, run) = share(part, outer, along.count, 256, 64);
                    let [source, destination] = shape.steps.map(|step| step * rows.start as isize);
                    let (from, to) = (along.source_at(from, run.start), along.destination_at(to, run.start));
                    let shape = Interleave { length: run.len(), positions: rows.len(), ..shape };
                    shape.run(self.level, from.wrapping_offset(source), to.wrapping_offset(destination));
                }
                Inner::Plane { unit, along, across } => {
                    // Strips of rows of the destination are shared out with the outer positions.
                    let strip = copy_loops::strip(along.count, across.count);
                    let strips = along.count.div_ceil(strip);
                    for item in part.range(outer * strips) {
                        let (position, first) = (item / strips, item % strips * strip);
                        let plane = Plane {
                            along: strip.min(along.count - first),
                            across: across.count,
                            source: across.source,
                            destination: along.destination,
                        };
                        let (from, to) = (along.source_at(from, first), along.destination_at(to, first));
                        self.each_position(position..position + 1, |s, d| {
                            copy_loops::copy_plane(self.level, unit, from.offset(s), to.offset(d), plane);
                        });
                    }
                }
            }
        }
    }

    /// The bytes of a line, where all of the copy is one element in short lines.
    fn filled(&self, unit: usize, axis: Axis) -> Option<usize> {
        let one = self.axes.iter().chain([&axis]).all(|axis| axis.source == 0);
        let bytes = unit * axis.count;
        (one && axis.destination == unit as isize && bytes <= LONGEST_FILL).then_some(bytes)
    }

    /// The whole copy as rows that are interleaved, where that is what it is at these addresses.
    fn interleaved(&self, from: *const u8, to: *mut u8) -> Option<Interleave> {
        let Inner::Plane { unit: 4, along, across } = self.inner else { return None };
        let [outer] = match self.axes[..] {
            [] => [Axis { count: 1, source: 0, destination: 0 }],
            [axis] => [axis],
            _ => return None,
        };
        let steps = [outer.source, outer.destination, across.source];
        let words = steps.iter().all(|step| step % 4 == 0)
            && from.addr().is_multiple_of(4)
            && to.addr().is_multiple_of(4);
        let dense = along.destination == 4 * across.count as isize;
        ((2..=MOST_ROWS).contains(&across.count) && dense && words).then_some(Interleave {
            rows: across.count,
            length: along.count,
            row_step: across.source,
            positions: outer.count,
            steps: [outer.source, outer.destination],
        })
    }

    /// Calls `copy` with the byte offsets in source and destination of each of those positions.
    #[inline(always)]
    fn each_position(&self, positions: std::ops::Range<usize>, mut copy: impl FnMut(isize, isize)) {
        let Some((last, outer)) = self.axes.split_last() else {
            if !positions.is_empty() {
                copy(0, 0);
            }
            return;
        };
        let mut at = positions.start;
        while at < positions.end {
            let (mut rest, first) = (at / last.count, at % last.count);
            let (mut source, mut destination) =
                (first as isize * last.source, first as isize * last.destination);
            for axis in outer.iter().rev() {
                let index = (rest % axis.count) as isize;
                rest /= axis.count;
                source += index * axis.source;
                destination += index * axis.destination;
            }
            let steps = (last.count - first).min(positions.end - at);
            for _ in 0..steps {
                copy(source, destination);
                source += last.source;
                destination += last.destination;
            }
            at += steps;
        }
    }
}

impl Axis {
    /// # Safety
    /// The position is within the axis of a checked copy.
    unsafe fn source_at(self, from: *const u8, index: usize) -> *const u8 {
        // SAFETY: by the caller's promise.
        unsafe { from.offset(index as isize * self.source) }
    }

    /// # Safety
    /// The position is within the axis of a checked copy.
    unsafe fn destination_at(self, to: *mut u8, index: usize) -> *mut u8 {
        // SAFETY: by the caller's promise.
        unsafe { to.offset(index as isize * self.destination) }
    }
}

impl Span {
    fn of(axes: impl Iterator<Item = (usize, isize)>, element_size: usize) -> Span {
        let mut span = Span { low: 0, high: element_size as i128 };
        for (count, step) in axes {
            let reach = count.saturating_sub(1) as i128 * step as i128;
            span.low += reach.min(0);
            span.high += reach.max(0);
        }
        span
    }

    /// The byte address of the first element, when all of the span lies within `length` bytes.
    fn checked(self, offset: usize, element_size: usize, length: usize, name: &str) -> usize {
        let first = offset as i128 * element_size as i128;
        assert!(
            first + self.low >= 0 && first + self.high <= length as i128,
            "a copy reaches bytes {}..{} of a {name} of {length}",
            first + self.low,
            first + self.high
        );
        first as usize
    }
}

/// Checks that no two positions share a byte of the destination; the axes come by falling step.
fn assert_disjoint(axes: &[Axis], element_size: usize) {
    let mut reach = element_size as u128;
    for axis in axes.iter().rev() {
        let step = axis.destination.unsigned_abs() as u128;
        assert!(step >= reach, "positions of a copy overlap in its destination: {axes:?}");
        reach += (axis.count as u128 - 1) * step;
    }
}

/// Merges neighbouring axes that are one axis in both layouts.
fn merge(axes: &mut Vec<Axis>) {
    let mut merged: Vec<Axis> = Vec::with_capacity(axes.len());
    for &axis in axes.iter() {
        match merged.last_mut() {
            Some(last)
                if last.source == axis.source * axis.count as isize
                    && last.destination == axis.destination * axis.count as isize =>
            {
                *last = Axis { count: last.count * axis.count, ..axis };
            }
            _ => merged.push(axis),
        }
    }
    *axes = merged;
}

/// Takes the innermost axes off and says how they are copied.
fn take_inner(axes: &mut Vec<Axis>, element_size: usize) -> Inner {
    let mut unit = element_size;
    while let Some(&axis) = axes.last() {
        if axis.source != unit as isize || axis.destination != unit as isize {
            break;
        }
        unit *= axis.count;
        axes.pop();
    }
    if !copy_loops::is_unit(unit) {
        return Inner::Run(unit);
    }
    let Some(across) = axes.pop() else { return Inner::Run(unit) };
    let lead = axes.iter().position(|axis| axis.source == unit as isize);
    match lead {
        Some(lead) if across.destination == unit as isize && across.source != 0 => {
            Inner::Plane { unit, along: axes.remove(lead), across }
        }
        _ => Inner::Line { unit, axis: across },
    }
}

/// This part's share of `rows` rows of `length`: rows where there are enough, else a piece of each row.
fn share(
    part: Part,
    rows: usize,
    length: usize,
    long: usize,
    granule: usize,
) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    if rows < 4 * part.count && length >= long {
        let piece = part.range_of_granules(length, granule);
        (if piece.is_empty() { 0..0 } else { 0..rows }, piece)
    } else {
        (part.range(rows), 0..length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::{Random, each_case};

    /// A copy: shape, source strides and offset, destination strides and offset, in elements.
    type Case = (Vec<usize>, Vec<isize>, usize, Vec<isize>, usize);

    /// The highest element that a layout touches, and one more.
    fn length(shape: &[usize], strides: &[isize], offset: usize) -> usize {
        let reach: isize = shape.iter().zip(strides).map(|(&n, &s)| (n as isize - 1).max(0) * s.max(0)).sum();
        offset + reach as usize + 1
    }

    fn check(case: &Case, size: usize) -> Result<(), String> {
        let (shape, from, from_offset, to, to_offset) = case;
        let mut random = Random::new(3);
        let bytes = length(shape, from, *from_offset) * size;
        let x: Vec<u8> = (0..bytes).map(|_| random.bits() as u8).collect();
        let mut expected = vec![0xaa; length(shape, to, *to_offset) * size];
        let clean = expected.clone();
        for i in 0..shape.iter().product() {
            let (mut rest, mut source, mut destination) = (i, *from_offset as isize, *to_offset as isize);
            for axis in (0..shape.len()).rev() {
                let index = (rest % shape[axis]) as isize;
                rest /= shape[axis];
                source += index * from[axis];
                destination += index * to[axis];
            }
            let (source, destination) = (source as usize * size, destination as usize * size);
            expected[destination..destination + size].copy_from_slice(&x[source..source + size]);
        }
        let copy = StridedCopy::new(shape, from, to, size);
        for level in Level::available() {
            let copy = copy.clone().with_level(level);
            for count in 1..4 {
                let mut y = clean.clone();
                for index in 0..count {
                    copy.run(&x, *from_offset, SharedSlice::new(&mut y), *to_offset, Part { index, count });
                }
                if y != expected {
                    return Err(format!("{size} bytes an element, {level}, {count} parts: {copy:?}"));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn layouts() {
        let cases: Vec<Case> = vec![
            (vec![], vec![], 2, vec![], 1),
            (vec![7], vec![1], 0, vec![1], 3),
            (vec![5000], vec![1], 0, vec![1], 0),
            (vec![7], vec![-1], 6, vec![1], 0),
            (vec![7], vec![0], 4, vec![2], 0),
            (vec![9], vec![3], 1, vec![-1], 8),
            (vec![3, 0, 4], vec![4, 4, 1], 0, vec![4, 4, 1], 0),
            (vec![3, 5, 4], vec![40, 8, 1], 2, vec![20, 4, 1], 0),
            (vec![3, 5, 4], vec![20, -4, 1], 16, vec![20, 4, 1], 0),
            (vec![3, 5, 6], vec![60, 12, 2], 1, vec![30, 6, 1], 0),
            (vec![2, 3, 2, 5], vec![0, 5, 0, 1], 0, vec![30, 10, 5, 1], 0),
            (vec![2, 3000], vec![0, 0], 0, vec![3000, 1], 0),
            (vec![3, 6, 4], vec![0, 0, 0], 1, vec![60, 10, 1], 2),
            (vec![9, 3], vec![0, 0], 0, vec![5, 1], 0),
            (vec![3, 37], vec![80, 2], 1, vec![37, 1], 0),
            (vec![3, 48], vec![150, 3], 2, vec![50, 1], 1),
            (vec![2, 2, 65], vec![300, 1, 4], 3, vec![140, 70, 1], 0),
            (vec![3, 2], vec![2, 1], 0, vec![1, 3], 0),
            (vec![1, 1, 6], vec![99, 77, 1], 0, vec![1, 1, 1], 0),
        ];
        for size in [1, 2, 3, 4, 5, 8, 16, 24] {
            each_case(cases.clone(), |case| check(case, size));
        }
    }

    #[test]
    fn matrices() {
        let sizes = [1, 2, 3, 4, 5, 8, 15, 16, 17, 33, 70];
        let mut cases: Vec<Case> = Vec::new();
        for rows in sizes {
            for columns in sizes {
                let (r, c) = (rows as isize, columns as isize);
                cases.push((vec![2, columns, rows], vec![r * c, 1, c], 0, vec![r * c, r, 1], 0));
                cases.push((vec![rows, columns], vec![1, r + 3], 5, vec![c + 2, 1], 1));
            }
        }
        for size in [1, 2, 4, 8, 16] {
            each_case(cases.clone(), |case| check(case, size));
        }
    }

    #[test]
    fn constructors() {
        let run = |copy: &StridedCopy, x: &[u8], offset: usize, size: usize| {
            let mut y = vec![0; size];
            copy.run(x, offset, SharedSlice::new(&mut y), 0, Part::WHOLE);
            y
        };
        let x: Vec<u8> = (0..12).collect();
        let (slice, offset) = StridedCopy::slice(&[3, 4], &[2, 1], &[-2, 1], &[2, 2], 1);
        assert_eq!(run(&slice, &x, offset, 4), [9, 10, 1, 2]);
        assert_eq!(
            run(&StridedCopy::expand(&[2, 1], &[2, 2, 3], 1), &x, 0, 12),
            [0, 0, 0, 1, 1, 1].repeat(2)
        );
        assert_eq!(run(&StridedCopy::tile(&[1, 2], &[2, 3], 1), &x, 0, 12), [0, 1].repeat(6));
        assert_eq!(run(&StridedCopy::tile(&[2, 2], &[0, 1], 1), &x, 0, 0), []);
    }

    #[test]
    #[should_panic(expected = "reaches bytes")]
    fn reads_out_of_bounds_are_refused() {
        let copy = StridedCopy::new(&[4], &[-1], &[1], 4);
        copy.run(&[0; 16][..], 2, SharedSlice::new(&mut [0; 16]), 0, Part::WHOLE);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_destinations_are_refused() {
        StridedCopy::new(&[4, 4], &[4, 1], &[1, 1], 4);
    }
}

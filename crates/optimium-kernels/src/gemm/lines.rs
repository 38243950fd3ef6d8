//! Where rows lie.

use std::ops::Range;

/// The positions of rows that lie in equal lines: row `i` of line `j` at
/// `start + i · stride + j · line_stride`. A matrix is one line without end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines {
    /// Where the first line starts.
    pub(crate) start: usize,
    /// Rows of a line.
    pub(crate) rows: usize,
    /// From one row to the next.
    pub(crate) stride: usize,
    /// From one line to the next.
    pub(crate) line_stride: usize,
}

/// One of the pieces that a left row consists of, with the rows of the right matrix that it meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where it starts, counted from the row's position.
    pub(crate) left: usize,
    /// The row of the right matrix that its first element meets.
    pub(crate) right: usize,
}

/// A walk along [`Lines`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    lines: Lines,
    line: usize,
    index: usize,
}

impl Lines {
    /// Rows at equal distances.
    pub(crate) fn straight(stride: usize) -> Lines {
        Lines { start: 0, rows: usize::MAX, stride, line_stride: 0 }
    }

    /// The farthest position of those `rows`, which are some.
    pub(crate) fn farthest(self, rows: Range<usize>) -> usize {
        let (first, last) = (rows.start / self.rows, (rows.end - 1) / self.rows);
        // The last row, or the end of a line before it.
        let of_last = self.walk(rows.end - 1).step();
        let before = if last > first { self.walk(last * self.rows - 1).step() } else { 0 };
        of_last.max(before)
    }

    /// A walk whose first step gives row `row`, counted through all lines.
    pub(super) fn walk(self, row: usize) -> Walk {
        let line = row / self.rows;
        Walk { lines: self, line: self.start + line * self.line_stride, index: row - line * self.rows }
    }
}

impl Walk {
    /// The position of the next row.
    #[inline(always)]
    pub(super) fn step(&mut self) -> usize {
        let position = self.line + self.index * self.lines.stride;
        let ends = self.index + 1 == self.lines.rows;
        self.line += if ends { self.lines.line_stride } else { 0 };
        self.index = if ends { 0 } else { self.index + 1 };
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::each_case;

    #[test]
    fn walks_follow_the_definition() {
        let cases = [(1, 3, 10), (4, 3, 10), (4, 3, 20), (usize::MAX, 5, 0)];
        each_case(cases, |&(rows, stride, line_stride)| {
            let lines = Lines { start: 2, rows, stride, line_stride };
            let position = |row: usize| 2 + row % rows * stride + row / rows * line_stride;
            for first in 0..10 {
                let mut walk = lines.walk(first);
                let positions: Vec<usize> = (first..first + 9).map(|_| walk.step()).collect();
                let expected: Vec<usize> = (first..first + 9).map(position).collect();
                if positions != expected {
                    return Err(format!("{positions:?} instead of {expected:?} from row {first}"));
                }
                let farthest = lines.farthest(first..first + 9);
                if Some(&farthest) != expected.iter().max() {
                    return Err(format!("{farthest} is not the farthest of {expected:?}"));
                }
            }
            Ok(())
        });
    }
}

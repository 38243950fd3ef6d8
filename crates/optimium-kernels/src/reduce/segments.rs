//! Reductions of many rows to one, as of an image's pixels to its channels, with the rows divided among the parts.

use optimium_simd::Level;

use super::plan::split_innermost;
use super::{Reduce, Reduction, reduce_f32};
use crate::{Part, SharedSlice};

/// More segments of rows than there are threads on most machines, so that results do not depend on how many there are.
const MOST_SEGMENTS: usize = 16;
/// Elements whose division pays for meeting once more.
const WORTH_DIVIDING: usize = 1 << 14;

/// A reduction in two [rounds](SegmentedReduce::ROUNDS): within segments of as many rows each, and across them. Rows stay in the
/// cache of the worker that made them, where dividing the results would bring a part of every row to all.
#[derive(Clone, Debug)]
pub struct SegmentedReduce {
    segments: usize,
    within: (Reduction, Reduce),
    across: (Reduction, Reduce),
}

impl SegmentedReduce {
    /// Rounds of [`run`](SegmentedReduce::run), of which all parts have to end one before the next begins.
    pub const ROUNDS: usize = 2;

    /// `reduction` as planned: none where it cannot be divided so, or is too small.
    pub fn of(reduction: Reduction, plan: &Reduce) -> Option<SegmentedReduce> {
        let (within, across) = match reduction {
            Reduction::Sum | Reduction::Mean | Reduction::Max | Reduction::Min => (reduction, reduction),
            Reduction::L1 | Reduction::SumSquare => (reduction, Reduction::Sum),
            Reduction::Prod | Reduction::L2 | Reduction::LogSum | Reduction::LogSumExp => return None,
        };
        let (rows, columns) = (plan.count(), plan.output_len());
        let (outer_kept, _) = split_innermost(&plan.kept);
        let are_rows = plan.inner_is_kept() && outer_kept.is_empty() && plan.reduced.len() == 1;
        if !are_rows || plan.input_len() < WORTH_DIVIDING {
            return None;
        }
        let segments = (2..=MOST_SEGMENTS).rev().find(|&segments| rows.is_multiple_of(segments))?;
        Some(SegmentedReduce {
            segments,
            within: (within, Reduce::new(&[rows / segments, columns], &[0])),
            across: (across, Reduce::new(&[segments, columns], &[0])),
        })
    }

    /// Elements of memory between the rounds, which all parts share.
    pub fn scratch_len(&self) -> usize {
        self.across.1.input_len()
    }

    /// This part of a round.
    ///
    /// # Panics
    /// Where `x`, `y` or `between` has another length than was planned.
    pub fn run(
        &self,
        level: Level,
        x: &[f32],
        between: SharedSlice<'_, f32>,
        y: SharedSlice<'_, f32>,
        part: Part,
        round: usize,
    ) {
        assert_eq!(between.len(), self.scratch_len(), "elements between the rounds");
        if round > 0 {
            let (reduction, plan) = &self.across;
            // SAFETY: nobody writes it in this round.
            let between = unsafe { std::slice::from_raw_parts(between.as_mut_ptr(), between.len()) };
            return reduce_f32(level, *reduction, plan, between, y, part);
        }
        let (reduction, plan) = &self.within;
        let (rows, columns) = (plan.input_len(), plan.output_len());
        assert_eq!(x.len(), self.segments * rows, "elements of the input");
        for segment in part.range(self.segments) {
            // SAFETY: the segment is this part's own.
            let own = unsafe { between.slice(segment * columns..(segment + 1) * columns) };
            let x = &x[segment * rows..][..rows];
            reduce_f32(level, *reduction, plan, x, SharedSlice::new(own), Part::WHOLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;

    #[test]
    fn is_the_reduction_in_any_number_of_parts() {
        let shapes: [&[usize]; 6] =
            [&[7, 7, 960], &[14, 14, 100], &[16, 1024], &[1, 112, 112, 3], &[2, 13, 1000], &[34, 500]];
        let reductions = [
            Reduction::Sum,
            Reduction::Mean,
            Reduction::Max,
            Reduction::Min,
            Reduction::L1,
            Reduction::SumSquare,
        ];
        let cases = Level::available().flat_map(|level| {
            shapes.into_iter().flat_map(move |shape| reductions.map(|op| (level, shape, op)))
        });
        each_case(cases.collect::<Vec<_>>(), |&(level, shape, op)| {
            let axes: Vec<usize> = (0..shape.len() - 1).collect();
            let plan = Reduce::new(shape, &axes);
            let x = Random::new(5).floats(plan.input_len());
            let mut expected = vec![0.5; plan.output_len()];
            reduce_f32(level, op, &plan, &x, SharedSlice::new(&mut expected), Part::WHOLE);
            let segmented = SegmentedReduce::of(op, &plan).ok_or("not divided")?;
            let mut whole = Vec::new();
            for count in [1, 2, 3, 17] {
                let mut y = vec![0.5; expected.len()];
                let mut between = vec![f32::NAN; segmented.scratch_len()];
                for (round, index) in
                    (0..SegmentedReduce::ROUNDS).flat_map(|r| (0..count).map(move |i| (r, i)))
                {
                    let (y, between) = (SharedSlice::new(&mut y), SharedSlice::new(&mut between));
                    segmented.run(level, &x, between, y, Part { index, count }, round);
                }
                compare(&y, &expected, Tolerance::Scaled { epsilon: 1e-6, scale: plan.count() as f32 })?;
                if count == 1 {
                    whole = y.clone();
                }
                compare(&y, &whole, Tolerance::Exact)?;
            }
            Ok(())
        });
    }

    #[test]
    fn what_is_small_or_lies_otherwise_is_not_divided() {
        let cases: [(Reduction, &[usize], &[usize]); 6] = [
            (Reduction::Mean, &[7, 7, 100], &[0, 1]),
            (Reduction::Mean, &[2, 49, 960], &[1]),
            (Reduction::Mean, &[960, 49], &[1]),
            (Reduction::Mean, &[49, 960, 2], &[0, 2]),
            (Reduction::Mean, &[17, 1024], &[0]),
            (Reduction::L2, &[49, 960], &[0]),
        ];
        for (reduction, shape, axes) in cases {
            let plan = Reduce::new(shape, axes);
            assert!(
                SegmentedReduce::of(reduction, &plan).is_none(),
                "{reduction:?} of {shape:?}, axes {axes:?}"
            );
        }
    }
}

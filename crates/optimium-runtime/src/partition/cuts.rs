//! Where to cut a list of nodes.

use std::ops::Range;

/// What is made as small as possible: the cost of the most expensive part first, then what is handed over in all.
type Score = (f64, f64);

/// Cuts nodes of those `costs` into at most `count` runs, none of them empty, so that the most expensive run costs as little as
/// possible. `cut_costs` has what it costs to cut before each node, and one element more; an infinite cost forbids the cut.
/// Nothing at all is one empty run.
pub(super) fn balanced(costs: &[f64], cut_costs: &[f64], count: usize) -> Vec<Range<usize>> {
    let nodes = costs.len();
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(costs.iter().scan(0.0, |sum, cost| {
            *sum += cost;
            Some(*sum)
        }))
        .collect();
    // Both who hands over and who takes over have to do with a value that crosses.
    let run = |start: usize, end: usize| sums[end] - sums[start] + cut_costs[start] + cut_costs[end];
    let mut best: Vec<Option<Score>> = (0..=nodes).map(|end| Some((run(0, end), 0.0))).collect();
    let mut starts: Vec<Vec<usize>> = Vec::new();
    for _ in 1..count.min(nodes) {
        let (next, from): (Vec<_>, Vec<_>) = (0..=nodes)
            .map(|end| extend(&best, end, &|start| run(start, end), cut_costs))
            .map(|found| found.map_or((None, 0), |(score, start)| (Some(score), start)))
            .unzip();
        if next[nodes].is_none_or(|(worst, _)| worst.is_infinite()) {
            break;
        }
        best = next;
        starts.push(from);
    }
    let mut end = nodes;
    let mut ranges: Vec<Range<usize>> = Vec::with_capacity(starts.len() + 1);
    for from in starts.iter().rev() {
        ranges.push(from[end]..end);
        end = from[end];
    }
    ranges.push(0..end);
    ranges.reverse();
    ranges
}

/// The best way to end a run at `end`, and where it starts; none without room for a run.
fn extend(
    best: &[Option<Score>],
    end: usize,
    run: &dyn Fn(usize) -> f64,
    cut_costs: &[f64],
) -> Option<(Score, usize)> {
    let mut found: Option<(Score, usize)> = None;
    for start in (1..end).rev() {
        let cost = run(start);
        if let Some((before, handed)) = best[start] {
            let score = (before.max(cost), handed + cut_costs[start]);
            if found.is_none_or(|(found, _)| score < found) {
                found = Some((score, start));
            }
        }
        // Runs that begin earlier cost more, but for what their own cut costs.
        let least = cost - cut_costs[start];
        if cut_costs[start].is_finite() && found.is_some_and(|((worst, _), _)| worst < least) {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;

    #[test]
    fn the_most_expensive_run_is_as_cheap_as_can_be() {
        let never = f64::INFINITY;
        let cases: [(&[f64], &[(usize, f64)], usize, &[usize]); 8] = [
            (&[1.0; 10], &[], 2, &[0, 5]),
            (&[1.0; 9], &[], 3, &[0, 3, 6]),
            (&[8.0, 1.0, 1.0, 1.0], &[], 2, &[0, 1]),
            (&[1.0; 2], &[], 5, &[0, 1]),
            (&[1.0; 4], &[(2, never)], 2, &[0, 3]),
            (&[1.0; 4], &[(2, 0.5)], 2, &[0, 2]),
            (&[1.0; 3], &[(1, never), (2, never)], 2, &[0]),
            (&[], &[], 3, &[0]),
        ];
        each_case(cases, |&(costs, cut_costs, count, expected)| {
            let mut all = vec![0.0; costs.len() + 1];
            cut_costs.iter().for_each(|&(place, cost)| all[place] = cost);
            let found = balanced(costs, &all, count);
            let is_whole = found.windows(2).all(|pair| pair[0].end == pair[1].start);
            let starts: Vec<usize> = found.iter().map(|range| range.start).collect();
            let ends_well = found.last().is_some_and(|range| range.end == costs.len());
            if starts == expected && is_whole && ends_well { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
}

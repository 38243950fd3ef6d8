//! Minimum cut of a flow network, by shortest augmenting paths.

use std::collections::VecDeque;

/// The variable on the source side.
pub(super) const SOURCE: usize = 0;
/// The variable on the sink side.
pub(super) const SINK: usize = 1;
/// A capacity that no minimum cut goes through.
pub(super) const INFINITE: u64 = 1 << 60;

/// A network in the making.
#[derive(Debug)]
pub(super) struct Cut {
    /// For each variable the edges that leave it; an edge and its reverse are neighbours.
    leaving: Vec<Vec<usize>>,
    target: Vec<usize>,
    capacity: Vec<u64>,
}

impl Default for Cut {
    fn default() -> Cut {
        Cut { leaving: vec![Vec::new(), Vec::new()], target: Vec::new(), capacity: Vec::new() }
    }
}

impl Cut {
    /// A new variable.
    pub(super) fn variable(&mut self) -> usize {
        self.leaving.push(Vec::new());
        self.leaving.len() - 1
    }

    /// What it costs to have `from` on the source side and `to` on the sink side.
    pub(super) fn edge(&mut self, from: usize, to: usize, cost: u64) {
        if from == to || cost == 0 {
            return;
        }
        for (a, b, capacity) in [(from, to, cost), (to, from, 0)] {
            self.leaving[a].push(self.target.len());
            self.target.push(b);
            self.capacity.push(capacity);
        }
    }

    /// For each variable whether it is on the source side of the cheapest cut, of those the one with fewest there.
    pub(super) fn solve(mut self) -> Vec<bool> {
        loop {
            let arrived_by = self.reach();
            if arrived_by[SINK].is_none() {
                let mut side: Vec<bool> = arrived_by.iter().map(Option::is_some).collect();
                side[SOURCE] = true;
                return side;
            }
            let path: Vec<usize> = std::iter::successors(arrived_by[SINK], |&edge| {
                let from = self.target[edge ^ 1];
                if from == SOURCE { None } else { arrived_by[from] }
            })
            .collect();
            let flow = path.iter().map(|&edge| self.capacity[edge]).min().unwrap_or(0);
            for edge in path {
                self.capacity[edge] -= flow;
                self.capacity[edge ^ 1] += flow;
            }
        }
    }

    /// For each variable that can be reached from the source the edge by which it is.
    fn reach(&self) -> Vec<Option<usize>> {
        let mut arrived_by = vec![None; self.leaving.len()];
        let mut queue = VecDeque::from([SOURCE]);
        while let Some(at) = queue.pop_front() {
            for &edge in &self.leaving[at] {
                let to = self.target[edge];
                if self.capacity[edge] > 0 && to != SOURCE && arrived_by[to].is_none() {
                    arrived_by[to] = Some(edge);
                    queue.push_back(to);
                }
            }
        }
        arrived_by
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::{Random, each_case};

    fn price(edges: &[(usize, usize, u64)], side: &[bool]) -> u64 {
        edges.iter().filter(|&&(from, to, _)| side[from] && !side[to]).map(|&(_, _, cost)| cost).sum()
    }

    #[test]
    fn the_cut_is_the_cheapest_of_all() {
        each_case(1..60u64, |&seed| {
            let mut random = Random::new(seed);
            let variables = 2 + random.range(1, 7) as usize;
            let edges: Vec<(usize, usize, u64)> = (0..random.range(1, 20))
                .map(|_| {
                    let mut end = || random.range(0, variables as i64) as usize;
                    (end(), end(), random.range(0, 9) as u64)
                })
                .collect();
            let mut cut = Cut::default();
            (2..variables).for_each(|_| _ = cut.variable());
            edges.iter().for_each(|&(from, to, cost)| cut.edge(from, to, cost));
            let cheapest = (0..1usize << variables)
                .map(|bits| (0..variables).map(|v| bits >> v & 1 == 1).collect::<Vec<bool>>())
                .filter(|side| side[SOURCE] && !side[SINK])
                .map(|side| price(&edges, &side))
                .min();
            let found = cut.solve();
            if found[SOURCE] && !found[SINK] && Some(price(&edges, &found)) == cheapest {
                Ok(())
            } else {
                Err(format!("{found:?} costs {}, the cheapest cut {cheapest:?}", price(&edges, &found)))
            }
        });
    }
}

//! Which of several ways a node is computed by: decided here for all families, by what was chosen before or else by the
//! estimate, and remembered for who asks.

use std::cell::RefCell;
use std::fmt::Display;

use optimium_device::{Choices, CompileOptions, KernelCandidate, KernelChoice};

/// What a node could be computed by. It is put into words when somebody asks.
pub(crate) type ChoiceRecord = Box<dyn Fn() -> KernelChoice + Send + Sync>;

/// Chooses for one node.
#[derive(Default)]
pub(crate) struct Chooser {
    choices: Choices,
    threads: usize,
    record: RefCell<Option<ChoiceRecord>>,
}

impl Chooser {
    /// A chooser for a plan with those options.
    pub(crate) fn new(options: &CompileOptions) -> Chooser {
        Chooser { choices: options.choices.clone(), threads: options.threads, record: RefCell::default() }
    }

    /// The candidate that was chosen for `problem`, or else the one of the lowest cost, of equals the first. `problem` says all
    /// that the candidates and their speed depend on but for the number of threads; their text names them.
    ///
    /// # Panics
    /// Where there is no candidate.
    pub(super) fn choose<C: Display + Clone + Send + Sync + 'static>(
        &self,
        problem: impl Fn() -> String + Send + Sync + 'static,
        mut candidates: Vec<(C, f64)>,
    ) -> C {
        candidates.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        let threads = self.threads;
        let key = move || format!("{}, {threads} threads", problem());
        let chosen = if self.choices.is_empty() { None } else { self.choices.get(&key()) };
        let named = |name: &str| candidates.iter().position(|(candidate, _)| candidate.to_string() == name);
        let taken = chosen.and_then(named).unwrap_or(0);
        let choice = candidates[taken].0.clone();
        if candidates.len() > 1 {
            let named =
                |(candidate, cost): &(C, f64)| KernelCandidate { name: candidate.to_string(), cost: *cost };
            let describe = move || {
                let candidates = candidates.iter().map(named).collect();
                KernelChoice { key: key(), candidates, taken }
            };
            self.record.replace(Some(Box::new(describe)));
        }
        choice
    }

    /// What the node could be computed by; none where there is one way.
    pub(super) fn into_record(self) -> Option<ChoiceRecord> {
        self.record.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;

    #[test]
    fn choices_are_taken_and_unknown_ones_left_to_the_estimate() {
        let cases = [
            (None, "b", 0),
            (Some(("p, 2 threads", "a")), "a", 2),
            (Some(("p, 2 threads", "c")), "c", 1),
            (Some(("p, 2 threads", "d")), "b", 0),
            (Some(("p, 1 threads", "a")), "b", 0),
            (Some(("q, 2 threads", "a")), "b", 0),
        ];
        each_case(cases, |&(choice, expected, place)| {
            let choices = choice.map(|(key, name)| (key.to_owned(), name.to_owned())).into_iter().collect();
            let chooser = Chooser::new(&CompileOptions { threads: 2, choices, ..CompileOptions::default() });
            let taken = chooser.choose(|| "p".into(), vec![("a", 3.0), ("b", 1.0), ("c", 2.0)]);
            let record = chooser.into_record().ok_or("no record")?();
            let names: Vec<&str> = record.candidates.iter().map(|one| one.name.as_str()).collect();
            let as_expected = taken == expected && record.taken == place && record.key == "p, 2 threads";
            if as_expected && names == ["b", "c", "a"] { Ok(()) } else { Err(format!("{taken}, {record:?}")) }
        });
    }

    #[test]
    fn one_way_is_no_choice() {
        let chooser = Chooser::default();
        assert_eq!(chooser.choose(|| "p".into(), vec![("a", 1.0)]), "a");
        assert!(chooser.into_record().is_none());
    }
}

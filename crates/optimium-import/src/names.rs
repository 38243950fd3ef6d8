//! Unique names.

use std::collections::{HashMap, HashSet};

/// Names that are taken.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: HashSet<String>,
    next: HashMap<String, usize>,
}

impl Names {
    /// Takes a name; `false` where it is taken already.
    pub(crate) fn take(&mut self, name: &str) -> bool {
        self.taken.insert(name.to_owned())
    }

    /// Takes `name`, or where it is taken the first of `name_1`, `name_2`, … that is free.
    pub(crate) fn unique(&mut self, name: &str) -> String {
        if self.take(name) {
            return name.to_owned();
        }
        let mut index = self.next.get(name).copied().unwrap_or(0);
        loop {
            index += 1;
            let candidate = format!("{name}_{index}");
            if self.take(&candidate) {
                self.next.insert(name.to_owned(), index);
                return candidate;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_given_once() {
        let mut names = Names::default();
        assert!(names.take("a_1"));
        assert!(!names.take("a_1"));
        assert_eq!(names.unique("a"), "a");
        assert_eq!(names.unique("a"), "a_2");
        assert_eq!(names.unique("a"), "a_3");
        assert_eq!(names.unique("a_1"), "a_1_1");
    }
}

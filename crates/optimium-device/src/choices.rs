//! Which of several ways to compute something a backend takes: as data that is kept from one compilation to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

/// For problems, by the keys that a backend gives them, the names of the candidates to be taken. Cloning shares them.
///
/// What is not named is left to the backend's estimate, and so are names that it does not know: choices may come from anywhere,
/// and only the speed depends on them, and results within their tolerance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices(Arc<BTreeMap<String, String>>);

impl Choices {
    /// The name of the candidate for the problem of that key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether everything is left to the estimate.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of problems that are named.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Keys and names, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, name)| (key.as_str(), name.as_str()))
    }
}

impl FromIterator<(String, String)> for Choices {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Choices {
        Choices(Arc::new(pairs.into_iter().collect()))
    }
}

/// What an operation of a compiled graph could be computed by.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelChoice {
    /// The problem: operations of equal keys have the same candidates, and the one that is fastest for one of them is so for all.
    pub key: String,
    /// The ways to compute it, that of the lowest estimate first.
    pub candidates: Vec<KernelCandidate>,
    /// Which of them is taken.
    pub taken: usize,
}

/// One way to compute an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelCandidate {
    /// Its name, which no other candidate of the problem has.
    pub name: String,
    /// Its estimated cost, to be compared with those of the same problem alone.
    pub cost: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_found_by_key() {
        let pairs = [("b", "two"), ("a", "one")].map(|(key, name)| (key.to_owned(), name.to_owned()));
        let choices: Choices = pairs.into_iter().collect();
        assert_eq!(choices.get("a"), Some("one"));
        assert_eq!(choices.get("c"), None);
        assert_eq!(choices.iter().collect::<Vec<_>>(), [("a", "one"), ("b", "two")]);
        assert_eq!((choices.len(), choices.is_empty(), Choices::default().is_empty()), (2, false, true));
    }
}

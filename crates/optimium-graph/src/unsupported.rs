//! What a stage does not know how to do, reported all at once.

use std::fmt;

use optimium_tensor::{Error, ErrorKind};

/// An operation that a backend or an importer does not know how to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The operator, and what about it is unsupported: `Conv (element type I8)`.
    pub operation: String,
    /// The node's name.
    pub node: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:?}", self.operation, self.node)
    }
}

impl Unsupported {
    /// One error that lists all of them by operation, with counts and the first node names.
    pub fn error(model: &str, all: &[Unsupported]) -> Error {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for item in all {
            match groups.iter_mut().find(|(operation, _)| *operation == item.operation) {
                Some((_, nodes)) => nodes.push(&item.node),
                None => groups.push((&item.operation, vec![&item.node])),
            }
        }
        let plural = if all.len() == 1 { "" } else { "s" };
        let mut message = format!("the model {model:?} has {} unsupported operation{plural}:", all.len());
        for (operation, nodes) in groups {
            let shown = nodes.iter().take(3).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            let more = if nodes.len() > 3 { ", …" } else { "" };
            message.push_str(&format!("\n  {operation}: {} ({shown}{more})", nodes.len()));
        }
        Error::new(ErrorKind::NotImplemented, message)
    }
}

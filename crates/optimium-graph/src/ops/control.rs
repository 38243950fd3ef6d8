//! Control flow: operators with graphs of their own.
//!
//! A body's nodes may read values of the graphs around it; those are listed as the operator's last inputs, and as the
//! body's last inputs, so that a body is a graph that stands alone.

use serde::{Deserialize, Serialize};

use crate::Graph;

/// Inputs: condition (BOOL scalar), captured values. Outputs: those of the branch taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct If {
    /// Runs where the condition holds.
    pub then_branch: Body,
    /// Runs where it does not.
    pub else_branch: Body,
}

/// Inputs: trip count or none, condition or none, loop-carried values, captured values. Outputs: final values of those, then the
/// scan outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loop {
    /// One iteration.
    pub body: Body,
    /// Number of loop-carried values.
    pub carried: usize,
}

/// Inputs: initial states, scanned tensors, captured values. Outputs: final states, then scan outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// One step.
    pub body: Body,
    /// Number of scanned inputs.
    pub scan_inputs: usize,
    /// The axis of each scanned input.
    pub input_axes: Vec<i64>,
    /// Whether each scanned input is read backwards.
    pub input_reversed: Vec<bool>,
    /// The axis of each scan output.
    pub output_axes: Vec<i64>,
    /// Whether each scan output is written backwards.
    pub output_reversed: Vec<bool>,
}

/// Inputs: what the body gets. Outputs: what it gives. Shapes in the body are as the model declares them: they follow only from the
/// sizes that an inference has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deferred {
    /// What is done.
    pub body: Body,
}

/// A graph inside of an operator.
///
/// It is stored beside the graph that holds it, not inside of the operator's attributes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Body {
    /// Its nodes and values.
    #[serde(skip)]
    pub graph: Box<Graph>,
}

impl PartialEq for Body {
    /// Bodies are compared by identity: two operators are equal only if they share one.
    fn eq(&self, other: &Body) -> bool {
        std::ptr::eq(&*self.graph, &*other.graph)
    }
}

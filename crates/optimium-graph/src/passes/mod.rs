//! Simplification: a graph that computes the same, in fewer and canonical operators.
//!
//! [`simplify`] runs the stages of `STAGES` in order; each is a list of passes that is repeated until
//! nothing changes. A pass is a file here, with one function `run` over an `editor::Editor`. Passes keep what a
//! caller sees: the graph's inputs and outputs, their names, types and values.
//!
//! The order has reasons. Identities, canonical forms and constant folding feed each other, and everything after them
//! counts on their result: constants to the right, shapes in the operators, one spelling of every function.
//! Patterns of exporters come next, while nothing is fused yet. Quantization comes before the folding of weights,
//! because integer weights must not be touched. Weights are folded before the layout is chosen, because fewer operators
//! then take part in it, and once more after it, when transposes that stood between are gone. Attention is found then, when
//! factors and transposes are where its patterns count on them. Fusion is last: it hides operators from all other passes.
//!
//! Bodies of control flow are simplified after the graph around them, each on its own. What became of the tensors of the model is noted in [`Graph::origins`].

mod block_products;
mod bodies;
mod canonical;
mod channel_scaling;
mod channels;
mod channels_last;
mod common;
mod compress_weights;
mod constant_folding;
mod dead_code;
mod editor;
mod folding;
mod folding_ahead;
mod fusion;
mod identities;
mod joined_products;
mod matching;
mod names;
mod padding;
mod patterns;
mod permutation;
mod quantization;
mod reshapes;
#[cfg(test)]
mod testing;
mod transposes;

pub use compress_weights::{Compression, compress_weights};
use optimium_tensor::{Error, Result, Tensor};
pub use permutation::permute_tensor;

use crate::{Graph, ValueId, shapes};
use editor::Editor;
use names::Names;

/// Computes graphs that have no inputs: what constant folding needs of a backend.
pub trait Evaluate {
    /// The outputs of `graph`, whose nodes read constants alone.
    ///
    /// # Errors
    /// Where it cannot: the nodes then stay as they are.
    fn evaluate(&self, graph: Graph) -> Result<Vec<Tensor>>;
}

/// A pass: changes the graph and tells in how many places.
type Pass = fn(&mut Editor) -> Result<usize>;

/// Passes that are repeated together until none of them changes anything.
struct Stage {
    name: &'static str,
    passes: &'static [(&'static str, Pass)],
}

/// All passes, in order.
const STAGES: &[Stage] = &[
    Stage {
        name: "canonical",
        passes: &[
            ("dead code", dead_code::run),
            ("identities", identities::run),
            ("canonical forms", canonical::run),
            ("constant folding", constant_folding::run),
            ("common subexpressions", common::run),
        ],
    },
    Stage {
        name: "patterns",
        passes: &[("patterns", patterns::run), ("common subexpressions", common::run)],
    },
    Stage {
        name: "quantization",
        passes: &[("products in blocks", block_products::run), ("operators on integers", quantization::run)],
    },
    Stage {
        name: "folding",
        passes: &[
            ("products of integers", quantization::run_real_results),
            ("constant folding", constant_folding::run_dequantizing),
            ("folding into weights", folding::run),
            ("padding", padding::run),
            ("folding ahead", folding_ahead::run),
        ],
    },
    Stage { name: "layout", passes: &[("channels last", channels_last::run)] },
    Stage {
        name: "transposes",
        passes: &[
            ("transposes", transposes::run),
            ("reshapes", reshapes::run),
            ("identities", identities::run),
            ("canonical forms", canonical::run),
            ("folding into weights", folding::run),
            ("common subexpressions", common::run),
        ],
    },
    Stage {
        name: "attention",
        passes: &[
            ("attention", patterns::run_attention),
            ("identities", identities::run),
            ("canonical forms", canonical::run),
            ("common subexpressions", common::run),
            ("joined products", joined_products::run),
        ],
    },
    Stage {
        name: "fusion",
        passes: &[
            ("scaling of channels", channel_scaling::run),
            ("fusion", fusion::run),
            ("dead code", dead_code::run),
        ],
    },
];

/// Two passes could undo each other for ever; no model needs more rounds than this.
const MAX_ROUNDS: usize = 8;

/// Makes the graph simpler, and gives every value its shape.
///
/// # Errors
/// [`Model`](optimium_tensor::ErrorKind::Model) or [`Shape`](optimium_tensor::ErrorKind::Shape) where the graph has
/// a cycle, or its shapes contradict each other.
pub fn simplify(graph: &mut Graph, evaluator: &dyn Evaluate) -> Result<()> {
    simplify_keeping(graph, &[], evaluator)
}

/// As [`simplify`], and leaves the tensors of those names in the graph, as the model has them: nothing is fused over them.
///
/// # Errors
/// As there; [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) for names that the graph does not have.
pub fn simplify_keeping(graph: &mut Graph, kept: &[String], evaluator: &dyn Evaluate) -> Result<()> {
    graph.sort()?;
    shapes::infer(graph)?;
    let names = Names::of(graph);
    // Whatever callers get stays as it is.
    let outputs = graph.outputs.len();
    graph.outputs.extend(kept_values(graph, kept)?);
    let promised = signature(graph);
    for stage in STAGES {
        run_stage(stage, graph, evaluator)?;
    }
    bodies::simplify_bodies(graph, evaluator)?;
    graph.drop_unused_values();
    shapes::infer_now(graph)?;
    check_signature(graph, &promised)?;
    graph.outputs.truncate(outputs);
    names.settle(graph);
    Ok(())
}

/// The values of those names that callers neither give nor get already.
fn kept_values(graph: &Graph, names: &[String]) -> Result<Vec<ValueId>> {
    let mut values = Vec::new();
    let mut unknown = Vec::new();
    let producers = if names.is_empty() { Vec::new() } else { graph.producers() };
    for name in names {
        match graph.find_value(name) {
            Some(id) => {
                let is_known = graph.outputs.contains(&id) || values.contains(&id);
                let is_given = producers[id.index()].is_none() && graph.constant(id).is_none();
                if !is_given && !is_known {
                    values.push(id);
                }
            }
            None => unknown.push(name),
        }
    }
    if unknown.is_empty() {
        return Ok(values);
    }
    Err(Error::invalid_argument(format!("the model {:?} has no tensors {unknown:?} to be kept", graph.name)))
}

fn run_stage(stage: &Stage, graph: &mut Graph, evaluator: &dyn Evaluate) -> Result<()> {
    for _ in 0..MAX_ROUNDS {
        let mut changes = 0;
        for (name, pass) in stage.passes {
            let mut editor = Editor::new(graph, evaluator);
            let count = pass(&mut editor)?;
            editor.finish()?;
            if count > 0 {
                tracing::debug!(stage = stage.name, pass = name, count, "simplified");
                graph.drop_unused_values();
                shapes::infer_now(graph)?;
            }
            changes += count;
        }
        if changes == 0 {
            break;
        }
    }
    Ok(())
}

/// The name, type and fixed shape of every output.
fn signature(graph: &Graph) -> Vec<(String, Option<optimium_tensor::ElementType>, Option<Vec<usize>>)> {
    let describe = |&id: &crate::ValueId| {
        let value = graph.value(id);
        let dims = value.shape().and_then(optimium_tensor::TensorShape::as_fixed);
        (value.name.clone(), value.element_type(), dims)
    };
    graph.outputs.iter().map(describe).collect()
}

/// A pass that changes what callers get is wrong: better no model than another one.
fn check_signature(
    graph: &Graph,
    promised: &[(String, Option<optimium_tensor::ElementType>, Option<Vec<usize>>)],
) -> Result<()> {
    for ((name, element_type, dims), now) in promised.iter().zip(signature(graph)) {
        let same_type = element_type.is_none() || *element_type == now.1;
        let same_dims = dims.is_none() || *dims == now.2;
        if *name != now.0 || !same_type || !same_dims {
            return Err(Error::model(format!(
                "simplification changed the output {name:?} from {element_type:?} {dims:?} to {:?} {:?}",
                now.1, now.2
            )));
        }
    }
    Ok(())
}

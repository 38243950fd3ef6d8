//! The NATIVE backend: graphs to plans for the CPU, and plans to results.
//!
//! | stage | takes → gives | module |
//! |---|---|---|
//! | promote | graph → graph whose element types kernels know | `promote`, `decompose` |
//! | cut | graph whose data decide sizes → `Program`: regions and dynamic operators | `program` |
//! | lower | node → `Layer`: kernel chosen, weights packed | `lower` |
//! | plan | layers → `Plan`: lifetimes, views, who may write in place | `plan`, `sizes`, `alias` |
//! | bind | plan + concrete shapes → `BoundPlan`: steps with offsets, arena laid out | `bind`, `arena`, `symbols`, `work` |
//! | tell | bound plan → work of each layer, memory plan | `details` |
//! | run | bound plan + tensors → results | `execute`, `team`, `memory`, `state` |
//!
//! Lowering and planning happen once for a model, binding once for each combination of input shapes (a
//! static model has one), running as often as requests say. A step is a closure that captured resolved
//! sizes and offsets: nothing is looked up, allocated or computed between steps.
//!
//! With one thread a plan runs on the caller. With more, every worker of a `team` walks the same steps
//! and does its part of each, with a barrier where a step depends on what another worker did.

mod alias;
mod arena;
mod bind;
mod chain;
mod decompose;
mod details;
mod execute;
mod layer;
mod lower;
mod memory;
mod packing;
mod plan;
mod program;
mod promote;
mod random;
mod sizes;
mod state;
mod storage;
mod symbols;
mod team;
mod work;

use std::sync::Arc;

use optimium_device::{Backend, Cancellation, CompileOptions, Executable};
use optimium_graph::passes::Evaluate;
use optimium_graph::{Graph, Unsupported};
use optimium_tensor::{Result, Tensor};

/// The platform of the CPU that the process runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl Native {
    /// The platform.
    pub fn new() -> Native {
        Native
    }
}

impl Backend for Native {
    fn unsupported(&self, graph: &Graph) -> Vec<Unsupported> {
        promote::promote(graph).map_or_else(|_| Vec::new(), |graph| program::unsupported(&graph))
    }

    fn compile(&self, graph: &Arc<Graph>, options: &CompileOptions) -> Result<Arc<dyn Executable>> {
        program::compile(graph, options)
    }

    fn packing_target(&self, options: &CompileOptions) -> Option<String> {
        plan::level_of(options).ok().map(|level| level.name().to_owned())
    }
}

impl Evaluate for Native {
    fn evaluate(&self, graph: Graph) -> Result<Vec<Tensor>> {
        let mut graph = graph;
        optimium_graph::shapes::infer(&mut graph)?;
        let graph = Arc::new(graph);
        let outputs = graph
            .outputs
            .iter()
            .map(|&id| {
                let value = graph.value(id);
                let dims = value.shape().and_then(|shape| shape.as_fixed());
                match (value.element_type(), dims) {
                    (Some(element_type), Some(dims)) => Tensor::zeros(element_type, &dims),
                    _ => Err(optimium_tensor::Error::model(format!(
                        "the shape of {:?} is not known",
                        value.name
                    ))),
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let plan: Arc<dyn Executable> = Arc::new(plan::Plan::compile(&graph, &CompileOptions::default())?);
        plan.create_state()?.run(&[], &outputs, &Cancellation::new())?;
        Ok(outputs)
    }
}

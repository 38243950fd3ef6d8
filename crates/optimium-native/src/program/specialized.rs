//! Operators whose amounts or axes are computed: compiled for each value that these have, as plans of one node.
//!
//! Such inputs are small vectors of integers, of which a model sees few: the last plans are kept.

use std::sync::Arc;

use optimium_device::ExecutionState;
use optimium_graph::{Graph, Node, ValueId, ValueType, deciders, shapes};
use optimium_tensor::{Error, Result, Tensor, TensorShape};

use super::cut::{alone, unstored};
use super::kept::Kept;
use super::{Call, DynamicOperator, Running, Surroundings};
use crate::plan::Plan;
use crate::state::State;

/// Plans that are kept of one node.
const KEPT_PLANS: usize = 16;

/// A node that is compiled when what decides about it is known.
pub(super) struct Specialized(Arc<Inner>);

struct Inner {
    /// The node alone.
    graph: Graph,
    around: Surroundings,
    plans: Kept<Key, Plan>,
}

/// What a plan was made for: the dimensions of all inputs, and the bytes of those that decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Key {
    dims: Vec<Vec<usize>>,
    deciding: Vec<Vec<u8>>,
}

impl Specialized {
    /// For `node` of `graph`.
    pub(super) fn new(graph: &Graph, node: &Node, around: &Surroundings) -> Specialized {
        let mut graph = alone(graph, node);
        for output in graph.outputs.clone() {
            let value = graph.value_mut(output);
            // What the model says of its sizes is compared with what comes out.
            if let ValueType::Tensor { shape, .. } = &mut value.value_type {
                *shape = None;
            }
        }
        let around = Surroundings { options: unstored(&around.options), ..around.clone() };
        Specialized(Arc::new(Inner { graph, around, plans: Kept::new(KEPT_PLANS) }))
    }
}

impl DynamicOperator for Specialized {
    fn kernel(&self) -> String {
        "compiled for the values of its inputs".to_owned()
    }

    fn start(&self) -> Box<dyn Running> {
        Box::new(OneNode { inner: self.0.clone(), current: None })
    }
}

/// One request's use of such a node.
struct OneNode {
    inner: Arc<Inner>,
    current: Option<(Key, Arc<Plan>, State)>,
}

impl Running for OneNode {
    fn run(&mut self, call: &Call) -> Result<Vec<Option<Tensor>>> {
        let key = self.inner.key(call)?;
        if self.current.as_ref().is_none_or(|(current, ..)| *current != key) {
            let plan = self.inner.plans.get(&key, || self.inner.compile(call))?;
            self.current = Some((key, plan.clone(), State::new(plan)?));
        }
        let Some((_, plan, state)) = &mut self.current else { return Err(Error::infer("no plan")) };
        let node = &self.inner.graph.nodes()[0];
        let inputs = self.inner.running_inputs(call)?;
        let outputs = plan.graph.outputs.iter().map(|&id| {
            let value = plan.graph.value(id);
            let dims = value.shape().and_then(TensorShape::as_fixed);
            let (Some(dims), Some(element_type)) = (dims, value.element_type()) else {
                return Err(Error::infer(format!("the shape of {:?} is not known", value.name)));
            };
            Tensor::zeros(element_type, &dims)
        });
        let outputs = outputs.collect::<Result<Vec<_>>>()?;
        state.run(&inputs, &outputs, call.cancellation)?;
        let mut outputs = outputs.into_iter();
        Ok(node.outputs.iter().map(|id| id.and_then(|_| outputs.next())).collect())
    }
}

impl Inner {
    fn decides(&self, index: usize) -> bool {
        deciders::deciding_inputs(&self.graph.nodes()[0].op).contains(&index)
    }

    /// The tensors that the plan of the node reads when it runs.
    fn running_inputs(&self, call: &Call) -> Result<Vec<Tensor>> {
        let mut seen = Vec::new();
        let mut tensors = Vec::new();
        for (index, id) in self.graph.nodes()[0].inputs.iter().enumerate() {
            let Some(id) = id.filter(|id| self.is_given(index, *id) && !seen.contains(id)) else { continue };
            seen.push(id);
            tensors.push(call.input(index)?.clone());
        }
        Ok(tensors)
    }

    /// Whether an input is a tensor that comes with each run.
    fn is_given(&self, index: usize, id: ValueId) -> bool {
        !self.decides(index) && self.graph.constant(id).is_none()
    }

    fn key(&self, call: &Call) -> Result<Key> {
        let mut key = Key::default();
        for (index, tensor) in call.inputs.iter().enumerate() {
            let Some(tensor) = tensor else { continue };
            key.dims.push(tensor.dims().to_vec());
            if self.decides(index) {
                key.deciding.push(tensor.read_bytes()?.to_vec());
            }
        }
        Ok(key)
    }

    fn compile(&self, call: &Call) -> Result<Plan> {
        let mut graph = self.graph.clone();
        let inputs = graph.nodes()[0].inputs.clone();
        for (index, id) in inputs.into_iter().enumerate() {
            let Some(id) = id else { continue };
            let tensor = call.input(index)?;
            if !self.is_given(index, id) {
                if graph.constant(id).is_none() {
                    // Several inputs may read one value, and only some of them may decide.
                    let name = format!("{}.{index}", graph.value(id).name);
                    let constant = graph.add_constant(name, tensor.to_owned_copy()?);
                    graph.nodes_mut()[0].inputs[index] = Some(constant);
                }
                continue;
            }
            let value = graph.value_mut(id);
            let element_type = tensor.element_type();
            value.value_type =
                ValueType::Tensor { element_type, shape: Some(TensorShape::fixed(tensor.dims())) };
            if !graph.inputs.contains(&id) {
                graph.inputs.push(id);
            }
        }
        shapes::infer(&mut graph)?;
        let is_open = |id: &&ValueId| graph.value(**id).shape().and_then(TensorShape::as_fixed).is_none();
        if let Some(&open) = graph.outputs.iter().find(is_open) {
            let name = &graph.value(open).name;
            return Err(Error::infer(format!(
                "the size of {name:?} is too large, or does not follow from its inputs"
            )));
        }
        Plan::compile_within(&graph, &self.around.options, self.around.team.clone(), Vec::new())
    }
}

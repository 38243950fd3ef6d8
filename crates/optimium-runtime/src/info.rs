//! What a model tells about its tensors and operations.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use optimium_device::{DeviceId, OperationInfo};
use optimium_graph::{Graph, Value, ValueId};
use optimium_tensor::{ElementType, Error, QuantScheme, Result, TensorShape};

use crate::names::{self, Held};

/// Alignment of the memory that the runtime gives its tensors, in bytes.
const ALIGNMENT: usize = 64;

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name, unique in the model.
    pub name: String,
    /// The type of its elements.
    pub element_type: ElementType,
    /// Its shape; dimensions of dynamic models may be symbolic.
    pub shape: TensorShape,
    /// Alignment of its memory, in bytes.
    pub alignment: usize,
    /// Unused bytes behind its elements.
    pub padding: usize,
    /// How its integers stand for reals, for quantized tensors.
    pub scheme: Option<Arc<QuantScheme>>,
    /// Whether it was optimized out: a fused operation never writes it to memory.
    pub opt_out: bool,
    /// Whether it is a constant of the model.
    pub constant: bool,
}

impl TensorInfo {
    /// Size of its elements in bytes; 0 for strings, which are not stored inline.
    ///
    /// # Errors
    /// [`Shape`](optimium_tensor::ErrorKind::Shape) for a dynamic shape, and where the size cannot be
    /// represented.
    pub fn size(&self) -> Result<usize> {
        let dims = self.shape.as_fixed().ok_or_else(|| {
            Error::shape(format!("the tensor {:?} of shape {} has no fixed size", self.name, self.shape))
        })?;
        dims.iter()
            .try_fold(self.element_type.size(), |bytes, &dim| bytes.checked_mul(dim))
            .ok_or_else(|| Error::shape(format!("the tensor {:?} is larger than memory can be", self.name)))
    }
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.name, self.element_type, self.shape)?;
        if let Some(scheme) = &self.scheme {
            write!(f, " ({scheme})")?;
        }
        Ok(())
    }
}

/// An operation of a loaded model: one step of its plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpInfo {
    /// Its name.
    pub name: String,
    /// The device that runs it.
    pub device: DeviceId,
    /// The operator's name.
    pub operator: String,
    /// The kernel that was chosen, and the fusions: for people.
    pub kernel: String,
    /// Names of the tensors it reads.
    pub inputs: Vec<String>,
    /// Names of the tensors it writes.
    pub outputs: Vec<String>,
}

impl OpInfo {
    pub(crate) fn on(device: DeviceId, operation: OperationInfo) -> OpInfo {
        let OperationInfo { name, operator, kernel, inputs, outputs } = operation;
        OpInfo { name, device, operator, kernel, inputs, outputs }
    }
}

/// The tensors of `graph` whose type and rank are known, in the order of its values.
pub(crate) fn tensors(graph: &Graph, operations: &[OpInfo]) -> Vec<TensorInfo> {
    let written: HashSet<&str> =
        operations.iter().flat_map(|operation| &operation.outputs).map(String::as_str).collect();
    let interface: HashSet<ValueId> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    let has_memory = |index: usize, value: &Value| {
        value.constant.is_some()
            || written.contains(value.name.as_str())
            || interface.contains(&ValueId::from_index(index))
    };
    let values = graph.values().iter().enumerate();
    let shown = |(index, value): (usize, &Value)| {
        Some(as_in_model(names::own(graph, &value.name), tensor(value, !has_memory(index, value))?))
    };
    values.filter_map(shown).collect()
}

/// The tensors of the model that values of other names hold.
pub(crate) fn aliases(graph: &Graph) -> HashMap<String, TensorInfo> {
    let named = names::aliases(graph).filter_map(|(name, held, id)| {
        let info = as_in_model(held, tensor(graph.value(id), false)?);
        Some((name.to_owned(), TensorInfo { name: name.to_owned(), ..info }))
    });
    named.collect()
}

/// In the layout that the model has.
fn as_in_model(held: Held<'_>, info: TensorInfo) -> TensorInfo {
    let scheme = info.scheme.map(|scheme| match scheme.axis() {
        Some(axis) => Arc::new((*scheme).clone().with_axis(held.axis(axis))),
        None => scheme,
    });
    TensorInfo { shape: held.shape(&info.shape), scheme, ..info }
}

/// The index of a value among the [`tensors`] of its graph.
pub(crate) fn index(graph: &Graph, id: ValueId) -> usize {
    graph.values()[..id.index()].iter().filter(|value| tensor(value, false).is_some()).count()
}

/// What there is to say about `value`; nothing where it is not a tensor of known rank.
fn tensor(value: &Value, opt_out: bool) -> Option<TensorInfo> {
    Some(TensorInfo {
        name: value.name.clone(),
        element_type: value.element_type()?,
        shape: value.shape()?.clone(),
        alignment: ALIGNMENT,
        padding: 0,
        scheme: value.scheme.clone(),
        opt_out,
        constant: value.constant.is_some(),
    })
}

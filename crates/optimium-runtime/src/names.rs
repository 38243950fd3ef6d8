//! Tensors by the names that the author of a model gave them, in the layout that they have there.

use optimium_graph::{Graph, Origin, ValueId, passes};
use optimium_tensor::{Error, ErrorKind, Result, Tensor, TensorShape};

/// A value that holds a tensor of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'a> {
    /// The value's name.
    pub(crate) value: &'a str,
    /// The axis of the value that each axis of the tensor is; none where all are the same.
    permutation: &'a [usize],
}

/// The value that holds the tensor `name`.
///
/// # Errors
/// [`InvalidOperation`](ErrorKind::InvalidOperation) where the tensor was fused or folded away;
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for a name that the model does not have.
pub(crate) fn find<'a>(graph: &'a Graph, name: &'a str) -> Result<Held<'a>> {
    match graph.origins.get(name) {
        Some(Origin::Held { value, permutation }) => Ok(Held { value, permutation }),
        Some(Origin::Fused { into }) => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!(
                "the model {:?} does not keep the tensor {name:?}: it was fused or folded into the layer that computes {into:?}; to \
                 keep it, load (or convert) the model from its file with keep_tensors=[{name:?}]",
                graph.name
            ),
        )),
        None if graph.find_value(name).is_some() => Ok(Held { value: name, permutation: &[] }),
        None => Err(Error::invalid_argument(format!("the model {:?} has no tensor {name:?}", graph.name))),
    }
}

/// How a value is shown: as the tensor of its own name.
pub(crate) fn own<'a>(graph: &'a Graph, name: &'a str) -> Held<'a> {
    match graph.origins.get(name) {
        Some(Origin::Held { value, permutation }) if value == name => Held { value, permutation },
        _ => Held { value: name, permutation: &[] },
    }
}

/// The tensors that values of other names hold, with what holds them.
pub(crate) fn aliases(graph: &Graph) -> impl Iterator<Item = (&str, Held<'_>, ValueId)> {
    graph.origins.iter().filter_map(|(name, origin)| match origin {
        Origin::Held { value, permutation } if value != name => {
            Some((name.as_str(), Held { value, permutation }, graph.find_value(value)?))
        }
        _ => None,
    })
}

impl Held<'_> {
    /// The shape of the tensor, from that of the value.
    pub(crate) fn shape(&self, shape: &TensorShape) -> TensorShape {
        if self.permutation.len() != shape.rank() {
            return shape.clone();
        }
        self.permutation.iter().map(|&axis| shape.dims()[axis].clone()).collect()
    }

    /// The axis of the tensor that an axis of the value is.
    pub(crate) fn axis(&self, axis: usize) -> usize {
        self.permutation.iter().position(|&from| from == axis).unwrap_or(axis)
    }

    /// The tensor, from what the value holds.
    ///
    /// # Errors
    /// [`OutOfResource`](ErrorKind::OutOfResource) where memory ran out.
    pub(crate) fn tensor(&self, held: Tensor) -> Result<Tensor> {
        if self.permutation.len() != held.dims().len() || held.strings().is_some() {
            return Ok(held);
        }
        passes::permute_tensor(&held, self.permutation)
            .ok_or_else(|| Error::new(ErrorKind::OutOfResource, format!("no memory for {:?}", self.value)))
    }
}

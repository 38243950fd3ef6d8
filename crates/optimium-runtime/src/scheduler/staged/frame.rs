//! The memory of what crosses from stage to stage.
//!
//! A pass has a frame from the first stage to the last: a stage writes its results where the next one reads them. Their number
//! bounds both how many inferences are under way and the memory that they take.

use std::sync::Arc;

use optimium_graph::{Graph, shapes};
use optimium_tensor::{Access, ElementType, Error, QuantScheme, Result, Tensor, TensorShape};

/// A value that one stage computes and later ones use.
pub(crate) struct Crossing {
    /// Its name.
    pub(crate) name: String,
    /// Its index among the tensors of the model.
    pub(crate) tensor: u32,
    pub(crate) element_type: ElementType,
    pub(crate) scheme: Option<Arc<QuantScheme>>,
    pub(crate) shape: TensorShape,
    /// The stage that computes it.
    pub(crate) from: usize,
    /// The first stage that uses it.
    pub(crate) to: usize,
}

/// A tensor for every crossing value of one inference at a time.
#[derive(Default)]
pub(super) struct Frame {
    /// The number of the request whose inference was the last to use it, where that ended well.
    pub(super) owner: Option<u64>,
    /// The inputs' dimensions that the tensors are for.
    dims: Vec<Vec<usize>>,
    tensors: Vec<Tensor>,
}

impl Frame {
    /// Makes the tensors fit `inputs` of `graph`.
    ///
    /// # Errors
    /// [`Shape`](optimium_tensor::ErrorKind::Shape) for dimensions that do not fit;
    /// [`OutOfResource`](optimium_tensor::ErrorKind::OutOfResource) where memory ran out.
    pub(super) fn prepare(&mut self, crossings: &[Crossing], graph: &Graph, inputs: &[Tensor]) -> Result<()> {
        if crossings.is_empty() {
            return Ok(());
        }
        let is_ready = self.tensors.len() == crossings.len()
            && self.dims.iter().map(Vec::as_slice).eq(inputs.iter().map(Tensor::dims));
        if is_ready {
            return Ok(());
        }
        // They go first: both sizes need not be there at once.
        self.tensors.clear();
        let dims: Vec<&[usize]> = inputs.iter().map(Tensor::dims).collect();
        let values = shapes::bind(graph, &dims)?;
        for crossing in crossings {
            let size = |dim: i64| {
                usize::try_from(dim)
                    .map_err(|_| Error::shape(format!("{:?} would have the dimension {dim}", crossing.name)))
            };
            let dims = crossing.shape.dims().iter().map(|dim| dim.evaluate(&values).and_then(size));
            let tensor = Tensor::zeros(crossing.element_type, &dims.collect::<Result<Vec<_>>>()?)?;
            self.tensors.push(tensor.with_scheme(crossing.scheme.clone()));
        }
        self.dims = dims.into_iter().map(<[usize]>::to_vec).collect();
        Ok(())
    }

    /// The tensor of the crossing value of that index.
    pub(super) fn tensor(&self, index: usize) -> &Tensor {
        &self.tensors[index]
    }
}

/// The use of tensors by a stage, until it is dropped.
#[derive(Default)]
pub(super) struct Held(Vec<(Tensor, Access)>);

impl Held {
    /// Adds the use of `tensor`.
    ///
    /// # Errors
    /// [`InvalidOperation`](optimium_tensor::ErrorKind::InvalidOperation) where it is in use already.
    pub(super) fn add(&mut self, tensor: &Tensor, access: Access) -> Result<()> {
        if let Some((buffer, _)) = tensor.buffer() {
            buffer.acquire(access)?;
            self.0.push((tensor.clone(), access));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for (buffer, access) in
            self.0.iter().filter_map(|(tensor, access)| Some((tensor.buffer()?.0, *access)))
        {
            buffer.release(access);
        }
    }
}

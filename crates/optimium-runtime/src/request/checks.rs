//! What `infer` makes sure of before anything runs.

use std::ops::Range;

use optimium_device::Append;
use optimium_tensor::{ElementType, Error, Expr, Result, Tensor};

use super::made::Made;
use super::{Tensors, model};
use crate::info::TensorInfo;
use crate::lease::{addresses, overlap};

/// The tensors of one side in the model's order.
pub(super) fn in_order(what: &str, infos: &[TensorInfo], given: Tensors<'_>) -> Result<Vec<Tensor>> {
    match given {
        Tensors::Named(tensors) => model::sort_by_name(what, infos, tensors),
        Tensors::Ordered(tensors) => {
            model::check_count(what, infos.len(), tensors.len())?;
            Ok(tensors)
        }
    }
}

/// Checks the element types. A tensor of plain integers stands for a quantized one of the same storage, and
/// the other way round; it is relabelled.
pub(super) fn types(what: &str, infos: &[TensorInfo], tensors: &mut [Tensor]) -> Result<()> {
    for (info, tensor) in infos.iter().zip(tensors) {
        let (expected, given) = (info.element_type, tensor.element_type());
        if expected == given {
            continue;
        }
        if expected.storage() != given.storage() {
            return Err(Error::type_mismatch(format!(
                "the {what} {:?} has elements of {expected}, but a tensor of {given} was given",
                info.name
            )));
        }
        *tensor = tensor.clone().reinterpret(expected)?;
    }
    Ok(())
}

/// Sees to it that only tensors that the model can use so are not contiguous: inputs are copied where it cannot.
pub(super) fn layouts(model: &model::Inner, inputs: &mut [Tensor], outputs: &[Tensor]) -> Result<()> {
    let appends = &model.appends;
    let is_along = |tensor: &Tensor, axis: usize| {
        tensor.blocks().is_none_or(|blocks| blocks.count == blocks_before(tensor, axis))
    };
    for (index, input) in inputs.iter_mut().enumerate() {
        let usable = |append: &Append| append.input == index && is_along(input, append.axis);
        if input.blocks().is_some() && !appends.iter().any(usable) {
            *input = input.to_owned_copy()?;
        }
    }
    for (index, (info, output)) in model.outputs.iter().zip(outputs).enumerate() {
        let usable = |append: &Append| append.output == index && is_along(output, append.axis);
        if output.blocks().is_some() && !appends.iter().any(usable) {
            return Err(Error::invalid_argument(format!(
                "the output {:?} has to be C-contiguous: only caches that grow, of a model in one stage, can be written in an \
                 array with room for more",
                info.name
            )));
        }
    }
    Ok(())
}

/// The blocks that a tensor has at most, if there is room along `axis`.
fn blocks_before(tensor: &Tensor, axis: usize) -> usize {
    tensor.dims().iter().take(axis).product()
}

/// Whether what is in `input` lies where `output` has it too, along `axis`.
fn begins_with(output: &Tensor, input: &Tensor, axis: usize) -> bool {
    let count = blocks_before(input, axis);
    let stride =
        |tensor: &Tensor| tensor.blocks().map_or(tensor.byte_len() / count.max(1), |blocks| blocks.stride);
    let start = |tensor: &Tensor| addresses(tensor).map(|addresses| addresses.start);
    start(output) == start(input) && (count == 1 || stride(output) == stride(input))
}

/// Checks that outputs can be written and that nothing else of the call lies in their memory, but for what they begin with.
/// `spans` are the addresses of inputs and outputs.
pub(super) fn memory(
    model: &model::Inner,
    inputs: &[Tensor],
    outputs: &[Tensor],
    spans: &[Option<Range<usize>>],
) -> Result<()> {
    let (read, written) = spans.split_at(inputs.len());
    let appends = &model.appends;
    for (i, (info, output)) in model.outputs.iter().zip(outputs).enumerate() {
        let refuse = |why: String| Err(Error::invalid_argument(format!("the output {:?} {why}", info.name)));
        if output.element_type() == ElementType::String {
            return Err(Error::not_implemented(format!("the output {:?} has elements of STRING", info.name)));
        }
        if output.span().is_some_and(|(buffer, _)| !buffer.is_writable()) {
            return refuse("is a read-only tensor".into());
        }
        let Some(own) = &written[i] else { continue };
        let shares = |other: &Option<Range<usize>>| other.as_ref().is_some_and(|other| overlap(own, other));
        if let Some(other) = written[..i].iter().position(shares) {
            return refuse(format!("shares memory with the output {:?}", model.outputs[other].name));
        }
        for (other, _) in read.iter().enumerate().filter(|(_, other)| shares(other)) {
            let name = &model.inputs[other].name;
            let continued = appends.iter().find(|append| append.input == other && append.output == i);
            match continued {
                Some(append) if begins_with(output, &inputs[other], append.axis) => {}
                Some(_) => {
                    return refuse(format!(
                        "shares memory with the input {name:?}, but does not begin with it: both have to be views of one array from \
                         its start, as in array[:, :, :n] and array[:, :, :n + 1]"
                    ));
                }
                None if model.scheduler.executables().len() > 1 => {
                    return refuse(format!(
                        "shares memory with the input {name:?}: only caches that grow, of a model in one stage, can do so"
                    ));
                }
                None => return refuse(format!("shares memory with the input {name:?}")),
            }
        }
    }
    Ok(())
}

/// Input shapes that fit the model, and the output shapes that follow.
pub(super) struct BoundShapes {
    inputs: Vec<Vec<usize>>,
    /// `None` stands for a size that only values show.
    outputs: Vec<Vec<Option<i64>>>,
}

impl BoundShapes {
    /// Checks the shapes of `inputs` against the model's and each other.
    pub(super) fn new(model: &model::Inner, inputs: &[Tensor]) -> Result<BoundShapes> {
        for (info, tensor) in model.inputs.iter().zip(inputs) {
            model::check_dims(info, tensor.dims())?;
        }
        let dims: Vec<Vec<usize>> = inputs.iter().map(|tensor| tensor.dims().to_vec()).collect();
        let values = model.bind(&dims)?;
        let evaluated = |dim: &Expr| dim.evaluate(&values).ok();
        let outputs =
            model.outputs.iter().map(|info| info.shape.dims().iter().map(evaluated).collect()).collect();
        Ok(BoundShapes { inputs: dims, outputs })
    }

    /// Whether `inputs` have the shapes that were checked.
    pub(super) fn is_for(&self, inputs: &[Tensor]) -> bool {
        self.inputs.iter().zip(inputs).all(|(dims, tensor)| dims == tensor.dims())
    }

    /// Checks the shapes of those `outputs` that the inference does not make itself.
    pub(super) fn check_outputs(
        &self,
        infos: &[TensorInfo],
        outputs: &[Tensor],
        made: Option<&Made>,
    ) -> Result<()> {
        for (index, ((info, expected), tensor)) in infos.iter().zip(&self.outputs).zip(outputs).enumerate() {
            if made.is_some_and(|made| made[index]) {
                continue;
            }
            let fits = |(expected, &given): (&Option<i64>, &usize)| {
                expected.is_none_or(|expected| usize::try_from(expected) == Ok(given))
            };
            if expected.len() != tensor.dims().len() || !expected.iter().zip(tensor.dims()).all(fits) {
                let dim = |dim: &Option<i64>| dim.map_or_else(|| "?".to_string(), |dim| dim.to_string());
                return Err(Error::shape(format!(
                    "the output {:?} gets the shape [{}] from these inputs, but a tensor of shape {:?} was given",
                    info.name,
                    expected.iter().map(dim).collect::<Vec<_>>().join(", "),
                    tensor.dims()
                )));
            }
        }
        Ok(())
    }
}

//! Searches: what is not zero, what is distinct, which boxes stand alone.

use std::sync::{Arc, Mutex, PoisonError};

use half::{bf16, f16};
use optimium_graph::ops::{NonMaxSuppression, Unique};
use optimium_graph::{Graph, Node, Operator};
use optimium_kernels::SharedSlice;
use optimium_kernels::movement::{count_nonzero, nonzero};
use optimium_kernels::selection::{BoxFormat, Boxes, Items, Order, Suppression, unique};
use optimium_tensor::{Element, ElementType, Error, Result, Tensor};

use super::{Call, DynamicOperator, Running, Surroundings};
use crate::team::Team;

/// Fewer scores are looked at faster than workers are called.
const WORTH_WORKERS: usize = 1 << 13;

/// Calls a generic function with the type that elements are stored as.
macro_rules! with_storage {
    ($element_type:expr, $function:ident($($argument:expr),*)) => {
        match $element_type.storage() {
            ElementType::Bool | ElementType::U8 => $function::<u8>($($argument),*),
            ElementType::I8 => $function::<i8>($($argument),*),
            ElementType::I16 => $function::<i16>($($argument),*),
            ElementType::U16 => $function::<u16>($($argument),*),
            ElementType::I32 => $function::<i32>($($argument),*),
            ElementType::U32 => $function::<u32>($($argument),*),
            ElementType::I64 => $function::<i64>($($argument),*),
            ElementType::U64 => $function::<u64>($($argument),*),
            ElementType::F16 => $function::<f16>($($argument),*),
            ElementType::BF16 => $function::<bf16>($($argument),*),
            ElementType::F32 => $function::<f32>($($argument),*),
            ElementType::F64 => $function::<f64>($($argument),*),
            other => Err(Error::not_implemented(format!("element type {other}"))),
        }
    };
}

/// An operator that searches.
#[derive(Clone)]
pub(super) struct Selection {
    op: Operator,
    team: Arc<Team>,
}

impl Selection {
    /// The operator of `node`.
    ///
    /// # Errors
    /// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for element types that it does not know.
    pub(super) fn compile(graph: &Graph, node: &Node, around: &Surroundings) -> Result<Selection> {
        fn known<T: Element>() -> Result<ElementType> {
            Ok(T::TYPE)
        }
        let element_type = node.input(0).and_then(|id| graph.value(id).element_type());
        let element_type = element_type.ok_or_else(|| Error::not_implemented("unknown element type"))?;
        with_storage!(element_type, known())?;
        Ok(Selection { op: node.op.clone(), team: around.team.clone() })
    }
}

impl DynamicOperator for Selection {
    fn kernel(&self) -> String {
        let name = match self.op {
            Operator::Unique(_) => "sort",
            Operator::NonMaxSuppression(_) => "suppression",
            _ => "positions",
        };
        name.to_owned()
    }

    fn start(&self) -> Box<dyn Running> {
        Box::new(self.clone())
    }
}

impl Running for Selection {
    fn run(&mut self, call: &Call) -> Result<Vec<Option<Tensor>>> {
        let x = call.input(0)?;
        let results = match &self.op {
            Operator::NonMaxSuppression(op) => vec![suppress(op, call, &self.team)?],
            Operator::Unique(op) => with_storage!(x.element_type(), distinct(op, x))?,
            _ => vec![with_storage!(x.element_type(), positions(x))?],
        };
        Ok(results.into_iter().map(Some).collect())
    }
}

/// The positions of what is not zero; a scalar counts as a vector of one.
fn positions<T: Element + Default>(x: &Tensor) -> Result<Tensor> {
    let dims = if x.dims().is_empty() { &[1][..] } else { x.dims() };
    let values = x.read::<T>()?;
    let y = Tensor::zeros(ElementType::I64, &[dims.len(), count_nonzero::<T>(&values)])?;
    nonzero::<T>(&values, dims, SharedSlice::new(&mut y.write::<i64>()?));
    Ok(y)
}

/// The distinct items, where they occur first, the index of each item, and how often each occurs.
fn distinct<T: Element + Order>(op: &Unique, x: &Tensor) -> Result<Vec<Tensor>> {
    let dims = x.dims();
    let axis = op.axis.map(|axis| if axis < 0 { axis + dims.len() as i64 } else { axis } as usize);
    let (outer, count, inner) = match axis {
        None => (1, x.len(), 1),
        Some(axis) => (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product()),
    };
    let data = x.read::<T>()?;
    let found = unique(Items { data: &data, outer, count, inner }, op.sorted);
    let mut y_dims = if axis.is_some() { dims.to_vec() } else { vec![0] };
    y_dims[axis.unwrap_or(0)] = found.first.len();
    let mut items = Vec::with_capacity(outer * found.first.len() * inner);
    for block in 0..outer {
        for &item in &found.first {
            items.extend_from_slice(&data[(block * count + item) * inner..][..inner]);
        }
    }
    let y = Tensor::from_bytes(x.element_type(), &y_dims, bytemuck::cast_slice(&items))?;
    let numbers = |values: &[usize]| {
        let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
        Tensor::from_slice(&[values.len()], &values)
    };
    Ok(vec![y, numbers(&found.first)?, numbers(&found.inverse)?, numbers(&found.counts)?])
}

/// For each batch and class the boxes that are kept.
fn suppress(op: &NonMaxSuppression, call: &Call, team: &Team) -> Result<Tensor> {
    let (boxes, scores) = (call.input(0)?, call.input(1)?);
    let (&[batches, count, 4], &[batches_of_scores, classes, count_of_scores]) =
        (boxes.dims(), scores.dims())
    else {
        return Err(Error::shape(format!("scores {:?} for boxes {:?}", scores.dims(), boxes.dims())));
    };
    if (batches, count) != (batches_of_scores, count_of_scores) {
        return Err(Error::shape(format!("scores {:?} for boxes {:?}", scores.dims(), boxes.dims())));
    }
    let limit = match call.optional(2) {
        Some(limit) => limit.to_i64s()?.first().copied().unwrap_or(0),
        None => 0,
    };
    let threshold = |index: usize| -> Result<Option<f32>> {
        call.optional(index).map_or(Ok(None), |tensor| Ok(tensor.to_f32s()?.first().copied()))
    };
    let how = Suppression {
        limit: usize::try_from(limit).unwrap_or(0),
        overlap: threshold(3)?.unwrap_or(0.0),
        score: threshold(4)?,
    };
    let format = if op.center_point_box { BoxFormat::Center } else { BoxFormat::Corners };
    let (boxes, scores) = (boxes.read::<f32>()?, scores.read::<f32>()?);
    let (boxes, scores): (&[f32], &[f32]) = (&boxes, &scores);
    let boxes: Vec<Boxes> =
        (0..batches).map(|batch| Boxes::new(&boxes[batch * count * 4..][..count * 4], format)).collect();
    let of_class = |index: usize| how.keep(&boxes[index / classes], &scores[index * count..][..count]);
    let kept = for_all(batches * classes, scores.len() >= WORTH_WORKERS, team, of_class);
    let rows = kept.iter().enumerate().flat_map(|(index, kept)| {
        kept.iter().flat_map(move |&index_of_box| [index / classes, index % classes, index_of_box])
    });
    let rows: Vec<i64> = rows.map(|number| number as i64).collect();
    Tensor::from_slice(&[rows.len() / 3, 3], &rows)
}

/// The results of `work` for all numbers below `count`, by all workers where that is worth it.
fn for_all(
    count: usize,
    is_worth_workers: bool,
    team: &Team,
    work: impl Fn(usize) -> Vec<usize> + Sync,
) -> Vec<Vec<usize>> {
    if !is_worth_workers || count < 2 || team.threads() == 1 {
        return (0..count).map(work).collect();
    }
    let results: Vec<Mutex<Vec<usize>>> = (0..count).map(|_| Mutex::default()).collect();
    team.run(|worker| {
        for index in (worker.index()..count).step_by(team.threads()) {
            *results[index].lock().unwrap_or_else(PoisonError::into_inner) = work(index);
        }
    });
    results.into_iter().map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

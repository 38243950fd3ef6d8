//! How much work a step is, roughly: whether sharing it between workers gains more than it costs.

use std::sync::Arc;

use optimium_graph::Operator;
use optimium_graph::ops::Recurrent;
use optimium_graph::work::{self, OperandDims};

use crate::layer::Bound;

/// Multiply-adds that a worker does in a nanosecond, bytes that it moves, and elements of other kinds of work that it computes.
/// They are rather too high for most machines, so that what is near the limit stays in one worker's cache.
const MULTIPLY_ADDS: usize = 32;
const BYTES: usize = 16;
const ELEMENTS: usize = 4;

/// Nanoseconds of work below which a step is not shared: the workers' cores pass each other the results of the step before and
/// of this one, which takes some hundred nanoseconds for the first cache lines alone.
const WORTH_SHARING: usize = 600;

/// Whether several workers do the step of `operator` sooner than one.
pub(crate) fn is_worth_sharing(
    operator: &Operator,
    inputs: &[Option<Arc<Bound>>],
    outputs: &[Option<Arc<Bound>>],
) -> bool {
    nanoseconds(operator, inputs, outputs) >= WORTH_SHARING
}

fn nanoseconds(operator: &Operator, inputs: &[Option<Arc<Bound>>], outputs: &[Option<Arc<Bound>>]) -> usize {
    if let Operator::Recurrent(op) = operator {
        return between_steps(op, inputs);
    }
    let all = || inputs.iter().chain(outputs).flatten();
    let largest = |operands: &[Option<Arc<Bound>>]| {
        operands.iter().flatten().map(|bound| bound.len()).max().unwrap_or(0)
    };
    let elements = largest(inputs).max(largest(outputs));
    let compute = match operator {
        Operator::Conv(_) | Operator::MatMul(_) | Operator::CompressedMatMul(_) => {
            multiply_adds(operator, inputs, outputs) / MULTIPLY_ADDS
        }
        _ if is_heavy(operator) => return usize::MAX,
        _ => elements / ELEMENTS,
    };
    let bytes: usize = all().map(|bound| bound.operand.bytes).fold(0, usize::saturating_add);
    compute.max(bytes / BYTES)
}

fn multiply_adds(
    operator: &Operator,
    inputs: &[Option<Arc<Bound>>],
    outputs: &[Option<Arc<Bound>>],
) -> usize {
    let input = |index: usize| Some(inputs.get(index)?.as_ref()?.dims.as_slice());
    let output = |index: usize| Some(outputs.get(index)?.as_ref()?.dims.as_slice());
    let count = work::multiply_adds(operator, OperandDims { input: &input, output: &output });
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Whether the work cannot be told from the operands' sizes.
fn is_heavy(operator: &Operator) -> bool {
    matches!(
        operator,
        Operator::Gemm(_)
            | Operator::Einsum(_)
            | Operator::ConvTranspose(_)
            | Operator::ConvInteger(_)
            | Operator::MatMulInteger(_)
            | Operator::DynamicQuantizedMatMul(_)
            | Operator::Attention(_)
    )
}

/// What there is to do between two meetings of the workers of a recurrent layer, who meet in each step.
fn between_steps(op: &Recurrent, inputs: &[Option<Arc<Bound>>]) -> usize {
    let dims = |index: usize| inputs.get(index)?.as_ref()?.dims.as_chunks().0.first();
    let (Some(&[first, second, size]), Some(&[directions, columns, _])) = (dims(0), dims(1)) else {
        return usize::MAX;
    };
    let batch = if op.batch_first { first } else { second };
    let weights = (size + op.hidden_size).saturating_mul(directions).saturating_mul(columns);
    weights.saturating_mul(batch) / MULTIPLY_ADDS
}

#[cfg(test)]
mod tests {
    use optimium_graph::ops::{Binary, MatMul};
    use optimium_tensor::ElementType;
    use optimium_testing::each_case;

    use super::*;
    use crate::memory::Operand;

    fn bound(dims: &[usize]) -> Option<Arc<Bound>> {
        let operand = Operand { base: 0, offset: 0, bytes: 4 * dims.iter().product::<usize>() };
        let row_stride = dims.last().copied().unwrap_or(1);
        Some(Arc::new(Bound { operand, dims: dims.to_vec(), element_type: ElementType::F32, row_stride }))
    }

    #[test]
    fn what_takes_long_is_shared() {
        let add = || Operator::Binary { function: Binary::Add };
        let product =
            MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Default::default() };
        let product = || Operator::MatMul(product.clone());
        let cases: [(&str, Operator, [&[usize]; 3], bool); 6] = [
            ("a few sums", add(), [&[16], &[16], &[16]], false),
            ("many sums", add(), [&[1000, 1000], &[1000, 1000], &[1000, 1000]], true),
            ("no sums", add(), [&[0], &[0], &[0]], false),
            ("a small product", product(), [&[1, 32], &[32, 32], &[1, 32]], false),
            ("a deep product", product(), [&[1, 10_000], &[10_000, 16], &[1, 16]], true),
            (
                "unknown work",
                Operator::Einsum(optimium_graph::ops::Einsum { equation: "i,i->i".into() }),
                [&[1]; 3],
                true,
            ),
        ];
        each_case(cases, |(_, operator, [a, b, y], expected)| {
            let shared = is_worth_sharing(operator, &[bound(a), bound(b), None], &[bound(y)]);
            if shared == *expected { Ok(()) } else { Err(format!("shared: {shared}")) }
        });
    }
}

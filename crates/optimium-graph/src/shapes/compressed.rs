//! Rules of operators whose constant matrix is stored in few bits.

use optimium_tensor::{ElementType, Error, Expr, Result};

use super::context::Context;
use super::matrix::check_fused;
use crate::ops::{CompressedGather, CompressedMatMul, CompressedWeights, WeightEncoding};

/// Inputs: a, data, scales, zero points or none, bias or none, residual or none, slope or none.
pub(super) fn matmul(op: &CompressedMatMul, cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(0, &[ElementType::F32])?;
    let vectors = check_weights(&op.weights, 1, cx)?;
    let mut dims = cx.dims(0)?;
    let Some(last) = dims.last_mut() else { return Err(Error::model("a product with a scalar")) };
    check_equal(last, op.weights.k, "the last dimension of the left operand")?;
    *last = vectors;
    for index in [4, 5, 6] {
        cx.expect_type(index, &[ElementType::F32])?;
    }
    check_fused([4, 5, 6], &dims, cx)?;
    cx.set(0, ElementType::F32, dims)
}

/// Inputs: data, scales, zero points or none, indices.
pub(super) fn gather(op: &CompressedGather, cx: &mut Context<'_>) -> Result<()> {
    check_weights(&op.weights, 0, cx)?;
    cx.input(3)?;
    cx.expect_type(3, &[ElementType::I32, ElementType::I64])?;
    let mut dims = cx.dims(3)?;
    dims.push(Expr::from(op.weights.k));
    cx.set(0, ElementType::F32, dims)
}

/// Checks the matrix whose data is input `first`, with scales and zero points after it, and gives the number of its vectors.
fn check_weights(weights: &CompressedWeights, first: usize, cx: &Context<'_>) -> Result<Expr> {
    let plain = weights.encoding == WeightEncoding::Bf16;
    let block = weights.block_size;
    if plain != (block == 0) || !block.is_multiple_of(16) {
        return Err(Error::model(format!("{} weights in blocks of {block}", weights.encoding.name())));
    }
    let stored = weights
        .stored_len()
        .ok_or_else(|| Error::model(format!("{} elements in blocks of {block}", weights.k)))?;
    let data = cx.dims_of_rank(first, 2)?;
    cx.expect_type(first, &[if plain { ElementType::BF16 } else { ElementType::U8 }])?;
    check_equal(&data[1], stored, "a vector of compressed weights")?;
    if plain == cx.has(first + 1) || (plain && cx.has(first + 2)) {
        return Err(Error::model(format!(
            "{} weights with other scales than theirs",
            weights.encoding.name()
        )));
    }
    for (index, types) in
        [(first + 1, &[ElementType::F32, ElementType::F16][..]), (first + 2, &[ElementType::U8])]
    {
        if cx.has(index) {
            cx.expect_type(index, types)?;
            let dims = cx.dims_of_rank(index, 2)?;
            check_equal(&dims[1], weights.blocks(), "the scales or zero points of a vector")?;
            if dims[0] != data[0] {
                return Err(Error::model(format!(
                    "scales or zero points of {} vectors for {}",
                    dims[0], data[0]
                )));
            }
        }
    }
    Ok(data[0].clone())
}

fn check_equal(found: &Expr, expected: usize, what: &str) -> Result<()> {
    match found.as_const() {
        Some(found) if usize::try_from(found) != Ok(expected) => {
            Err(Error::model(format!("{what} has {found} elements, expected {expected}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::ops::Fusion;
    use crate::shapes::testing::Input::{self, Data, Missing, Typed};
    use crate::shapes::testing::{expect, outcome};

    const BF16: ElementType = ElementType::BF16;
    const U8: ElementType = ElementType::U8;

    fn matmul(encoding: WeightEncoding, k: usize, block_size: usize) -> Operator {
        let weights = CompressedWeights { encoding, k, block_size };
        Operator::CompressedMatMul(CompressedMatMul { weights, fusion: Fusion::default() })
    }

    fn gather(encoding: WeightEncoding, k: usize, block_size: usize) -> Operator {
        Operator::CompressedGather(CompressedGather {
            weights: CompressedWeights { encoding, k, block_size },
        })
    }

    #[test]
    fn operators_on_compressed_weights() {
        use WeightEncoding::{Bf16, Int4, Int8};
        type Case = (Operator, &'static [Input], Result<&'static str, &'static str>);
        let cases: Vec<Case> = vec![
            (matmul(Bf16, 40, 0), &[Data("N T 40"), Typed(BF16, "5 40")], Ok("F32 [N, T, 5]")),
            (matmul(Int8, 40, 32), &[Data("N 40"), Typed(U8, "5 64"), Data("5 2")], Ok("F32 [N, 5]")),
            (matmul(Int4, 40, 32), &[Data("40"), Typed(U8, "5 32"), Data("5 2")], Ok("F32 [5]")),
            (
                matmul(Int4, 40, 32),
                &[Data("2 40"), Typed(U8, "5 32"), Data("5 2"), Typed(U8, "5 2"), Data("5"), Data("2 5")],
                Ok("F32 [2, 5]"),
            ),
            (matmul(Int4, 40, 32), &[Data("2 41"), Typed(U8, "5 32"), Data("5 2")], Err("expected 40")),
            (matmul(Int4, 40, 32), &[Data(""), Typed(U8, "5 32"), Data("5 2")], Err("scalar")),
            (matmul(Int4, 40, 32), &[Data("2 40"), Typed(U8, "5 64"), Data("5 2")], Err("expected 32")),
            (matmul(Int4, 40, 32), &[Data("2 40"), Typed(U8, "5 32"), Data("5 1")], Err("expected 2")),
            (matmul(Int4, 40, 32), &[Data("2 40"), Typed(U8, "5 32"), Data("6 2")], Err("6 vectors for 5")),
            (matmul(Int4, 40, 32), &[Data("2 40"), Typed(U8, "5 32")], Err("other scales")),
            (matmul(Int4, 40, 32), &[Data("2 40"), Data("5 32"), Data("5 2")], Err("expected U8")),
            (matmul(Int4, 40, 8), &[Data("2 40"), Typed(U8, "5 20"), Data("5 5")], Err("blocks of 8")),
            (matmul(Int4, 40, 0), &[Data("2 40"), Typed(U8, "5 20"), Data("5 0")], Err("blocks of 0")),
            (matmul(Int8, usize::MAX, 32), &[Data("2 40"), Typed(U8, "5 20"), Data("5 0")], Err("in blocks")),
            (matmul(Bf16, 40, 32), &[Data("2 40"), Typed(BF16, "5 40")], Err("blocks of 32")),
            (matmul(Bf16, 40, 0), &[Data("2 40"), Typed(BF16, "5 40"), Data("5 2")], Err("other scales")),
            (
                gather(Int8, 40, 32),
                &[Typed(U8, "5 64"), Data("5 2"), Missing, Typed(ElementType::I64, "N T")],
                Ok("F32 [N, T, 40]"),
            ),
            (
                gather(Int8, 40, 32),
                &[Typed(U8, "5 64"), Data("5 2"), Missing, Data("N")],
                Err("expected I32"),
            ),
            (gather(Int8, 40, 32), &[Typed(U8, "5 64"), Data("5 2")], Err("missing")),
        ];
        each_case(cases, |(op, inputs, expected)| expect(outcome(op.clone(), inputs, 1), *expected));
    }
}

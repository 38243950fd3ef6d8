//! Matrix products.

use optimium_graph::ops::{Einsum, Fusion, Gemm, MatMul, MatMulInteger, Operator};
use optimium_tensor::Result;

use super::super::attributes::missing;
use super::super::node::NodeReader;

/// A product without any attributes.
pub(super) fn plain_matmul() -> MatMul {
    MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Fusion::default() }
}

pub(super) fn matmul(node: &mut NodeReader<'_, '_>) -> Result<()> {
    node.finish_with_all_inputs(Operator::MatMul(plain_matmul()))
}

pub(super) fn gemm(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let attributes = &mut node.attributes;
    let gemm = Gemm {
        transpose_a: attributes.flag("transA", false)?,
        transpose_b: attributes.flag("transB", false)?,
        alpha: attributes.float_or("alpha", 1.0)?,
        beta: attributes.float_or("beta", 1.0)?,
    };
    node.finish_with_all_inputs(Operator::Gemm(gemm))
}

pub(super) fn matmul_integer(node: &mut NodeReader<'_, '_>) -> Result<()> {
    node.finish_with_all_inputs(Operator::MatMulInteger(MatMulInteger {}))
}

pub(super) fn einsum(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let equation = node.attributes.string("equation")?.ok_or_else(|| missing("equation"))?.to_owned();
    node.finish_with_all_inputs(Operator::Einsum(Einsum { equation }))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{case, check, node};
    use super::*;

    #[test]
    fn become_what_they_mean() {
        let gemm = Gemm { transpose_a: false, transpose_b: true, alpha: 0.5, beta: 1.0 };
        let einsum = Einsum { equation: "ij,jk->ik".to_owned() };
        let mut fused = node("FusedMatMul", &["a", "b"], &["y"]).float("alpha", 0.5);
        fused.domain = "com.microsoft".to_owned();
        let integer = node("MatMulInteger", &["a", "b", "", "z"], &["y"]);
        check([
            case(13, node("MatMul", &["a", "b"], &["y"]), Operator::MatMul(plain_matmul())),
            case(
                7,
                node("Gemm", &["a", "b", "c"], &["y"]).int("transB", 1).float("alpha", 0.5),
                Operator::Gemm(gemm),
            ),
            case(
                12,
                node("Einsum", &["a", "b"], &["y"]).text("equation", "ij,jk->ik"),
                Operator::Einsum(einsum),
            ),
            case(10, integer, Operator::MatMulInteger(MatMulInteger {})),
            case(13, fused, Operator::MatMul(MatMul { alpha: 0.5, ..plain_matmul() })),
        ]);
    }
}

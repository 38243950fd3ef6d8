//! Matrix products.

use optimium_graph::ValueId;
use optimium_graph::ops::{Binary, Einsum, Fusion, Gemm, MatMul, MatMulInteger, Operator};
use optimium_tensor::{Error, Result};

use super::super::attributes::missing;
use super::super::node::{NodeReader, support, unsupported};

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

/// The determinants of matrices of up to three rows, from their elements.
pub(super) fn determinant(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let (Some(rank), Some(size)) = (node.rank(x), node.last_size(x)) else {
        return unsupported("matrices of unknown shape");
    };
    if rank < 2 {
        return Err(Error::model(format!("the determinant of {rank} dimensions")));
    }
    support((1..=3).contains(&size), "matrices of more than three rows")?;
    let mut shape = vec![0; rank - 2];
    shape.push(size * size);
    let flat = node.reshape(x, &shape)?;
    let mut elements = Vec::new();
    for index in 0..size * size {
        let index = node.scalar("index", index)?;
        elements.push(node.gather(flat, index, -1));
    }
    let y = expansion(node, &elements, size as usize);
    node.give(0, y);
    Ok(())
}

/// The determinant by the first row.
fn expansion(node: &mut NodeReader<'_, '_>, elements: &[ValueId], size: usize) -> ValueId {
    if size == 1 {
        return elements[0];
    }
    let mut term = |column: usize| {
        let without = |&index: &usize| index >= size && index % size != column;
        let minor: Vec<ValueId> = (0..elements.len()).filter(without).map(|index| elements[index]).collect();
        let minor = expansion(node, &minor, size - 1);
        (column, node.binary(Binary::Mul, elements[column], minor))
    };
    let terms: Vec<(usize, ValueId)> = (0..size).map(&mut term).collect();
    let add = |sum, (column, term): (usize, ValueId)| {
        node.binary(if column % 2 == 0 { Binary::Add } else { Binary::Sub }, sum, term)
    };
    terms[1..].iter().copied().fold(terms[0].1, add)
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

    #[test]
    fn determinants_are_sums_of_products() {
        use super::super::super::testing::{graph, read_graph, value};
        let products = |dims: &[&str]| {
            let det = node("Det", &["x"], &["y"]);
            let read = read_graph(22, graph(vec![value("x", dims)], vec![], vec![det]));
            read.map(|graph| graph.nodes().iter().filter(|node| node.op.name() == "Mul").count())
        };
        let counts = [["5", "1", "1"], ["5", "2", "2"], ["N", "3", "3"]].map(|dims| products(&dims).unwrap());
        assert_eq!(counts, [0, 2, 9]);
        assert!(products(&["5", "4", "4"]).is_err() && products(&["2"]).is_err());
    }
}

//! Matrix products.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    Binary, Comparison, Einsum, Fusion, Gemm, MatMul, MatMulInteger, Operator, Reduction,
};
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
    let equation = node.attributes.string("equation")?.ok_or_else(|| missing("equation"))?;
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, result) = match equation.split_once("->") {
        Some((operands, result)) => (operands, Some(result)),
        None => (equation.as_str(), None),
    };
    let mut terms: Vec<String> = operands.split(',').map(str::to_owned).collect();
    // Where the result is not said, a letter that an operand has twice is none of the result's.
    if result.is_some() {
        for (index, term) in terms.iter_mut().enumerate().take(node.inputs.len()) {
            let mut x = node.required(index)?;
            while let Some((first, second)) = repeated(term) {
                x = diagonal(node, x, (term.len() - first) as i64, (term.len() - second) as i64)?;
                term.remove(second);
            }
            node.inputs[index] = Some(x);
        }
    }
    let mut result = result.map(str::to_owned);
    if let Some(result) = &mut result {
        spell_out(node, &mut terms, result);
    }
    let terms = terms.join(",");
    let equation = result.map_or(terms.clone(), |result| format!("{terms}->{result}"));
    node.finish_with_all_inputs(Operator::Einsum(Einsum { equation }))
}

/// Puts letters in the place of ellipses, where the numbers of dimensions are known.
fn spell_out(node: &mut NodeReader<'_, '_>, terms: &mut [String], result: &mut String) {
    const ELLIPSIS: &str = "...";
    let mut counts = Vec::with_capacity(terms.len());
    for (index, term) in terms.iter().enumerate() {
        let own = term.replacen(ELLIPSIS, "", 1).len();
        let rank = node.input(index).and_then(|x| node.inferred_dims(x)).map(|dims| dims.len());
        match rank.and_then(|rank| rank.checked_sub(own)) {
            Some(count) => counts.push(count),
            None => return,
        }
    }
    let is_free = |letter: &char| !terms.iter().any(|term| term.contains(*letter));
    let most = counts.iter().copied().max().unwrap_or(0);
    let letters: String = ('a'..='z').chain('A'..='Z').filter(is_free).take(most).collect();
    if letters.len() < most {
        return;
    }
    // Dimensions are aligned at their ends.
    let of = |term: &str, count: usize| term.replacen(ELLIPSIS, &letters[most - count..], 1);
    for (term, count) in terms.iter_mut().zip(counts) {
        *term = of(term, count);
    }
    *result = of(result, most);
}

/// The places of a letter that is there twice behind the ellipsis.
fn repeated(term: &str) -> Option<(usize, usize)> {
    let start = term.rfind('.').map_or(0, |dot| dot + 1);
    let mut letters =
        term.char_indices().filter(|&(place, letter)| place >= start && letter.is_ascii_alphabetic());
    letters.find_map(|(place, letter)| Some((place, place + 1 + term[place + 1..].find(letter)?)))
}

/// The elements of `x` whose indices along two axes are equal, without the second of these. Axes are counted from the end, from one on.
fn diagonal(node: &mut NodeReader<'_, '_>, x: ValueId, first: i64, second: i64) -> Result<ValueId> {
    let count = node.sizes(x, -second, Some(1 - second).filter(|&end| end < 0));
    let indices = node.count_to(count)?;
    let mut along = |axis: i64| match axis {
        1 => indices,
        _ => node.unsqueeze(indices, &(1..axis).collect::<Vec<_>>()),
    };
    let (rows, columns) = (along(first), along(second));
    let is_equal = node.compare(Comparison::Equal, rows, columns);
    let zero = node.scalar_like("zero", x, 0.0)?;
    let kept = node.select(is_equal, x, zero);
    Ok(node.reduce(Reduction::Sum, kept, Some(&[-second]), false))
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
    fn letters_that_are_there_twice_mean_a_diagonal() {
        use super::super::super::testing::operators;
        let read = |equation: &str| {
            let einsum = node("Einsum", &["x", "w"], &["y"]).text("equation", equation);
            operators(12, einsum, Vec::new()).unwrap()
        };
        let last = |equation: &str| Operator::Einsum(Einsum { equation: equation.to_owned() });
        let diagonal = "Shape Squeeze Range Unsqueeze Equal Where ReduceSum Einsum";
        let cases = [
            ("...ii, j k l m -> ...i", diagonal, "abi,jklm->abi"),
            ("abcd,efgh->a", "Einsum", "abcd,efgh->a"),
            ("abcd,efgg->g", diagonal, "abcd,efg->g"),
            ("abcd,efgg", "Einsum", "abcd,efgg"),
        ];
        for (equation, expected, simplified) in cases {
            let found = read(equation);
            let names: Vec<&str> = found.iter().map(Operator::name).collect();
            assert_eq!(
                (names.join(" ").as_str(), found.last()),
                (expected, Some(&last(simplified))),
                "{equation}"
            );
        }
        assert_eq!(repeated("iijj"), Some((0, 1)));
        assert_eq!(repeated("ii...j"), None);
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

//! The values of symbols, from concrete shapes.

use std::collections::HashMap;

use optimium_tensor::{Error, Expr, Result, SymbolValues};

use crate::Graph;

/// The values of the symbols, given the concrete dimensions of the graph's inputs, in order.
///
/// A dimension that is a symbol alone gives the symbol its value; every other dimension is checked.
///
/// # Errors
/// [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) where the number of inputs is another;
/// [`Shape`](optimium_tensor::ErrorKind::Shape) where dimensions do not fit. The message names the inputs.
pub fn bind(graph: &Graph, input_dims: &[&[usize]]) -> Result<SymbolValues> {
    bind_within(graph, input_dims, SymbolValues::new())
}

/// As [`bind`], where some symbols have values already.
///
/// # Errors
/// As there.
pub fn bind_within(graph: &Graph, input_dims: &[&[usize]], mut values: SymbolValues) -> Result<SymbolValues> {
    if input_dims.len() != graph.inputs.len() {
        return Err(Error::invalid_argument(format!(
            "the model has {} inputs, but {} shapes were given",
            graph.inputs.len(),
            input_dims.len()
        )));
    }
    let mut origins: HashMap<&str, (usize, usize)> = HashMap::new();
    for (input, dims) in input_dims.iter().enumerate() {
        let Some(shape) = shape_of(graph, input) else { continue };
        if shape.len() != dims.len() {
            return Err(mismatch(graph, input, dims));
        }
        for (axis, (expected, &found)) in shape.iter().zip(*dims).enumerate() {
            let found = number(found)?;
            if expected.as_const().is_some_and(|expected| expected != found) {
                return Err(mismatch(graph, input, dims));
            }
            let Some(symbol) = expected.as_symbol() else { continue };
            match values.get(symbol) {
                Some(&other) if other != found => {
                    let origin = origins.get(symbol).map(|&origin| (origin, other));
                    return Err(conflict(graph, symbol, origin.ok_or(other), ((input, axis), found)));
                }
                Some(_) => {}
                None => {
                    values.insert(symbol.into(), found);
                    origins.insert(symbol, (input, axis));
                }
            }
        }
    }
    check_composites(graph, input_dims, &values)?;
    Ok(values)
}

fn check_composites(graph: &Graph, input_dims: &[&[usize]], values: &SymbolValues) -> Result<()> {
    for (input, dims) in input_dims.iter().enumerate() {
        for (expected, &found) in shape_of(graph, input).unwrap_or_default().iter().zip(*dims) {
            let is_composite = expected.as_const().is_none() && expected.as_symbol().is_none();
            if !is_composite {
                continue;
            }
            let value = expected
                .evaluate(values)
                .map_err(|error| error.context(format!("input {:?}", name_of(graph, input))))?;
            if value != number(found)? {
                return Err(mismatch(graph, input, dims));
            }
        }
    }
    Ok(())
}

fn shape_of(graph: &Graph, input: usize) -> Option<&[Expr]> {
    graph.value(graph.inputs[input]).shape().map(|shape| shape.dims())
}

fn name_of(graph: &Graph, input: usize) -> &str {
    &graph.value(graph.inputs[input]).name
}

fn number(dim: usize) -> Result<i64> {
    i64::try_from(dim).map_err(|_| Error::shape(format!("the dimension {dim} is too large")))
}

fn mismatch(graph: &Graph, input: usize, dims: &[usize]) -> Error {
    let expected = graph.value(graph.inputs[input]).shape().map_or("?".to_owned(), |shape| shape.to_string());
    Error::shape(format!("input {:?} has shape {dims:?}, expected {expected}", name_of(graph, input)))
}

/// A symbol's origin: the input and the axis, and the value there.
type Origin = ((usize, usize), i64);

fn conflict(graph: &Graph, symbol: &str, first: Result<Origin, i64>, second: Origin) -> Error {
    let place = |((input, axis), value): Origin| {
        format!("{value} in axis {axis} of input {:?}", name_of(graph, input))
    };
    let first = first.map_or_else(|value| value.to_string(), place);
    Error::shape(format!("the dimension {symbol} is {first}, but {}", place(second)))
}

#[cfg(test)]
mod tests {
    use optimium_tensor::{ElementType, ErrorKind, TensorShape};
    use optimium_testing::each_case;

    use super::*;
    use crate::shapes::testing::dims;

    fn graph(shapes: &[Vec<Expr>]) -> Graph {
        let mut graph = Graph::new("g");
        for (i, shape) in shapes.iter().enumerate() {
            let shape = Some(TensorShape::new(shape.clone()));
            let id = graph.add_tensor(format!("x{i}"), ElementType::F32, shape);
            graph.inputs.push(id);
        }
        graph
    }

    #[test]
    fn symbols_get_values_or_an_error_names_the_inputs() {
        let cases: [(&[&[usize]], Result<i64, &str>); 7] = [
            (&[&[2, 3], &[3, 5]], Ok(5)),
            (&[&[2, 3], &[3, 0]], Ok(0)),
            (
                &[&[2, 3], &[4, 5]],
                Err("the dimension N is 3 in axis 1 of input \"x0\", but 4 in axis 0 of input \"x1\""),
            ),
            (&[&[1, 3], &[3, 5]], Err("input \"x0\" has shape [1, 3], expected [2, N]")),
            (&[&[2, 3, 1], &[3, 5]], Err("input \"x0\" has shape [2, 3, 1], expected [2, N]")),
            (&[&[2, 3]], Err("the model has 2 inputs, but 1 shapes were given")),
            (&[&[2, 3], &[3, usize::MAX]], Err("the dimension 18446744073709551615 is too large")),
        ];
        let graph = graph(&[dims("2 N"), dims("N T")]);
        each_case(cases, |(shapes, expected)| {
            let result = bind(&graph, shapes).map(|values| values["T"]).map_err(|e| e.message().to_owned());
            if result == expected.map_err(str::to_owned) { Ok(()) } else { Err(format!("{result:?}")) }
        });
    }

    #[test]
    fn composite_dimensions_are_checked() {
        let total = Expr::symbol("P") + Expr::symbol("T");
        let graph = graph(&[vec![total.clone()], dims("P"), dims("T")]);
        assert_eq!(bind(&graph, &[&[5], &[2], &[3]]).unwrap()["P"], 2);
        assert_eq!(bind(&graph, &[&[6], &[2], &[3]]).unwrap_err().kind(), ErrorKind::Shape);
        let unbound = super::tests::graph(&[vec![total]]);
        assert_eq!(bind(&unbound, &[&[6]]).unwrap_err().kind(), ErrorKind::Shape);
    }
}

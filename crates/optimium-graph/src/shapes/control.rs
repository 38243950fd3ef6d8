//! Rules of control flow: a body is inferred with what is known of the values that it gets.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use optimium_tensor::{ElementType, Error, Expr, QuantScheme, Result, Tensor, TensorShape};

use super::arithmetic::normalize_axis;
use super::context::{Context, Known};
use super::facts::SymbolicTensor;
use super::infer_graph;
use crate::ops::{If, Loop, Scan};
use crate::{Graph, ValueType};

/// What a body gets as one of its inputs.
#[derive(Clone)]
struct Given {
    value_type: ValueType,
    scheme: Option<Arc<QuantScheme>>,
    known: Known,
}

impl Given {
    /// A value of the graph around the body.
    fn outer(cx: &mut Context<'_>, index: usize) -> Result<Given> {
        let known = cx.known(index);
        let value = cx.input(index)?;
        Ok(Given { value_type: value.value_type.clone(), scheme: value.scheme.clone(), known })
    }

    /// A tensor about which no more is known.
    fn tensor(element_type: ElementType, shape: TensorShape) -> Given {
        let value_type = ValueType::Tensor { element_type, shape: Some(shape) };
        Given { value_type, scheme: None, known: None }
    }

    /// A number that the loop itself computes: shaped as the body declares it, a scalar otherwise.
    fn counter(body: &Graph, index: usize, element_type: ElementType) -> Given {
        let declared = body.inputs.get(index).and_then(|id| body.values().get(id.index()));
        let shape = declared.and_then(|value| value.shape().cloned());
        Given::tensor(element_type, shape.unwrap_or_default())
    }

    fn shape(&self) -> Option<&TensorShape> {
        match &self.value_type {
            ValueType::Tensor { shape, .. } => shape.as_ref(),
            _ => None,
        }
    }

    /// The element type and the dimensions.
    fn parts(&self) -> Result<(ElementType, Vec<Expr>)> {
        match &self.value_type {
            ValueType::Tensor { element_type, shape: Some(shape) } => {
                Ok((*element_type, shape.dims().to_vec()))
            }
            _ => {
                Err(Error::not_implemented("a value that is no tensor of known rank passes through the body"))
            }
        }
    }
}

/// The symbols that occur in what is given.
fn symbols<'a>(given: impl IntoIterator<Item = &'a Given>) -> HashSet<Arc<str>> {
    let mut symbols = HashSet::new();
    for given in given {
        let mut visit = |name: &Arc<str>| {
            symbols.insert(name.clone());
        };
        given.shape().into_iter().flat_map(TensorShape::dims).for_each(|dim| dim.visit_symbols(&mut visit));
        let elements = given.known.iter().flat_map(|known| known.elements()).flatten();
        elements.for_each(|number| number.visit_symbols(&mut visit));
    }
    symbols
}

/// What a body gives as one of its outputs. Symbols of the body mean nothing around it: what contains them is `None`.
struct Produced {
    value_type: ValueType,
    scheme: Option<Arc<QuantScheme>>,
    dims: Option<Vec<Option<Expr>>>,
    known: Option<SymbolicTensor>,
}

impl Produced {
    /// The element type and the dimensions.
    fn parts(&self) -> Result<(ElementType, Vec<Option<Expr>>)> {
        match (&self.value_type, &self.dims) {
            (ValueType::Tensor { element_type, .. }, Some(dims)) => Ok((*element_type, dims.clone())),
            _ => Err(Error::not_implemented("the body gives a value that is no tensor of known rank")),
        }
    }
}

/// Infers a body, and says what comes out of it in the symbols `outer`.
fn infer_body(
    body: &mut Graph,
    inputs: &[Given],
    outer: &HashSet<Arc<str>>,
    depth: usize,
) -> Result<Vec<Produced>> {
    if body.inputs.len() != inputs.len() {
        return Err(Error::model(format!(
            "the body {:?} has {} inputs, but gets {} values",
            body.name,
            body.inputs.len(),
            inputs.len()
        )));
    }
    super::check_ids(body)?;
    for (id, given) in body.inputs.clone().into_iter().zip(inputs) {
        let value = body.value_mut(id);
        value.value_type = given.value_type.clone();
        value.scheme = given.scheme.clone();
    }
    let known: Vec<Known> = inputs.iter().map(|given| given.known.clone()).collect();
    let known = infer_graph(body, &known, depth + 1)
        .map_err(|error| error.context(format!("in the body {:?}", body.name)))?;
    let produced = body.outputs.iter().map(|&id| {
        let value = body.value(id);
        let dims = value.shape().map(|shape| {
            shape
                .dims()
                .iter()
                .map(|dim| is_outer(|v| dim.visit_symbols(v), outer).then(|| dim.clone()))
                .collect()
        });
        let constant = || value.constant.as_ref().and_then(SymbolicTensor::of_constant).map(Rc::new);
        let known = known[id.index()]
            .clone()
            .or_else(constant)
            .map(|known| known.map(|n| is_outer(|visit| n.visit_symbols(visit), outer).then(|| n.clone())));
        Produced { value_type: value.value_type.clone(), scheme: value.scheme.clone(), dims, known }
    });
    Ok(produced.collect())
}

/// Whether every visited symbol is one of `outer`.
fn is_outer(visit_all: impl Fn(&mut dyn FnMut(&Arc<str>)), outer: &HashSet<Arc<str>>) -> bool {
    let mut all = true;
    visit_all(&mut |name| all &= outer.contains(name));
    all
}

/// Says that output `index` of the node is what a body gives.
fn set_produced(index: usize, produced: Produced, cx: &mut Context<'_>) -> Result<()> {
    match (&produced.value_type, &produced.dims) {
        (ValueType::Tensor { element_type, .. }, Some(dims)) => {
            cx.set_partial(index, *element_type, dims.clone())?;
        }
        _ => cx.set_type(index, produced.value_type),
    }
    cx.set_scheme(index, produced.scheme);
    cx.set_known(index, produced.known);
    Ok(())
}

fn check_outputs(body: &Graph, expected: usize) -> Result<()> {
    if body.outputs.len() == expected {
        return Ok(());
    }
    Err(Error::model(format!(
        "the body {:?} has {} outputs, expected {expected}",
        body.name,
        body.outputs.len()
    )))
}

/// Inputs: condition, captured values. Where the condition is known, only the branch that is taken is inferred, and the
/// condition becomes a constant.
pub(super) fn if_(op: &mut If, cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(0, &[ElementType::Bool])?;
    let captured: Result<Vec<Given>> = (1..cx.input_count()).map(|i| Given::outer(cx, i)).collect();
    let captured = captured?;
    let (outer, depth, count) = (symbols(&captured), cx.depth(), cx.output_count());
    if let Some(condition) = cx.constant(0) {
        let branch = if condition != 0 { &mut op.then_branch } else { &mut op.else_branch };
        check_outputs(&branch.graph, count)?;
        let produced = infer_body(&mut branch.graph, &captured, &outer, depth)?;
        produced.into_iter().enumerate().try_for_each(|(index, value)| set_produced(index, value, cx))?;
        return decide(condition != 0, cx);
    }
    for branch in [&op.then_branch, &op.else_branch] {
        check_outputs(&branch.graph, count)?;
    }
    let taken = infer_body(&mut op.then_branch.graph, &captured, &outer, depth)?;
    let other = infer_body(&mut op.else_branch.graph, &captured, &outer, depth)?;
    for (index, (a, b)) in taken.into_iter().zip(other).enumerate() {
        set_produced(index, merged(a, b)?, cx)?;
    }
    Ok(())
}

/// Makes the condition a constant.
fn decide(condition: bool, cx: &mut Context<'_>) -> Result<()> {
    let value = cx.input(0)?;
    if value.constant.is_some() {
        return Ok(());
    }
    let dims = value.shape().and_then(TensorShape::as_fixed).unwrap_or_default();
    let name = format!("{}.decided", value.name);
    let constant = Tensor::from_bytes(ElementType::Bool, &dims, &[u8::from(condition)])?;
    cx.replace_input(0, name, constant);
    Ok(())
}

/// What is true of both branches' outputs.
fn merged(a: Produced, b: Produced) -> Result<Produced> {
    let (ValueType::Tensor { element_type: first, .. }, ValueType::Tensor { element_type: second, .. }) =
        (&a.value_type, &b.value_type)
    else {
        return Ok(a);
    };
    if first != second {
        return Err(Error::model(format!("one branch gives {first}, the other {second}")));
    }
    let dims = match (&a.dims, &b.dims) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            Some(a.iter().zip(b).map(|(a, b)| a.clone().filter(|a| Some(a) == b.as_ref())).collect())
        }
        _ => return Err(Error::not_implemented("the branches give different numbers of dimensions")),
    };
    let known = a.known.filter(|known| Some(known) == b.known.as_ref());
    let scheme = a.scheme.filter(|scheme| Some(scheme) == b.scheme.as_ref());
    Ok(Produced { value_type: a.value_type, scheme, dims, known })
}

/// Inputs: trip count or none, condition or none, carried values, captured values.
///
/// A dimension of a carried value that an iteration changes is a symbol of the body.
pub(super) fn loop_(op: &mut Loop, cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(0, &[ElementType::I64])?;
    cx.expect_type(1, &[ElementType::Bool])?;
    let (count, carried) = (cx.input_count(), op.carried);
    let first_captured = carried.checked_add(2).filter(|&first| first <= count);
    let first_captured = first_captured
        .ok_or_else(|| Error::model(format!("{count} inputs are too few for {carried} carried values")))?;
    check_outputs(&op.body.graph, cx.output_count() + 1)?;
    let initial: Result<Vec<Given>> = (2..first_captured).map(|i| Given::outer(cx, i)).collect();
    let captured: Result<Vec<Given>> = (first_captured..count).map(|i| Given::outer(cx, i)).collect();
    let (initial, captured) = (initial?, captured?);
    let outer = symbols(initial.iter().chain(&captured));
    let mut stable: Vec<Vec<bool>> =
        initial.iter().map(|given| vec![true; given.shape().map_or(0, TensorShape::rank)]).collect();
    let mut last_attempt = false;
    let produced = loop {
        let mut body = Graph::clone(&op.body.graph);
        let mut inputs =
            vec![Given::counter(&body, 0, ElementType::I64), Given::counter(&body, 1, ElementType::Bool)];
        inputs.extend((0..carried).map(|i| carried_input(&body, i, &initial[i], &stable[i])));
        inputs.extend(captured.iter().cloned());
        let produced = infer_body(&mut body, &inputs, &outer, cx.depth())?;
        if !widen(&initial, &produced, &mut stable)? {
            *op.body.graph = body;
            break produced;
        }
        // What changes may make more change; the third attempt then assumes nothing.
        if last_attempt {
            stable.iter_mut().for_each(|axes| axes.fill(false));
        }
        last_attempt = true;
    };
    for (index, value) in produced.into_iter().skip(1).enumerate() {
        set_loop_output(index, value, &initial, &stable, cx)?;
    }
    Ok(())
}

/// A carried value as an iteration gets it: the dimensions that change are symbols.
fn carried_input(body: &Graph, index: usize, initial: &Given, stable: &[bool]) -> Given {
    let Ok((element_type, dims)) = initial.parts() else {
        return Given { known: None, ..initial.clone() };
    };
    let name = body.inputs.get(index + 2).and_then(|id| body.values().get(id.index()));
    let name = name.map_or("carried", |value| value.name.as_str());
    let dims = dims.into_iter().enumerate().map(|(axis, dim)| match stable[axis] {
        true => dim,
        false => Expr::symbol(&format!("{name}.{axis}")),
    });
    Given { scheme: initial.scheme.clone(), ..Given::tensor(element_type, dims.collect()) }
}

/// Finds the dimensions that an iteration changes; whether there are new ones.
fn widen(initial: &[Given], produced: &[Produced], stable: &mut [Vec<bool>]) -> Result<bool> {
    let mut changed = false;
    for ((given, produced), stable) in initial.iter().zip(&produced[1..]).zip(stable) {
        if given.shape().is_none() {
            continue;
        }
        let ((before, dims), (after, result)) = (given.parts()?, produced.parts()?);
        if before != after {
            return Err(Error::model(format!(
                "a carried value is {before} before an iteration and {after} after"
            )));
        }
        if dims.len() != result.len() {
            return Err(Error::not_implemented(
                "an iteration changes the number of dimensions of a carried value",
            ));
        }
        for (axis, dim) in dims.iter().enumerate() {
            if stable[axis] && result[axis].as_ref() != Some(dim) {
                stable[axis] = false;
                changed = true;
            }
        }
    }
    Ok(changed)
}

fn set_loop_output(
    index: usize,
    mut value: Produced,
    initial: &[Given],
    stable: &[Vec<bool>],
    cx: &mut Context<'_>,
) -> Result<()> {
    value.known = None;
    if let Some(stable) = stable.get(index) {
        let dims = initial[index].shape().map(|shape| shape.dims().iter().zip(stable));
        value.dims = dims.map(|dims| dims.map(|(dim, &stable)| stable.then(|| dim.clone())).collect());
        return set_produced(index, value, cx);
    }
    let (element_type, dims) = value.parts()?;
    cx.set_partial(index, element_type, [vec![None], dims].concat())
}

/// Inputs: initial states, scanned tensors, captured values.
pub(super) fn scan(op: &mut Scan, cx: &mut Context<'_>) -> Result<()> {
    let (count, scanned, results) = (cx.input_count(), op.scan_inputs, op.output_axes.len());
    check_outputs(&op.body.graph, cx.output_count())?;
    let states = cx.output_count().checked_sub(results);
    let states = states.filter(|&states| {
        op.input_axes.len() == scanned
            && scanned > 0
            && states.checked_add(scanned).is_some_and(|n| n <= count)
    });
    let states =
        states.ok_or_else(|| Error::model("axes, scanned tensors and outputs do not match in number"))?;
    let given: Result<Vec<Given>> = (0..count).map(|i| Given::outer(cx, i)).collect();
    let mut given = given?;
    let outer = symbols(&given);
    given[..states].iter_mut().for_each(|state| state.known = None);
    let mut length = None;
    for (given, &axis) in given[states..states + scanned].iter_mut().zip(&op.input_axes) {
        let (element_type, mut dims) = given.parts()?;
        length = Some(dims.remove(normalize_axis(axis, dims.len())?));
        *given = Given::tensor(element_type, TensorShape::new(dims));
    }
    let produced = infer_body(&mut op.body.graph, &given, &outer, cx.depth())?;
    for (index, value) in produced.into_iter().enumerate() {
        if index < states {
            let (element_type, dims) = given[index].parts()?;
            cx.set(index, element_type, dims)?;
            continue;
        }
        let (element_type, mut dims) = value.parts()?;
        let axis = normalize_axis(op.output_axes[index - states], dims.len() + 1)?;
        dims.insert(axis, length.clone());
        cx.set_partial(index, element_type, dims)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Binary, Body, Comparison, Concat, Gather, Shape, Slice, Squeeze};
    use crate::shapes::testing::Input::{self, Data, Missing, Scalar, Typed, Vector};
    use crate::shapes::testing::{add, described, graph, outcome};
    use crate::{Operator, ValueId};

    /// A body with those inputs whose outputs `build` makes.
    fn body(inputs: &[Input], build: impl FnOnce(&mut Graph, &[ValueId]) -> Vec<ValueId>) -> Body {
        let (mut graph, ids) = graph(inputs);
        let ids: Vec<ValueId> = ids.into_iter().flatten().collect();
        graph.outputs = build(&mut graph, &ids);
        Body { graph: Box::new(graph) }
    }

    fn identity() -> Body {
        body(&[Data("A")], |graph, x| add(graph, Operator::Identity, vec![Some(x[0])], 1))
    }

    fn squeezed(axis: i64) -> Body {
        let op = Operator::Squeeze(Squeeze { axes: Some(vec![axis]) });
        body(&[Data("A")], |graph, x| add(graph, op, vec![Some(x[0])], 1))
    }

    fn joined_with(other: usize) -> impl FnOnce(&mut Graph, &[ValueId]) -> Vec<ValueId> {
        move |graph, x| {
            let op = Operator::Concat(Concat { axis: 0 });
            let longer = add(graph, op, vec![Some(x[2]), Some(x[other])], 1);
            vec![x[1], longer[0], x[2]]
        }
    }

    #[test]
    fn branches_are_merged() {
        let doubled = body(&[Data("A")], |graph, x| {
            add(graph, Operator::Concat(Concat { axis: 0 }), vec![Some(x[0]), Some(x[0])], 1)
        });
        let condition = Typed(ElementType::Bool, "");
        let op = |then_branch, else_branch| Operator::If(If { then_branch, else_branch });
        let inputs = [condition, Data("N 3")];
        assert_eq!(outcome(op(identity(), identity()), &inputs, 1).unwrap(), "F32 [N, 3]");
        assert_eq!(outcome(op(identity(), doubled), &inputs, 1).unwrap(), "F32 [n0.y0.0, 3]");
        let error = outcome(op(identity(), squeezed(0)), &inputs, 1).unwrap_err();
        assert!(error.contains("different numbers of dimensions"), "{error}");
        let error = outcome(op(identity(), squeezed(1)), &inputs, 1).unwrap_err();
        assert!(error.contains("in the body"), "{error}");
        assert!(outcome(op(identity(), identity()), &inputs, 2).is_err());
        assert!(outcome(op(identity(), identity()), &inputs[..1], 1).is_err());
    }

    /// `if x.shape[1] == 1 then squeeze(x, 1) else x`, as exporters write it.
    #[test]
    fn a_known_condition_takes_one_branch() {
        for (shape, expected) in [("N 1", "F32 [N]"), ("N 3", "F32 [N, 3]")] {
            let (mut graph, ids) = graph(&[Data(shape), Scalar(1), Scalar(1)]);
            let sizes = add(&mut graph, Operator::Shape(Shape { start: 0, end: None }), vec![ids[0]], 1);
            let size = add(&mut graph, Operator::Gather(Gather { axis: 0 }), vec![Some(sizes[0]), ids[1]], 1);
            let equal = Operator::Comparison { function: Comparison::Equal };
            let condition = add(&mut graph, equal, vec![Some(size[0]), ids[2]], 1);
            let op = Operator::If(If { then_branch: squeezed(1), else_branch: identity() });
            let y = add(&mut graph, op, vec![Some(condition[0]), ids[0]], 1);
            crate::shapes::infer(&mut graph).unwrap();
            assert_eq!(described(&graph, y[0]), expected);
            let decided = graph.nodes()[3].input(0).and_then(|id| graph.constant(id));
            assert_eq!(decided.map(|tensor| tensor.element_type()), Some(ElementType::Bool));
            crate::shapes::infer(&mut graph).unwrap();
        }
    }

    #[test]
    fn loops_widen_what_changes() {
        let given = [Typed(ElementType::I64, ""), Typed(ElementType::Bool, ""), Data("A 4"), Data("B 4")];
        let inputs = [Typed(ElementType::I64, ""), Missing, Data("N 4"), Data("1 4")];
        let grows = Operator::Loop(Loop { body: body(&given, joined_with(3)), carried: 1 });
        let shapes = "F32 [n0.y0.0, 4]; F32 [n0.y1.0, n0.y1.1, 4]";
        assert_eq!(outcome(grows, &inputs, 2).unwrap(), shapes);
        let keeps = body(&given, |graph, x| {
            let op = Operator::Binary { function: Binary::Add };
            let sum = add(graph, op, vec![Some(x[2]), Some(x[3])], 1);
            vec![x[1], sum[0], x[3]]
        });
        let keeps = Operator::Loop(Loop { body: keeps, carried: 1 });
        assert_eq!(outcome(keeps, &inputs, 2).unwrap(), "F32 [N, 4]; F32 [n0.y1.0, 1, 4]");
        let too_many = Operator::Loop(Loop { body: body(&given, joined_with(3)), carried: usize::MAX });
        assert!(outcome(too_many, &inputs, 2).unwrap_err().contains("too few"));
        let flatter = body(&given[..3], |graph, x| {
            let op = Operator::Squeeze(Squeeze { axes: Some(vec![0]) });
            let less = add(graph, op, vec![Some(x[2])], 1);
            vec![x[1], less[0]]
        });
        let flatter = Operator::Loop(Loop { body: flatter, carried: 1 });
        let error = outcome(flatter, &[inputs[0].clone(), Missing, Data("1 4")], 1).unwrap_err();
        assert!(error.contains("number of dimensions"), "{error}");
    }

    #[test]
    fn scans_cut_and_stack_axes() {
        let step = || {
            body(&[Data("A"), Data("B")], |graph, x| {
                let op = Operator::Binary { function: Binary::Add };
                let sum = add(graph, op, vec![Some(x[0]), Some(x[1])], 1)[0];
                vec![sum, sum]
            })
        };
        let op = |input_axes: Vec<i64>, output_axes: Vec<i64>| {
            Operator::Scan(Scan {
                body: step(),
                scan_inputs: 1,
                input_reversed: vec![false],
                output_reversed: vec![false],
                input_axes,
                output_axes,
            })
        };
        let inputs = [Data("N 4"), Data("N T 4")];
        assert_eq!(outcome(op(vec![1], vec![-1]), &inputs, 2).unwrap(), "F32 [N, 4]; F32 [N, 4, T]");
        assert!(outcome(op(vec![3], vec![0]), &inputs, 2).unwrap_err().contains("axis 3"));
        assert!(outcome(op(vec![], vec![0]), &inputs, 2).unwrap_err().contains("do not match"));
        assert!(outcome(op(vec![1], vec![0, 0, 0]), &inputs, 2).unwrap_err().contains("do not match"));
    }

    #[test]
    fn symbols_of_a_body_stay_inside() {
        let cut = || {
            body(&[Data("A"), Typed(ElementType::I64, "1")], |graph, x| {
                let zero = graph.add_constant("zero", Tensor::from_slice(&[1], &[0i64]).unwrap());
                let op = Operator::Slice(Slice { ranges: None });
                add(graph, op, vec![Some(x[0]), Some(zero), Some(x[1])], 1)
            })
        };
        let op = Operator::If(If { then_branch: cut(), else_branch: cut() });
        let inputs = [Typed(ElementType::Bool, ""), Data("N 3"), Typed(ElementType::I64, "1")];
        assert_eq!(outcome(op, &inputs, 1).unwrap(), "F32 [n0.y0.0, 3]");
        let known = Operator::If(If { then_branch: cut(), else_branch: cut() });
        let inputs = [Typed(ElementType::Bool, ""), Data("7 3"), Vector(&[2])];
        assert_eq!(outcome(known, &inputs, 1).unwrap(), "F32 [2, 3]");
    }

    #[test]
    fn nesting_is_bounded() {
        let given = [Typed(ElementType::Bool, ""), Data("A")];
        let leaf = || body(&given, |graph, x| add(graph, Operator::Identity, vec![Some(x[1])], 1));
        let nested = |levels: usize| {
            (0..levels).fold(leaf(), |inner, _| {
                body(&given, |graph, x| {
                    let op = Operator::If(If { then_branch: inner, else_branch: leaf() });
                    add(graph, op, vec![Some(x[0]), Some(x[0]), Some(x[1])], 1)
                })
            })
        };
        let run = |levels| {
            let op = Operator::If(If { then_branch: nested(levels), else_branch: leaf() });
            outcome(op, &[given[0].clone(), given[0].clone(), Data("N")], 1)
        };
        assert_eq!(run(4).unwrap(), "F32 [N]");
        assert!(run(40).unwrap_err().contains("nested deeper"));
    }
}

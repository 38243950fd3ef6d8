use std::sync::Mutex;
use std::time::{Duration, Instant};

use optimium_device::Backend;
use optimium_graph::ops::{
    Binary, Body, Comparison, Concat, Gather, If, Loop, Reduce, Reduction, Reshape, Scan, Shape, Squeeze,
    TopK, Transpose, Unary, Unsqueeze,
};
use optimium_graph::{ValueType, shapes};
use optimium_tensor::{ElementType, ErrorKind, Expr, TensorShape};

use super::*;
use crate::Native;

/// A graph in the making.
struct Builder(Graph);

impl Builder {
    fn new() -> Builder {
        Builder(Graph::new("test"))
    }

    fn input(&mut self, name: &str, element_type: ElementType, dims: &[&str]) -> ValueId {
        let dim = |text: &&str| text.parse::<i64>().map_or_else(|_| Expr::symbol(text), Expr::from);
        let shape = TensorShape::new(dims.iter().map(dim).collect());
        let id = self.0.add_tensor(name, element_type, Some(shape));
        self.0.inputs.push(id);
        id
    }

    fn node(&mut self, op: Operator, inputs: &[ValueId]) -> ValueId {
        self.nodes(op, inputs.iter().copied().map(Some).collect(), 1)[0]
    }

    fn nodes(&mut self, op: Operator, inputs: Vec<Option<ValueId>>, outputs: usize) -> Vec<ValueId> {
        let name = format!("n{}", self.0.nodes().len());
        let outputs: Vec<ValueId> =
            (0..outputs).map(|index| self.0.add_unknown(format!("{name}.y{index}"))).collect();
        let written = outputs.iter().copied().map(Some).collect();
        self.0.add_node(Node { name, op, inputs, outputs: written });
        outputs
    }

    fn body(mut self, outputs: &[ValueId]) -> Body {
        self.0.outputs = outputs.to_vec();
        Body { graph: Box::new(self.0) }
    }

    /// As `executable`, of a graph of which one deferred node is left.
    fn deferred(mut self, outputs: &[ValueId]) -> Arc<dyn Executable> {
        self.0.outputs = outputs.to_vec();
        shapes::infer(&mut self.0).unwrap();
        assert!(matches!(self.0.nodes(), [Node { op: Operator::Deferred(_), .. }]));
        Native.compile(&Arc::new(self.0), &CompileOptions::default()).unwrap()
    }

    fn executable(mut self, outputs: &[ValueId], options: &CompileOptions) -> Arc<dyn Executable> {
        self.0.outputs = outputs.to_vec();
        shapes::infer(&mut self.0).unwrap();
        assert_eq!(Native.unsupported(&self.0), []);
        Native.compile(&Arc::new(self.0), options).unwrap()
    }
}

fn floats(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

fn truth(value: bool) -> Tensor {
    Tensor::from_bytes(ElementType::Bool, &[], &[u8::from(value)]).unwrap()
}

fn run(state: &mut Box<dyn ExecutionState>, inputs: &[Tensor], outputs: usize) -> Result<Vec<Vec<f32>>> {
    let results = state.run_open(inputs, &vec![None; outputs], &Cancellation::new(), None)?;
    results.iter().map(Tensor::to_f32s).collect()
}

/// The elements that are not zero, twice.
fn found(options: &CompileOptions) -> Arc<dyn Executable> {
    let mut builder = Builder::new();
    let x = builder.input("x", ElementType::F32, &["n"]);
    let positions = builder.node(Operator::NonZero, &[x]);
    let positions = builder.node(Operator::Squeeze(Squeeze { axes: Some(vec![0]) }), &[positions]);
    let found = builder.node(Operator::Gather(Gather { axis: 0 }), &[x, positions]);
    let twice = builder.node(Operator::Binary { function: Binary::Add }, &[found, found]);
    builder.executable(&[twice], options)
}

#[test]
fn sizes_follow_from_what_is_found() {
    for memory_optimization in [true, false] {
        let options = CompileOptions { memory_optimization, ..CompileOptions::default() };
        let mut state = found(&options).create_state().unwrap();
        for x in [&[0.0, 1.0, 0.0, 3.0][..], &[5.0], &[0.0; 7], &[], &[1.0; 100]] {
            let expected: Vec<f32> = x.iter().filter(|&&x| x != 0.0).map(|x| 2.0 * x).collect();
            assert_eq!(run(&mut state, &[floats(x)], 1).unwrap(), [expected]);
        }
        let is_readable = state.intermediate("n2.y0").is_ok();
        assert_eq!(is_readable, !memory_optimization);
    }
}

#[test]
fn outputs_that_are_given_must_have_the_size() {
    let mut state = found(&CompileOptions::default()).create_state().unwrap();
    let (x, right, wrong) = (floats(&[0.0, 4.0]), floats(&[0.0]), floats(&[0.0, 0.0]));
    state.run(std::slice::from_ref(&x), std::slice::from_ref(&right), &Cancellation::new()).unwrap();
    assert_eq!(right.to_f32s().unwrap(), [8.0]);
    let error = state.run(&[x], &[wrong], &Cancellation::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    assert!(error.message().contains("[1]") && error.message().contains("[2]"), "{error}");
}

#[test]
fn every_operation_is_watched_by_its_number() {
    struct Seen(Mutex<Vec<usize>>);
    impl Observer for Seen {
        fn step(&self, _: usize, operation: usize, _: Instant, _: Instant) {
            self.0.lock().unwrap().push(operation);
        }
    }
    let executable = found(&CompileOptions::default());
    let names: Vec<String> = executable.operations().into_iter().map(|one| one.operator).collect();
    assert_eq!(executable.choices().len(), names.len());
    let mut state = executable.create_state().unwrap();
    let seen = Seen(Mutex::default());
    let inputs = [floats(&[1.0, 2.0])];
    state.run_open(&inputs, &[None], &Cancellation::new(), Some(&seen)).unwrap();
    let seen: Vec<&str> = seen.0.lock().unwrap().iter().map(|&index| names[index].as_str()).collect();
    assert!(seen.starts_with(&["NonZero"]) && seen.contains(&"Gather") && seen.contains(&"Add"), "{seen:?}");
    assert_eq!(state.details().unwrap().operations.len(), names.len());
}

#[test]
fn computed_amounts_may_be_wrong() {
    let mut builder = Builder::new();
    let x = builder.input("x", ElementType::F32, &["n"]);
    let k = builder.input("k", ElementType::I64, &["1"]);
    let op = Operator::TopK(TopK { axis: 0, largest: true, sorted: true, k: None });
    let best = builder.nodes(op, vec![Some(x), Some(k)], 2)[0];
    let negative = builder.node(Operator::Unary { function: Unary::Neg }, &[best]);
    let mut state = builder.executable(&[negative], &CompileOptions::default()).create_state().unwrap();
    let x = floats(&[3.0, 1.0, 2.0]);
    let k = |k: i64| Tensor::from_slice(&[1], &[k]).unwrap();
    for _ in 0..2 {
        assert_eq!(run(&mut state, &[x.clone(), k(2)], 1).unwrap(), [[-3.0, -2.0]]);
        for wrong in [4, -1, i64::MIN, i64::MAX] {
            let error = run(&mut state, &[x.clone(), k(wrong)], 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Infer, "{error}");
        }
        assert_eq!(run(&mut state, &[x.clone(), k(0)], 1).unwrap(), [vec![0.0f32; 0]]);
    }
}

#[test]
fn branches_give_their_own_sizes() {
    let branch = |double: bool| {
        let mut body = Builder::new();
        let x = body.input("inner", ElementType::F32, &["n"]);
        let op = if double { Operator::Concat(Concat { axis: 0 }) } else { Operator::Identity };
        let inputs = if double { vec![x, x] } else { vec![x] };
        let y = body.node(op, &inputs);
        body.body(&[y])
    };
    let mut builder = Builder::new();
    let condition = builder.input("c", ElementType::Bool, &[]);
    let x = builder.input("x", ElementType::F32, &["n"]);
    let op = Operator::If(If { then_branch: branch(true), else_branch: branch(false) });
    let y = builder.node(op, &[condition, x]);
    let mut state = builder.executable(&[y], &CompileOptions::default()).create_state().unwrap();
    assert_eq!(run(&mut state, &[truth(true), floats(&[1.0])], 1).unwrap(), [[1.0, 1.0]]);
    assert_eq!(run(&mut state, &[truth(false), floats(&[1.0, 2.0])], 1).unwrap(), [[1.0, 2.0]]);
}

/// `if x.shape[1] == 1 then squeeze(x, 1) else x`, given a last axis of one element and summed over the first one: n sums or one.
fn sums_by_size() -> Builder {
    let branch = |op: Operator| {
        let mut body = Builder::new();
        let x = body.input("inner", ElementType::F32, &["n", "m"]);
        let y = body.node(op, &[x]);
        body.body(&[y])
    };
    let then_branch = branch(Operator::Squeeze(Squeeze { axes: Some(vec![1]) }));
    let op = Operator::If(If { then_branch, else_branch: branch(Operator::Identity) });
    let mut builder = Builder::new();
    let x = builder.input("x", ElementType::F32, &["n", "m"]);
    let one = builder.0.add_constant("one", Tensor::scalar(1i64).unwrap());
    let sizes = builder.node(Operator::Shape(Shape { start: 0, end: None }), &[x]);
    let size = builder.node(Operator::Gather(Gather { axis: 0 }), &[sizes, one]);
    let condition = builder.node(Operator::Comparison { function: Comparison::Equal }, &[size, one]);
    let y = builder.node(op, &[condition, x]);
    let sum = Reduce {
        reduction: Reduction::Sum,
        axes: Some(vec![-1]),
        keep_dims: false,
        noop_with_empty_axes: false,
    };
    let y = builder.node(Operator::Reduce(sum), &[y]);
    let rest = builder.0.add_constant("rest", Tensor::from_slice(&[1], &[-1i64]).unwrap());
    let y = builder.node(Operator::Reshape(Reshape { dims: None, allow_zero: false }), &[y, rest]);
    let (element_type, shape) = (ElementType::F32, Some(TensorShape::new(vec![Expr::symbol("sums")])));
    builder.0.value_mut(y).value_type = ValueType::Tensor { element_type, shape };
    builder.0.outputs = vec![y];
    builder
}

#[test]
fn sizes_decide_ranks() {
    let builder = sums_by_size();
    let outputs = builder.0.outputs.clone();
    let executable = builder.deferred(&outputs);
    let mut states = [(); 2].map(|()| executable.clone().create_state().unwrap());
    for (dims, expected) in
        [([2, 2], vec![3.0, 7.0]), ([4, 1], vec![10.0]), ([1, 4], vec![10.0]), ([2, 2], vec![3.0, 7.0])]
    {
        let x = Tensor::from_slice(&dims, &[1f32, 2.0, 3.0, 4.0]).unwrap();
        for state in &mut states {
            assert_eq!(run(state, std::slice::from_ref(&x), 1).unwrap(), std::slice::from_ref(&expected));
        }
    }
}

#[test]
fn a_branch_that_contradicts_itself_fails_when_it_is_taken() {
    let branch = |op: Operator| {
        let mut body = Builder::new();
        let x = body.input("inner", ElementType::F32, &["n"]);
        let y = body.node(op, &[x]);
        body.body(&[y])
    };
    let wrong = branch(Operator::Transpose(Transpose { permutation: vec![1, 0] }));
    let mut builder = Builder::new();
    let condition = builder.input("c", ElementType::Bool, &[]);
    let x = builder.input("x", ElementType::F32, &["n"]);
    let y = builder.node(
        Operator::If(If { then_branch: branch(Operator::Identity), else_branch: wrong }),
        &[condition, x],
    );
    let mut state = builder.executable(&[y], &CompileOptions::default()).create_state().unwrap();
    for _ in 0..2 {
        assert_eq!(run(&mut state, &[truth(true), floats(&[1.0])], 1).unwrap(), [[1.0]]);
        let error = run(&mut state, &[truth(false), floats(&[1.0])], 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Infer);
        assert!(error.message().contains("Transpose \"n0\""), "{error}");
    }
}

/// A loop whose state doubles, and whose states are put together.
fn doubling(endless: bool) -> Arc<dyn Executable> {
    let mut body = Builder::new();
    body.input("i", ElementType::I64, &[]);
    let go = body.input("go", ElementType::Bool, &[]);
    let x = body.input("state", ElementType::F32, &["1"]);
    let y = body.node(Operator::Binary { function: Binary::Add }, &[x, x]);
    let body = body.body(&[go, y, y]);
    let mut builder = Builder::new();
    let count = builder.input("count", ElementType::I64, &[]);
    let x = builder.input("x", ElementType::F32, &["1"]);
    let inputs = vec![Some(count).filter(|_| !endless), None, Some(x)];
    let outputs = builder.nodes(Operator::Loop(Loop { body, carried: 1 }), inputs, 2);
    builder.executable(if endless { &outputs[..1] } else { &outputs }, &CompileOptions::default())
}

#[test]
fn loops_carry_and_collect() {
    let mut state = doubling(false).create_state().unwrap();
    for (count, last, all) in [(3i64, 8.0, vec![2.0, 4.0, 8.0]), (0, 1.0, vec![]), (-1, 1.0, vec![])] {
        let inputs = [Tensor::scalar(count).unwrap(), floats(&[1.0])];
        assert_eq!(run(&mut state, &inputs, 2).unwrap(), [vec![last], all]);
    }
}

#[test]
fn endless_loops_can_be_cancelled() {
    let mut state = doubling(true).create_state().unwrap();
    let cancellation = Cancellation::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            cancellation.cancel();
        });
        let inputs = [Tensor::scalar(0i64).unwrap(), floats(&[1.0])];
        let error = state.run_open(&inputs, &[None], &cancellation, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InferCanceled);
    });
}

#[test]
fn scans_walk_both_ways() {
    let mut body = Builder::new();
    let total = body.input("total", ElementType::F32, &[]);
    let part = body.input("part", ElementType::F32, &[]);
    let sum = body.node(Operator::Binary { function: Binary::Add }, &[total, part]);
    let body = body.body(&[sum, sum]);
    let op = Scan {
        body,
        scan_inputs: 1,
        input_axes: vec![0],
        input_reversed: vec![true],
        output_axes: vec![0],
        output_reversed: vec![false],
    };
    let mut builder = Builder::new();
    let start = builder.input("start", ElementType::F32, &[]);
    let x = builder.input("x", ElementType::F32, &["n"]);
    let outputs = builder.nodes(Operator::Scan(op), vec![Some(start), Some(x)], 2);
    let mut state = builder.executable(&outputs, &CompileOptions::default()).create_state().unwrap();
    let inputs = [Tensor::scalar(10f32).unwrap(), floats(&[1.0, 2.0, 3.0])];
    assert_eq!(run(&mut state, &inputs, 2).unwrap(), [vec![16.0], vec![13.0, 15.0, 16.0]]);
}

#[test]
fn axes_may_be_computed() {
    let mut builder = Builder::new();
    let x = builder.input("x", ElementType::F32, &["n"]);
    let axes = builder.input("axes", ElementType::I64, &["1"]);
    let y = builder.node(Operator::Unsqueeze(Unsqueeze { axes: None }), &[x, axes]);
    let larger = builder.node(Operator::Comparison { function: Comparison::Greater }, &[y, y]);
    let mut state = builder.executable(&[y, larger], &CompileOptions::default()).create_state().unwrap();
    for (axis, dims) in [(0i64, [1, 3]), (1, [3, 1]), (-1, [3, 1])] {
        let inputs = [floats(&[1.0, 2.0, 3.0]), Tensor::from_slice(&[1], &[axis]).unwrap()];
        let results = state.run_open(&inputs, &[None, None], &Cancellation::new(), None).unwrap();
        assert_eq!((results[0].dims(), results[1].dims()), (&dims[..], &dims[..]));
    }
}

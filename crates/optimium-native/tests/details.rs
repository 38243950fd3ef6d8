//! What a state tells about its last run.

use std::sync::Arc;

use optimium_device::{Backend, Cancellation, CompileOptions, RunDetails};
use optimium_graph::ops::{Concat, Fusion, Gather, MatMul, Reshape, Unary};
use optimium_graph::{Graph, Node, Operator, ValueId, shapes};
use optimium_native::Native;
use optimium_tensor::{ElementType, Expr, Tensor, TensorShape};

const TABLE_ROWS: usize = 50;
const WIDTH: usize = 16;

fn node(graph: &mut Graph, name: &str, op: Operator, inputs: &[ValueId]) -> ValueId {
    let output = graph.add_unknown(format!("{name}.0"));
    let inputs = inputs.iter().copied().map(Some).collect();
    graph.add_node(Node { name: name.into(), op, inputs, outputs: vec![Some(output)] });
    output
}

/// Rows of a table, twice one after the other, times a matrix; then flat.
fn graph() -> Arc<Graph> {
    let mut graph = Graph::new("lookup");
    let indices =
        graph.add_tensor("indices", ElementType::I64, Some(TensorShape::new(vec![Expr::symbol("n")])));
    graph.inputs = vec![indices];
    let table = graph.add_constant("table", Tensor::zeros(ElementType::F32, &[TABLE_ROWS, WIDTH]).unwrap());
    let matrix = graph.add_constant("matrix", Tensor::zeros(ElementType::F32, &[WIDTH, 8]).unwrap());
    let rows = node(&mut graph, "rows", Operator::Gather(Gather { axis: 0 }), &[table, indices]);
    let positive = node(&mut graph, "positive", Operator::Unary { function: Unary::Abs }, &[rows]);
    let negative = node(&mut graph, "negative", Operator::Unary { function: Unary::Neg }, &[rows]);
    let both = node(&mut graph, "both", Operator::Concat(Concat { axis: 0 }), &[positive, negative]);
    let product = MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Fusion::default() };
    let product = node(&mut graph, "product", Operator::MatMul(product), &[both, matrix]);
    let flat = Reshape { dims: Some(vec![Expr::symbol("n") * Expr::from(16i64)]), allow_zero: false };
    let flat = node(&mut graph, "flat", Operator::Reshape(flat), &[product]);
    graph.outputs = vec![flat];
    graph.sort().unwrap();
    shapes::infer(&mut graph).unwrap();
    Arc::new(graph)
}

fn details(rows: usize) -> RunDetails {
    let plan = Native::new().compile(&graph(), &CompileOptions::default()).unwrap();
    let mut state = plan.create_state().unwrap();
    assert_eq!(state.details(), None);
    let inputs = [Tensor::zeros(ElementType::I64, &[rows]).unwrap()];
    let outputs = [Tensor::zeros(ElementType::F32, &[16 * rows]).unwrap()];
    state.run(&inputs, &outputs, &Cancellation::new()).unwrap();
    state.details().unwrap()
}

#[test]
fn work_follows_the_shapes_of_the_run() {
    for n in [1, 5] {
        let RunDetails { operations, memory } = details(n);
        let [rows, positive, negative, both, product, flat] = &operations[..] else {
            panic!("{operations:?}")
        };
        let row = 4 * WIDTH as u64 * n as u64;
        // No more of the table than the rows.
        assert_eq!((rows.bytes_read, rows.constant_bytes, rows.bytes_written), (8 * n as u64, row, row));
        for each in [positive, negative] {
            assert_eq!((each.bytes_read, each.bytes_written, each.multiply_adds), (row, row, 0));
        }
        // Both parts were written where they belong.
        assert_eq!((both.is_run, both.bytes_read, both.bytes_written), (false, 0, 0));
        assert_eq!(product.inputs, [vec![2 * n, WIDTH], vec![WIDTH, 8]]);
        assert_eq!(product.multiply_adds, 2 * n as u64 * WIDTH as u64 * 8);
        assert_eq!(product.constant_bytes, 4 * WIDTH as u64 * 8);
        assert_eq!((flat.is_run, &flat.outputs[..]), (false, &[vec![16 * n]][..]));
        assert_eq!(memory.constants, 4 * WIDTH * (TABLE_ROWS + 8));
        for block in &memory.blocks {
            assert!(block.offset + block.bytes <= memory.arena && block.first <= block.last);
        }
    }
}

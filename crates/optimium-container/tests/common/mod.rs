//! What the tests of model folders share.

#![allow(dead_code, reason = "every test file uses a part of it")]

pub(crate) mod operators;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use optimium_graph::ops::*;
use optimium_graph::{Graph, Node, Operator, Value, ValueId, ValueType};
use optimium_tensor::{ElementType, Expr, QuantParam, QuantScheme, Tensor, TensorShape};
use sha2::{Digest, Sha256};

/// A folder that is removed when it is dropped.
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    pub(crate) fn new() -> Temporary {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("optimium-container-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Temporary(path)
    }
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn node(name: &str, op: Operator, inputs: &[ValueId], outputs: &[ValueId]) -> Node {
    Node {
        name: name.into(),
        op,
        inputs: inputs.iter().copied().map(Some).collect(),
        outputs: outputs.iter().copied().map(Some).collect(),
    }
}

pub(crate) fn shape(dims: Vec<Expr>) -> Option<TensorShape> {
    Some(TensorShape::new(dims))
}

/// Numbers that every machine computes alike.
pub(crate) fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 - 7.0) * 0.37).collect()
}

/// A graph that applies one function to its first input.
pub(crate) fn branch(function: Unary, factor: f32) -> Body {
    let mut graph = Graph::new("branch");
    let x = graph.add_tensor("x", ElementType::F32, shape(vec![Expr::symbol("n"), 4i64.into()]));
    let w = graph.add_constant("w", Tensor::from_slice(&[8, 4], &[factor; 32]).unwrap());
    let y = graph.add_tensor("y", ElementType::F32, None);
    let z = graph.add_tensor("z", ElementType::F32, None);
    graph.add_node(node("f", Operator::Unary { function }, &[x], &[y]));
    graph.add_node(node("g", Operator::Binary { function: Binary::Mul }, &[y, w], &[z]));
    graph.inputs = vec![x];
    graph.outputs = vec![z];
    Body { graph: Box::new(graph) }
}

pub(crate) fn conv(activation: Activation) -> Conv {
    Conv {
        layout: ImageLayout::ChannelsLast,
        strides: vec![1, 2],
        dilations: vec![1, 1],
        groups: 1,
        padding: Padding::Explicit { begin: vec![1, 0], end: vec![1, 2] },
        fusion: Fusion { activation, residual_after_activation: true },
    }
}

/// The graph of the golden folder of version 1: never changed.
pub(crate) fn golden() -> Graph {
    let mut graph = Graph::new("golden");
    let (n, h) = (Expr::symbol("n"), Expr::symbol("h"));
    let x =
        graph.add_tensor("x", ElementType::F32, shape(vec![n.clone(), h.clone(), 6i64.into(), 3i64.into()]));
    let keep = graph.add_tensor("keep", ElementType::Bool, shape(vec![]));
    let weights =
        graph.add_constant("conv.weights", Tensor::from_slice(&[4, 3, 3, 3], &numbers(108)).unwrap());
    let bias = graph.add_constant("conv.bias", Tensor::from_slice(&[4], &numbers(4)).unwrap());
    let image = graph.add_tensor(
        "image",
        ElementType::F32,
        shape(vec![n.clone(), h.clone(), 4i64.into(), 4i64.into()]),
    );
    let rows = (n.clone() * h.clone() * 4i64.into()).max(1i64.into());
    let flat = graph.add_tensor("flat", ElementType::F32, shape(vec![rows.clone(), 4i64.into()]));
    let matrix = graph.add_constant("matrix", Tensor::from_slice(&[4, 4], &numbers(16)).unwrap());
    let product = graph.add_tensor("product", ElementType::F32, shape(vec![rows.clone(), 4i64.into()]));
    let chosen = graph.add_tensor("chosen", ElementType::F32, None);
    let params = (1..=4).map(|i| QuantParam { scale: 0.1 * i as f32, zero_point: i - 2 }).collect();
    let scheme = Arc::new(QuantScheme::per_channel(1, params).unwrap());
    let bytes: Vec<u8> = (0..80).collect();
    let quantized = Tensor::from_bytes(ElementType::QS8, &[20, 4], &bytes).unwrap();
    let quantized = graph.add_constant("quantized", quantized.with_scheme(Some(scheme)));
    let real = graph.add_tensor("real", ElementType::F32, shape(vec![20i64.into(), 4i64.into()]));
    let labels = Tensor::from_strings(&[2], vec!["кот".into(), "dog \"\n".into()]).unwrap();
    let labels = graph.add_constant("labels", labels);

    let clip = Activation::Clip { low: Some(0.0), high: None };
    let mut first = node("conv", Operator::Conv(conv(clip)), &[x, weights, bias], &[image]);
    first.inputs.extend([None, None]);
    graph.add_node(first);
    let dims = Some(vec![rows, 4i64.into()]);
    graph.add_node(node(
        "reshape",
        Operator::Reshape(Reshape { dims, allow_zero: false }),
        &[image],
        &[flat],
    ));
    let multiply = MatMul { transpose_a: false, transpose_b: true, alpha: 0.1, fusion: Fusion::default() };
    graph.add_node(node("multiply", Operator::MatMul(multiply), &[flat, matrix], &[product]));
    let choose = If { then_branch: branch(Unary::Neg, 2.0), else_branch: branch(Unary::Abs, 0.5) };
    graph.add_node(node("choose", Operator::If(choose), &[keep, product], &[chosen]));
    let dequantize = DequantizeLinear { axis: 1, block_size: 0 };
    graph.add_node(node("dequantize", Operator::DequantizeLinear(dequantize), &[quantized], &[real]));
    graph.inputs = vec![x, keep];
    graph.outputs = vec![chosen, real, labels];
    graph
}

/// An error that says where two graphs differ.
pub(crate) fn same(actual: &Graph, expected: &Graph) -> Result<(), String> {
    let differ = |what: &str, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| {
        Err(format!("{}: {what}: {a:?} instead of {b:?}", expected.name))
    };
    if (&actual.name, &actual.inputs, &actual.outputs)
        != (&expected.name, &expected.inputs, &expected.outputs)
    {
        return differ("signature", &actual, &expected);
    }
    if (actual.values().len(), actual.nodes().len()) != (expected.values().len(), expected.nodes().len()) {
        return differ("size", &actual, &expected);
    }
    for (a, b) in actual.values().iter().zip(expected.values()) {
        let equal = (&a.name, &a.value_type, &a.scheme) == (&b.name, &b.value_type, &b.scheme);
        if !equal || !same_tensor(a.constant.as_ref(), b.constant.as_ref()) {
            return differ("value", a, b);
        }
    }
    for (a, b) in actual.nodes().iter().zip(expected.nodes()) {
        same_node(a, b)?;
    }
    Ok(())
}

/// As [`same`], of nodes.
pub(crate) fn same_node(a: &Node, b: &Node) -> Result<(), String> {
    let text = |node: &Node| serde_json::to_string(&node.op).unwrap();
    if (&a.name, &a.inputs, &a.outputs, text(a)) != (&b.name, &b.inputs, &b.outputs, text(b)) {
        return Err(format!("node: {a:?} instead of {b:?}"));
    }
    bodies(&a.op).into_iter().zip(bodies(&b.op)).try_for_each(|(a, b)| same(a, b))
}

fn bodies(op: &Operator) -> Vec<&Graph> {
    match op {
        Operator::If(op) => vec![&op.then_branch.graph, &op.else_branch.graph],
        Operator::Loop(op) => vec![&op.body.graph],
        Operator::Scan(op) => vec![&op.body.graph],
        Operator::Deferred(op) => vec![&op.body.graph],
        _ => vec![],
    }
}

fn same_tensor(a: Option<&Tensor>, b: Option<&Tensor>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return a.is_none() && b.is_none() };
    let content = |tensor: &Tensor| match tensor.strings() {
        Some(strings) => strings.concat().into_bytes(),
        None => tensor.read_bytes().unwrap().to_vec(),
    };
    (a.element_type(), a.dims(), a.scheme(), a.strings(), content(a))
        == (b.element_type(), b.dims(), b.scheme(), b.strings(), content(b))
}

/// Copies the files of a folder, without what lies deeper.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Writes a file. What is there is not truncated first: some file systems flush a file when that happens, which makes
/// thousands of small changes slow.
pub(crate) fn overwrite(path: &Path, bytes: impl AsRef<[u8]>) {
    let mut file = std::fs::File::options().write(true).create(true).truncate(false).open(path).unwrap();
    file.write_all(bytes.as_ref()).unwrap();
    file.set_len(bytes.as_ref().len() as u64).unwrap();
}

pub(crate) fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Makes the manifest agree with the files, as somebody would who wants damage to go unnoticed.
pub(crate) fn reseal(folder: &Path) {
    let path = folder.join("manifest.json");
    let mut manifest = read_json(&path);
    for file in manifest["files"].as_array_mut().unwrap() {
        let bytes = std::fs::read(folder.join(file["name"].as_str().unwrap())).unwrap();
        file["size"] = bytes.len().into();
        let digits = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        file["sha256"] = digits.into();
    }
    overwrite(&path, manifest.to_string());
}

/// Values that stand for everything that has no node.
pub(crate) fn add_types(graph: &mut Graph) {
    let tensor = ValueType::Tensor { element_type: ElementType::F16, shape: shape(vec![Expr::symbol("t")]) };
    for (name, value_type) in [
        ("sequence", ValueType::Sequence(Box::new(tensor.clone()))),
        ("optional", ValueType::Optional(Box::new(ValueType::Sequence(Box::new(tensor))))),
        ("unknown", ValueType::Unknown),
    ] {
        let scheme = Some(Arc::new(QuantScheme::per_tensor(0.1, -3)));
        graph.add_value(Value { name: name.into(), value_type, scheme, constant: None });
    }
}

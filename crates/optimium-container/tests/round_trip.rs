//! Whatever is saved is opened again as it was.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::operators::operators;
use common::{Temporary, add_types, branch, golden, node, same};
use optimium_container::{inspect, is_model_folder, open, save, verify};
use optimium_graph::ops::{Activation, Loop, Unary};
use optimium_graph::{Graph, Operator};
use optimium_tensor::{ElementType, ErrorKind, QuantScheme, Tensor};
use optimium_testing::each_case;

fn round_trip(graph: &Graph) -> Result<(), String> {
    let temporary = Temporary::new();
    let folder = temporary.join("model");
    save(graph, &folder).map_err(|error| format!("save: {error}"))?;
    verify(&folder).map_err(|error| format!("verify: {error}"))?;
    let opened = open(&folder, None).map_err(|error| format!("open: {error}"))?;
    same(&opened, graph)?;
    if temporary.names() != ["model"] { Err(format!("left: {:?}", temporary.names())) } else { Ok(()) }
}

#[test]
fn models_survive() {
    let mut typed = golden();
    add_types(&mut typed);
    each_case([("empty", Graph::new("")), ("golden", golden()), ("types", typed)], |(_, graph)| {
        round_trip(graph)
    });
}

#[test]
fn constants_of_every_type_and_size_survive() {
    let mut graph = Graph::new("constants");
    for element_type in ElementType::ALL {
        for dims in [&[][..], &[0], &[3, 0, 2], &[7], &[65], &[5, 33]] {
            let count: usize = dims.iter().product();
            let tensor = if element_type == ElementType::String {
                Tensor::from_strings(dims, (0..count).map(|i| format!("№{i}\0")).collect()).unwrap()
            } else {
                let bytes: Vec<u8> = (0..count * element_type.size()).map(|i| (i % 251) as u8).collect();
                let tensor = Tensor::from_bytes(element_type, dims, &bytes).unwrap();
                let scheme = QuantScheme::per_tensor(0.3, 5);
                tensor.with_scheme(element_type.is_quantized().then(|| Arc::new(scheme)))
            };
            graph.add_constant(format!("{element_type}{dims:?}"), tensor);
        }
    }
    round_trip(&graph).unwrap();
}

#[test]
fn every_operator_survives() {
    let graph = operators();
    let tag = |op: &Operator| serde_json::to_value(op).unwrap()["op"].as_str().unwrap().to_owned();
    let seen: BTreeSet<String> = graph.nodes().iter().map(|node| tag(&node.op)).collect();
    let error = serde_json::from_str::<Operator>(r#"{"op":"?"}"#).unwrap_err().to_string();
    let known: BTreeSet<String> = error.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    assert!(known.len() > 60, "{error}");
    assert_eq!(seen, known, "an operator is missing in this test");
    round_trip(&graph).unwrap();
}

#[test]
fn tensors_that_share_memory_are_stored_and_mapped_once() {
    let temporary = Temporary::new();
    let folder = temporary.join("model");
    let mut graph = Graph::new("tied");
    let tensor = Tensor::from_slice(&[1000], &[1.5f32; 1000]).unwrap();
    graph.add_constant("a", tensor.clone());
    graph.add_constant("b", tensor.reshaped(&[10, 100]).unwrap());
    graph.add_constant("c", Tensor::from_slice(&[100], &[2i64; 100]).unwrap());
    save(&graph, &folder).unwrap();
    assert_eq!(std::fs::metadata(folder.join("weights.bin")).unwrap().len(), 64 + 4032 + 832);
    let opened = open(&folder, None).unwrap();
    let places: Vec<(usize, bool)> = opened
        .values()
        .iter()
        .map(|value| value.constant.as_ref().unwrap().buffer().unwrap())
        .map(|(buffer, offset)| (buffer.as_ptr().addr() + offset, buffer.is_writable()))
        .collect();
    assert_eq!(places[0], places[1]);
    assert!(places.iter().all(|(address, writable)| address % 64 == 0 && !writable), "{places:?}");
    let error = opened.values()[0].constant.as_ref().unwrap().write::<f32>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOperation);
}

#[test]
fn a_model_outlives_the_folder_it_was_opened_from() {
    let temporary = Temporary::new();
    let folder = temporary.join("model");
    save(&golden(), &folder).unwrap();
    let first = open(&folder, None).unwrap();
    save(&first, &folder).unwrap();
    save(&Graph::new("other"), &folder).unwrap();
    same(&first, &golden()).unwrap();
    assert_eq!(open(&folder, Some("ignored")).unwrap().name, "other");
    assert_eq!(temporary.names(), ["model"]);
}

#[test]
fn a_summary_says_what_the_model_takes() {
    let temporary = Temporary::new();
    let folder = temporary.join("model");
    save(&golden(), &folder).unwrap();
    assert!(is_model_folder(&folder) && !is_model_folder(&temporary.join("")));
    let (summary, graph) = (inspect(&folder).unwrap(), golden());
    assert_eq!((summary.version, summary.name.as_str(), summary.encrypted), ((1, 3), "golden", false));
    for (entries, ids) in [(&summary.inputs, &graph.inputs), (&summary.outputs, &graph.outputs)] {
        let expected: Vec<_> = ids.iter().map(|&id| graph.value(id)).collect();
        assert_eq!(entries.len(), expected.len());
        for (entry, value) in entries.iter().zip(expected) {
            assert_eq!((&entry.name, &entry.value_type), (&value.name, &value.value_type));
        }
    }
    let files: Vec<_> = summary.files.iter().map(|file| (file.name.as_str(), file.role.as_str())).collect();
    assert_eq!(files, [("graph.json", "graph"), ("weights.bin", "weights")]);
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let single = |op: Operator| {
        let mut graph = Graph::new("g");
        let x = graph.add_tensor("x", ElementType::F32, None);
        graph.inputs = vec![x];
        graph.add_node(node("culprit", op, &[x], &[]));
        graph
    };
    let activation = |function| single(Operator::Activation { function });
    let mut nested = branch(Unary::Neg, 1.0);
    for _ in 0..70 {
        let mut outer = branch(Unary::Neg, 1.0);
        let x = outer.graph.inputs[0];
        outer.graph.add_node(node("loop", Operator::Loop(Loop { body: nested, carried: 1 }), &[x], &[]));
        nested = outer;
    }
    let cases = [
        ("NaN", activation(Activation::Elu { alpha: f32::NAN })),
        ("NaN bound", activation(Activation::Clip { low: Some(f32::NAN), high: None })),
        ("infinity", activation(Activation::LeakyRelu { alpha: f32::INFINITY })),
        ("nesting", *nested.graph),
    ];
    each_case(cases, |(_, graph)| {
        let temporary = Temporary::new();
        match save(graph, &temporary.join("model")) {
            Err(error) if error.kind() == ErrorKind::Model && temporary.names().is_empty() => Ok(()),
            result => Err(format!("{result:?}, left {:?}", temporary.names())),
        }
    });
}

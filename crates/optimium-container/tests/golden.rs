//! Folders that earlier versions wrote.

mod common;

use std::path::{Path, PathBuf};

use common::operators::operators;
use common::{golden, same, same_node};
use optimium_container::{
    PackedBlocks, Tuned, TunedMachine, open, open_packed, save_packed, save_tuned, verify,
};
use optimium_graph::{Graph, Origin};
use optimium_tensor::{ElementType, Tensor};

fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

/// What is stored in the folder of version 1.2.
fn tuned() -> Tuned {
    let mut tuned = Tuned::default();
    let choices = [("a problem".to_owned(), "a candidate".to_owned())].into();
    let (cpu, target, precision) = ("a CPU".into(), "golden".into(), "f32".into());
    tuned.set(TunedMachine { cpu, target, threads: 2, precision, choices });
    tuned
}

#[test]
fn the_folder_of_version_1_opens() {
    verify(&folder("v1")).unwrap();
    same(&open(&folder("v1"), None).unwrap(), &golden()).unwrap();
}

#[test]
fn the_operators_of_version_1_open() {
    verify(&folder("v1-operators")).unwrap();
    let (opened, built) = (open(&folder("v1-operators"), None).unwrap(), operators());
    assert!(opened.nodes().len() <= built.nodes().len());
    for (opened, built) in opened.nodes().iter().zip(built.nodes()) {
        same_node(opened, built).unwrap();
    }
}

#[test]
fn the_packed_weights_of_version_1_1_open() {
    verify(&folder("v1.1")).unwrap();
    let opened = open_packed(&folder("v1.1"), None, Some("golden")).unwrap();
    same(&opened.graph, &golden()).unwrap();
    let packed = opened.packed.unwrap();
    let place = &packed.places["block"];
    let block =
        Tensor::from_buffer(ElementType::U8, &[place.len()], packed.buffer.clone(), place.start).unwrap();
    assert_eq!(&block.read_bytes().unwrap()[..], &(0..200).collect::<Vec<u8>>()[..]);
}

#[test]
fn the_choices_of_version_1_2_open() {
    verify(&folder("v1.2")).unwrap();
    let opened = open_packed(&folder("v1.2"), None, Some("golden")).unwrap();
    same(&opened.graph, &golden()).unwrap();
    assert_eq!(opened.packed.unwrap().places.len(), 1);
    assert_eq!(opened.tuned, tuned());
}

#[test]
fn the_origins_of_version_1_3_open() {
    verify(&folder("v1.3")).unwrap();
    let opened = open(&folder("v1.3"), None).unwrap();
    same(&opened, &golden()).unwrap();
    assert_eq!(opened.origins, with_origins().origins);
}

/// The golden graph, with what became of tensors of the model that it was made of.
fn with_origins() -> Graph {
    let held = |value: &str, permutation: &[usize]| Origin::Held {
        value: value.into(),
        permutation: permutation.to_vec(),
    };
    let mut graph = golden();
    graph.origins = [
        ("image", held("image", &[0, 3, 1, 2])),
        ("also product", held("product", &[])),
        ("before", Origin::Fused { into: "image".into() }),
    ]
    .map(|(name, origin)| (name.to_owned(), origin))
    .into();
    graph
}

#[test]
#[ignore = "writes the golden folders of a new version, once"]
fn write_the_folders() {
    let bytes: Vec<u8> = (0..200).collect();
    let packed = PackedBlocks { target: "golden".into(), blocks: vec![("block".into(), &bytes)] };
    let folders = [
        ("v1", golden(), vec![]),
        ("v1-operators", operators(), vec![]),
        ("v1.1", golden(), vec![packed.clone()]),
        ("v1.3", with_origins(), vec![]),
    ];
    for (version, graph, packed) in folders {
        // A golden folder is never written anew.
        if !folder(version).exists() {
            std::fs::create_dir_all(folder(version)).unwrap();
            save_packed(&graph, &folder(version), &packed).unwrap();
        }
    }
    if !folder("v1.2").exists() {
        save_packed(&golden(), &folder("v1.2"), &[packed]).unwrap();
        save_tuned(&folder("v1.2"), &tuned(), &[]).unwrap();
    }
}

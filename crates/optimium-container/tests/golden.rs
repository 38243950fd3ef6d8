//! Folders that earlier versions wrote.

mod common;

use std::path::{Path, PathBuf};

use common::operators::operators;
use common::{golden, same, same_node};
use optimium_container::{open, save, verify};

fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
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
#[ignore = "writes the golden folders of a new version, once"]
fn write_the_folders() {
    for (version, graph) in [("v1", golden()), ("v1-operators", operators())] {
        assert!(!folder(version).exists(), "a golden folder is never written anew");
        std::fs::create_dir_all(folder(version)).unwrap();
        save(&graph, &folder(version)).unwrap();
    }
}

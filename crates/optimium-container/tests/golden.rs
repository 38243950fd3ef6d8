//! Folders that earlier versions wrote.

mod common;

use std::path::{Path, PathBuf};

use common::{golden, same};

fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

#[test]
fn the_folder_of_version_1_opens() {
    let folder = folder("v1");
    optimium_container::verify(&folder).unwrap();
    let graph = optimium_container::open(&folder, None).unwrap();
    same(&graph, &golden()).unwrap();
}

#[test]
#[ignore = "writes the golden folder of a new version, once"]
fn write_the_folder() {
    let folder = folder("v1");
    assert!(!folder.exists(), "a golden folder is never written anew");
    optimium_container::save(&golden(), &folder).unwrap();
}

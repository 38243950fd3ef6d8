//! Packed weights in a folder: found again, and passed over where they are damaged or of another model.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Temporary, golden, overwrite, read_json, reseal, same};
use optimium_container::{Opened, PackedBlocks, inspect, open, open_packed, save, save_packed, verify};
use optimium_graph::Graph;
use optimium_tensor::ErrorKind;
use optimium_testing::{Random, each_case};
use sha2::{Digest, Sha256};

const FILE: &str = "packed.here.bin";
const HEADER: usize = 128;

/// Keys, and how many bytes they stand for.
const BLOCKS: [(&str, usize); 4] = [("first", 100), ("кот \"\n", 64), ("none", 0), ("last", 5000)];

fn content(index: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + index) as u8).collect()
}

fn save_with(graph: &Graph, folder: &Path, targets: &[&str]) {
    let contents: Vec<Vec<u8>> =
        BLOCKS.iter().enumerate().map(|(index, (_, length))| content(index, *length)).collect();
    let blocks = BLOCKS.iter().zip(&contents).map(|((key, _), bytes)| (key.to_string(), &bytes[..]));
    let packed: Vec<PackedBlocks> = targets
        .iter()
        .map(|target| PackedBlocks { target: target.to_string(), blocks: blocks.clone().collect() })
        .collect();
    save_packed(graph, folder, &packed).unwrap();
}

fn saved() -> (Temporary, PathBuf) {
    let temporary = Temporary::new();
    let folder = temporary.join("model");
    save_with(&golden(), &folder, &["here", "there"]);
    (temporary, folder)
}

/// Whether all blocks are there, and what they should be.
fn complete(opened: &Opened) -> Result<(), String> {
    let Some(packed) = &opened.packed else { return Err("nothing is packed".into()) };
    for (index, (key, length)) in BLOCKS.iter().enumerate() {
        let place = packed.places.get(*key).ok_or("a block is missing")?;
        if !place.start.is_multiple_of(64) || packed.buffer.is_writable() {
            return Err("a block is not aligned, or can be written".into());
        }
        let bytes = optimium_tensor::Tensor::from_buffer(
            optimium_tensor::ElementType::U8,
            &[place.len()],
            packed.buffer.clone(),
            place.start,
        );
        if bytes.unwrap().read_bytes().unwrap()[..] != content(index, *length)[..] {
            return Err(format!("{key:?} has another content"));
        }
    }
    Ok(())
}

/// Opened, the same graph, and no packed weights.
fn passed_over(folder: &Path) -> Result<(), String> {
    let opened = open_packed(folder, None, Some("here")).map_err(|error| error.to_string())?;
    if opened.packed.is_some() {
        return Err("the packed weights were taken".into());
    }
    same(&opened.graph, &golden())
}

#[test]
fn blocks_are_found_again() {
    let (_temporary, folder) = saved();
    verify(&folder).unwrap();
    for target in ["here", "there"] {
        complete(&open_packed(&folder, None, Some(target)).unwrap()).unwrap();
    }
    for target in [None, Some("elsewhere"), Some(""), Some("../here"), Some("graph")] {
        assert!(open_packed(&folder, None, target).unwrap().packed.is_none());
    }
    same(&open(&folder, None).unwrap(), &golden()).unwrap();
    let roles: Vec<String> = inspect(&folder).unwrap().files.into_iter().map(|file| file.role).collect();
    assert_eq!(roles, ["graph", "weights", "packed", "packed"]);
    // Without packed weights, the folder is written anew whole.
    save(&golden(), &folder).unwrap();
    assert!(open_packed(&folder, None, Some("here")).unwrap().packed.is_none());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
}

#[test]
fn weights_that_were_released_are_read_again() {
    let (_temporary, folder) = saved();
    let opened = open_packed(&folder, None, Some("here")).unwrap();
    for _ in 0..2 {
        same(&opened.graph, &golden()).unwrap();
        opened.release_weights();
        opened.prefetch_packed();
        complete(&opened).unwrap();
    }
}

#[test]
fn targets_that_cannot_be_are_refused() {
    let temporary = Temporary::new();
    for target in ["", "a/b", "..", "a.b"] {
        let packed = PackedBlocks { target: target.into(), blocks: vec![] };
        let error = save_packed(&golden(), &temporary.join("model"), &[packed]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    let twice = PackedBlocks { target: "a".into(), blocks: vec![] };
    assert!(save_packed(&golden(), &temporary.join("model"), &[twice.clone(), twice]).is_err());
    assert!(temporary.names().is_empty());
}

#[test]
fn truncated_files_are_refused() {
    let (_temporary, folder) = saved();
    let whole = fs::read(folder.join(FILE)).unwrap();
    each_case((0..whole.len()).step_by(97), |&length| {
        overwrite(&folder.join(FILE), &whole[..length]);
        match open(&folder, None) {
            Err(error) if error.kind() == ErrorKind::Container => {}
            result => return Err(format!("{result:?}")),
        }
        // Also where the manifest agrees.
        reseal(&folder);
        let result = passed_over(&folder);
        overwrite(&folder.join(FILE), &whole);
        reseal(&folder);
        result
    });
}

#[test]
fn changed_bytes_are_passed_over_or_found_by_verify() {
    let (_temporary, folder) = saved();
    let whole = fs::read(folder.join(FILE)).unwrap();
    let index = u64::from_le_bytes(whole[24..32].try_into().unwrap()) as usize;
    each_case((0..HEADER + index).chain((HEADER + index..whole.len()).step_by(61)), |&byte| {
        let mut changed = whole.clone();
        changed[byte] ^= 32;
        overwrite(&folder.join(FILE), &changed);
        if verify(&folder).is_ok() {
            return Err("verify saw nothing".into());
        }
        if byte < HEADER + index {
            return passed_over(&folder);
        }
        open_packed(&folder, None, Some("here")).map(|_| ()).map_err(|error| error.to_string())
    });
}

#[test]
fn packed_weights_of_another_model_are_passed_over() {
    let (_temporary, folder) = saved();
    let (_other_temporary, other) = saved();
    save_with(&Graph::new("other"), &other, &["here"]);
    fs::copy(other.join(FILE), folder.join(FILE)).unwrap();
    reseal(&folder);
    passed_over(&folder).unwrap();
    assert!(verify(&folder).unwrap_err().message().contains("another graph"));
}

#[test]
fn a_file_of_another_role_is_not_taken() {
    let (_temporary, folder) = saved();
    let mut manifest = read_json(&folder.join("manifest.json"));
    manifest["files"][2]["role"] = "later".into();
    overwrite(&folder.join("manifest.json"), manifest.to_string());
    passed_over(&folder).unwrap();
}

/// With the digests of index and file made to agree, an index says anything: it is refused or harmless.
#[test]
fn a_forged_index_never_panics() {
    let (_temporary, folder) = saved();
    let whole = fs::read(folder.join(FILE)).unwrap();
    let length = u64::from_le_bytes(whole[24..32].try_into().unwrap()) as usize;
    let mut random = Random::new(7);
    let letters = b"0123456789-.eE\"[]{}:,nx";
    for byte in HEADER..HEADER + length {
        let mut changed = whole.clone();
        changed[byte] = letters[random.range(0, letters.len() as i64) as usize];
        let digest = Sha256::digest(&changed[HEADER..HEADER + length]);
        changed[64..96].copy_from_slice(&digest);
        overwrite(&folder.join(FILE), &changed);
        reseal(&folder);
        let opened = open_packed(&folder, None, Some("here")).unwrap();
        for place in opened.packed.iter().flat_map(|packed| packed.places.values()) {
            assert!(place.start <= place.end && place.end <= whole.len() && place.start.is_multiple_of(64));
        }
    }
}

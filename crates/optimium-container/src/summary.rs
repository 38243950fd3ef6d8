//! What a folder says of itself, without opening the model.

use std::path::Path;

use optimium_graph::ValueType;
use optimium_tensor::Result;

use crate::manifest::Signature;
use crate::open::read_manifest;

/// What the manifest of a model folder says. Nothing of it is compared with the files.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The version of the format, major and minor.
    pub version: (u32, u32),
    /// Who wrote the folder.
    pub producer: String,
    /// The model's name.
    pub name: String,
    /// What the model takes, in order.
    pub inputs: Vec<SignatureEntry>,
    /// What the model gives, in order.
    pub outputs: Vec<SignatureEntry>,
    /// The files, but for the manifest.
    pub files: Vec<FileSummary>,
    /// Whether a passphrase is needed.
    pub encrypted: bool,
}

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct SignatureEntry {
    /// Its name.
    pub name: String,
    /// Its type.
    pub value_type: ValueType,
}

/// A file of a model folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSummary {
    /// Its name in the folder.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// What it is for: `graph`, `weights`, `packed` or `tuned`.
    pub role: String,
    /// SHA-256 of its bytes, as `sha256sum` prints it.
    pub sha256: String,
}

/// Reads what the model folder at `folder` says of itself.
///
/// # Errors
/// [`Container`](optimium_tensor::ErrorKind::Container) where there is no model folder, its manifest is damaged, or a
/// newer version of the runtime wrote it.
pub fn inspect(folder: &Path) -> Result<Summary> {
    let manifest = read_manifest(folder).map_err(|error| error.context(folder.display()))?;
    let entries = |all: &[Signature]| {
        let entry = |one: &Signature| SignatureEntry {
            name: one.name.clone(),
            value_type: one.value_type.value_type(),
        };
        all.iter().map(entry).collect()
    };
    Ok(Summary {
        version: (manifest.version.major, manifest.version.minor),
        inputs: entries(&manifest.inputs),
        outputs: entries(&manifest.outputs),
        files: manifest
            .files
            .into_iter()
            .map(|file| FileSummary {
                name: file.name,
                size: file.size,
                role: file.role,
                sha256: file.sha256,
            })
            .collect(),
        encrypted: manifest.encryption.is_some(),
        producer: manifest.producer,
        name: manifest.name,
    })
}

//! Intermediate tensors as files.

use std::fs;
use std::path::Path;

use optimium_device::ExecutionState;
use optimium_tensor::{Error, ErrorKind, Result, Tensor};
use serde::Serialize;

use crate::tensor_file;

/// One tensor in `index.json`.
#[derive(Serialize)]
struct Entry {
    name: String,
    #[serde(rename = "type")]
    element_type: String,
    shape: Vec<usize>,
    /// The file that holds it; none for strings, which stand in `strings`.
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strings: Option<Vec<String>>,
}

/// Makes the folder, so that one that cannot be made is known before anything runs.
///
/// # Errors
/// [`Io`](ErrorKind::Io) where it cannot be made.
pub(crate) fn prepare(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|cause| Error::io(folder, cause))
}

/// Writes every readable tensor of `state` into `folder`, each to a `.npy` file with a number for a name, and
/// `index.json`, which says what the files hold. Files of an earlier inference are replaced.
///
/// # Errors
/// [`Io`](ErrorKind::Io) where the folder cannot be written.
pub(crate) fn save(folder: &Path, state: &dyn ExecutionState) -> Result<()> {
    prepare(folder)?;
    let mut entries = Vec::new();
    for (number, name) in state.intermediate_names().into_iter().enumerate() {
        let tensor = state.intermediate(&name)?;
        entries.push(save_one(folder, number, name, &tensor)?);
    }
    let text = serde_json::to_string_pretty(&entries)
        .map_err(|cause| Error::new(ErrorKind::Io, "cannot write the index").with_cause(cause))?;
    let index = folder.join("index.json");
    fs::write(&index, text).map_err(|cause| Error::io(&index, cause))
}

fn save_one(folder: &Path, number: usize, name: String, tensor: &Tensor) -> Result<Entry> {
    let strings = tensor.strings().map(<[String]>::to_vec);
    // Names of tensors may hold anything, slashes and colons included; numbers are safe on every file system.
    let file = strings.is_none().then(|| format!("{number:05}.npy"));
    if let Some(file) = &file {
        tensor_file::save(tensor, &folder.join(file))?;
    }
    Ok(Entry {
        name,
        element_type: tensor.element_type().name().to_string(),
        shape: tensor.dims().to_vec(),
        file,
        strings,
    })
}

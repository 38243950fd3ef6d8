//! Intermediate tensors as files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use optimium_device::{Executable, ExecutionState, OperationInfo};
use optimium_graph::Graph;
use optimium_tensor::{Error, ErrorKind, Result, Tensor};
use serde::Serialize;

use crate::{names, tensor_file};

/// One tensor in `index.json`. The tensors stand in the order in which they are computed.
#[derive(Serialize)]
struct Entry {
    name: String,
    #[serde(rename = "type")]
    element_type: String,
    shape: Vec<usize>,
    /// The layer that computes it, by the name of its node; `operator` and `kernel` are those of the layer.
    node: Option<String>,
    operator: Option<String>,
    kernel: Option<String>,
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

/// Copies of the tensors that can be read, with their names.
pub(crate) fn of(state: &dyn ExecutionState) -> impl Iterator<Item = Result<(String, Tensor)>> {
    state.intermediate_names().into_iter().map(|name| Ok((name.clone(), state.intermediate(&name)?)))
}

/// Writes `tensors`, which `executables` computed of `graph`, into `folder`: each to a `.npy` file with a number for a name, in the
/// layout of the model, and `index.json`, which says what the files hold. Files of an earlier inference are replaced.
///
/// # Errors
/// [`Io`](ErrorKind::Io) where the folder cannot be written; the first error among the tensors.
pub(crate) fn save(
    folder: &Path,
    graph: &Graph,
    executables: &[&Arc<dyn Executable>],
    tensors: impl Iterator<Item = Result<(String, Tensor)>>,
) -> Result<()> {
    prepare(folder)?;
    let operations: Vec<OperationInfo> =
        executables.iter().flat_map(|executable| executable.operations()).collect();
    let layers: HashMap<&str, &OperationInfo> = operations
        .iter()
        .flat_map(|operation| operation.outputs.iter().map(move |output| (output.as_str(), operation)))
        .collect();
    let mut entries = Vec::new();
    for (number, tensor) in tensors.enumerate() {
        let (name, tensor) = tensor?;
        let tensor = names::own(graph, &name).tensor(tensor)?;
        let layer = layers.get(name.as_str()).copied();
        entries.push(save_one(folder, number, name, layer, &tensor)?);
    }
    let text = serde_json::to_string_pretty(&entries)
        .map_err(|cause| Error::new(ErrorKind::Io, "cannot write the index").with_cause(cause))?;
    let index = folder.join("index.json");
    fs::write(&index, text).map_err(|cause| Error::io(&index, cause))
}

fn save_one(
    folder: &Path,
    number: usize,
    name: String,
    layer: Option<&OperationInfo>,
    tensor: &Tensor,
) -> Result<Entry> {
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
        node: layer.map(|layer| layer.name.clone()),
        operator: layer.map(|layer| layer.operator.clone()),
        kernel: layer.map(|layer| layer.kernel.clone()),
        file,
        strings,
    })
}

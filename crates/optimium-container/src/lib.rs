//! The model folder of the Optimium runtime.

use std::path::Path;

use optimium_graph::Graph;
use optimium_tensor::{Error, Result};

/// Writes a folder.
pub fn save(_graph: &Graph, folder: &Path) -> Result<()> {
    Err(Error::container(format!("{} cannot be written", folder.display())))
}

/// Opens a folder.
pub fn open(folder: &Path, _passphrase: Option<&str>) -> Result<Graph> {
    Err(Error::container(format!("{} cannot be opened", folder.display())))
}

/// Verifies a folder.
pub fn verify(folder: &Path) -> Result<()> {
    open(folder, None).map(|_| ())
}

/// Whether it is a model folder.
pub fn is_model_folder(path: &Path) -> bool {
    path.join("manifest.json").is_file()
}

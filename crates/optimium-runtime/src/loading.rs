//! From a path to a model.

use std::path::Path;

use optimium_graph::{Graph, passes, shapes};
use optimium_native::Native;
use optimium_tensor::{Error, Result};

use crate::intermediates;
use crate::lifecycle;
use crate::model::Model;
use crate::options::LoadOptions;
use crate::platforms;

/// Told what is being done, and how much of the whole is done, from 0 to 1. Its error ends the work.
pub type Progress<'a> = &'a mut dyn FnMut(&str, f32) -> Result<()>;

/// Loads the model at `path`: a model folder, or an `.onnx` or `.tflite` file, which is converted in memory.
///
/// # Errors
/// [`InvalidState`](optimium_tensor::ErrorKind::InvalidState) outside the life of the runtime;
/// [`Container`](optimium_tensor::ErrorKind::Container) where there is no model at `path`;
/// [`DeviceNotFound`](optimium_tensor::ErrorKind::DeviceNotFound); what [`LoadOptions::compile_options`]
/// reports; [`Io`](optimium_tensor::ErrorKind::Io) for an `intermediate_save_path` that cannot be made; [`Model`](optimium_tensor::ErrorKind::Model) and
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for models that cannot be run.
pub fn load_model(path: &Path, options: &LoadOptions) -> Result<Model> {
    lifecycle::current()?;
    options.compile_options(None)?;
    let (device, backend) = platforms::place(options)?;
    if let Some(folder) = &options.intermediate_save_path {
        intermediates::prepare(folder)?;
    }
    let graph = open(path, options.passphrase.as_deref())?;
    Model::compile(graph, device, &*backend, options).map_err(|error| error.context(path.display()))
}

/// Converts the `.onnx` or `.tflite` file at `source` to a model folder at `destination`.
///
/// # Errors
/// [`InvalidState`](optimium_tensor::ErrorKind::InvalidState) outside the life of the runtime;
/// [`Container`](optimium_tensor::ErrorKind::Container) where there is no model at `source` or the folder
/// cannot be written; [`Model`](optimium_tensor::ErrorKind::Model) and
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for models that cannot be converted.
pub fn convert(source: &Path, destination: &Path, progress: Progress<'_>) -> Result<()> {
    lifecycle::current()?;
    progress("reading", 0.0)?;
    let mut graph = read(source)?;
    progress("simplifying", 0.4)?;
    prepare(&mut graph).map_err(|error| error.context(source.display()))?;
    progress("writing", 0.7)?;
    optimium_container::save(&graph, destination)?;
    progress("done", 1.0)
}

fn open(path: &Path, passphrase: Option<&str>) -> Result<Graph> {
    if path.is_dir() {
        let mut graph = optimium_container::open(path, passphrase)?;
        // The folder says what the shapes are; nothing relies on it unless the operators say so too.
        shapes::infer(&mut graph).map_err(|error| error.context(path.display()))?;
        return Ok(graph);
    }
    let mut graph = read(path)?;
    if passphrase.is_some() {
        tracing::warn!("{} is not encrypted: its passphrase is ignored", path.display());
    }
    prepare(&mut graph).map_err(|error| error.context(path.display()))?;
    Ok(graph)
}

/// The graph in a model file, as it stands there.
fn read(path: &Path) -> Result<Graph> {
    if !path.is_file() {
        return Err(Error::container(format!("there is no model at {}", path.display())));
    }
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    match extension.as_ref().and_then(|extension| extension.to_str()) {
        Some("onnx" | "tflite") => optimium_import::read_file(path),
        _ => Err(Error::container(format!(
            "{} is neither a model folder nor an .onnx or .tflite file",
            path.display()
        ))),
    }
}

fn prepare(graph: &mut Graph) -> Result<()> {
    shapes::infer(graph)?;
    passes::simplify(graph, &Native::new())
}

//! From a path to a model.

use std::path::Path;
use std::sync::Arc;

use optimium_container::PackedBlocks;
use optimium_device::{Backend, Choices, CompileOptions, Executable, PackedWeights};
use optimium_graph::ops::WeightEncoding;
use optimium_graph::passes::Compression;
use optimium_graph::{Graph, passes, shapes};
use optimium_import::InputSequences;
use optimium_native::Native;
use optimium_tensor::{Error, Result};

use crate::intermediates;
use crate::lifecycle;
use crate::model::Model;
use crate::names;
use crate::options::LoadOptions;
use crate::platforms;
use crate::tune;

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
    let runtime = lifecycle::current()?;
    let compile_options = options.compile_options(runtime.environment.instruction_set.clone())?;
    let (device, backend) = platforms::place(options)?;
    if let Some(folder) = &options.intermediate_save_path {
        intermediates::prepare(folder)?;
    }
    if path.is_dir() && !options.sequences.is_empty() {
        return Err(Error::invalid_argument("sequences: what a folder has is decided when it is converted"));
    }
    if !path.is_dir() {
        let graph = import(path, options)?;
        return Model::compile(graph, device, &*backend, options)
            .map_err(|error| error.context(path.display()));
    }
    let target = backend.packing_target(&compile_options);
    let mut opened = optimium_container::open_packed(path, options.passphrase.as_deref(), target.as_deref())?;
    let packed = opened.packed.take().map(|stored| PackedWeights::new(stored.buffer, stored.places));
    let choices = match &target {
        Some(target) if options.tuned => {
            let threads = options.threads_of_stage(&compile_options);
            tune::stored_choices(
                &opened.tuned,
                target,
                &CompileOptions { threads, ..compile_options.clone() },
            )
        }
        _ => Choices::default(),
    };
    let mut graph = std::mem::take(&mut opened.graph);
    for name in &options.keep_tensors {
        names::find(&graph, name).map_err(|error| error.context(path.display()))?;
    }
    // The folder says what the shapes are; nothing relies on it unless the operators say so too.
    let compiled = shapes::infer(&mut graph)
        .and_then(|()| Model::compile_stored(graph, device, &*backend, options, packed, choices))
        .map_err(|error| error.context(path.display()))?;
    let executables = compiled.0.scheduler.executables();
    if executables.iter().all(|executable| executable.packed().iter().all(|block| block.kept)) {
        opened.prefetch_packed();
    }
    // What was packed is not read in its first order again.
    opened.release_weights();
    Ok(compiled)
}

/// How a model is converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertOptions {
    /// Whether the weights are stored a second time, packed for the instruction set of this machine: models then load without
    /// reading or copying them.
    pub pack: bool,
    /// What large constant matrices are compressed to; otherwise they stay as the model has them.
    pub weights: Option<WeightEncoding>,
    /// Tensors of the model, by name, that are to be left as they are, so that they can be read: nothing is fused over them.
    pub keep_tensors: Vec<String>,
    /// What inputs that are sequences or optionals stand for.
    pub sequences: InputSequences,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        ConvertOptions {
            pack: true,
            weights: None,
            keep_tensors: Vec::new(),
            sequences: InputSequences::new(),
        }
    }
}

/// Converts the `.onnx` or `.tflite` file at `source` to a model folder at `destination`, and tells which weights were compressed.
///
/// # Errors
/// [`InvalidState`](optimium_tensor::ErrorKind::InvalidState) outside the life of the runtime;
/// [`Container`](optimium_tensor::ErrorKind::Container) where there is no model at `source` or the folder
/// cannot be written; [`Model`](optimium_tensor::ErrorKind::Model) and
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for models that cannot be converted.
pub fn convert(
    source: &Path,
    destination: &Path,
    options: &ConvertOptions,
    progress: Progress<'_>,
) -> Result<Compression> {
    let runtime = lifecycle::current()?;
    progress("reading", 0.0)?;
    if source.is_dir() {
        return Err(Error::container(format!(
            "{} is a folder; only .onnx and .tflite files can be converted",
            source.display()
        )));
    }
    let mut graph = read(source, &options.sequences)?;
    progress("simplifying", 0.4)?;
    prepare(&mut graph, &options.keep_tensors).map_err(|error| error.context(source.display()))?;
    let mut compression = Compression::default();
    if let Some(encoding) = options.weights {
        progress("compressing", 0.5)?;
        compression = passes::compress_weights(&mut graph, encoding, &Native::new())
            .map_err(|error| error.context(source.display()))?;
    }
    let graph = Arc::new(graph);
    let compile_options = CompileOptions {
        instruction_set: runtime.environment.instruction_set.clone(),
        ..CompileOptions::default()
    };
    let executable = if options.pack {
        progress("packing", 0.6)?;
        pack(&graph, &compile_options)
    } else {
        None
    };
    let packed: Vec<PackedBlocks> = executable
        .iter()
        .map(|(target, executable)| PackedBlocks {
            target: target.clone(),
            blocks: executable.packed().into_iter().map(|block| (block.key, block.bytes)).collect(),
        })
        .collect();
    progress("writing", 0.7)?;
    optimium_container::save_packed(&graph, destination, &packed)?;
    progress("done", 1.0)?;
    Ok(compression)
}

/// The graph compiled, and what its weights are packed for; `None` where it cannot be run here.
fn pack(graph: &Arc<Graph>, options: &CompileOptions) -> Option<(String, Arc<dyn Executable>)> {
    let native = Native::new();
    let target = native.packing_target(options)?;
    match native.compile(graph, options) {
        Ok(executable) => Some((target, executable)),
        Err(error) => {
            tracing::warn!(model = graph.name, %error, "no weights are packed");
            None
        }
    }
}

/// The model in a file, ready to be compiled.
fn import(path: &Path, options: &LoadOptions) -> Result<Graph> {
    let mut graph = read(path, &options.sequences)?;
    if options.passphrase.is_some() {
        tracing::warn!("{} is not encrypted: its passphrase is ignored", path.display());
    }
    prepare(&mut graph, &options.keep_tensors).map_err(|error| error.context(path.display()))?;
    Ok(graph)
}

/// The graph in a model file, as it stands there.
fn read(path: &Path, sequences: &InputSequences) -> Result<Graph> {
    if path.as_os_str().is_empty() {
        return Err(Error::container("the path of the model is empty"));
    }
    if !path.is_file() {
        return Err(Error::container(format!("there is no model at {}", path.display())));
    }
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    match extension.as_ref().and_then(|extension| extension.to_str()) {
        Some("onnx" | "tflite") => optimium_import::read_file(path, sequences),
        _ => Err(Error::container(format!(
            "{} is neither a model folder nor an .onnx or .tflite file",
            path.display()
        ))),
    }
}

fn prepare(graph: &mut Graph, kept: &[String]) -> Result<()> {
    shapes::infer(graph)?;
    passes::simplify_keeping(graph, kept, &Native::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::SchedulerType;

    /// Whether each block of packed weights that a model has was found in its folder.
    fn kept(model: &Model) -> Vec<bool> {
        let executables = model.0.scheduler.executables();
        executables.iter().flat_map(|executable| executable.packed()).map(|block| block.kept).collect()
    }

    #[test]
    fn stages_find_what_was_packed_for_the_whole() {
        lifecycle::initialize().expect("the runtime starts");
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/models");
        for name in ["classifier", "image", "embedder"] {
            let folder = std::env::temp_dir().join(format!("optimium-stages-{name}-{}", std::process::id()));
            let source = models.join(name).with_extension("onnx");
            convert(&source, &folder, &ConvertOptions::default(), &mut |_, _| Ok(()))
                .expect("it is converted");
            let load = |scheduler_type, threads| {
                let options =
                    LoadOptions { scheduler_type, threads: Some(threads), ..LoadOptions::default() };
                load_model(&folder, &options).expect("it loads")
            };
            let whole = kept(&load(SchedulerType::Simple, 1));
            for stages in [2, 3] {
                let model = load(SchedulerType::Pipeline, stages);
                assert!(model.0.scheduler.executables().len() > 1, "{name}");
                assert_eq!(kept(&model), whole, "{name} in {stages} stages");
            }
            assert!(!whole.is_empty() && whole.iter().all(|&kept| kept), "{name}: {whole:?}");
            std::fs::remove_dir_all(&folder).expect("the folder is removed");
        }
    }
}

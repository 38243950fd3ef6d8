//! Readers of models in the formats of the field: ONNX and TFLite.
//!
//! A reader takes the bytes of a file and gives a raw [`Graph`]: the operators of
//! [`optimium_graph::ops`] in an order in which they can be run, constants as tensors, inputs with the
//! shapes that the model declares (what it leaves open becomes a symbol). It computes nothing and simplifies
//! nothing; shape inference and the simplification passes come afterwards and are the same for all formats.
//!
//! - [`onnx`]: protobuf messages → for every operator of the file a reader function (one table lists them
//!   all) → nodes. Old versions of operators become the newest meaning, and operators that the graph does
//!   not have become several that it has. Functions that a model defines are inlined.
//! - [`tflite`]: a flatbuffer → lowered to the same operators, with their channels last and their weights in
//!   ONNX's order. Quantized tensors become values with a [`QuantScheme`](optimium_tensor::QuantScheme).
//!
//! Files are hostile until checked. Every offset, size and count is checked against the bytes that are there
//! before it is used; what is damaged is an error of kind [`Model`](optimium_tensor::ErrorKind::Model).
//! What is valid but unknown here is collected, and reported all at once with the names of the nodes, as
//! [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented).

mod check;
mod names;
pub mod onnx;
pub mod tflite;

use std::collections::BTreeMap;
use std::path::Path;

use optimium_graph::Graph;
use optimium_tensor::{Error, Result};

/// For inputs that are sequences, by name, the shapes of the tensors in them; `None` for an optional input without a value.
pub type InputSequences = BTreeMap<String, Option<Vec<Vec<usize>>>>;

/// Reads a model file: `.onnx` or `.tflite`, told by its extension, or by its content where it has another one.
/// Each tensor of `sequences` is an input of the graph, `name.0`, `name.1`, ….
///
/// # Errors
/// [`Io`](optimium_tensor::ErrorKind::Io) where the file cannot be read;
/// [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) where one of `sequences` is no such input;
/// [`Model`](optimium_tensor::ErrorKind::Model) where it is damaged;
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented), with everything that is unsupported.
pub fn read_file(path: &Path, sequences: &InputSequences) -> Result<Graph> {
    let bytes = std::fs::read(path).map_err(|cause| Error::io(path, cause))?;
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let is_tflite = match extension.as_deref() {
        Some("onnx") => false,
        Some("tflite") => true,
        _ => tflite::has_identifier(&bytes),
    };
    let graph = if is_tflite {
        if let Some(name) = sequences.keys().next() {
            return Err(no_sequence(name).context(path.display()));
        }
        tflite::read(&bytes, &name)
    } else {
        // A path of one component has the empty parent, which means the current folder.
        let folder =
            path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        onnx::read_shared(bytes.into(), folder, sequences)
    };
    let mut graph = graph.map_err(|error| error.context(path.display()))?;
    if graph.name.is_empty() {
        graph.name = name;
    }
    Ok(graph)
}

fn no_sequence(name: &str) -> Error {
    Error::invalid_argument(format!(
        "sequences: the model has no input {name:?} that is a sequence or an optional"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_tensor::ErrorKind;

    #[test]
    fn what_is_no_model_is_an_error() {
        let folder = std::env::temp_dir().join(format!("optimium-read-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let cases: [(&str, &[u8], &str); 4] = [
            ("a.onnx", b"no model", "ONNX"),
            ("a.tflite", b"no model", "TFLite"),
            ("unknown", b"\x08\0\0\0TFL3", "TFLite"),
            ("empty.onnx", b"", "no graph"),
        ];
        optimium_testing::each_case(cases, |&(name, content, expected)| {
            let path = folder.join(name);
            std::fs::write(&path, content).unwrap();
            let error = read_file(&path, &InputSequences::new()).expect_err("no model");
            let found = error.kind() == ErrorKind::Model && error.message().contains(expected);
            if found { Ok(()) } else { Err(format!("{error:?}")) }
        });
        assert_eq!(
            read_file(&folder.join("missing.onnx"), &InputSequences::new()).unwrap_err().kind(),
            ErrorKind::Io
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

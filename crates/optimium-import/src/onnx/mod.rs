//! The reader of ONNX models.
//!
//! The data flow: bytes → messages ([`proto`]) → [`importer`], which walks the main graph: it declares inputs,
//! constants ([`tensor`]) and what nodes compute as values of a [`Graph`], then reads node after node. A node
//! whose operator is a function of the model is inlined; for any other one [`ops::find`] gives the reader
//! function. That function gets a [`node::NodeReader`]: the node's values, its [`attributes`], and the means to
//! add nodes and constants to the graph. The bodies of control flow are read by the same importer, one level up.

mod attributes;
mod importer;
mod level;
mod node;
mod ops;
mod proto;
mod tensor;
#[cfg(test)]
mod testing;
mod types;

use std::path::Path;

use optimium_graph::Graph;
use optimium_tensor::{Error, Result};
use prost::Message;

use proto::ModelProto;

/// Reads a model from the bytes of an `.onnx` file. `folder` is where the files of its external data are; without
/// one, models with external data are refused.
///
/// # Errors
/// [`Model`](optimium_tensor::ErrorKind::Model) where the model is damaged;
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented), with everything that is unsupported.
pub fn read(bytes: &[u8], folder: Option<&Path>) -> Result<Graph> {
    importer::import(decode(bytes)?, folder)
}

/// As [`read`], giving the file's memory back before tensors are made.
pub(crate) fn read_owned(bytes: Vec<u8>, folder: Option<&Path>) -> Result<Graph> {
    let model = decode(&bytes)?;
    drop(bytes);
    importer::import(model, folder)
}

fn decode(bytes: &[u8]) -> Result<ModelProto> {
    ModelProto::decode(bytes)
        .map_err(|cause| Error::model(format!("this is not an ONNX model: {cause}")).with_cause(cause))
}

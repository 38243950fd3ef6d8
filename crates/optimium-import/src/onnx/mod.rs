//! The reader of ONNX models.
//!
//! The data flow: bytes → messages (`proto`) → `importer`, which walks the main graph: it declares inputs,
//! constants (`tensor`) and what nodes compute as values of a [`Graph`], then reads node after node. A node
//! whose operator is a function of the model is inlined; for any other one `ops::find` gives the reader
//! function. That function gets a `node::NodeReader`: the node's values, its `attributes`, and the means to
//! add nodes and constants to the graph. The bodies of control flow are read by the same importer, one level up.

mod attributes;
mod importer;
mod level;
mod node;
mod ops;
mod proto;
mod steps;
mod tensor;
#[cfg(test)]
mod testing;
mod types;

use std::path::Path;

use optimium_graph::Graph;
use optimium_tensor::{Error, Result};
use prost::Message;
use prost::bytes::Bytes;

use crate::InputSequences;
use proto::ModelProto;

/// Reads a model from the bytes of an `.onnx` file. `folder` is where the files of its external data are; without
/// one, models with external data are refused.
///
/// # Errors
/// [`Model`](optimium_tensor::ErrorKind::Model) where the model is damaged;
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented), with everything that is unsupported.
pub fn read(bytes: &[u8], folder: Option<&Path>) -> Result<Graph> {
    read_shared(Bytes::copy_from_slice(bytes), folder, &InputSequences::new())
}

/// As [`read`], without a copy: the weights of the messages are parts of `bytes`.
pub(crate) fn read_shared(bytes: Bytes, folder: Option<&Path>, sequences: &InputSequences) -> Result<Graph> {
    let model = ModelProto::decode(bytes)
        .map_err(|cause| Error::model(format!("this is not an ONNX model: {cause}")).with_cause(cause))?;
    importer::import(model, folder, sequences)
}

#[cfg(test)]
mod tests {
    use super::testing::{graph, integers, model, node, value, zeros};
    use super::*;

    /// A model with constants, attributes and a body.
    fn small_model() -> Vec<u8> {
        let branch = |op: &str| graph(vec![], vec![], vec![node(op, &["c"], &["r"])]);
        let nodes = vec![
            node("Conv", &["x", "w"], &["c"]).ints("pads", &[1, 1, 1, 1]).text("auto_pad", "NOTSET"),
            node("Constant", &[], &["shape"]).tensor("value", integers("", &[0, -1])),
            node("Reshape", &["c", "shape"], &["f"]),
            node("If", &["go"], &["y"])
                .graph("then_branch", branch("Neg"))
                .graph("else_branch", branch("Abs")),
        ];
        let inputs = vec![value("x", &["n", "3", "8", "8"]), value("go", &[])];
        model(17, graph(inputs, vec![zeros("w", &[2, 3, 3, 3])], nodes)).encode_to_vec()
    }

    #[test]
    fn damaged_models_never_panic() {
        let whole = small_model();
        assert_eq!(read(&whole, None).unwrap().nodes().len(), 3);
        for length in 0..whole.len() {
            // What is cut off may be left out as well.
            let _ = read(&whole[..length], None);
        }
        for index in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[index] ^= 1 << bit;
                let _ = read(&damaged, None);
            }
        }
    }
}

//! The reader of TFLite models.
//!
//! The data flow: bytes → checked tables ([`flatbuffer`]) → every tensor of the first subgraph becomes a value
//! ([`tensor`]) → every operator is lowered by its reader function ([`ops::find`]), which works with an
//! [`operator::OperatorReader`]. TFLite's images have their channels last, and so have the lowered operators
//! ([`ImageLayout::ChannelsLast`](optimium_graph::ops::ImageLayout)); constant weights are transposed to ONNX's
//! order. An activation that is fused in the file becomes a node of its own, which simplification fuses again.

mod builtin;
mod flatbuffer;
mod lowering;
mod operator;
mod ops;
mod tensor;
#[cfg(test)]
mod testing;
mod transpose;

use optimium_graph::Graph;
use optimium_tensor::{Error, Result};

use flatbuffer::{Budget, Table};

/// The file format's identifier, behind the offset of the root table.
const IDENTIFIER: &[u8] = b"TFL3";

/// Reads a model from the bytes of a `.tflite` file; `name` becomes the graph's name.
///
/// # Errors
/// [`Model`](optimium_tensor::ErrorKind::Model) where the model is damaged;
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented), with everything that is unsupported.
pub fn read(bytes: &[u8], name: &str) -> Result<Graph> {
    if !has_identifier(bytes) {
        return Err(Error::model("this is not a TFLite model: it does not say so"));
    }
    let budget = Budget::new(bytes.len());
    lowering::lower(bytes, Table::root(bytes, &budget)?, name)
}

/// Whether the bytes begin as a TFLite model does.
pub(crate) fn has_identifier(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(IDENTIFIER)
}

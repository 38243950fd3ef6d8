//! The operators that can be read. `registry` lists them; the reader functions are in a file for each family.

mod activation;
mod attention;
mod control;
mod elementwise;
mod indexing;
mod matrix;
mod microsoft;
mod n_bits;
mod normalization;
mod quantization;
mod recurrent;
mod reduction;
mod registry;
mod shaping;
mod spatial;

use optimium_tensor::Result;

use super::node::NodeReader;

/// Reads a node of one operator into the graph.
pub(super) type Read = fn(&mut NodeReader<'_, '_>) -> Result<()>;

/// An operator of the format.
pub(super) struct Operation {
    /// Its name.
    pub(super) name: &'static str,
    /// How many of its first inputs are needed, and how many it may have.
    pub(super) inputs: (usize, usize),
    /// How many outputs it may have.
    pub(super) outputs: usize,
    /// Its reader.
    pub(super) read: Read,
}

/// The operator of that name.
pub(super) fn find(domain: &str, name: &str) -> Option<&'static Operation> {
    let table = match domain {
        "" => registry::ONNX,
        "com.microsoft" => registry::MICROSOFT,
        _ => return None,
    };
    table.iter().find(|operation| operation.name == name)
}

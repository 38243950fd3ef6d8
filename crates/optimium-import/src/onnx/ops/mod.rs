//! The operators that can be read. `registry` lists them; the reader functions are in a file for each family.

mod activation;
mod attention;
mod control;
mod elementwise;
mod features;
mod flex_attention;
mod fourier;
mod geometry;
mod grams;
mod indexing;
mod loss;
mod matrix;
mod microsoft;
mod n_bits;
mod narrow;
mod normalization;
mod optimizers;
mod quantization;
mod random;
mod recurrent;
mod reduction;
mod registry;
mod sampling;
mod selection;
mod sequences;
mod shaping;
mod spatial;
mod state;
mod window;

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

/// Operators whose meaning did not change from their first version to version 7.
pub(super) const UNCHANGED: &[&str] = &[
    "Abs",
    "ArgMax",
    "ArgMin",
    "AveragePool",
    "Ceil",
    "Constant",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "Exp",
    "Flatten",
    "Floor",
    "Gather",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Identity",
    "LRN",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "MatMul",
    "MaxPool",
    "Neg",
    "Not",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Relu",
    "Shape",
    "Sigmoid",
    "Size",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Sqrt",
    "Squeeze",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// Operators that know sequences and optionals.
pub(super) const STRUCTURED: &[&str] = &[
    "ConcatFromSequence",
    "Identity",
    "Loop",
    "Optional",
    "OptionalGetElement",
    "OptionalHasElement",
    "SequenceAt",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    "SequenceMap",
];

/// The operator of that name.
pub(super) fn find(domain: &str, name: &str) -> Option<&'static Operation> {
    let table = match domain {
        "" => registry::ONNX,
        "com.microsoft" => registry::MICROSOFT,
        "ai.onnx.preview" => registry::PREVIEW,
        "ai.onnx.preview.training" => registry::TRAINING,
        "ai.onnx.ml" => registry::ML,
        _ => return None,
    };
    table.iter().find(|operation| operation.name == name)
}

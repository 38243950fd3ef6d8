//! The model folder: a graph and its weights on disk.
//!
//! ```text
//! model/
//!   manifest.json   what the folder is: format version, signature, and every file with size and SHA-256
//!   graph.json      values, nodes, schemes, small constants; where in the weights the others lie
//!   weights.bin     a header of 64 bytes, then tensors, each aligned to 64 bytes
//!   packed.T.bin    optional: the weights as a backend packs them for the target T, each block aligned to 64 bytes
//!   tuned.json      optional: for the machines that the model was tuned on, which candidates its layers take
//! ```
//!
//! [`save`] goes from a [`Graph`](optimium_graph::Graph) over records (`records`, made by `encode`) to files, which take
//! their place all at once (`replace`). [`open`] goes the other way: `manifest` → `records` → `decode`; weights are mapped
//! (`mapping`) and shared by the tensors without a copy. `check` holds what is demanded of a graph in either direction, so
//! that whatever was saved can be opened.
//!
//! # What is checked
//! A folder may come from anywhere: nothing in it is believed. Sizes are bounded and compared with the files, names
//! cannot leave the folder, ids and ranges must lie within what they speak of. `graph.json` is always compared with its
//! SHA-256. Weights are not read by [`open`]: their size is compared, and their header, which carries the digest of the
//! content that `graph.json` asks for. Their bytes are compared by [`verify`] alone. What a node's attributes and the
//! recorded shapes mean is for shape inference and the backends to check.
//!
//! A folder must not be changed in place while a model of it is loaded; [`save`] replaces it as a whole, which is safe.
//!
//! # Compatibility
//! A folder that any release wrote opens in every later one. For people who change what is stored, operators above all
//! (their structs are written as they are, by their serde names):
//!
//! - Never rename or remove a field, a variant or an operator, and never change its type or meaning. A better form is a
//!   new operator or a new field; the old one is translated when it is read.
//! - A new field gets `#[serde(default)]`, and its default means what its absence meant.
//! - Readers skip unknown fields. If an older reader that skips yours would compute something else, the writer must name
//!   a feature in the manifest's `features`: a reader refuses features that it does not know.
//! - Additions raise the minor version. Only a change that cannot be read by the old rules raises the major version, and
//!   the reader of the old one stays.
//! - `tests/golden/v1` is a folder written by the first release. It is never written anew; a new version gets a folder
//!   beside it.

mod check;
mod decode;
mod digest;
mod encode;
mod files;
mod hex;
mod manifest;
mod mapping;
mod open;
mod packed;
mod records;
mod replace;
mod save;
mod summary;
mod tuned;
mod weights;

pub use open::{Opened, is_model_folder, open, open_packed, verify};
pub use packed::{PackedBlocks, StoredPacked};
pub use save::{save, save_packed};
pub use summary::{FileSummary, SignatureEntry, Summary, inspect};
pub use tuned::{Tuned, TunedMachine, check_tunable, save_tuned};

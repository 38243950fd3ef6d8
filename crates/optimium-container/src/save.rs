//! From a graph to a folder.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use optimium_graph::Graph;
use optimium_tensor::{Error, Result};

use crate::check;
use crate::decode;
use crate::digest;
use crate::encode::encode;
use crate::manifest::{self, FileEntry, Manifest};
use crate::open::MAX_GRAPH_SIZE;
use crate::packed::{self, PackedBlocks};
use crate::records::{GraphFile, NodeRecord, WeightsRecord};
use crate::replace::Staging;
use crate::weights::Layout;

const GRAPH: &str = "graph.json";
const WEIGHTS: &str = "weights.bin";

/// Writes `graph` as a model folder at `folder`, whose parent exists.
///
/// The folder appears as a whole or not at all. A model folder that is there already is replaced, also while models of
/// it are loaded; they keep the old one's weights. Nothing else is ever overwritten.
///
/// # Errors
/// [`Model`](optimium_tensor::ErrorKind::Model) where the graph is not sound, its nodes are not
/// [sorted](Graph::sort), or it holds what cannot be written, as a number that is not finite;
/// [`Container`](optimium_tensor::ErrorKind::Container) where something that is not a model folder is in the way, or
/// writing fails; [`InvalidOperation`](optimium_tensor::ErrorKind::InvalidOperation) while somebody writes a constant.
pub fn save(graph: &Graph, folder: &Path) -> Result<()> {
    save_packed(graph, folder, &[])
}

/// As [`save`], with `packed` weights of the graph.
///
/// # Errors
/// As there, and [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) for targets that cannot be a part of a name.
pub fn save_packed(graph: &Graph, folder: &Path, packed: &[PackedBlocks<'_>]) -> Result<()> {
    if cfg!(target_endian = "big") {
        return Err(Error::not_implemented("model folders are little-endian, and this machine is not"));
    }
    let (records, layout) = encode(graph)?;
    let saved = || {
        let staging = Staging::create(folder)?;
        write(graph, records, &layout, packed, staging.path())?;
        staging.commit()
    };
    saved().map_err(|error: Error| error.context(folder.display()))
}

/// Writes the files into an empty folder.
fn write(
    graph: &Graph,
    mut records: GraphFile<'_>,
    layout: &Layout,
    packed: &[PackedBlocks<'_>],
    folder: &Path,
) -> Result<()> {
    let (weights, content) = write_weights(folder, layout)?;
    records.weights = vec![WeightsRecord { file: WEIGHTS.into(), content }];
    let text = serde_json::to_vec(&records)
        .map_err(|cause| Error::model(format!("the graph cannot be written: {cause}")).with_cause(cause))?;
    if text.len() as u64 > MAX_GRAPH_SIZE {
        return Err(Error::container(format!(
            "{GRAPH} would have {} bytes; at most {MAX_GRAPH_SIZE} are allowed",
            text.len()
        )));
    }
    check_readable(&records, &text)?;
    let graph_entry = write_file(folder, GRAPH, "graph", &text)?;
    let graph_digest = digest::of_bytes(&text);
    let mut files = vec![graph_entry, weights];
    for packed in packed {
        files.push(packed::write(folder, packed, graph_digest)?);
    }
    let manifest = Manifest {
        format: manifest::FORMAT.into(),
        version: manifest::VERSION,
        min_reader: Some(manifest::MIN_READER),
        producer: concat!("optimium-runtime ", env!("CARGO_PKG_VERSION")).into(),
        name: graph.name.clone(),
        inputs: manifest::signatures(graph, &graph.inputs),
        outputs: manifest::signatures(graph, &graph.outputs),
        files,
        features: Vec::new(),
        encryption: None,
    };
    write_manifest(&manifest, folder)
}

/// Writes the manifest into an empty place.
///
/// # Errors
/// `Container` where it would be too large or cannot be written.
pub(crate) fn write_manifest(manifest: &Manifest, folder: &Path) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(manifest).map_err(|cause| {
        Error::model(format!("the manifest cannot be written: {cause}")).with_cause(cause)
    })?;
    text.push(b'\n');
    Manifest::parse(&text).map_err(|error| error.context(manifest::NAME))?;
    if text.len() as u64 > manifest::MAX_SIZE {
        return Err(Error::container(format!(
            "{} would have {} bytes; at most {} are allowed",
            manifest::NAME,
            text.len(),
            manifest::MAX_SIZE
        )));
    }
    write_file(folder, manifest::NAME, "", &text).map(|_| ())
}

/// Writes the weights; gives the digest of their content too.
fn write_weights(folder: &Path, layout: &Layout) -> Result<(FileEntry, String)> {
    let in_weights = |error: Error| error.context(WEIGHTS);
    let failed = |cause| in_weights(Error::container("cannot be written").with_cause(cause));
    let mut file =
        File::options().read(true).write(true).create_new(true).open(folder.join(WEIGHTS)).map_err(failed)?;
    let header = layout.write(&file).map_err(in_weights)?;
    file.sync_all().map_err(failed)?;
    file.rewind().map_err(failed)?;
    let digest = digest::of_reader(Read::by_ref(&mut file)).map_err(failed)?;
    let entry = FileEntry {
        name: WEIGHTS.into(),
        size: header.size,
        sha256: digest::text(&digest),
        role: "weights".into(),
    };
    Ok((entry, digest::text(&header.content)))
}

/// Writes a file that does not exist yet, of that role.
///
/// # Errors
/// `Container` where it cannot be written.
pub(crate) fn write_file(folder: &Path, name: &str, role: &str, text: &[u8]) -> Result<FileEntry> {
    let failed = |cause| Error::container(format!("{name} cannot be written")).with_cause(cause);
    let mut file = File::create_new(folder.join(name)).map_err(failed)?;
    file.write_all(text).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(FileEntry {
        name: name.into(),
        size: text.len() as u64,
        sha256: digest::text(&digest::of_bytes(text)),
        role: role.into(),
    })
}

/// Whether the text says what the records say. It does not where they hold what the text has no form for, and then the
/// model would be another one after it was opened.
fn check_readable(records: &GraphFile<'_>, text: &[u8]) -> Result<()> {
    let lost = |what: String| {
        Error::model(format!(
            "{what} cannot be written: it holds a number that is not finite, or is nested too deeply"
        ))
    };
    let read = decode::parse(text).map_err(|error| lost("the graph".into()).with_cause(error.to_string()))?;
    if read.schemes != records.schemes {
        return Err(lost("a quantization scheme".into()));
    }
    for (read, written) in read.graphs.iter().zip(&records.graphs) {
        if let Some((_, value)) =
            read.values.iter().zip(&written.values).find(|(read, written)| read != written)
        {
            return Err(lost(format!("the value {:?}", value.name)));
        }
        if let Some((_, node)) =
            read.nodes.iter().zip(&written.nodes).find(|(read, written)| !same_operator(read, written))
        {
            return Err(lost(format!("the node {:?} ({})", node.name, node.operator.name())));
        }
    }
    Ok(())
}

fn same_operator(a: &NodeRecord<'_>, b: &NodeRecord<'_>) -> bool {
    // Operators with bodies are equal only if they share them; their other attributes are integers and flags.
    let has_bodies = !check::bodies(&a.operator).is_empty();
    has_bodies || a.operator == b.operator
}

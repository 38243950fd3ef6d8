//! From a folder to a graph.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use optimium_graph::Graph;
use optimium_tensor::{Buffer, Error, ErrorKind, Result};
use serde::Deserialize;

use crate::decode;
use crate::digest;
use crate::files;
use crate::manifest::{self, FileEntry, Manifest};
use crate::mapping;
use crate::records::WeightsRecord;
use crate::weights::{ALIGNMENT, Header};

/// Larger graph files are refused.
pub(crate) const MAX_GRAPH_SIZE: u64 = 256 << 20;
const MAX_WEIGHT_FILES: usize = 1024;

/// Opens the model folder at `folder`. Its weights are mapped, shared by the tensors, and read only when they are used;
/// their bytes are not compared with their checksum ([`verify`] does), but everything else is.
///
/// A passphrase for a folder that is not encrypted is ignored, with a warning.
///
/// # Errors
/// [`Container`](ErrorKind::Container) where there is no model folder, it is damaged, written by a newer version of the
/// runtime, or encrypted and no passphrase is given; [`NotImplemented`](ErrorKind::NotImplemented) where it is encrypted
/// and one is given.
pub fn open(folder: &Path, passphrase: Option<&str>) -> Result<Graph> {
    let opened = || {
        let manifest = read_manifest(folder)?;
        check_encryption(&manifest, passphrase)?;
        check_sizes(folder, &manifest)?;
        load(folder, &manifest)
    };
    opened().map_err(|error| error.context(folder.display()))
}

/// Checks the model folder at `folder` whole: as [`open`], and the checksum of every file, weights included.
///
/// # Errors
/// As [`open`], where it is encrypted as without a passphrase.
pub fn verify(folder: &Path) -> Result<()> {
    let verified = || {
        let manifest = read_manifest(folder)?;
        check_sizes(folder, &manifest)?;
        for entry in &manifest.files {
            let (file, _) = files::open_file(folder, &entry.name)?;
            let digest = digest::of_reader(file).map_err(|cause| {
                Error::container(format!("{} cannot be read", entry.name)).with_cause(cause)
            })?;
            check_digest(entry, digest)?;
        }
        check_encryption(&manifest, None)?;
        load(folder, &manifest).map(|_| ())
    };
    verified().map_err(|error: Error| error.context(folder.display()))
}

/// Whether `path` is a folder with the manifest of a model, whatever its version and however sound the rest.
pub fn is_model_folder(path: &Path) -> bool {
    #[derive(Deserialize)]
    struct Format {
        format: String,
    }
    let Ok(text) = files::read_file(path, manifest::NAME, manifest::MAX_SIZE) else { return false };
    serde_json::from_slice(&text).is_ok_and(|head: Format| head.format == manifest::FORMAT)
}

/// The manifest of `folder`.
///
/// # Errors
/// `Container` where there is no model folder, or none that can be read.
pub(crate) fn read_manifest(folder: &Path) -> Result<Manifest> {
    match folder.metadata() {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(Error::container("is not a folder")),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::container("does not exist").with_cause(cause));
        }
        Err(cause) => return Err(Error::container("cannot be read").with_cause(cause)),
    }
    if folder.join(manifest::NAME).symlink_metadata().is_err() {
        return Err(Error::container(format!("is not a model folder: there is no {}", manifest::NAME)));
    }
    Manifest::read(folder)
}

fn check_encryption(manifest: &Manifest, passphrase: Option<&str>) -> Result<()> {
    match (&manifest.encryption, passphrase) {
        (None, None) => Ok(()),
        (None, Some(_)) => {
            tracing::warn!(model = manifest.name, "the model is not encrypted: its passphrase is ignored");
            Ok(())
        }
        (Some(_), None) => Err(Error::container("the model is encrypted: a passphrase is needed")),
        (Some(_), Some(_)) => Err(Error::not_implemented("encrypted models cannot be opened yet")),
    }
}

fn check_sizes(folder: &Path, manifest: &Manifest) -> Result<()> {
    manifest.files.iter().try_for_each(|entry| {
        let (_, size) = files::open_file(folder, &entry.name)?;
        check_size(entry, size)
    })
}

fn check_size(entry: &FileEntry, size: u64) -> Result<()> {
    if size != entry.size {
        return Err(Error::container(format!(
            "{} has {size} bytes, but {} says {}",
            entry.name,
            manifest::NAME,
            entry.size
        )));
    }
    Ok(())
}

fn check_digest(entry: &FileEntry, digest: digest::Digest) -> Result<()> {
    if digest != entry.digest()? {
        return Err(Error::container(format!(
            "{} is damaged: its SHA-256 is {}, but {} says {}",
            entry.name,
            digest::text(&digest),
            manifest::NAME,
            entry.sha256
        )));
    }
    Ok(())
}

fn load(folder: &Path, manifest: &Manifest) -> Result<Graph> {
    if cfg!(target_endian = "big") {
        return Err(Error::not_implemented("model folders are little-endian, and this machine is not"));
    }
    let entry = manifest.graph_file()?;
    let text = files::read_file(folder, &entry.name, MAX_GRAPH_SIZE)?;
    check_size(entry, text.len() as u64)?;
    check_digest(entry, digest::of_bytes(&text))?;
    let in_graph = |error: Error| error.context(&entry.name);
    let records = decode::parse(&text).map_err(in_graph)?;
    if records.weights.len() > MAX_WEIGHT_FILES {
        return Err(in_graph(Error::container(format!(
            "names more than {MAX_WEIGHT_FILES} files of weights"
        ))));
    }
    let weights = records
        .weights
        .iter()
        .map(|record| map_weights(folder, manifest.weights_file(&record.file)?, record))
        .collect::<Result<Vec<Arc<Buffer>>>>()?;
    let graph =
        decode::decode(records, &weights).map_err(|error| in_graph(error).with_kind(ErrorKind::Container))?;
    manifest.check_signature(&graph)?;
    Ok(graph)
}

fn map_weights(folder: &Path, entry: &FileEntry, record: &WeightsRecord) -> Result<Arc<Buffer>> {
    let failed = |cause| Error::container(format!("{} cannot be read", entry.name)).with_cause(cause);
    let (file, size) = files::open_file(folder, &entry.name)?;
    check_size(entry, size)?;
    let mut start = Vec::new();
    (&file).take(ALIGNMENT).read_to_end(&mut start).map_err(failed)?;
    let header = Header::read(&start, size).map_err(|error| error.context(&entry.name))?;
    if digest::text(&header.content) != record.content {
        return Err(Error::container(format!(
            "{} does not belong to the graph, which asks for weights of SHA-256 {:?}",
            entry.name, record.content
        )));
    }
    let length = usize::try_from(size)
        .map_err(|_| Error::container(format!("{} is larger than memory", entry.name)))?;
    Ok(Arc::new(mapping::map(&file, length).map_err(failed)?))
}

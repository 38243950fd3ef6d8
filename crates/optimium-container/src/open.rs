//! From a folder to a graph.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use optimium_graph::Graph;
use optimium_tensor::{Buffer, Error, ErrorKind, Result};
use serde::Deserialize;

use crate::decode;
use crate::digest;
use crate::files;
use crate::manifest::{self, FileEntry, Manifest};
use crate::mapping::{self, Mapping};
use crate::packed::{self, StoredPacked};
use crate::records::WeightsRecord;
use crate::tuned::{self, Tuned};
use crate::weights::{ALIGNMENT, Header};

/// Larger graph files are refused.
pub(crate) const MAX_GRAPH_SIZE: u64 = 256 << 20;
const MAX_WEIGHT_FILES: usize = 1024;
/// How often a folder that is replaced again and again is opened anew.
const MAX_ATTEMPTS: usize = 64;

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
    open_packed(folder, passphrase, None).map(|opened| opened.graph)
}

/// A model folder that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The model.
    pub graph: Graph,
    /// Its weights packed for the target that was asked for, where they are stored.
    pub packed: Option<StoredPacked>,
    /// What was chosen on the machines that it was tuned on.
    pub tuned: Tuned,
    weights: Vec<Mapping>,
    packed_file: Option<Mapping>,
}

impl Opened {
    /// Has the packed weights read from the file meanwhile, for who will use all of them soon.
    pub fn prefetch_packed(&self) {
        self.packed_file.iter().for_each(Mapping::prefetch);
    }

    /// Gives the memory of the weights back that were read so far; they are read from the file again where they are used again.
    pub fn release_weights(&self) {
        self.weights.iter().for_each(Mapping::release);
    }
}

/// As [`open`], with the weights that are stored as packed for `target`, and what was tuned. What of that is damaged or belongs to
/// another graph is left out, with a warning.
///
/// A folder that is replaced meanwhile is opened anew: what is opened never consists of files of both.
///
/// # Errors
/// As there.
pub fn open_packed(folder: &Path, passphrase: Option<&str>, target: Option<&str>) -> Result<Opened> {
    let (mut failed, mut attempts) = (None, 1..MAX_ATTEMPTS);
    let opened = loop {
        let version = version(folder);
        let opened =
            read_manifest(folder).and_then(|manifest| open_as(folder, &manifest, passphrase, target));
        let is_whole = opened.as_ref().is_ok_and(|(_, left_out)| left_out.is_empty());
        if is_whole || failed == Some(version) || attempts.next().is_none() {
            break opened;
        }
        failed = Some(version);
    };
    let (opened, left_out) = opened.map_err(|error| error.context(folder.display()))?;
    for error in left_out {
        tracing::warn!(folder = %folder.display(), %error, "a part of the model folder is not used");
    }
    Ok(opened)
}

/// What tells the folder from one that was in its place before: when its manifest was written, and which file that is.
fn version(folder: &Path) -> Option<(SystemTime, u64)> {
    let metadata = folder.join(manifest::NAME).symlink_metadata().ok()?;
    #[cfg(unix)]
    let file = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let file = 0;
    Some((metadata.modified().ok()?, file))
}

/// The folder as `manifest` says, and why packed weights or choices are left out.
fn open_as(
    folder: &Path,
    manifest: &Manifest,
    passphrase: Option<&str>,
    target: Option<&str>,
) -> Result<(Opened, Vec<Error>)> {
    check_encryption(manifest, passphrase)?;
    check_sizes(folder, manifest)?;
    let (graph, weights) = load(folder, manifest)?;
    let mut left_out = Vec::new();
    let packed = target.map_or(Ok(None), |target| packed_for(folder, manifest, target));
    let (packed, packed_file) = packed
        .unwrap_or_else(|error| {
            left_out.push(error);
            None
        })
        .unzip();
    let tuned = tuned::of(folder, manifest).unwrap_or_else(|error| {
        left_out.push(error);
        Tuned::default()
    });
    Ok((Opened { graph, packed, tuned, weights, packed_file }, left_out))
}

/// The weights that are packed for `target`, where there are some.
fn packed_for(folder: &Path, manifest: &Manifest, target: &str) -> Result<Option<(StoredPacked, Mapping)>> {
    let Some(entry) = packed::file_name(target).ok().and_then(|name| manifest.packed_file(&name)) else {
        return Ok(None);
    };
    let graph = manifest.graph_file()?.digest()?;
    packed::open(folder, entry, &graph).map(Some)
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
        load(folder, &manifest)?;
        let graph = manifest.graph_file()?.digest()?;
        let mut packed = manifest.files.iter().filter(|file| file.role == packed::ROLE);
        packed.try_for_each(|file| packed::open(folder, file, &graph).map(|_| ()))?;
        let mut tuned = manifest.files.iter().filter(|file| file.role == tuned::ROLE);
        tuned.try_for_each(|file| tuned::read(folder, file).map(|_| ()))
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

/// Whether every file is there, and as large as `manifest` says.
///
/// # Errors
/// `Container` where it is not.
pub(crate) fn check_sizes(folder: &Path, manifest: &Manifest) -> Result<()> {
    manifest.files.iter().try_for_each(|entry| {
        let (_, size) = files::open_file(folder, &entry.name)?;
        check_size(entry, size)
    })
}

/// Whether the file of `entry` has its size.
///
/// # Errors
/// `Container` where it has not.
pub(crate) fn check_size(entry: &FileEntry, size: u64) -> Result<()> {
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

/// Whether the file of `entry` has its digest.
///
/// # Errors
/// `Container` where it has not.
pub(crate) fn check_digest(entry: &FileEntry, digest: digest::Digest) -> Result<()> {
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

/// The graph, and its weights.
fn load(folder: &Path, manifest: &Manifest) -> Result<(Graph, Vec<Mapping>)> {
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
        .collect::<Result<Vec<Mapping>>>()?;
    let buffers: Vec<Arc<Buffer>> = weights.iter().map(|mapping| Arc::new(mapping.buffer())).collect();
    let graph =
        decode::decode(records, &buffers).map_err(|error| in_graph(error).with_kind(ErrorKind::Container))?;
    manifest.check_signature(&graph)?;
    Ok((graph, weights))
}

fn map_weights(folder: &Path, entry: &FileEntry, record: &WeightsRecord) -> Result<Mapping> {
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
    mapping::map(&file, length).map_err(failed)
}

//! Putting a folder in its place all at once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use optimium_tensor::{Error, Result};

use crate::files;
use crate::manifest;
use crate::open::{is_model_folder, read_manifest};

/// A folder beside its target, in which files are prepared; dropping it removes what is left at its own path.
pub(crate) struct Staging {
    path: PathBuf,
    target: PathBuf,
    replaces: bool,
}

impl Staging {
    /// An empty folder beside `target`.
    ///
    /// # Errors
    /// `Container` where `target` is something else than a model folder with nothing but its own files, or an empty
    /// folder; where its parent does not exist; or where the folder cannot be made.
    pub(crate) fn create(target: &Path) -> Result<Staging> {
        let target = resolve(target)?;
        let replaces = check_target(&target)?;
        let path = sibling(&target, "new");
        fs::create_dir(&path).map_err(|cause| {
            Error::container(format!("the folder {} cannot be made", path.display())).with_cause(cause)
        })?;
        Ok(Staging { path, target, replaces })
    }

    /// Where the files are to be written.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the folder in the place of its target, and removes what was there.
    ///
    /// # Errors
    /// `Container` where that fails; the target is then as it was.
    pub(crate) fn commit(mut self) -> Result<()> {
        let failed = |cause| Error::container("cannot be put in its place").with_cause(cause);
        sync(&self.path).map_err(failed)?;
        if self.replaces {
            self.exchange().map_err(failed)?;
        } else {
            fs::rename(&self.path, &self.target).map_err(failed)?;
        }
        // The folder is in its place; that its parent could not be flushed is no reason to report a failure.
        self.target.parent().map_or(Ok(()), sync).or(Ok(()))
    }

    /// Swaps the folder with its target: at once where the system can, else so that the old one is never lost.
    fn exchange(&mut self) -> io::Result<()> {
        if exchange_at_once(&self.path, &self.target)? {
            return Ok(());
        }
        let aside = sibling(&self.target, "old");
        fs::rename(&self.target, &aside)?;
        if let Err(cause) = fs::rename(&self.path, &self.target) {
            fs::rename(&aside, &self.target)?;
            return Err(cause);
        }
        self.path = aside;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "a folder is left behind");
            }
            _ => {}
        }
    }
}

/// The path with links followed where it exists, so that a link is kept and what it names is replaced.
fn resolve(target: &Path) -> Result<PathBuf> {
    if let Ok(resolved) = target.canonicalize() {
        return Ok(resolved);
    }
    if target.symlink_metadata().is_ok() {
        return Err(Error::container("is a link to nowhere"));
    }
    let name = target.file_name().ok_or_else(|| Error::container("does not name a folder"))?;
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = parent.canonicalize().map_err(|cause| {
        Error::container(format!("the folder {} does not exist", parent.display())).with_cause(cause)
    })?;
    Ok(parent.join(name))
}

/// Whether there is a model folder to be replaced.
fn check_target(target: &Path) -> Result<bool> {
    let failed = |cause| Error::container("cannot be read").with_cause(cause);
    if !target.exists() {
        return Ok(false);
    }
    let refused = |why: String| Error::container(format!("{why}, and is not overwritten"));
    if !target.is_dir() {
        return Err(refused("is a file".into()));
    }
    if fs::read_dir(target).map_err(failed)?.next().is_none() {
        return Ok(false);
    }
    if !is_model_folder(target) {
        return Err(refused("is not a model folder".into()));
    }
    let manifest = read_manifest(target)?;
    for entry in fs::read_dir(target).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let listed = |name: &str| {
            files::is_file_name(name)
                && (name == manifest::NAME || manifest.files.iter().any(|file| file.name == name))
        };
        if !name.to_str().is_some_and(listed) || entry.path().is_dir() {
            return Err(refused(format!("holds {name:?}, which is not a file of the model")));
        }
    }
    Ok(true)
}

/// A hidden path beside `target` that no other call of this process, and hardly another process, uses.
fn sibling(target: &Path, purpose: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let time = now.map_or(0, |time| time.as_nanos());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{purpose}-{}-{time:x}-{count}", std::process::id()));
    target.with_file_name(name)
}

/// Flushes a folder's entries, where the system has that.
fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Swaps two paths; `false` where the system or the file system cannot.
#[cfg(target_os = "linux")]
fn exchange_at_once(a: &Path, b: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange_at_once(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use optimium_graph::Graph;

    use super::*;

    #[test]
    fn a_writer_that_dies_leaves_the_old_folder() {
        let parent = std::env::temp_dir().join(format!("optimium-replace-{}", std::process::id()));
        fs::create_dir_all(&parent).unwrap();
        let target = parent.join("model");
        crate::save(&Graph::new("old"), &target).unwrap();
        let dying = Staging::create(&target).unwrap();
        fs::write(dying.path().join(manifest::NAME), b"half a mani").unwrap();
        let left = dying.path().to_owned();
        std::mem::forget(dying);
        assert_eq!(crate::open(&target, None).unwrap().name, "old");
        crate::save(&Graph::new("new"), &target).unwrap();
        assert_eq!(crate::open(&target, None).unwrap().name, "new");
        assert!(left.exists());
        fs::remove_dir_all(&parent).unwrap();
    }

    #[test]
    fn a_writer_that_fails_cleans_up() {
        let parent = std::env::temp_dir().join(format!("optimium-cleanup-{}", std::process::id()));
        fs::create_dir_all(&parent).unwrap();
        let staging = Staging::create(&parent.join("model")).unwrap();
        fs::write(staging.path().join("part"), b"x").unwrap();
        drop(staging);
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 0);
        fs::remove_dir_all(&parent).unwrap();
    }
}

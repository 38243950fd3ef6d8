//! `tuned.json`: for the machines that a model was tuned on, which candidates its layers take.
//!
//! A folder is whole without it. What it says may come from anywhere; only the speed depends on it. A file that is damaged, or
//! that this version does not understand, is passed over when a model is opened, and reported by `verify`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use optimium_tensor::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::digest;
use crate::files;
use crate::manifest::{self, FileEntry, Manifest};
use crate::open::{check_digest, check_size, check_sizes, read_manifest};
use crate::packed::{self, PackedBlocks};
use crate::replace::Staging;
use crate::save::{write_file, write_manifest};

/// The role of the file in the manifest.
pub(crate) const ROLE: &str = "tuned";
const NAME: &str = "tuned.json";
const VERSION: u32 = 1;
/// Larger files are refused.
const MAX_SIZE: u64 = 16 << 20;
const MAX_MACHINES: usize = 256;
const MAX_CHOICES: usize = 1 << 16;
const MAX_TEXT: usize = 1024;

/// What was chosen on all machines that the model was tuned on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuned {
    machines: Vec<TunedMachine>,
}

/// What was chosen on one kind of machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunedMachine {
    /// The CPU, as the system names it.
    pub cpu: String,
    /// The target that weights are packed for.
    pub target: String,
    /// Threads of one inference.
    pub threads: usize,
    /// The precision, by name.
    pub precision: String,
    /// For the key of each problem the name of the candidate.
    pub choices: BTreeMap<String, String>,
}

impl TunedMachine {
    /// Whether it stands for the same machine and use of it as `other`.
    pub fn is_like(&self, other: &TunedMachine) -> bool {
        self.cpu == other.cpu
            && self.target == other.target
            && self.threads == other.threads
            && self.precision == other.precision
    }

    /// # Errors
    /// `Container` for what is larger than anything that is meant.
    fn check(&self) -> Result<()> {
        let texts = self.choices.iter().flat_map(|(key, name)| [key, name]);
        if self.choices.len() > MAX_CHOICES
            || texts.chain([&self.cpu, &self.target, &self.precision]).any(|text| text.len() > MAX_TEXT)
        {
            return Err(Error::container(format!(
                "has more than {MAX_CHOICES} choices for a machine, or a text of more than {MAX_TEXT} bytes"
            )));
        }
        Ok(())
    }
}

/// The whole file.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    machines: Vec<TunedMachine>,
}

impl Tuned {
    /// What was chosen for a machine like that, whose own choices do not count.
    pub fn find(&self, machine: &TunedMachine) -> Option<&TunedMachine> {
        self.machines.iter().find(|other| other.is_like(machine))
    }

    /// All machines, the one that was tuned on last at the end.
    pub fn machines(&self) -> &[TunedMachine] {
        &self.machines
    }

    /// Puts `machine` in the place of what there was for one like it; without choices it only takes that away.
    /// Of too many machines the oldest are forgotten.
    pub fn set(&mut self, machine: TunedMachine) {
        self.machines.retain(|other| !other.is_like(&machine));
        if !machine.choices.is_empty() {
            self.machines.push(machine);
        }
        let surplus = self.machines.len().saturating_sub(MAX_MACHINES);
        self.machines.drain(..surplus);
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// `Container` where it is damaged, of another version, or larger than anything that is meant.
    fn parse(text: &[u8]) -> Result<Tuned> {
        let record: Record = serde_json::from_slice(text)
            .map_err(|cause| Error::container(format!("is damaged: {cause}")).with_cause(cause))?;
        if record.version != VERSION {
            return Err(Error::container(format!("expected version {VERSION}, not {}", record.version)));
        }
        if record.machines.len() > MAX_MACHINES {
            return Err(Error::container(format!("names more than {MAX_MACHINES} machines")));
        }
        record.machines.iter().try_for_each(TunedMachine::check)?;
        Ok(Tuned { machines: record.machines })
    }

    fn text(&self) -> Result<Vec<u8>> {
        self.machines.iter().try_for_each(TunedMachine::check)?;
        let record = Record { version: VERSION, machines: self.machines.clone() };
        let mut text = serde_json::to_vec_pretty(&record)
            .map_err(|cause| Error::container("cannot be written").with_cause(cause))?;
        text.push(b'\n');
        if text.len() as u64 > MAX_SIZE {
            return Err(Error::container(format!(
                "would have {} bytes; at most {MAX_SIZE} are allowed",
                text.len()
            )));
        }
        Ok(text)
    }
}

/// Reads the file of `entry`.
///
/// # Errors
/// `Container` where it cannot be read, or is damaged.
pub(crate) fn read(folder: &Path, entry: &FileEntry) -> Result<Tuned> {
    let text = files::read_file(folder, &entry.name, MAX_SIZE)?;
    check_size(entry, text.len() as u64)?;
    check_digest(entry, digest::of_bytes(&text))?;
    Tuned::parse(&text).map_err(|error| error.context(&entry.name))
}

/// What the folder says of the machines that its model was tuned on.
///
/// # Errors
/// As [`read`].
pub(crate) fn of(folder: &Path, manifest: &Manifest) -> Result<Tuned> {
    let entry = manifest.files.iter().find(|file| file.role == ROLE);
    entry.map_or_else(|| Ok(Tuned::default()), |entry| read(folder, entry))
}

/// Stores `tuned` in the model folder at `folder`, in the place of what was stored before, and the `packed` weights in the place of
/// those for the same targets. The folder is replaced as a whole, also while models of it are loaded.
///
/// # Errors
/// [`Container`](optimium_tensor::ErrorKind::Container) where there is no model folder, a newer version wrote it, it holds other
/// files, or writing fails; [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) for targets that cannot be a part of
/// a name; [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for encrypted folders.
pub fn save_tuned(folder: &Path, tuned: &Tuned, packed: &[PackedBlocks<'_>]) -> Result<()> {
    let saved = || {
        let mut manifest = changeable(folder)?;
        let graph = manifest.graph_file()?.digest()?;
        let replaced =
            packed.iter().map(|packed| packed::file_name(&packed.target)).collect::<Result<Vec<_>>>()?;
        manifest.files.retain(|file| file.role != ROLE && !replaced.contains(&file.name));
        let staging = Staging::create(folder)?;
        for file in &manifest.files {
            carry(folder, staging.path(), &file.name)?;
        }
        for packed in packed {
            manifest.files.push(packed::write(staging.path(), packed, graph)?);
        }
        let text = tuned.text().map_err(|error| error.context(NAME))?;
        manifest.files.push(write_file(staging.path(), NAME, ROLE, &text)?);
        manifest.version = manifest::VERSION;
        write_manifest(&manifest, staging.path())?;
        staging.commit()
    };
    saved().map_err(|error: Error| error.context(folder.display()))
}

/// Makes sure, as far as can be told before, that [`save_tuned`] can store something in the folder.
///
/// # Errors
/// As there.
pub fn check_tunable(folder: &Path) -> Result<()> {
    let checked = || {
        changeable(folder)?;
        Staging::create(folder).map(drop)
    };
    checked().map_err(|error: Error| error.context(folder.display()))
}

/// The manifest of a folder that this version can change.
fn changeable(folder: &Path) -> Result<Manifest> {
    let manifest = read_manifest(folder)?;
    check_sizes(folder, &manifest)?;
    if manifest.version > manifest::VERSION {
        return Err(Error::container("was written by a newer version of the runtime, and is not changed"));
    }
    if manifest.encryption.is_some() {
        return Err(Error::not_implemented("encrypted models cannot be changed yet"));
    }
    Ok(manifest)
}

/// Gives another folder the file `name`, without a copy where the file system can do that.
fn carry(from: &Path, to: &Path, name: &str) -> Result<()> {
    let (source, destination) = (from.join(name), to.join(name));
    let carried = || -> io::Result<()> {
        if fs::hard_link(&source, &destination).is_err() {
            fs::copy(&source, &destination)?;
            fs::File::open(&destination)?.sync_all()?;
        }
        Ok(())
    };
    carried().map_err(|cause| Error::container(format!("{name} cannot be written")).with_cause(cause))
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;

    fn machine(cpu: &str, threads: usize, choice: &str) -> TunedMachine {
        let choices = BTreeMap::from([("problem".to_owned(), choice.to_owned())]);
        TunedMachine { cpu: cpu.into(), target: "level".into(), threads, precision: "f32".into(), choices }
    }

    #[test]
    fn machines_are_kept_apart_and_replaced() {
        let mut tuned = Tuned::default();
        for (cpu, threads, choice) in [("a", 1, "x"), ("a", 2, "y"), ("b", 1, "z"), ("a", 1, "w")] {
            tuned.set(machine(cpu, threads, choice));
        }
        let read = Tuned::parse(&tuned.text().unwrap()).unwrap();
        assert_eq!(read, tuned);
        let found =
            |cpu, threads| read.find(&machine(cpu, threads, "")).map(|one| one.choices["problem"].clone());
        assert_eq!(found("a", 1).as_deref(), Some("w"));
        assert_eq!(found("a", 2).as_deref(), Some("y"));
        assert_eq!(found("b", 2), None);
        assert_eq!(read.find(&TunedMachine { precision: "bf16".into(), ..machine("a", 1, "") }), None);
        assert_eq!(read.find(&TunedMachine { target: "other".into(), ..machine("a", 1, "") }), None);
        tuned.set(TunedMachine { choices: BTreeMap::new(), ..machine("a", 1, "") });
        assert_eq!(tuned.find(&machine("a", 1, "")), None);
        assert_eq!(tuned.machines().len(), 2);
        (0..MAX_MACHINES).for_each(|threads| tuned.set(machine("many", threads, "x")));
        assert_eq!((tuned.machines().len(), tuned.find(&machine("b", 1, ""))), (MAX_MACHINES, None));
    }

    #[test]
    fn files_that_cannot_be_meant_are_refused() {
        let whole =
            String::from_utf8(Tuned { machines: vec![machine("a", 1, "x")] }.text().unwrap()).unwrap();
        let long = format!("\"{}\"", "x".repeat(MAX_TEXT + 1));
        let cases = [
            ("", "", true),
            ("\"threads\": 1", "\"threads\": 1, \"later\": {}", true),
            ("\"version\": 1", "\"version\": 2", false),
            ("\"threads\": 1", "\"threads\": -1", false),
            ("\"threads\": 1", "\"threads\": 1e99", false),
            ("\"cpu\": \"a\"", "\"cpu\": null", false),
            ("\"x\"", long.as_str(), false),
            ("\"x\"", "[\"x\"]", false),
            ("}", "", false),
        ];
        each_case(cases, |&(from, to, allowed)| {
            let text = if from.is_empty() { whole.clone() } else { whole.replacen(from, to, 1) };
            let result = Tuned::parse(text.as_bytes());
            if result.is_ok() == allowed { Ok(()) } else { Err(format!("{result:?}")) }
        });
    }
}

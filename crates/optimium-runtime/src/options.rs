//! How a model is to be loaded.

use std::path::PathBuf;

use optimium_device::{Choices, CompileOptions, DeviceId, Precision};
use optimium_tensor::{Error, Result};

/// The most threads that one model may use.
const MAX_THREADS: usize = 1024;
/// Threads of a model where nobody says how many, on machines that have as many cores.
const DEFAULT_THREADS: usize = 4;

/// How requests of a model share the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SchedulerType {
    /// Each request has resources of its own and runs its steps one after the other.
    #[default]
    Simple,
    /// Requests queue for shared resources, first come, first served.
    Exclusive,
    /// Requests follow each other through the stages of a model that uses several devices.
    Pipeline,
}

/// How a model is to be loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOptions {
    /// The devices that it may use; none are found automatically.
    pub devices: Vec<DeviceId>,
    /// Whether a device that is not there is an error, rather than a reason to use this host's CPU.
    pub strict: bool,
    /// Whether tensors whose lifetimes do not overlap share memory. Without it intermediate tensors stay
    /// readable.
    pub memory_optimization: bool,
    /// Whether denormal numbers count as zero.
    pub disable_denormals: bool,
    /// A folder that every inference leaves its intermediate tensors in.
    pub intermediate_save_path: Option<PathBuf>,
    /// What an encrypted model is encrypted with.
    pub passphrase: Option<String>,
    /// Threads of one inference, from 1 to 1024; otherwise one for each of `cores`, or else as many as there
    /// are cores available, but no more than 4. Threads beyond the available cores take no part, unless `cores` pins them.
    pub threads: Option<usize>,
    /// The cores that the threads are pinned to, at least one for each thread.
    pub cores: Option<Vec<usize>>,
    /// How requests share the machine.
    pub scheduler_type: SchedulerType,
    /// How exact matrix products and convolutions are to be.
    pub precision: Precision,
    /// Whether the kernels are used that [tuning](crate::tune_model) chose on such a machine.
    pub tuned: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            strict: false,
            memory_optimization: true,
            disable_denormals: true,
            intermediate_save_path: None,
            passphrase: None,
            threads: None,
            cores: None,
            scheduler_type: SchedulerType::Simple,
            precision: Precision::F32,
            tuned: true,
        }
    }
}

impl LoadOptions {
    /// Whether intermediate tensors can be read after an inference.
    pub fn keeps_intermediates(&self) -> bool {
        !self.memory_optimization || self.intermediate_save_path.is_some()
    }

    /// What a backend is to do, after a check of everything.
    ///
    /// # Errors
    /// [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) for threads or cores that cannot be;
    /// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for schedulers other than
    /// [`SchedulerType::Simple`].
    pub fn compile_options(&self, instruction_set: Option<String>) -> Result<CompileOptions> {
        if self.scheduler_type != SchedulerType::Simple {
            return Err(Error::not_implemented(format!(
                "the scheduler {:?} does not exist yet; use Simple",
                self.scheduler_type
            )));
        }
        let threads = self.thread_count()?;
        Ok(CompileOptions {
            threads,
            cores: self.checked_cores(threads)?,
            memory_optimization: !self.keeps_intermediates(),
            disable_denormals: self.disable_denormals,
            instruction_set,
            precision: self.precision,
            packed: None,
            choices: Choices::default(),
        })
    }

    fn thread_count(&self) -> Result<usize> {
        let available = || std::thread::available_parallelism().map_or(1, usize::from).min(DEFAULT_THREADS);
        let threads = self.threads.unwrap_or_else(|| self.cores.as_ref().map_or_else(available, Vec::len));
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(Error::invalid_argument(format!(
                "{threads} threads are not possible; give a number from 1 to {MAX_THREADS}"
            )));
        }
        Ok(threads)
    }

    /// The first `threads` cores.
    fn checked_cores(&self, threads: usize) -> Result<Option<Vec<usize>>> {
        let Some(cores) = &self.cores else { return Ok(None) };
        if cores.len() < threads {
            return Err(Error::invalid_argument(format!(
                "{threads} threads need as many cores, but {} are given: {cores:?}",
                cores.len()
            )));
        }
        for (i, core) in cores.iter().enumerate() {
            if !core_exists(*core) {
                return Err(Error::invalid_argument(format!("this machine has no core {core}")));
            }
            if cores[..i].contains(core) {
                return Err(Error::invalid_argument(format!("the core {core} is given twice")));
            }
        }
        Ok(Some(cores[..threads].to_vec()))
    }
}

/// Whether the machine has a core of that number. The numbers need not be contiguous, and a process may be
/// confined to some of them.
fn core_exists(core: usize) -> bool {
    let allowed = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .map(|list| contains(list, core))
    });
    allowed.unwrap_or_else(|| core < std::thread::available_parallelism().map_or(1, usize::from))
}

/// Whether a list such as `0-3,8` names `number`.
fn contains(list: &str, number: usize) -> bool {
    list.trim().split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        matches!((first.parse(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&number))
    })
}

#[cfg(test)]
mod tests {
    use optimium_tensor::ErrorKind;
    use optimium_testing::each_case;

    use super::*;

    #[test]
    fn impossible_options_are_refused() {
        let default = LoadOptions::default;
        let cases = [
            ("no thread", LoadOptions { threads: Some(0), ..default() }, ErrorKind::InvalidArgument),
            (
                "too many threads",
                LoadOptions { threads: Some(1025), ..default() },
                ErrorKind::InvalidArgument,
            ),
            ("no core", LoadOptions { cores: Some(vec![]), ..default() }, ErrorKind::InvalidArgument),
            (
                "unknown core",
                LoadOptions { cores: Some(vec![100_000]), ..default() },
                ErrorKind::InvalidArgument,
            ),
            (
                "one core twice",
                LoadOptions { cores: Some(vec![0, 0]), ..default() },
                ErrorKind::InvalidArgument,
            ),
            (
                "fewer cores than threads",
                LoadOptions { threads: Some(2), cores: Some(vec![0]), ..default() },
                ErrorKind::InvalidArgument,
            ),
            (
                "exclusive",
                LoadOptions { scheduler_type: SchedulerType::Exclusive, ..default() },
                ErrorKind::NotImplemented,
            ),
            (
                "pipeline",
                LoadOptions { scheduler_type: SchedulerType::Pipeline, ..default() },
                ErrorKind::NotImplemented,
            ),
        ];
        each_case(cases, |(_, options, kind)| match options.compile_options(None) {
            Err(error) if error.kind() == *kind => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    #[test]
    fn lists_of_cores_are_read() {
        for (list, number, expected) in
            [("0-3", 3, true), ("0-3,8", 8, true), ("\t0-3", 4, false), ("", 0, false)]
        {
            assert_eq!(contains(list, number), expected, "{list:?} {number}");
        }
    }
}

//! How a model is to be loaded.

use std::path::PathBuf;

use optimium_device::{Choices, CompileOptions, DeviceId, Precision};
use optimium_import::InputSequences;
use optimium_tensor::{Error, Result};

/// The most threads that one model may use.
const MAX_THREADS: usize = 1024;
/// Threads of a model where nobody says how many, on machines that have as many cores.
const DEFAULT_THREADS: usize = 4;

/// Inferences that may wait for a model's stages where nobody says how many.
const DEFAULT_QUEUE_CAPACITY: usize = 1024;

/// How requests of a model share the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SchedulerType {
    /// Each request has resources of its own and runs its steps one after the other.
    #[default]
    Simple,
    /// Requests queue for shared resources, first come, first served.
    Exclusive,
    /// Requests follow each other through the stages of a model, each of which has a device or cores of its own.
    Pipeline,
}

impl SchedulerType {
    /// All of them.
    pub const ALL: [SchedulerType; 3] =
        [SchedulerType::Simple, SchedulerType::Exclusive, SchedulerType::Pipeline];

    /// The name that users know it by.
    pub fn name(self) -> &'static str {
        match self {
            SchedulerType::Simple => "SIMPLE",
            SchedulerType::Exclusive => "EXCLUSIVE",
            SchedulerType::Pipeline => "PIPELINE",
        }
    }
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
    /// For [`SchedulerType::Pipeline`]: groups that the threads are divided into, a stage of the model for each; otherwise as many as
    /// there are threads.
    pub stages: Option<usize>,
    /// For [`SchedulerType::Exclusive`] and [`SchedulerType::Pipeline`]: inferences that may wait for their turn; otherwise 1024.
    pub queue_capacity: Option<usize>,
    /// Tensors of the model, by name, that are to be left as they are, so that they can be read: nothing is fused over them. For model
    /// folders this is decided when they are converted.
    pub keep_tensors: Vec<String>,
    /// What inputs that are sequences or optionals stand for. For model folders this is decided when they are converted.
    pub sequences: InputSequences,
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
            stages: None,
            queue_capacity: None,
            keep_tensors: Vec::new(),
            sequences: InputSequences::new(),
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
    /// [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) for threads, cores or stages that cannot be, and for options that
    /// the scheduler does not have.
    pub fn compile_options(&self, instruction_set: Option<String>) -> Result<CompileOptions> {
        let threads = self.thread_count()?;
        self.check_scheduler(threads)?;
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

    /// The stages that the model is to have.
    pub(crate) fn stage_count(&self, options: &CompileOptions) -> usize {
        match self.scheduler_type {
            SchedulerType::Simple | SchedulerType::Exclusive => 1,
            SchedulerType::Pipeline => self.stages.unwrap_or(options.threads),
        }
    }

    /// The threads that work on the same part of the model at once.
    pub(crate) fn threads_of_stage(&self, options: &CompileOptions) -> usize {
        (options.threads / self.stage_count(options)).max(1)
    }

    /// Inferences that may wait for their turn.
    pub(crate) fn queue_capacity(&self) -> usize {
        self.queue_capacity.unwrap_or(DEFAULT_QUEUE_CAPACITY)
    }

    fn check_scheduler(&self, threads: usize) -> Result<()> {
        let refuse = |why: String| Err(Error::invalid_argument(why));
        match (self.scheduler_type, self.stages) {
            (SchedulerType::Pipeline, Some(0)) => return refuse("a pipeline has at least one stage".into()),
            (SchedulerType::Pipeline, Some(stages)) if stages > threads => {
                return refuse(format!("{stages} stages need as many threads, but there are {threads}"));
            }
            (SchedulerType::Pipeline, _) | (_, None) => {}
            (other, Some(_)) => {
                return refuse(format!("only the scheduler PIPELINE has stages, not {}", other.name()));
            }
        }
        match (self.scheduler_type, self.queue_capacity) {
            (SchedulerType::Simple, Some(_)) => refuse(
                "the scheduler SIMPLE has no queue_capacity: each of its requests has resources of its own"
                    .into(),
            ),
            (_, Some(0)) => refuse("a queue_capacity of 0 would refuse every inference".into()),
            _ => Ok(()),
        }
    }

    fn thread_count(&self) -> Result<usize> {
        let available = || std::thread::available_parallelism().map_or(1, usize::from).min(DEFAULT_THREADS);
        if self.cores.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::invalid_argument(
                "cores is an empty list; name at least one core, or leave it out for threads that run on any",
            ));
        }
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
        let pipeline = || LoadOptions { scheduler_type: SchedulerType::Pipeline, ..default() };
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
            ("stages of one", LoadOptions { stages: Some(2), ..default() }, ErrorKind::InvalidArgument),
            ("no stage", LoadOptions { stages: Some(0), ..pipeline() }, ErrorKind::InvalidArgument),
            (
                "fewer threads than stages",
                LoadOptions { stages: Some(3), threads: Some(2), ..pipeline() },
                ErrorKind::InvalidArgument,
            ),
            ("no queue", LoadOptions { queue_capacity: Some(9), ..default() }, ErrorKind::InvalidArgument),
            ("no room", LoadOptions { queue_capacity: Some(0), ..pipeline() }, ErrorKind::InvalidArgument),
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

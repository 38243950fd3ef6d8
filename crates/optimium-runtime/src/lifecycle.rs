//! The time between [`initialize`] and [`finalize`], outside which nothing can be loaded or run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use optimium_device::HostInfo;
use optimium_tensor::{Error, ErrorKind, Result};

use crate::environment::Environment;
use crate::logging::{self, LogLevel};
use crate::scheduler::{Staged, StagedShared, Workers};

/// What exists between [`initialize`] and [`finalize`].
pub(crate) struct Runtime {
    pub(crate) workers: Arc<Workers>,
    pub(crate) environment: Environment,
    /// The models that have threads of their own; `None` once these were stopped.
    staged: Mutex<Option<Vec<Weak<StagedShared>>>>,
}

pub(crate) static CURRENT: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);

impl Runtime {
    fn new(environment: Environment, workers: usize) -> Runtime {
        Runtime {
            workers: Arc::new(Workers::new(workers)),
            environment,
            staged: Mutex::new(Some(Vec::new())),
        }
    }

    /// The same in a process where its threads do not exist.
    pub(crate) fn afresh(&self) -> Runtime {
        Runtime::new(self.environment.clone(), self.workers.max_workers())
    }

    /// Sees to it that `scheduler` is stopped with the runtime.
    ///
    /// # Errors
    /// [`InvalidState`](ErrorKind::InvalidState) where the runtime was stopped.
    pub(crate) fn adopt(&self, scheduler: &Staged) -> Result<()> {
        let mut staged = self.staged();
        let models = staged.as_mut().ok_or_else(not_running)?;
        models.retain(|model| model.strong_count() > 0);
        models.push(Arc::downgrade(scheduler.shared()));
        Ok(())
    }

    /// Stops all threads: those of stages first, since workers report the ends of their inferences.
    fn stop(&self) {
        let models = self.staged().take().unwrap_or_default();
        models.iter().filter_map(Weak::upgrade).for_each(|model| model.stop());
        self.workers.stop();
    }

    fn staged(&self) -> MutexGuard<'_, Option<Vec<Weak<StagedShared>>>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the runtime, and logging where the environment asks for it. Does nothing where it runs already.
///
/// # Errors
/// [`Io`](ErrorKind::Io) where the log file that the environment names cannot be opened.
pub fn initialize() -> Result<()> {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    if current.is_some() {
        return Ok(());
    }
    let environment = Environment::read();
    start_logging(&environment)?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    *current = Some(Arc::new(Runtime::new(environment, workers)));
    tracing::info!("initialized, up to {workers} requests run at once");
    Ok(())
}

/// Shuts the runtime down: inferences that run on its threads are cancelled and awaited, queued ones fail, the callbacks of all of
/// them are called, and models loaded before can no longer be run. Does nothing where the runtime does not run.
pub fn finalize() {
    let ended = CURRENT.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(runtime) = ended {
        runtime.stop();
        tracing::info!("finalized");
    }
}

/// Whether the runtime is initialized and not finalized.
pub fn is_initialized() -> bool {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// This machine and its devices.
///
/// # Errors
/// [`InvalidState`](ErrorKind::InvalidState) outside the life of the runtime.
pub fn local_info() -> Result<&'static HostInfo> {
    current().map(|_| optimium_device::local_info())
}

/// The runtime, where there is one.
pub(crate) fn current() -> Result<Arc<Runtime>> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(not_running)
}

/// The error of use outside the life of the runtime.
fn not_running() -> Error {
    Error::new(
        ErrorKind::InvalidState,
        "the runtime is not initialized, or was finalized; call initialize() first",
    )
}

fn start_logging(environment: &Environment) -> Result<()> {
    if environment.debug {
        logging::set_log_level(LogLevel::Debug);
    }
    match &environment.log_file {
        Some(path) => logging::enable_file_log(path).map_err(|error| error.context("OPTIMIUM_RT_LOGFILE"))?,
        None if environment.enable_log || environment.debug => logging::enable_console_log(),
        None => {}
    }
    Ok(())
}

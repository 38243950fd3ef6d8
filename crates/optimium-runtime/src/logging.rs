//! What the runtime writes about its work: levels and writers.
//!
//! Nothing is written until a writer is enabled. The subscriber is installed with the first writer; a program
//! that has a `tracing` subscriber of its own keeps it and gets the runtime's events there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};

use optimium_tensor::{Error, Result};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;

/// How much is written, from everything to errors alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Everything, each inference included.
    Debug,
    /// What was decided, and why.
    Verbose,
    /// What happened.
    Info,
    /// What may be wrong.
    #[default]
    Warning,
    /// What failed.
    Error,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            LogLevel::Debug => LevelFilter::TRACE,
            LogLevel::Verbose => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warning => LevelFilter::WARN,
            LogLevel::Error => LevelFilter::ERROR,
        }
    }
}

/// What is written, and where to.
pub(crate) struct Settings {
    level: LogLevel,
    console: bool,
    files: Vec<File>,
    filter: Option<reload::Handle<LevelFilter, tracing_subscriber::Registry>>,
}

pub(crate) static SETTINGS: Mutex<Settings> =
    Mutex::new(Settings { level: LogLevel::Warning, console: false, files: Vec::new(), filter: None });

fn with_settings<T>(change: impl FnOnce(&mut Settings) -> T) -> T {
    change(&mut SETTINGS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Writes what is at least as important as `level` from now on.
pub fn set_log_level(level: LogLevel) {
    let filter = with_settings(|settings| {
        settings.level = level;
        settings.filter.clone()
    });
    if let Some(filter) = filter {
        // It fails only where the subscriber is gone, and then nothing is written anyway.
        let _ = filter.reload(level.filter());
    }
}

/// The level that is set.
pub fn log_level() -> LogLevel {
    with_settings(|settings| settings.level)
}

/// Writes logs to the standard error stream from now on.
pub fn enable_console_log() {
    with_settings(|settings| settings.console = true);
    install();
}

/// Appends logs to the file at `path` from now on, as well as to those enabled before.
///
/// # Errors
/// [`Io`](optimium_tensor::ErrorKind::Io) where it cannot be opened.
pub fn enable_file_log(path: &Path) -> Result<()> {
    let file =
        OpenOptions::new().create(true).append(true).open(path).map_err(|cause| Error::io(path, cause))?;
    with_settings(|settings| settings.files.push(file));
    install();
    Ok(())
}

fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let (filter, handle) = reload::Layer::new(log_level().filter());
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Writers);
        let subscriber = tracing_subscriber::registry().with(filter).with(lines);
        if tracing::subscriber::set_global_default(subscriber).is_ok() {
            with_settings(|settings| settings.filter = Some(handle));
        }
    });
}

/// Writes each line to every writer that is enabled.
struct Writers;

impl MakeWriter<'_> for Writers {
    type Writer = Writers;
    fn make_writer(&self) -> Writers {
        Writers
    }
}

impl Write for Writers {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        with_settings(|settings| {
            let console = if settings.console { io::stderr().write_all(line) } else { Ok(()) };
            settings.files.iter_mut().fold(console, |result, file| result.and(file.write_all(line)))
        })?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        with_settings(|settings| settings.files.iter_mut().try_for_each(Write::flush))
    }
}

//! What every program of Liaison does alike: configuration files, logs, exit codes, the signal to stop.

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use liaison_proto::failure::chain;
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Exit codes of every program; `--help` names them.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// Failed; the message says what.
    pub const FAILED: u8 = 1;
    /// Wrong usage (clap's own code).
    pub const USAGE: u8 = 2;
    /// The input was refused; every problem is listed.
    pub const REFUSED: u8 = 3;
    /// The daemon or broker cannot be reached.
    pub const UNREACHABLE: u8 = 4;
    /// Verification found something.
    pub const FINDINGS: u8 = 5;
    /// Locked, or the passphrase is wrong.
    pub const LOCKED: u8 = 6;
}

/// The exit codes, for `--help`.
pub const EXIT_HELP: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 input refused, 4 daemon or broker not \
    reachable, 5 verification found something, 6 locked or wrong passphrase.";

/// Says on standard error what failed, and returns the exit code.
pub fn fail(program: &str, error: &dyn Error, code: u8) -> ExitCode {
    eprintln!("{program}: {}", chain(error));
    ExitCode::from(code)
}

/// Prints what a check read, noted and found (arrays `read`, `notes`, `problems`), and returns its exit code.
#[must_use]
pub fn print_check(report: &serde_json::Value, json: bool) -> ExitCode {
    let lines = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    if json {
        println!("{report:#}");
    } else {
        for (name, mark) in [("read", ""), ("notes", "note: "), ("problems", "PROBLEM: ")] {
            for line in lines(name) {
                println!("{mark}{}", line.as_str().unwrap_or_default());
            }
        }
        if lines("problems").is_empty() {
            println!("no problems");
        }
    }
    if lines("problems").is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::FINDINGS) }
}

/// Why a configuration file was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{path} could not be read; the config command prints a commented default")]
    Io {
        /// The file.
        path: String,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// It is malformed, or has a key that nobody reads.
    #[error("{path} is not accepted: {problem}")]
    Form {
        /// The file.
        path: String,
        /// Line and key.
        problem: String,
    },
}

/// Reads a configuration file; unknown keys are refused.
///
/// # Errors
/// [`ConfigError`].
pub fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let name = || path.display().to_string();
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Io { path: name(), source })?;
    toml::from_str(&text).map_err(|e| ConfigError::Form { path: name(), problem: e.to_string() })
}

/// Goes on with a configuration, or says why it was not accepted.
pub fn with_config<T>(program: &str, config: Result<T, ConfigError>, then: impl FnOnce(T) -> ExitCode) -> ExitCode {
    match config {
        Ok(config) => then(config),
        Err(error) => fail(program, &error, exit::USAGE),
    }
}

/// A path of a configuration file: relative ones start at the file's own directory.
#[must_use]
pub fn beside(config: &Path, path: &Path) -> PathBuf {
    config.parent().map_or_else(|| path.to_path_buf(), |directory| directory.join(path))
}

/// Whether a text is a level, or directives such as `info,liaison_node=debug`.
#[must_use]
pub fn is_log_filter(text: &str) -> bool {
    let level = |word: &str| ["error", "warn", "info", "debug", "trace", "off"].contains(&word);
    let directive =
        |part: &str| part.rsplit_once('=').map_or_else(|| level(part), |(target, l)| !target.is_empty() && level(l));
    text.split(',').all(|part| directive(part.trim()))
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. `filter` is a level, or directives such as `info,liaison_broker=debug`.
pub fn init_logs(filter: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    // Fails only when a process plays several roles and has a subscriber already.
    let _ = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
}

/// Installs the handlers of SIGTERM and SIGINT now; completes at either. Who says that a process runs has called it before:
/// a signal in between would kill.
///
/// # Errors
/// When the handlers cannot be installed.
///
/// # Panics
/// Outside a runtime.
pub fn stop_signal() -> io::Result<impl Future<Output = ()> + Send> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Builds a data directory beside its place and moves it there whole: an init that fails or is cut short leaves nothing
/// that looks like a daemon.
///
/// # Errors
/// When the building place cannot be made or moved, or `build` fails.
pub fn build_directory<T, E: From<io::Error>>(data: &Path, build: impl FnOnce(&Path) -> Result<T, E>) -> Result<T, E> {
    let data = std::path::absolute(data)?;
    let name =
        data.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.to_string_lossy().into_owned();
    let parent = data.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let place = parent.join(format!(".{name}.being-built"));
    match fs::remove_dir_all(&place) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    fs::create_dir_all(&place)?;
    let built = build(&place)?;
    fs::File::open(&place)?.sync_all()?;
    fs::rename(&place, &data)?;
    fs::File::open(parent)?.sync_all()?;
    Ok(built)
}

/// Locks a data directory for this process; the lock ends with the returned file.
///
/// # Errors
/// When another process has it.
pub fn lock_directory(directory: &Path) -> io::Result<fs::File> {
    let path = directory.join("lock");
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("{} is in use by another process", directory.display()),
        )),
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}

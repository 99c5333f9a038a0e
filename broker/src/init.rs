//! Opening the broker's two logs, and creating them: only `broker init` does.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use liaison_link::{
    charter_files::{self, CharterFileError},
    process::build_directory,
    tls::{Identity, TlsError},
};
use liaison_log::{
    checkpoint::CheckpointSigner,
    commit::{CommitError, Log},
    disk::{Disk, OsDisk},
    exchange::ExchangeState,
    open::{self, LogConfig, OpenError, Recovery},
};
use liaison_proto::{
    ProtoMessage as _,
    charter::{Charter, LogIdentity},
    clock::Clock,
    directory::Directory,
    entropy::Entropy,
    key_file::{KeyFileError, PrivateKey},
    refusal::Refusal,
    sign::VerifyingKey,
    wire,
};

use crate::{
    accept::server_config, config::Config, directory_log::DirectorySequencer, queue::Queue, sequence::ExchangeSequencer,
};

/// Why the broker could not be set up or started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The charter cannot be used.
    #[error("the charter cannot be used")]
    Charter(#[from] CharterFileError),
    /// A key file cannot be used.
    #[error("a key cannot be used")]
    Key(#[from] KeyFileError),
    /// A key is not the one in the charter.
    #[error("{0} is not the key that the charter names")]
    WrongKey(PathBuf),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// A log cannot be opened.
    #[error("the {0} log cannot be opened")]
    Log(&'static str, #[source] OpenError),
    /// The data directory is missing.
    #[error("there is no broker in {0}; create one with: broker init")]
    Missing(PathBuf),
    /// There is a broker already.
    #[error("there is a broker in {0} already; nothing was changed")]
    Exists(PathBuf),
    /// A record was refused.
    #[error("record {path} was refused")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        refusal: Refusal,
    },
    /// Writing the directory log failed.
    #[error("the records could not be entered")]
    Commit(#[from] CommitError),
    /// Reading, writing or listening failed.
    #[error("{what}")]
    Io {
        /// The operation.
        what: String,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The server failed.
    #[error("serving failed")]
    Serve(#[from] tonic::transport::Error),
    /// A log stopped after a failed write or sync; restart recovers.
    #[error("the log stopped after a failure; nothing that was receipted is lost")]
    LogStopped,
}

impl From<io::Error> for StartError {
    fn from(source: io::Error) -> Self {
        io_failed("creating the data directory")(source)
    }
}

/// An I/O failure with the operation that failed.
pub(crate) fn io_failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let what = what.into();
    |source| StartError::Io { what, source }
}

/// The broker's logs, open.
pub struct Logs {
    /// Directory log.
    pub directory_log: Log<DirectorySequencer>,
    /// Exchange log.
    pub exchange_log: Log<ExchangeSequencer>,
    /// Durable directory entries.
    pub directory: Arc<RwLock<Directory>>,
    /// The exchange log's state; it may be ahead of what is durable.
    pub state: Arc<RwLock<ExchangeState>>,
    /// What waits for whom.
    pub queue: Arc<Queue>,
    /// What recovery found, per log.
    pub recovery: [(&'static str, Recovery); 2],
}

fn signer(path: &Path, identity: &LogIdentity) -> Result<CheckpointSigner, StartError> {
    let key = PrivateKey::read_signing(path)?;
    let same = |key: &VerifyingKey| key == &identity.key;
    if !same(&key.verifying_key()) {
        return Err(StartError::WrongKey(path.to_path_buf()));
    }
    Ok(CheckpointSigner::new(identity.origin.clone(), key))
}

fn disk(config: &Config, log: &str) -> Arc<dyn Disk> {
    Arc::new(OsDisk::new(config.data.join(log)))
}

/// Reads the charter and opens both logs: recovery on the normal path's code.
///
/// # Errors
/// [`StartError`].
pub fn open_logs(config: &Config) -> Result<(Charter, Logs), StartError> {
    let (charter, _) = charter_files::load(&config.charter, Some(&config.charter_sha256))?;
    if !config.data.is_dir() {
        return Err(StartError::Missing(config.data.clone()));
    }
    let log = |name: &str, key: &Path, identity: &LogIdentity| -> Result<LogConfig, StartError> {
        let signer = signer(key, identity)?;
        Ok(LogConfig { disk: disk(config, name), signer, segment_bytes: config.segment_bytes() })
    };
    let (sequencer, directory) = DirectorySequencer::new(charter.clone());
    let directory_config = log("directory", &config.directory_log_key, charter.directory_log())?;
    let (directory_log, directory_recovery) =
        open::open(directory_config, sequencer).map_err(|e| StartError::Log("directory", e))?;
    let queue = Arc::new(Queue::default());
    let sequencer = ExchangeSequencer::new(Arc::clone(&directory), Arc::clone(&queue));
    let (state, unwitnessed) = (sequencer.state(), sequencer.unwitnessed());
    let exchange_config = log("exchange", &config.exchange_log_key, charter.exchange_log())?;
    let (exchange_log, exchange_recovery) =
        open::open(exchange_config, sequencer).map_err(|e| StartError::Log("exchange", e))?;
    if exchange_recovery.cut.is_some() {
        unwitnessed.store(true, std::sync::atomic::Ordering::SeqCst);
    }
    let recovery = [("directory", directory_recovery), ("exchange", exchange_recovery)];
    Ok((charter, Logs { directory_log, exchange_log, directory, state, queue, recovery }))
}

/// Creates both logs and enters the signed records of a directory of files, in the order of their names; the charter
/// comes first.
///
/// # Errors
/// [`StartError`]; when there is a broker already, nothing is changed.
pub fn init(config: &Config, records: &Path, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<u64, StartError> {
    if config.data.exists() {
        return Err(StartError::Exists(config.data.clone()));
    }
    let (charter, _) = charter_files::load(&config.charter, Some(&config.charter_sha256))?;
    // A certificate that cannot serve is better noticed now.
    server_config(&charter, Identity::read(&config.tls_certificate, &config.tls_key)?)?;
    build_directory(&config.data, |place| {
        build(&Config { data: place.to_path_buf(), ..config.clone() }, records, clock, entropy)
    })
}

fn build(config: &Config, records: &Path, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<u64, StartError> {
    for log in ["directory", "exchange"] {
        open::create(&disk(config, log), config.segment_bytes(), entropy)
            .map_err(io_failed(format!("creating the {log} log")))?;
    }
    let (_, mut logs) = open_logs(config)?;
    let listing = fs::read_dir(records).map_err(io_failed(format!("reading {}", records.display())))?;
    let mut files: Vec<PathBuf> = listing.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "record"));
    files.sort();
    if files.is_empty() {
        let nothing = io::Error::new(io::ErrorKind::NotFound, "no *.record files");
        return Err(io_failed(format!("reading {}", records.display()))(nothing));
    }
    for path in &files {
        let refused = |refusal: Refusal| StartError::Record { path: path.clone(), refusal };
        let bytes = fs::read(path).map_err(io_failed(format!("reading {}", path.display())))?;
        let record = wire::DirectoryRecord::decode(bytes.as_slice()).map_err(|_| {
            refused(Refusal::new(liaison_proto::refusal::RefusalCode::BadRecord, "it is not a directory record"))
        })?;
        for answer in logs.directory_log.commit(vec![record], clock.now())? {
            answer.map_err(refused)?;
        }
    }
    logs.directory_log.record_signed()?;
    Ok(files.len() as u64)
}

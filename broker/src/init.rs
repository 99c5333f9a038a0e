//! Opening the broker's two logs, and creating them: only `broker init` does.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use liaison_link::{
    charter_files::{self, CharterFileError},
    process::build_directory,
    time::FlooredTime,
    tls::{Identity, TlsError},
};
use liaison_log::{
    checkpoint::CheckpointSigner,
    commit::{CommitError, Log},
    disk::{Disks, os_disks},
    exchange::ExchangeState,
    index::IndexError,
    open::{self, LogConfig, OpenError, Recovery},
};
use liaison_proto::{
    ProtoMessage as _,
    charter::{Charter, LogIdentity},
    clock::{Clock, UnixMillis},
    directory::Directory,
    entropy::Entropy,
    key_file::{KeyFileError, PrivateKey},
    refusal::Refusal,
    sign::VerifyingKey,
    wire,
};

use crate::{
    accept::server_config,
    attachments::AttachmentStore,
    config::Config,
    continuity,
    directory_log::{DirectoryEvent, DirectorySequencer},
    gate::Gate,
    index::SledIndex,
    queue::Queue,
    revocation::Revocations,
    sequence::ExchangeSequencer,
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
    #[error(
        "{0} is not the key that charter no. {1} names: put that one in its place, or the files of the charter that names this \
         one beside the first charter's"
    )]
    WrongKey(PathBuf, u64),
    /// The directory log has a later charter than the files.
    #[error(
        "the newest charter in the files is no. {held}, and the directory log has no. {entered}: put its two files beside \
         the first charter's"
    )]
    CharterBehind {
        /// Of the files.
        held: u64,
        /// Of the log.
        entered: u64,
    },
    /// The charter closes the log at a place where it does not end.
    #[error("the charter closes the exchange log at {end} entries; the log has {size}, {what}")]
    Successor {
        /// Size in the charter.
        end: u64,
        /// Of the log.
        size: u64,
        /// What does not fit.
        what: String,
    },
    /// The newest charter is not in force yet.
    #[error("charter no. {0} is issued at {1}: take its files away until then")]
    CharterEarly(u64, UnixMillis),
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
    /// The index cannot be used.
    #[error("the index cannot be used")]
    Index(#[from] IndexError),
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
    /// Attachments.
    pub attachments: Arc<AttachmentStore>,
    /// The index.
    pub index: Arc<SledIndex>,
    /// Closed while entries are missing.
    pub gate: Arc<Gate>,
    /// Whether what is entered is marked UNWITNESSED.
    pub unwitnessed: Arc<AtomicBool>,
    /// What recovery found, per log.
    pub recovery: [(&'static str, Recovery); 2],
}

impl Logs {
    /// Logs what recovery found, and returns what an operator should know of it.
    #[must_use]
    pub fn report(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, found) in &self.recovery {
            tracing::info!(log = name, size = found.size, kept = found.kept, "opened");
            if let Some(reason) = &found.cut {
                tracing::warn!(log = name, %reason, "the tail that was never signed was cut");
                lines.push(format!("at the start a tail of the {name} log that was never signed was cut: {reason}"));
            }
        }
        lines
    }
}

fn signer(path: &Path, identity: &LogIdentity, charter: u64) -> Result<CheckpointSigner, StartError> {
    let key = PrivateKey::read_signing(path)?;
    let same = |key: &VerifyingKey| key == &identity.key;
    if !same(&key.verifying_key()) {
        return Err(StartError::WrongKey(path.to_path_buf(), charter));
    }
    Ok(CheckpointSigner::new(identity.origin.clone(), key))
}

/// Reads the charter and opens both logs: recovery on the normal path's code.
///
/// # Errors
/// [`StartError`].
pub fn open_logs(config: &Config, disks: &Disks) -> Result<(Charter, Logs), StartError> {
    let charter = charter_files::load(&config.charter, Some(&config.charter_sha256))?;
    if !config.data.is_dir() {
        return Err(StartError::Missing(config.data.clone()));
    }
    let gate = Arc::new(Gate::default());
    let (sequencer, directory) = DirectorySequencer::new(charter.clone(), Arc::clone(&gate));
    let directory_config = log_config(config, disks, "directory", &config.directory_log_key, &charter)?;
    let (directory_log, directory_recovery) =
        open::open(directory_config, sequencer).map_err(|e| StartError::Log("directory", e))?;
    let entered = directory.read().unwrap_or_else(PoisonError::into_inner).charters();
    if entered > charter.number() {
        return Err(StartError::CharterBehind { held: charter.number(), entered });
    }
    let root = config.data.join("index");
    let (index, empty) = SledIndex::open(&root)?;
    if empty {
        tracing::info!("the index is built from the journal");
    }
    let opened = match open_exchange(config, disks, &charter, &directory, &gate, index) {
        // Its rows cannot be read: it is never the truth, so that stops nobody.
        Err(StartError::Index(error)) => {
            tracing::warn!(%error, "the index is damaged");
            None
        }
        opened => opened?,
    };
    let opened = match opened {
        Some(opened) => opened,
        None => {
            tracing::warn!("the index is damaged, or not of this log; it is built from the journal again");
            let opened = open_exchange(config, disks, &charter, &directory, &gate, SledIndex::empty(&root)?)?;
            opened.ok_or_else(|| StartError::Index(IndexError("a new index does not fit its log".into())))?
        }
    };
    let Exchange { log, state, queue, attachments, index, unwitnessed, recovery } = opened;
    let recovery = [("directory", directory_recovery), ("exchange", recovery)];
    let exchange_log = log;
    let logs =
        Logs { directory_log, exchange_log, directory, state, queue, attachments, index, gate, unwitnessed, recovery };
    Ok((charter, logs))
}

pub(crate) fn log_config(
    config: &Config,
    disks: &Disks,
    name: &str,
    key: &Path,
    charter: &Charter,
) -> Result<LogConfig, StartError> {
    let identity = if name == "directory" { charter.directory_log() } else { charter.exchange_log() };
    let (disk, signer) = (disks(&config.data.join(name)), signer(key, identity, charter.number())?);
    let (segment_bytes, reserve_bytes) = (config.segment_bytes(), config.reserve_bytes());
    Ok(LogConfig { disk, signer, segment_bytes, reserve_bytes })
}

struct Exchange {
    log: Log<ExchangeSequencer>,
    state: Arc<RwLock<ExchangeState>>,
    queue: Arc<Queue>,
    attachments: Arc<AttachmentStore>,
    index: Arc<SledIndex>,
    unwitnessed: Arc<AtomicBool>,
    recovery: Recovery,
}

/// Opens the exchange log with an index; none when the index is of another log, or ahead of this one.
fn open_exchange(
    config: &Config,
    disks: &Disks,
    charter: &Charter,
    directory: &Arc<RwLock<Directory>>,
    gate: &Arc<Gate>,
    index: SledIndex,
) -> Result<Option<Exchange>, StartError> {
    let allowance = u64::from(config.attachment_gibibytes_per_office) << 30;
    let attachments = AttachmentStore::open(
        &config.data.join("attachments"),
        allowance,
        config.reserve_bytes() + crate::intake::ATTACHMENT_ROOM,
    );
    let attachments = Arc::new(attachments.map_err(io_failed("opening the attachments"))?);
    let (index, queue) = (Arc::new(index), Arc::new(Queue::default()));
    let state = ExchangeState::open(Box::new(Arc::clone(&index)))?;
    queue.load(&state)?;
    attachments.load(&state)?;
    let applied = state.applied().size;
    let (directory, gate) = (Arc::clone(directory), Arc::clone(gate));
    let sequencer = ExchangeSequencer::new(state, directory, Arc::clone(&queue), Arc::clone(&attachments), gate);
    let (state, unwitnessed, stale) = (sequencer.state(), sequencer.unwitnessed(), sequencer.stale());
    let exchange_config = log_config(config, disks, "exchange", &config.exchange_log_key, charter)?;
    let (log, recovery) = match open::open(exchange_config, sequencer) {
        Ok((_, recovery)) if applied > recovery.size => return Ok(None),
        Ok(opened) => opened,
        Err(_) if stale.load(Ordering::SeqCst) => return Ok(None),
        Err(error) => return Err(StartError::Log("exchange", error)),
    };
    unwitnessed.store(recovery.cut.is_some(), Ordering::SeqCst);
    Ok(Some(Exchange { log, state, queue, attachments, index, unwitnessed, recovery }))
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
    let charter = charter_files::load(&config.charter, Some(&config.charter_sha256))?;
    // A certificate that cannot serve is better noticed now.
    let time = FlooredTime::new(Arc::new(liaison_proto::clock::SystemClock), &charter, UnixMillis(0));
    let identity = Identity::read(&config.tls_certificate, &config.tls_key)?;
    server_config(&charter, identity, &Revocations::default(), time)?;
    build_directory(&config.data, |place| {
        build(&Config { data: place.to_path_buf(), ..config.clone() }, records, clock, entropy)
    })
}

fn build(config: &Config, records: &Path, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<u64, StartError> {
    let disks = os_disks();
    for log in ["directory", "exchange"] {
        open::create(&disks(&config.data.join(log)), config.segment_bytes(), entropy)
            .map_err(io_failed(format!("creating the {log} log")))?;
    }
    let (_, mut logs) = open_logs(config, &disks)?;
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
        for answer in logs.directory_log.commit(vec![DirectoryEvent::Publish(Box::new(record))], clock.now())? {
            answer.map_err(refused)?;
        }
    }
    logs.directory_log.close()?;
    logs.exchange_log.close()?;
    continuity::confirm(&config.data, &disks)?;
    Ok(files.len() as u64)
}

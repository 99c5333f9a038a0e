//! The charters' files: `charter.toml` and, beside it, `charter.sig`; then `charter-2.toml` with `charter-2.sig`, and so
//! on. A party keeps those that the broker hands it in a directory of its own.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use liaison_proto::{
    charter::{Charter, CharterError, CurrentCharter, SignatureFile},
    wire,
};

/// Why the charter could not be taken from its files.
#[derive(Debug, thiserror::Error)]
pub enum CharterFileError {
    /// A file cannot be read or written.
    #[error("{path} could not be read or written")]
    Io {
        /// The file.
        path: String,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// A file of signatures is malformed.
    #[error("{path} is malformed: {problem}")]
    Signatures {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Not the charter that was delivered by hand.
    #[error("the charter's SHA-256 is {found}, the one delivered by hand is {wanted}")]
    OtherCharter {
        /// Of the newest in the chain.
        found: String,
        /// Of the configuration.
        wanted: String,
    },
    /// The charter does not hold.
    #[error("charter no. {0} is not good")]
    Charter(u64, #[source] CharterError),
}

impl CharterFileError {
    /// Whether a charter is at fault, rather than the disk.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CharterFileError {
    let path = path.display().to_string();
    |source| CharterFileError::Io { path, source }
}

fn malformed(path: &Path, problem: &str) -> CharterFileError {
    CharterFileError::Signatures { path: path.display().to_string(), problem: problem.to_owned() }
}

/// The file of a later charter in a directory.
#[must_use]
pub fn numbered(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("charter-{number}.toml"))
}

fn read(path: &Path) -> Result<(Vec<u8>, Vec<wire::CountrySignature>), CharterFileError> {
    let read = |path: &Path| fs::read(path).map_err(io_error(path));
    let beside = path.with_extension("sig");
    let signatures = String::from_utf8_lossy(&read(&beside)?).into_owned();
    let signatures: SignatureFile = toml::from_str(&signatures).map_err(|e| malformed(&beside, e.message()))?;
    Ok((read(path)?, signatures.to_wire()))
}

/// Reads the first charter and every one that follows it beside it, and verifies all of them; one of them must be the
/// one whose SHA-256 was delivered by hand: anybody can make a charter that signs itself.
///
/// # Errors
/// [`CharterFileError`].
pub fn load(path: &Path, sha256: Option<&str>) -> Result<Charter, CharterFileError> {
    let (bytes, signatures) = read(path)?;
    let mut charter = Charter::first(bytes.into(), signatures).map_err(|e| CharterFileError::Charter(1, e))?;
    let beside = path.parent().unwrap_or_else(|| Path::new(""));
    loop {
        let number = charter.number() + 1;
        let file = numbered(beside, number);
        if !file.exists() {
            break;
        }
        let (bytes, signatures) = read(&file)?;
        let next = Arc::new(charter).succeed(bytes.into(), signatures);
        charter = next.map_err(|e| CharterFileError::Charter(number, e))?;
    }
    let is_wanted = |wanted: &str| charter.chain().any(|one| wanted.eq_ignore_ascii_case(&one.fingerprint()));
    if let Some(wanted) = sha256.filter(|wanted| !is_wanted(wanted)) {
        return Err(CharterFileError::OtherCharter { found: charter.fingerprint(), wanted: wanted.to_owned() });
    }
    Ok(charter)
}

/// The newest charter that a running party knows, and where it keeps what it learns.
#[derive(Clone, Debug)]
pub struct Charters {
    current: CurrentCharter,
    kept: PathBuf,
    /// One at a time learns.
    learning: Arc<Mutex<()>>,
}

impl Charters {
    /// Reads the party's own charter files, then what it has learnt since. What of the latter is damaged is learnt again.
    ///
    /// # Errors
    /// [`CharterFileError`] for the party's own files.
    pub fn open(path: &Path, sha256: Option<&str>, kept: PathBuf) -> Result<Self, CharterFileError> {
        let charters = Self { current: load(path, sha256)?.into(), kept, learning: Arc::default() };
        loop {
            let file = numbered(&charters.kept, charters.get().number() + 1);
            if !file.exists() {
                break;
            }
            let next = read(&file).and_then(|(charter, signatures)| {
                charters.next(&wire::CharterRecord { charter: charter.into(), signatures })
            });
            match next {
                Ok(next) => charters.current.advance(Arc::new(next)),
                Err(error) => {
                    tracing::warn!(%error, file = %file.display(), "a charter that was kept is not good");
                    break;
                }
            }
        }
        Ok(charters)
    }

    /// The newest one.
    #[must_use]
    pub fn get(&self) -> Arc<Charter> {
        self.current.get()
    }

    fn next(&self, record: &wire::CharterRecord) -> Result<Charter, CharterFileError> {
        let current = self.get();
        let next = current.succeed(record.charter.clone(), record.signatures.clone());
        next.map_err(|e| CharterFileError::Charter(current.number() + 1, e))
    }

    /// Takes charters that follow the newest one here, and keeps them.
    ///
    /// # Errors
    /// When one does not follow, or cannot be kept: those before it are taken.
    pub fn learn(&self, records: &[wire::CharterRecord]) -> Result<(), CharterFileError> {
        let _turn = self.learning.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            // Another task may have asked at the same time.
            if self.get().chain().any(|known| known.bytes() == record.charter.as_ref()) {
                continue;
            }
            let charter = self.next(record)?;
            // First: what is believed by it must be believed after a restart, too.
            self.keep(&charter)?;
            tracing::warn!(number = charter.number(), sha256 = charter.fingerprint(), "a new charter holds");
            self.current.advance(Arc::new(charter));
        }
        Ok(())
    }

    fn keep(&self, charter: &Charter) -> Result<(), CharterFileError> {
        fs::create_dir_all(&self.kept).map_err(io_error(&self.kept))?;
        let file = numbered(&self.kept, charter.number());
        let signatures = SignatureFile::from_wire(&charter.record().signatures);
        let signatures = toml::to_string(&signatures).map_err(|e| malformed(&file, &e.to_string()))?;
        // The charter last: its name says that both are there.
        for (kind, bytes) in [("sig", signatures.as_bytes()), ("toml", charter.bytes())] {
            let (path, new) = (file.with_extension(kind), file.with_extension(format!("{kind}.new")));
            let write = || {
                let mut writing = File::create(&new)?;
                writing.write_all(bytes)?;
                writing.sync_all()?;
                fs::rename(&new, &path)?;
                File::open(&self.kept)?.sync_all()
            };
            write().map_err(io_error(&path))?;
        }
        Ok(())
    }
}

//! The node's replica of the directory log: fetched, verified and replayed in full, kept on disk for days without a
//! link.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use liaison_link::charter_files::{CharterFileError, Charters};
use liaison_log::{
    disk::Disk,
    mirror::{Mirror, MirrorError},
    remote::RemoteLog,
};
use liaison_proto::{
    Bytes,
    charter::Charter,
    directory::Directory,
    ids::OfficeId,
    office::{Office, RecordError},
    wire,
};
use tokio::sync::{Mutex, watch};
use tonic::Status;

use crate::keystore::{KeyPair, PublicKeys};

/// Entries of the directory log that a node keeps: a region has some thousand offices with a key a month.
const MAX_ENTRIES: u64 = 1_000_000;

/// Why the directory could not be brought up to date. What was known stays.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The broker's charter does not follow from the one held here.
    #[error("the broker's charter is not one that follows from this node's")]
    Charter(#[from] CharterFileError),
    /// The broker could not be asked for its charter.
    #[error("the broker could not be asked for its charter")]
    Link(#[source] Box<Status>),
    /// The log could not be fetched or verified.
    #[error("the directory log could not be brought up to date")]
    Mirror(#[from] MirrorError<Status>),
    /// An entry does not verify.
    #[error("entry {index} of the directory log does not verify")]
    Record {
        /// Its index.
        index: u64,
        /// Why.
        #[source]
        source: RecordError,
    },
}

impl DirectoryError {
    /// Whether the log itself is at fault, rather than the link to it.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        match self {
            Self::Charter(error) => error.is_alarm(),
            Self::Link(_) | Self::Mirror(MirrorError::Source(_) | MirrorError::Disk(_)) => false,
            Self::Mirror(_) | Self::Record { .. } => true,
        }
    }
}

/// The replica.
pub struct DirectoryReplica {
    charters: Charters,
    mirror: Mutex<Mirror>,
    directory: RwLock<Directory>,
    /// Set once a write or sync of the copy has failed: what is read back is not what a power cut would leave.
    failed: watch::Sender<bool>,
}

impl DirectoryReplica {
    /// Opens what is kept on disk.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn open(disk: &Arc<dyn Disk>, charters: Charters) -> io::Result<Self> {
        let charter = charters.get();
        let open = || Mirror::open(Arc::clone(disk), charter.directory_log().clone(), MAX_ENTRIES);
        let mirror = match open() {
            // The copy is a cache: a damaged one is forgotten, and fetched and verified anew.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound) => {
                tracing::error!(%error, "the directory's copy is damaged and will be fetched again");
                Mirror::forget(disk.as_ref())?;
                open()?
            }
            mirror => mirror?,
        };
        let mut directory = Directory::new(charter);
        for entry in mirror.entries() {
            if let Err(error) = directory.apply_leaf(entry) {
                // What came before it holds: officers still read what they have. The next update raises the alarm.
                tracing::error!(index = directory.size(), %error, "the directory log has an entry that does not verify");
                break;
            }
        }
        let failed = watch::Sender::new(false);
        Ok(Self { charters, mirror: Mutex::new(mirror), directory: RwLock::new(directory), failed })
    }

    /// The directory as replayed.
    pub fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when the device of the copy has failed: the node ends, and its next start reads what is there.
    pub async fn failed(&self) {
        // An error means that the replica is gone, which this handle prevents.
        let _ = self.failed.subscribe().wait_for(|failed| *failed).await;
    }

    /// The newest checkpoint that was verified; empty when there is none.
    pub async fn checkpoint(&self) -> Bytes {
        self.mirror.lock().await.checkpoint().map(|checkpoint| checkpoint.note().clone()).unwrap_or_default()
    }

    /// Entries from an index on with their proofs, for a broker that lost them.
    ///
    /// # Errors
    /// Never for a copy that was opened.
    pub async fn receipts(&self, from: u64) -> io::Result<Vec<wire::Receipt>> {
        self.mirror.lock().await.receipts(from)
    }

    /// Fetches, verifies and replays what is new.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn update(&self, source: &RemoteLog) -> Result<(), DirectoryError> {
        let mut mirror = self.mirror.lock().await;
        // First: a later charter may name another key of the log.
        let learnt =
            source.charters(self.charters.get().number()).await.map_err(|e| DirectoryError::Link(Box::new(e)))?;
        self.charters.learn(&learnt)?;
        mirror.set_log(self.charters.get().directory_log().clone());
        let updated = mirror.update(source).await;
        if let Err(MirrorError::Disk(error)) = &updated
            && !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::InvalidData)
        {
            self.failed.send_replace(true);
        }
        updated?;
        let known = usize::try_from(self.directory().size()).unwrap_or(usize::MAX);
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        for entry in mirror.entries().iter().skip(known) {
            let index = directory.size();
            directory.apply_leaf(entry).map_err(|source| DirectoryError::Record { index, source })?;
        }
        // What is logged is in force, whether or not the broker hands it out; and it must be the one that it handed out.
        let entered: Vec<_> = directory.charter().chain().map(Charter::record).collect();
        drop(directory);
        let entered: Vec<_> = entered.into_iter().rev().collect();
        Ok(self.charters.learn(&entered)?)
    }

    /// Whether the directory has the record with the office's next keys.
    #[must_use]
    pub fn has_next(&self, office: OfficeId, next: &KeyPair) -> bool {
        let directory = self.directory();
        directory.office(office, directory.size()).is_some_and(|record| pair(record) == *next)
    }

    /// What the directory says of the office that the office did not order: another signing or receipt key, or an
    /// encryption key that is none of its own.
    #[must_use]
    pub fn foreign_record(&self, office: OfficeId, own: &PublicKeys) -> Option<String> {
        let directory = self.directory();
        // Every record there ever was, in the order in which this office ordered their keys: one that was put right again
        // before this node looked is as grave, and so is one that brings earlier keys back.
        let present = KeyPair { signing: own.signing, receipt: own.receipt };
        let ordered = if own.ordered.is_empty() { std::slice::from_ref(&present) } else { &own.ordered };
        let places = directory.records(office).map(|record| ordered.iter().position(|known| *known == pair(record)));
        let places: Option<Vec<usize>> = places.collect();
        let in_use = ordered.iter().position(|known| known.signing == own.signing).unwrap_or(0);
        let as_ordered =
            |places: &Vec<usize>| places.is_sorted() && places.last().is_none_or(|newest| *newest >= in_use);
        if !places.as_ref().is_some_and(as_ordered) {
            return Some(format!("the directory holds a record of {office} with keys that this node did not order"));
        }
        if directory.records(office).next().is_some() && directory.office(office, directory.size()).is_none() {
            return Some(format!("the directory says that {office} was revoked"));
        }
        let foreign = directory.published_keys(office).find(|key| !own.encryption.contains(&key.sha256))?;
        Some(format!(
            "the directory holds an encryption key of {office} that this node does not have: {:?}",
            foreign.key
        ))
    }
}

/// The public keys of a record.
fn pair(record: &Office) -> KeyPair {
    KeyPair { signing: *record.signing_key.as_bytes(), receipt: *record.receipt_key.as_bytes() }
}

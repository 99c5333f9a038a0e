//! The node's replica of the directory log: fetched, verified and replayed in full, kept on disk for days without a
//! link.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use liaison_log::{
    disk::Disk,
    mirror::{Mirror, MirrorError},
    remote::RemoteLog,
};
use liaison_proto::{charter::Charter, directory::Directory, ids::OfficeId, office::RecordError, sign::VerifyingKey};
use tokio::sync::Mutex;
use tonic::Status;

/// Why the directory could not be brought up to date. What was known stays.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
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
        !matches!(self, Self::Mirror(MirrorError::Source(_) | MirrorError::Disk(_)))
    }
}

/// The replica.
pub struct DirectoryReplica {
    mirror: Mutex<Mirror>,
    directory: RwLock<Directory>,
}

impl DirectoryReplica {
    /// Opens what is kept on disk.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn open(disk: Arc<dyn Disk>, charter: &Charter) -> io::Result<Self> {
        let mirror = Mirror::open(disk, charter.directory_log().clone())?;
        let mut directory = Directory::new(charter.clone());
        for entry in mirror.entries() {
            directory.apply_leaf(entry).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        }
        Ok(Self { mirror: Mutex::new(mirror), directory: RwLock::new(directory) })
    }

    /// The directory as replayed.
    pub fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches, verifies and replays what is new.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn update(&self, source: &RemoteLog) -> Result<(), DirectoryError> {
        let mut mirror = self.mirror.lock().await;
        mirror.update(source).await?;
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        let known = usize::try_from(directory.size()).unwrap_or(usize::MAX);
        for entry in mirror.entries().iter().skip(known) {
            let index = directory.size();
            directory.apply_leaf(entry).map_err(|source| DirectoryError::Record { index, source })?;
        }
        Ok(())
    }

    /// Whether the office's record in the directory holds another key than the office's own: a record that it did not
    /// order.
    #[must_use]
    pub fn has_foreign_record(&self, office: OfficeId, receipt_key: &VerifyingKey) -> bool {
        let directory = self.directory();
        directory.office(office, directory.size()).is_some_and(|record| record.receipt_key != *receipt_key)
    }
}

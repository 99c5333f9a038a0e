//! One upload: parts are appended to what is there, and the whole is checked before it gets its name.

use std::{
    fs,
    io::{self, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use liaison_log::disk::{Disk as _, OsDisk};
use liaison_proto::{
    file_sha256,
    ids::OfficeId,
    limits,
    refusal::{Refusal, RefusalCode},
};

use super::{AttachmentStore, MOST_WAITING, Name};

/// Bytes written between two syncs: a power cut costs no more, and the last sync has little left to do.
const SYNC_EVERY: u64 = 16 * 1024 * 1024;

/// When to come again with what passes the allowance.
const FULL: Duration = Duration::from_secs(60);

/// An attachment that is being received.
pub(super) struct Upload {
    file: fs::File,
    path: PathBuf,
    whole: PathBuf,
    name: Name,
    size: u64,
    held: u64,
    unsynced: u64,
    _announced: Announced,
}

/// What an upload has announced, until it ends.
struct Announced {
    store: Arc<AttachmentStore>,
    office: OfficeId,
    bytes: u64,
}

impl Drop for Announced {
    fn drop(&mut self) {
        let mut announced = self.store.announced.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = announced.get_mut(&self.office) {
            *own = own.saturating_sub(self.bytes);
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: io::Error) -> Refusal {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return Refusal::new(RefusalCode::StorageFull, "the broker's disk is full");
    }
    tracing::error!(%error, "an attachment could not be written");
    Refusal::new(RefusalCode::Unavailable, "the attachment could not be written")
}

impl AttachmentStore {
    /// Begins or continues an upload at `offset`, which is what [`AttachmentStore::held`] said.
    pub(super) fn upload(
        self: &Arc<Self>,
        office: OfficeId,
        name: Name,
        size: u64,
        offset: u64,
    ) -> Result<Upload, Refusal> {
        if size == 0 || size > limits::ATTACHMENT_BYTES {
            let detail = format!("the attachment has {size} bytes, allowed are 1 to {}", limits::ATTACHMENT_BYTES);
            return Err(Refusal::new(RefusalCode::TooLarge, detail));
        }
        let own = self.own(office);
        fs::create_dir_all(&own).map_err(failed)?;
        let (mut waiting, mut count) = (0, 0);
        for file in fs::read_dir(&own).map_err(failed)?.flatten() {
            waiting += file.metadata().map_or(0, |found| found.len());
            count += 1;
        }
        let path = self.part_path(office, &name);
        let held = fs::metadata(&path).map_or(0, |found| found.len());
        let rest = size - held.min(size);
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        let own = announced.entry(office).or_default();
        let taken = waiting + self.kept_bytes(office) + *own;
        if (count >= MOST_WAITING && held == 0) || taken + rest > self.allowance {
            let detail = format!("attachments of {office} take {taken} of {} bytes", self.allowance);
            return Err(Refusal::new(RefusalCode::TooMany, detail).after(FULL));
        }
        if offset != held {
            return Err(Refusal::new(RefusalCode::OutOfRange, format!("the broker holds {held} bytes of it")));
        }
        *own += rest;
        drop(announced);
        let announced = Announced { store: Arc::clone(self), office, bytes: rest };
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Upload {
            file,
            path,
            whole: self.new_path(office, &name),
            name,
            size,
            held,
            unsynced: 0,
            _announced: announced,
        })
    }

    /// Whether there is room for more attachments on the disk.
    pub(super) fn has_room(&self) -> bool {
        OsDisk::new(&self.root).available().is_ok_and(|available| available >= self.reserve)
    }
}

impl Upload {
    /// Appends a part.
    pub(super) fn append(&mut self, data: &[u8]) -> Result<(), Refusal> {
        if data.len() > limits::PART_BYTES || self.held + data.len() as u64 > self.size {
            return Err(Refusal::new(
                RefusalCode::TooLarge,
                "the part, or the attachment with it, is larger than it says",
            ));
        }
        self.file.write_all(data).map_err(failed)?;
        self.held += data.len() as u64;
        self.unsynced += data.len() as u64;
        if self.unsynced >= SYNC_EVERY {
            self.file.sync_data().map_err(failed)?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Bytes held.
    pub(super) const fn held(&self) -> u64 {
        self.held
    }

    /// Checks the hash of a whole attachment and gives it its name; an unfinished one stays as it is. Says whether it
    /// was whole.
    pub(super) fn finish(self) -> Result<bool, Refusal> {
        self.file.sync_all().map_err(failed)?;
        if self.held < self.size {
            return Ok(false);
        }
        if file_sha256(&self.path).map_err(failed)? != self.name {
            fs::remove_file(&self.path).map_err(failed)?;
            return Err(Refusal::new(RefusalCode::CommitmentMismatch, "the attachment is not what its name says"));
        }
        fs::rename(&self.path, &self.whole).map_err(failed)?;
        if let Some(directory) = self.whole.parent() {
            fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        }
        Ok(true)
    }
}

//! The key table: content keys at rest, the third truth beside journal and bodies. Slots are overwritten in place, so
//! that a key can be destroyed; neither journal nor index ever holds one.
//!
//! A message's content key is sealed under its thread's key, the thread's key under the office's storage key.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use liaison_log::disk::{Disk, DiskFile, replace_file};
use liaison_proto::{
    entropy::{Entropy, random},
    ids::MessageId,
    seal::ContentKey,
    sha256,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::{
    keystore::StorageKey,
    secret_box::{self, OVERHEAD},
};

const FILE: &str = "keys.table";
const MAGIC: &[u8; 8] = b"LIAISONK";
/// Version of the slots.
const VERSION: u8 = 1;
/// Kind (1), id (16), sealed key (32 + overhead), check: first 4 bytes of SHA-256 of those, zeros.
const SLOT: usize = 128;
const SEALED: usize = 32 + OVERHEAD;
const CHECKED: usize = 17 + SEALED;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
enum Kind {
    Thread = 1,
    Message = 2,
}

/// Why a content key could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum KeyTableError {
    /// Reading or writing failed.
    #[error("the key table could not be read or written")]
    Io(#[from] io::Error),
    /// The slot does not open under the storage key.
    #[error("a slot of the key table does not open")]
    Seal(#[from] secret_box::DoesNotOpen),
    /// There is no key for the message: never kept, or erased.
    #[error("there is no key for this message")]
    Missing,
}

/// Tells a slot that was written whole from one that was not.
fn check(slot: &[u8; SLOT]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[&slot[..CHECKED]]);
    [a, b, c, d]
}

struct Table {
    slots: HashMap<(Kind, MessageId), (u64, [u8; SEALED])>,
    next: u64,
    /// After a failed write or sync nothing in memory may be trusted to be on the disk.
    poisoned: bool,
}

/// The key table of a node.
pub struct KeyTable {
    file: Arc<dyn DiskFile>,
    table: Mutex<Table>,
    /// Set once a write or sync has failed: the node ends, and its next start reads what is there.
    failed: watch::Sender<bool>,
}

fn label(kind: Kind, id: MessageId) -> Vec<u8> {
    [b"liaison/node/key-table/v1", &[kind as u8][..], id.as_bytes()].concat()
}

impl KeyTable {
    /// Creates an empty table; it must not exist.
    ///
    /// # Errors
    /// When it exists, or the device fails.
    pub fn create(disk: &dyn Disk) -> io::Result<()> {
        if disk.open(FILE).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut header = [0; SLOT];
        header[..8].copy_from_slice(MAGIC);
        header[8] = VERSION;
        replace_file(disk, FILE, &header)
    }

    /// Opens the table. A slot whose writing was cut short fails its check, and counts as empty: nothing was stated
    /// about a message before its key was synced.
    ///
    /// # Errors
    /// When there is none, it is malformed, or the device fails.
    pub fn open(disk: &dyn Disk) -> io::Result<Self> {
        let file = disk.open(FILE)?;
        let size = file.size()?;
        let mut header = [0; SLOT];
        file.read_at(&mut header, 0)?;
        if header[..8] != MAGIC[..] || header[8] != VERSION {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the key table is malformed"));
        }
        let mut table = Table { slots: HashMap::new(), next: size.div_ceil(SLOT as u64), poisoned: false };
        for slot in 1..size / SLOT as u64 {
            let mut bytes = [0; SLOT];
            file.read_at(&mut bytes, slot * SLOT as u64)?;
            if check(&bytes) != bytes[CHECKED..CHECKED + 4] {
                continue;
            }
            let kind = match bytes[0] {
                1 => Kind::Thread,
                2 => Kind::Message,
                _ => continue,
            };
            if let (Ok(id), Some(sealed)) = (MessageId::from_wire(&bytes[1..17]), bytes[17..].first_chunk()) {
                table.slots.insert((kind, id), (slot, *sealed));
            }
        }
        Ok(Self { file, table: Mutex::new(table), failed: watch::Sender::new(false) })
    }

    /// Keeps a message's content key, durably.
    ///
    /// # Errors
    /// [`KeyTableError`].
    pub fn put(
        &self,
        thread: MessageId,
        message: MessageId,
        key: &ContentKey,
        storage: &StorageKey,
        entropy: &dyn Entropy,
    ) -> Result<(), KeyTableError> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut table.poisoned, true) {
            return Err(io::Error::other("the key table stopped after a failure; restart the node").into());
        }
        let put = self.put_locked(&mut table, thread, message, key, storage, entropy);
        table.poisoned = matches!(put, Err(KeyTableError::Io(_)));
        self.failed.send_replace(table.poisoned);
        put
    }

    /// Completes when the device has failed.
    pub async fn failed(&self) {
        // An error means that the table is gone, which this handle prevents.
        let _ = self.failed.subscribe().wait_for(|failed| *failed).await;
    }

    fn put_locked(
        &self,
        table: &mut Table,
        thread: MessageId,
        message: MessageId,
        key: &ContentKey,
        storage: &StorageKey,
        entropy: &dyn Entropy,
    ) -> Result<(), KeyTableError> {
        let thread_key = match open_slot(table, Kind::Thread, thread, &storage.0) {
            Ok(key) => key,
            Err(KeyTableError::Missing) => {
                let key = Zeroizing::new(random(entropy));
                self.write(table, Kind::Thread, thread, &key, &storage.0, entropy)?;
                key
            }
            Err(error) => return Err(error),
        };
        self.write(table, Kind::Message, message, key.as_bytes(), &thread_key, entropy)?;
        Ok(self.file.sync_data()?)
    }

    fn write(
        &self,
        table: &mut Table,
        kind: Kind,
        id: MessageId,
        key: &[u8; 32],
        under: &[u8; 32],
        entropy: &dyn Entropy,
    ) -> Result<(), KeyTableError> {
        let sealed = secret_box::seal(under, &label(kind, id), key, entropy)?;
        let sealed: [u8; SEALED] = sealed.try_into().map_err(|_| secret_box::DoesNotOpen)?;
        let slot = table.slots.get(&(kind, id)).map_or(table.next, |(slot, _)| *slot);
        let mut bytes = [0; SLOT];
        bytes[0] = kind as u8;
        bytes[1..17].copy_from_slice(id.as_bytes());
        bytes[17..CHECKED].copy_from_slice(&sealed);
        let check = check(&bytes);
        bytes[CHECKED..CHECKED + 4].copy_from_slice(&check);
        self.file.write_at(&bytes, slot * SLOT as u64)?;
        table.next = table.next.max(slot + 1);
        table.slots.insert((kind, id), (slot, sealed));
        Ok(())
    }

    /// Whether there is a key for a message.
    #[must_use]
    pub fn has(&self, message: MessageId) -> bool {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).slots.contains_key(&(Kind::Message, message))
    }

    /// A message's content key.
    ///
    /// # Errors
    /// [`KeyTableError::Missing`] when there is none.
    pub fn find(
        &self,
        thread: MessageId,
        message: MessageId,
        storage: &StorageKey,
    ) -> Result<ContentKey, KeyTableError> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let thread_key = open_slot(&table, Kind::Thread, thread, &storage.0)?;
        Ok(ContentKey::from_bytes(*open_slot(&table, Kind::Message, message, &thread_key)?))
    }
}

fn open_slot(table: &Table, kind: Kind, id: MessageId, under: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, KeyTableError> {
    let (_, sealed) = table.slots.get(&(kind, id)).ok_or(KeyTableError::Missing)?;
    let key = secret_box::open(under, &label(kind, id), sealed)?;
    Ok(Zeroizing::new(key.as_slice().try_into().map_err(|_| secret_box::DoesNotOpen)?))
}

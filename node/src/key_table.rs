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
    /// The storage key was replaced meanwhile; the same works by the new one.
    #[error("the storage key was just replaced; try again")]
    Retired,
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
    file: Arc<dyn DiskFile>,
    /// SHA-256 of storage keys that were replaced: nothing is sealed under them any more.
    retired: Vec<[u8; 32]>,
    /// After a failed write or sync nothing in memory may be trusted to be on the disk.
    poisoned: bool,
}

/// The key table of a node.
pub struct KeyTable {
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
        let mut bytes = [0; SLOT];
        header(&mut bytes);
        replace_file(disk, FILE, &bytes)
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
        let (slots, next, retired) = (HashMap::new(), size.div_ceil(SLOT as u64), Vec::new());
        let mut table = Table { slots, next, file, retired, poisoned: false };
        for slot in 1..size / SLOT as u64 {
            let mut bytes = [0; SLOT];
            table.file.read_at(&mut bytes, slot * SLOT as u64)?;
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
        Ok(Self { table: Mutex::new(table), failed: watch::Sender::new(false) })
    }

    /// Keeps the content keys of messages, each with its thread and its own id, durably.
    ///
    /// # Errors
    /// [`KeyTableError`].
    pub fn put(
        &self,
        keys: &[(MessageId, MessageId, &ContentKey)],
        storage: &StorageKey,
        entropy: &dyn Entropy,
    ) -> Result<(), KeyTableError> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut table.poisoned, true) {
            return Err(io::Error::other("the key table stopped after a failure; restart the node").into());
        }
        let put = Self::put_locked(&mut table, keys, storage, entropy);
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
        table: &mut Table,
        keys: &[(MessageId, MessageId, &ContentKey)],
        storage: &StorageKey,
        entropy: &dyn Entropy,
    ) -> Result<(), KeyTableError> {
        if table.retired.contains(&sha256(&[&storage.key])) {
            return Err(KeyTableError::Retired);
        }
        if keys.is_empty() {
            return Ok(());
        }
        for (thread, message, key) in keys {
            let thread_key = match open_thread(table, *thread, storage) {
                Ok(key) => key,
                Err(KeyTableError::Missing) => {
                    let key = Zeroizing::new(random(entropy));
                    write(table, Kind::Thread, *thread, &key, &storage.key, entropy)?;
                    key
                }
                Err(error) => return Err(error),
            };
            write(table, Kind::Message, *message, key.as_bytes(), &thread_key, entropy)?;
        }
        Ok(table.file.sync_data()?)
    }

    /// Seals every thread's key under the new storage key, in a table that takes the place of the one before whole: after any
    /// crash it is the old one or the new one.
    ///
    /// # Errors
    /// [`KeyTableError`]; after a failed write or sync the node ends.
    pub fn seal_anew(&self, disk: &dyn Disk, storage: &StorageKey, entropy: &dyn Entropy) -> Result<(), KeyTableError> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut table.poisoned, true) {
            return Err(io::Error::other("the key table stopped after a failure; restart the node").into());
        }
        let sealed = Self::seal_locked(&mut table, disk, storage, entropy);
        table.poisoned = matches!(sealed, Err(KeyTableError::Io(_)));
        self.failed.send_replace(table.poisoned);
        sealed
    }

    fn seal_locked(
        table: &mut Table,
        disk: &dyn Disk,
        storage: &StorageKey,
        entropy: &dyn Entropy,
    ) -> Result<(), KeyTableError> {
        let size = usize::try_from(table.next).map_err(io::Error::other)?.max(1) * SLOT;
        let mut bytes = vec![0; size];
        header(&mut bytes);
        let mut slots = HashMap::new();
        for (&(kind, id), &(slot, sealed)) in &table.slots {
            let sealed = match kind {
                Kind::Thread => {
                    let key = open_thread(table, id, storage)?;
                    seal_key(&storage.key, kind, id, &key, entropy)?
                }
                Kind::Message => sealed,
            };
            let at = usize::try_from(slot).map_err(io::Error::other)? * SLOT;
            bytes[at..at + SLOT].copy_from_slice(&slot_bytes(kind, id, &sealed));
            slots.insert((kind, id), (slot, sealed));
        }
        replace_file(disk, FILE, &bytes)?;
        table.file = disk.open(FILE)?;
        table.slots = slots;
        table.retired.extend(storage.former.map(|former| sha256(&[&former])));
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
        let thread_key = open_thread(&table, thread, storage)?;
        Ok(ContentKey::from_bytes(*open_slot(&table, Kind::Message, message, &thread_key)?))
    }
}

/// The first slot says what the file is.
fn header(bytes: &mut [u8]) {
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8] = VERSION;
}

fn seal_key(
    under: &[u8; 32],
    kind: Kind,
    id: MessageId,
    key: &[u8; 32],
    entropy: &dyn Entropy,
) -> Result<[u8; SEALED], KeyTableError> {
    let sealed = secret_box::seal(under, &label(kind, id), key, entropy)?;
    Ok(sealed.try_into().map_err(|_| secret_box::DoesNotOpen)?)
}

fn slot_bytes(kind: Kind, id: MessageId, sealed: &[u8; SEALED]) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    bytes[0] = kind as u8;
    bytes[1..17].copy_from_slice(id.as_bytes());
    bytes[17..CHECKED].copy_from_slice(sealed);
    let check = check(&bytes);
    bytes[CHECKED..CHECKED + 4].copy_from_slice(&check);
    bytes
}

fn write(
    table: &mut Table,
    kind: Kind,
    id: MessageId,
    key: &[u8; 32],
    under: &[u8; 32],
    entropy: &dyn Entropy,
) -> Result<(), KeyTableError> {
    let sealed = seal_key(under, kind, id, key, entropy)?;
    let slot = table.slots.get(&(kind, id)).map_or(table.next, |(slot, _)| *slot);
    table.file.write_at(&slot_bytes(kind, id, &sealed), slot * SLOT as u64)?;
    table.next = table.next.max(slot + 1);
    table.slots.insert((kind, id), (slot, sealed));
    Ok(())
}

/// A thread's key, by the storage key or the one before it.
fn open_thread(table: &Table, thread: MessageId, storage: &StorageKey) -> Result<Zeroizing<[u8; 32]>, KeyTableError> {
    match (open_slot(table, Kind::Thread, thread, &storage.key), storage.former) {
        (Err(KeyTableError::Seal(_)), Some(former)) => open_slot(table, Kind::Thread, thread, &former),
        (opened, _) => opened,
    }
}

fn open_slot(table: &Table, kind: Kind, id: MessageId, under: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, KeyTableError> {
    let (_, sealed) = table.slots.get(&(kind, id)).ok_or(KeyTableError::Missing)?;
    let key = secret_box::open(under, &label(kind, id), sealed)?;
    Ok(Zeroizing::new(key.as_slice().try_into().map_err(|_| secret_box::DoesNotOpen)?))
}

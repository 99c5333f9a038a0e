//! The rows of the index in sled. This is the only place that names the storage crate.
//!
//! Invariants:
//! - A batch of rows and the position after it are written together, in one tree.
//! - After anything but a clean stop the directory is deleted and rebuilt from the journal: sled 0.34 may lose rows, or
//!   panic at opening, after a crash. A clean stop flushes, syncs the file, and leaves a note; opening removes the note.
//! - When the directory grows far beyond its rows, they are copied into a new one while the log goes on.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use liaison_log::index::{Applied, Batch, Index, IndexError, MessageState, ROW_VERSION};
use liaison_proto::{
    clock::UnixMillis,
    ids::{Channel, Lane, MessageId},
};

/// Rows in memory, bytes; the rest is on the disk.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Directories below this size are left alone.
const SMALL_BYTES: u64 = 64 * 1024 * 1024;
/// How much larger than its rows a directory may grow.
const GROWTH: u64 = 6;
/// How often, and after which pause, it is looked whether the lock of an index that was just closed is free.
const LOCK_LOOKS: u32 = 60;
const LOCK_LOOK: Duration = Duration::from_millis(50);
/// Rows copied under one lock.
const COPIED_AT_ONCE: usize = 512;
const POSITION: &[u8] = b"p";
const CLEAN: &str = "clean";

/// Key of a message's row.
fn message_key(id: MessageId) -> [u8; 17] {
    let mut key = [b'm'; 17];
    key[1..].copy_from_slice(id.as_bytes());
    key
}

/// Key of a channel's row: `c`, then `FROM TO lane`.
fn channel_key(channel: Channel) -> Vec<u8> {
    format!("c{} {} {}", channel.from, channel.to, i32::from(channel.lane.to_wire())).into_bytes()
}

fn channel_of(key: &[u8]) -> Option<Channel> {
    let mut parts = std::str::from_utf8(key.strip_prefix(b"c")?).ok()?.split(' ');
    let (from, to) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(Channel { from, to, lane: Lane::from_wire(parts.next()?.parse().ok()?)? })
}

fn encode_position(applied: &Applied) -> Vec<u8> {
    let mut bytes = vec![ROW_VERSION];
    bytes.extend(applied.size.to_le_bytes());
    bytes.extend(applied.time.0.to_le_bytes());
    bytes.extend(applied.directory_size.to_le_bytes());
    bytes.extend(applied.leaf_sha256);
    bytes
}

fn decode_position(bytes: &[u8]) -> Option<Applied> {
    let rest = bytes.strip_prefix(&[ROW_VERSION])?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (time, rest) = rest.split_first_chunk::<8>()?;
    let (directory_size, leaf_sha256) = rest.split_first_chunk::<8>()?;
    Some(Applied {
        size: u64::from_le_bytes(*size),
        time: UnixMillis(i64::from_le_bytes(*time)),
        directory_size: u64::from_le_bytes(*directory_size),
        leaf_sha256: leaf_sha256.try_into().ok()?,
    })
}

fn failed(error: impl std::fmt::Display) -> IndexError {
    IndexError(error.to_string())
}

/// The database in use, and the one that it is being copied into.
struct Stores {
    current: sled::Db,
    number: u64,
    copy: Option<sled::Db>,
}

/// An index in a directory.
pub(super) struct SledStore {
    root: PathBuf,
    stores: Mutex<Stores>,
    copying: AtomicBool,
}

fn directory(root: &Path, number: u64) -> PathBuf {
    root.join(format!("{number:06}"))
}

/// Opening may panic on what a crash left; a rebuilt index never does. sled's own threads let go of the file's lock a
/// moment after the last handle was dropped: a good index must not be taken for a broken one because of that.
fn open_db(path: &Path) -> Result<sled::Db, IndexError> {
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let mut left = LOCK_LOOKS;
    loop {
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()))
            .unwrap_or_else(|_| Err(sled::Error::Unsupported("opening panicked".into())));
        match opened {
            // It has no kind of its own.
            Err(sled::Error::Io(error)) if left > 0 && error.to_string().contains("acquire lock") => {
                left -= 1;
                thread::sleep(LOCK_LOOK);
            }
            opened => return opened.map_err(failed),
        }
    }
}

/// Flushes, then syncs the file: sled's own flush is no sync.
fn make_durable(db: &sled::Db, path: &Path) -> io::Result<()> {
    db.flush().map_err(io::Error::other)?;
    fs::File::open(path.join("db"))?.sync_data()
}

impl SledStore {
    /// Opens the index below a directory; one that was not closed cleanly, or whose version is another one, is empty
    /// afterwards. Says whether it was.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn open(root: &Path) -> Result<(Self, bool), IndexError> {
        fs::create_dir_all(root).map_err(failed)?;
        let note = root.join(CLEAN);
        let number = fs::read_to_string(&note).ok().and_then(|text| text.trim().parse::<u64>().ok());
        match fs::remove_file(&note) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        fs::File::open(root).and_then(|root| root.sync_all()).map_err(failed)?;
        if let Some(number) = number
            && let Ok(current) = open_db(&directory(root, number))
        {
            let stores = Mutex::new(Stores { current, number, copy: None });
            let index = Self { root: root.to_path_buf(), stores, copying: AtomicBool::new(false) };
            if index.applied().is_ok_and(|applied| applied.size > 0) {
                return Ok((index, false));
            }
        }
        Ok((Self::empty(root)?, true))
    }

    /// A new, empty index in place of whatever is there.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn empty(root: &Path) -> Result<Self, IndexError> {
        match fs::remove_dir_all(root) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        fs::create_dir_all(root).map_err(failed)?;
        let current = open_db(&directory(root, 0))?;
        let stores = Mutex::new(Stores { current, number: 0, copy: None });
        Ok(Self { root: root.to_path_buf(), stores, copying: AtomicBool::new(false) })
    }

    fn stores(&self) -> MutexGuard<'_, Stores> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> sled::Db {
        self.stores().current.clone()
    }

    /// Bytes on the disk.
    #[must_use]
    pub(super) fn size_on_disk(&self) -> u64 {
        self.current().size_on_disk().unwrap_or(0)
    }

    /// Whether the directory has grown far beyond its rows.
    #[must_use]
    pub(super) fn is_overgrown(&self) -> bool {
        let (db, size) = (self.current(), self.size_on_disk());
        if size < SMALL_BYTES {
            return false;
        }
        let rows: usize = db.iter().flatten().map(|(key, value)| key.len() + value.len()).sum();
        size > GROWTH * rows as u64 + SMALL_BYTES
    }

    /// Copies the rows into a new directory while the log goes on, and goes on with that one.
    ///
    /// # Errors
    /// When the device fails; the old directory stays in use then.
    pub(super) fn rebuild(&self) -> Result<(), IndexError> {
        if self.copying.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let copied = self.copy();
        if copied.is_err() {
            self.stores().copy = None;
        }
        self.copying.store(false, Ordering::SeqCst);
        copied
    }

    fn copy(&self) -> Result<(), IndexError> {
        let (old, number) = {
            let mut stores = self.stores();
            let number = stores.number + 1;
            let path = directory(&self.root, number);
            let _ = fs::remove_dir_all(&path);
            stores.copy = Some(open_db(&path)?);
            (stores.current.clone(), number)
        };
        let mut from: Vec<u8> = Vec::new();
        loop {
            // Under the lock no entry is written: what is copied is what is there.
            let stores = self.stores();
            let Some(copy) = &stores.copy else { return Err(failed("the copy is gone")) };
            let mut last = None;
            for row in old.range(from.clone()..).take(COPIED_AT_ONCE) {
                let (key, value) = row.map_err(failed)?;
                copy.insert(&key, value).map_err(failed)?;
                last = Some(key);
            }
            let Some(last) = last else { break };
            from = last.to_vec();
            from.push(0);
        }
        let mut stores = self.stores();
        let Some(copy) = stores.copy.take() else { return Err(failed("the copy is gone")) };
        let before = directory(&self.root, stores.number);
        *stores = Stores { current: copy, number, copy: None };
        drop((stores, old));
        fs::remove_dir_all(before).map_err(failed)
    }
}

impl Index for SledStore {
    fn applied(&self) -> Result<Applied, IndexError> {
        match self.current().get(POSITION).map_err(failed)? {
            None => Ok(Applied::default()),
            Some(bytes) => decode_position(&bytes).ok_or_else(|| failed("its position is malformed")),
        }
    }

    fn message(&self, id: MessageId) -> Result<Option<MessageState>, IndexError> {
        let row = self.current().get(message_key(id)).map_err(failed)?;
        row.map(|bytes| MessageState::decode(&bytes)).transpose()
    }

    fn last_number(&self, channel: Channel) -> Result<Option<u64>, IndexError> {
        let row = self.current().get(channel_key(channel)).map_err(failed)?;
        let number = |bytes: sled::IVec| bytes.as_ref().try_into().map(u64::from_le_bytes);
        row.map(|bytes| number(bytes).map_err(|_| failed("a channel's number is malformed"))).transpose()
    }

    fn each_message(&self, visit: &mut dyn FnMut(MessageId, MessageState)) -> Result<(), IndexError> {
        for row in self.current().scan_prefix(b"m") {
            let (key, value) = row.map_err(failed)?;
            let id = MessageId::from_wire(&key[1..]).map_err(failed)?;
            visit(id, MessageState::decode(&value)?);
        }
        Ok(())
    }

    fn channels(&self) -> Result<Vec<(Channel, u64)>, IndexError> {
        let mut channels = Vec::new();
        for row in self.current().scan_prefix(b"c") {
            let (key, value) = row.map_err(failed)?;
            let channel = channel_of(&key).ok_or_else(|| failed("a channel's key is malformed"))?;
            let number = value.as_ref().try_into().map_err(|_| failed("a channel's number is malformed"))?;
            channels.push((channel, u64::from_le_bytes(number)));
        }
        Ok(channels)
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        let mut rows = sled::Batch::default();
        for (id, message) in &batch.messages {
            match message {
                Some(message) => rows.insert(&message_key(*id), message.encode()),
                None => rows.remove(&message_key(*id)),
            }
        }
        for (channel, number) in &batch.channels {
            rows.insert(channel_key(*channel), &number.to_le_bytes());
        }
        rows.insert(POSITION, encode_position(&batch.applied));
        let mut stores = self.stores();
        let copied = stores.copy.as_ref().map(|copy| copy.apply_batch(rows.clone()));
        if copied.is_some_and(|copied| copied.is_err()) {
            // The copy is no use any more; the index is.
            stores.copy = None;
        }
        stores.current.apply_batch(rows).map_err(failed)
    }

    fn close(&self) -> Result<(), IndexError> {
        let stores = self.stores();
        make_durable(&stores.current, &directory(&self.root, stores.number)).map_err(failed)?;
        let note = self.root.join(CLEAN);
        fs::write(&note, stores.number.to_string()).map_err(failed)?;
        fs::File::open(&note).and_then(|note| note.sync_all()).map_err(failed)?;
        fs::File::open(&self.root).and_then(|root| root.sync_all()).map_err(failed)
    }
}

//! The index: live rows only, never the truth. They are written behind: the newest are in memory, and go to the disk many
//! at a time, beside the log, so that no entry waits for them. What is rewritten meanwhile goes there once.
//!
//! Invariants:
//! - A row is read from the newest place that has it: memory, then what is being written, then the disk.
//! - The position on the disk is never ahead of the rows there. Nothing else is needed: after anything but a clean stop,
//!   which writes everything, the index is rebuilt from the journal.
//! - A failure to write is every later caller's failure: the log stops.

use std::{
    collections::HashMap,
    mem,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use liaison_log::index::{Applied, Batch, Index, IndexError, MessageState};
use liaison_proto::ids::{Channel, MessageId};

mod store;

use store::SledStore;

/// Messages in memory until they are written; a few MiB. Twice as many when the disk is slow, then the log waits.
const KEPT: usize = 4096;
/// When it is looked again whether somebody else has settled.
const SETTLING: Duration = Duration::from_millis(1);
/// Rows in one batch of the store, which nobody can read meanwhile.
const WRITTEN_AT_ONCE: usize = 128;

/// Rows that are not on the disk yet; a message that is to be forgotten has none.
#[derive(Debug, Default)]
struct Rows {
    messages: HashMap<MessageId, Option<MessageState>>,
    channels: HashMap<Channel, u64>,
    /// After the newest of them; none when there is nothing.
    applied: Option<Applied>,
}

impl Rows {
    fn take(&mut self, batch: Batch) {
        self.messages.extend(batch.messages);
        self.channels.extend(batch.channels);
        self.applied = Some(batch.applied);
    }

    fn write_to(&self, store: &SledStore) -> Result<(), IndexError> {
        let Some(applied) = self.applied else { return Ok(()) };
        let mut messages: Vec<_> = self.messages.iter().map(|(id, message)| (*id, message.clone())).collect();
        // By time: neighbours in the store.
        messages.sort_unstable_by_key(|(id, _)| *id.as_bytes());
        let channels = self.channels.iter().map(|(&channel, &number)| (channel, number)).collect();
        let before = store.applied()?;
        for part in messages.chunks(WRITTEN_AT_ONCE) {
            store.write(Batch { messages: part.to_vec(), channels: Vec::new(), applied: before })?;
        }
        store.write(Batch { messages: Vec::new(), channels, applied })
    }
}

#[derive(Default)]
struct Recent {
    fresh: Rows,
    /// Being written by the thread, or written since it has ended.
    leaving: Arc<Rows>,
    writing: Option<JoinHandle<Result<(), IndexError>>>,
    /// Whether somebody else writes `leaving` now: it must stay until that is done.
    settling: bool,
    failed: Option<IndexError>,
}

impl Recent {
    /// Waits until nothing is being written.
    fn join(&mut self) -> Result<(), IndexError> {
        if let Some(thread) = self.writing.take() {
            let written = thread.join().unwrap_or_else(|_| Err(IndexError("the writing thread failed".to_owned())));
            self.failed = self.failed.take().or(written.err());
        }
        self.failed.clone().map_or(Ok(()), Err)
    }
}

/// An index in a directory.
pub struct SledIndex {
    store: Arc<SledStore>,
    recent: Mutex<Recent>,
}

impl SledIndex {
    fn of(store: SledStore) -> Self {
        Self { store: Arc::new(store), recent: Mutex::default() }
    }

    /// Opens the index below a directory; one that was not closed cleanly, or whose version is another one, is empty
    /// afterwards. Says whether it was.
    ///
    /// # Errors
    /// When the device fails.
    pub fn open(root: &Path) -> Result<(Self, bool), IndexError> {
        let (store, empty) = SledStore::open(root)?;
        Ok((Self::of(store), empty))
    }

    /// A new, empty index in place of whatever is there.
    ///
    /// # Errors
    /// When the device fails.
    pub fn empty(root: &Path) -> Result<Self, IndexError> {
        SledStore::empty(root).map(Self::of)
    }

    /// Bytes on the disk.
    #[must_use]
    pub fn size_on_disk(&self) -> u64 {
        self.store.size_on_disk()
    }

    /// Whether the directory has grown far beyond its rows.
    #[must_use]
    pub fn is_overgrown(&self) -> bool {
        self.store.is_overgrown()
    }

    /// Copies the rows into a new directory while the log goes on, and goes on with that one.
    ///
    /// # Errors
    /// When the device fails; the old directory stays in use then.
    pub fn rebuild(&self) -> Result<(), IndexError> {
        self.store.rebuild()
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings what is in memory now to the disk's rows. Entries go on meanwhile.
    fn settle(&self) -> Result<(), IndexError> {
        let rows = loop {
            let mut recent = self.recent();
            recent.join()?;
            if !recent.settling {
                if recent.fresh.applied.is_none() {
                    return Ok(());
                }
                recent.settling = true;
                recent.leaving = Arc::new(mem::take(&mut recent.fresh));
                break Arc::clone(&recent.leaving);
            }
            drop(recent);
            thread::sleep(SETTLING);
        };
        let written = rows.write_to(&self.store);
        let mut recent = self.recent();
        recent.settling = false;
        recent.failed = recent.failed.take().or(written.err());
        recent.join()
    }
}

impl Index for SledIndex {
    fn applied(&self) -> Result<Applied, IndexError> {
        let recent = self.recent();
        recent.fresh.applied.or(recent.leaving.applied).map_or_else(|| self.store.applied(), Ok)
    }

    fn message(&self, id: MessageId) -> Result<Option<MessageState>, IndexError> {
        let recent = self.recent();
        if let Some(row) = recent.fresh.messages.get(&id).or_else(|| recent.leaving.messages.get(&id)) {
            return Ok(row.clone());
        }
        drop(recent);
        self.store.message(id)
    }

    fn last_number(&self, channel: Channel) -> Result<Option<u64>, IndexError> {
        let recent = self.recent();
        if let Some(&number) = recent.fresh.channels.get(&channel).or_else(|| recent.leaving.channels.get(&channel)) {
            return Ok(Some(number));
        }
        drop(recent);
        self.store.last_number(channel)
    }

    fn each_message(&self, visit: &mut dyn FnMut(MessageId, MessageState)) -> Result<(), IndexError> {
        self.settle()?;
        self.store.each_message(visit)
    }

    fn channels(&self) -> Result<Vec<(Channel, u64)>, IndexError> {
        // Memory first: rows move from there to the store, never back.
        let newer: Vec<(Channel, u64)> = {
            let recent = self.recent();
            recent.leaving.channels.iter().chain(&recent.fresh.channels).map(|(of, number)| (*of, *number)).collect()
        };
        let mut channels: HashMap<Channel, u64> = self.store.channels()?.into_iter().collect();
        channels.extend(newer);
        Ok(channels.into_iter().collect())
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        let mut recent = self.recent();
        recent.fresh.take(batch);
        let count = recent.fresh.messages.len();
        let idle = recent.writing.as_ref().is_none_or(JoinHandle::is_finished);
        if idle {
            recent.join()?;
        }
        if count < KEPT || recent.settling || (!idle && count < 2 * KEPT) {
            return recent.failed.clone().map_or(Ok(()), Err);
        }
        recent.join()?;
        recent.leaving = Arc::new(mem::take(&mut recent.fresh));
        let (rows, store) = (Arc::clone(&recent.leaving), Arc::clone(&self.store));
        let thread = thread::Builder::new().name("index".into()).spawn(move || rows.write_to(&store));
        match thread {
            Ok(thread) => recent.writing = Some(thread),
            Err(error) => recent.failed = Some(IndexError(error.to_string())),
        }
        recent.failed.clone().map_or(Ok(()), Err)
    }

    fn close(&self) -> Result<(), IndexError> {
        self.settle()?;
        self.store.close()
    }
}

impl Drop for SledIndex {
    /// Whoever opens the directory next finds nobody still writing to it.
    fn drop(&mut self) {
        let _ = self.recent().join();
    }
}

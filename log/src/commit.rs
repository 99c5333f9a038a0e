//! Group commit: decide, write leaves and bodies, sync both files at the same time, hash, sign, hand out receipts.

use std::{io, sync::Arc};

use liaison_proto::{
    Bytes,
    clock::UnixMillis,
    ids::LogIndex,
    refusal::{Refusal, RefusalCode},
    wire,
};
use tlog_tiles::tlog::record_hash;

use crate::{
    checkpoint::CheckpointSigner,
    disk::Disk,
    journal::{Journal, Position, sync_both},
    reader::{EntryRecord, LogReader, PublishError},
    record::{SignedMark, kind},
};

/// Where and when a leaf will stand.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Index the leaf will have.
    pub index: LogIndex,
    /// Never decreases from leaf to leaf.
    pub time: UnixMillis,
}

/// What the owner of a log decides about an event, in the order of the log.
pub enum Sequenced {
    /// Append this leaf, with its body when it has one.
    Append {
        /// The leaf's bytes.
        leaf: Bytes,
        /// Kept beside the log.
        body: Option<Bytes>,
    },
    /// It is in the log already.
    Existing(LogIndex),
    /// It must not enter.
    Refused(Refusal),
}

/// A leaf that breaks the rules of its log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {index}: {problem}")]
pub struct BrokenRule {
    /// The entry.
    pub index: LogIndex,
    /// What is wrong with it.
    pub problem: String,
}

/// Why a leaf was not taken into the state. The two must not be confused: a leaf is cut for the first, never for the
/// second.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The leaf is at fault.
    #[error(transparent)]
    Rule(#[from] BrokenRule),
    /// What holds the state failed.
    #[error("the state could not be read or written")]
    State(#[from] io::Error),
}

/// The state that a log's leaves add up to. The same code runs when a leaf is committed and when it is recovered.
pub trait Sequencer: Send + 'static {
    /// What is asked to be entered.
    type Event: Send + 'static;

    /// Decides about an event. The state does not change yet.
    fn sequence(&mut self, event: Self::Event, at: Moment) -> Sequenced;

    /// Takes a leaf into the state, before it is durable: later events of the same batch see it.
    ///
    /// # Errors
    /// When the leaf breaks the log's rules, or what holds the state fails.
    fn apply(&mut self, index: LogIndex, leaf: &Bytes) -> Result<(), ApplyError>;

    /// Time of the newest leaf applied; the next leaf's is no earlier, also after a restart with a slow clock.
    fn last_time(&self) -> UnixMillis;

    /// Whether `body` is the one that `leaf` needs; `None` when the entry has no body.
    fn body_matches(&self, leaf: &Bytes, body: Option<&Bytes>) -> bool;

    /// The leaf is durable and signed: it may be acted on.
    fn logged(&mut self, logged: &Logged);

    /// The log is closed cleanly and was recorded in full.
    ///
    /// # Errors
    /// When what belongs to the log beside its journals could not be closed; they are not concerned.
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A durable, signed leaf. Only the log makes these.
#[derive(Clone, Debug)]
pub struct Logged {
    index: LogIndex,
    leaf: Bytes,
}

impl Logged {
    pub(crate) const fn new(index: LogIndex, leaf: Bytes) -> Self {
        Self { index, leaf }
    }

    /// Its index.
    #[must_use]
    pub const fn index(&self) -> LogIndex {
        self.index
    }

    /// Its bytes.
    #[must_use]
    pub const fn leaf(&self) -> &Bytes {
        &self.leaf
    }
}

/// Why a log stopped. Final: nothing is signed afterwards by this process.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Writing or syncing failed.
    #[error("writing the log failed")]
    Io(#[from] io::Error),
    /// What was read back before signing is not what was written.
    #[error("the log read back another leaf than it wrote at {0}")]
    ReadBack(LogIndex),
    /// A decided leaf broke the rules it was decided by, or the state failed.
    #[error("a decided leaf could not be taken into the state")]
    Apply(#[from] ApplyError),
    /// Hashing or signing failed.
    #[error("the new entries could not be signed")]
    Publish(#[from] PublishError),
}

/// One of the two logs, being written.
pub struct Log<S: Sequencer> {
    pub(crate) leaves: Box<dyn Journal>,
    pub(crate) bodies: Box<dyn Journal>,
    pub(crate) bodies_sequence: u64,
    pub(crate) reader: Arc<LogReader>,
    pub(crate) signer: CheckpointSigner,
    pub(crate) sequencer: S,
    pub(crate) last_time: UnixMillis,
    pub(crate) last_mark: Option<SignedMark>,
    pub(crate) poisoned: bool,
    pub(crate) disk: Arc<dyn Disk>,
    /// Bytes that must be left on the disk for a batch to be begun.
    pub(crate) reserve_bytes: u64,
    /// Whether the last batch was turned away for want of room.
    pub(crate) full: bool,
}

/// The answer to one event.
pub type Answer = Result<wire::Receipt, Refusal>;

/// An event that is in the log, durable and signed: what its receipt is made of.
#[derive(Clone, Debug)]
pub struct Entered {
    pub(crate) index: LogIndex,
    /// None when it was entered earlier.
    pub(crate) leaf: Option<Bytes>,
}

enum Pending {
    Appended(usize),
    Existing(LogIndex),
    Refused(Refusal),
}

struct Written {
    position: Position,
    leaf: Bytes,
}

impl<S: Sequencer> Log<S> {
    /// A handle for readers.
    #[must_use]
    pub fn reader(&self) -> Arc<LogReader> {
        Arc::clone(&self.reader)
    }

    /// Commits a batch; the answers are in the order of the events.
    ///
    /// # Errors
    /// [`CommitError`]: final. None of the batch was receipted, and nothing will be.
    pub fn commit(&mut self, events: Vec<S::Event>, now: UnixMillis) -> Result<Vec<Answer>, CommitError> {
        let entered = self.enter(events, now)?;
        Ok(entered.into_iter().map(|entered| self.reader.receipt_of(&entered?)).collect())
    }

    /// Commits a batch; whoever asked makes the receipts, so that the next batch need not wait for them.
    ///
    /// # Errors
    /// [`CommitError`]: final, as in [`Self::commit`].
    pub(crate) fn enter(
        &mut self,
        events: Vec<S::Event>,
        now: UnixMillis,
    ) -> Result<Vec<Result<Entered, Refusal>>, CommitError> {
        if self.poisoned {
            return Err(io::Error::other("the log stopped after an earlier failure").into());
        }
        if !self.has_room()? {
            let refusal = || Refusal::new(RefusalCode::StorageFull, "the broker's disk is full; nothing was accepted");
            return Ok(events.iter().map(|_| Err(refusal())).collect());
        }
        // Set until the batch went through: whatever leaves early leaves the log stopped.
        self.poisoned = true;
        let answers = self.commit_batch(events, now)?;
        self.poisoned = false;
        Ok(answers)
    }

    /// Looks before a batch is begun: a write that fails half-way would stop the log. Comes back by itself when there
    /// is room again.
    fn has_room(&mut self) -> io::Result<bool> {
        let available = self.disk.available()?;
        let full = available < self.reserve_bytes;
        if full && !self.full {
            tracing::error!(available, reserve = self.reserve_bytes, "the disk is full: nothing is accepted");
        } else if self.full && !full {
            tracing::info!(available, "there is room on the disk again");
        }
        self.full = full;
        Ok(!full)
    }

    fn commit_batch(
        &mut self,
        events: Vec<S::Event>,
        now: UnixMillis,
    ) -> Result<Vec<Result<Entered, Refusal>>, CommitError> {
        self.last_time = self.last_time.max(now);
        let size = self.reader.checkpoint().size();
        let mut written: Vec<Written> = Vec::new();
        let mut pending = Vec::with_capacity(events.len());
        for event in events {
            let index = LogIndex(size + written.len() as u64);
            match self.sequencer.sequence(event, Moment { index, time: self.last_time }) {
                Sequenced::Existing(index) => pending.push(Pending::Existing(index)),
                Sequenced::Refused(refusal) => pending.push(Pending::Refused(refusal)),
                Sequenced::Append { leaf, body } => {
                    self.sequencer.apply(index, &leaf)?;
                    // A leaf that is entered again brings its own time, which may be ahead of the clock's.
                    self.last_time = self.last_time.max(self.sequencer.last_time());
                    if written.is_empty() {
                        self.write_mark()?;
                    }
                    let position = self.write(index, &leaf, body.as_ref())?;
                    pending.push(Pending::Appended(written.len()));
                    written.push(Written { position, leaf });
                }
            }
        }
        if !written.is_empty() {
            sync_both(self.disk.as_ref(), self.leaves.as_mut(), self.bodies.as_mut())?;
            self.publish(size, &written)?;
        }
        let entered = |pending| match pending {
            Pending::Appended(offset) => {
                Ok(Entered { index: LogIndex(size + offset as u64), leaf: Some(written[offset].leaf.clone()) })
            }
            Pending::Existing(index) => Ok(Entered { index, leaf: None }),
            Pending::Refused(refusal) => Err(refusal),
        };
        Ok(pending.into_iter().map(entered).collect())
    }

    fn write(&mut self, index: LogIndex, leaf: &Bytes, body: Option<&Bytes>) -> io::Result<Position> {
        let body_position = match body {
            None => u64::MAX,
            Some(body) => {
                self.bodies_sequence += 1;
                self.bodies.append(kind::BODY, &[&index.0.to_le_bytes(), body])?.to_u64()
            }
        };
        self.leaves.append(kind::LEAF, &[&body_position.to_le_bytes(), leaf])
    }

    /// Records the newest signed size, unless it is recorded already.
    fn write_mark(&mut self) -> io::Result<()> {
        let checkpoint = self.reader.checkpoint();
        let mark = SignedMark {
            size: checkpoint.size(),
            root: checkpoint.root().0,
            bodies_end: self.bodies.end(),
            bodies_sequence: self.bodies_sequence,
        };
        if self.last_mark.is_none_or(|last| last.size < mark.size) {
            self.leaves.append(kind::MARK, &[&mark.encode()])?;
            self.last_mark = Some(mark);
        }
        Ok(())
    }

    /// Records the newest signed size now, for when the log has nothing else to do.
    ///
    /// # Errors
    /// [`CommitError`]: final.
    pub fn record_signed(&mut self) -> Result<(), CommitError> {
        if self.poisoned {
            return Ok(());
        }
        self.poisoned = true;
        self.write_mark()?;
        sync_both(self.disk.as_ref(), self.leaves.as_mut(), self.bodies.as_mut())?;
        self.poisoned = false;
        Ok(())
    }

    /// Closes the log after its last batch.
    ///
    /// # Errors
    /// [`CommitError`]: the next start recovers.
    pub fn close(mut self) -> Result<(), CommitError> {
        if self.poisoned {
            return Err(io::Error::other("the log stopped after an earlier failure").into());
        }
        self.record_signed()?;
        Ok(self.sequencer.close()?)
    }

    /// Hashes what the journal now holds, signs, and makes it visible.
    fn publish(&mut self, size: u64, written: &[Written]) -> Result<(), CommitError> {
        let mut records = Vec::with_capacity(written.len());
        for (offset, entry) in written.iter().enumerate() {
            let stored = self.reader.read_leaf_at(entry.position)?;
            if stored != entry.leaf {
                return Err(CommitError::ReadBack(LogIndex(size + offset as u64)));
            }
            records.push(EntryRecord { position: entry.position, hash: record_hash(&stored) });
        }
        self.reader.extend(&records, &self.signer)?;
        for (offset, entry) in written.iter().enumerate() {
            self.sequencer.logged(&Logged::new(LogIndex(size + offset as u64), entry.leaf.clone()));
        }
        Ok(())
    }
}

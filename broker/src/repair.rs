//! The repair of a broker that lost entries: offices show the newest checkpoints they verified, and hand back the
//! entries that they hold, which are entered again as they were. The service is in [`service`].
//!
//! The way of an entry: [`Repair::present`] finds that something is missing and closes the [`Gate`] -> [`Repair::take`]
//! verifies what is handed back and puts it on the spool -> [`Repair::mend`] enters it, once everything together makes
//! the trees that were shown, and opens the gate.
//!
//! Invariants:
//! - Nothing is entered that was not proven under a checkpoint of the log's own key, and nothing before all of it is.
//! - While something is missing nothing else is entered.

use std::{
    collections::BTreeSet,
    fs, io,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use liaison_log::{
    Hash,
    checkpoint::{CheckpointError, VerifiedCheckpoint},
    committer::{Committer, Promised},
    fair::Ticket,
    leaf::ExchangeLeaf,
    lost::{Lost, TrialError},
    reader::LogReader,
    verify::Inconsistent,
    work,
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    charter::LogIdentity,
    clock::Clock,
    failure::chain,
    ids::{Lane, LogIndex, OfficeId},
    limits,
    refusal::{Refusal, RefusalCode},
    wire::{self, LogName},
};

use crate::{
    continuity,
    directory_log::DirectoryEvent,
    entry::{Restored, kept_beside},
    gate::{Gate, Reason},
    intake::Room,
    sequence::Event,
};

mod end;
mod problems;
pub mod service;

/// How often it is looked whether what was handed back is complete.
const MEND: Duration = Duration::from_secs(1);
/// How often it is looked whether all offices were heard.
const LOOK: Duration = Duration::from_millis(100);
/// Entries put in line at once: bodies are read from the spool as they are needed.
const AT_ONCE: u64 = 32;

/// One log.
struct Side {
    name: LogName,
    reason: Reason,
    identity: LogIdentity,
    reader: Arc<LogReader>,
    lost: Mutex<Option<Lost>>,
    spool: PathBuf,
    /// Size of the directory that what is on the spool was judged by.
    judged_by: AtomicU64,
}

impl Side {
    fn lost(&self) -> MutexGuard<'_, Option<Lost>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, index: u64) -> PathBuf {
        self.spool.join(format!("{index:020}"))
    }
}

/// How restored entries get into the logs.
pub struct Writers {
    /// The directory log.
    pub directory: Committer<DirectoryEvent>,
    /// The exchange log.
    pub exchange: Committer<Event>,
}

/// What a repair works with.
pub struct Repair {
    gate: Arc<Gate>,
    sides: [Side; 2],
    writers: Writers,
    room: Room,
    data: PathBuf,
    clock: Arc<dyn Clock>,
    /// Who handed back last: entries are entered in the turns of this office.
    helper: Mutex<Option<OfficeId>>,
    /// Whether any office was heard.
    heard: AtomicBool,
    /// Size of the directory that what is to be entered was judged by, when the directory is shorter.
    directory_needed: AtomicU64,
    /// Offices whose newest checkpoints must still be seen, after a start from a copy.
    unseen: Mutex<BTreeSet<OfficeId>>,
    mending: tokio::sync::Mutex<()>,
}

/// A log to be repaired.
pub struct Repaired {
    /// Which of the two.
    pub name: LogName,
    /// Whose key signs it.
    pub identity: LogIdentity,
    /// It, to read.
    pub reader: Arc<LogReader>,
}

fn log_text(name: LogName) -> &'static str {
    if name == LogName::Directory { "directory" } else { "exchange" }
}

fn is_closed(note: &Bytes, side: &Side) -> bool {
    VerifiedCheckpoint::verify(note, &side.identity) == Err(CheckpointError::Closed)
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::MalformedEnvelope, detail)
}

fn unwritable(error: impl std::fmt::Display) -> Refusal {
    tracing::error!(%error, "what was handed back could not be kept");
    Refusal::new(RefusalCode::Unavailable, "what was handed back could not be kept")
}

impl Repair {
    /// A repair of two logs, the directory first: what the other was judged by. What an earlier process had on its
    /// spool is removed and handed back again.
    ///
    /// # Errors
    /// When the spool cannot be emptied.
    pub fn new(
        gate: Arc<Gate>,
        logs: [Repaired; 2],
        writers: Writers,
        room: Room,
        data: PathBuf,
        clock: Arc<dyn Clock>,
        unseen: BTreeSet<OfficeId>,
    ) -> io::Result<Self> {
        let spool = data.join("repair");
        match fs::remove_dir_all(&spool) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let sides = logs.map(|Repaired { name, identity, reader }| Side {
            name,
            reason: if name == LogName::Directory { Reason::DirectoryLost } else { Reason::ExchangeLost },
            identity,
            reader,
            lost: Mutex::default(),
            spool: spool.join(log_text(name)),
            judged_by: AtomicU64::new(0),
        });
        if !unseen.is_empty() {
            gate.close(Reason::Unconfirmed);
        }
        Ok(Self {
            gate,
            sides,
            writers,
            room,
            data,
            clock,
            helper: Mutex::default(),
            heard: AtomicBool::new(false),
            directory_needed: AtomicU64::new(0),
            unseen: Mutex::new(unseen),
            mending: tokio::sync::Mutex::default(),
        })
    }

    fn unseen(&self) -> MutexGuard<'_, BTreeSet<OfficeId>> {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn side(&self, name: LogName) -> Option<&Side> {
        self.sides.iter().find(|side| side.name == name)
    }

    /// Takes an office's newest checkpoints.
    ///
    /// # Errors
    /// `MALFORMED_ENVELOPE` when one is not of the log, or `UNAVAILABLE` when the log cannot be read.
    pub fn present(&self, office: OfficeId, request: &wire::PresentRequest) -> Result<(), Refusal> {
        for (side, note) in self.sides.iter().zip([&request.directory, &request.exchange]) {
            if note.is_empty() {
                continue;
            }
            match VerifiedCheckpoint::verify(note, &side.identity.in_force(self.clock.now())) {
                Ok(checkpoint) => {
                    self.shown(side, &checkpoint)?;
                    // Whoever has seen nothing begins no grace.
                    self.heard.store(true, Ordering::SeqCst);
                }
                // What was beyond the end of a closed log is known to be lost; a key that was replaced says nothing new.
                Err(e) if VerifiedCheckpoint::verify(note, &side.identity).is_ok() || is_closed(note, side) => {
                    tracing::debug!(%office, error = %e, "an old checkpoint was shown");
                }
                Err(e) => return Err(malformed(format!("the checkpoint of the {} log: {e}", log_text(side.name)))),
            }
        }
        let mut unseen = self.unseen();
        unseen.remove(&office);
        if unseen.is_empty() {
            self.gate.lift(Reason::Unconfirmed);
        }
        Ok(())
    }

    /// The charter says how far the log once went: what it lacks up to there is asked for, whoever shows it.
    pub fn expect(&self, size: u64, root: Hash) {
        let Some(side) = self.side(LogName::Exchange) else { return };
        let mut lost = side.lost();
        let own = side.reader.checkpoint().size();
        if own < size && lost.is_none() {
            self.close(side.reason);
            *lost = Some(Lost::expected(side.identity.clone(), own, size, root));
        }
    }

    /// Completes when every office was heard, or the grace has passed since the first one was; then the others are not
    /// waited for. Says whether there are any.
    pub async fn confirmed(&self, grace: Duration) -> bool {
        // A line that is down is no grace: it begins when the first office is heard.
        while !self.unseen().is_empty() && !self.heard.load(Ordering::SeqCst) {
            tokio::time::sleep(LOOK).await;
        }
        let all = tokio::time::timeout(grace, self.all_heard()).await.is_ok();
        self.gate.lift(Reason::Unconfirmed);
        !all
    }

    fn shown(&self, side: &Side, checkpoint: &VerifiedCheckpoint) -> Result<(), Refusal> {
        // Before the size is read: what is being entered meanwhile is not lost.
        let mut lost = side.lost();
        let own = side.reader.checkpoint().size();
        if checkpoint.size() <= own {
            if side.reader.root(checkpoint.size())? != checkpoint.root() {
                self.forked(side, Inconsistent { old: checkpoint.size(), new: own });
            }
            return Ok(());
        }
        // Before it is said that something is missing: nothing is entered in between.
        self.close(side.reason);
        let known = match lost.as_mut() {
            Some(lost) => lost.show(checkpoint),
            None => {
                tracing::error!(
                    log = log_text(side.name),
                    own,
                    signed = checkpoint.size(),
                    "entries that this log's key signed are lost; the offices are asked for them"
                );
                *lost = Some(Lost::new(side.identity.clone(), own, checkpoint));
                Ok(())
            }
        };
        known.or_else(|inconsistent| {
            self.forked(side, inconsistent);
            Ok(())
        })
    }

    /// Two histories under one key cannot be mended here: the countries must agree which one holds.
    fn forked(&self, side: &Side, inconsistent: Inconsistent) {
        if !self.gate.is_closed_for(Reason::Forked) {
            tracing::error!(log = log_text(side.name), error = %inconsistent, "the log's key has signed two logs");
        }
        self.close(Reason::Forked);
    }

    /// Closes the gate, also for the next start.
    fn close(&self, reason: Reason) {
        // First: who confirms the note looks at the gate afterwards.
        self.gate.close(reason);
        if let Err(error) = continuity::withdraw(&self.data) {
            tracing::error!(%error, "it could not be noted that entries are missing");
        }
    }

    /// Completes when every office was heard, however long that takes.
    pub async fn all_heard(&self) {
        while !self.unseen().is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether nothing new is entered.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.gate.is_open()
    }

    /// What is missing, per log.
    #[must_use]
    pub fn lost(&self) -> Vec<wire::LostEntries> {
        let entries = |side: &Side| {
            let lost = side.lost();
            let (size, signed_size) = lost.as_ref()?.sizes();
            let gaps = lost.as_ref()?.missing(limits::REPAIR_GAPS).into_iter();
            let missing = gaps.map(|gap| wire::EntryRange { from: gap.start, to: gap.end }).collect();
            Some(wire::LostEntries { log: side.name.into(), size, signed_size, missing })
        };
        self.sides.iter().filter_map(entries).collect()
    }

    /// Takes an entry that is handed back; false when it was not missing.
    ///
    /// # Errors
    /// `MALFORMED_ENVELOPE` or `COMMITMENT_MISMATCH` when it does not verify, `STORAGE_FULL` or `UNAVAILABLE`.
    pub fn take(&self, office: OfficeId, request: &wire::HandBackRequest) -> Result<bool, Refusal> {
        let side = self.side(request.log()).ok_or_else(|| malformed("there is no such log"))?;
        let receipt = request.receipt.as_ref().ok_or_else(|| malformed("there is no entry"))?;
        let verified = match side.lost().as_ref().map(|lost| lost.verify(receipt)) {
            Some(Ok(Some(verified))) => verified,
            Some(Ok(None)) | None => return Ok(false),
            Some(Err(error)) => return Err(malformed(chain(&error))),
        };
        let body = match side.name {
            LogName::Exchange => kept_beside(&verified.leaf, request.kept.clone())?,
            _ => None,
        };
        if let Some(full) = self.room.refuses(Lane::Urgent) {
            return Err(full);
        }
        let spooled = wire::HandBackRequest {
            log: side.name.into(),
            receipt: Some(wire::Receipt { leaf: verified.leaf.clone(), proof: Bytes::new() }),
            kept: body.map(|body| wire::Envelope { body, ..wire::Envelope::default() }),
        };
        // Under a name of its own: two offices may hand back the same entry at the same time.
        let place = side.file(verified.index.0);
        let new = place.with_extension(office.to_string());
        fs::create_dir_all(&side.spool)
            .and_then(|()| fs::write(&new, spooled.encode_to_vec()))
            .and_then(|()| fs::rename(&new, &place))
            .map_err(unwritable)?;
        if let (LogName::Exchange, Ok(leaf)) = (side.name, ExchangeLeaf::parse(&verified.leaf)) {
            side.judged_by.fetch_max(leaf.directory_size, Ordering::SeqCst);
        }
        *self.helper.lock().unwrap_or_else(PoisonError::into_inner) = Some(office);
        let mut lost = side.lost();
        let kept = lost.as_mut().map(|lost| lost.keep(&verified));
        if let Some(Err(inconsistent)) = kept {
            self.forked(side, inconsistent);
        }
        Ok(true)
    }

    /// Enters what is complete, whenever it is, until the broker stops.
    pub async fn mend_regularly(self: Arc<Self>) {
        loop {
            tokio::time::sleep(MEND).await;
            if self.sides.iter().any(|side| side.lost().is_some()) {
                Arc::clone(&self).mend().await;
            }
        }
    }

    /// Enters what is complete. What is not stays on the spool.
    pub async fn mend(self: Arc<Self>) {
        let _turn = self.mending.lock().await;
        // The operator has closed it there, and the countries may have signed that.
        if self.side(LogName::Exchange).is_some_and(|side| self.is_ended(side)) {
            return;
        }
        let Some(office) = *self.helper.lock().unwrap_or_else(PoisonError::into_inner) else { return };
        for side in 0..self.sides.len() {
            let this = Arc::clone(&self);
            let complete = work::blocking(move || this.complete(&this.sides[side])).await;
            let Ok(Some(range)) = complete else {
                // The exchange log's entries were judged by the directory's: it comes first.
                if self.gate.is_closed_for(self.sides[side].reason) {
                    return;
                }
                continue;
            };
            if let Err(refusal) = self.enter(&self.sides[side], office, range).await {
                tracing::error!(%refusal, log = log_text(self.sides[side].name), "not all restored entries were entered");
                return;
            }
        }
    }

    /// What may be entered: nothing of it is missing, and everything together makes what was shown.
    fn complete(&self, side: &Side) -> Option<Range<u64>> {
        let mut guard = side.lost();
        let lost = guard.as_mut()?;
        // What an earlier turn entered before it failed.
        lost.grown_to(side.reader.checkpoint().size());
        if !lost.missing(1).is_empty() {
            return None;
        }
        match lost.check(&side.reader, lost.sizes().1) {
            Ok(()) => {
                let (from, to) = lost.sizes();
                drop(guard);
                self.has_directory_of(side).then_some(from..to)
            }
            Err(TrialError::Forked(inconsistent)) => {
                self.forked(side, inconsistent);
                None
            }
            Err(TrialError::Io(error)) => {
                tracing::error!(%error, "what was handed back cannot be tried");
                None
            }
        }
    }

    /// Whether the directory has every entry that these were judged by. It may lack some that no office has shown yet, and
    /// without them nobody could verify what is entered.
    fn has_directory_of(&self, side: &Side) -> bool {
        if side.name != LogName::Exchange {
            return true;
        }
        let needed = side.judged_by.load(Ordering::SeqCst);
        let own = self.side(LogName::Directory).map_or(u64::MAX, |directory| directory.reader.checkpoint().size());
        self.directory_needed.store(if needed > own { needed } else { 0 }, Ordering::SeqCst);
        needed <= own
    }

    /// Enters a range that was checked, and nothing else.
    async fn enter(&self, side: &Side, office: OfficeId, range: Range<u64>) -> Result<(), Refusal> {
        tracing::info!(log = log_text(side.name), from = range.start, to = range.end, "restored entries are entered");
        let mut next = range.start;
        while next < range.end {
            let to = range.end.min(next + AT_ONCE);
            let mut promised = Vec::new();
            for index in next..to {
                promised.push(self.put_in_line(side, office, read_spooled(side, index)?)?);
            }
            for promised in promised {
                promised.answer().await?;
            }
            for index in next..to {
                // What stays is removed at the next start.
                let _ = fs::remove_file(side.file(index));
            }
            next = to;
        }
        let mut lost = side.lost();
        if let Some(found) = lost.as_mut() {
            found.grown_to(next);
            if found.sizes().1 <= next {
                *lost = None;
                tracing::warn!(log = log_text(side.name), size = next, "the log is whole again");
                self.gate.lift(side.reason);
            }
        }
        Ok(())
    }

    fn put_in_line(&self, side: &Side, office: OfficeId, restored: Restored) -> Result<Promised, Refusal> {
        let bytes = restored.leaf.len() + restored.body.as_ref().map_or(0, Bytes::len);
        let ticket = Ticket { lane: Lane::Flash, office, bytes };
        match side.name {
            LogName::Directory => self.writers.directory.promise(ticket, DirectoryEvent::Restore(restored)),
            _ => self.writers.exchange.promise(ticket, Event::Restore(restored)),
        }
    }
}

fn read_spooled(side: &Side, index: u64) -> Result<Restored, Refusal> {
    let bytes = fs::read(side.file(index)).map_err(unwritable)?;
    let spooled = wire::HandBackRequest::decode(Bytes::from(bytes)).map_err(unwritable)?;
    let leaf = spooled.receipt.map(|receipt| receipt.leaf).unwrap_or_default();
    if !side.lost().as_ref().is_some_and(|lost| lost.is_kept(index, &leaf)) {
        return Err(unwritable("the spool holds another entry"));
    }
    Ok(Restored { index: LogIndex(index), leaf, body: spooled.kept.map(|kept| kept.body) })
}

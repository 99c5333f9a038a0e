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
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use liaison_log::{
    checkpoint::VerifiedCheckpoint,
    commit::{Moment, Sequenced},
    committer::{Committer, Promised},
    fair::Ticket,
    leaf::{Event as LeafEvent, ExchangeLeaf},
    lost::{Lost, TrialError},
    reader::LogReader,
    verify::Inconsistent,
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    charter::LogIdentity,
    envelope::UnverifiedEnvelope,
    failure::chain,
    ids::{Lane, LogIndex, OfficeId},
    limits,
    refusal::{Refusal, RefusalCode},
    sha256,
    wire::{self, LogName},
};

use crate::{
    directory_log::DirectoryEvent,
    gate::{Gate, Reason},
    intake::Room,
    sequence::{Event, rewrap_body, stored_body},
};

pub mod service;

/// An entry that is entered again as it was.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Where it stood.
    pub index: LogIndex,
    /// Its bytes.
    pub leaf: Bytes,
    /// What is kept beside it.
    pub body: Option<Bytes>,
}

impl Restored {
    /// The entry as it was, at the place where it was.
    #[must_use]
    pub fn at(self, place: Moment) -> Sequenced {
        if self.index == place.index {
            return Sequenced::Append { leaf: self.leaf, body: self.body };
        }
        let detail = "another entry stands where this one is to be restored";
        Sequenced::Refused(Refusal::new(RefusalCode::Unavailable, detail))
    }
}

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
        spool: &Path,
        unseen: BTreeSet<OfficeId>,
    ) -> io::Result<Self> {
        match fs::remove_dir_all(spool) {
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
        });
        if !unseen.is_empty() {
            gate.close(Reason::Unconfirmed);
        }
        Ok(Self { gate, sides, writers, room, unseen: Mutex::new(unseen), mending: tokio::sync::Mutex::default() })
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
            let checkpoint = VerifiedCheckpoint::verify(note, &side.identity)
                .map_err(|e| malformed(format!("the checkpoint of the {} log: {e}", log_text(side.name))))?;
            self.shown(side, &checkpoint)?;
        }
        let mut unseen = self.unseen();
        if unseen.remove(&office) && unseen.is_empty() {
            self.gate.lift(Reason::Unconfirmed);
        }
        Ok(())
    }

    /// Completes when every office was heard, or the grace has passed; then the others are not waited for. Says whether
    /// there were any.
    pub async fn confirmed(&self, grace: Duration) -> bool {
        let heard = async {
            while !self.unseen().is_empty() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let all = tokio::time::timeout(grace, heard).await.is_ok();
        self.unseen().clear();
        self.gate.lift(Reason::Unconfirmed);
        !all
    }

    fn shown(&self, side: &Side, checkpoint: &VerifiedCheckpoint) -> Result<(), Refusal> {
        let own = side.reader.checkpoint().size();
        if checkpoint.size() <= own {
            if side.reader.root(checkpoint.size())? != checkpoint.root() {
                self.forked(side, Inconsistent { old: checkpoint.size(), new: own });
            }
            return Ok(());
        }
        let mut lost = side.lost();
        // Before it is said that something is missing: nothing is entered in between.
        self.gate.close(side.reason);
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
        self.gate.close(Reason::Forked);
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
    pub fn take(&self, request: &wire::HandBackRequest) -> Result<bool, Refusal> {
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
        fs::create_dir_all(&side.spool)
            .and_then(|()| fs::write(side.file(verified.index.0), spooled.encode_to_vec()))
            .map_err(unwritable)?;
        let mut lost = side.lost();
        let kept = lost.as_mut().map(|lost| lost.keep(&verified));
        if let Some(Err(inconsistent)) = kept {
            self.forked(side, inconsistent);
        }
        Ok(true)
    }

    /// Enters what is complete, in the turns of the office that completed it. What is not stays on the spool.
    pub async fn mend(self: Arc<Self>, office: OfficeId) {
        let _turn = self.mending.lock().await;
        for side in 0..self.sides.len() {
            let this = Arc::clone(&self);
            let complete = tokio::task::spawn_blocking(move || this.is_complete(&this.sides[side])).await;
            if !matches!(complete, Ok(true)) {
                // The exchange log's entries were judged by the directory's: it comes first.
                if self.gate.is_closed_for(self.sides[side].reason) {
                    return;
                }
                continue;
            }
            if let Err(refusal) = self.enter(&self.sides[side], office).await {
                tracing::error!(%refusal, log = log_text(self.sides[side].name), "restored entries were not entered");
                return;
            }
        }
    }

    /// Whether nothing is missing, and everything together makes what was shown.
    fn is_complete(&self, side: &Side) -> bool {
        let lost = side.lost();
        let Some(lost) = lost.as_ref() else { return false };
        if !lost.missing(1).is_empty() {
            return false;
        }
        match lost.check(&side.reader) {
            Ok(()) => true,
            Err(TrialError::Forked(inconsistent)) => {
                self.forked(side, inconsistent);
                false
            }
            Err(TrialError::Io(error)) => {
                tracing::error!(%error, "what was handed back cannot be tried");
                false
            }
        }
    }

    async fn enter(&self, side: &Side, office: OfficeId) -> Result<(), Refusal> {
        let Some((mut next, signed)) = side.lost().as_ref().map(Lost::sizes) else { return Ok(()) };
        tracing::info!(log = log_text(side.name), from = next, to = signed, "restored entries are entered again");
        while next < signed {
            let to = signed.min(next + AT_ONCE);
            let mut promised = Vec::new();
            for index in next..to {
                promised.push(self.put_in_line(side, office, read_spooled(side, index)?)?);
            }
            for promised in promised {
                promised.answer().await?;
            }
            next = to;
        }
        let whole = {
            let mut lost = side.lost();
            if let Some(lost) = lost.as_mut() {
                lost.grown_to(next);
            }
            let whole = lost.as_ref().is_none_or(|lost| lost.sizes().1 <= next);
            if whole {
                *lost = None;
                self.gate.lift(side.reason);
            }
            whole
        };
        if whole {
            tracing::warn!(log = log_text(side.name), size = next, "the log is whole again");
            // What stays is removed at the next start.
            let _ = fs::remove_dir_all(&side.spool);
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

    /// What a human should know, a line each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.gate.is_closed_for(Reason::Forked) {
            problems.push("a log's key has signed two different logs: nothing new is entered".to_owned());
        }
        let unseen = self.unseen();
        if self.gate.is_closed_for(Reason::Unconfirmed) && !unseen.is_empty() {
            let offices: Vec<String> = unseen.iter().map(ToString::to_string).collect();
            problems.push(format!(
                "the data directory is a copy: nothing new is entered until these offices have shown what they know, \
                 or the grace has passed: {}",
                offices.join(", ")
            ));
        }
        for lost in self.lost() {
            let gaps: u64 = lost.missing.iter().map(|gap| gap.to - gap.from).sum();
            let first =
                lost.missing.first().map_or_else(String::new, |gap| format!(", the first is entry {}", gap.from));
            problems.push(format!(
                "the {} log has {} entries and once had {}: nothing new is entered before the offices have handed them \
                 back; {gaps} are missing{first}",
                log_text(lost.log()),
                lost.size,
                lost.signed_size
            ));
        }
        problems
    }
}

fn read_spooled(side: &Side, index: u64) -> Result<Restored, Refusal> {
    let bytes = fs::read(side.file(index)).map_err(unwritable)?;
    let spooled = wire::HandBackRequest::decode(Bytes::from(bytes)).map_err(unwritable)?;
    let leaf = spooled.receipt.map(|receipt| receipt.leaf).unwrap_or_default();
    Ok(Restored { index: LogIndex(index), leaf, body: spooled.kept.map(|kept| kept.body) })
}

/// What is kept beside an entry, when it is what the entry commits to.
fn kept_beside(leaf: &Bytes, kept: Option<wire::Envelope>) -> Result<Option<Bytes>, Refusal> {
    let leaf = ExchangeLeaf::parse(leaf).map_err(|e| malformed(e.to_string()))?;
    let none = || malformed("what is kept beside the entry is missing");
    match leaf.event {
        LeafEvent::Accepted { header, signature, .. } => {
            let kept = kept.ok_or_else(none)?;
            let header = header.bytes().clone();
            let envelope = wire::Envelope { header, office_signature: signature, ..kept };
            let unverified = UnverifiedEnvelope::parse(envelope)?;
            unverified.check_commitments()?;
            Ok(Some(stored_body(unverified.wire())))
        }
        LeafEvent::Rewrapped { statement, .. } => {
            let wrap = kept.and_then(|kept| kept.erasable?.wraps.into_iter().next()).ok_or_else(none)?;
            if sha256(&[&wrap]) != statement.wrap_sha256 {
                return Err(Refusal::new(RefusalCode::CommitmentMismatch, "the wrap is not what the entry commits to"));
            }
            Ok(Some(rewrap_body(wrap)))
        }
        LeafEvent::Attested { .. } | LeafEvent::NonDelivery(_) => Ok(None),
    }
}

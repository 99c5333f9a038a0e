//! What cannot wait while the log is under repair: FLASH and URGENT go to their recipients from a journal of their own,
//! without receipt and marked UNPROVEN, and are entered first once the log is whole.
//!
//! Invariants:
//! - What is held is durable before its sender is told.
//! - The gate stays closed until everything held was entered, or is refused by the rules of the log that is whole.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use liaison_log::{
    disk::{Disk, read_file, replace_file},
    journal::{Journal as _, Position, file::SegmentedJournal},
};
use liaison_proto::{
    ProtoMessage as _,
    entropy::OsEntropy,
    envelope::{SignedEnvelope, UnverifiedEnvelope},
    header::Header,
    ids::{Lane, MessageId, OfficeId},
    refusal::{Refusal, RefusalCode},
    wire,
};
use tokio::sync::watch;

use crate::gate::{Gate, Reason};

const JOURNAL: &str = "holding";
/// Kind of its records: an encoded `SubmitRequest`.
const KIND_REQUEST: u8 = 1;
/// Where a journal that cannot be read is put aside.
const ASIDE: &str = "holding.unreadable";
/// What is held at most, of one office in one lane and in all.
const MOST_OF_OFFICE: usize = 256;
const MOST: usize = 4096;
/// When the sender looks again for its receipt.
const AGAIN: Duration = Duration::from_secs(3);

/// A message in the holding journal.
#[derive(Clone, Debug)]
struct Held {
    id: MessageId,
    from: OfficeId,
    to: Vec<OfficeId>,
    lane: Lane,
    header_sha256: [u8; 32],
    position: Position,
}

#[derive(Default)]
struct Inner {
    journal: Option<SegmentedJournal>,
    held: Vec<Held>,
    /// Place of the first of them. Places are never given twice: streams remember how far they are.
    first: usize,
    /// The log was closed at this size: whatever their senders had seen beyond it does not count.
    ended: Option<u64>,
    /// How many of them were entered, or refused, since the log is whole.
    settled: usize,
}

/// The holding journal.
pub struct Holding {
    disk: Arc<dyn Disk>,
    segment_bytes: u32,
    gate: Arc<Gate>,
    inner: Mutex<Inner>,
    /// Set once a write or sync has failed: the broker ends, and its next start reads what is there.
    failed: watch::Sender<bool>,
}

/// The files of a journal, none when there is no journal.
fn files(disk: &dyn Disk, journal: &str) -> io::Result<Vec<String>> {
    match disk.list(journal) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names,
    }
}

/// Removes a journal, from its end: what a crash leaves of it can be read.
fn remove(disk: &dyn Disk, journal: &str) -> io::Result<()> {
    let mut names = files(disk, journal)?;
    names.sort();
    names.iter().rev().try_for_each(|name| disk.remove(&format!("{journal}/{name}")))?;
    if names.is_empty() { Ok(()) } else { disk.sync_directory(journal) }
}

fn held(header: &Header, position: Position) -> Held {
    let core = header.core();
    let (id, from, to, lane) = (core.message_id, core.from, core.to.clone(), core.lane);
    Held { id, from, to, lane, header_sha256: header.sha256(), position }
}

fn unwritable(error: impl std::fmt::Display) -> Refusal {
    tracing::error!(%error, "the holding journal failed");
    Refusal::new(RefusalCode::Unavailable, "the holding journal could not be written")
}

/// What a sender is told whose message is held.
fn told() -> Refusal {
    Refusal::new(RefusalCode::HeldUnproven, "it goes to its recipients marked UNPROVEN").after(AGAIN)
}

/// Reads what is held; none when there is no journal.
fn read_journal(
    disk: &Arc<dyn Disk>,
    segment_bytes: u32,
    into: &mut Vec<Held>,
) -> io::Result<Option<SegmentedJournal>> {
    let opened = SegmentedJournal::open(Arc::clone(disk), JOURNAL, segment_bytes, None, |position, record| {
        let request = wire::SubmitRequest::decode(record.payload).map_err(io::Error::other)?;
        let header = Header::parse(request.envelope.unwrap_or_default().header).map_err(io::Error::other)?;
        into.push(held(&header, position));
        Ok(())
    });
    match opened {
        Ok((mut journal, tail)) => {
            if tail.torn {
                // Nobody was told of what was never synced.
                let sequence = journal.sequence();
                journal.cut(tail.end, sequence)?;
            }
            Ok(Some(journal))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl Holding {
    /// Opens the holding journal, when an earlier process left one. One that cannot be read is put aside: nothing in it
    /// has a receipt, and its senders submit it again.
    ///
    /// # Errors
    /// When it can be neither read nor put aside.
    pub fn open(disk: Arc<dyn Disk>, segment_bytes: u32, gate: Arc<Gate>) -> io::Result<Self> {
        let mut inner = Inner::default();
        match read_journal(&disk, segment_bytes, &mut inner.held) {
            Ok(Some(journal)) => {
                inner.journal = Some(journal);
                gate.close(Reason::Held);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the holding journal cannot be read; it is put aside");
                remove(disk.as_ref(), ASIDE)?;
                for name in files(disk.as_ref(), JOURNAL)? {
                    let bytes = read_file(disk.as_ref(), &format!("{JOURNAL}/{name}"), u64::MAX)?;
                    replace_file(disk.as_ref(), &format!("{ASIDE}/{name}"), &bytes)?;
                }
                remove(disk.as_ref(), JOURNAL)?;
                inner = Inner::default();
            }
        }
        Ok(Self { disk, segment_bytes, gate, inner: Mutex::new(inner), failed: watch::Sender::new(false) })
    }

    /// Completes when its device has failed: until the next start nothing could be held.
    pub async fn failed(&self) {
        // An error means that the journal is gone, which this handle prevents.
        let _ = self.failed.subscribe().wait_for(|failed| *failed).await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds an admitted envelope whose sender has seen a log of a size. Says what its sender is told, `HELD_UNPROVEN`
    /// or why it is not held; none when the log takes it itself by now.
    pub fn hold(&self, envelope: &SignedEnvelope, seen_size: u64) -> Option<Refusal> {
        let mut inner = self.lock();
        if self.gate.is_open() {
            return None;
        }
        let core = envelope.header().core();
        if let Some(known) = inner.held.iter().find(|held| held.id == core.message_id) {
            let same = known.header_sha256 == envelope.header().sha256();
            let detail = "a message with this id and another header is held";
            return Some(if same { told() } else { Refusal::new(RefusalCode::DuplicateId, detail) });
        }
        if *self.failed.borrow() {
            return Some(unwritable("an earlier write failed"));
        }
        if inner.held.len() >= MOST
            || inner.held.iter().filter(|held| (held.from, held.lane) == (core.from, core.lane)).count()
                >= MOST_OF_OFFICE
        {
            return Some(Refusal::new(RefusalCode::TooMany, "too much is held while the log is repaired").after(AGAIN));
        }
        let written = self.write(&mut inner, envelope, seen_size);
        if written.is_err() {
            self.failed.send_replace(true);
        }
        Some(written.map_or_else(unwritable, |()| told()))
    }

    fn write(&self, inner: &mut Inner, envelope: &SignedEnvelope, seen_size: u64) -> io::Result<()> {
        let journal = match inner.journal.take() {
            Some(journal) => inner.journal.insert(journal),
            None => {
                let made = SegmentedJournal::create(Arc::clone(&self.disk), JOURNAL, self.segment_bytes, &OsEntropy)?;
                self.disk.sync_directory("")?;
                inner.journal.insert(made)
            }
        };
        let request = wire::SubmitRequest { envelope: Some(envelope.wire().clone()), seen_size };
        let position = journal.append(KIND_REQUEST, &[&request.encode_to_vec()])?;
        journal.take_unsynced()?.iter().try_for_each(|file| file.sync_data())?;
        inner.held.push(held(envelope.header(), position));
        tracing::warn!(message = %envelope.header().core().message_id, "held; delivered without a receipt to whoever is connected");
        self.gate.close(Reason::Held);
        Ok(())
    }

    fn read(inner: &Inner, at: usize) -> Option<io::Result<wire::SubmitRequest>> {
        let (journal, held) = (inner.journal.as_ref()?, inner.held.get(at)?);
        let read =
            |position| wire::SubmitRequest::decode(journal.reader().read(position)?.payload).map_err(io::Error::other);
        Some(read(held.position))
    }

    /// The next held envelope for an office in a lane, at a place or later, with its place. What cannot be read is passed
    /// over.
    #[must_use]
    pub fn next(&self, office: OfficeId, lane: Lane, from: usize) -> Option<(usize, wire::Envelope)> {
        let inner = self.lock();
        let mine = |held: &Held| held.lane == lane && held.to.contains(&office);
        let skipped = from.saturating_sub(inner.first);
        let places = inner.held.iter().enumerate().skip(skipped).filter(|(_, held)| mine(held)).map(|(at, _)| at);
        places.filter_map(|at| Some((inner.first + at, Self::read(&inner, at)?.ok()?.envelope?))).next()
    }

    /// The next envelope to be entered, with the size of the log that its sender has seen; none when all are, and the
    /// gate was lifted.
    pub(crate) fn next_to_enter(&self) -> Option<(UnverifiedEnvelope, u64)> {
        let mut inner = self.lock();
        while inner.settled < inner.held.len() {
            let request = Self::read(&inner, inner.settled).and_then(Result::ok);
            let parsed = request
                .and_then(|request| Some((UnverifiedEnvelope::parse(request.envelope?).ok()?, request.seen_size)));
            match parsed {
                Some((envelope, seen)) => return Some((envelope, inner.ended.map_or(seen, |end| seen.min(end)))),
                None => {
                    tracing::error!("a held message cannot be read; its sender submits it again");
                    inner.settled += 1;
                }
            }
        }
        // Under the lock: nothing is held between the last look and the lifting.
        *inner = Inner { first: inner.first + inner.held.len(), ..Inner::default() };
        if let Err(error) = remove(self.disk.as_ref(), JOURNAL) {
            tracing::error!(%error, "the holding journal could not be removed");
            self.failed.send_replace(true);
        }
        self.gate.lift(Reason::Held);
        None
    }

    /// The log was closed at a size: what is held now was submitted by those who may have seen more of it.
    pub fn seen_at_most(&self, size: u64) {
        self.lock().ended = Some(size);
    }

    /// The envelope that was last returned to be entered is settled.
    pub(crate) fn settle(&self) {
        self.lock().settled += 1;
    }

    /// How many are held for each office.
    #[must_use]
    pub fn waiting(&self) -> BTreeMap<OfficeId, usize> {
        let mut waiting = BTreeMap::new();
        for held in &self.lock().held {
            held.to.iter().for_each(|to| *waiting.entry(*to).or_default() += 1);
        }
        waiting
    }
}
